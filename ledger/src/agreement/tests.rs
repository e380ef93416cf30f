//! Agreements by themselves: their form, who may change them, and what is in force when.

use std::collections::BTreeSet;

use super::*;
use crate::{authority::SlotRefused, limits::AGREEMENT_CHANGES_A_DAY_MAX, merkle};
use state::{KnownMembers, LodgedAt};

const CHAIN: Hash = Hash([7; 32]);
const NOW: u64 = 1_800_000_000_000;
const DAY: u64 = 24 * 60 * 60 * 1000;

/// Agencies A, B, … whose nodes' keys have their place as the seed.
#[derive(Default)]
struct Known {
    closed: BTreeSet<AgencyCode>,
}

impl KnownMembers for Known {
    fn is_member(&self, agency: &AgencyCode) -> bool {
        !self.closed.contains(agency) && *agency != code("ZZ")
    }

    fn is_node_of(&self, key: &PublicKey, agency: &AgencyCode) -> bool {
        node(agency.as_str()).public() == *key
    }
}

fn code(text: &str) -> AgencyCode {
    text.parse().expect("a code")
}

fn node(agency: &str) -> SigningKey {
    SigningKey::from_seed(&[agency.as_bytes()[0]; 32])
}

fn proposal(agreement: Option<Hash>, number: u32, parties: &[&str]) -> v1::AgreementEpoch {
    let key = SigningKey::from_seed(&[100 + u8::try_from(number).expect("small"); 32]);
    v1::AgreementEpoch {
        agreement: agreement.map(|id| id.0.to_vec()).unwrap_or_default(),
        number,
        parties: parties.iter().map(|code| (*code).to_owned()).collect(),
        public_key: key.public().as_bytes().to_vec(),
        from_ms: NOW,
        until_ms: NOW + 30 * DAY,
        terms_hash: vec![9; 32],
        not_after_ms: NOW + 10 * DAY,
        changes: number - 1,
    }
}

impl Agreements {
    /// Those after a change.
    fn after(
        &self,
        change: &AgreementChange,
        at: &LodgedAt,
        members: &Known,
    ) -> Result<Self, AgreementInvalid> {
        let mut after = self.clone();
        after.apply(change, at, members)?;
        Ok(after)
    }
}

fn agreed(proto: v1::AgreementEpoch) -> AgreementChange {
    let parties = proto.parties.clone();
    let proposal = EpochProposal::from_proto(proto).expect("well-formed");
    let approvals = parties.iter().map(|party| proposal.approve(&CHAIN, &node(party))).collect();
    let change = AgreementChange::epoch(proposal, approvals).expect("all approve");
    change.verify(&CHAIN).expect("signed");
    change
}

fn at(agency: &str, time_ms: u64) -> LodgedAt {
    LodgedAt { agency: code(agency), height: 1 + (time_ms - NOW) / 1000, time_ms }
}

fn refused(to: &Agreements, change: &AgreementChange, at: &LodgedAt) -> &'static str {
    to.after(change, at, &Known::default()).expect_err("refused").code()
}

/// An agreement among these, with its id.
fn among(parties: &[&str]) -> (Agreements, Hash) {
    let change = agreed(proposal(None, 1, parties));
    let at = at(parties[0], NOW + 1000);
    let after = Agreements::default().after(&change, &at, &Known::default());
    (after.expect("valid"), change.agreement())
}

