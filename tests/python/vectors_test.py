"""Every published vector, checked by code that was written from docs/FORMATS.md alone.

Without arguments: all files of docs/vectors, every flipped bit of a receipt, and the published edge
cases of Ed25519 and examples of RFC 9381 where they are at hand. With `--outcomes FILE`: of each line of the file, JSON
as the cases of the vectors are, the code of the refusal is printed, or `-`.
"""

import argparse
import json
import pathlib
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import agreements
import attachment
import authority
import decisions
import ed25519
import field_tree
import formats
import outcomes
import record
import registry
import sealed_histories
import structures
import verifier
import vrf
from formats import Refused
from wire import SCHEMA

ROOT = pathlib.Path(__file__).resolve().parents[2]
VECTORS = ROOT / "docs" / "vectors"
EDGE_CASES = ROOT.parent / "shared" / "vectors" / "ed25519-cctv" / "ed25519vectors.json"
OUTPUTS = ROOT.parent / "shared" / "vectors" / "ecvrf" / "rfc9381-b3.json"
# What a signature may be made of and still be accepted by every implementation.
HARMLESS = {"low_order_component_A", "low_order_component_R"}
NONE = "-"


def load(name):
    return json.loads((VECTORS / f"{name}.json").read_text())


def equal(found, expected, what):
    assert found == expected, f"{what}: {found!r} where {expected!r} is stated"


def code_of(check, *arguments):
    try:
        check(*arguments)
    except Refused as refused:
        return refused.code
    return NONE


def data_of(case):
    if "bytes" in case:
        repeated = bytes.fromhex(case.get("repeated", "")) * case.get("times", 0)
        return bytes.fromhex(case["bytes"]) + repeated
    return bytes(case["zeros"]) if "zeros" in case else case["text"].encode()


def outcome(case, genesis):
    chain = bytes.fromhex(case.get("validator_chain", ""))
    return code_of(structures.verify, case["structure"], data_of(case), genesis, chain)


def check_cases(genesis):
    """The lists `valid` and `refused` of all files."""
    count = 0
    for file in sorted(VECTORS.glob("*.json")):
        vectors = json.loads(file.read_text())
        lists = vectors if isinstance(vectors, dict) else {}
        for case in lists.get("valid", []) + lists.get("refused", []):
            what = f"{file.name}: {case['structure']}: {case.get('name') or case['change']}"
            equal(outcome(case, genesis), case.get("code", NONE), what)
            count += 1
    print("cases agree:", count)


# ------------------------------------------------------------------ what is said beside the cases


def check_hashes():
    for vector in load("tags"):
        tag = vector["tag"].removeprefix("customhouse/v1/").removesuffix("\0")
        found = formats.tagged_hash(tag, bytes.fromhex(vector["input"]))
        equal(found.hex(), vector["hash"], vector["tag"])
    vectors = load("merkle")
    leaves = [bytes.fromhex(leaf) for leaf in vectors["leaves"]]
    hashes = [formats.leaf_hash(leaf) for leaf in leaves]
    equal([h.hex() for h in hashes], vectors["leaf_hashes"], "leaf hashes")
    for tree in vectors["trees"]:
        root = formats.tree_root(leaves[: tree["size"]])
        equal(root.hex(), tree["root"], "root")
        for index, path in enumerate(tree["inclusion_paths"]):
            path = [bytes.fromhex(element) for element in path]
            found = formats.root_from_inclusion(hashes[index], index, tree["size"], path)
            equal(found, root, "inclusion")
    for vector in vectors["consistency"]:
        old, new = vector["from"], vector["to"]
        if old < new:
            path = [bytes.fromhex(element) for element in vector["path"]]
            roots = formats.tree_root(leaves[:old]), formats.tree_root(leaves[:new])
            equal(formats.roots_from_consistency(old, new, roots[0], path), roots, "consistency")


