use super::*;
use crate::{merkle::Tree, record::tests::record};

/// Bytes of a file that has no two pieces alike.
fn file(size: usize) -> Vec<u8> {
    (0..size).map(|i| u8::try_from((i / 7 + i / PIECE_BYTES) % 251).expect("small")).collect()
}

fn built(bytes: &[u8], chunk: usize) -> (Hash, u64) {
    let mut builder = AttachmentBuilder::default();
    bytes.chunks(chunk).for_each(|chunk| builder.push(chunk));
    builder.finish()
}

fn tree(bytes: &[u8]) -> Tree {
    Tree::of(&bytes.chunks(PIECE_BYTES).collect::<Vec<_>>())
}

const SIZES: [usize; 7] =
    [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 5 * PIECE_BYTES + 9];

#[test]
fn a_root_is_that_of_the_tree_over_the_pieces_however_the_bytes_come() {
    for size in SIZES {
        let bytes = file(size);
        let root = attachment_root(size as u64, &tree(&bytes).root());
        for chunk in [PIECE_BYTES, 1000, PIECE_BYTES + 1, 1 << 20] {
            assert_eq!(built(&bytes, chunk), (root, size as u64), "{size} {chunk}");
        }
    }
}

#[test]
fn the_leaf_hashes_that_are_shown_are_those_of_the_pieces() {
    for size in SIZES {
        let (bytes, mut leaves) = (file(size), Vec::new());
        let mut builder = AttachmentBuilder::default();
        bytes.chunks(100_000).for_each(|chunk| builder.push_with(chunk, |leaf| leaves.push(leaf)));
        let (root, _) = builder.finish_with(|leaf| leaves.push(leaf));
        assert_eq!(leaves.len() as u64, pieces_of(size as u64));
        assert_eq!(root, attachment_root(size as u64, &merkle::root_of_hashes(leaves)));
    }
}

#[test]
fn a_root_binds_the_size() {
    let (root, size) = built(&file(PIECE_BYTES), PIECE_BYTES);
    assert_ne!(root, attachment_root(size - 1, &tree(&file(PIECE_BYTES)).root()));
}

#[test]
fn every_piece_is_proven_and_no_other_bytes_place_size_or_path() {
    let bytes = file(5 * PIECE_BYTES + 9);
    let (root, size) = built(&bytes, PIECE_BYTES);
    let tree = tree(&bytes);
    for (index, piece) in (0..).zip(bytes.chunks(PIECE_BYTES)) {
        let path = tree.inclusion_path(index).expect("a leaf");
        let verify = |size, index, piece: &[u8], path: &[Hash]| {
            verify_piece((&root, size), index, piece, path)
        };
        assert_eq!(verify(size, index, piece, &path), Ok(()));
        for at in [0, piece.len() / 2, piece.len() - 1] {
            let mut flipped = piece.to_vec();
            flipped[at] ^= 1;
            assert!(verify(size, index, &flipped, &path).is_err());
        }
        for (hash, bit) in (0..path.len()).flat_map(|hash| (0..8).map(move |bit| (hash, bit))) {
            let mut flipped = path.clone();
            flipped[hash].0[hash * 5] ^= 1 << bit;
            assert!(verify(size, index, piece, &flipped).is_err());
        }
        assert!(verify(size, index, &piece[1..], &path).is_err());
        assert!(verify(size, (index + 1) % 6, piece, &path).is_err());
        assert!(verify(size, 6, piece, &path).is_err());
        assert!(verify(size, u64::MAX, piece, &path).is_err());
        assert!(verify(size, index, piece, &path[1..]).is_err());
        assert!(verify(size, index, piece, &[&path[..], &[root]].concat()).is_err());
        for other in [size - 1, size + 1, size + PIECE_BYTES as u64, 0, u64::MAX] {
            assert!(verify(other, index, piece, &path).is_err(), "{other}");
        }
    }
}

