//! XChaCha20-Poly1305 as the vault uses it: a nonce that is drawn, before the ciphertext; the tag behind it.

use std::io;

use chacha20poly1305::{AeadInOut as _, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use customhouse_files::secret::Secret;
use zeroize::Zeroizing;

pub(crate) const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Bytes that sealing adds.
pub(crate) const OVERHEAD: usize = NONCE_BYTES + TAG_BYTES;

/// Appends what was sealed to `out`: nonce (24) ‖ ciphertext ‖ tag (16).
///
/// # Errors
/// Where the system gives no randomness.
pub(crate) fn seal(key: &Secret, bound: &[u8], bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut nonce = XNonce::default();
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    // Room for the whole at once: what is moved in clear would stay where it was.
    out.reserve_exact(bytes.len() + OVERHEAD);
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(bytes);
    let place = &mut out[start..];
    let tag = key.with(|key| {
        XChaCha20Poly1305::new(key.into()).encrypt_inout_detached(&nonce, bound, place.into())
    });
    // Fails above 256 GiB only, which no memory holds.
    out.extend_from_slice(&tag.map_err(|_| io::ErrorKind::FileTooLarge)?);
    Ok(())
}

/// Opens what was sealed; nothing where it is not authentic.
pub(crate) fn open(key: &Secret, bound: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
    let mut bytes = Zeroizing::new(ciphertext.to_vec());
    let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
    let opened = key.with(|key| {
        let place = bytes.as_mut_slice().into();
        XChaCha20Poly1305::new(key.into()).decrypt_inout_detached(&nonce, bound, place, &tag)
    });
    opened.ok().map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    #[test]
    fn the_vector_of_the_draft_opens() {
        let hex = |digits: &str| hex::decode(digits).expect("digits");
        let key: [u8; 32] = std::array::from_fn(|at| 0x80 + u8::try_from(at).expect("below 32"));
        let nonce: Vec<u8> = (0x40..0x58).collect();
        let ciphertext = hex(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39\
             ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
             21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49",
        );
        let sealed = [nonce, ciphertext].concat();
        let bound = hex("50515253c0c1c2c3c4c5c6c7");
        let opened = open(&Secret::new(&key), &bound, &sealed).expect("authentic");
        assert!(opened.starts_with(b"Ladies and Gentlemen of the class of '99"));
    }
}
