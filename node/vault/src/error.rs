//! What can be wrong with a vault, and with its mirror.

use std::{
    io,
    path::{Path, PathBuf},
};

use customhouse_files::{
    passphrase::PassphraseError, readfile::PrivateFileError, wrapped_key::WrappedKeyError,
};
use customhouse_ledger::hash::Hash;

use crate::{group::GroupNumber, random};

/// Why a vault was not opened, or did not do what it was asked. None shows anything secret.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The system's answer.
    #[error("vault {path}: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system has no randomness to give.
    #[error("the system gives no randomness for a key: {0}")]
    Randomness(io::Error),
    /// Others than the owner may enter the directory, or read or write a file.
    #[error(
        "vault {path} has mode {mode:04o}: others than its owner may read or change it; take that away \
         (`chmod go= {path}`) if nobody did, else renew the root key and the secrets in it"
    )]
    Permissions {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user owns it.
    #[error("vault {path}: {source}")]
    Owner {
        /// Which file or directory.
        path: PathBuf,
        /// Whose it is.
        source: PrivateFileError,
    },
    /// Another process has it open.
    #[error("vault {0} is open in another process: stop that first")]
    Locked(PathBuf),
    /// A file of it is not there.
    #[error("vault {0} is missing: restore it from a backup of the vault, or make a new vault")]
    Missing(PathBuf),
    /// Something is there already, and is kept.
    #[error("{0} is there already: a vault is never written over; choose another directory")]
    Exists(PathBuf),
    /// Written by another version of this program.
    #[error("vault {0} is of another version of this program: run the version that wrote it")]
    OtherVersion(PathBuf),
    /// The file ends before its end.
    #[error(
        "vault {path} was cut short: {expected} bytes expected, {found} found; restore it from a backup \
         of the vault"
    )]
    Torn {
        /// Which file.
        path: PathBuf,
        /// Bytes that it says it has.
        expected: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// The file is not as it was written.
    #[error("vault {path} is damaged ({what}): restore it from a backup of the vault")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How.
        what: &'static str,
    },
    /// A file of another vault.
    #[error("vault {path} belongs to vault {found}, not to {expected}: put this vault's own back")]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// The vault that is open or is being opened.
        expected: VaultId,
        /// The one that the file names.
        found: VaultId,
    },
    /// The keys are under another root key than the one that is there.
    #[error(
        "vault {0} is under another root key: it, or `root.key`, is from before the root key was renewed; \
         restore both from the same backup of the vault"
    )]
    OtherRoot(PathBuf),
    /// The root key was not unwrapped.
    #[error("vault {path}: {source}")]
    RootKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: WrappedKeyError,
    },
    /// There is no passphrase.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// What was sealed is not as it was, or not for this place.
    #[error(
        "{what} does not open: it is damaged, or was sealed for another chain, agency, record or kind of \
         content; take it from another holder"
    )]
    NotAuthentic {
        /// What was to be opened.
        what: &'static str,
    },
    /// Bytes that nothing of ours sealed.
    #[error("sealed bytes of a form that this version does not know: {0}")]
    SealedForm(&'static str),
    /// The key of the group was ended.
    #[error("sealed under group key {0}, which was ended: it was purged, and nobody can open it")]
    Ended(GroupNumber),
    /// The vault never had the key of the group.
    #[error(
        "sealed under group key {0}, which this vault does not have: it was made after the backup that \
         the vault was restored from, or the bytes are another vault's; take them from another holder"
    )]
    GroupUnknown(GroupNumber),
    /// More than the file of keys takes.
    #[error("the vault has {max} {what} already: remove those that have expired first")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many it takes.
        max: usize,
    },
    /// Something sealed under the group is not stored yet.
    #[error(
        "group key {group} cannot be ended: {count} of what was sealed under it are still being stored; wait for \
         these and try again"
    )]
    InUse {
        /// The group.
        group: GroupNumber,
        /// How many.
        count: usize,
    },
    /// The group may still have something wrapped under it.
    #[error(
        "group key {0} was not closed: close it, and wrap anew what remains under it, before it is ended"
    )]
    NotClosed(GroupNumber),
    /// The group has nothing more wrapped or sealed under it.
    #[error(
        "group key {0} is closed, and about to be ended: wrap the key anew, or take the one that was wrapped anew"
    )]
    Closed(GroupNumber),
    /// There is another secret by this name.
    #[error(
        "the vault has another secret of agreement {agreement}, epoch {epoch}: an epoch has one; ask who \
         sent this one"
    )]
    EpochDiffers {
        /// The agreement.
        agreement: Hash,
        /// Its epoch.
        epoch: u32,
    },
    /// A renewal of the root key failed half-way.
    #[error(
        "vault {0}: a renewal of the root key was broken off, and the file cannot be read to tell how far it came; \
         open the vault again, which completes or undoes it"
    )]
    BrokenOff(PathBuf),
    /// It is a vault, and not a copy of one.
    #[error(
        "{0} is a vault and no backup of one: open it where it is, or restore from a backup or a mirror"
    )]
    NoCopy(PathBuf),
    /// The backup is not what was written.
    #[error("vault backup {0} does not read back as it was written: look after that disk")]
    NotReadBack(PathBuf),
    /// Something that was broken off has left a copy.
    #[error(
        "{0} was left by a backup that was broken off, and may open what is purged: the next backup removes it"
    )]
    LeftBehind(PathBuf),
    /// The mirror failed, and nothing was changed.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The mirror failed after the change.
    #[error("it was done and is durable in the vault, and the mirror does not have it yet: {0}")]
    MirrorBehind(MirrorError),
}

