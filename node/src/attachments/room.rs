//! How much the files of attachments may take: in all, of each client what no committed record refers to yet,
//! and of the disk no more than leaves the ledger its own.

use std::{collections::BTreeMap, path::Path};

use super::{
    AttachmentLimits, AttachmentRefusal,
    paths::{FileOwner, file_bytes},
};

/// What a file takes of a disk beside its bytes: so that many small ones count.
const FILE_COST: u64 = 4096;

/// What is held, in bytes and files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldFiles {
    /// Bytes, those included that are yet to come.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

/// Counts what is held.
#[derive(Debug)]
pub(super) struct Room {
    limits: AttachmentLimits,
    all: HeldFiles,
    /// Of what has not come whole, bytes that are set aside.
    incoming: HeldFiles,
    /// Of what no committed record refers to.
    of_owners: BTreeMap<FileOwner, HeldFiles>,
}

/// What an attachment of this size counts for.
pub(super) fn cost(size: u64) -> u64 {
    file_bytes(size) + FILE_COST
}

impl Room {
    pub(super) fn new(limits: AttachmentLimits) -> Self {
        let (all, incoming) = Default::default();
        Self { limits, all, incoming, of_owners: BTreeMap::new() }
    }

    pub(super) fn all(&self) -> HeldFiles {
        self.all
    }

    pub(super) fn incoming(&self) -> HeldFiles {
        self.incoming
    }

    /// Sets room aside for a file of an owner that is about to come.
    pub(super) fn take(
        &mut self,
        owner: &FileOwner,
        size: u64,
        directory: &Path,
    ) -> Result<(), AttachmentRefusal> {
        let (cost, limits) = (cost(size), &self.limits);
        if self.all.bytes + cost > limits.bytes_max {
            return Err(AttachmentRefusal::NoRoom("bytes of attachments at this node"));
        }
        // Whatever other agencies' records refer to, the node's own clients can go on uploading.
        if owner.is_peers() && self.all.bytes + cost > limits.bytes_max / 4 * 3 {
            return Err(AttachmentRefusal::NoRoom("bytes of attachments to fetch others'"));
        }
        let own = self.of_owners.get(owner).copied().unwrap_or_default();
        if !owner.is_peers() {
            if own.bytes + cost > limits.bytes_of_client_max {
                return Err(AttachmentRefusal::NoRoom(
                    "bytes of attachments of this client that no committed record refers to",
                ));
            }
            if own.files >= limits.files_of_client_max {
                return Err(AttachmentRefusal::NoRoom(
                    "attachments of this client that no committed record refers to",
                ));
            }
        }
        let needed = limits.disk_reserve_bytes.saturating_add(self.incoming.bytes + cost);
        if free_bytes(directory) < needed {
            return Err(AttachmentRefusal::NoRoom("bytes on the disk of the node"));
        }
        self.incoming.add(cost);
        self.add(owner, cost);
        Ok(())
    }

    /// Counts a file of an owner that is there already.
    pub(super) fn found(&mut self, owner: &FileOwner, cost: u64, is_part: bool) {
        if is_part {
            self.incoming.add(cost);
        }
        self.add(owner, cost);
    }

    /// Counts a file that committed records refer to.
    pub(super) fn found_held(&mut self, cost: u64) {
        self.all.add(cost);
    }

    /// What was coming is whole: it still has its owner.
    pub(super) fn came(&mut self, cost: u64) {
        self.incoming.subtract(cost);
    }

    /// A record refers to a file, which is its owner's no more.
    pub(super) fn claimed(&mut self, owner: &FileOwner, cost: u64) {
        self.subtract_own(owner, cost);
    }

    /// A file of an owner is gone.
    pub(super) fn gone(&mut self, owner: &FileOwner, cost: u64, was_part: bool) {
        if was_part {
            self.incoming.subtract(cost);
        }
        self.all.subtract(cost);
        self.subtract_own(owner, cost);
    }

    fn add(&mut self, owner: &FileOwner, cost: u64) {
        self.all.add(cost);
        self.of_owners.entry(owner.clone()).or_default().add(cost);
    }

    fn subtract_own(&mut self, owner: &FileOwner, cost: u64) {
        if let Some(own) = self.of_owners.get_mut(owner) {
            own.subtract(cost);
            if own.files == 0 {
                self.of_owners.remove(owner);
            }
        }
    }
}

impl HeldFiles {
    fn add(&mut self, cost: u64) {
        (self.bytes, self.files) = (self.bytes + cost, self.files + 1);
    }

    fn subtract(&mut self, cost: u64) {
        self.bytes = self.bytes.saturating_sub(cost);
        self.files = self.files.saturating_sub(1);
    }
}

/// Bytes that are free on the disk of a directory. A file system that does not tell is written to all the
/// same.
fn free_bytes(directory: &Path) -> u64 {
    rustix::fs::statvfs(directory)
        .map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{ClientIdentity, Role};

    fn owner(name: &str) -> FileOwner {
        let agency = "NL-DOUANE".parse().expect("a code");
        let (name, role) = (name.into(), Role::Broker);
        FileOwner::client(&ClientIdentity { agency, name, role, certificate: [0; 32] })
    }

    fn limits() -> AttachmentLimits {
        AttachmentLimits {
            bytes_max: 1_000_000,
            bytes_of_client_max: 300_000,
            files_of_client_max: 10,
            disk_reserve_bytes: 0,
        }
    }

    #[test]
    fn a_client_has_its_share_and_leaves_room_for_the_next_and_gets_its_own_back() {
        let (mut room, here) = (Room::new(limits()), Path::new("."));
        let (one, two) = (owner("one"), owner("two"));
        room.take(&one, 200_000, here).expect("room");
        room.take(&one, 200_000, here).expect_err("its share is taken");
        room.take(&two, 200_000, here).expect("room");
        room.came(cost(200_000));
        room.claimed(&one, cost(200_000));
        room.take(&one, 200_000, here).expect("a record refers to the first");
        assert_eq!((room.all().files, room.incoming().files), (3, 2));
        room.gone(&one, cost(200_000), true);
        room.gone(&two, cost(200_000), true);
        assert_eq!(room.all(), HeldFiles { bytes: cost(200_000), files: 1 });
        assert_eq!((room.incoming().bytes, room.of_owners.len()), (0, 0));
    }

    #[test]
    fn files_without_bytes_count_too_and_all_clients_together_have_no_more_than_there_is() {
        let (mut room, here) = (Room::new(limits()), Path::new("."));
        for _ in 0..10 {
            room.take(&owner("small"), 0, here).expect("room");
        }
        room.take(&owner("small"), 0, here).expect_err("too many files");
        let peers = FileOwner::peers();
        room.take(&peers, 800_000, here).expect_err("of this clients have a quarter");
        room.take(&peers, 600_000, here).expect("room");
        room.take(&peers, 200_000, here).expect_err("of this clients have a quarter");
        room.take(&owner("other"), 290_000, here).expect("room");
        room.take(&owner("third"), 100_000, here).expect_err("nothing is left");
    }

    #[test]
    fn the_disk_s_reserve_is_left_to_the_ledger() {
        let limits = AttachmentLimits { disk_reserve_bytes: u64::MAX / 2, ..limits() };
        let refused = Room::new(limits).take(&owner("one"), 1, Path::new(".")).expect_err("full");
        assert_eq!(refused, AttachmentRefusal::NoRoom("bytes on the disk of the node"));
    }
}
