"""Canonical protobuf, read by the published .proto files (docs/FORMATS.md, "Canonical protobuf").

Bytes that are no message of the type are *malformed*; bytes that decode, and encode again to other
bytes, are *not canonical*.
"""

import pathlib
import re

from formats import Refused

PROTOS = pathlib.Path(__file__).resolve().parents[2] / "proto" / "customhouse" / "v1"
VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
SCALARS = {"uint32", "uint64", "string", "bytes"}
# How deeply messages may be nested.
DEPTH = 100


class Malformed(Exception):
    """Not a message of the type."""


# ------------------------------------------------------------------ .proto files


class Field:
    def __init__(self, number, name, kind, repeated, oneof):
        self.number, self.name, self.kind = number, name, kind
        self.repeated, self.oneof = repeated, oneof


class Schema:
    """The messages and enumerations of .proto files, by name; inner ones as `Outer.Inner`."""

    def __init__(self, *files):
        self.messages, self.enums = {}, {}
        for file in files:
            text = re.sub("//[^\n]*", "", (PROTOS / file).read_text())
            tokens = re.findall(r'"[^"]*"|[\w.]+|[{}=;<>(),]', text)
            self.read(iter(tokens), (), None)

    def read(self, tokens, scope, oneof):
        """What a brace opened, or a whole file."""
        statement = []
        for token in tokens:
            if token == "{":
                self.block(statement, tokens, scope)
                statement = []
            elif token == ";":
                self.declare(statement, scope, oneof)
                statement = []
            elif token == "}":
                return
            else:
                statement.append(token)

    def block(self, statement, tokens, scope):
        kind, name = statement
        inner = (*scope, name)
        if kind == "message":
            self.messages[".".join(inner)] = {}
            self.read(tokens, inner, None)
        elif kind == "enum":
            self.enums[".".join(inner)] = values = {}
            while (token := next(tokens)) != "}":
                equals, number, end = next(tokens), next(tokens), next(tokens)
                assert (equals, end) == ("=", ";"), statement
                values[token] = int(number)
        else:
            assert kind == "oneof", statement
            self.read(tokens, scope, name)

    def declare(self, statement, scope, oneof):
        if not scope:
            return  # syntax, package, import
        repeated = statement[0] == "repeated"
        kind, name, equals, number = statement[repeated:]
        assert equals == "=", statement
        field = Field(int(number), name, kind, repeated, oneof)
        field.scope = scope
        self.messages[".".join(scope)][field.number] = field

    def resolve(self, field):
        """A field's kind: a scalar, `enum`, or the name of a message."""
        if field.kind in SCALARS:
            return field.kind
        for depth in range(len(field.scope), -1, -1):
            name = ".".join((*field.scope[:depth], field.kind))
            if name in self.enums:
                return "enum"
            if name in self.messages:
                return name
        raise KeyError(field.kind)

    def empty(self, message):
        """A message with all its fields unset."""
        default = {"string": "", "bytes": b"", "uint32": 0, "uint64": 0, "enum": 0}
        unset = lambda field: [] if field.repeated else default.get(self.resolve(field))
        return {field.name: unset(field) for field in self.messages[message].values()}

    # -------------------------------------------------------------- decoding

    def decode(self, message, data, depth=DEPTH):
        """A dict of all fields. An unset message is None; of a oneof at most one is set."""
        fields, value, reader = self.messages[message], self.empty(message), Reader(data)
        while reader.left():
            number, wire_type = reader.key()
            field = fields.get(number)
            if field is None:
                reader.skip(number, wire_type, depth)
                continue
            kind = self.resolve(field)
            item = self.item(kind, wire_type, reader, depth)
            if field.oneof:
                others = (f for f in fields.values() if f.oneof == field.oneof)
                value.update((other.name, None) for other in others)
            if field.repeated:
                value[field.name].append(item)
            else:
                value[field.name] = item
        return value

    def item(self, kind, wire_type, reader, depth):
        if kind in ("uint32", "uint64", "enum"):
            if wire_type != VARINT:
                raise Malformed
            number = reader.varint()
            if kind == "uint64":
                return number
            number &= 2**32 - 1
            return number - 2**32 if kind == "enum" and number >> 31 else number
        if wire_type != BYTES or depth == 0:
            raise Malformed
        data = reader.take(reader.varint())
        if kind == "bytes":
            return data
        if kind == "string":
            try:
                return data.decode()
            except UnicodeDecodeError as error:
                raise Malformed from error
        return self.decode(kind, data, depth - 1)

    # -------------------------------------------------------------- encoding

    def encode(self, message, value):
        out = bytearray()
        for number, field in sorted(self.messages[message].items()):
            kind, found = self.resolve(field), value[field.name]
            # The one set message of a oneof is there also where it is empty.
            for item in found if field.repeated else [found]:
                if field.repeated or (item is not None if kind in self.messages else item):
                    out += self.field(number, kind, item)
        return bytes(out)

    def field(self, number, kind, item):
        if kind in ("uint32", "uint64", "enum"):
            return varint(number << 3 | VARINT) + varint(item % 2**64)
        if kind == "string":
            item = item.encode()
        elif kind != "bytes":
            item = self.encode(kind, item)
        return varint(number << 3 | BYTES) + varint(len(item)) + item

    def canonical(self, message, data, prefix=""):
        """Decodes bytes that must be the message's one encoding."""
        try:
            value = self.decode(message, data)
        except Malformed:
            raise Refused(prefix + "MALFORMED", f"not a {message}") from None
        if self.encode(message, value) != data:
            raise Refused(prefix + "NOT_CANONICAL", f"a {message}, but not in its one encoding")
        return value


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, count):
        if count > self.left():
            raise Malformed
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self):
        number = 0
        for place in range(10):
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                if number >> 64:
                    raise Malformed
                return number
        raise Malformed

    def key(self):
        key = self.varint()
        number, wire_type = key >> 3, key & 7
        if key >> 32 or wire_type > FIXED32 or number == 0:
            raise Malformed
        return number, wire_type

    def value(self, number, wire_type):
        """The bytes of a value that has a length. Others are read past: None."""
        if wire_type == BYTES:
            return self.take(self.varint())
        self.skip(number, wire_type, DEPTH)
        return None

    def skip(self, number, wire_type, depth):
        if depth == 0 or wire_type == END_GROUP:
            raise Malformed
        if wire_type == VARINT:
            self.varint()
        elif wire_type == BYTES:
            self.take(self.varint())
        elif wire_type == GROUP:
            while True:
                inner, inner_type = self.key()
                if inner_type == END_GROUP:
                    if inner != number:
                        raise Malformed
                    return
                self.skip(inner, inner_type, depth - 1)
        else:
            self.take(8 if wire_type == FIXED64 else 4)


SCHEMA = Schema("ledger.proto", "record.proto")
