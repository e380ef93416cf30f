//! Signed notes (C2SP `signed-note`): a text that ends in a newline, an empty line, and signature lines
//! of the form `— <key name> base64(key id ‖ signature)`.

use crate::limits::{NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX};
use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use super::{decode_base64, encode_base64};
use crate::keys::{PublicKey, Signature, SigningKey};

/// Before each signature.
const SIGNATURE_PREFIX: &str = "— ";
/// Signature type of Ed25519 over the note's text.
const ED25519: u8 = 0x01;

/// Why a note or a verifier key was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// More than [`NOTE_BYTES_MAX`], or more than [`NOTE_SIGNATURES_MAX`].
    #[error("note: more than {NOTE_BYTES_MAX} bytes or {NOTE_SIGNATURES_MAX} signatures")]
    TooLarge,
    /// Not the form of a note.
    #[error("note: {0}")]
    Malformed(&'static str),
    /// A signature under a known key's name and id that is not this key's.
    #[error("note: the signature of `{0}` does not verify")]
    Signature(String),
    /// No signature of the known key.
    #[error("note: not signed by the key `{0}`")]
    Unsigned(String),
    /// Not `<name>+<id>+<key>` of an Ed25519 key.
    #[error("verifier key: {0}")]
    Key(&'static str),
}

/// Whether a text can name a key: not empty, no Unicode space, no plus, no control character.
pub fn is_key_name(name: &str) -> bool {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !name.is_empty() && !name.contains(forbidden)
}

/// An Ed25519 key that verifies notes. Its text, `<name>+<hex key id>+<base64 type ‖ key>`, is what
/// tools are configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: PublicKey,
}

impl VerifierKey {
    /// A key with its name.
    ///
    /// # Errors
    /// [`NoteError::Key`] where the name cannot be a key's ([`is_key_name`]).
    pub fn new(name: &str, key: PublicKey) -> Result<Self, NoteError> {
        match is_key_name(name) {
            true => Ok(Self { name: name.to_owned(), key }),
            false => Err(NoteError::Key("the name is empty, or has a space or a plus")),
        }
    }

    /// The name in its signature lines.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of SHA-256(name ‖ newline ‖ type ‖ public key).
    pub fn id(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
        [a, b, c, d]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519], &self.key.as_bytes()[..]].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), encode_base64(&key))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Key("NAME+ID+KEY expected");
        let (name, rest) = text.split_once('+').ok_or(malformed.clone())?;
        let (id, key) = rest.split_once('+').ok_or(malformed)?;
        let key = decode_base64(key).ok_or(NoteError::Key("its last part is not base64"))?;
        let Some((&ED25519, key)) = key.split_first() else {
            return Err(NoteError::Key("not of type 1, Ed25519"));
        };
        let key = PublicKey::from_slice(key)
            .map_err(|_| NoteError::Key("not a public key of Ed25519"))?;
        let verifier = Self::new(name, key)?;
        match hex::encode(verifier.id()) == id {
            true => Ok(verifier),
            false => Err(NoteError::Key("its id is not that of its name and key")),
        }
    }
}

/// Signs notes.
#[derive(Clone, Debug)]
pub struct NoteSigner {
    verifier: VerifierKey,
    key: SigningKey,
}

impl NoteSigner {
    /// A key with its name.
    ///
    /// # Errors
    /// [`NoteError::Key`] where the name cannot be a key's ([`is_key_name`]).
    pub fn new(name: &str, key: SigningKey) -> Result<Self, NoteError> {
        Ok(Self { verifier: VerifierKey::new(name, key.public())?, key })
    }

    /// What verifies its notes.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The note of a text, with this key's signature. The same text always gives the same note.
    ///
    /// # Errors
    /// [`NoteError`] where the text cannot be that of a note.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        check_characters(text)?;
        if !text.ends_with('\n') {
            return Err(NoteError::Malformed("the text does not end in a newline"));
        }
        let signature = self.key.sign(text.as_bytes());
        let line = encode_base64(&[&self.verifier.id()[..], &signature.0].concat());
        Ok(format!("{text}\n{SIGNATURE_PREFIX}{} {line}\n", self.verifier.name))
    }
}