impl VaultError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "VAULT_IO",
            Self::Randomness(_) => "VAULT_RANDOMNESS",
            Self::Permissions { .. } => "VAULT_PERMISSIONS",
            Self::Owner { .. } => "VAULT_OWNER",
            Self::Locked(_) => "VAULT_LOCKED",
            Self::Missing(_) => "VAULT_MISSING",
            Self::Exists(_) => "VAULT_EXISTS",
            Self::OtherVersion(_) => "VAULT_VERSION",
            Self::Torn { .. } => "VAULT_TORN",
            Self::Damaged { .. } => "VAULT_DAMAGED",
            Self::Foreign { .. } => "VAULT_FOREIGN",
            Self::OtherRoot(_) => "VAULT_OTHER_ROOT",
            Self::RootKey { source, .. } => source.code(),
            Self::Passphrase(error) => error.code(),
            Self::NotAuthentic { .. } => "VAULT_NOT_AUTHENTIC",
            Self::SealedForm(_) => "VAULT_SEALED_FORM",
            Self::Ended(_) => "VAULT_ENDED",
            Self::GroupUnknown(_) => "VAULT_GROUP_UNKNOWN",
            Self::Full { .. } => "VAULT_FULL",
            Self::InUse { .. } => "VAULT_IN_USE",
            Self::NotClosed(_) => "VAULT_NOT_CLOSED",
            Self::Closed(_) => "VAULT_CLOSED",
            Self::EpochDiffers { .. } => "VAULT_EPOCH_DIFFERS",
            Self::BrokenOff(_) => "VAULT_BROKEN_OFF",
            Self::NoCopy(_) => "VAULT_NO_COPY",
            Self::NotReadBack(_) => "VAULT_NOT_READ_BACK",
            Self::LeftBehind(_) => "VAULT_LEFT_BEHIND",
            Self::MirrorBehind(_) => "VAULT_MIRROR_BEHIND",
            Self::Mirror(error) => error.code(),
        }
    }

    /// The same after a change that is durable in the vault.
    pub(crate) fn after_the_change(self) -> Self {
        match self {
            Self::Mirror(source) => Self::MirrorBehind(source),
            other => other,
        }
    }

    /// What the system answered, of this file or directory.
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing(path.to_owned()),
            _ => Self::Io { path: path.to_owned(), source },
        }
    }

    /// Why a file that is its owner's alone was not read.
    pub(crate) fn private(path: &Path) -> impl Fn(PrivateFileError) -> Self + '_ {
        move |error| match error {
            PrivateFileError::Io(source) => Self::io(path)(source),
            PrivateFileError::Permissions(mode) => {
                Self::Permissions { path: path.to_owned(), mode }
            }
            source @ PrivateFileError::Owner { .. } => {
                Self::Owner { path: path.to_owned(), source }
            }
        }
    }
}

