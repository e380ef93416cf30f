//! What is in the file of keys, and its bytes before they are sealed.
//!
//! ```text
//! version 1 (1)  next group (8)
//! gaps        count (4)  { first (8)  end (8) }
//! groups      count (4)  { number (8)  month (4)  key (32) }      ascending
//! epochs      count (4)  { agreement (32)  epoch (4)  until (8)  secret (32) }      ascending
//! dedupe      count (4)  { until (8, all bits set for none)  secret (32) }      newest first
//! encryption  count (4)  { secret (32) }      newest first
//! ```
//!
//! A group number below `next group` that is not among the groups was ended, unless it is in a gap: a restored
//! vault does not know what was made after its backup, so it leaves the numbers that may have been given out
//! then as a gap, and goes on behind it.

use std::collections::BTreeMap;

use customhouse_files::secret::Secret;
use customhouse_ledger::{
    hash::Hash,
    layout::{LayoutError, Reader, Writer},
};
use zeroize::Zeroizing;

use crate::{
    envelope::RecipientSecret,
    error::VaultError,
    group::{GroupNumber, RetentionMonth},
    named::{DedupeSecret, EncryptionKey, EpochSecret},
};

const VERSION: u8 = 1;
/// Most of each.
const GAPS_MAX: usize = 1024;
pub(crate) const GROUPS_MAX: usize = 65_536;
pub(crate) const EPOCHS_MAX: usize = 65_536;
pub(crate) const DEDUPE_MAX: usize = 64;
pub(crate) const ENCRYPTION_MAX: usize = 1024;
/// Group numbers that a restored vault leaves out: more than are ever made between two backups.
const GAP: u64 = 1 << 32;

/// The key of a group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) month: RetentionMonth,
    pub(crate) key: Secret,
}

/// All that a vault has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    pub(crate) next_group: u64,
    gaps: Vec<(u64, u64)>,
    pub(crate) groups: BTreeMap<GroupNumber, Group>,
    pub(crate) epochs: BTreeMap<(Hash, u32), EpochSecret>,
    pub(crate) dedupe: Vec<DedupeSecret>,
    pub(crate) encryption: Vec<EncryptionKey>,
}

impl Contents {
    /// A new group for a month.
    pub(crate) fn add_group(&mut self, month: RetentionMonth) -> Result<GroupNumber, VaultError> {
        room("group keys", self.groups.len(), GROUPS_MAX)?;
        let number = GroupNumber(self.next_group);
        let key = Secret::random().map_err(VaultError::Randomness)?;
        self.next_group += 1;
        self.groups.insert(number, Group { month, key });
        Ok(number)
    }

    /// The key of a group, or why there is none.
    pub(crate) fn group(&self, number: GroupNumber) -> Result<&Group, VaultError> {
        let in_a_gap = || self.gaps.iter().any(|(first, end)| (*first..*end).contains(&number.0));
        match self.groups.get(&number) {
            Some(group) => Ok(group),
            None if number.0 >= self.next_group || in_a_gap() => {
                Err(VaultError::GroupUnknown(number))
            }
            None => Err(VaultError::Ended(number)),
        }
    }

    /// Leaves out the numbers that may have been given out since the backup.
    pub(crate) fn leave_a_gap(&mut self) -> Result<(), VaultError> {
        room("restorations", self.gaps.len(), GAPS_MAX)?;
        let end = self.next_group.saturating_add(GAP);
        self.gaps.push((self.next_group, end));
        self.next_group = end;
        Ok(())
    }

    fn length(&self) -> usize {
        let (gaps, groups) = (self.gaps.len() * 16, self.groups.len() * 44);
        let (epochs, dedupe) = (self.epochs.len() * 76, self.dedupe.len() * 40);
        9 + 5 * 4 + gaps + groups + epochs + dedupe + self.encryption.len() * 32
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let count = |count: usize| u32::try_from(count).expect("bounded by `room`");
        let secret = |out: Writer, secret: &Secret| secret.with(|bytes| out.bytes(bytes));
        // Room for the whole, so that nothing secret is moved and left behind.
        let mut out = Writer::with_capacity(self.length()).u8(VERSION).u64(self.next_group);
        out = out.u32(count(self.gaps.len()));
        for (first, end) in &self.gaps {
            out = out.u64(*first).u64(*end);
        }
        out = out.u32(count(self.groups.len()));
        for (number, group) in &self.groups {
            out = secret(out.u64(number.0).u32(group.month.to_number()), &group.key);
        }
        out = out.u32(count(self.epochs.len()));
        for ((agreement, epoch), kept) in &self.epochs {
            out = secret(out.hash(agreement).u32(*epoch).u64(kept.until_s), &kept.secret);
        }
        out = out.u32(count(self.dedupe.len()));
        for kept in &self.dedupe {
            out = secret(out.u64(kept.until_s.unwrap_or(u64::MAX)), &kept.secret);
        }
        out = out.u32(count(self.encryption.len()));
        for kept in &self.encryption {
            out = secret(out, kept.secret.as_secret());
        }
        Zeroizing::new(out.finish())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut reader = Reader::new(bytes);
        if reader.u8("version")? != VERSION {
            return Err(LayoutError::Invalid("version"));
        }
        let mut contents = Self { next_group: reader.u64("next group")?, ..Self::default() };
        for _ in 0..count(&mut reader, "gaps", GAPS_MAX)? {
            contents.gaps.push((reader.u64("gap")?, reader.u64("gap")?));
        }
        for _ in 0..count(&mut reader, "groups", GROUPS_MAX)? {
            let number = GroupNumber(reader.u64("group")?);
            let month = RetentionMonth::from_number(reader.u32("month")?);
            let month = month.ok_or(LayoutError::Invalid("month"))?;
            contents.groups.insert(number, Group { month, key: secret(&mut reader, "group key")? });
        }
        for _ in 0..count(&mut reader, "epochs", EPOCHS_MAX)? {
            let (agreement, epoch) = (reader.hash("agreement")?, reader.u32("epoch")?);
            let until_s = reader.u64("until")?;
            let secret = secret(&mut reader, "epoch secret")?;
            let kept = EpochSecret { agreement, epoch, secret, until_s };
            contents.epochs.insert((agreement, epoch), kept);
        }
        for _ in 0..count(&mut reader, "dedupe", DEDUPE_MAX)? {
            let until_s = Some(reader.u64("until")?).filter(|until| *until != u64::MAX);
            contents.dedupe.push(DedupeSecret { secret: secret(&mut reader, "dedupe")?, until_s });
        }
        for _ in 0..count(&mut reader, "encryption", ENCRYPTION_MAX)? {
            let secret = RecipientSecret::new(secret(&mut reader, "encryption key")?);
            contents.encryption.push(EncryptionKey { public: secret.public(), secret });
        }
        reader.finish().map(|()| contents)
    }
}

