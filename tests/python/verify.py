"""Verifies receipts, proofs and validator chains with the genesis of a network alone.

Trusts the genesis file and nothing else; needs no network, and beside the standard library only
`cryptography`. Files may have the binary or the JSON form. Prints a line a file; of a sealed history, whose files are the
pages of one proof, a line an agency and epoch. Exit codes: 0 all verified, 1 something is refused, 2 wrong
arguments or a file that cannot be read, 3 a sealed history that does not cover all of its agreement.
"""

import argparse
import copy
import datetime
import os
import pathlib
import sys

import authority
import plaintext
import record
import registry
import sealed_histories
from formats import Refused, check
from jsonform import JSON_FACTOR, binary_of
from structures import JSON_FORMS
from verifier import VALIDATOR_CHAIN_BYTES_MAX, Verifier

KINDS = {"receipt": "receipt", "history": "history_proof", "consistency": "consistency_proof"}
KINDS["chain"] = "validator_chain"
KINDS["sealed-history"] = "sealed_history_proof"


def read_genesis(path):
    # Some editors put a byte order mark before a text.
    data = read_file(path, registry.GENESIS_JSON_BYTES_MAX).removeprefix(b"\xef\xbb\xbf")
    form = registry.Genesis.from_json if data.lstrip()[:1] == b"{" else registry.Genesis.from_bytes
    return form(data)


def read_file(path, most):
    """A file's bytes; never more than a little above what is allowed."""
    with open(path, "rb") as file:
        data = file.read(most + 1)
    check(len(data) <= most, "FILE_TOO_LARGE", f"more than {most} bytes")
    return data


def read_proof(path, structure):
    message, most = JSON_FORMS[structure]
    return binary_of(message, read_file(path, JSON_FACTOR * most), most)


