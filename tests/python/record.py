"""Records, how a transaction carries them, and transactions."""

import re

import agreements
import attachment
import authority
import ed25519
import field_tree
import formats
import plaintext
from formats import FINALIZE, NOTARIZE, NULLIFY, STATEMENT, TRANSACTION_HEADER, Refused, check
from load import Load
from plaintext import SCHEME, SCHEME_NAME
from registry import Change, kind_of
from wire import SCHEMA

RECORD_BYTES_MAX = 4_194_304
SALT_BYTES = 32
CERTIFICATE_HASH_BYTES = 32
SUBMITTER_BYTES_MAX = 64
REFERENCES_MAX = 64
SUBJECTS_MAX = 4_096
SUBJECT_ID_BYTES_MAX = 256
SLOTS_MAX = 4096
TRANSACTION_BYTES_MAX = 6_291_456
TRANSACTION_REFERENCES_MAX = 8_192

FORM = SCHEMA.enums["Slot.Form"]
# What a record says that is about no subject and refers to nothing.
OWN_IDS = {"declaration_status": "reference", "event": "event_id"}
CHECKED = SCHEMA.enums["Source.Mapping"]["CHECKED"]
ASSERTED = SCHEMA.enums["Reference.Ground"]["ASSERTED"]


def is_set(enumeration, value):
    return value != 0 and value in SCHEMA.enums[enumeration].values()


# ------------------------------------------------------------------ records


class Record:
    """A record that keeps all rules."""

    def __init__(self, data):
        check(len(data) <= RECORD_BYTES_MAX, "RECORD_TOO_LARGE", f"{len(data)} bytes")
        Load(data).check("RECORD_LEAVES")
        record = SCHEMA.canonical("Record", data, "RECORD_")
        check(len(record["salt"]) == SALT_BYTES, "RECORD_SALT", "32 bytes expected")
        check(formats.is_agency_code(record["agency"]), "RECORD_AGENCY", "not an agency code")
        length = len(record["submitter"].encode())
        check(1 <= length <= SUBMITTER_BYTES_MAX, "RECORD_SUBMITTER", "1 to 64 bytes expected")
        check(plaintext.is_name(record["submitter"]), "RECORD_SUBMITTER", "no name")
        bodies = (body for body in authority.BODIES if record[body] is not None)
        self.kind = next(bodies, None)
        check(self.kind, "RECORD_BODY", "no body of a known kind")
        self.body = record[self.kind]
        self.submitter, self.role = record["submitter"], record["submitter_role"]
        self.certificate = record["submitter_certificate"]
        self.check_speaker()
        check_references(record, self.kind)
        check_subjects(record["subjects"])
        attachment.check_attachments(record)
        mapping = record["source"]["mapping"] if record["source"] is not None else 0
        known = mapping in SCHEMA.enums["Source.Mapping"].values()
        check(known, "RECORD_ENUMERATION", "source.mapping")
        self.is_checked = mapping == CHECKED
        # A report of misbehaviour, a change of the registry or of an agreement, read.
        self.alone = check_body(self.kind, self.body)
        self.agency = record["agency"]
        self.subjects = subjects(record, self.kind, self.body, self.alone)
        for scheme, name in self.subjects:
            check_form(scheme, name)
        keys = {subject_key(scheme, name) for scheme, name in self.subjects}
        if not keys and self.kind != "registry_change":
            own = self.kind in OWN_IDS and self.body[OWN_IDS[self.kind]]
            check(own or record["references"], "RECORD_ABOUT_NOTHING", "nobody would find it again")
        check(len(keys) <= SUBJECTS_MAX, "RECORD_SUBJECT", f"about {len(keys)} subjects")
        self.subject_keys = sorted(keys)
        self.id = field_tree.record_id(record)

    def check_speaker(self):
        check(authority.is_role(self.role), "RECORD_ROLE", "no known role")
        fits = len(self.certificate) in (0, CERTIFICATE_HASH_BYTES)
        fits = fits and not (self.role == authority.NODE and self.certificate)
        check(fits, "RECORD_CERTIFICATE", "a hash expected, or none, and none of a node")
        may = self.role in authority.roles(self.kind)
        check(may, "RECORD_AUTHORITY", f"no {self.kind} in role {self.role}")


def check_references(record, kind):
    references, own = record["references"], record["agency"]
    named = record["source"] is not None and record["source"]["importer"]
    check(len(references) <= REFERENCES_MAX, "RECORD_REFERENCE", "more than 64")
    for reference in references:
        known = is_set("Reference.Relation", reference["relation"])
        ground = reference["ground"] in SCHEMA.enums["Reference.Ground"].values()
        agency = reference["agency"]
        other = not agency or (agency != own and formats.is_agency_code(agency))
        holds = known and ground and other and len(reference["record_id"]) == 32
        what = "a relation, a ground, an id of 32 bytes and another agency or none expected"
        check(holds, "RECORD_REFERENCE", what)
        leads = authority.targets(reference["relation"], kind)
        check(leads, "RECORD_REFERENCE", f"no such relation leads from a {kind}")
        asserted = reference["ground"] == ASSERTED
        check(asserted or named, "RECORD_REFERENCE", "found by an importer that is not named")


