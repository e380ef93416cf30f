"""Files of decisions (docs/FORMATS.md, "Decisions"): their form, and the forks that they show."""

from formats import FINALIZE, HEADER, Refused, block_hash, check
from record import PROPOSAL, read_statement
from verifier import read_certificate, verify_certificate
from wire import SCHEMA, Malformed

DECISIONS_BYTES_MAX = 16_777_216
DECISIONS_MAX = 1024
STATEMENTS_MAX = 4096
# Of 256 validators who have all signed.
CERTIFICATE_BYTES_MAX = 51 + 32 + 64 * 256


def at_most(count, most, what):
    check(count <= most, "DECISIONS_TOO_MANY", f"{count} {what}, at most {most} are allowed")


def decode(data):
    at_most(len(data), DECISIONS_BYTES_MAX, "bytes")
    try:
        decisions = SCHEMA.decode("Decisions", data)["decisions"]
    except Malformed:
        raise Refused("DECISIONS_MALFORMED", "not a file of decisions") from None
    at_most(len(decisions), DECISIONS_MAX, "decisions")
    before = 0
    for decision in decisions:
        check(decision["height"] > before, "DECISIONS_ORDER", "not above the one before it")
        before = decision["height"]
        check_decision(decision)
    return decisions


def check_decision(decision):
    height, header = decision["height"], decision["header"]
    at_most(len(decision["certificates"]), STATEMENTS_MAX, "certificates")
    at_most(len(decision["proposals"]), STATEMENTS_MAX, "proposals")
    both = bool(header) == bool(decision["certificate"])
    check(both, "DECISION_HALF", "a half without the other")
    if header:
        found = HEADER.decode(header, "DECISION_LAYOUT")["height"]
        check(found == height, "DECISION_HEIGHT", "a header of another height")
    decided = [decision["certificate"]] if header else []
    for data in (*decided, *decision["certificates"]):
        at_most(len(data), CERTIFICATE_BYTES_MAX, "bytes of a certificate")
        found = read_certificate(data, "DECISION_CERTIFICATE")["height"]
        check(found == height, "DECISION_HEIGHT", "a certificate of another height")
    for data in decision["proposals"]:
        said = read_statement(data, "DECISION_LAYOUT")
        check(said["kind"] == PROPOSAL, "DECISION_LAYOUT", "a vote where a proposal is expected")
        check(said["height"] == height, "DECISION_HEIGHT", "a proposal of another height")


def final_blocks(decision, verifier):
    """The blocks that were finalized, by what one node tells of a height. Its own finalization must
    verify; of its other certificates those count that do."""
    blocks, height = set(), decision["height"]
    if decision["header"]:
        verifier.verify_final(decision["header"], decision["certificate"])
        blocks.add(block_hash(decision["header"]))
    for data in decision["certificates"]:
        certificate = read_certificate(data)
        try:
            verify_certificate(certificate, verifier.chain_id, verifier.validators_at(height))
        except Refused:
            continue
        if certificate["kind"] == FINALIZE:
            blocks.add(certificate["block_hash"])
    return blocks


def forks(files, verifier):
    """The heights, ascending, at which files of decisions show two final blocks."""
    blocks = {}
    for decision in (decision for file in files for decision in decode(file)):
        found = final_blocks(decision, verifier)
        blocks.setdefault(decision["height"], set()).update(found)
    return sorted(height for height, found in blocks.items() if len(found) > 1)
