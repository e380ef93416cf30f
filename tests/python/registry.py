"""The registry: its entries, the genesis that begins it, and what changes it."""

import re

import authority
import ed25519
import formats
import plaintext
from agreements import Agreements
from formats import Refused, check
from jsonform import Object, read_json
from wire import SCHEMA

# Field numbers of the entry kinds: the registry's first sort key.
KINDS = {
    "agency": 8,
    "validator": 9,
    "peer": 10,
    "signing_key": 11,
    "parameter": 12,
    "encryption_key": 13,
    "dedupe_check": 14,
}
KEYS = ("validator", "peer", "signing_key", "encryption_key")
OWNED = (*KEYS, "dedupe_check")
NAME_BYTES_MAX = 128
SUBMITTER_BYTES_MAX = 64
ENTRIES_MAX = 65_536
VALIDATORS_MAX = 256
X25519_FIELD = 2**255 - 19
# Coordinates with which every shared secret is 0.
X25519_LOW_ORDER = {
    0,
    1,
    X25519_FIELD - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
}
GENESIS_BYTES_MAX = 3 * 1024 * 1024
GENESIS_JSON_BYTES_MAX = 16 * 1024 * 1024
CHANGE_ENTRIES_MAX = 64
REASON_BYTES_MAX = 256

# Names and ranges, both ends included.
PARAMETERS = {
    "block_bytes_max": (6_291_456, 8_388_608),
    "block_transactions_max": (1, 65_536),
    "transaction_bytes_max": (4_456_448, 6_291_456),
    "transaction_slots_max": (1, 4096),
    "record_bytes_max": (1024, 4_194_304),
    "heartbeat_ms": (1000, 86_400_000),
    "time_skew_ms_max": (1000, 3_600_000),
    "transaction_lifetime_ms_max": (60_000, 2_592_000_000),
}


def is_value(name, value):
    """Whether there is a parameter of this name, and it may have this value."""
    if name == "open_kinds":
        kinds = authority.kinds_of(value)
        return kinds is not None and kinds >= authority.ALWAYS_OPEN
    low, high = PARAMETERS.get(name, (1, 0))
    return low <= value <= high


# ------------------------------------------------------------------ entries


def kind_of(entry):
    return next((kind for kind in KINDS if entry[kind] is not None), None)


def check_name(name):
    check(len(name.encode()) <= NAME_BYTES_MAX, "REGISTRY_ENTRY_NAME", "a name that is too long")
    check(plaintext.is_name(name), "REGISTRY_ENTRY_NAME", "no name")


def check_agency(code):
    check(formats.is_agency_code(code), "REGISTRY_ENTRY_AGENCY", "not an agency code")


def check_entry(entry):
    """Checks an entry by itself, and gives what the registry is sorted by."""
    begins, ends = entry["from_height"], entry["end_height"]
    check(ends == 0 or ends > begins, "REGISTRY_ENTRY_PERIOD", "ends before it begins")
    kind = kind_of(entry)
    check(kind, "REGISTRY_ENTRY_KIND", "of no known kind")
    value = entry[kind]
    if kind == "parameter":
        check_name(value["name"])
        holds = is_value(value["name"], value["value"])
        check(holds, "REGISTRY_PARAMETER", "unknown, or out of range")
        return KINDS[kind], value["name"].encode() + formats.u64(begins)
    if kind == "agency":
        check_name(value["name"])
        check_name(value["country"])
    if kind == "signing_key":
        check_name(value["label"])
    check_agency(value["agency"])
    key = b""
    if kind == "dedupe_check":
        key = value["check"]
        check(len(key) == 32, "REGISTRY_ENTRY_DEDUPE_CHECK", "32 bytes expected")
    elif kind == "encryption_key":
        key = value["public_key"]
        check(is_encryption_key(key), "REGISTRY_ENTRY_KEY", "no key to encrypt to")
    elif kind != "agency":
        key = value["public_key"]
        check(ed25519.is_key(key), "REGISTRY_ENTRY_KEY", "not a public key")
    if kind == "signing_key":
        check_signing(value)
    return KINDS[kind], formats.agency_code(value["agency"]) + key