def check_history():
    vectors = load("history")
    for vector in vectors["empty_roots"]:
        node = formats.leaf_hash(formats.ZERO)
        for _ in range(vector["bits"]):
            node = formats.node_hash(node, node)
        equal(node.hex(), vector["root"], "empty root")
    entries = [bytes.fromhex(entry["layout"]) for entry in vectors["entries"]]
    for vector in vectors["buckets"]:
        head = formats.ZERO
        for entry in entries:
            if entry[0] == vector["bucket"]:
                head = formats.tagged_hash("history", head, entry)
        equal(head.hex(), vector["head"], "head")
        path = [bytes.fromhex(element) for element in vector["path"]]
        leaf = formats.leaf_hash(head)
        root = formats.root_from_inclusion(leaf, vector["bucket"], 1 << vectors["bits"], path)
        equal(root.hex(), vectors["root"], "history root")


def check_attachments():
    content = lambda size: bytes((i // 7 + i // 65_536) % 251 for i in range(size))
    vectors = load("attachment")
    for vector in vectors["files"]:
        found = attachment.root_of(content(vector["size"])).hex()
        equal(found, vector["root"], f"root of {vector['size']} bytes")
    shown = vectors["shown"]
    root, data = bytes.fromhex(shown["root"]), content(shown["size"])
    equal(attachment.pieces_of(len(data)), len(shown["pieces"]), "pieces")
    verify = lambda size, vector, piece: code_of(
        attachment.verify_piece, root, size, vector["index"], piece,
        [bytes.fromhex(element) for element in vector["path"]],
    )
    for vector in shown["pieces"]:
        piece = data[vector["index"] * 65_536 :][:65_536]
        equal(len(piece), vector["bytes"], "bytes of a piece")
        equal(verify(len(data), vector, piece), NONE, f"piece {vector['index']}")
    for vector in shown["refused_pieces"]:
        piece = bytearray(data[vector["of"] * 65_536 :][: vector["length"]])
        if vector["flip"] is not None:
            piece[vector["flip"]] ^= 1
        equal(verify(vector["size"], vector, bytes(piece)), vector["code"], vector["change"])


def check_keys():
    for vector in load("keys")["keys"]:
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["seed"]))
        public = key.public_key().public_bytes_raw()
        equal(public.hex(), vector["public_key"], "public key")
        signature = key.sign(bytes.fromhex(vector["message"]))
        equal(signature.hex(), vector["signature"], "signature")


def check_genesis():
    vector = load("genesis")
    binary = registry.Genesis.from_bytes(bytes.fromhex(vector["protobuf"]))
    from_json = registry.Genesis.from_json(json.dumps(vector["json"]).encode())
    for genesis in (binary, from_json):
        equal(genesis.encoded.hex(), vector["protobuf"], "protobuf")
        equal(genesis.chain_id.hex(), vector["chain_id"], "chain id")
        entries = [registry.encode_entry(entry).hex() for entry in genesis.entries]
        equal(entries, vector["registry_entries"], "entries")
        equal(genesis.members_root().hex(), vector["members_root"], "members root")
        none = agreements.Agreements().root()
        equal(none.hex(), vector["agreements_root"], "agreements root")
        equal(genesis.registry_root().hex(), vector["registry_root"], "registry root")
        equal(genesis.validators.hash().hex(), vector["validators_hash"], "validators hash")
        equal(genesis.header().hex(), vector["header"], "header")
    return binary


