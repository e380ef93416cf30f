"""The formats of docs/FORMATS.md: hashes, trees, layouts and signatures.

Written from that document alone; shares nothing with the node's own code.
"""

import hashlib
import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Refused(Exception):
    """Something is not what it must be. The message says what."""


def check(holds, what):
    if not holds:
        raise Refused(what)


def sha256(data):
    return hashlib.sha256(data).digest()


def tag(name):
    return b"customhouse/v1/" + name.encode() + b"\0"


def tagged_hash(name, *parts):
    return sha256(tag(name) + b"".join(parts))


def agency_code(text):
    """16 bytes: the code, then zeros."""
    return text.encode().ljust(16, b"\0")


def verify_signature(public_key, message, signature, what):
    check(len(signature) == 64, f"{what}: not 64 bytes")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise Refused(f"{what}: bad signature") from error


# ------------------------------------------------------------------ RFC 6962 trees


def leaf_hash(data):
    return sha256(b"\0" + data)


def node_hash(left, right):
    return sha256(b"\1" + left + right)


def tree_root(leaves):
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(tree_root(leaves[:split]), tree_root(leaves[split:]))


def root_from_path(leaf, index, size, path, what):
    """RFC 9162 section 2.1.3.2: the root that an inclusion path leads to."""
    check(0 <= index < size, f"{what}: index out of range")
    node, last, root = index, size - 1, leaf
    for sibling in path:
        check(len(sibling) == 32, f"{what}: an element is not 32 bytes")
        check(last > 0, f"{what}: too long")
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    check(last == 0, f"{what}: too short")
    return root


# ------------------------------------------------------------------ layouts


class Layout:
    """A fixed layout: names and struct codes, big-endian, nothing before, between or after."""

    def __init__(self, name, **fields):
        self.name = name
        self.fields = list(fields)
        self.struct = struct.Struct(">" + "".join(fields.values()))

    def encode(self, **values):
        return self.struct.pack(*(values[field] for field in self.fields))

    def decode(self, data):
        check(len(data) == self.struct.size, f"{self.name}: {len(data)} bytes")
        return dict(zip(self.fields, self.struct.unpack(data)))


TRANSACTION_HEADER = Layout(
    "transaction header",
    chain_id="32s",
    signer="32s",
    agency="16s",
    not_after_ms="Q",
    slot_count="I",
    records_root="32s",
)

HEADER = Layout(
    "header",
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
    validators_hash="32s",
    next_validators_hash="32s",
    proposer="32s",
    view="Q",
)

CERTIFICATE_HEAD = Layout(
    "certificate", kind="B", height="Q", view="Q", block_hash="32s", bitmap_length="H"
)

FINALIZE = 3


def vote_message(chain_id, kind, height, view, block_hash):
    return tag("vote") + chain_id + struct.pack(">BQQ", kind, height, view) + block_hash


def canonical(message_type, data, what):
    """Decodes protobuf that has one encoding only."""
    message = message_type()
    try:
        message.ParseFromString(data)
    except Exception as error:  # The library has several, one for each implementation of it.
        raise Refused(f"{what}: malformed") from error
    message.DiscardUnknownFields()
    check(message.SerializeToString(deterministic=True) == data, f"{what}: not canonical")
    return message
