"""What is checked of each structure that docs/vectors has, by the structure's name there."""

import agreements
import decisions
import ed25519
import formats
import registry
import sealed_histories
import vrf
from formats import HEADER, check
from jsonform import binary_of
from record import Record, read_slot, read_transaction
from verifier import (
    CONSISTENCY_PROOF_BYTES_MAX,
    HISTORY_PROOF_BYTES_MAX,
    RECEIPT_BYTES_MAX,
    VALIDATOR_CHAIN_BYTES_MAX,
    Verifier,
    read_certificate,
    verify_certificate,
)
from wire import SCHEMA

# Those that have a JSON form: their message, and the most bytes of the binary.
JSON_FORMS = {
    "receipt": ("Receipt", RECEIPT_BYTES_MAX),
    "history_proof": ("HistoryProof", HISTORY_PROOF_BYTES_MAX),
    "sealed_history_proof": ("SealedHistoryProof", sealed_histories.PROOF_BYTES_MAX),
    "consistency_proof": ("ConsistencyProof", CONSISTENCY_PROOF_BYTES_MAX),
    "validator_chain": ("ValidatorChain", VALIDATOR_CHAIN_BYTES_MAX),
}


def verify(structure, data, genesis, chain=b""):
    """Refuses what the structure's rules do not allow. `chain` is a validator chain, which is
    followed before where one is needed."""
    if structure.removesuffix("_json") in JSON_FORMS and structure.endswith("_json"):
        structure = structure.removesuffix("_json")
        message, binary_bytes_max = JSON_FORMS[structure]
        data = binary_of(message, data, binary_bytes_max)
    if structure in CHECKS:
        CHECKS[structure](data, genesis)
        return
    verifier = Verifier(genesis)
    verifier.follow(chain)
    VERIFIED[structure](verifier, data)


def check_signature(data, _):
    """A key, a signature, and the message."""
    ed25519.check_key(data[:32])
    ed25519.verify(data[:32], data[96:], data[32:96])


def check_certificate(data, genesis):
    verify_certificate(read_certificate(data), genesis.chain_id, genesis.validators)


def check_change(data, genesis):
    registry.Change(SCHEMA.canonical("RegistryChange", data)).verify(genesis.chain_id)


def check_agreement(data, genesis):
    agreements.Change(SCHEMA.canonical("AgreementChange", data)).verify(genesis.chain_id)


def verify_history_of(verifier, data):
    """The key that is asked for, and a proof."""
    check(len(data) >= 32, "HISTORY_SUBJECT_KEY", "not 32 bytes")
    verifier.verify_history(data[32:], data[:32])


CHECKS = {
    "agency_code": lambda data, _: formats.read_agency_code(data),
    "public_key": lambda data, _: ed25519.check_key(data),
    "signature": check_signature,
    "vrf_key": lambda data, _: vrf.check_key(data),
    "vrf_proof": lambda data, _: vrf.check_proof(data),
    "sealed_subject": lambda data, _: vrf.check_subject(data),
    "genesis": lambda data, _: registry.Genesis.from_bytes(data),
    "genesis_json": lambda data, _: registry.Genesis.from_json(data),
    "registry_entry": lambda data, _: registry.decode_entry(data),
    "registry_change": check_change,
    "agreement_change": check_agreement,
    "record": lambda data, _: Record(data),
    "slot": lambda data, _: read_slot(data),
    "transaction": lambda data, genesis: read_transaction(data, genesis.chain_id),
    "header": lambda data, _: HEADER.decode(data, "HEADER_MALFORMED"),
    "certificate": check_certificate,
    "decisions": lambda data, _: decisions.decode(data),
}

VERIFIED = {
    "final_header": lambda v, data: v.verify_final(data[: HEADER.size], data[HEADER.size :]),
    "validator_chain": lambda v, data: v.follow(data),
    "receipt": lambda v, data: v.verify_receipt(data),
    "history_proof": lambda v, data: v.verify_history(data),
    "history_proof_of": verify_history_of,
    "sealed_history_proof": lambda v, data: sealed_histories.verify(v, [data]),
    "sealed_history_proof_of": sealed_histories.verify_of,
    "sealed_history_pages": lambda v, data: sealed_histories.verify(
        v, sealed_histories.read_pages(data)
    ),
    "consistency_proof": lambda v, data: v.verify_consistency(data),
}
