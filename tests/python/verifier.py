"""Verifies headers, receipts and proofs with the genesis alone (docs/FORMATS.md)."""

import copy

import authority
import ed25519
import formats
from formats import CERTIFICATE_HEAD, FINALIZE, HEADER, HISTORY_ENTRY, NULLIFY, Refused, check
import outcomes
import record as records
import registry
from registry import VALIDATORS_MAX, Validators
from wire import BYTES, SCHEMA, Malformed, Reader, varint

# A record, its proof, and the steps of the validator chain that it may have in it.
RECEIPT_BYTES_MAX = 4_456_448 + 1_048_576
HISTORY_PROOF_BYTES_MAX = 50_331_648
CONSISTENCY_PROOF_BYTES_MAX = 65_536
STEP_BYTES_MAX = 65_536
VALIDATOR_CHAIN_BYTES_MAX = 67_108_864


def read_certificate(data, code="CERTIFICATE_MALFORMED"):
    """A certificate's layout: its head, bitmap, and signatures. It means nothing yet."""
    size = CERTIFICATE_HEAD.size
    head = CERTIFICATE_HEAD.decode(data[:size], code)
    check(1 <= head["kind"] <= FINALIZE, code, "of no known kind")
    length = head["bitmap_length"]
    check(length <= VALIDATORS_MAX // 8, code, "a bitmap for more than 256 validators")
    bitmap, signatures = data[size : size + length], data[size + length :]
    check(len(bitmap) == length, code, "the bytes end inside the bitmap")
    bits = [byte >> shift & 1 for byte in bitmap for shift in range(7, -1, -1)]
    signers = [index for index, bit in enumerate(bits) if bit]
    check(len(signatures) == 64 * len(signers), code, "not a signature for every bit")
    signatures = [signatures[at : at + 64] for at in range(0, len(signatures), 64)]
    return {**head, "signers": signers, "signatures": signatures}


def verify_certificate(certificate, chain_id, validators):
    """That a quorum of these validators signed it on this chain."""
    code, count = "CERTIFICATE_INVALID", len(validators.pairs)
    kind, block, signers = (certificate[name] for name in ("kind", "block_hash", "signers"))
    check((kind == NULLIFY) == (block == formats.ZERO), code, "a block hash that does not fit")
    check(certificate["bitmap_length"] == (count + 7) // 8, code, "bitmap: of another length")
    check(not signers or signers[-1] < count, code, "bitmap: a validator that does not exist")
    check(len(signers) >= validators.quorum, code, "no quorum")
    height, view = certificate["height"], certificate["view"]
    message = formats.vote_message(chain_id, kind, height, view, block)
    for index, signature in zip(signers, certificate["signatures"]):
        ed25519.verify(validators.pairs[index][1], message, signature, code, f"validator {index}")


def read_path(data, code):
    check(len(data) % 32 == 0, code, "not whole hashes")
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def verify_inclusion(leaf, index, size, path, root, code):
    try:
        found = formats.root_from_inclusion(leaf, index, size, path)
    except formats.PathLength:
        raise Refused(code, "beyond the tree, or a path too long or too short") from None
    check(found == root, code, "the path leads to another root")


class Verifier:
    """Trusts a genesis and nothing else."""

    def __init__(self, genesis):
        self.chain_id, self.history_bits = genesis.chain_id, genesis.history_bits
        self.genesis_header = genesis.header()
        # Validators by the first height that they decide, ascending.
        self.sets = [(1, genesis.validators)]
        # Hashes of the blocks that announced them, by the same heights.
        self.announced = {}

    def validators_at(self, height):
        known = [validators for begins, validators in self.sets if begins <= height]
        return known[-1] if known else self.sets[0][1]

    # -------------------------------------------------------------- final headers

    def verify_final(self, header_bytes, certificate_bytes):
        """A header, where a quorum of the validators of its height finalized it."""
        header = HEADER.decode(header_bytes, "HEADER_MALFORMED")
        if header["height"] == 0:
            own = not certificate_bytes and header_bytes == self.genesis_header
            check(own, "HEADER_NOT_GENESIS", "at height 0, and not the genesis's header")
            return header
        certificate = read_certificate(certificate_bytes)
        self.verify_finalization(header, header_bytes, certificate)
        return header

    def verify_finalization(self, header, header_bytes, certificate):
        height = header["height"]
        check(header["version"] == 1, "HEADER_VERSION", "of unknown rules")
        check(header["chain_id"] == self.chain_id, "WRONG_CHAIN", "header: of another chain")
        check(certificate["kind"] == FINALIZE, "CERTIFICATE_KIND", "no finalization")
        check(certificate["height"] == height, "CERTIFICATE_HEIGHT", "of another height")
        same = certificate["block_hash"] == formats.block_hash(header_bytes)
        check(same, "CERTIFICATE_BLOCK_HASH", "of another block")
        validators = self.validators_at(height)
        if header["validators_hash"] != validators.hash():
            newest = height >= self.sets[-1][0]
            code = "VALIDATOR_STEP_MISSING" if newest else "HEADER_VALIDATORS"
            raise Refused(code, f"others than the known validators decided height {height}")
        verify_certificate(certificate, self.chain_id, validators)

    # -------------------------------------------------------------- the validator chain

    def follow(self, chain):
        """Takes the steps of a validator chain, ascending, as far as they are right."""
        reader, code, least = Reader(chain), "STEP_MALFORMED", 0
        while reader.left():
            try:
                at, key, length = reader.at, reader.key(), reader.varint()
                minimal = chain[at : reader.at] == varint(1 << 3 | BYTES) + varint(length)
                check(key == (1, BYTES) and minimal, code, "not in its one encoding")
                check(length <= STEP_BYTES_MAX, code, "a step of more than 65,536 bytes")
                least = self.take_step(reader.take(length), least)
            except Malformed:
                raise Refused(code, "not a chain of steps") from None

    def take_step(self, data, least):
        """Takes a step that must not be below a height, or compares it with what is known of its
        height. Gives the least height of the next."""
        step = read_step(data)
        height, begins = step[1]["height"], self.sets[-1][0]
        check(least <= height, "STEP_ORDER", f"height {height} after {least}")
        (self.compare_step if height < begins else self.follow_step)(step)
        return height + 1

    def follow_step(self, step):
        header_bytes, header, certificate, validators = step
        height, begins = header["height"], self.sets[-1][0]
        check(height < 2**64 - 1, "STEP_ORDER", f"height {height} after {begins}")
        self.verify_finalization(header, header_bytes, certificate)
        announced = header["next_validators_hash"]
        changed = announced != header["validators_hash"]
        same = changed and announced == validators.hash()
        check(same, "STEP_VALIDATORS", "its header does not announce these validators")
        self.sets.append((height + 1, validators))
        self.announced[height + 1] = formats.block_hash(header_bytes)

    def compare_step(self, step):
        """One that is certified, and is another than the one known or stands where none is known,
        proves a fork."""
        header_bytes, header, certificate, validators = step
        height = header["height"]
        announced = header["next_validators_hash"]
        changed = announced != header["validators_hash"]
        try:
            self.verify_finalization(header, header_bytes, certificate)
        except Refused:
            changed = False
        right = changed and height > 0 and announced == validators.hash()
        check(right, "STEP_ORDER", f"height {height}: known, and not a step")
        same = self.announced.get(height + 1) == formats.block_hash(header_bytes)
        check(same, "STEP_FORK", f"height {height}: not what is known of it")

    def following(self, steps):
        """This verifier, having followed the steps that a receipt has in it."""
        verifier, least = copy.copy(self), 0
        verifier.sets, verifier.announced = list(self.sets), dict(self.announced)
        for step in steps:
            least = verifier.take_step(SCHEMA.encode("ValidatorStep", step), least)
        return verifier

    # -------------------------------------------------------------- receipts

    def verify_receipt(self, data):
        """What a receipt proves: (header, transaction header, slot, record or None)."""
        check(len(data) <= RECEIPT_BYTES_MAX, "RECEIPT_TOO_LARGE", f"{len(data)} bytes")
        receipt = SCHEMA.canonical("Receipt", data, "RECEIPT_")
        by = self.following(receipt["steps"]) if receipt["steps"] else self
        header = by.verify_final(receipt["header"], receipt["certificate"])
        transaction = self.verify_transaction(receipt, header)
        slot = self.verify_slot(receipt, transaction)
        self.verify_outcome(receipt, transaction, header)
        record = None
        if receipt["record"]:
            record = records.Record(receipt["record"])
            records.check_carried(record, slot, transaction)
        key = self.verify_signer(receipt, transaction, header)
        if not records.is_open(slot):
            authority.check_signer_of_slot(key)
        elif record:
            authority.check_signer(key, record)
        return header, transaction, slot, record

    def verify_transaction(self, receipt, header):
        data, signature = receipt["transaction_header"], receipt["transaction_signature"]
        transaction = records.read_transaction_header(data, self.chain_id)
        records.verify_transaction_header(transaction, data, signature)
        index, path = receipt["log_index"], receipt["log_path"]
        in_block = header["log_start"] <= index < header["log_size"]
        check(in_block, "RECEIPT_LOG_INDEX", "not in the header's block")
        path = read_path(path, "RECEIPT_PATH_MALFORMED")
        leaf, size = formats.leaf_hash(data + signature), header["log_size"]
        verify_inclusion(leaf, index, size, path, header["log_root"], "RECEIPT_LOG_PATH")
        return transaction

    @staticmethod
    def verify_slot(receipt, transaction):
        slot, path = records.read_slot(receipt["slot"]), receipt["slot_path"]
        path = read_path(path, "RECEIPT_PATH_MALFORMED")
        leaf, count = formats.leaf_hash(receipt["slot"]), transaction["slot_count"]
        index, root = receipt["slot_index"], transaction["records_root"]
        verify_inclusion(leaf, index, count, path, root, "RECEIPT_SLOT_PATH")
        return slot

    @staticmethod
    def verify_outcome(receipt, transaction, header):
        """That the slot counted: it is not a repeat, and was not refused."""
        code, malformed = "RECEIPT_OUTCOME", "RECEIPT_PATH_MALFORMED"
        leaf, index = formats.leaf_hash(outcomes.APPLIED), receipt["slot_index"]
        path = read_path(receipt["outcome_path"], malformed)
        try:
            root = formats.root_from_inclusion(leaf, index, transaction["slot_count"], path)
        except formats.PathLength:
            raise Refused(code, "too long or too short") from None
        start = header["log_start"]
        index, count = receipt["log_index"] - start, header["log_size"] - start
        path = read_path(receipt["outcomes_path"], malformed)
        verify_inclusion(formats.leaf_hash(root), index, count, path, header["outcomes_root"], code)

    @staticmethod
    def verify_signer(receipt, transaction, header):
        try:
            entry = registry.decode_entry(receipt["registry_entry"])
        except Refused as refused:
            raise Refused("REGISTRY_ENTRY_MALFORMED", str(refused)) from refused
        key = entry["signing_key"]
        own = key is not None and key["public_key"] == transaction["signer"]
        check(own, "REGISTRY_SIGNER", "does not register the key that signed")
        same = formats.agency_code(key["agency"]) == transaction["agency"]
        check(same, "REGISTRY_AGENCY", "registers the key for another agency")
        counts = registry.counts_at(entry, header["height"])
        check(counts, "REGISTRY_PERIOD", "does not count at the header's height")
        index, count, path = (receipt[f"registry_{part}"] for part in ("index", "count", "path"))
        path = read_path(path, "RECEIPT_PATH_MALFORMED")
        leaf = formats.leaf_hash(receipt["registry_entry"])
        try:
            tree_root = formats.root_from_inclusion(leaf, index, count, path)
        except formats.PathLength:
            raise Refused("REGISTRY_PATH", "too long or too short") from None
        agreements = receipt["agreements_root"]
        check(len(agreements) == 32, "REGISTRY_PATH", "agreements_root: not 32 bytes")
        root = registry.root(registry.members_root(count, tree_root), agreements)
        check(root == header["registry_root"], "REGISTRY_PATH", "leads to another registry root")
        return key

    # -------------------------------------------------------------- history proofs

    def verify_history(self, data, subject_key=None):
        """What a history proof proves: (header, subject key, its entries). Without entries there is
        no record about the subject."""
        check(len(data) <= HISTORY_PROOF_BYTES_MAX, "HISTORY_PROOF_TOO_LARGE", f"{len(data)} bytes")
        proof = SCHEMA.canonical("HistoryProof", data, "HISTORY_PROOF_")
        key, path = proof["subject_key"], proof["path"]
        check(len(key) == 32, "HISTORY_SUBJECT_KEY", "not 32 bytes")
        path = read_path(path, "HISTORY_PATH_MALFORMED")
        header = self.verify_final(proof["header"], proof["certificate"])
        bucket = self.bucket_of(key)
        entries = self.bucket_entries(proof["bucket_entries"], bucket, header["history_size"])
        head = formats.ZERO
        for entry in entries:
            head = formats.tagged_hash("history", head, HISTORY_ENTRY.encode(**entry))
        leaf, root = formats.leaf_hash(head), header["history_root"]
        verify_inclusion(leaf, bucket, 1 << self.history_bits, path, root, "HISTORY_ROOT")
        asked = subject_key is None or subject_key == key
        check(asked, "HISTORY_OTHER_SUBJECT", "a proof about another subject")
        return header, key, [entry for entry in entries if entry["key"] == key]

    def bucket_of(self, key):
        return int.from_bytes(key[:4], "big") >> (32 - self.history_bits)

    def bucket_entries(self, data, bucket, history_size):
        size = HISTORY_ENTRY.size
        parts = (data[at : at + size] for at in range(0, len(data), size))
        entries = [HISTORY_ENTRY.decode(part, "HISTORY_ENTRIES_MALFORMED") for part in parts]
        before = None
        for entry in entries:
            place = entry["log_index"], entry["position"], entry["key"]
            own = self.bucket_of(entry["key"]) == bucket
            check(own, "HISTORY_OTHER_BUCKET", "an entry of another bucket")
            check(before is None or before < place, "HISTORY_ORDER", "not in block order")
            within = entry["log_index"] < history_size
            check(within, "HISTORY_BEYOND_HEADER", "an entry beyond the header's history")
            before = place
        return entries

    # -------------------------------------------------------------- consistency proofs

    def verify_consistency(self, data):
        """The two headers; the log of the first is a prefix of the second's."""
        size = f"{len(data)} bytes"
        check(len(data) <= CONSISTENCY_PROOF_BYTES_MAX, "CONSISTENCY_PROOF_TOO_LARGE", size)
        proof = SCHEMA.canonical("ConsistencyProof", data, "CONSISTENCY_PROOF_")
        older = self.verify_final(proof["from_header"], proof["from_certificate"])
        newer = self.verify_final(proof["to_header"], proof["to_certificate"])
        ascending = older["height"] <= newer["height"]
        check(ascending, "CONSISTENCY_HEIGHTS", "from_header is above to_header")
        one = older["height"] < newer["height"] or older == newer
        check(one, "CONSISTENCY_FORK", "two final blocks of one height")
        grown = older["log_size"] <= newer["log_size"]
        check(grown, "CONSISTENCY_LOG_SIZES", "the newer log is smaller")
        path = read_path(proof["path"], "CONSISTENCY_PATH_MALFORMED")
        old_root, new_root = consistent_roots(older, newer, path)
        check(old_root == older["log_root"], "CONSISTENCY_FROM_ROOT", "leads to another old root")
        check(new_root == newer["log_root"], "CONSISTENCY_TO_ROOT", "leads to another new root")
        return older, newer


def consistent_roots(older, newer, path):
    """The roots that the two headers must have, by the path between their logs."""
    old_size, new_size, old_root = older["log_size"], newer["log_size"], older["log_root"]
    if 0 < old_size < new_size:
        try:
            return formats.roots_from_consistency(old_size, new_size, old_root, path)
        except formats.PathLength:
            raise Refused("CONSISTENCY_PATH_LENGTH", "too long or too short") from None
    check(not path, "CONSISTENCY_PATH_LENGTH", "there is none between these sizes")
    if old_size == new_size:
        return (formats.tree_root([]) if old_size == 0 else old_root), old_root
    # The empty log is a prefix of every log.
    return formats.tree_root([]), newer["log_root"]


def read_step(data):
    """A step's header, certificate and validators."""
    code = "STEP_MALFORMED"
    try:
        step = SCHEMA.canonical("ValidatorStep", data)
        header = HEADER.decode(step["header"], code)
        certificate = read_certificate(step["certificate"], code)
        pairs = [(entry["agency"], entry["public_key"]) for entry in step["validators"]]
        named = all(formats.is_agency_code(agency) for agency, _ in pairs)
        check(named and all(ed25519.is_key(key) for _, key in pairs), code, "no validators")
        check(pairs == sorted(pairs), code, "validators: not ascending")
        validators = Validators(pairs, min(header["height"] + 1, 2**64 - 1))
    except Refused as refused:
        raise Refused(code, str(refused)) from refused
    return step["header"], header, certificate, validators