def check_records(genesis):
    vector = load("record")
    read = record.Record(bytes.fromhex(vector["record"]))
    equal(read.id.hex(), vector["record_id"], "record id")
    stated = [(subject["scheme"], subject["id"]) for subject in vector["subjects"]]
    equal(read.subjects, stated, "subjects")
    for subject in vector["subjects"]:
        found = record.subject_key(subject["scheme"], subject["id"])
        equal(found.hex(), subject["key"], "subject key")
    submitter = vector["submitter"].encode()
    parts = formats.agency_code(vector["agency"]), formats.u32(len(submitter)), submitter
    found = formats.tagged_hash("dedupe", *parts, vector["client_key"].encode())
    equal(found.hex(), vector["dedupe_key"], "dedupe key")
    for described in (vector, vector["with_inner_messages"]):
        check_leaves(described)
    for vector in vector["of_each_kind"]:
        read = record.Record(bytes.fromhex(vector["record"]))
        equal(read.id.hex(), vector["record_id"], vector["kind"])
        keys = [key.hex() for key in read.subject_keys]
        equal(keys, vector["subject_keys"], vector["kind"])
    vector = load("transaction")
    encoded = bytes.fromhex(vector["header"])
    header, _ = record.read_transaction(bytes.fromhex(vector["transaction"]), genesis.chain_id)
    equal(formats.tagged_hash("transaction", encoded).hex(), vector["transaction_id"], "id")
    equal(header["records_root"].hex(), vector["fields"]["records_root"], "records root")
    leaf = encoded + bytes.fromhex(vector["signature"])
    equal(formats.leaf_hash(leaf).hex(), vector["leaf_hash"], "leaf hash")
    for slot in vector["slots_of_an_epoch"]:
        read = record.read_slot(bytes.fromhex(slot["slot"]))
        for field in ("form", "epoch"):
            equal(read[field], slot[field], field)
        for field in ("record_id", "agreement", "dedupe_key"):
            equal(read[field].hex(), slot[field], field)
        keys = record.index_keys(read, formats.agency_code(slot["agency"]))
        equal([key.hex() for key in keys], slot["index_keys"], "index keys")


def check_leaves(described):
    """The leaves under a record's id, each with its salt and hash."""
    decoded = SCHEMA.canonical("Record", bytes.fromhex(described["record"]))
    leaves = list(field_tree.leaves("Record", decoded))
    equal(len(leaves), len(described["leaves"]), "leaves")
    for (path, kind, value), stated in zip(leaves, described["leaves"]):
        found = {
            "path": path.hex(),
            "type": kind,
            "value": value.hex(),
            "salt": field_tree.salt_of(decoded["salt"], path).hex(),
            "hash": field_tree.hash_of(decoded["salt"], path, kind, value).hex(),
        }
        equal(found, stated, "leaf")
    equal(field_tree.record_id(decoded).hex(), described["record_id"], "record id")


def check_agreements(genesis):
    """Ids, approvals and dedupe keys, and what becomes of the agreements change by change."""
    vectors = load("agreement")
    read = lambda data: agreements.Change(SCHEMA.canonical("AgreementChange", bytes.fromhex(data)))
    for own in vectors["own"]:
        equal(agreements.own_id(own["agency"]).hex(), own["agreement"], "an agency's own")
    for terms in vectors["terms"]:
        found = formats.tagged_hash("agreement-terms", bytes.fromhex(terms["bytes"]))
        equal(found.hex(), terms["terms_hash"], "hash of terms")
    first = read(vectors["changes"][0]["change"])
    equal(first.hash.hex(), vectors["epoch_hash"], "epoch hash")
    equal(first.agreement.hex(), vectors["agreement"], "agreement id")
    for stated, approval in zip(vectors["approvals"], first.approvals, strict=True):
        key = bytes.fromhex(stated["public_key"])
        equal(approval["public_key"], key, "an approver")
        message = agreements.approval_message(genesis.chain_id, key, first.hash)
        equal(message.hex(), stated["signed_message"], "an approval")
    equal((vectors["notice_ms"], vectors["kept_ms"]), (agreements.HOUR_MS, agreements.KEPT_MS), "ms")
    found = agreements.Agreements()
    equal(found.root().hex(), vectors["none"], "root of no agreements")
    for step in vectors["changes"]:
        change = read(step["change"])
        change.verify(genesis.chain_id)
        equal(change.agreement.hex(), step["agreement"], "agreement")
        key = change.dedupe_key(formats.agency_code(step["agency"]))
        equal(key.hex(), step["dedupe_key"], "dedupe key")
        found.add(change, step["agency"], step["height"], step["time_ms"])
        equal([entry.hex() for entry in found.entries()], step["entries"], "entries")
        equal(found.root().hex(), step["agreements_root"], "agreements root")
        for slot in step["slots"]:
            asked = bytes.fromhex(slot["agreement"]), slot["epoch"], slot["agency"], slot["time_ms"]
            equal(code_of(found.check_slot, *asked), slot["code"] or NONE, slot)


