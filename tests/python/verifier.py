"""Verifies receipts with the genesis alone (docs/FORMATS.md, "Receipt")."""

import struct

import formats
from formats import FINALIZE, HEADER, TRANSACTION_HEADER, Refused, check

# Field numbers of the entry kinds: the registry's first sort key.
KINDS = {"agency": 8, "validator": 9, "peer": 10, "signing_key": 11, "parameter": 12}


def registry_key(entry):
    """What the registry is sorted by."""
    kind = entry.WhichOneof("entry")
    value = getattr(entry, kind)
    if kind == "parameter":
        return (KINDS[kind], value.name.encode())
    public_key = value.public_key if kind != "agency" else b""
    return (KINDS[kind], formats.agency_code(value.agency) + public_key)


def genesis_message(pb, genesis):
    """The canonical protobuf of a genesis from its JSON form."""
    entries = []

    def add(kind, **fields):
        entries.append(pb.RegistryEntry(**{kind: fields}))

    for agency in genesis["agencies"]:
        code = agency["agency"]
        add("agency", agency=code, name=agency["name"], country=agency["country"])
        for key in agency["validators"]:
            add("validator", agency=code, public_key=bytes.fromhex(key))
        for key in agency["peers"]:
            add("peer", agency=code, public_key=bytes.fromhex(key))
        for key in agency["signing_keys"]:
            role = pb.SigningKeyEntry.Role.Value(key["role"].upper())
            public_key = bytes.fromhex(key["public_key"])
            label = key.get("label", "")
            add("signing_key", agency=code, public_key=public_key, role=role, label=label)
    for name, value in genesis.get("parameters", {}).items():
        add("parameter", name=name, value=value)
    return pb.Genesis(
        network=genesis["network"],
        time_ms=genesis["time_ms"],
        history_bits=genesis["history_bits"],
        entries=sorted(entries, key=registry_key),
    )


