"""Sealed history proofs (docs/FORMATS.md): which sealed records about a subject were lodged under an agreement."""

from dataclasses import dataclass, field

import agreements
import formats
import plaintext
import registry
import vrf
from formats import HISTORY_ENTRY, Refused, check
from verifier import read_path, verify_inclusion
from wire import SCHEMA

PROOF_BYTES_MAX = 50_331_648
PAGES_MAX = 65_536
# What no such proof says.
OUTSIDE = (
    "other agreements, open records, what was lodged later, and slots whose agency left the subject out, "
    "or put another key in its place"
)


@dataclass
class History:
    """What is known of what one agency lodged in one epoch; slots are None where that is not known."""

    epoch: int
    agency: str
    subject_key: bytes | None = None
    slots: list | None = None
    missing_from_entry: int | None = None


@dataclass
class Answer:
    header: dict
    agreement: bytes
    subject: tuple
    histories: list = field(default_factory=list)
    pages_missing: list = field(default_factory=list)
    has_last_page: bool = False

    @property
    def complete(self):
        return all(history.slots is not None for history in self.histories)


@dataclass
class Piece:
    subject_key: bytes
    begins: int
    ends: int
    before: bytes
    after: bytes
    is_last: bool
    slots: list


class Page:
    """A page that is right by itself."""

    def __init__(self, verifier, data):
        check(len(data) <= PROOF_BYTES_MAX, "SEALED_HISTORY_TOO_LARGE", f"{len(data)} bytes")
        proof = SCHEMA.canonical("SealedHistoryProof", data, "SEALED_HISTORY_")
        self.verifier = verifier
        self.subject = proof["subject_scheme"], proof["subject_id"]
        scheme = vrf.SCHEME_NAME.get(self.subject[0])
        normal = scheme in plaintext.FORMS and plaintext.is_normal(scheme, self.subject[1])
        check(normal, "VRF_SUBJECT", f"{self.subject}: no subject in its normal form")
        self.number, count = proof["page"], proof["page_count"]
        numbered = 1 <= self.number <= PAGES_MAX and count in (0, self.number)
        check(numbered, "SEALED_HISTORY_PAGE", f"page {self.number}, the last {count}")
        self.is_last = count == self.number
        self.header = verifier.verify_final(proof["header"], proof["certificate"])
        self.entry = proof["agreement_entry"]
        self.agreement, self.epochs = self.shown_agreement(proof)
        self.pieces = {}
        for history in proof["histories"]:
            pair, piece = self.piece(history)
            ascending = not self.pieces or max(self.pieces) < pair
            check(ascending, "SEALED_HISTORY_ORDER", f"{pair}: not ascending")
            self.pieces[pair] = piece

    @property
    def common(self):
        return self.header, self.entry, self.subject

    def shown_agreement(self, proof):
        """Its id and its epochs, where the entry leads to the header's registry root."""
        path = read_path(proof["agreement_path"], "SEALED_HISTORY_PATH_MALFORMED")
        code, leaf = "SEALED_HISTORY_AGREEMENT", formats.leaf_hash(self.entry)
        index, count = proof["agreement_index"], proof["agreement_count"]
        head, members = proof["agreements_head"], proof["members_root"]
        check(len(head) == len(members) == 32, code, "a root that is not 32 bytes")
        try:
            tree_root = formats.root_from_inclusion(leaf, index, count, path)
        except formats.PathLength:
            raise Refused(code, "too long or too short a path") from None
        found = registry.root(members, agreements.root(count, tree_root, head))
        check(found == self.header["registry_root"], code, "leads to another registry root")
        return read_entry(self.entry)

    def piece(self, history):
        """The pair of epoch and agency that a history is of, and its piece of the bucket."""
        number, agency = history["epoch"], history["agency"]
        known = 1 <= number <= len(self.epochs)
        known = known and agency in self.epochs[number - 1]["parties"]
        check(known, "SEALED_HISTORY_PARTY", f"epoch {number} has no party {agency!r}")
        coded = formats.agency_code(agency)
        key = self.epochs[number - 1]["public_key"]
        subject_key = vrf.verify_subject(key, coded, *self.subject, history["vrf_proof"])
        index_key = vrf.index_key(self.agreement, number, coded, subject_key)
        bucket, size = self.verifier.bucket_of(index_key), self.header["history_size"]
        entries = self.verifier.bucket_entries(history["bucket_entries"], bucket, size)
        piece = read_piece(history, entries, subject_key)
        if piece.is_last:
            path = read_path(history["path"], "HISTORY_PATH_MALFORMED")
            buckets, root = 1 << self.verifier.history_bits, self.header["history_root"]
            leaf = formats.leaf_hash(piece.after)
            verify_inclusion(leaf, bucket, buckets, path, root, "HISTORY_ROOT")
        own = [entry for entry in entries if entry["key"] == index_key]
        piece.slots = [(entry["log_index"], entry["position"]) for entry in own]
        return (number, coded), piece


