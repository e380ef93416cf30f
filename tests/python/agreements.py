"""Agreements: changes of them by themselves, what becomes of them, and what is in force when."""

import ed25519
import formats
import vrf
from formats import Refused, agency_code, check, tagged_hash, u32, u64
from wire import SCHEMA

PARTIES_MAX = 16
EPOCHS_MAX = 1024
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
EPOCH_MS_MAX = 731 * DAY_MS
KEPT_MS = 31 * DAY_MS


def own_id(agency):
    """The id of the agreement that an agency has with itself."""
    return tagged_hash("agreement-own", agency_code(agency))


def check_number(number):
    check(1 <= number <= EPOCHS_MAX, "AGREEMENT_NUMBER", f"{number} is not in 1 to {EPOCHS_MAX}")


class Change:
    """A change of an agreement, as far as it can be checked without the chain's state."""

    def __init__(self, message):
        epoch, leave = message["epoch"], message["leave"]
        check(epoch or leave, "AGREEMENT_FIELD", "no change")
        self.epoch, self.leave, self.approvals = epoch, leave, message["approvals"]
        if leave is not None:
            self.check_leave()
            self.agreement = leave["agreement"]
            return
        check_epoch(epoch)
        self.check_approvals()
        self.hash = tagged_hash("agreement", SCHEMA.encode("AgreementEpoch", epoch))
        self.agreement = epoch["agreement"] or self.hash

    def check_leave(self):
        check(len(self.leave["agreement"]) == 32, "AGREEMENT_FIELD", "leave.agreement: 32 bytes")
        check_number(self.leave["epoch"])
        check(not self.approvals, "AGREEMENT_APPROVAL_COUNT", "nobody approves that one leaves")

    def check_approvals(self):
        each = len(self.approvals) == len(self.epoch["parties"])
        check(each, "AGREEMENT_APPROVAL_COUNT", "not one of each party")
        for approval in self.approvals:
            holds = ed25519.is_key(approval["public_key"]) and len(approval["signature"]) == 64
            check(holds, "AGREEMENT_APPROVAL_KEY", "no key, or no signature")

    def dedupe_key(self, agency):
        """That of its slot, where an agency lodges it, given as 16 bytes."""
        if self.leave is None:
            return self.hash
        return tagged_hash("agreement-leave", self.agreement, u32(self.leave["epoch"]), agency)

    def verify(self, chain_id):
        """All its signatures. Whose keys these are is the chain's to say."""
        for approval in self.approvals:
            key = approval["public_key"]
            message = approval_message(chain_id, key, self.hash)
            ed25519.verify(key, message, approval["signature"], "AGREEMENT_APPROVAL", "approval")


def approval_message(chain_id, key, epoch_hash):
    return formats.tag("agreement-approval") + chain_id + key + epoch_hash


def check_epoch(epoch):
    parties = epoch["parties"]
    coded = all(formats.is_agency_code(party) for party in parties)
    ascending = all(a < b for a, b in zip(parties, parties[1:]))
    listed = 1 <= len(parties) <= PARTIES_MAX and coded and ascending
    check(listed, "AGREEMENT_PARTIES", "1 to 16 agency codes, ascending")
    check_number(epoch["number"])
    if len(parties) == 1:
        right = epoch["agreement"] == own_id(parties[0])
    else:
        right = len(epoch["agreement"]) == (0 if epoch["number"] == 1 else 32)
    check(right, "AGREEMENT_ID", "not the id of an epoch of these parties and this number")
    try:
        vrf.check_key(epoch["public_key"])
    except Refused as refused:
        raise Refused("AGREEMENT_KEY", str(refused)) from refused
    lasts = epoch["until_ms"] - epoch["from_ms"]
    check(1 <= lasts <= EPOCH_MS_MAX, "AGREEMENT_PERIOD", f"lasts {lasts} ms")
    check(len(epoch["terms_hash"]) == 32, "AGREEMENT_FIELD", "terms_hash: 32 bytes")


# ------------------------------------------------------------------ what becomes of them


def root(count, tree_root, head):
    return tagged_hash("agreements", u64(count), tree_root, head)


class Agreements:
    """Those after a block: for each id its epochs, as entries have them."""

    def __init__(self):
        self.epochs, self.newest_ms, self.head = {}, 0, bytes(32)

    def add(self, change, agency, height, time_ms):
        """A change that a block of this height and time carries, lodged by an agency. Whether it may is not asked."""
        of_block = {"height": height, "time_ms": time_ms, "agency": agency}
        event = {**of_block, "epoch": change.epoch, "leave": change.leave}
        encoded = SCHEMA.encode("AgreementEvent", event)
        self.head = tagged_hash("agreement-event", self.head, encoded)
        self.newest_ms = max(self.newest_ms, time_ms)
        epochs = self.epochs.setdefault(change.agreement, [])
        if change.leave is None:
            begins = max(time_ms, change.epoch["from_ms"])
        else:
            begins = time_ms
            epochs[-1]["left"] = sorted({*epochs[-1]["left"], agency})
        for epoch in epochs:
            ends = max(epoch["from_ms"], begins + HOUR_MS)
            epoch["until_ms"] = min(epoch["until_ms"], ends)
        if change.leave is None:
            fields = ("parties", "public_key", "from_ms", "until_ms", "terms_hash")
            epochs.append({"left": [], **{field: change.epoch[field] for field in fields}})

    def entries(self):
        """Those under the root, in its order."""
        for name, epochs in sorted(self.epochs.items()):
            if epochs[-1]["until_ms"] + KEPT_MS > self.newest_ms:
                yield SCHEMA.encode("AgreementEntry", {"id": name, "epochs": epochs})

    def root(self):
        entries = list(self.entries())
        return root(len(entries), formats.tree_root(entries), self.head)

    def check_slot(self, agreement, number, agency, time_ms):
        """That an agency may lodge under an epoch, where all its parties are members."""
        epochs = self.epochs.get(agreement, [])
        check(1 <= number <= len(epochs), "AGREEMENT_UNKNOWN", "no such agreement, or epoch")
        epoch = epochs[number - 1]
        check(agency in epoch["parties"], "AGREEMENT_PARTY", "no party of the epoch")
        in_force = epoch["from_ms"] <= time_ms < epoch["until_ms"]
        check(in_force, "AGREEMENT_EPOCH", "the epoch is not in force")