def check_subjects(stated):
    check(len(stated) <= SUBJECTS_MAX, "RECORD_SUBJECT", f"{len(stated)} stated")
    for subject in stated:
        known = is_set("Subject.Scheme", subject["scheme"])
        length = len(subject["id"].encode())
        holds = known and 1 <= length <= SUBJECT_ID_BYTES_MAX
        check(holds, "RECORD_SUBJECT", "a scheme and an id of 1 to 256 bytes expected")
    order = [(subject["scheme"], subject["id"]) for subject in stated]
    ascending = all(a < b for a, b in zip(order, order[1:]))
    check(ascending, "RECORD_SUBJECT", "not ascending by scheme and id")


def check_form(scheme, name):
    normal = plaintext.is_normal(SCHEME_NAME[scheme], name)
    check(normal, "RECORD_SUBJECT", f"{SCHEME_NAME[scheme]} {name!r} is not in the normal form")


def check_body(kind, body):
    if kind == "declaration":
        check_declaration(body)
    elif kind == "declaration_status":
        check_taxes(body["taxes"])
    elif kind == "trader_status":
        known = is_set("TraderStatus.Status", body["status"])
        check(known, "RECORD_ENUMERATION", "trader_status.status")
    elif kind == "risk_alert":
        check_subjects(body["about"])
    elif kind == "misbehaviour":
        return Evidence(body)
    elif kind == "registry_change":
        try:
            return Change(body)
        except Refused as refused:
            raise Refused("RECORD_REGISTRY_CHANGE", str(refused)) from refused
    elif kind == "agreement_change":
        try:
            return agreements.Change(body)
        except Refused as refused:
            raise Refused("RECORD_AGREEMENT_CHANGE", str(refused)) from refused
    return None


def check_decimal(text):
    holds = re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,6})?", text, re.ASCII)
    check(holds, "RECORD_DECIMAL", f"{text!r} is not a decimal number")


def check_money(money):
    if money is not None:
        check_decimal(money["amount"])


def check_optional(*texts):
    for text in texts:
        if text:
            check_decimal(text)


def check_taxes(taxes):
    for tax in taxes:
        check_optional(tax["rate"])
        check_money(tax["base"])
        check_money(tax["amount"])


def check_declaration(body):
    known = is_set("Declaration.Regime", body["regime"])
    check(known, "RECORD_ENUMERATION", "declaration.regime")
    check_money(body["invoice_total"])
    check_optional(body["gross_mass_kg"])
    for item in body["items"]:
        check_money(item["value"])
        check_money(item["statistical_value"])
        masses = item["net_mass_kg"], item["gross_mass_kg"]
        check_optional(*masses, item["supplementary_quantity"])
        check_taxes(item["taxes"])


# ------------------------------------------------------------------ subjects


def subject_key(scheme, name):
    return formats.tagged_hash("subject", formats.u32(scheme), name.encode())


def subjects(record, kind, body, alone):
    """Pairs of scheme and id: what the record states, and what follows from its body."""
    stated = [(subject["scheme"], subject["id"]) for subject in record["subjects"]]
    if kind == "risk_alert":
        stated += [(subject["scheme"], subject["id"]) for subject in body["about"]]
    following = derived(kind, body, alone, record["agency"])
    found = stated + [(SCHEME[scheme], name) for scheme, name in following]
    return sorted({(scheme, name) for scheme, name in found if name})


