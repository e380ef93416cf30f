//! Sealed bytes open where they belong, whole and unchanged, and nowhere else.

use customhouse_ledger::{hash::Hash, limits::PIECE_BYTES};
use rand::{Rng as _, RngExt as _};

use super::{Place, attachment, month, opened, place, random, seal, sealed};
use crate::sealed::{CONTENT_BYTES_MAX, SealedBytes, SealedKind, SealedPlace, WrappedKey};

/// Every place that differs from one in a single thing.
fn others(of: SealedPlace) -> [SealedPlace; 4] {
    [
        SealedPlace { chain_id: Hash([8; 32]), ..of },
        SealedPlace { agency: "BE-AADA".parse().expect("a code"), ..of },
        SealedPlace { record_id: Hash([8; 32]), ..of },
        SealedPlace { kind: SealedKind::Envelope, ..of },
    ]
}

#[test]
fn bytes_open_for_the_chain_agency_record_and_kind_that_they_were_sealed_for() {
    let here = Place::new();
    let vault = here.plain();
    let record = sealed(&vault, b"bytes");
    for other in others(place(SealedKind::Record)) {
        let error = vault.open_sealed(other, &record).expect_err("another place");
        assert_eq!(error.code(), "VAULT_NOT_AUTHENTIC", "{other:?}");
    }
    // Whoever has wrapped keys and ciphertexts cannot put them together anew.
    let second = sealed(&vault, b"other");
    let mixed = record.with_key(*second.key());
    let error = vault.open_sealed(place(SealedKind::Record), &mixed).expect_err("mixed");
    assert_eq!(error.code(), "VAULT_NOT_AUTHENTIC");
}

#[test]
fn sealed_bytes_that_were_changed_or_cut_anywhere_do_not_open() {
    let here = Place::new();
    let vault = here.plain();
    let record = sealed(&vault, b"some bytes of a record");
    let bytes = record.encode();
    assert_eq!(bytes.len(), 81 + 24 + 22 + 16);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let code = match SealedBytes::decode(&changed) {
            Err(error) => error.code(),
            Ok(sealed) => {
                let place = place(SealedKind::Record);
                vault.open_sealed(place, &sealed).expect_err("changed").code()
            }
        };
        let expected = match bit / 8 {
            0 => "VAULT_SEALED_FORM",
            1..9 => "VAULT_GROUP_UNKNOWN",
            _ => "VAULT_NOT_AUTHENTIC",
        };
        assert_eq!(code, expected, "bit {bit}");
    }
    for length in 0..bytes.len() {
        let cut = SealedBytes::decode(&bytes[..length]);
        let refused = cut.and_then(|cut| vault.open_sealed(place(SealedKind::Record), &cut));
        assert!(refused.is_err(), "{length}");
    }
    let longer = [&*bytes, &[0]].concat();
    let longer = SealedBytes::decode(&longer).expect("a form");
    assert!(vault.open_sealed(place(SealedKind::Record), &longer).is_err());
}

#[test]
fn any_bytes_are_decoded_or_refused() {
    let mut random = random();
    for _ in 0..2_000 {
        let mut bytes = vec![0; random.random_range(0..400)];
        random.fill_bytes(&mut bytes);
        if let (true, Some(first)) = (random.random(), bytes.first_mut()) {
            *first = 1;
        }
        if let Ok(sealed) = SealedBytes::decode(&bytes) {
            assert_eq!(sealed.encode(), bytes);
        }
        if let Ok(key) = WrappedKey::decode(&bytes) {
            assert_eq!(key.as_bytes().as_slice(), bytes);
        }
    }
}

#[test]
fn bytes_of_every_length_come_back() {
    let (here, mut random) = (Place::new(), random());
    let vault = here.plain();
    for length in [0, 1, 63, 64, 65, 4096, CONTENT_BYTES_MAX] {
        let mut bytes = vec![0; length];
        random.fill_bytes(&mut bytes);
        let record = SealedBytes::decode(&sealed(&vault, &bytes).encode()).expect("the form");
        assert_eq!(opened(&vault, &record), bytes);
    }
    let long = vec![0; CONTENT_BYTES_MAX + 1];
    let error = seal(&vault, place(SealedKind::Record), month("2031-07"), &long);
    assert_eq!(error.expect_err("too long").code(), "VAULT_SEALED_FORM");
}

#[test]
fn pieces_open_by_their_number_in_their_attachment_only() {
    let (here, mut random) = (Place::new(), random());
    let vault = here.plain();
    let place = place(SealedKind::Attachment);
    let key = attachment(&vault, place);
    let mut bytes = vec![0; 3 * PIECE_BYTES - 5];
    random.fill_bytes(&mut bytes);
    let sealed: Vec<_> = (0..)
        .zip(bytes.chunks(PIECE_BYTES))
        .map(|(index, piece)| key.seal_piece(index, piece).expect("sealed"))
        .collect();
    let again = WrappedKey::decode(key.wrapped().as_bytes()).expect("the form");
    let again = vault.open_attachment(place, &again).expect("opened");
    let mut whole = Vec::new();
    for (index, piece) in (0..).zip(&sealed) {
        whole.extend_from_slice(&again.open_piece(index, piece).expect("opened"));
    }
    assert_eq!(whole, bytes);

    let code = |index, piece: &[u8]| again.open_piece(index, piece).expect_err("refused").code();
    assert_eq!(code(1, &sealed[0]), "VAULT_NOT_AUTHENTIC", "swapped");
    assert_eq!(code(0, &sealed[0][..100]), "VAULT_NOT_AUTHENTIC", "cut");
    assert_eq!(code(0, &[]), "VAULT_NOT_AUTHENTIC", "empty");
    let other = attachment(&vault, place);
    let foreign = other.seal_piece(0, b"bytes").expect("sealed");
    assert_eq!(code(0, &foreign), "VAULT_NOT_AUTHENTIC", "of another key");
    assert!(key.seal_piece(0, &vec![0; PIECE_BYTES + 1]).is_err());
    for elsewhere in others(place) {
        let error = vault.open_attachment(elsewhere, key.wrapped()).expect_err("another place");
        assert_eq!(error.code(), "VAULT_NOT_AUTHENTIC");
    }
    // A piece is not a whole, nor the other way round.
    let as_whole = [&again.wrapped().as_bytes()[..], &sealed[2]].concat();
    let as_whole = SealedBytes::decode(&as_whole).expect("the form");
    assert!(vault.open_sealed(place, &as_whole).is_err());
}