def is_encryption_key(key):
    """Whether these are the bytes of an X25519 key: canonical, and not of low order."""
    number = int.from_bytes(key, "little")
    return len(key) == 32 and number < X25519_FIELD and number not in X25519_LOW_ORDER


def single_of(entry):
    """What an entry is a value of, where no two such count at one height."""
    if entry["parameter"] is not None:
        return "parameter", entry["parameter"]["name"]
    if entry["dedupe_check"] is not None:
        return "dedupe_check", entry["dedupe_check"]["agency"]
    return None


def check_keys(entries):
    """A public key is in one entry only."""
    keys = [e[kind]["public_key"] for e in entries for kind in KEYS if e[kind] is not None]
    check(len(set(keys)) == len(keys), "REGISTRY_SHARED_KEY", "a key is registered twice")


def check_singles(entries):
    """No two values of one thing count at one height."""
    periods = {}
    for entry in entries:
        single = single_of(entry)
        if single is not None:
            ends = entry["end_height"] or float("inf")
            periods.setdefault(single, []).append((entry["from_height"], ends))
    for single, spans in periods.items():
        spans.sort()
        apart = all(before[1] <= after[0] for before, after in zip(spans, spans[1:]))
        check(apart, "REGISTRY_TWO_OPEN", f"{single}: two values at one height")


def check_signing(value):
    """What a signing key may sign."""
    role, submitter, kinds = value["role"], value["submitter"], value["kinds"]
    check(authority.is_role(role), "REGISTRY_ENTRY_ROLE", "no known role")
    if role == authority.NODE:
        bound = submitter or kinds
        check(not bound, "REGISTRY_ENTRY_SUBMITTER", "a node's key with a name or with kinds")
        return
    named = 1 <= len(submitter.encode()) <= SUBMITTER_BYTES_MAX
    check(named, "REGISTRY_ENTRY_SUBMITTER", "1 to 64 bytes expected")
    check_name(submitter)
    named = authority.kinds_of(kinds)
    may = named is not None and all(role in authority.roles(kind) for kind in named)
    check(may, "REGISTRY_ENTRY_KINDS", "kinds that the role may not state")


def decode_entry(data):
    entry = SCHEMA.canonical("RegistryEntry", data, "REGISTRY_ENTRY_")
    check_entry(entry)
    return entry


def encode_entry(entry):
    return SCHEMA.encode("RegistryEntry", entry)


def counts_at(entry, height):
    ends = entry["end_height"]
    return entry["from_height"] <= height and (ends == 0 or height < ends)


def members_root(count, tree_root):
    return formats.tagged_hash("members", formats.u64(count), tree_root)


def root(members, agreements):
    return formats.tagged_hash("registry", members, agreements)


# ------------------------------------------------------------------ validators


class Validators:
    """Pairs of an agency's code, as text, and a key, in the order of the codes; they decide from a
    height on."""

    def __init__(self, pairs, begins=1):
        self.pairs, self.begins = sorted(pairs), begins
        agencies, keys = [a for a, _ in self.pairs], [k for _, k in self.pairs]
        check(1 <= len(self.pairs) <= VALIDATORS_MAX, "REGISTRY_VALIDATORS", "1 to 256 expected")
        twice = len(set(agencies)) < len(agencies) or len(set(keys)) < len(keys)
        check(not twice, "REGISTRY_VALIDATORS", "an agency or a key occurs twice")
        self.quorum = len(self.pairs) - (len(self.pairs) - 1) // 3

    def hash(self):
        parts = (formats.agency_code(agency) + key for agency, key in self.pairs)
        head = formats.u64(self.begins), formats.u32(len(self.pairs))
        return formats.tagged_hash("validators", *head, *parts)


# ------------------------------------------------------------------ genesis