def derived(kind, body, alone, agency):
    own = lambda reference: [("DECLARATION_REFERENCE", f"{agency}/{reference}")] * bool(reference)
    traders = lambda parties: [("TRADER", party["id"]) for party in parties if party is not None]
    containers = lambda value: [("CONTAINER", name) for name in value["container_ids"]]
    if kind == "declaration":
        found = [*own(body["reference"]), ("MRN", body["mrn"])]
        for part in (body, *body["items"]):
            found += [("UCR", part["ucr"]), *containers(part), *traders(part["parties"])]
        return found
    if kind == "declaration_status":
        return [*own(body["declaration_reference"]), ("MRN", body["mrn"])]
    if kind == "transport_document":
        found = [("TRANSPORT_DOCUMENT", body["id"]), ("UCR", body["ucr"])]
        return found + containers(body) + traders(body["parties"])
    if kind == "event":
        return [("EPC", name) for name in body["epcs"]]
    if kind == "certificate":
        return [("CERTIFICATE", body["id"]), *traders([body["holder"]])]
    if kind == "inspection":
        return [("MRN", body["mrn"]), *containers(body)]
    if kind == "enforcement_action":
        return [("CASE", body["case_id"]), ("MRN", body["mrn"]), *traders([body["party"]])]
    if kind == "risk_alert":
        return [("CASE", body["alert_id"])]
    if kind in ("assistance_request", "assistance_response"):
        return [("CASE", body["case_id"])]
    if kind == "trader_status":
        return traders([body["trader"]])
    if kind == "misbehaviour":
        return [("VALIDATOR_KEY", alone.culprit.hex())]
    if kind == "agreement_change":
        parties = alone.epoch["parties"] if alone.leave is None else []
        return [("AGREEMENT", alone.agreement.hex()), *(("AGENCY", party) for party in parties)]
    assert kind == "registry_change", kind
    values = [(kind_of(entry), entry[kind_of(entry)]) for entry in alone.entries]
    found = [("AGENCY", value["agency"]) for _, value in values]
    voters = [value for kind, value in values if kind == "validator"]
    return found + [("VALIDATOR_KEY", voter["public_key"].hex()) for voter in voters]


# ------------------------------------------------------------------ misbehaviour

PROPOSAL = 0
CODE = "RECORD_MISBEHAVIOUR"


def read_statement(data, code):
    said = STATEMENT.decode(data, code)
    check(ed25519.is_key(said["key"]), code, "statement: no key")
    check(said["kind"] <= FINALIZE, code, "statement: of no known kind")
    if said["kind"] != PROPOSAL:
        about_none = said["block_hash"] == formats.ZERO
        of_no_proposal = said["parent_view"] == 0 and said["leaves_hash"] == formats.ZERO
        holds = of_no_proposal and about_none == (said["kind"] == NULLIFY)
        check(holds, code, "statement: no vote says that")
    return said


class Evidence:
    """Two statements by one key that the rules do not allow together."""

    def __init__(self, body):
        check(body["first"] < body["second"], CODE, "the first is not the smaller")
        first, second = (read_statement(body[name], CODE) for name in ("first", "second"))
        for field in ("key", "height", "view"):
            check(first[field] == second[field], CODE, f"of another {field}")
        kinds = first["kind"], second["kind"]
        pairs = (PROPOSAL, PROPOSAL), (PROPOSAL, NOTARIZE), (NOTARIZE, NOTARIZE)
        two_blocks = kinds in (*pairs, (FINALIZE, FINALIZE))
        differ = first["block_hash"] != second["block_hash"]
        if kinds == (PROPOSAL, PROPOSAL):
            differ = differ or first["leaves_hash"] != second["leaves_hash"]
        two_blocks = two_blocks and differ
        both = kinds == (NULLIFY, FINALIZE)
        check(two_blocks or both, CODE, "the rules allow both")
        self.statements, self.culprit = (first, second), first["key"]
        place = formats.u64(first["height"]), formats.u64(first["view"])
        self.dedupe_key = formats.tagged_hash("misbehaviour", self.culprit, *place)

    def verify(self, chain_id):
        for said in self.statements:
            height, view, block = said["height"], said["view"], said["block_hash"]
            if said["kind"] == PROPOSAL:
                rest = said["parent_view"], block, said["leaves_hash"]
                message = formats.proposal_message(chain_id, height, view, *rest)
            else:
                message = formats.vote_message(chain_id, said["kind"], height, view, block)
            ed25519.verify(said["key"], message, said["signature"], CODE, "statement")


# ------------------------------------------------------------------ slots


def read_slot(data):
    try:
        slot = SCHEMA.canonical("Slot", data)
    except Refused as refused:
        raise Refused("SLOT_MALFORMED", str(refused)) from refused
    keys, number = slot["subject_keys"], slot["epoch"]
    if is_open(slot):
        named = not slot["agreement"] and number == 0
    else:
        known = slot["form"] in (FORM["SEALED"], FORM["GRANT"])
        of_one = len(slot["agreement"]) == 32 and 1 <= number <= agreements.EPOCHS_MAX
        named = known and of_one
    holds = (
        named
        and len(keys) <= SUBJECTS_MAX
        and all(len(key) == 32 for key in keys)
        and all(a < b for a, b in zip(keys, keys[1:]))
        and len(slot["record_id"]) == 32
        and len(slot["dedupe_key"]) == 32
    )
    check(holds, "SLOT_MALFORMED", "not a slot of its form with its fields")
    if is_grant(slot):
        key = grant_key(slot["record_id"], slot["agreement"], number)
        check(slot["dedupe_key"] == key, "SLOT_MALFORMED", "a grant under another dedupe key")
    return slot


