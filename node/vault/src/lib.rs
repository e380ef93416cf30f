//! The vault: an agency's keys for what it keeps sealed, and how it is sealed.
//!
//! **Against whom.** Whoever steals a disk, a backup, a table of the store, a log or a core file learns none of
//! the bytes that were sealed, and none of the keys ([`vault`], [`sealed`]). Whoever has them all and is given
//! the passphrase later learns nothing of what was purged before: every record and attachment has a random
//! key, which is wrapped by the key of its group, and that is in one small file only; once a group's key is
//! ended and the root key renewed, no copy of anything sealed under it can be opened, wherever it lies. Who
//! exchanges sealed bytes for others, from another record, agency, chain or place of an attachment, is told,
//! because what they were sealed for is authenticated with them.
//!
//! **Not against** whoever reads the memory of the running process; whoever has the vault's directory and its
//! passphrase; or, where the root key is unprotected ([`vault::Protection::Plain`]), whoever has the directory.
//! A vault that is put back as it was yesterday is noticed only where a [`mirror`] has a newer one. File systems
//! and disks that write elsewhere what is overwritten may keep an old root key for a while: under a passphrase
//! it is wrapped there too.
//!
//! The layouts are in docs/FORMATS.md, *At rest*.
//!
//! ```text
//! vault/            mode 0700, beside the signer's journal and never in a backup of the store
//!   root.key        the root key, in PKCS #8, wrapped by a passphrase
//!   keys            group keys and named secrets, sealed under the root key; written whole
//!   root.key.new    while the root key is renewed
//!   LOCK
//! ```

pub mod attachment_key;
pub mod backup;
pub mod closed;
pub mod dedupe;
pub mod envelope;
pub mod error;
pub mod group;
pub mod lease;
pub mod mirror;
pub mod named;
pub mod sealed;
pub mod vault;

mod aead;
mod contents;
mod directory;
mod keys_file;
mod lock;
mod pair;
mod root_key;

/// Random bytes that are no secret: ids and the like.
fn random<const N: usize>() -> Result<[u8; N], error::VaultError> {
    let mut bytes = [0; N];
    let drawn = getrandom::fill(&mut bytes).map_err(std::io::Error::other);
    drawn.map(|()| bytes).map_err(error::VaultError::Randomness)
}