class Genesis:
    """A chain's beginning, checked."""

    def __init__(self, message):
        network, bits = message["network"], message["history_bits"]
        named = re.fullmatch("[a-z0-9-]{1,64}", network)
        check(named, "GENESIS_NETWORK", "1 to 64 of a-z, 0-9 and - expected")
        check(8 <= bits <= 24, "GENESIS_HISTORY_BITS", "8 to 24 expected")
        heights = [e[h] for e in message["entries"] for h in ("from_height", "end_height")]
        check(not any(heights), "GENESIS_PERIOD", "an entry that begins later, or ends")
        entries = self.check_entries(message["entries"])
        validators = [e["validator"] for e in entries if e["validator"] is not None]
        self.validators = Validators([(v["agency"], v["public_key"]) for v in validators])
        message = {**message, "entries": entries}
        self.time_ms, self.history_bits, self.entries = message["time_ms"], bits, entries
        self.encoded = SCHEMA.encode("Genesis", message)
        length = len(self.encoded)
        check(length <= GENESIS_BYTES_MAX, "GENESIS_TOO_LARGE", f"{length} bytes as protobuf")
        self.chain_id = formats.tagged_hash("genesis", self.encoded)

    @staticmethod
    def check_entries(entries):
        """The rules about all of them; gives them sorted."""
        keyed = {}
        for entry in entries:
            key = check_entry(entry)
            check(key not in keyed, "REGISTRY_DUPLICATE", f"two entries for {key}")
            keyed[key] = entry
        check(len(keyed) <= ENTRIES_MAX, "REGISTRY_TOO_MANY", f"{len(keyed)} entries")
        entries = [keyed[key] for key in sorted(keyed)]
        codes = {entry["agency"]["agency"] for entry in entries if entry["agency"] is not None}
        owned = [e[kind] for e in entries for kind in OWNED if e[kind] is not None]
        known = all(value["agency"] in codes for value in owned)
        check(known, "REGISTRY_UNKNOWN_AGENCY", "a key of an agency that is not there")
        check_keys(entries)
        check_singles(entries)
        return entries

    @classmethod
    def from_bytes(cls, data):
        check(len(data) <= GENESIS_BYTES_MAX, "GENESIS_TOO_LARGE", f"{len(data)} bytes")
        genesis = cls(SCHEMA.canonical("Genesis", data, "GENESIS_"))
        check(genesis.encoded == data, "GENESIS_ORDER", "its entries are not sorted")
        return genesis

    @classmethod
    def from_json(cls, data):
        check(len(data) <= GENESIS_JSON_BYTES_MAX, "GENESIS_TOO_LARGE", f"{len(data)} bytes")
        try:
            message = genesis_message(read_json(data))
        except (ValueError, RecursionError) as error:
            raise Refused("GENESIS_JSON", str(error)) from error
        return cls(message)

    def members_root(self):
        leaves = [encode_entry(entry) for entry in self.entries]
        return members_root(len(leaves), formats.tree_root(leaves))

    def registry_root(self):
        return root(self.members_root(), Agreements().root())

    def header(self):
        """The header at height 0, which follows from the genesis."""
        node = formats.leaf_hash(formats.ZERO)
        for _ in range(self.history_bits):
            node = formats.node_hash(node, node)
        validators = self.validators.hash()
        return formats.HEADER.encode(
            version=1,
            chain_id=self.chain_id,
            height=0,
            time_ms=self.time_ms,
            parent_hash=formats.ZERO,
            log_start=0,
            log_size=0,
            log_root=formats.tree_root([]),
            history_size=0,
            history_root=node,
            registry_root=self.registry_root(),
            outcomes_root=formats.tree_root([]),
            validators_hash=validators,
            next_validators_hash=validators,
            proposer=formats.ZERO,
            view=0,
        )


def read_hex(text):
    if type(text) is not str or not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise ValueError("64 hexadecimal digits expected")
    return bytes.fromhex(text)


def read_key(text):
    key = read_hex(text)
    if not ed25519.is_key(key):
        raise ValueError(f"{text}: not a public key")
    return key