#[test]
fn each_rule_of_an_epoch_by_itself() {
    let own = own_id(&code("AA"));
    let sound = proposal(None, 1, &["AA", "BB"]);
    assert_eq!(
        EpochProposal::from_proto(sound.clone()).map(|p| p.agreement() == p.hash()),
        Ok(true)
    );
    let alone = proposal(Some(own), 1, &["AA"]);
    assert_eq!(EpochProposal::from_proto(alone.clone()).map(|p| p.agreement()), Ok(own));
    let refused = |proto: &v1::AgreementEpoch, change: &dyn Fn(&mut v1::AgreementEpoch)| {
        let mut changed = proto.clone();
        change(&mut changed);
        EpochProposal::from_proto(changed).expect_err("refused").code()
    };
    type Fault<'a> = (&'a str, &'a dyn Fn(&mut v1::AgreementEpoch));
    let faults: [Fault<'_>; 15] = [
        ("AGREEMENT_PARTIES", &|p| p.parties.clear()),
        ("AGREEMENT_PARTIES", &|p| p.parties.reverse()),
        ("AGREEMENT_PARTIES", &|p| p.parties[1] = "AA".into()),
        ("AGREEMENT_PARTIES", &|p| p.parties[0] = "aa".into()),
        ("AGREEMENT_PARTIES", &|p| p.parties = (10..27).map(|n| format!("A{n}")).collect()),
        ("AGREEMENT_NUMBER", &|p| p.number = 0),
        ("AGREEMENT_NUMBER", &|p| p.number = EPOCHS_MAX + 1),
        ("AGREEMENT_ID", &|p| p.agreement = vec![1; 32]),
        ("AGREEMENT_ID", &|p| p.number = 2),
        ("AGREEMENT_ID", &|p| p.parties.truncate(1)),
        ("AGREEMENT_KEY", &|p| p.public_key.truncate(31)),
        ("AGREEMENT_KEY", &|p| p.public_key = [&[1][..], &[0; 31]].concat()),
        ("AGREEMENT_PERIOD", &|p| p.until_ms = p.from_ms),
        ("AGREEMENT_PERIOD", &|p| p.until_ms = p.from_ms + EPOCH_MS_MAX + 1),
        ("AGREEMENT_FIELD", &|p| p.terms_hash.truncate(31)),
    ];
    for (code, change) in faults {
        assert_eq!(refused(&sound, change), code);
    }
    assert_eq!(refused(&alone, &|p| p.agreement = own_id(&code("BB")).0.to_vec()), "AGREEMENT_ID");
    let AgreementChange::Epoch(proposal, approvals) = agreed(sound) else { panic!("an epoch") };
    let few = AgreementChange::epoch((*proposal).clone(), approvals[..1].to_vec());
    assert_eq!(few.expect_err("refused").code(), "AGREEMENT_APPROVAL_COUNT");
    let swapped = vec![approvals[1], approvals[0]];
    let swapped = AgreementChange::epoch((*proposal).clone(), swapped).expect("well-formed");
    // Signed all the same: whose keys they are is the chain's to check.
    assert_eq!(swapped.verify(&CHAIN), Ok(()));
    assert_eq!(refused_code(&swapped), "AGREEMENT_APPROVER");
    let elsewhere = swapped.verify(&Hash([8; 32])).expect_err("another chain");
    assert_eq!(elsewhere.code(), "AGREEMENT_APPROVAL");
    let read = AgreementChange::from_proto(&swapped.to_proto());
    assert_eq!(read, Ok(swapped));
}

fn refused_code(change: &AgreementChange) -> &'static str {
    refused(&Agreements::default(), change, &at("AA", NOW))
}

