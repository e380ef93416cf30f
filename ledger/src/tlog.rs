//! The log in the forms of the transparency-log world, so that its tools audit a Customhouse ledger
//! unchanged. Each form is one of C2SP's specifications (c2sp.org), word for word:
//!
//! | module | specification |
//! |---|---|
//! | [`note`] | `signed-note`: a text with Ed25519 signatures, and the verifier key that people configure |
//! | [`checkpoint`] | `tlog-checkpoint`: the log's size and root as the text of a note |
//! | [`path`](mod@path), [`bundle`] | `tlog-tiles`: which tile a URL names, and the entries of the log |
//! | [`proof`] | `tlog-proof`: that an entry is in the log of a checkpoint, as a text file |
//! | [`export`] | a receipt as a `tlog-proof`, and what a holder of the genesis checks of it |
//!
//! # Whose log it is
//!
//! There is one log, which all nodes hold, so all have one [`origin`]; it names the chain, and a
//! checkpoint of one network is not one of another. Each node signs with a key of its own. The key's
//! *name* is the origin all the same: `tlog-checkpoint` says that the log's key name SHOULD match the
//! origin line, tools rely on it, and `tlog-tiles` gives a log "one or more" keys; key ids tell the
//! keys apart, and so show who signed. A witness that follows an origin thereby compares all nodes
//! with each other, which is what it is wanted for.
//!
//! A node's signature says that *this node* holds such a log. That the agencies agreed on it is what the
//! finalization certificate says, which [`export`] carries beside it: nobody needs to trust the note.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::hash::Hash;

pub mod bundle;
pub mod checkpoint;
pub mod export;
pub mod note;
pub mod path;
pub mod proof;

/// What the logs of this program are called, before the network's name.
const ORIGIN: &str = "customhouse";

/// The origin line of a chain's checkpoints, and the name of each key that signs them:
/// `customhouse/<network>/<chain id>`. A genesis allows only `a-z`, `0-9` and `-` in the network's
/// name, so that there is no space and no plus in it.
pub fn origin(network: &str, chain_id: &Hash) -> String {
    format!("{ORIGIN}/{network}/{chain_id}")
}

fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// `None` unless it is the one encoding of the bytes.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

fn hash_from_base64(text: &str) -> Option<Hash> {
    decode_base64(text).and_then(|bytes| Hash::from_slice(&bytes).ok())
}

/// A number in decimal digits without leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = digits && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("20852163"), Some(20_852_163));
        assert_eq!(decimal(&u64::MAX.to_string()), Some(u64::MAX));
        for wrong in ["", "00", "01", "+1", "-1", " 1", "1 ", "1_0", "x", "18446744073709551616"] {
            assert_eq!(decimal(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn base64_has_one_form() {
        assert_eq!(decode_base64("AAE="), Some(vec![0, 1]));
        for wrong in ["AAE", "AAF=", "AAE=\n", "AA E=", "AA-_", "AAE=="] {
            assert_eq!(decode_base64(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_origin_is_fit_for_a_key_s_name() {
        let origin = origin("benelux-pilot", &Hash([0xab; 32]));
        assert_eq!(origin, format!("customhouse/benelux-pilot/{}", "ab".repeat(32)));
        assert!(note::is_key_name(&origin));
    }
}
