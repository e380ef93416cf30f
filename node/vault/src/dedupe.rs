//! Dedupe keys of sealed records, and the value by which nodes of an agency find that they share the secret.
//!
//! A dedupe key that anybody could compute would let every member test a guessed submitter and key. These are
//! HMAC-SHA-256 under a secret of the agency.

use customhouse_files::secret::Secret;
use customhouse_ledger::{
    agency::AgencyCode,
    hash::{Hash, Tag},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The dedupe key of a sealed record: HMAC-SHA-256(secret, `customhouse/v1/sealed-dedupe` NUL ‖ agency (16) ‖
/// length of the submitter (4) ‖ submitter ‖ the client's key).
pub fn sealed_dedupe_key(
    secret: &Secret,
    agency: AgencyCode,
    submitter: &str,
    client_key: &str,
) -> Hash {
    let length = u32::try_from(submitter.len()).unwrap_or(u32::MAX).to_be_bytes();
    let (submitter, client_key) = (submitter.as_bytes(), client_key.as_bytes());
    code(secret, Tag::SEALED_DEDUPE, &[agency.as_bytes(), &length, submitter, client_key])
}

/// The secret under which a node has what sealed records say, so that a retry is told from another record:
/// HMAC-SHA-256(secret, `customhouse/v1/sealed-content` NUL). It follows from a secret of the vault, and is on no disk.
pub fn content_secret(secret: &Secret) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(code(secret, Tag::SEALED_CONTENT, &[]).0)
}

/// The check value of a secret, which is registered: HMAC-SHA-256(secret, `customhouse/v1/dedupe-check` NUL ‖
/// agency (16)). A genesis may have it, so the chain's id, which follows from the genesis, is not in it.
pub fn dedupe_check(secret: &Secret, agency: AgencyCode) -> Hash {
    code(secret, Tag::DEDUPE_CHECK, &[agency.as_bytes()])
}

fn code(secret: &Secret, tag: Tag, parts: &[&[u8]]) -> Hash {
    secret.with(|key| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
        mac.update(tag.as_bytes());
        for part in parts {
            mac.update(part);
        }
        Hash(mac.finalize().into_bytes().into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(text: &str) -> AgencyCode {
        text.parse().expect("a code")
    }

    /// Computed with Python's `hmac` for the secret 00 01 … 1f.
    #[test]
    fn dedupe_keys_and_check_values_are_those_of_the_page() {
        let secret = Secret::new(&std::array::from_fn(|at| u8::try_from(at).expect("below 32")));
        let key = sealed_dedupe_key(&secret, code_of("NL-DOUANE"), "broker-1", "order 7");
        assert_eq!(key.to_string(), DEDUPE);
        let check = dedupe_check(&secret, code_of("NL-DOUANE"));
        assert_eq!(check.to_string(), CHECK);
    }

    #[test]
    fn whatever_differs_gives_another_key() {
        let secret = |byte| Secret::new(&[byte; 32]);
        let key = |byte, agency, submitter, client| {
            sealed_dedupe_key(&secret(byte), code_of(agency), submitter, client)
        };
        let all = [
            key(1, "NL-DOUANE", "ab", "c"),
            key(2, "NL-DOUANE", "ab", "c"),
            key(1, "BE-AADA", "ab", "c"),
            key(1, "NL-DOUANE", "a", "bc"),
            key(1, "NL-DOUANE", "ab", "d"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| one != other));
        }
    }

    const DEDUPE: &str = "561642b6510bbee1dd5dc1c0793bba2c4e4cfdaaccfac4f2f0d10a5c16df38a0";
    const CHECK: &str = "86abd15c7d81fd097f409e179351812ae4e253c2a91a3d0a27cdfe60bf4f5231";
}
