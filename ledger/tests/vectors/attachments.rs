//! Attachments: roots of files, their pieces, and what a record says of them.

use customhouse_ledger::{
    attachment::{AttachmentBuilder, verify_piece},
    hash::Hash,
    limits::{ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, PIECE_BYTES},
    merkle::Tree,
};
use customhouse_proto::v1;
use serde_json::{Value, json};

use super::{
    cases::{Cases, with_cases},
    hashes,
    records::changed,
};

/// Of a file whose pieces are shown: the last is shorter, and on a side of the tree with fewer levels.
const SHOWN: usize = 4 * PIECE_BYTES + 9;

/// Byte i of every file here: (⌊i / 7⌋ + ⌊i / 65,536⌋) modulo 251.
fn file(size: usize) -> Vec<u8> {
    let byte = |i: usize| u8::try_from((i / 7 + i / PIECE_BYTES) % 251).expect("small");
    (0..size).map(byte).collect()
}

fn root_of(bytes: &[u8]) -> (Hash, u64) {
    let mut builder = AttachmentBuilder::default();
    builder.push(bytes);
    builder.finish()
}

pub(crate) fn attachment() -> Value {
    let sizes = [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, SHOWN];
    let files = sizes.map(|size| json!({ "size": size, "root": root_of(&file(size)).0 }));
    let (bytes, tree) = shown();
    let pieces = (0..tree.size()).map(|index| {
        let path = tree.inclusion_path(index).expect("a leaf");
        let length = piece(&bytes, index).len();
        json!({ "index": index, "bytes": length, "path": hashes(&path) })
    });
    let shown = json!({
        "size": SHOWN,
        "root": root_of(&bytes).0,
        "pieces": pieces.collect::<Vec<_>>(),
        "refused_pieces": refused_pieces(),
    });
    with_cases(json!({ "files": files, "shown": shown }), [of_records()])
}

fn shown() -> (Vec<u8>, Tree) {
    let bytes = file(SHOWN);
    let tree = Tree::of(&bytes.chunks(PIECE_BYTES).collect::<Vec<_>>());
    (bytes, tree)
}

fn piece(bytes: &[u8], index: u64) -> &[u8] {
    bytes.chunks(PIECE_BYTES).nth(usize::try_from(index).expect("small")).expect("a piece")
}

/// Pieces of the file that is shown, each changed in one thing: the bytes of which piece are given, how many
/// of them, and which byte has its lowest bit changed.
fn refused_pieces() -> Vec<Value> {
    let (bytes, tree) = shown();
    let path = |index| tree.inclusion_path(index).expect("a leaf");
    let root = root_of(&bytes).0;
    let (size, whole) = (SHOWN as u64, PIECE_BYTES);
    let mut longer = path(1);
    longer.push(root);
    let mut cases = Vec::new();
    let mut case =
        |change: &str, size: u64, (index, of): (u64, u64), length, flip, path: &[Hash]| {
            let mut given = piece(&bytes, of)[..length].to_vec();
            if let Some(at) = flip {
                let at: usize = at;
                given[at] ^= 1;
            }
            let error = verify_piece((&root, size), index, &given, path).expect_err(change);
            cases.push(json!({
                "change": change, "code": error.code(), "size": size, "index": index, "of": of,
                "length": length, "flip": flip, "path": hashes(path),
            }));
        };
    case("a bit of its first byte", size, (1, 1), whole, Some(0), &path(1));
    case("a bit of its last byte", size, (4, 4), 9, Some(8), &path(4));
    case("another piece", size, (1, 2), whole, None, &path(1));
    case("another place", size, (2, 1), whole, None, &path(1));
    case("another piece's path", size, (1, 1), whole, None, &path(2));
    case("a path that is too short", size, (1, 1), whole, None, &path(1)[1..]);
    case("a path that is too long", size, (1, 1), whole, None, &longer);
    case("a byte too few", size, (1, 1), whole - 1, None, &path(1));
    case("a place beyond the last", size, (5, 4), 9, None, &path(4));
    case("a size that is larger by one", size + 1, (1, 1), whole, None, &path(1));
    case("a size of a piece more", size + whole as u64, (1, 1), whole, None, &path(1));
    cases
}

fn of_records() -> Cases {
    let one = |byte: u8| v1::Attachment {
        root: vec![byte; 32],
        size: 250_000,
        media_type: "application/pdf".into(),
        name: "Rechnung Köln 7.pdf".into(),
    };
    let listed = |list: Vec<v1::Attachment>| changed(|r| r.attachments = list);
    let source = |content: &[u8], attachment: v1::Attachment| v1::Source {
        content: content.to_vec(),
        attachment: Some(attachment),
        ..Default::default()
    };
    let many = |count: usize| {
        listed((0..count).map(|byte| one(u8::try_from(byte).expect("few"))).collect())
    };
    let mut cases = Cases::new("record");
    cases.valid("an attachment", listed(vec![one(1)]));
    cases.valid("as many as may be", many(ATTACHMENTS_MAX));
    let largest = v1::Attachment { size: ATTACHMENT_BYTES_MAX, ..one(1) };
    cases.valid(
        "the largest, without a name",
        listed(vec![v1::Attachment { name: String::new(), media_type: String::new(), ..largest }]),
    );
    cases.valid("a source that is attached", changed(|r| r.source = Some(source(b"", one(1)))));
    let mut refused = |change: &str, bytes: Vec<u8>| {
        cases.refused("RECORD_ATTACHMENT", change, bytes);
    };
    refused("one too many", many(ATTACHMENTS_MAX + 1));
    let first = |change: &dyn Fn(&mut v1::Attachment)| {
        let mut attachment = one(1);
        change(&mut attachment);
        listed(vec![attachment])
    };
    refused("a root of 31 bytes", first(&|a| a.root = vec![1; 31]));
    refused("a size above the limit", first(&|a| a.size = ATTACHMENT_BYTES_MAX + 1));
    refused("a long media type", first(&|a| a.media_type = "x".repeat(129)));
    refused("a media type with a line end", first(&|a| a.media_type = "text/plain\n".into()));
    refused("a long name", first(&|a| a.name = "x".repeat(257)));
    refused("a name that turns", first(&|a| a.name = "fdp.\u{202e}exe".into()));
    refused("the same twice", listed(vec![one(1), one(1)]));
    let both = source(b"<a/>", one(1));
    refused("a source with content and an attachment", changed(|r| r.source = Some(both)));
    let again = source(b"", one(1));
    refused(
        "the source among the attachments",
        changed(|r| {
            (r.attachments, r.source) = (vec![one(1)], Some(again));
        }),
    );
    cases
}