def check_authority():
    vectors = load("authority")
    equal([row["kind"] for row in vectors["roles"]], list(authority.BODIES), "kinds")
    for row in vectors["roles"]:
        kind, roles = row["kind"], {authority.ROLE_NAMED[role] for role in row["roles"]}
        equal(authority.BODIES[kind], row["number"], kind)
        equal(authority.roles(kind), roles, kind)
    cells = len(authority.BODIES) * (len(authority.RELATIONS) - 1)
    equal(len(vectors["relations"]), cells, "cells of the table of relations")
    for row in vectors["relations"]:
        relation, kind = authority.RELATIONS[row["relation"]], row["from"]
        equal(authority.targets(relation, kind), set(row["to"]), row)
        equal(relation in authority.OF_OWN, row["own"], row)
    for row in vectors["references"]:
        equal(code_of(authority.check_reference, row), row["code"] or NONE, row)


def check_outcomes():
    """The leaves and roots of a block whose slots end in all ways."""
    vectors = load("outcomes")
    block = []
    for transaction in vectors["transactions"]:
        leaves = [outcomes.leaf_of(meaning) for meaning in transaction["meaning"]]
        equal([leaf.hex() for leaf in leaves], transaction["leaves"], "leaves")
        equal(formats.tree_root(leaves).hex(), transaction["root"], "root")
        block.append(leaves)
    root = outcomes.block_root(block)
    equal(root.hex(), vectors["outcomes_root"], "outcomes root")
    equal(outcomes.block_root([]).hex(), vectors["outcomes_root_of_no_transactions"], "empty")
    for place, transaction in enumerate(vectors["transactions"]):
        paths = transaction["outcome_paths"]
        for position, path in enumerate(paths):
            leaf, path = block[place][position], map(bytes.fromhex, path)
            leaf = formats.leaf_hash(leaf)
            slots = formats.root_from_inclusion(leaf, position, len(paths), path)
            path, leaf = map(bytes.fromhex, transaction["outcomes_path"]), formats.leaf_hash(slots)
            equal(formats.root_from_inclusion(leaf, place, len(block), path), root, "paths")


def check_signed(genesis):
    vector = load("header")
    equal(formats.block_hash(bytes.fromhex(vector["header"])).hex(), vector["block_hash"], "hash")
    votes = load("votes")
    for vote in votes["votes"]:
        block = bytes.fromhex(vote["block_hash"])
        place = vote["kind"], vote["height"], vote["view"]
        message = formats.vote_message(genesis.chain_id, *place, block)
        equal(message.hex(), vote["signed_message"], "vote")
        ed25519.verify(bytes.fromhex(vote["validator"]), message, bytes.fromhex(vote["signature"]))
    said = votes["proposal"]
    leaves_hash = formats.tagged_hash("leaves", *map(bytes.fromhex, said["leaves"]))
    equal(leaves_hash.hex(), said["leaves_hash"], "leaves hash")
    place = said["height"], said["view"], said["parent_view"]
    block_hash = bytes.fromhex(said["block_hash"])
    message = formats.proposal_message(genesis.chain_id, *place, block_hash, leaves_hash)
    equal(message.hex(), said["signed_message"], "proposal")
    for certificate in votes["certificates"]:
        read = verifier.read_certificate(bytes.fromhex(certificate["certificate"]))
        equal(read["signers"], certificate["signers"], "signers")
    vector = load("registry_change")
    change = registry.Change(SCHEMA.canonical("RegistryChange", bytes.fromhex(vector["change"])))
    equal(change.hash.hex(), vector["proposal_hash"], "proposal hash")
    check_applied(genesis, vector["applied"])
    vector = load("misbehaviour")
    statements = {name: bytes.fromhex(vector[name]) for name in ("first", "second")}
    evidence = record.Evidence(statements)
    evidence.verify(genesis.chain_id)
    equal(evidence.culprit.hex(), vector["culprit"], "culprit")
    equal(evidence.dedupe_key.hex(), vector["dedupe_key"], "dedupe key")