def shown(header):
    height, time_ms = header["height"], header["time_ms"]
    try:
        moment = datetime.datetime.fromtimestamp(time_ms / 1000, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        # A quorum may certify what no calendar here has.
        return f"height {height} of Unix time {time_ms} ms"
    return f"height {height} of {moment.isoformat(timespec='milliseconds')}"


def verify_receipt(verifier, data, _):
    header, transaction, slot, carried = verifier.verify_receipt(data)
    agency = transaction["agency"].rstrip(b"\0").decode()
    what = "its bytes are not in the receipt"
    sealed = ""
    if not record.is_open(slot):
        how = "granted" if record.is_grant(slot) else "sealed"
        epoch, agreement = slot["epoch"], slot["agreement"].hex()
        sealed = f", {how} under epoch {epoch} of agreement {agreement}"
    if carried:
        speaker = f"{carried.submitter} as {authority.name_of(carried.role)}"
        # Of a sealed one the chain knows the agency alone.
        stated = "stated by" if record.is_open(slot) else "which says that it is stated by"
        what = f"a {carried.kind}, its bytes checked, {stated} {speaker}"
    return f"record {slot['record_id'].hex()} ({what}) of {agency}{sealed}, lodged at {shown(header)}"


def verify_history(verifier, data, subject):
    header, key, entries = verifier.verify_history(data, subject)
    places = ", ".join(f"{entry['log_index']}/{entry['position']}" for entry in entries)
    found = f"these {len(entries)} records are all: {places}" if entries else "there is no record"
    return f"subject {key.hex()}: {found}; as of {shown(header)}"


def verify_consistency(verifier, data, _):
    older, newer = verifier.verify_consistency(data)
    sizes = f"{older['log_size']} of {newer['log_size']} transactions"
    return f"the log of {shown(older)} is a prefix ({sizes}) of that of {shown(newer)}"


def verify_chain(verifier, data, _):
    verifier.follow(data)
    begins, newest = verifier.sets[-1]
    changes, count = len(verifier.sets) - 1, len(newest.pairs)
    return f"{changes} changes; {count} validators from height {begins} on"


def verify_sealed_history(verifier, pages, subject):
    """What all pages together prove; whether it is all that there is."""
    answer = sealed_histories.verify(verifier, pages, subject)
    at = f"under agreement {answer.agreement.hex()} as of {shown(answer.header)}"
    for history in answer.histories:
        of = f"epoch {history.epoch}, {history.agency}"
        if history.slots is None:
            yield f"not covered: {of}: no proof, or a page of it, was given; nothing follows of it"
        else:
            places = ", ".join(f"{index}/{position}" for index, position in history.slots)
            yield f"{of}: " + (f"these slots are all: {places}" if places else "there is no slot")
    if answer.pages_missing or not answer.has_last_page:
        numbers = [*map(str, answer.pages_missing)]
        yield "pages missing: " + ", ".join(numbers + ["the last"] * (not answer.has_last_page))
    yield f"does not cover: {sealed_histories.OUTSIDE}"
    which = "verified: complete" if answer.complete else "PARTIAL: complete for what is listed only"
    yield f"{which}, as asserted by the lodging agencies, {at}"


def say_sealed_history(given, verifier):
    """The files are pages of one proof. 0 where it is complete, 3 where it is partial."""
    scheme, name = given.sealed_subject or (None, None)
    pages = [read_proof(file, KINDS[given.kind]) for file in given.files]
    lines = list(verify_sealed_history(verifier, pages, scheme and (scheme, name)))
    for line in lines:
        say(line)
    return 0 if lines[-1].startswith("verified") else 3


VERIFY = {
    "receipt": verify_receipt,
    "history": verify_history,
    "consistency": verify_consistency,
    "chain": verify_chain,
}


def subject_key(text):
    """64 hexadecimal digits, or SCHEME:ID."""
    scheme, colon, name = text.partition(":")
    # As the command line writes schemes, too.
    scheme = scheme.upper().replace("-", "_")
    if colon and scheme in record.SCHEME:
        if not plaintext.is_normal(scheme, name):
            raise argparse.ArgumentTypeError(f"{scheme} {name!r} is not in the normal form")
        return record.subject_key(record.SCHEME[scheme], name)
    key = bytes.fromhex(text)
    if len(key) != 32:
        raise ValueError("SCHEME:ID or 32 bytes as hexadecimal expected")
    return key


def sealed_subject(text):
    """The number of a scheme, and an id."""
    subject_key(text)
    scheme, _, name = text.partition(":")
    return record.SCHEME[scheme.upper().replace("-", "_")], name


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genesis", type=pathlib.Path, required=True, metavar="FILE")
    parser.add_argument("--validator-chain", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--subject", type=subject_key, metavar="SCHEME:ID", help="of a history")
    parser.add_argument("--sealed-subject", type=sealed_subject, metavar="SCHEME:ID")
    parser.add_argument("kind", choices=[*VERIFY, "sealed-history"])
    parser.add_argument("files", type=pathlib.Path, nargs="+", metavar="FILE")
    return parser.parse_args()


def say(line):
    """Prints a line. That nobody reads it, as in `… | head`, changes no verdict."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")


def main():
    given, refused = arguments(), 0
    # A file may have any name, also one that no terminal can show.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        verifier = Verifier(read_genesis(given.genesis))
        if given.validator_chain:
            verifier.follow(read_proof(given.validator_chain, "validator_chain"))
    except Refused as error:
        say(f"refused: genesis or validator chain: {error}")
        return 1
    if given.kind == "sealed-history":
        try:
            return say_sealed_history(given, verifier)
        except Refused as error:
            say(f"refused: {error}")
            return 1
    for file in given.files:
        try:
            data = read_proof(file, KINDS[given.kind])
            # A chain that is verified is not followed for the next file.
            said = VERIFY[given.kind](copy.deepcopy(verifier), data, given.subject)
            say(f"{file}: verified: {said}")
        except Refused as error:
            refused += 1
            say(f"{file}: refused: {error}")
    for text in sorted(plaintext.unchecked):
        say(f"not checked: the Unicode form of {text!a}, which has later characters than this Python")
    return 1 if refused else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
