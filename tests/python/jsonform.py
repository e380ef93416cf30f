"""JSON forms (docs/FORMATS.md, "JSON forms"): strictly read, each for one binary."""

import json
import re

from formats import Refused, check
from wire import SCHEMA

# Most bytes of JSON for a byte of a binary.
JSON_FACTOR = 4


class Object(dict):
    """A JSON object that knows whether a name occurs twice in it."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.repeats = len(self) < len(pairs)

    def read(self, **kinds):
        """Values by name. A kind is a type, and a default where the name may be left out."""
        if self.repeats or not set(self) <= set(kinds):
            raise ValueError(f"unknown names, or a name twice, among {list(self)}")
        for name, (kind, *default) in kinds.items():
            value = self.get(name, *default[:1]) if default else self[name]
            if type(value) is not kind:
                raise ValueError(f"{name}: {kind.__name__} expected")
            yield value


def read_json(data):
    """JSON with neither fractions nor negative numbers."""

    def number(text):
        if text.startswith("-") or int(text) >> 64:
            raise ValueError(f"{text}: not a number of 64 bits without a sign")
        return int(text)

    def refuse(text):
        raise ValueError(f"{text}: not a whole number")

    value = json.loads(
        data.decode(),
        object_pairs_hook=Object,
        parse_int=number,
        parse_float=refuse,
        parse_constant=refuse,
    )
    # Text that is no Unicode has no encoding.
    json.dumps(value, ensure_ascii=False).encode()
    if type(value) is not Object:
        raise ValueError("an object expected")
    return value


# ------------------------------------------------------------------ proofs


def binary_of(message, data, binary_bytes_max):
    """The binary of a file that has either form: JSON begins with a brace, no binary does."""
    if not data.startswith(b"{"):
        return data
    check(len(data) <= JSON_FACTOR * binary_bytes_max, "PROOF_JSON_TOO_LARGE", f"{len(data)} bytes")
    try:
        return SCHEMA.encode(message, read_message(message, read_json(data)))
    except (ValueError, RecursionError) as error:
        raise Refused("PROOF_JSON", str(error)) from error


def read_message(message, value):
    fields = {field.name: field for field in SCHEMA.messages[message].values()}
    if type(value) is Object and message == "Receipt":
        value.setdefault("steps", [])
    if type(value) is not Object or value.repeats or set(value) != set(fields):
        raise ValueError(f"{message}: exactly its fields expected, once each")
    return {name: read_field(fields[name], found) for name, found in value.items()}


def read_field(field, value):
    kind = SCHEMA.resolve(field)
    if not field.repeated:
        return read_value(kind, value)
    if type(value) is not list:
        raise ValueError(f"{field.name}: a list expected")
    return [read_value(kind, item) for item in value]


def read_value(kind, value):
    if kind in ("uint32", "uint64"):
        if type(value) is not int or (kind == "uint32" and value >> 32):
            raise ValueError(f"{value}: a number of {kind[4:]} bits expected")
        return value
    if kind == "string" and type(value) is str:
        return value
    if kind == "bytes" and type(value) is str and re.fullmatch("([0-9a-f]{2})*", value):
        return bytes.fromhex(value)
    if kind in SCHEMA.messages:
        return read_message(kind, value)
    raise ValueError(f"{value}: text, or lower-case hexadecimal, expected")
