"""The formats of docs/FORMATS.md: hashes, trees, codes, layouts.

Written from that document alone; shares nothing with the node's own code.
"""

import hashlib
import re
import struct


class Refused(Exception):
    """Something is not what it must be: a stable code, and in words what."""

    def __init__(self, code, what):
        super().__init__(f"{code}: {what}")
        self.code = code


def check(holds, code, what):
    if not holds:
        raise Refused(code, what)


ZERO = bytes(32)


def sha256(data):
    return hashlib.sha256(data).digest()


def tag(name):
    return b"customhouse/v1/" + name.encode() + b"\0"


def tagged_hash(name, *parts):
    return sha256(tag(name) + b"".join(parts))


def u32(number):
    return struct.pack(">I", number)


def u64(number):
    return struct.pack(">Q", number)


# ------------------------------------------------------------------ agency codes


def is_agency_code(text):
    return re.fullmatch("[A-Z0-9-]{2,16}", text) is not None


def agency_code(text):
    """16 bytes: the code, then zeros."""
    return text.encode().ljust(16, b"\0")


def read_agency_code(layout):
    code = layout.rstrip(b"\0").decode("latin-1")
    holds = len(layout) == 16 and is_agency_code(code)
    check(holds, "AGENCY_CODE", "2 to 16 of A-Z, 0-9 and -, then zeros")
    return code


# ------------------------------------------------------------------ RFC 6962 trees


def leaf_hash(data):
    return sha256(b"\0" + data)


def node_hash(left, right):
    return sha256(b"\1" + left + right)


def root_of_hashes(hashes):
    if not hashes:
        return sha256(b"")
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << ((len(hashes) - 1).bit_length() - 1)
    return node_hash(root_of_hashes(hashes[:split]), root_of_hashes(hashes[split:]))


def tree_root(leaves):
    return root_of_hashes([leaf_hash(leaf) for leaf in leaves])


class PathLength(Exception):
    """A path that is shorter or longer than the tree asks for, or a leaf beyond it."""


class Walk:
    """From a node to the root: its index in the current level, and that of the last node there."""

    def __init__(self, node, last):
        self.node, self.last = node, last

    def up(self):
        """To the next level in which the node has a sibling; whether that is on the left."""
        if self.last == 0:
            raise PathLength
        left = bool(self.node & 1) or self.node == self.last
        while left and not self.node & 1 and self.node:
            self.shift()
        self.shift()
        return left

    def shift(self):
        self.node, self.last = self.node >> 1, self.last >> 1

    def finish(self):
        if self.last:
            raise PathLength


def root_from_inclusion(leaf, index, size, path):
    """RFC 9162 section 2.1.3.2: the root that an inclusion path leads to."""
    if index >= size:
        raise PathLength
    walk, root = Walk(index, size - 1), leaf
    for sibling in path:
        root = node_hash(sibling, root) if walk.up() else node_hash(root, sibling)
    walk.finish()
    return root


def roots_from_consistency(old_size, new_size, old_root, path):
    """RFC 9162 section 2.1.4.2: the older and the newer root that a path leads to.

    0 < old_size < new_size.
    """
    shift = (old_size & -old_size).bit_length() - 1
    walk = Walk((old_size - 1) >> shift, (new_size - 1) >> shift)
    if old_size & (old_size - 1):
        if not path:
            raise PathLength
        old, path = path[0], path[1:]
    else:
        old = old_root
    new = old
    for sibling in path:
        if walk.up():
            old, new = node_hash(sibling, old), node_hash(sibling, new)
        else:
            new = node_hash(new, sibling)
    walk.finish()
    return old, new


# ------------------------------------------------------------------ layouts


class Layout:
    """A fixed layout: names and struct codes, big-endian, nothing before, between or after."""

    def __init__(self, **fields):
        self.fields = list(fields)
        self.struct = struct.Struct(">" + "".join(fields.values()))

    @property
    def size(self):
        return self.struct.size

    def encode(self, **values):
        return self.struct.pack(*(values[field] for field in self.fields))

    def decode(self, data, code):
        size = self.struct.size
        check(len(data) == size, code, f"{len(data)} bytes where the layout has {size}")
        return dict(zip(self.fields, self.struct.unpack(data)))


TRANSACTION_HEADER = Layout(
    chain_id="32s",
    signer="32s",
    agency="16s",
    not_after_ms="Q",
    slot_count="I",
    records_root="32s",
)

HEADER = Layout(
    version="H",
    chain_id="32s",
    height="Q",
    time_ms="Q",
    parent_hash="32s",
    log_start="Q",
    log_size="Q",
    log_root="32s",
    history_size="Q",
    history_root="32s",
    registry_root="32s",
    outcomes_root="32s",
    validators_hash="32s",
    next_validators_hash="32s",
    proposer="32s",
    view="Q",
)

CERTIFICATE_HEAD = Layout(kind="B", height="Q", view="Q", block_hash="32s", bitmap_length="H")

STATEMENT = Layout(
    kind="B",
    height="Q",
    view="Q",
    parent_view="Q",
    block_hash="32s",
    leaves_hash="32s",
    key="32s",
    signature="64s",
)

HISTORY_ENTRY = Layout(key="32s", log_index="Q", position="I")

NOTARIZE, NULLIFY, FINALIZE = 1, 2, 3


def block_hash(header_bytes):
    return tagged_hash("header", header_bytes)


def vote_message(chain_id, kind, height, view, block):
    return tag("vote") + chain_id + struct.pack(">BQQ", kind, height, view) + block


def proposal_message(chain_id, height, view, parent_view, block, leaves_hash):
    numbers = struct.pack(">QQQ", height, view, parent_view)
    return tag("proposal") + chain_id + numbers + block + leaves_hash