def genesis_message(value):
    """The protobuf message of the JSON form, its entries not yet sorted."""
    try:
        network, time_ms, bits, agencies, parameters = value.read(
            network=(str,),
            time_ms=(int,),
            history_bits=(int,),
            agencies=(list,),
            parameters=(Object, Object([])),
        )
        if bits >> 32:
            raise ValueError("history_bits: a number of 32 bits expected")
        entries = [entry for agency in agencies for entry in agency_entries(agency)]
    except (KeyError, AttributeError) as error:
        raise ValueError(f"missing, or no object: {error}") from error
    if parameters.repeats:
        raise ValueError("parameters: a name twice")
    for name, number in parameters.items():
        if type(number) is not int:
            raise ValueError(f"{name}: a number expected")
        entries.append(entry_of("parameter", name=name, value=number))
    return {"network": network, "time_ms": time_ms, "history_bits": bits, "entries": entries}


def entry_of(kind, **fields):
    return {**SCHEMA.empty("RegistryEntry"), kind: fields}


def agency_entries(value):
    code, name, country, *keys, dedupe_check = value.read(
        agency=(str,),
        name=(str,),
        country=(str,),
        validators=(list, []),
        peers=(list, []),
        signing_keys=(list, []),
        encryption_keys=(list, []),
        dedupe_check=(str, ""),
    )
    validators, peers, signing_keys, encryption_keys = keys
    if not formats.is_agency_code(code):
        raise ValueError(f"{code}: not an agency code")
    yield entry_of("agency", agency=code, name=name, country=country)
    for kind, keys in (("validator", validators), ("peer", peers)):
        for key in keys:
            yield entry_of(kind, agency=code, public_key=read_key(key))
    for signing in signing_keys:
        yield entry_of("signing_key", agency=code, **signing_fields(signing))
    for key in encryption_keys:
        key = read_hex(key)
        if not is_encryption_key(key):
            raise ValueError(f"{key.hex()}: no key to encrypt to")
        yield entry_of("encryption_key", agency=code, public_key=key)
    if "dedupe_check" in value:
        yield entry_of("dedupe_check", agency=code, check=read_hex(dedupe_check))


def signing_fields(value):
    key, role, submitter, kinds, label = value.read(
        public_key=(str,), role=(str,), submitter=(str, ""), kinds=(list, []), label=(str, "")
    )
    if role not in authority.ROLE_NAMED:
        raise ValueError(f"{role}: not a role")
    if not all(type(kind) is str and kind in authority.BODIES for kind in kinds):
        raise ValueError(f"{kinds}: not kinds")
    return {
        "public_key": read_key(key),
        "role": authority.ROLE_NAMED[role],
        "submitter": submitter,
        "kinds": sum(1 << authority.BODIES[kind] for kind in set(kinds)),
        "label": label,
    }


# ------------------------------------------------------------------ changes


