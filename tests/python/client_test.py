"""A stock gRPC client: signs a transaction, submits it, waits for its receipt and verifies it.

Its code for the messages is generated from the published .proto files when it runs. It trusts the
genesis file and nothing that a node says.
"""

import argparse
import json
import os
import pathlib
import struct
import tempfile
import time

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import formats
from formats import TRANSACTION_HEADER, Refused
from record import Record, SALT_BYTES
from registry import Genesis
from stubs import generate, read_profile
from verifier import Verifier


def connect(profile, directory):
    read = lambda name: (directory / profile[name]).read_bytes()
    credentials = grpc.ssl_channel_credentials(read("ca"), read("key"), read("cert"))
    channel = grpc.secure_channel(profile["node"].removeprefix("https://"), credentials)
    grpc.channel_ready_future(channel).result(timeout=30)
    return channel


class Signer:
    """A key that the genesis registers for one submitter, in one role."""

    def __init__(self, pb, chain_id, key_file):
        file = json.loads(key_file.read_text())
        assert file["purpose"] == "submitter", file["purpose"]
        self.pb, self.chain_id, self.agency = pb, chain_id, file["agency"]
        self.key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(file["seed"]))
        self.public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        assert self.public.hex() == file["public_key"]

    def record(self, certificate_id, case, submitter):
        return self.pb.Record(
            salt=os.urandom(SALT_BYTES),
            agency=self.agency,
            submitter=submitter,
            submitter_role=self.pb.ROLE_BROKER,
            subjects=[self.pb.Subject(scheme=self.pb.Subject.CASE, id=case)],
            certificate=self.pb.Certificate(id=certificate_id),
        )

    def slot(self, record_bytes, case, submitter, client_key):
        agency, name = formats.agency_code(self.agency), submitter.encode()
        key = client_key.encode()
        dedupe = formats.tagged_hash("dedupe", agency, struct.pack(">I", len(name)), name, key)
        # A certificate is about its own id and what it states.
        subjects = (self.pb.Subject.CERTIFICATE, client_key), (self.pb.Subject.CASE, case)
        hashed = lambda scheme, name: formats.tagged_hash("subject", formats.u32(scheme), name)
        keys = (hashed(scheme, name.encode()) for scheme, name in subjects)
        return self.pb.Slot(
            record_id=Record(record_bytes).id,
            form=self.pb.Slot.OPEN,
            subject_keys=sorted(keys),
            dedupe_key=dedupe,
        )

    def transaction(self, certificates, case, submitter):
        """A signed transaction with one record a certificate."""
        records, slots = [], []
        for name in certificates:
            record = self.record(name, case, submitter).SerializeToString(deterministic=True)
            slot = self.slot(record, case, submitter, name)
            records.append(record)
            slots.append(slot.SerializeToString(deterministic=True))
        header = TRANSACTION_HEADER.encode(
            chain_id=self.chain_id,
            signer=self.public,
            agency=formats.agency_code(self.agency),
            not_after_ms=int(time.time() * 1000) + 10 * 60 * 1000,
            slot_count=len(slots),
            records_root=formats.tree_root(slots),
        )
        signature = self.key.sign(formats.tag("transaction-signature") + header)
        return self.pb.Transaction(header=header, signature=signature, slots=slots, records=records)


def expect_refused(verify, what):
    try:
        verify()
    except Refused as refused:
        assert str(refused), what
        return
    raise AssertionError(f"{what}: not refused")


def submit(pb, services, channel, signer):
    """Submits three records in one transaction, and gives each record's receipt."""
    submission = services.SubmissionStub(channel)
    transaction = signer.transaction(["PYTHON-1", "PYTHON-2", "PYTHON-3"], "PYTHON", "broker")
    expected = formats.tagged_hash("transaction", transaction.header)

    forged = pb.Transaction()
    forged.CopyFrom(transaction)
    forged.signature = bytes([forged.signature[0] ^ 1]) + forged.signature[1:]
    try:
        answer = submission.SubmitTransaction(pb.SubmitTransactionRequest(transaction=forged))
        raise AssertionError(f"a forged signature was taken: {answer}")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error

    request = pb.SubmitTransactionRequest(transaction=transaction)
    answer = submission.SubmitTransaction(request, timeout=60)
    assert answer.transaction_id == expected, answer
    assert answer.phase in (pb.ACCEPTED, pb.FINAL), answer
    receipts = []
    for record in transaction.records:
        record_id = Record(record).id
        request = pb.WaitReceiptRequest(record_id=record_id, timeout_ms=30_000, with_record=True)
        answer = submission.WaitReceipt(request, timeout=60)
        assert answer.phase == pb.FINAL, answer
        assert answer.receipt.record == record
        receipts.append((record_id, answer.receipt.SerializeToString(deterministic=True)))
        print("record", record_id.hex())
    request = pb.SubmitTransactionRequest(transaction=transaction, wait=True)
    again = submission.SubmitTransaction(request, timeout=60)
    assert (again.transaction_id, again.phase) == (expected, pb.FINAL), again
    return receipts


def check_receipt(verifier, signer, record_id, receipt):
    header, transaction, slot, record = verifier.verify_receipt(receipt)
    assert slot["record_id"] == record.id == record_id
    assert transaction["signer"] == signer.public
    assert header["time_ms"] <= transaction["not_after_ms"]
    print("receipt verified at height", header["height"])
    for at in range(len(receipt)):
        damaged = bytearray(receipt)
        damaged[at] ^= 1 << at % 8
        expect_refused(lambda: verifier.verify_receipt(bytes(damaged)), f"byte {at} flipped")
        expect_refused(lambda: verifier.verify_receipt(receipt[:at]), f"cut at {at}")
    print("flipped bytes refused:", len(receipt))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protos", type=pathlib.Path, required=True)
    parser.add_argument("--profile", type=pathlib.Path, required=True)
    parser.add_argument("--genesis", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="customhouse-proto-") as out:
        pb, services = generate(arguments.protos, out)
    genesis = arguments.genesis.read_bytes()
    verifier = Verifier(Genesis.from_json(genesis))
    profile = read_profile(arguments.profile)
    signer = Signer(pb, verifier.chain_id, arguments.profile / profile["submitter_key"])
    channel = connect(profile, arguments.profile)
    receipts = submit(pb, services, channel, signer)
    for record_id, receipt in receipts:
        check_receipt(verifier, signer, record_id, receipt)
    other = json.dumps({**json.loads(genesis), "network": "another"}).encode()
    other = Verifier(Genesis.from_json(other))
    expect_refused(lambda: other.verify_receipt(receipts[0][1]), "another chain's genesis")
    print("another chain's genesis refused")


if __name__ == "__main__":
    main()