def is_open(slot):
    return slot["form"] == FORM["OPEN"]


def is_grant(slot):
    return slot["form"] == FORM["GRANT"]


def grant_key(record_id, agreement, number):
    return formats.tagged_hash("grant", record_id, agreement, formats.u32(number))


def index_keys(slot, agency):
    """What the history has a slot under, in a transaction of an agency, given as 16 bytes."""
    if is_open(slot):
        return slot["subject_keys"]
    place = slot["agreement"], formats.u32(slot["epoch"]), agency
    keys = (formats.tagged_hash("sealed-subject", *place, key) for key in slot["subject_keys"])
    return sorted(keys)


def check_carried(record, slot, transaction):
    """That a slot is this record's, and the record of the transaction's agency. What the subject keys of a
    slot that is not open stand for is proven apart, by the epoch's key."""
    check(record.id == slot["record_id"], "RECORD_ID", "the slot names another record")
    same = not is_open(slot) or record.subject_keys == slot["subject_keys"]
    check(same, "SUBJECT_KEYS", "the slot has other subjects than the record")
    own = formats.agency_code(record.agency) == transaction["agency"]
    check(own, "RECORD_AGENCY", "of another agency than the transaction")


# ------------------------------------------------------------------ transactions


def read_transaction_header(data, chain_id):
    header = TRANSACTION_HEADER.decode(data, "TRANSACTION_HEADER")
    check(ed25519.is_key(header["signer"]), "TRANSACTION_HEADER", "signer: no key")
    try:
        formats.read_agency_code(header["agency"])
    except Refused as refused:
        raise Refused("TRANSACTION_HEADER", str(refused)) from refused
    check(header["chain_id"] == chain_id, "WRONG_CHAIN", "transaction: for another chain")
    return header


def verify_transaction_header(header, data, signature):
    message = formats.tag("transaction-signature") + data
    ed25519.verify(header["signer"], message, signature, what="transaction_signature")


def check_load(encoded):
    """That a transaction's records are not too much work together, before one is decoded."""
    load = Load(*encoded)
    load.check("TRANSACTION_LEAVES")
    few = load.references <= TRANSACTION_REFERENCES_MAX
    check(few, "TRANSACTION_REFERENCES", f"{load.references} references")


def read_transaction(data, chain_id):
    """What can be checked of a transaction without the chain's state."""
    check(len(data) <= TRANSACTION_BYTES_MAX, "TRANSACTION_TOO_LARGE", f"{len(data)} bytes")
    parts = SCHEMA.canonical("Transaction", data, "TRANSACTION_")
    header = read_transaction_header(parts["header"], chain_id)
    check(len(parts["signature"]) == 64, "BAD_SIGNATURE", "signature: not 64 bytes")
    verify_transaction_header(header, parts["header"], parts["signature"])
    count = len(parts["slots"])
    counts = 1 <= count <= SLOTS_MAX and count == header["slot_count"]
    check(counts, "SLOT_COUNT", f"{count} slots where the header says {header['slot_count']}")
    same = formats.tree_root(parts["slots"]) == header["records_root"]
    check(same, "RECORDS_ROOT", "other slots than were signed")
    few = len(parts["records"]) <= count
    check(few, "RECORD_COUNT", "more records than slots")
    check_load(parts["records"])
    slots = [read_slot(slot) for slot in parts["slots"]]
    opened = [slot for slot in slots if is_open(slot)]
    each = len(parts["records"]) == len(opened)
    check(each, "RECORD_COUNT", "not a record for every open slot")
    change = None
    for slot, encoded in zip(opened, parts["records"]):
        record = Record(encoded)
        check_carried(record, slot, header)
        if record.kind == "misbehaviour":
            own = count == 1 and slot["dedupe_key"] == record.alone.dedupe_key
            check(own, CODE, "not alone, or under another dedupe key")
            record.alone.verify(chain_id)
        elif record.kind == "registry_change":
            own = count == 1 and slot["dedupe_key"] == record.alone.hash
            check(own, "RECORD_REGISTRY_CHANGE", "not alone, or under another dedupe key")
            change = record.alone, "RECORD_REGISTRY_CHANGE"
        elif record.kind == "agreement_change":
            key = record.alone.dedupe_key(header["agency"])
            own = count == 1 and slot["dedupe_key"] == key
            check(own, "RECORD_AGREEMENT_CHANGE", "not alone, or under another dedupe key")
            change = record.alone, "RECORD_AGREEMENT_CHANGE"
    if change:
        signed, code = change
        try:
            signed.verify(chain_id)
        except Refused as refused:
            raise Refused(code, str(refused)) from refused
    return header, slots
