//! The agreements after a block: what the changes so far come to, and the root over them.
//!
//! All of it follows from the list of changes, in the order in which blocks carried them. The store keeps that list
//! alone, and the root covers it by a chain, whose head is beside the tree's root: a row that was lost or changed
//! shows when the chain is opened, also where its agreement has left the tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use customhouse_proto::v1::{self, agreement_event::Event};
use prost::Message as _;

use super::{
    AgreementApproval, AgreementChange, AgreementInvalid, EpochProposal, NOTICE_MS, parties_of,
};
use crate::{
    agency::AgencyCode,
    authority::SlotRefused,
    canonical,
    hash::{Hash, Tag},
    keys::PublicKey,
    limits::{
        AGREEMENT_CHANGES_A_DAY_MAX, AGREEMENT_KEPT_MS, AGREEMENTS_OPEN_MAX, EPOCH_AHEAD_MS_MAX,
        EPOCHS_MAX, OWN_EPOCHS_A_DAY_MAX, PROPOSAL_MS_MAX,
    },
    merkle,
    vrf::VrfPublicKey,
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// An epoch of an agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Who is entitled to what is lodged in it, and may lodge. Ascending.
    pub parties: Vec<AgencyCode>,
    /// Those of them that have left since.
    pub left: BTreeSet<AgencyCode>,
    /// The key of its verifiable random function.
    pub key: VrfPublicKey,
    /// Unix milliseconds, inclusive.
    pub from_ms: u64,
    /// Unix milliseconds, exclusive.
    pub until_ms: u64,
    /// Hash of its terms.
    pub terms_hash: Hash,
}

/// An agreement, with all that has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Its id.
    pub id: Hash,
    /// By number: the first is epoch 1. Never empty.
    pub epochs: Vec<Epoch>,
    /// How many changes it has had.
    pub changes: u32,
    /// Of its entry.
    leaf: Hash,
}

/// The agreements after a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreements {
    list: BTreeMap<Hash, Arc<Agreement>>,
    /// When an agency has lodged changes in the last day, and whether of its own agreement.
    lodged: BTreeMap<AgencyCode, Vec<(u64, bool)>>,
    /// The time of the newest block with a change.
    newest_ms: u64,
    /// How many changes there were, and the chain over them.
    events: u64,
    head: Hash,
}

/// What the chain knows about the members, as far as agreements ask.
pub trait KnownMembers {
    /// Whether an agency is a member.
    fn is_member(&self, agency: &AgencyCode) -> bool;
    /// Whether a key is a node's signing key of an agency.
    fn is_node_of(&self, key: &PublicKey, agency: &AgencyCode) -> bool;
}

/// Where a change is lodged.
#[derive(Clone, Copy, Debug)]
pub struct LodgedAt {
    /// The transaction's agency.
    pub agency: AgencyCode,
    /// The block's height.
    pub height: u64,
    /// The block's time, Unix milliseconds.
    pub time_ms: u64,
}

impl Default for Agreements {
    fn default() -> Self {
        Self {
            list: BTreeMap::new(),
            lodged: BTreeMap::new(),
            newest_ms: 0,
            events: 0,
            head: Hash::ZERO,
        }
    }
}

impl Agreements {
    /// Those that events give, which are all that were committed, in their order; `None` where they are not.
    pub fn of_events(events: impl IntoIterator<Item = v1::AgreementEvent>) -> Option<Self> {
        let mut agreements = Self::default();
        for event in events {
            agreements.add(&event)?;
        }
        Some(agreements)
    }

    /// The root over them, which with the members root makes the registry root. Takes a hash for each agreement that is
    /// not long over.
    pub fn root(&self) -> Hash {
        let kept: Vec<_> = self.kept().map(|agreement| agreement.leaf).collect();
        root(kept.len() as u64, &merkle::root_of_hashes(kept), &self.head)
    }