/// A note whose form is right. Nothing in it is to be trusted before [`Note::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NoteSignature {
    name: String,
    id: [u8; 4],
    signature: Vec<u8>,
}

impl Note {
    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError`]; signatures are not checked yet.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLarge);
        }
        check_characters(note)?;
        let (text, signatures) = note
            .rsplit_once("\n\n")
            .ok_or(NoteError::Malformed("no empty line before the signatures"))?;
        let lines = signatures
            .strip_suffix('\n')
            .ok_or(NoteError::Malformed("the last line does not end in a newline"))?;
        if lines.split('\n').count() > NOTE_SIGNATURES_MAX {
            return Err(NoteError::TooLarge);
        }
        let signatures = lines.split('\n').map(NoteSignature::parse).collect::<Option<_>>();
        let signatures = signatures.ok_or(NoteError::Malformed("not a signature line"))?;
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// The text that was signed, its last newline included.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks that a key signed it. Signatures of other keys are ignored, as the specification says.
    ///
    /// # Errors
    /// [`NoteError::Signature`] where a signature under the key's name and id does not verify;
    /// [`NoteError::Unsigned`] where there is none.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let id = key.id();
        let own = |line: &&NoteSignature| line.name == key.name && line.id == id;
        let mut signed = false;
        for line in self.signatures.iter().filter(own) {
            let signature = Signature::from_slice(&line.signature);
            let verified =
                signature.is_ok_and(|s| key.key.verify(self.text.as_bytes(), &s).is_ok());
            if !verified {
                return Err(NoteError::Signature(key.name.clone()));
            }
            signed = true;
        }
        if signed { Ok(()) } else { Err(NoteError::Unsigned(key.to_string())) }
    }
}

impl NoteSignature {
    fn parse(line: &str) -> Option<Self> {
        let (name, signature) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
        let bytes = decode_base64(signature)?;
        let (id, signature) = bytes.split_first_chunk()?;
        let well_formed = is_key_name(name) && !signature.is_empty();
        let signature = signature.to_vec();
        well_formed.then(|| Self { name: name.to_owned(), id: *id, signature })
    }
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    match text.chars().all(|c| c >= ' ' || c == '\n') {
        true => Ok(()),
        false => Err(NoteError::Malformed("a control character")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's example.
    const PUBLISHED_KEY: &str =
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const PUBLISHED_NOTE: &str = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VY\
        RlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    /// Its other one, whose key it does not give.
    const QUASIMODO: &str = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è \
        subito sera.\n\n— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9\
        oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";

    fn signer(name: &str) -> NoteSigner {
        NoteSigner::new(name, SigningKey::from_seed(&[7; 32])).expect("a name")
    }

    #[test]
    fn the_published_note_verifies_under_the_published_key() {
        let key: VerifierKey = PUBLISHED_KEY.parse().expect("a key");
        assert_eq!((key.name(), hex::encode(key.id())), ("example.com/foo", "530d903a".into()));
        assert_eq!(key.to_string(), PUBLISHED_KEY);
        let note = Note::parse(PUBLISHED_NOTE).expect("a note");
        assert_eq!(note.text(), "This is an example message.\n");
        assert_eq!(note.verify(&key), Ok(()));
    }

    #[test]
    fn a_text_may_have_empty_lines_of_its_own() {
        let note = Note::parse(QUASIMODO).expect("a note");
        assert!(note.text().ends_with("sole:\n\ned è subito sera.\n"));
        let key: VerifierKey = PUBLISHED_KEY.parse().expect("a key");
        assert_eq!(note.verify(&key), Err(NoteError::Unsigned(PUBLISHED_KEY.into())));
    }

    #[test]
    fn what_is_signed_here_is_a_note_and_any_flipped_bit_is_refused() {
        let signer = signer("customhouse/test/ab");
        let text = "customhouse/test/ab\n3\nAAAA\n";
        let note = signer.sign(text).expect("a text");
        assert_eq!(note, signer.sign(text).expect("a text"), "deterministic");
        let key = signer.verifier().to_string().parse().expect("its own text");
        let parsed = Note::parse(&note).expect("a note");
        assert_eq!((parsed.text(), parsed.verify(&key)), (text, Ok(())));
        for place in 0..note.len() {
            for bit in 0..8 {
                let mut bytes = note.clone().into_bytes();
                bytes[place] ^= 1 << bit;
                let verified = String::from_utf8(bytes)
                    .ok()
                    .and_then(|text| Note::parse(&text).ok())
                    .is_some_and(|note| note.verify(&key).is_ok());
                assert!(!verified, "byte {place}, bit {bit}");
            }
        }
    }

    #[test]
    fn signatures_of_others_are_ignored_and_a_false_one_of_the_key_refuses_the_note() {
        let (own, other) = (signer("a.example"), signer("b.example"));
        let note = own.sign("text\n").expect("a text");
        let second = other.sign("text\n").expect("a text");
        let line = second.lines().next_back().expect("a signature");
        let both = format!("{note}{line}\n");
        let parsed = Note::parse(&both).expect("a note");
        assert_eq!(parsed.verify(own.verifier()), Ok(()));
        assert_eq!(parsed.verify(other.verifier()), Ok(()));
        // Under the same name and id, over another text.
        let line = own.sign("other\n").expect("a text");
        let line = line.lines().next_back().expect("a signature");
        let parsed = Note::parse(&format!("{note}{line}\n")).expect("a note");
        assert_eq!(parsed.verify(own.verifier()), Err(NoteError::Signature("a.example".into())));
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let line = PUBLISHED_NOTE.lines().next_back().expect("a signature");
        for wrong in [
            String::new(),
            "text\n".into(),
            format!("text\n{line}\n"),
            format!("text\n\n{line}"),
            format!("text\n\n{line}\n\n"),
            format!("te\txt\n\n{line}\n"),
            format!("text\n\n{}\n", line.replace("— ", "- ")),
            format!("text\n\n{}\n", line.replace("foo ", "foo  ")),
            format!("text\n\n{}\n", line.replace("foo", "fo+o")),
            "text\n\n— example.com/foo AAAAAA==\n".into(),
            "text\n\n— example.com/foo \n".into(),
            format!("text\n\n{}", format!("{line}\n").repeat(NOTE_SIGNATURES_MAX + 1)),
            format!("{}\n\n{line}\n", "x".repeat(NOTE_BYTES_MAX)),
        ] {
            assert!(Note::parse(&wrong).is_err(), "{wrong:.80}");
        }
        let most = format!("text\n\n{}", format!("{line}\n").repeat(NOTE_SIGNATURES_MAX));
        assert!(Note::parse(&most).is_ok());
        assert!(signer("a").sign("no newline").is_err());
        assert!(signer("a").sign("a\rb\n").is_err());
    }

    #[test]
    fn what_is_no_verifier_key_is_refused() {
        for (wrong, says) in [
            (String::new(), "NAME+ID+KEY"),
            (PUBLISHED_KEY.replace("foo", "fop"), "its id"),
            (PUBLISHED_KEY.replace("530d903a", "530d903b"), "its id"),
            (PUBLISHED_KEY.replace("530d903a", "530D903A"), "its id"),
            (PUBLISHED_KEY.replace("+A", "+B"), "type 1"),
            (PUBLISHED_KEY[..PUBLISHED_KEY.len() - 4].to_owned(), "not a public key"),
            (PUBLISHED_KEY[..PUBLISHED_KEY.len() - 1].to_owned(), "base64"),
            (PUBLISHED_KEY.replace("example", " "), "a space"),
        ] {
            let error = wrong.parse::<VerifierKey>().expect_err("refused").to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
        for name in ["", "a b", "a+b", "a\u{2003}b", "a\nb"] {
            assert!(!is_key_name(name), "{name:?}");
        }
    }
}