class Change:
    """A change of the registry, as far as it can be checked without the chain's state."""

    def __init__(self, message):
        proposal = message["proposal"]
        check(proposal is not None, "CHANGE_FIELD", "proposal: missing")
        self.entries = self.check_proposal(proposal)
        self.hash = formats.tagged_hash(
            "registry-proposal", SCHEMA.encode("RegistryProposal", proposal)
        )
        self.check_approvals(message["approvals"])
        self.approvals, self.in_sync = message["approvals"], message["in_sync"]
        added = [entry["validator"] for entry in proposal["added"]]
        self.added = next((validator for validator in added if validator), None)
        if self.in_sync is not None:
            lengths = len(self.in_sync["block_hash"]), len(self.in_sync["signature"])
            check(lengths == (32, 64), "CHANGE_FIELD", "in_sync: lengths")
        check(self.approvals, "CHANGE_APPROVAL_COUNT", "no approval")
        present = (self.in_sync is not None) == (self.added is not None)
        check(present, "CHANGE_IN_SYNC_PRESENCE", "in_sync where a validator is added, only there")

    @staticmethod
    def check_proposal(proposal):
        check(len(proposal["members_root"]) == 32, "CHANGE_FIELD", "members_root: 32 bytes")
        added, ended = proposal["added"], proposal["ended"]
        count = len(added) + len(ended)
        check(count > 0, "CHANGE_EMPTY", "adds nothing and ends nothing")
        check(count <= CHANGE_ENTRIES_MAX, "CHANGE_TOO_MANY", f"{count} entries")
        check(len(proposal["reason"].encode()) <= REASON_BYTES_MAX, "CHANGE_REASON", "too long")
        for entries in (added, ended):
            before = None
            for entry in entries:
                key = check_entry(entry)
                check(before is None or before < key, "CHANGE_ORDER", "entries: not ascending")
                before = key
        heights = [entry[h] for entry in added for h in ("from_height", "end_height")]
        check(not any(heights), "CHANGE_HEIGHTS", "an added entry with a height")
        check(not any(e["end_height"] for e in ended), "CHANGE_ENDED", "ended already")
        votes = [[e["validator"]["agency"] for e in es if e["validator"]] for es in (added, ended)]
        one_each = len(votes[0]) <= 1 and len(votes[1]) <= 1
        one = one_each and (not votes[0] or not votes[1] or votes[0] == votes[1])
        check(one, "CHANGE_VOTES", "the vote of more than one agency")
        return added + ended

    @staticmethod
    def check_approvals(approvals):
        count = f"{len(approvals)} approvals"
        check(len(approvals) <= VALIDATORS_MAX, "CHANGE_APPROVAL_COUNT", count)
        keys = [approval["validator_key"] for approval in approvals]
        ascending = all(a < b for a, b in zip(keys, keys[1:]))
        check(ascending, "CHANGE_ORDER", "approvals: not ascending")
        for approval in approvals:
            holds = ed25519.is_key(approval["validator_key"]) and len(approval["signature"]) == 64
            check(holds, "CHANGE_APPROVAL_KEY", "no key, or no signature")

    def verify(self, chain_id):
        """All its signatures. That they are a quorum's is the chain's to say."""
        if self.added:
            said = self.in_sync
            message = formats.tag("in-sync") + chain_id
            message += formats.agency_code(self.added["agency"]) + formats.u64(said["height"])
            message += said["block_hash"]
            key = self.added["public_key"]
            ed25519.verify(key, message, said["signature"], "CHANGE_IN_SYNC", "in_sync")
        for approval in self.approvals:
            key = approval["validator_key"]
            message = formats.tag("registry-approval") + chain_id + key + self.hash
            ed25519.verify(key, message, approval["signature"], "CHANGE_APPROVAL", "approval")


class Registry:
    """The registry after a height: entries by what they are sorted by."""

    def __init__(self, entries):
        self.by_key = {check_entry(entry): entry for entry in entries}

    def entries(self):
        return [self.by_key[key] for key in sorted(self.by_key)]

    def members_root(self):
        leaves = [encode_entry(entry) for entry in self.entries()]
        return members_root(len(leaves), formats.tree_root(leaves))

    def parameters_at(self, height):
        """The values that count, of those that are set."""
        counting = [e["parameter"] for e in self.entries() if counts_at(e, height)]
        return {value["name"]: value["value"] for value in counting if value is not None}

    def owned_at(self, kind, agency, height):
        """What an agency has of a kind, newest first."""
        own = [e for e in self.entries() if e[kind] is not None and counts_at(e, height)]
        own = [entry for entry in own if entry[kind]["agency"] == agency]
        return [e[kind] for e in sorted(own, key=lambda entry: -entry["from_height"])]

    def apply(self, proposal, height):
        """The registry after a block of this height with a well-formed proposal. Who decides then
        is not looked at."""
        present = proposal["members_root"] == self.members_root()
        check(present, "REGISTRY_ROOT", "of another registry")
        by_key = dict(self.by_key)
        for ended in proposal["ended"]:
            key = check_entry(ended)
            check(by_key.get(key) == ended, "REGISTRY_CHANGE", "ends what is not open")
            by_key[key] = {**ended, "end_height": height + 1}
        for added in proposal["added"]:
            entry = {**added, "from_height": height + 1}
            key = check_entry(entry)
            check(key not in by_key, "REGISTRY_CHANGE", "registered before")
            by_key[key] = entry
        after = Registry(by_key.values())
        try:
            check_keys(after.entries())
        except Refused as error:
            raise Refused("REGISTRY_CHANGE", str(error)) from error
        check_singles(after.entries())
        return after
