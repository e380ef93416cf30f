"""Text that the chain takes: "Text" and "Normal forms" of docs/FORMATS.md.

Which characters are allowed is read from the published table, because the tables of this Python may be
of another version of Unicode. Its normalization forms are right for the characters that it knows, by
Unicode's stability policy. A text with a later character has its form not checked: `unchecked` has such
texts, and `verify.py` names them.
"""

import bisect
import json
import pathlib
import re
import unicodedata

import formats
from wire import SCHEMA

TABLE = pathlib.Path(__file__).parents[2] / "docs" / "vectors" / "unicode.json"
ID_BYTES_MAX = 256

unchecked = set()


class Characters:
    """A set of characters, as the table writes it: ranges in hexadecimal, ascending."""

    def __init__(self, text):
        ranges = [[int(end, 16) for end in part.split("-")] for part in text.split()]
        self.first = [ends[0] for ends in ranges]
        self.last = [ends[-1] for ends in ranges]

    def __contains__(self, character):
        index = bisect.bisect_right(self.first, ord(character)) - 1
        return index >= 0 and ord(character) <= self.last[index]


def read_table():
    table = json.loads(TABLE.read_text())
    return [Characters(table[name]) for name in ("visible", "lower", "marks")]


VISIBLE, LOWER, MARKS = read_table()


def is_in_form(form, text):
    if any(unicodedata.category(character) == "Cn" for character in text):
        unchecked.add(text)
        return True
    return unicodedata.is_normalized(form, text)


def is_name(text):
    spaced = text.startswith(" ") or text.endswith(" ") or "  " in text
    seen = all(character == " " or character in VISIBLE for character in text)
    begun = text == "" or text[0] not in MARKS
    return seen and not spaced and begun and is_in_form("NFC", text)


# ------------------------------------------------------------------ normal forms


def is_code(text):
    return re.fullmatch("[!-`{-~]+", text) is not None


def is_script(text):
    seen = all(character in VISIBLE and character not in LOWER for character in text)
    return text != "" and seen and text[0] not in MARKS and is_in_form("NFKC", text)


def is_reference(text):
    agency, slash, reference = text.partition("/")
    return slash == "/" and formats.is_agency_code(agency) and is_script(reference)


def is_uri(text):
    found = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*):([A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+)", text)
    if found is None:
        return False
    scheme, rest = found.groups()
    start = scheme
    if scheme.lower() == "urn":
        start += rest.partition(":")[0]
    elif rest.startswith("//"):
        start += re.split("[/?#]", rest[2:])[0]
    return re.search("[A-Z]", start) is None


def is_digits(text):
    return re.fullmatch("[0-9a-f]{64}", text) is not None


SCHEME = SCHEMA.enums["Subject.Scheme"]
SCHEME_NAME = {number: name for name, number in SCHEME.items()}
FORMS = {
    "UCR": is_code,
    "MRN": lambda text: re.fullmatch("[A-Z0-9]+", text) is not None,
    "DECLARATION_REFERENCE": is_reference,
    "CONTAINER": lambda text: is_code(text) and "-" not in text,
    "TRANSPORT_DOCUMENT": is_script,
    "CERTIFICATE": is_script,
    "TRADER": is_code,
    "EPC": is_uri,
    "CASE": is_script,
    "VALIDATOR_KEY": is_digits,
    "AGENCY": formats.is_agency_code,
    "AGREEMENT": is_digits,
}


def is_normal(scheme, text):
    """Whether an id is in the normal form of its scheme, which is given by its name."""
    return 1 <= len(text.encode()) <= ID_BYTES_MAX and FORMS[scheme](text)