class Verifier:
    """Trusts a genesis and nothing else."""

    def __init__(self, pb, genesis):
        self.pb = pb
        message = genesis_message(pb, genesis)
        self.chain_id = formats.tagged_hash("genesis", message.SerializeToString(deterministic=True))
        agencies = sorted(genesis["agencies"], key=lambda agency: agency["agency"])
        self.validators = [
            (formats.agency_code(agency["agency"]), bytes.fromhex(key))
            for agency in agencies
            for key in agency["validators"]
        ]
        self.quorum = len(self.validators) - (len(self.validators) - 1) // 3

    def validators_hash(self):
        count = struct.pack(">I", len(self.validators))
        return formats.tagged_hash("validators", count, *(a + k for a, k in self.validators))

    def verify_final(self, header_bytes, certificate):
        """A header, where a quorum finalized it."""
        header = HEADER.decode(header_bytes)
        check(header["version"] == 1, "header: version")
        check(header["chain_id"] == self.chain_id, "header: of another chain")
        check(header["height"] > 0, "header: no record is in the genesis")
        check(header["validators_hash"] == self.validators_hash(), "header: other validators")
        block_hash = formats.tagged_hash("header", header_bytes)
        self.verify_certificate(certificate, header["height"], block_hash)
        return header

    def verify_certificate(self, data, height, block_hash):
        size = formats.CERTIFICATE_HEAD.struct.size
        head = formats.CERTIFICATE_HEAD.decode(data[:size])
        check(head["kind"] == FINALIZE, "certificate: no finalization")
        check(head["height"] == height, "certificate: of another height")
        check(head["block_hash"] == block_hash, "certificate: of another block")
        check(head["bitmap_length"] == (len(self.validators) + 7) // 8, "certificate: bitmap")
        bitmap, signatures = data[size:][: head["bitmap_length"]], data[size + head["bitmap_length"] :]
        check(len(bitmap) == head["bitmap_length"], "certificate: bitmap")
        bits = [byte >> shift & 1 for byte in bitmap for shift in range(7, -1, -1)]
        check(not any(bits[len(self.validators) :]), "certificate: bits beyond the validators")
        signers = [index for index, bit in enumerate(bits) if bit]
        check(len(signers) >= self.quorum, "certificate: no quorum")
        check(len(signatures) == 64 * len(signers), "certificate: number of signatures")
        message = formats.vote_message(self.chain_id, FINALIZE, height, head["view"], block_hash)
        for place, index in enumerate(signers):
            signature = signatures[64 * place : 64 * place + 64]
            formats.verify_signature(self.validators[index][1], message, signature, "certificate")

    def verify_receipt(self, data):
        """What a receipt proves: (header, transaction header, slot)."""
        receipt = formats.canonical(self.pb.Receipt, data, "receipt")
        header = self.verify_final(receipt.header, receipt.certificate)
        transaction = self.verify_transaction(receipt, header)
        slot = self.verify_slot(receipt, transaction)
        self.verify_signer(receipt, transaction, header)
        return header, transaction, slot

    def verify_transaction(self, receipt, header):
        transaction = TRANSACTION_HEADER.decode(receipt.transaction_header)
        check(transaction["chain_id"] == self.chain_id, "transaction: of another chain")
        message = formats.tag("transaction-signature") + receipt.transaction_header
        signature = receipt.transaction_signature
        formats.verify_signature(transaction["signer"], message, signature, "transaction")
        in_block = header["log_start"] <= receipt.log_index < header["log_size"]
        check(in_block, "log index: not in the block")
        leaf = formats.leaf_hash(receipt.transaction_header + signature)
        root = formats.root_from_path(
            leaf, receipt.log_index, header["log_size"], receipt.log_path, "log path"
        )
        check(root == header["log_root"], "log path: another root")
        return transaction

    def verify_slot(self, receipt, transaction):
        slot = formats.canonical(self.pb.Slot, receipt.slot, "slot")
        check(len(slot.record_id) == 32 and len(slot.dedupe_key) == 32, "slot: lengths")
        check(slot.form == self.pb.Slot.OPEN and not slot.agreement, "slot: form")
        keys = list(slot.subject_keys)
        check(all(len(key) == 32 for key in keys), "slot: subject keys")
        check(keys == sorted(set(keys)), "slot: subject keys not ascending")
        leaf = formats.leaf_hash(receipt.slot)
        root = formats.root_from_path(
            leaf, receipt.slot_index, transaction["slot_count"], receipt.slot_path, "slot path"
        )
        check(root == transaction["records_root"], "slot path: another root")
        if receipt.record:
            record = formats.canonical(self.pb.Record, receipt.record, "record")
            record_id = formats.tagged_hash("record", receipt.record)
            check(record_id == slot.record_id, "record: another id")
            check(formats.agency_code(record.agency) == transaction["agency"], "record: agency")
        return slot

    def verify_signer(self, receipt, transaction, header):
        entry = formats.canonical(self.pb.RegistryEntry, receipt.registry_entry, "registry entry")
        check(entry.WhichOneof("entry") == "signing_key", "registry entry: no signing key")
        key, height = entry.signing_key, header["height"]
        check(key.public_key == transaction["signer"], "registry entry: another signer")
        check(formats.agency_code(key.agency) == transaction["agency"], "registry entry: agency")
        counts = entry.from_height <= height and (not entry.end_height or height < entry.end_height)
        check(counts, "registry entry: does not count at this height")
        tree = formats.root_from_path(
            formats.leaf_hash(receipt.registry_entry),
            receipt.registry_index,
            receipt.registry_count,
            receipt.registry_path,
            "registry path",
        )
        root = formats.tagged_hash("registry", struct.pack(">Q", receipt.registry_count), tree)
        check(root == header["registry_root"], "registry path: another root")


__all__ = ["Refused", "Verifier", "genesis_message"]
