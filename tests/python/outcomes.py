"""What became of a transaction's slots in its block, and the root that the header has over it."""

import struct

import formats

APPLIED = b"\1"
REFUSED = {
    "REFERENCE_UNKNOWN": 1,
    "REFERENCE_KIND": 2,
    "REFERENCE_AGENCY": 3,
    "REFERENCE_SUBMITTER": 4,
}


def duplicate(log_index, position):
    """A repeat of the slot there."""
    return struct.pack(">BQI", 2, log_index, position)


def refused(code):
    return struct.pack(">BH", 3, REFUSED[code])


def block_root(transactions):
    """The root over the outcomes of a block's transactions, each a list of leaves."""
    return formats.tree_root([formats.tree_root(leaves) for leaves in transactions])
