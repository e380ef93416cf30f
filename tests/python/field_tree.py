"""A record's id: the root of a tree over its fields, each with a salt of its own."""

import hashlib
import hmac
import struct

import formats
from formats import check
from wire import SCHEMA

LEAVES_MAX = 262_144
SINGULAR = 2**32 - 1
BYTES, TEXT, NUMBER, MESSAGE, COUNT = range(1, 6)
TYPES = {"bytes": BYTES, "string": TEXT, "uint32": NUMBER, "uint64": NUMBER, "enum": NUMBER}
SALT = "salt"


def leaves(message, value, above=b""):
    """Path, type and value of each leaf: fields ascending, a message before its fields."""
    for number, field in sorted(SCHEMA.messages[message].items()):
        kind, found = SCHEMA.resolve(field), value[field.name]
        if not above and field.name == SALT:
            continue
        if field.repeated:
            for index, item in enumerate(found):
                yield from leaf(kind, item, above + struct.pack(">II", number, index))
            if found:
                path = above + struct.pack(">II", number, SINGULAR)
                yield path, COUNT, formats.u64(len(found))
        elif found is not None if kind in SCHEMA.messages else found:
            yield from leaf(kind, found, above + struct.pack(">II", number, SINGULAR))


def leaf(kind, item, path):
    if kind in SCHEMA.messages:
        yield path, MESSAGE, b""
        yield from leaves(kind, item, path)
    elif kind == "string":
        yield path, TEXT, item.encode()
    elif kind == "bytes":
        yield path, BYTES, item
    else:
        yield path, NUMBER, formats.u64(item % 2**64)


def salt_of(salt, path):
    return hmac.new(salt, path, hashlib.sha256).digest()


def hash_of(salt, path, kind, value):
    length = struct.pack(">H", len(path))
    return formats.leaf_hash(salt_of(salt, path) + length + path + bytes([kind]) + value)


def record_id(record):
    """The id of a decoded record."""
    hashes = [hash_of(record[SALT], *leaf) for leaf in leaves("Record", record)]
    check(len(hashes) <= LEAVES_MAX, "RECORD_LEAVES", f"{len(hashes)} leaves")
    return formats.tagged_hash("record", formats.u32(len(hashes)), formats.root_of_hashes(hashes))
