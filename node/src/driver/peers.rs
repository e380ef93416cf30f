//! The peers that the registry lists, as the driver knows them: by the core's tags.

use customhouse_consensus::PeerTag;
use customhouse_ledger::{agency::AgencyCode, chain::ChainReader, keys::PublicKey};

/// How often those whose time is over are looked for where the registry does not change, in heights.
const LOOK_EVERY: u64 = 64;

/// Other nodes' keys, with their agencies. A peer keeps its tag for as long as the driver lives, also
/// when it is listed no longer.
pub struct Peers {
    own: PublicKey,
    /// Listed by the configuration.
    more: Vec<(AgencyCode, PublicKey)>,
    /// By tag.
    known: Vec<(AgencyCode, PublicKey)>,
    listed: Vec<(AgencyCode, PublicKey)>,
}

/// Who may connect at a ledger's tip: the peers of the registry, those that ended lately included, so
/// that they can hand over what they hold.
pub fn listed_peers(reader: &ChainReader) -> Vec<(AgencyCode, PublicKey)> {
    reader.peers_at(reader.tip().header.height + 1)
}

impl Peers {
    pub(super) fn new(
        reader: &ChainReader,
        own: PublicKey,
        more: Vec<(AgencyCode, PublicKey)>,
    ) -> Self {
        let mut peers = Self { own, more, known: Vec::new(), listed: Vec::new() };
        peers.update(reader);
        peers
    }

    /// Takes up a new tip. True where others than before are listed.
    pub(super) fn committed(&mut self, reader: &ChainReader, registry_changed: bool) -> bool {
        let due = registry_changed || reader.tip().header.height.is_multiple_of(LOOK_EVERY);
        due && self.update(reader)
    }

    fn update(&mut self, reader: &ChainReader) -> bool {
        let mut listed = listed_peers(reader);
        listed.extend_from_slice(&self.more);
        listed.retain(|(_, key)| *key != self.own);
        listed.sort_unstable();
        listed.dedup_by_key(|(_, key)| *key);
        let changed = listed != self.listed;
        for peer in &listed {
            if !self.known.contains(peer) {
                self.known.push(*peer);
            }
        }
        self.listed = listed;
        changed
    }

    /// Who may connect.
    pub fn listed(&self) -> &[(AgencyCode, PublicKey)] {
        &self.listed
    }

    pub(super) fn at(&self, tag: PeerTag) -> Option<PublicKey> {
        let known = usize::try_from(tag.0).ok().and_then(|index| self.known.get(index));
        known.map(|(_, key)| *key)
    }

    pub(super) fn tag(&self, peer: &PublicKey) -> Option<PeerTag> {
        let index = self.known.iter().position(|(_, known)| known == peer)?;
        Some(PeerTag(index as u64))
    }

    /// The agency of this peer.
    pub(super) fn agency(&self, tag: PeerTag) -> Option<AgencyCode> {
        let known = usize::try_from(tag.0).ok().and_then(|index| self.known.get(index));
        known.map(|(agency, _)| *agency)
    }
}