    /// How many changes there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// An agreement by its id.
    pub fn get(&self, id: &Hash) -> Option<&Agreement> {
        self.list.get(id).map(Arc::as_ref)
    }

    /// All, by id.
    pub fn all(&self) -> impl Iterator<Item = &Agreement> {
        self.list.values().map(Arc::as_ref)
    }

    /// Who is entitled to what was lodged under an epoch; `None` where there is no such epoch.
    pub fn parties(&self, agreement: &Hash, epoch: u32) -> Option<&[AgencyCode]> {
        Some(&self.get(agreement)?.epoch(epoch)?.parties)
    }

    /// Whether an agency may lodge under an epoch in a block of this time.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_slot(
        &self,
        (agreement, number): (&Hash, u32),
        agency: &AgencyCode,
        time_ms: u64,
        members: &impl KnownMembers,
    ) -> Result<(), SlotRefused> {
        let epoch = self.get(agreement).and_then(|agreement| agreement.epoch(number));
        let epoch = epoch.ok_or(SlotRefused::AgreementUnknown)?;
        if !epoch.parties.contains(agency) {
            return Err(SlotRefused::AgreementParty);
        }
        let in_force = (epoch.from_ms..epoch.until_ms).contains(&time_ms)
            && epoch.parties.iter().all(|party| members.is_member(party));
        if in_force { Ok(()) } else { Err(SlotRefused::AgreementEpoch) }
    }

    /// Whether a block may carry a change. Its signatures were checked with the transaction.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(
        &self,
        change: &AgreementChange,
        at: &LodgedAt,
        members: &impl KnownMembers,
    ) -> Result<(), AgreementInvalid> {
        match change {
            AgreementChange::Epoch(proposal, approvals) => {
                self.check_epoch(proposal, approvals, at, members)
            }
            AgreementChange::Leave { agreement, epoch } => self.check_leave(agreement, *epoch, at),
        }
    }

    /// Takes a change in, and gives what the store keeps of it.
    ///
    /// # Errors
    /// As [`Agreements::check`]; nothing is changed then.
    pub fn apply(
        &mut self,
        change: &AgreementChange,
        at: &LodgedAt,
        members: &impl KnownMembers,
    ) -> Result<v1::AgreementEvent, AgreementInvalid> {
        self.check(change, at, members)?;
        let event = match change {
            AgreementChange::Epoch(proposal, _) => Event::Epoch(proposal.to_proto()),
            AgreementChange::Leave { agreement, epoch } => {
                let agreement = agreement.0.to_vec();
                Event::Leave(v1::AgreementLeave { agreement, epoch: *epoch })
            }
        };
        let event = v1::AgreementEvent {
            height: at.height,
            time_ms: at.time_ms,
            agency: at.agency.to_string(),
            event: Some(event),
        };
        self.add(&event).expect("checked");
        Ok(event)
    }

    fn check_epoch(
        &self,
        proposal: &EpochProposal,
        approvals: &[AgreementApproval],
        at: &LodgedAt,
        members: &impl KnownMembers,
    ) -> Result<(), AgreementInvalid> {
        let (not_after_ms, time_ms) = (proposal.not_after_ms(), at.time_ms);
        if not_after_ms < time_ms {
            return Err(AgreementInvalid::Expired { not_after_ms, time_ms });
        }
        let (from_ms, until_ms) = proposal.period_ms();
        if until_ms <= time_ms {
            return Err(AgreementInvalid::Over);
        }
        if not_after_ms.saturating_sub(time_ms) > PROPOSAL_MS_MAX
            || from_ms.saturating_sub(time_ms) > EPOCH_AHEAD_MS_MAX
        {
            return Err(AgreementInvalid::Ahead);
        }
        if !proposal.parties().contains(&at.agency) {
            return Err(AgreementInvalid::NotParty(at.agency));
        }
        self.check_next(proposal, members)?;
        for (party, approval) in proposal.parties().iter().zip(approvals) {
            if !members.is_member(party) {
                return Err(AgreementInvalid::NotMember(*party));
            }
            if !members.is_node_of(&approval.signer, party) {
                let key = Hash(*approval.signer.as_bytes());
                return Err(AgreementInvalid::Approver { party: *party, key });
            }
        }
        self.check_counts(proposal, at)
    }

    /// The epoch is the next of its agreement, and leaves out no party that has not left.
    fn check_next(
        &self,
        proposal: &EpochProposal,
        members: &impl KnownMembers,
    ) -> Result<(), AgreementInvalid> {
        let (agreement, stated) = (proposal.agreement(), proposal.number());
        let present = self.get(&agreement);
        let next = present.map_or(1, Agreement::next_number);
        if stated != next {
            return match present {
                None => Err(AgreementInvalid::Unknown(agreement)),
                Some(_) => Err(AgreementInvalid::Number { agreement, next, stated }),
            };
        }
        let (present_changes, stated) = (present.map_or(0, |a| a.changes), proposal.changes());
        if present_changes != stated {
            return Err(AgreementInvalid::Changed { agreement, present: present_changes, stated });
        }
        let Some(newest) = present.map(Agreement::newest) else { return Ok(()) };
        if (newest.parties.len() == 1) != (proposal.parties().len() == 1) {
            return Err(AgreementInvalid::Own);
        }
        let stays = |party: &&AgencyCode| !newest.left.contains(party) && members.is_member(party);
        let mut stay = newest.parties.iter().filter(stays);
        match stay.find(|party| !proposal.parties().contains(party)) {
            Some(party) => Err(AgreementInvalid::LeftOut(*party)),
            None => Ok(()),
        }
    }

    /// No agency fills the tree, or the blocks, with agreements.
    fn check_counts(
        &self,
        proposal: &EpochProposal,
        at: &LodgedAt,
    ) -> Result<(), AgreementInvalid> {
        self.check_rate(at, proposal.parties().len() == 1)?;
        let id = proposal.agreement();
        let others = || self.all().filter(|agreement| agreement.id != id);
        let is_open = |party: &AgencyCode, agreement: &Agreement| {
            let newest = agreement.newest();
            let has_part = newest.parties.contains(party) && !newest.left.contains(party);
            has_part && newest.until_ms > at.time_ms.max(newest.from_ms)
        };
        let open = |party: &&AgencyCode| others().filter(|a| is_open(party, a)).count();
        match proposal.parties().iter().find(|party| open(party) >= AGREEMENTS_OPEN_MAX) {
            Some(party) => Err(AgreementInvalid::TooManyOpen(*party)),
            None => Ok(()),
        }
    }

    fn check_rate(&self, at: &LodgedAt, is_own: bool) -> Result<(), AgreementInvalid> {
        let since = at.time_ms.saturating_sub(DAY_MS);
        let lodged = self.lodged.get(&at.agency).into_iter().flatten();
        let recent = lodged.filter(|(time_ms, _)| *time_ms > since);
        let (all, own) =
            recent.fold((0, 0), |(all, own), (_, is_own)| (all + 1, own + usize::from(*is_own)));
        match all >= AGREEMENT_CHANGES_A_DAY_MAX || (is_own && own >= OWN_EPOCHS_A_DAY_MAX) {
            true => Err(AgreementInvalid::TooMany(at.agency)),
            false => Ok(()),
        }
    }

    fn check_leave(&self, id: &Hash, stated: u32, at: &LodgedAt) -> Result<(), AgreementInvalid> {
        let agreement = self.get(id).ok_or(AgreementInvalid::Unknown(*id))?;
        let newest = agreement.newest();
        if !newest.parties.contains(&at.agency) {
            return Err(AgreementInvalid::NotParty(at.agency));
        }
        if newest.parties.len() == 1 {
            return Err(AgreementInvalid::Own);
        }
        let number = agreement.next_number() - 1;
        if stated != number {
            return Err(AgreementInvalid::Number { agreement: *id, next: number, stated });
        }
        if newest.left.contains(&at.agency) {
            return Err(AgreementInvalid::HasLeft(at.agency));
        }
        if newest.until_ms <= at.time_ms {
            return Err(AgreementInvalid::Over);
        }
        self.check_rate(at, false)
    }

    /// Adds an event. `None` where it cannot be one.
    fn add(&mut self, event: &v1::AgreementEvent) -> Option<()> {
        let agency: AgencyCode = event.agency.parse().ok()?;
        let (id, epoch) = match event.event.as_ref()? {
            Event::Epoch(epoch) => {
                (EpochProposal::from_proto(epoch.clone()).ok()?.agreement(), Some(epoch))
            }
            Event::Leave(leave) => (Hash::from_slice(&leave.agreement).ok()?, None),
        };
        let new = || Agreement { id, epochs: Vec::new(), changes: 0, leaf: Hash::ZERO };
        let present = self.list.entry(id).or_insert_with(|| Arc::new(new()));
        Arc::make_mut(present).add(event, agency)?;
        self.newest_ms = self.newest_ms.max(event.time_ms);
        self.note_lodged(
            agency,
            event.time_ms,
            epoch.is_some_and(|epoch| epoch.parties.len() == 1),
        );
        self.events += 1;
        self.head = Tag::AGREEMENT_EVENT.hash(&[self.head.as_bytes(), &event.encode_to_vec()]);
        Some(())
    }

    /// Only those of the last day are asked for.
    fn note_lodged(&mut self, agency: AgencyCode, time_ms: u64, is_own: bool) {
        let since = time_ms.saturating_sub(DAY_MS);
        let times = self.lodged.entry(agency).or_default();
        times.push((time_ms, is_own));
        times.retain(|(time_ms, _)| *time_ms > since);
    }

    /// Those that are not long over: what is, is proven by an earlier header, and makes place.
    fn kept(&self) -> impl Iterator<Item = &Agreement> {
        let since = self.newest_ms;
        self.all().filter(move |agreement| {
            agreement.newest().until_ms.saturating_add(AGREEMENT_KEPT_MS) > since
        })
    }

    /// The entry of an agreement that is under the root: its bytes, its place among how many, and its path.
    pub fn prove(&self, id: &Hash) -> Option<AgreementProof> {
        let kept: Vec<_> = self.kept().collect();
        let index = kept.iter().position(|agreement| agreement.id == *id)?;
        let entries: Vec<_> = kept.iter().map(|agreement| agreement.entry()).collect();
        let path = merkle::Tree::of(&entries).inclusion_path(index as u64).ok()?;
        let (entry, count) = (entries.get(index)?.clone(), entries.len() as u64);
        Some(AgreementProof { entry, index: index as u64, count, path, head: self.head })
    }
}