#[test]
fn who_may_change_what() {
    let (agreements, id) = among(&["AA", "BB"]);
    let later = at("AA", NOW + 5000);
    // To begin one.
    assert_eq!(refused_code(&agreed(proposal(None, 1, &["BB", "CC"]))), "AGREEMENT_PARTY");
    assert_eq!(refused_code(&agreed(proposal(None, 1, &["AA", "ZZ"]))), "AGREEMENT_MEMBER");
    let expired = v1::AgreementEpoch { not_after_ms: NOW - 1, ..proposal(None, 1, &["AA", "BB"]) };
    assert_eq!(refused_code(&agreed(expired)), "AGREEMENT_EXPIRED");
    let over = v1::AgreementEpoch {
        from_ms: NOW - DAY,
        until_ms: NOW,
        ..proposal(None, 1, &["AA", "BB"])
    };
    assert_eq!(refused_code(&agreed(over)), "AGREEMENT_OVER");
    let ahead = |from_ms, not_after_ms| v1::AgreementEpoch {
        from_ms,
        until_ms: from_ms + DAY,
        not_after_ms,
        ..proposal(None, 1, &["AA", "BB"])
    };
    assert_eq!(refused_code(&agreed(ahead(NOW + 367 * DAY, NOW))), "AGREEMENT_AHEAD");
    assert_eq!(refused_code(&agreed(ahead(NOW, NOW + 32 * DAY))), "AGREEMENT_AHEAD");
    // To go on with one.
    let next = |number, parties: &[&str]| agreed(proposal(Some(id), number, parties));
    assert_eq!(refused_code(&next(2, &["AA", "BB"])), "AGREEMENT_UNKNOWN");
    assert_eq!(refused(&agreements, &next(3, &["AA", "BB"]), &later), "AGREEMENT_STALE");
    assert_eq!(refused(&agreements, &next(2, &["AA", "CC"]), &later), "AGREEMENT_LEFT_OUT");
    assert_eq!(refused(&agreements, &next(2, &["CC", "DD"]), &at("CC", NOW)), "AGREEMENT_LEFT_OUT");
    assert!(agreements.after(&next(2, &["AA", "BB", "CC"]), &later, &Known::default()).is_ok());
    // A party that is a member no more is left out, and nobody else.
    let closed = Known { closed: [code("BB")].into() };
    assert!(agreements.after(&next(2, &["AA", "CC"]), &later, &closed).is_ok());
    // To leave.
    let leave = |agreement, epoch| AgreementChange::Leave { agreement, epoch };
    assert_eq!(refused(&agreements, &leave(CHAIN, 1), &later), "AGREEMENT_UNKNOWN");
    assert_eq!(refused(&agreements, &leave(id, 2), &later), "AGREEMENT_STALE");
    assert_eq!(refused(&agreements, &leave(id, 1), &at("CC", NOW)), "AGREEMENT_PARTY");
    let left = agreements.after(&leave(id, 1), &later, &Known::default()).expect("it may");
    assert_eq!(refused(&left, &leave(id, 1), &later), "AGREEMENT_LEFT");
    // What was approved before somebody left is void, and who has left is in no next epoch against its will.
    for parties in [&["BB", "CC"][..], &["AA", "BB", "CC"]] {
        assert_eq!(refused(&left, &next(2, parties), &at("BB", NOW + 6000)), "AGREEMENT_STALE");
    }
    let anew = v1::AgreementEpoch { changes: 2, ..proposal(Some(id), 2, &["BB", "CC"]) };
    assert!(left.after(&agreed(anew), &at("BB", NOW + 6000), &Known::default()).is_ok());
    // What is its own stays its own.
    let own = own_id(&code("AA"));
    let alone = agreed(proposal(Some(own), 1, &["AA"]));
    let with_own = agreements.after(&alone, &later, &Known::default()).expect("valid");
    assert_eq!(refused(&with_own, &leave(own, 1), &later), "AGREEMENT_OWN");
    let own_next = |number| agreed(proposal(Some(own), number, &["AA"]));
    let with_second = with_own.after(&own_next(2), &later, &Known::default()).expect("valid");
    assert_eq!(refused(&with_second, &own_next(3), &later), "AGREEMENT_RATE");
    let day_after = at("AA", NOW + DAY + 6000);
    assert!(with_second.after(&own_next(3), &day_after, &Known::default()).is_ok());
    let long_after = at("AA", NOW + 40 * DAY);
    assert_eq!(refused(&agreements, &leave(id, 1), &long_after), "AGREEMENT_OVER");
    let shared = agreed(proposal(Some(own), 2, &["AA", "BB"]));
    assert_eq!(refused(&with_own, &shared, &later), "AGREEMENT_OWN");
}

#[test]
fn what_is_in_force_when() {
    let (agreements, id) = among(&["AA", "BB"]);
    let check = |agreements: &Agreements, number, agency: &str, time_ms| {
        agreements.check_slot((&id, number), &code(agency), time_ms, &Known::default())
    };
    let (unknown, party, over) =
        (SlotRefused::AgreementUnknown, SlotRefused::AgreementParty, SlotRefused::AgreementEpoch);
    let end = NOW + 30 * DAY;
    assert_eq!(check(&agreements, 1, "AA", NOW), Ok(()));
    assert_eq!(check(&agreements, 1, "BB", end - 1), Ok(()));
    assert_eq!(check(&agreements, 1, "AA", end), Err(over));
    assert_eq!(check(&agreements, 1, "AA", NOW - 1), Err(over));
    assert_eq!(check(&agreements, 1, "CC", NOW), Err(party));
    assert_eq!(check(&agreements, 2, "AA", NOW), Err(unknown));
    assert_eq!(check(&agreements, 0, "AA", NOW), Err(unknown));
    let nowhere = agreements.check_slot((&CHAIN, 1), &code("AA"), NOW, &Known::default());
    assert_eq!(nowhere, Err(unknown));
    // A membership that is closed ends it.
    let closed = Known { closed: [code("BB")].into() };
    assert_eq!(agreements.check_slot((&id, 1), &code("AA"), NOW, &closed), Err(over));
    // The next epoch ends those before it an hour after it begins.
    let next =
        v1::AgreementEpoch { from_ms: NOW + DAY, ..proposal(Some(id), 2, &["AA", "BB", "CC"]) };
    let next = agreements.after(&agreed(next), &at("AA", NOW + 9000), &Known::default());
    let next = next.expect("valid");
    assert_eq!(check(&next, 1, "AA", NOW + DAY + NOTICE_MS - 1), Ok(()));
    assert_eq!(check(&next, 1, "AA", NOW + DAY + NOTICE_MS), Err(over));
    assert_eq!(check(&next, 2, "CC", NOW + DAY), Ok(()));
    assert_eq!(
        (next.parties(&id, 1), next.parties(&id, 3)),
        (Some(&[code("AA"), code("BB")][..]), None)
    );
    // Who leaves ends what there is an hour later, for all.
    let leave = AgreementChange::Leave { agreement: id, epoch: 2 };
    let left = next.after(&leave, &at("BB", NOW + 2 * DAY), &Known::default()).expect("it may");
    assert_eq!(check(&left, 2, "CC", NOW + 2 * DAY + NOTICE_MS - 1), Ok(()));
    assert_eq!(check(&left, 2, "CC", NOW + 2 * DAY + NOTICE_MS), Err(over));
}

