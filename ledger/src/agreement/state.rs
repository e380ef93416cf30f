//! The agreements after a block: what the changes so far come to, and the root over them.
//!
//! All of it follows from the list of events, each of one agreement, of one block. So it can be made anew as of
//! any earlier height, and the store keeps the events alone.

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
    hash::{Hash, Tag},
    keys::PublicKey,
    limits::{AGREEMENT_CHANGES_A_DAY_MAX, AGREEMENT_KEPT_MS, AGREEMENTS_OPEN_MAX},
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
    events: Vec<v1::AgreementEvent>,
}

/// The agreements after a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreements {
    list: BTreeMap<Hash, Arc<Agreement>>,
    /// When an agency has lodged epochs.
    lodged: BTreeMap<AgencyCode, Vec<u64>>,
    /// The time of the newest block with a change.
    newest_ms: u64,
    root: Hash,
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
        Self { list: BTreeMap::new(), lodged: BTreeMap::new(), newest_ms: 0, root: root_of(&[]) }
    }
}

impl Agreements {
    /// Those that events give, which are of blocks that were committed, in any order of agreements and in the order
    /// of each; `None` where they are not such events.
    pub fn of_events(events: impl IntoIterator<Item = v1::AgreementEvent>) -> Option<Self> {
        let mut agreements = Self::default();
        for event in events {
            agreements.add(event)?;
        }
        agreements.root = agreements.compute_root();
        Some(agreements)
    }

    /// Those after an earlier block.
    pub fn as_of(&self, height: u64) -> Self {
        let events = self.list.values().flat_map(|agreement| &agreement.events);
        let earlier = events.filter(|event| event.height <= height).cloned();
        Self::of_events(earlier).expect("a beginning of what was added")
    }

    /// The root over them, which with the members root makes the registry root.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// An agreement by its id.
    pub fn get(&self, id: &Hash) -> Option<&Agreement> {
        self.list.get(id).map(Arc::as_ref)
    }

    /// All, by id.
    pub fn all(&self) -> impl Iterator<Item = &Agreement> {
        self.list.values().map(Arc::as_ref)
    }

    /// Heights of the blocks that have changed them.
    pub fn change_heights(&self) -> BTreeSet<u64> {
        self.all().flat_map(|agreement| &agreement.events).map(|event| event.height).collect()
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

    /// Those after a block that carries a change as well. Its signatures were checked with the transaction.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn after(
        &self,
        change: &AgreementChange,
        at: &LodgedAt,
        members: &impl KnownMembers,
    ) -> Result<Self, AgreementInvalid> {
        let event = match change {
            AgreementChange::Epoch(proposal, approvals) => {
                self.check_epoch(proposal, approvals, at, members)?;
                Event::Epoch(proposal.to_proto())
            }
            AgreementChange::Leave { agreement, epoch } => {
                self.check_leave(agreement, *epoch, at)?;
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
        let mut after = self.clone();
        after.add(event).expect("checked");
        after.root = after.compute_root();
        Ok(after)
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
        if proposal.period_ms().1 <= time_ms {
            return Err(AgreementInvalid::Over);
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
        let since = at.time_ms.saturating_sub(DAY_MS);
        let lodged = self.lodged.get(&at.agency).into_iter().flatten();
        if lodged.filter(|time_ms| **time_ms > since).count() >= AGREEMENT_CHANGES_A_DAY_MAX {
            return Err(AgreementInvalid::TooMany(at.agency));
        }
        if self.get(&proposal.agreement()).is_some() {
            return Ok(());
        }
        let is_open = |party: &AgencyCode, agreement: &Agreement| {
            let newest = agreement.newest();
            newest.until_ms > at.time_ms && newest.parties.contains(party)
        };
        let open = |party: &&AgencyCode| self.all().filter(|a| is_open(party, a)).count();
        match proposal.parties().iter().find(|party| open(party) >= AGREEMENTS_OPEN_MAX) {
            Some(party) => Err(AgreementInvalid::TooManyOpen(*party)),
            None => Ok(()),
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
        match newest.left.contains(&at.agency) {
            true => Err(AgreementInvalid::HasLeft(at.agency)),
            false => Ok(()),
        }
    }

    /// Adds an event, without the root. `None` where it cannot be one.
    fn add(&mut self, event: v1::AgreementEvent) -> Option<()> {
        let agency: AgencyCode = event.agency.parse().ok()?;
        self.newest_ms = self.newest_ms.max(event.time_ms);
        let id = match event.event.as_ref()? {
            Event::Epoch(epoch) => EpochProposal::from_proto(epoch.clone()).ok()?.agreement(),
            Event::Leave(leave) => Hash::from_slice(&leave.agreement).ok()?,
        };
        if matches!(event.event, Some(Event::Epoch(_))) {
            self.note_lodged(agency, event.time_ms);
        }
        let new = || Agreement { id, epochs: Vec::new(), events: Vec::new() };
        let present = self.list.entry(id).or_insert_with(|| Arc::new(new()));
        Arc::make_mut(present).add(event, agency)
    }

    /// Only those of the last day are asked for.
    fn note_lodged(&mut self, agency: AgencyCode, time_ms: u64) {
        let since = self.newest_ms.saturating_sub(DAY_MS);
        let times = self.lodged.entry(agency).or_default();
        times.push(time_ms);
        times.retain(|time_ms| *time_ms > since);
    }

    /// Over those that are not long over: what is, is proven by an earlier header, and makes place.
    fn compute_root(&self) -> Hash {
        let kept = self.all().filter(|agreement| self.is_kept(agreement));
        root_of(&kept.map(Agreement::entry).collect::<Vec<_>>())
    }

    fn is_kept(&self, agreement: &Agreement) -> bool {
        agreement.newest().until_ms.saturating_add(AGREEMENT_KEPT_MS) > self.newest_ms
    }

    /// The entry of an agreement that is under the root: its bytes, its place among how many, and its path.
    pub fn prove(&self, id: &Hash) -> Option<AgreementProof> {
        let kept: Vec<_> = self.all().filter(|agreement| self.is_kept(agreement)).collect();
        let index = kept.iter().position(|agreement| agreement.id == *id)?;
        let entries: Vec<_> = kept.iter().map(|agreement| agreement.entry()).collect();
        let path = merkle::Tree::of(&entries).inclusion_path(index as u64).ok()?;
        let entry = entries.get(index)?.clone();
        Some(AgreementProof { entry, index: index as u64, count: entries.len() as u64, path })
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

    /// Its changes, in order.
    pub fn events(&self) -> &[v1::AgreementEvent] {
        &self.events
    }

    fn add(&mut self, event: v1::AgreementEvent, agency: AgencyCode) -> Option<()> {
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
        self.events.push(event);
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

impl Epoch {
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

/// Tagged hash of the count of entries (u64) and their RFC 6962 root.
fn root_of(entries: &[Vec<u8>]) -> Hash {
    root(entries.len() as u64, &merkle::root(entries))
}

/// The agreements root of a tree of `count` entries.
pub fn root(count: u64, tree_root: &Hash) -> Hash {
    Tag::AGREEMENTS.hash(&[&count.to_be_bytes(), tree_root.as_bytes()])
}
