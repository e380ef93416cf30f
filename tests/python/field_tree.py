"""A record's id: the root of a tree over its fields, each with a salt of its own."""

import hashlib
import hmac
import struct

import formats
from formats import check
from wire import SCHEMA

LEAVES_MAX = 262_144
FIELDS_BASE, BYTES_PER_FIELD = 16_384, 8
MESSAGES_BASE, BYTES_PER_MESSAGE = 4_096, 32
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


class Load:
    """How many fields, messages and references there are, of which the bytes must be enough."""

    def __init__(self):
        self.bytes = self.fields = self.messages = self.references = 0

    def add(self, data, record):
        kinds = [kind for _, kind, _ in leaves("Record", record)]
        self.bytes += len(data)
        # And the salt.
        self.fields += 1 + sum(kind != COUNT for kind in kinds)
        self.messages += kinds.count(MESSAGE)
        self.references += len(record["references"])

    def check(self, code):
        fields = FIELDS_BASE + self.bytes // BYTES_PER_FIELD
        check(self.fields <= fields, code, f"{self.fields} fields in {self.bytes} bytes")
        messages = MESSAGES_BASE + self.bytes // BYTES_PER_MESSAGE
        check(self.messages <= messages, code, f"{self.messages} messages in {self.bytes} bytes")


def record_id(record):
    """The id of a decoded record."""
    hashes = [hash_of(record[SALT], *leaf) for leaf in leaves("Record", record)]
    check(len(hashes) <= LEAVES_MAX, "RECORD_LEAVES", f"{len(hashes)} leaves")
    return formats.tagged_hash("record", formats.u32(len(hashes)), formats.root_of_hashes(hashes))
