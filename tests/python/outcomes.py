"""What became of a transaction's slots in its block, and the root that the header has over it."""

import struct

import formats

APPLIED = b"\1"
REFUSED = {
    "REFERENCE_UNKNOWN": 1,
    "REFERENCE_KIND": 2,
    "REFERENCE_AGENCY": 3,
    "REFERENCE_SUBMITTER": 4,
    "AGREEMENT_UNKNOWN": 5,
    "AGREEMENT_PARTY": 6,
    "AGREEMENT_EPOCH": 7,
    "GRANT_RECORD": 8,
}


def leaf_of(meaning):
    """The leaf of an outcome as docs/vectors has it in words."""
    if meaning == "counts":
        return APPLIED
    if "refused" in meaning:
        return struct.pack(">BH", 3, REFUSED[meaning["refused"]])
    first = meaning["repeat_of"]
    return struct.pack(">BQI", 2, first["log_index"], first["position"])


def block_root(transactions):
    """The root over the outcomes of a block's transactions, each a list of leaves."""
    return formats.tree_root([formats.tree_root(leaves) for leaves in transactions])
