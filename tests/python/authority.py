"""Who may state what, and what may refer to what: the tables of docs/FORMATS.md."""

from formats import check
from wire import SCHEMA

ROLES = SCHEMA.enums["Role"]
# By the name that files have for a role.
KNOWN_ROLES = [(name, number) for name, number in ROLES.items() if number]
ROLE_NAMED = {name.removeprefix("ROLE_").lower(): number for name, number in KNOWN_ROLES}
NODE = ROLE_NAMED["node"]
OFFICE = ROLE_NAMED["office"]
OPERATORS = {ROLE_NAMED[name] for name in ("broker", "carrier", "trader", "port")}

BODIES = {field.name: field.number for field in SCHEMA.messages["Record"].values() if field.oneof}
OF_NETWORK = {"registry_change", "misbehaviour", "agreement_change"}
# Open whatever the parameters say.
ALWAYS_OPEN = OF_NETWORK
LODGED = {"declaration", "transport_document", "event", "certificate"}
TRADE = set(BODIES) - OF_NETWORK

RELATIONS = SCHEMA.enums["Reference.Relation"]
# The kinds that a relation leads from, and where each leads to.
RESPONSES = {
    "declaration_status": {"declaration"},
    "declaration": {"declaration_status"},
    "inspection": {"declaration", "risk_alert"},
    "enforcement_action": {"declaration", "inspection", "risk_alert", "enforcement_action"},
    "risk_alert": {"risk_alert"},
    "assistance_response": {"assistance_request"},
}
OF_OWN = {RELATIONS[name] for name in ("AMENDS", "CANCELS", "CORRECTS")}
SAME_KIND = {kind: {kind} for kind in TRADE}
TARGETS = {
    **{relation: SAME_KIND for relation in OF_OWN},
    RELATIONS["RESPONDS_TO"]: RESPONSES,
    RELATIONS["EVIDENCES"]: {kind: TRADE for kind in (*LODGED, "inspection")},
}


def name_of(role):
    return next(name for name, number in ROLE_NAMED.items() if number == role)


def is_role(number):
    return number in ROLE_NAMED.values()


def roles(kind):
    """The roles that may state a kind."""
    if kind in OF_NETWORK:
        return {NODE}
    return {OFFICE, *OPERATORS} if kind in LODGED else {OFFICE}


def targets(relation, kind):
    """The kinds that a record of a kind may refer to so; none where it may not."""
    return TARGETS.get(relation, {}).get(kind, set())


def kinds_of(bits):
    """The kinds of a number, where each bit stands for one; None where one stands for none."""
    if bits & ~sum(1 << number for number in BODIES.values()):
        return None
    return {kind for kind, number in BODIES.items() if bits >> number & 1}


def check_reference(row):
    """That a record may refer to another, where both are known: a line of docs/vectors."""
    relation, target = RELATIONS[row["relation"]], row["target"]
    own = relation in OF_OWN
    of_agency = not own or row["target_agency"] == row["agency"]
    check(of_agency, "REFERENCE_AGENCY", "of another agency")
    check(target is not None, "REFERENCE_UNKNOWN", "not on the ledger")
    leads = target["kind"] in targets(relation, row["kind"])
    check(leads, "REFERENCE_KIND", "of a kind that the relation does not lead to")
    by_office = ROLE_NAMED[row["role"]] == OFFICE
    mine = not own or by_office or row["submitter"] == target["submitter"]
    check(mine, "REFERENCE_SUBMITTER", "of another submitter")


def check_signer_of_slot(key):
    """That a registered signing key may sign a slot that is not open."""
    check(key["role"] == NODE, "SIGNER_SEALED", "a slot that is not open, by no node")


def check_signer(key, record):
    """That a registered signing key may sign a record."""
    certificate, role = bool(record.certificate), record.role
    if key["role"] == NODE:
        fits = certificate == (role != NODE)
        check(fits, "SIGNER_CERTIFICATE", "where a node signs for a client, and only there")
        return
    check(not certificate, "SIGNER_CERTIFICATE", "a client's own key, and a certificate")
    own = record.submitter == key["submitter"]
    check(own, "SIGNER_SUBMITTER", "not the name that the key is registered for")
    check(role == key["role"], "SIGNER_ROLE", "not the key's role")
    check(not record.is_checked, "SIGNER_MAPPING", "a node's word under a key that is not a node's")
    allowed = not key["kinds"] or record.kind in kinds_of(key["kinds"])
    check(allowed, "SIGNER_KIND", "of a kind that the key may not sign")