def check_applied(genesis, vector):
    """Changes one after the other, and the registry after each, looked up by height."""
    current = registry.Registry(genesis.entries)
    agency, seen = vector["agency"], []
    for step in vector["steps"]:
        proposal = SCHEMA.canonical("RegistryProposal", bytes.fromhex(step["proposal"]))
        height = step["committed_at_height"]
        registry.Change.check_proposal(proposal)
        current = current.apply(proposal, height)
        equal(current.members_root().hex(), step["members_root_after"], "members root")
        seen.append((height + 1, step))
    for height, step in seen:
        values = current.parameters_at(height)
        equal({**step["parameters"], **values}, step["parameters"], "parameters")
        keys = current.owned_at("encryption_key", agency, height)
        equal([key["public_key"].hex() for key in keys], step["encryption_keys"], "encryption keys")
        checks = current.owned_at("dedupe_check", agency, height)
        equal([check["check"].hex() for check in checks], [step["dedupe_check"]], "dedupe check")
    for refused in vector["refused_then"]:
        proposal = SCHEMA.canonical("RegistryProposal", bytes.fromhex(refused["proposal"]))
        registry.Change.check_proposal(proposal)
        equal(code_of(current.apply, proposal, 6), refused["code"], refused["what"])


def check_low_order():
    """That X25519 gives 0 with the coordinates of low order, and with none that is near them."""
    scalar = int.from_bytes(b"\x40" * 32, "little") & (1 << 254) - 8 | 1 << 254
    low = registry.X25519_LOW_ORDER
    for number in low | {n + d for n in low for d in (-1, 1, 2)} | {9}:
        number %= registry.X25519_FIELD
        equal(x25519(scalar, number) == 0, number in low, number)


def x25519(scalar, number):
    """RFC 7748, section 5."""
    field = registry.X25519_FIELD
    x2, z2, x3, z3 = 1, 0, number, 1
    for bit in reversed(range(255)):
        if scalar >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        crossed, other = d * a, c * b
        x3, z3 = (crossed + other) ** 2 % field, number * (crossed - other) ** 2 % field
        e = a * a - b * b
        x2, z2 = a * a * b * b % field, e * (a * a + 121665 * e) % field
        if scalar >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return x2 * pow(z2, field - 2, field) % field