def read_entry(data):
    """The id and the epochs of an agreement's entry."""
    code = "SEALED_HISTORY_ENTRY"
    try:
        entry = SCHEMA.canonical("AgreementEntry", data)
        for epoch in entry["epochs"]:
            parties, left = epoch["parties"], epoch["left"]
            listed = 1 <= len(parties) <= agreements.PARTIES_MAX and ascending(parties)
            coded = all(formats.is_agency_code(party) for party in parties)
            own = ascending(left) and set(left) <= set(parties)
            check(listed and coded and own, code, "no parties")
            vrf.check_key(epoch["public_key"])
            check(len(epoch["terms_hash"]) == 32, code, "terms_hash: 32 bytes")
    except Refused as refused:
        raise Refused(code, str(refused)) from refused
    counted = 1 <= len(entry["epochs"]) <= agreements.EPOCHS_MAX
    check(counted and len(entry["id"]) == 32, code, "no id, or no epochs")
    return entry["id"], entry["epochs"]


def ascending(names):
    return all(a < b for a, b in zip(names, names[1:]))


def read_piece(history, entries, subject_key):
    code, begins, before = "SEALED_HISTORY_PIECE", history["from_entry"], history["head_before"]
    check(len(before) == (32 if begins else 0), code, "a head before it that does not fit")
    is_last = not history["head_after"]
    whole = is_last and begins == 0
    check(entries or whole, code, "no entries, and not a whole bucket")
    ends = begins + len(entries)
    check(ends < 2**64, code, "more entries than can be counted")
    before = after = before or formats.ZERO
    for entry in entries:
        after = formats.tagged_hash("history", after, HISTORY_ENTRY.encode(**entry))
    if not is_last:
        check(not history["path"], code, "a path, and a head after it")
        check(history["head_after"] == after, code, "another head after it")
    return Piece(subject_key, begins, ends, before, after, is_last, [])


# ------------------------------------------------------------------ all pages


def verify(verifier, pages, subject=None):
    """The answer that pages give, whichever of them there are. `subject` is a scheme and an id to be compared."""
    pages = [Page(verifier, page) for page in pages]
    check(pages, "SEALED_HISTORY_NO_PAGE", "no page")
    other, first, pieces, last = "SEALED_HISTORY_OTHER_PAGE", pages[0], {}, None
    for page in pages:
        check(page.common == first.common, other, "of another head, agreement or subject")
        if page.is_last:
            check(last in (None, page.number), other, "two last pages")
            last = page.number
        for pair, piece in page.pieces.items():
            known = pieces.setdefault(pair, {}).setdefault(piece.begins, piece)
            check(known == piece, other, "two pieces from one entry on")
    numbers = {page.number for page in pages}
    check(last in (None, max(numbers)), other, "a page behind the last")
    answer = Answer(first.header, first.agreement, first.subject)
    for number, epoch in enumerate(first.epochs, 1):
        for agency in epoch["parties"]:
            of_pair = pieces.get((number, formats.agency_code(agency)))
            answer.histories.append(joined(History(number, agency), of_pair))
    answer.pages_missing = [page for page in range(1, max(numbers)) if page not in numbers]
    answer.has_last_page = last is not None
    asked = subject is None or subject == first.subject
    check(asked, "SEALED_HISTORY_OTHER_SUBJECT", "a proof about another subject")
    return answer


def joined(history, pieces):
    """What pieces say of a pair, one after the other from the first entry on."""
    if pieces is None:
        return history
    place, head, slots = 0, formats.ZERO, []
    while piece := pieces.get(place):
        check(piece.before == head, "SEALED_HISTORY_JOIN", f"{history.agency}: another head")
        slots += piece.slots
        if piece.is_last:
            history.subject_key, history.slots = piece.subject_key, slots
            return history
        place, head = piece.ends, piece.after
    history.missing_from_entry = place
    return history


def place_of(answer, transaction, slot, place, height):
    """Whether the answer lists the slot of a receipt. Refuses what contradicts it."""
    pair = slot["epoch"], transaction["agency"]
    for history in answer.histories:
        if (history.epoch, formats.agency_code(history.agency)) == pair and history.slots is not None:
            own = slot["agreement"] == answer.agreement
            own = own and history.subject_key in slot["subject_keys"]
            listed = place in history.slots
            late = height > answer.header["height"]
            check(listed == own or (late and not listed), "CONTRADICTION", f"the slot at {place}")
            return listed
    return False


# ------------------------------------------------------------------ structures of docs/vectors


def read_pages(data):
    pages = []
    while data:
        length = int.from_bytes(data[:4], "big")
        whole = len(data) >= 4 + length
        check(whole, "SEALED_HISTORY_MALFORMED", "a page that is cut short")
        pages.append(data[4 : 4 + length])
        data = data[4 + length :]
    return pages


def verify_of(verifier, data):
    """The subject that is asked for, and a proof."""
    scheme, length = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    check(len(data) >= 8 + length, "VRF_SUBJECT", "cut short")
    try:
        name = data[8 : 8 + length].decode()
    except UnicodeDecodeError as error:
        raise Refused("VRF_SUBJECT", "the id is no text") from error
    verify(verifier, [data[8 + length :]], (scheme, name))