#[test]
fn an_empty_file_has_a_root_and_no_piece() {
    let (root, size) = AttachmentBuilder::default().finish();
    assert_eq!(root, attachment_root(0, &merkle::empty_root()));
    let error = verify_piece((&root, size), 0, &[], &[]).expect_err("none");
    assert_eq!(error, PieceError::Path(ProofError::Index { index: 0, size: 0 }));
}

fn attachment(byte: u8) -> v1::Attachment {
    v1::Attachment {
        root: vec![byte; 32],
        size: 250_000,
        media_type: "application/pdf".into(),
        name: "Rechnung Köln 7.pdf".into(),
    }
}

fn with(attachments: Vec<v1::Attachment>, source: Option<v1::Source>) -> v1::Record {
    v1::Record { attachments, source, ..record("NL-DOUANE", 1) }
}

#[test]
fn each_broken_rule_of_a_record_s_attachments_is_named() {
    use AttachmentField::Attachments;
    let broken = |change: &dyn Fn(&mut v1::Attachment)| {
        let mut second = attachment(2);
        change(&mut second);
        check_attachments(&with(vec![attachment(1), second], None)).expect_err("broken")
    };
    let at = Attachments(1);
    assert_eq!(broken(&|a| a.root = vec![2; 31]), AttachmentError::Root(at, 31));
    assert_eq!(broken(&|a| a.root = vec![1; 32]), AttachmentError::Repeated(at));
    let large = ATTACHMENT_BYTES_MAX + 1;
    assert_eq!(broken(&|a| a.size = large), AttachmentError::Size(at, large));
    let long = broken(&|a| a.name = "x".repeat(257));
    assert_eq!(long, AttachmentError::NameLength(at, 257));
    let long = broken(&|a| a.media_type = "x".repeat(129));
    assert_eq!(long, AttachmentError::MediaTypeLength(at, 129));
    let hidden = broken(&|a| a.name = "fdp.\u{202e}exe".into());
    assert_eq!(hidden, AttachmentError::Name(at, TextError::Character('\u{202e}')));
    let spaced = broken(&|a| a.media_type = " text/plain".into());
    assert_eq!(spaced, AttachmentError::MediaType(at, TextError::Space));
    let many: Vec<_> = (0..=u8::try_from(ATTACHMENTS_MAX).expect("few")).map(attachment).collect();
    assert_eq!(check_attachments(&with(many.clone(), None)), Err(AttachmentError::TooMany(65)));
    assert_eq!(check_attachments(&with(many[1..].to_vec(), None)), Ok(()));
}

#[test]
fn a_source_is_in_the_record_or_attached_and_not_both() {
    let source = |content: &[u8], attachment| {
        Some(v1::Source { content: content.to_vec(), attachment, ..Default::default() })
    };
    let check = |source| check_attachments(&with(vec![attachment(1)], source));
    assert_eq!(check(source(b"<a/>", None)), Ok(()));
    assert_eq!(check(source(b"", Some(attachment(2)))), Ok(()));
    let both = check(source(b"<a/>", Some(attachment(2))));
    assert_eq!(both, Err(AttachmentError::ContentAndAttachment));
    let twice = check(source(b"", Some(attachment(1))));
    assert_eq!(twice, Err(AttachmentError::Repeated(AttachmentField::Source)));
}

#[test]
fn attachments_are_found_in_the_bytes_of_a_record() {
    let source = v1::Source { attachment: Some(attachment(3)), ..Default::default() };
    for (attachments, source, found) in [
        (vec![], None, vec![]),
        (vec![attachment(1), attachment(2)], None, vec![1, 2]),
        (vec![attachment(1)], Some(source.clone()), vec![1, 3]),
        (vec![], Some(v1::Source { content: b"x".to_vec(), ..Default::default() }), vec![]),
    ] {
        let bytes = with(attachments, source).encode_to_vec();
        let expected: Vec<_> = found.into_iter().map(attachment).collect();
        assert_eq!(attachments_in(&bytes), expected);
        for end in 0..bytes.len() {
            assert!(attachments_in(&bytes[..end]).len() <= expected.len());
        }
    }
    assert_eq!(attachments_in(&[0xff; 20]), []);
}