/// Whether one more may be added.
pub(crate) fn room(what: &'static str, there_are: usize, max: usize) -> Result<(), VaultError> {
    if there_are < max { Ok(()) } else { Err(VaultError::Full { what, max }) }
}

fn count(reader: &mut Reader<'_>, of: &'static str, max: usize) -> Result<usize, LayoutError> {
    let count = reader.u32(of)? as usize;
    if count <= max { Ok(count) } else { Err(LayoutError::Invalid(of)) }
}

fn secret(reader: &mut Reader<'_>, field: &'static str) -> Result<Secret, LayoutError> {
    let bytes = reader.take(Secret::LENGTH, field)?;
    bytes.try_into().map(Secret::new).map_err(|_| LayoutError::Invalid(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Contents {
        let secret = |byte| Secret::new(&[byte; 32]);
        let month = "2031-07".parse().expect("a month");
        let mut contents = Contents::default();
        let first = contents.add_group(month).expect("room");
        contents.add_group(month).expect("room");
        contents.groups.remove(&first);
        contents.leave_a_gap().expect("room");
        for epoch in 0..2 {
            let (agreement, secret) = (Hash([3; 32]), secret(4));
            let kept = EpochSecret { agreement, epoch, secret, until_s: 5 };
            contents.epochs.insert((agreement, epoch), kept);
        }
        contents.dedupe.push(DedupeSecret { secret: secret(6), until_s: None });
        contents.dedupe.push(DedupeSecret { secret: secret(7), until_s: Some(8) });
        let secret = RecipientSecret::new(secret(9));
        contents.encryption.push(EncryptionKey { public: secret.public(), secret });
        contents
    }

    #[test]
    fn contents_come_back_and_were_never_moved_while_they_were_written() {
        let (contents, empty) = (full(), Contents::default());
        for contents in [&contents, &empty] {
            let bytes = contents.encode();
            assert_eq!(bytes.len(), contents.length());
            assert_eq!(Contents::decode(&bytes).expect("the layout").encode(), bytes);
        }
    }

    #[test]
    fn a_group_was_ended_or_never_made_or_may_have_been_made_after_a_backup() {
        let contents = full();
        let code = |number| contents.group(GroupNumber(number)).expect_err("none").code();
        assert_eq!(code(0), "VAULT_ENDED");
        assert!(contents.group(GroupNumber(1)).is_ok());
        for number in [2, 1 << 32, 2 + (1 << 32), u64::MAX] {
            assert_eq!(code(number), "VAULT_GROUP_UNKNOWN", "{number}");
        }
    }

    #[test]
    fn what_is_cut_or_too_many_is_refused() {
        let bytes = full().encode();
        for length in 0..bytes.len() {
            assert!(Contents::decode(&bytes[..length]).is_err(), "{length}");
        }
        // The counts of gaps and of groups, and the version.
        for at in [9, 9 + 4 + 16, 0] {
            let mut changed = bytes.clone();
            changed[at] = 0xff;
            assert!(Contents::decode(&changed).is_err(), "{at}");
        }
        let mut contents = Contents::default();
        let month = "2031-07".parse().expect("a month");
        let group = Group { month, key: Secret::new(&[1; 32]) };
        let numbers = (0..).map(GroupNumber).take(GROUPS_MAX);
        contents.groups = numbers.map(|number| (number, group.clone())).collect();
        assert_eq!(contents.add_group(month).expect_err("full").code(), "VAULT_FULL");
        assert!(Contents::decode(&contents.encode()).is_ok());
    }
}
