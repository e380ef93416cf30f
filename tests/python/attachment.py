"""Attachments: what a record says of them, and pieces of a file against its root."""

import formats
import plaintext
from formats import PathLength, Refused, check

PIECE_BYTES = 65_536
SIZE_MAX = 1 << 30
ATTACHMENTS_MAX = 64
NAME_BYTES_MAX = 256
MEDIA_TYPE_BYTES_MAX = 128
CODE = "RECORD_ATTACHMENT"


def check_attachments(record):
    """Rules of a record's attachments, and of its source's."""
    attachments, source = list(record["attachments"]), record["source"]
    check(len(attachments) <= ATTACHMENTS_MAX, CODE, "more than 64")
    if source is not None and source["attachment"] is not None:
        check(not source["content"], CODE, "content and an attachment")
        attachments.append(source["attachment"])
    for attachment in attachments:
        check(len(attachment["root"]) == 32, CODE, "a root of 32 bytes expected")
        check(attachment["size"] <= SIZE_MAX, CODE, "too large")
        for field, most in (("media_type", MEDIA_TYPE_BYTES_MAX), ("name", NAME_BYTES_MAX)):
            text = attachment[field]
            check(len(text.encode()) <= most, CODE, f"{field} is too long")
            check(plaintext.is_name(text), CODE, f"{field} is no name")
    roots = {attachment["root"] for attachment in attachments}
    check(len(roots) == len(attachments), CODE, "one file twice")


def pieces_of(size):
    return -(-size // PIECE_BYTES)


def root_of_pieces(size, pieces_root):
    return formats.tagged_hash("attachment", formats.u64(size), pieces_root)


def root_of(data):
    pieces = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
    return root_of_pieces(len(data), formats.tree_root(pieces))


def verify_piece(root, size, index, piece, path):
    """Whether the file of this root and size has this piece at this place."""
    pieces = pieces_of(size)
    check(index < pieces, "PIECE_PATH", "no such piece")
    expected = min(PIECE_BYTES, size - index * PIECE_BYTES)
    check(len(piece) == expected, "PIECE_LENGTH", f"{expected} bytes expected")
    try:
        found = formats.root_from_inclusion(formats.leaf_hash(piece), index, pieces, path)
    except PathLength as error:
        raise Refused("PIECE_PATH", "a path of another length expected") from error
    check(root_of_pieces(size, found) == root, "PIECE_PATH", "another root")