#[test]
fn they_follow_from_the_list_of_changes_and_each_change_shows_in_the_root() {
    let first = agreed(proposal(None, 1, &["AA", "BB"]));
    let id = first.agreement();
    let lasting = |epoch: v1::AgreementEpoch, days: u64| {
        agreed(v1::AgreementEpoch {
            from_ms: NOW + days * DAY,
            until_ms: NOW + (days + 1) * DAY,
            not_after_ms: NOW + (days + 1) * DAY,
            ..epoch
        })
    };
    let steps = [
        ("AA", first, 0),
        ("AA", lasting(proposal(Some(id), 2, &["AA", "BB", "CC"]), 2), 2),
        ("CC", AgreementChange::Leave { agreement: id, epoch: 2 }, 2),
        ("DD", lasting(proposal(None, 1, &["CC", "DD"]), 40), 40),
        ("DD", lasting(proposal(None, 1, &["BB", "DD"]), 70), 70),
    ];
    let (mut agreements, mut events) = (Agreements::default(), Vec::new());
    let mut roots = BTreeSet::from([agreements.root()]);
    for (agency, change, days) in steps {
        let at = at(agency, NOW + days * DAY + 1000);
        events.push(agreements.apply(&change, &at, &Known::default()).expect("valid"));
        assert_eq!(Agreements::of_events(events.clone()).as_ref(), Some(&agreements));
        roots.insert(agreements.root());
        if events.len() == 3 {
            let proof = agreements.prove(&id).expect("in the tree");
            let leaf = merkle::leaf_hash(&proof.entry);
            let tree = merkle::root_from_inclusion(&leaf, proof.index, proof.count, &proof.path);
            let proven = root(proof.count, &tree.expect("a path"), &proof.head);
            assert_eq!(proven, agreements.root());
        }
    }
    assert_eq!(roots.len(), 6);
    // What is long over leaves the tree; a change of it that was lost shows all the same.
    assert_eq!(agreements.prove(&id), None);
    events.remove(2);
    let without = Agreements::of_events(events).expect("a list");
    assert_ne!(without.root(), agreements.root());
}

#[test]
fn no_agency_floods_the_tree() {
    let mut agreements = Agreements::default();
    let lodge = |agreements: &Agreements, seed: u64, time_ms| {
        let terms_hash = [&seed.to_be_bytes()[..], &[0; 24]].concat();
        let change = agreed(v1::AgreementEpoch { terms_hash, ..proposal(None, 1, &["AA", "BB"]) });
        agreements.after(&change, &at("AA", time_ms), &Known::default())
    };
    for seed in 0..AGREEMENT_CHANGES_A_DAY_MAX as u64 {
        agreements = lodge(&agreements, seed, NOW + seed).expect("few enough");
    }
    let refused = lodge(&agreements, 1000, NOW + DAY - 1).expect_err("one too many");
    assert_eq!(refused.code(), "AGREEMENT_RATE");
    // Of another agency, and a day later.
    let other = agreed(proposal(None, 1, &["AA", "BB"]));
    assert!(agreements.after(&other, &at("BB", NOW + 1000), &Known::default()).is_ok());
    agreements = lodge(&agreements, 1000, NOW + DAY).expect("the first is a day old");
    let mut days = 1;
    while agreements.all().count() < crate::limits::AGREEMENTS_OPEN_MAX {
        days += 1;
        for seed in 0..60 {
            if agreements.all().count() < crate::limits::AGREEMENTS_OPEN_MAX {
                agreements =
                    lodge(&agreements, days * 1000 + seed, NOW + days * DAY).expect("valid");
            }
        }
    }
    let refused = lodge(&agreements, 999_999, NOW + (days + 2) * DAY).expect_err("one too many");
    assert_eq!(refused.code(), "AGREEMENT_TOO_MANY");
    let leave = |agreements: &Agreements, id| {
        let leave = AgreementChange::Leave { agreement: id, epoch: 1 };
        agreements.after(&leave, &at("BB", NOW + (days + 2) * DAY), &Known::default())
    };
    let id = agreements.all().next().expect("some").id;
    let fewer = leave(&agreements, id).expect("it may");
    assert!(lodge(&fewer, 999_999, NOW + (days + 2) * DAY + NOTICE_MS).is_ok());
}