/// Why a mirror does not mirror.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// It is not there.
    #[error(
        "mirror {0} is not there: is the other machine's disk mounted? A new one is made by command"
    )]
    Missing(PathBuf),
    /// There is no room.
    #[error("mirror {0} is full: nothing more is accepted until it has room")]
    Full(PathBuf),
    /// The system's answer.
    #[error("mirror {path}: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process writes to it.
    #[error("mirror {0} is open in another process: each node has a mirror of its own")]
    Locked(PathBuf),
    /// It is another vault's.
    #[error("mirror {path} belongs to vault {found}, not to {expected}: name this vault's own")]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// The vault that is open.
        expected: VaultId,
        /// The vault that it names.
        found: VaultId,
    },
    /// It has keys that the vault's do not come from.
    #[error(
        "mirror {path} has the vault's keys of generation {mirror}, which those of the vault, generation {vault}, \
         do not come from: the vault was put back to an earlier state. Restore it from the mirror, or the \
         groups that were begun since are lost"
    )]
    Ahead {
        /// Which.
        path: PathBuf,
        /// The mirror's generation.
        mirror: u64,
        /// The vault's.
        vault: u64,
    },
    /// Its directory was moved away or replaced while it was open.
    #[error(
        "mirror {0} is not the directory any more that was opened: it was moved away or replaced meanwhile; put it \
         back, or start the node again"
    )]
    Replaced(PathBuf),
    /// An entry that reading would refuse.
    #[error(
        "an entry for mirror {path} has no form that can be read again ({what}): nothing was appended"
    )]
    Entry {
        /// The mirror.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// What was durable is not as it was written.
    #[error(
        "mirror {path} is damaged at byte {offset} ({what}): look after that disk, move the directory away \
         and make a new mirror"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How.
        what: &'static str,
    },
    /// Its copy of the vault's files.
    #[error("mirror {path}: {source}")]
    Keys {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: Box<VaultError>,
    },
}

impl MirrorError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "MIRROR_MISSING",
            Self::Full(_) => "MIRROR_FULL",
            Self::Io { .. } => "MIRROR_IO",
            Self::Locked(_) => "MIRROR_LOCKED",
            Self::Foreign { .. } => "MIRROR_FOREIGN",
            Self::Ahead { .. } => "MIRROR_AHEAD",
            Self::Replaced(_) => "MIRROR_REPLACED",
            Self::Entry { .. } => "MIRROR_ENTRY",
            Self::Damaged { .. } => "MIRROR_DAMAGED",
            Self::Keys { .. } => "MIRROR_KEYS",
        }
    }

    /// What is wrong with a mirror's copy of the keys.
    pub(crate) fn of_keys(mirror: &Path, source: VaultError) -> Self {
        match source {
            VaultError::Io { path, source } => Self::io(&path)(source),
            source => Self::Keys { path: mirror.to_owned(), source: Box::new(source) },
        }
    }

    /// What the system answered, of this file or directory.
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing(path.to_owned()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full(path.to_owned())
            }
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}

/// Which vault it is: 16 random bytes, drawn when it was made. Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VaultId(pub(crate) [u8; 16]);

impl VaultId {
    pub(crate) fn random() -> Result<Self, VaultError> {
        random().map(Self)
    }
}

impl std::fmt::Display for VaultId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for VaultId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}…", hex::encode(&self.0[..4]))
    }
}