/// Where an agreement's entry stands in the tree under the agreements root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementProof {
    /// The entry's canonical bytes.
    pub entry: Vec<u8>,
    /// Its position.
    pub index: u64,
    /// How many entries there are.
    pub count: u64,
    /// RFC 6962 path.
    pub path: Vec<Hash>,
    /// The chain over all changes of agreements.
    pub head: Hash,
}

impl Agreement {
    /// An epoch by its number.
    pub fn epoch(&self, number: u32) -> Option<&Epoch> {
        self.epochs.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// The newest epoch, which is the one in force or to come.
    ///
    /// # Panics
    /// Never: an agreement begins with an epoch.
    pub fn newest(&self) -> &Epoch {
        self.epochs.last().expect("an agreement begins with an epoch")
    }

    /// The number that its next epoch will have.
    pub fn next_number(&self) -> u32 {
        u32::try_from(self.epochs.len()).map_or(u32::MAX, |count| count.saturating_add(1))
    }

    fn add(&mut self, event: &v1::AgreementEvent, agency: AgencyCode) -> Option<()> {
        let notice = |time_ms: u64| time_ms.saturating_add(NOTICE_MS);
        let (ends_ms, added) = match event.event.as_ref()? {
            Event::Epoch(proto) => {
                let epoch = Epoch::of(proto)?;
                (notice(epoch.from_ms.max(event.time_ms)), Some(epoch))
            }
            Event::Leave(_) => {
                self.epochs.last_mut()?.left.insert(agency);
                (notice(event.time_ms), None)
            }
        };
        for epoch in &mut self.epochs {
            epoch.until_ms = epoch.until_ms.min(ends_ms.max(epoch.from_ms));
        }
        self.epochs.extend(added);
        self.changes += 1;
        self.leaf = merkle::leaf_hash(&self.entry());
        Some(())
    }

    /// Its leaf: canonical bytes of [`v1::AgreementEntry`].
    pub fn entry(&self) -> Vec<u8> {
        let codes = |parties: &mut dyn Iterator<Item = &AgencyCode>| {
            parties.map(ToString::to_string).collect::<Vec<_>>()
        };
        let epoch = |epoch: &Epoch| v1::EpochEntry {
            parties: codes(&mut epoch.parties.iter()),
            left: codes(&mut epoch.left.iter()),
            public_key: epoch.key.as_bytes().to_vec(),
            from_ms: epoch.from_ms,
            until_ms: epoch.until_ms,
            terms_hash: epoch.terms_hash.0.to_vec(),
        };
        let epochs = self.epochs.iter().map(epoch).collect();
        v1::AgreementEntry { id: self.id.0.to_vec(), epochs }.encode_to_vec()
    }
}

/// Reads an entry under the agreements root, as [`Agreement::entry`] has it: the agreement's id, and its epochs, the
/// first of which is epoch 1. `None` where it is none, which no chain has under its root.
pub fn read_entry(bytes: &[u8]) -> Option<(Hash, Vec<Epoch>)> {
    let entry: v1::AgreementEntry = canonical::decode(bytes).ok()?;
    let id = Hash::from_slice(&entry.id).ok()?;
    let is_listed = (1..=EPOCHS_MAX as usize).contains(&entry.epochs.len());
    let epochs = entry.epochs.iter().map(Epoch::of_entry).collect::<Option<Vec<_>>>()?;
    is_listed.then_some((id, epochs))
}

impl Epoch {
    fn of_entry(entry: &v1::EpochEntry) -> Option<Self> {
        let parties = parties_of(&entry.parties)?;
        let left: Vec<AgencyCode> =
            entry.left.iter().map(|code| code.parse().ok()).collect::<Option<_>>()?;
        let is_list =
            left.is_sorted_by(|a, b| a < b) && left.iter().all(|code| parties.contains(code));
        is_list.then_some(())?;
        Some(Self {
            parties,
            left: left.into_iter().collect(),
            key: VrfPublicKey::from_slice(&entry.public_key).ok()?,
            from_ms: entry.from_ms,
            until_ms: entry.until_ms,
            terms_hash: Hash::from_slice(&entry.terms_hash).ok()?,
        })
    }

    fn of(proto: &v1::AgreementEpoch) -> Option<Self> {
        Some(Self {
            parties: parties_of(&proto.parties)?,
            left: BTreeSet::new(),
            key: VrfPublicKey::from_slice(&proto.public_key).ok()?,
            from_ms: proto.from_ms,
            until_ms: proto.until_ms,
            terms_hash: Hash::from_slice(&proto.terms_hash).ok()?,
        })
    }
}

/// The agreements root of a tree of `count` entries, after the changes that the chain over them ends in: so what is not
/// in the tree any more is covered as well.
pub fn root(count: u64, tree_root: &Hash, head: &Hash) -> Hash {
    Tag::AGREEMENTS.hash(&[&count.to_be_bytes(), tree_root.as_bytes(), head.as_bytes()])
}