def check_proofs(genesis):
    """What the published proofs prove, and that nothing else passes for them."""
    checks = verifier.Verifier(genesis)
    vector = load("receipt")
    receipt = bytes.fromhex(vector["receipt"])
    _, _, slot, carried = checks.verify_receipt(receipt)
    equal(slot["record_id"].hex(), vector["record_id"], "record id")
    equal(carried.id, slot["record_id"], "record")
    for bit in range(8 * len(receipt)):
        flipped = bytearray(receipt)
        flipped[bit // 8] ^= 1 << bit % 8
        assert code_of(checks.verify_receipt, bytes(flipped)) != NONE, f"bit {bit} flipped"
    for length in range(len(receipt)):
        assert code_of(checks.verify_receipt, receipt[:length]) != NONE, f"cut at {length}"
    print("flipped bits refused:", 8 * len(receipt))
    vector = load("history_proof")
    proof, key = bytes.fromhex(vector["proof"]), bytes.fromhex(vector["subject_key"])
    _, found, entries = checks.verify_history(proof, key)
    equal((found, len(entries) > 0), (key, True), "history")
    other = bytes([key[0], key[1] ^ 1, *key[2:]])
    code = code_of(checks.verify_history, proof, other)
    equal(code, "HISTORY_OTHER_SUBJECT", "another subject")
    vector = load("consistency_proof")
    heads = checks.verify_consistency(bytes.fromhex(vector["proof"]))
    for head, stated in zip(heads, (vector["from"], vector["to"])):
        equal(head["log_root"].hex(), stated["log_root"], "log root")
    vector = load("validator_chain")
    for chain, hashes in (
        ("chain", "validators_hashes"),
        ("chain_of_a_set_that_comes_back", "validators_hashes_of_a_set_that_comes_back"),
    ):
        checks = verifier.Verifier(genesis)
        checks.follow(bytes.fromhex(vector[chain]))
        found = {f"from_{begins}": v.hash().hex() for begins, v in checks.sets}
        equal(found, vector[hashes], hashes)


def check_sealed_histories(genesis):
    """What each published proof comes to, and where it lists the slots of receipts."""
    vector = load("sealed_history_proof")
    for case in vector["valid"]:
        if "answer" not in case:
            continue
        checks = verifier.Verifier(genesis)
        checks.follow(bytes.fromhex(case.get("validator_chain", "")))
        data, is_one = bytes.fromhex(case["bytes"]), case["structure"] == "sealed_history_proof"
        pages = [data] if is_one else sealed_histories.read_pages(data)
        equal(described(sealed_histories.verify(checks, pages)), case["answer"], case["name"])
    checks = verifier.Verifier(genesis)
    proof = bytes.fromhex(vector["proof"])
    answer = sealed_histories.verify(checks, [proof])
    for name, listed in (
        ("receipt", True),
        ("receipt_of_the_grant", True),
        ("receipt_of_the_copied_key", False),
    ):
        data = bytes.fromhex(vector[name])
        header, transaction, slot, _ = checks.verify_receipt(data)
        receipt = SCHEMA.canonical("Receipt", data)
        place = receipt["log_index"], receipt["slot_index"]
        found = sealed_histories.place_of(answer, transaction, slot, place, header["height"])
        equal(found, listed, name)
    for byte in range(len(proof)):
        flipped = bytearray(proof)
        flipped[byte] ^= 1 << byte % 8
        code = code_of(sealed_histories.verify, checks, [bytes(flipped)])
        assert code != NONE, f"byte {byte} flipped"
    print("flipped bytes of a sealed history proof refused:", len(proof))


def described(answer):
    """As the vectors have it."""
    of = lambda history: {
        "epoch": history.epoch,
        "agency": history.agency,
        "subject_key": history.subject_key and history.subject_key.hex(),
        "slots": None if history.slots is None else [list(slot) for slot in history.slots],
        "missing_from_entry": history.missing_from_entry,
    }
    return {
        "height": answer.header["height"],
        "agreement": answer.agreement.hex(),
        "scheme": answer.subject[0],
        "id": answer.subject[1],
        "complete": answer.complete,
        "histories": [of(history) for history in answer.histories],
        "pages_missing": answer.pages_missing,
        "has_last_page": answer.has_last_page,
    }


def check_decisions(genesis):
    """Which of the published files show a fork."""
    checks, vector = verifier.Verifier(genesis), load("decisions")
    one, other, late, halted = (
        bytes.fromhex(vector[name]) for name in ("one", "other", "other_caught_up", "halted")
    )
    for files in ([one, other], [other, one], [one, late], [halted], [one, halted]):
        equal(decisions.forks(files, checks), [vector["height"]], "a fork")
    for files in ([], [one], [one, one], [other, late]):
        equal(decisions.forks(files, checks), [], "no fork")
    # The last byte of the finalization that contradicts the block is a signature's.
    final = decisions.decode(halted)[0]["certificates"][0]
    at = halted.index(final) + len(final) - 1
    false_one = halted[:at] + bytes([halted[at] ^ 1]) + halted[at + 1 :]
    equal(decisions.forks([false_one], checks), [], "a false finalization")


def check_edge_cases():
    if not EDGE_CASES.exists():
        print("skipped: no edge cases of Ed25519 at", EDGE_CASES)
        return
    vectors = json.loads(EDGE_CASES.read_text())
    for vector in vectors:
        parts = bytes.fromhex(vector["key"]), vector["msg"].encode(), bytes.fromhex(vector["sig"])
        accepted = code_of(ed25519.verify, *parts) == NONE
        equal(accepted, set(vector["flags"] or ()) <= HARMLESS, f"edge case {vector['number']}")
    print("edge cases of Ed25519 agree:", len(vectors))


def check_output(seed, key, alpha, beta, proof):
    """An output by the secret key, and by the public one with the proof, of which each byte counts."""
    equal(vrf.output(seed, alpha), (beta, key), "output")
    equal(vrf.verify(key, alpha, proof), beta, "verified output")
    for at in range(len(proof)):
        flipped = proof[:at] + bytes([proof[at] ^ 1]) + proof[at + 1 :]
        assert code_of(vrf.verify, key, alpha, flipped) != NONE, f"byte {at} flipped"


def check_outputs():
    vectors = load("vrf")
    for vector in vectors["outputs"]:
        fields = ("seed", "public_key", "alpha", "beta", "proof")
        check_output(*(bytes.fromhex(vector[field]) for field in fields))
    for case in vectors["valid"]:
        if "beta" in case:
            data = bytes.fromhex(case["bytes"])
            beta = vrf.verify(data[:32], data[112:], data[32:112])
            equal(beta.hex(), case["beta"], case["name"])
    for vector in vectors["sealed_subjects"]:
        seed, public, proof, agreement = (
            bytes.fromhex(vector[field]) for field in ("seed", "public_key", "proof", "agreement")
        )
        agency = formats.agency_code(vector["agency"])
        subject = agency, vector["scheme"], vector["id"]
        key = vrf.verify_subject(public, *subject, proof)
        equal(key.hex(), vector["key"], "subject key")
        beta, found = vrf.output(seed, vrf.alpha_of(*subject))
        equal((beta[:32], found), (key, public), "subject key by the secret key")
        index_key = vrf.index_key(agreement, vector["epoch"], agency, key)
        equal(index_key.hex(), vector["index_key"], "index key")


def check_rfc_outputs():
    if not OUTPUTS.exists():
        print("skipped: no examples of RFC 9381 at", OUTPUTS)
        return
    vectors = json.loads(OUTPUTS.read_text())["vectors"]
    for vector in vectors:
        check_output(*(bytes.fromhex(vector[field]) for field in ("sk", "pk", "alpha", "beta", "pi")))
    print("examples of RFC 9381 agree:", len(vectors))


def print_outcomes(lines, genesis):
    for line in lines:
        print(outcome(json.loads(line), genesis))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outcomes", type=pathlib.Path, metavar="FILE")
    given = parser.parse_args()
    genesis = check_genesis()
    if given.outcomes:
        print_outcomes(given.outcomes.read_text().splitlines(), genesis)
        return
    check_hashes()
    check_history()
    check_attachments()
    check_keys()
    check_records(genesis)
    check_agreements(genesis)
    check_authority()
    check_low_order()
    check_outcomes()
    check_signed(genesis)
    check_cases(genesis)
    check_proofs(genesis)
    check_sealed_histories(genesis)
    check_decisions(genesis)
    check_edge_cases()
    check_outputs()
    check_rfc_outputs()


if __name__ == "__main__":
    sys.exit(main())
