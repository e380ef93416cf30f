//! What is in the file of keys, and its bytes before they are sealed.
//!
//! ```text
//! version 1 (1)  renewal due (1)
//! incarnations  count (4)  { incarnation (4)  groups begun (4)  last generation (8) }   oldest first
//! history       count (4)  { generation (8)  file id (16) }   newest first, this file's own among them
//! groups        count (4)  { number (8)  month (4)  keys given out (4)  closed (1)  key (32) }   ascending
//! epochs        count (4)  { agreement (32)  epoch (4)  until (8)  secret (32) }      ascending
//! dedupe        count (4)  { until (8, all bits set for none)  secret (32) }      newest first
//! encryption    count (4)  { secret (32) }      newest first
//! ```
//!
//! An *incarnation* is the vault from its creation, or from a restoration, to the next restoration: a random
//! number, which is the upper half of the numbers of its groups. So a vault that was put back gives out no number
//! that was given out after its backup, however often it is put back; and a group that is not there was ended if
//! its number is below those begun by its incarnation as this vault knows it, and is unknown if not.
//!
//! *Keys given out* is a bound, reserved in steps: after a restart the group goes on behind it.

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
    group::{GROUP_KEYS_MAX, GroupNumber, RetentionMonth},
    named::{DedupeSecret, EncryptionKey, EpochSecret},
};

const VERSION: u8 = 1;
/// Most of each.
const INCARNATIONS_MAX: usize = 1024;
/// Files of before that are known one by one; what is older is known by its incarnation and generation.
const HISTORY_MAX: usize = 64;
pub(crate) const GROUPS_MAX: usize = 65_536;
pub(crate) const EPOCHS_MAX: usize = 65_536;
pub(crate) const DEDUPE_MAX: usize = 64;
pub(crate) const ENCRYPTION_MAX: usize = 1024;
/// Keys of a group that are given out between two writings.
pub(crate) const RESERVED: u32 = 1024;

/// 16 random bytes that tell one writing of the keys from every other.
pub(crate) type FileId = [u8; 16];

/// Which writing of the keys it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeysName {
    pub(crate) incarnation: u32,
    pub(crate) generation: u64,
    pub(crate) file: FileId,
}

/// The key of a group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) month: RetentionMonth,
    /// No more than so many keys were wrapped under it.
    pub(crate) given_out: u32,
    /// Nothing more is wrapped under it: a round has begun that ends it.
    pub(crate) is_closed: bool,
    pub(crate) key: Secret,
}

/// The vault from its creation or a restoration on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Incarnation {
    id: u32,
    /// How many groups it has begun, as far as this vault knows.
    groups: u32,
    /// The generation that the next one begins after; all bits set for the present one.
    last_generation: u64,
}

/// All that a vault has.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    /// Whether something was removed that is still under the present root key in older files.
    pub(crate) renewal_due: bool,
    /// Never empty: the last is the present one.
    incarnations: Vec<Incarnation>,
    history: Vec<(u64, FileId)>,
    pub(crate) groups: BTreeMap<GroupNumber, Group>,
    pub(crate) epochs: BTreeMap<(Hash, u32), EpochSecret>,
    pub(crate) dedupe: Vec<DedupeSecret>,
    pub(crate) encryption: Vec<EncryptionKey>,
}

/// Keys of a group that may be given out without another writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    pub(crate) group: GroupNumber,
    /// How many.
    pub(crate) left: u32,
}

impl Contents {
    /// Those of a new vault, by a random number.
    pub(crate) fn new(incarnation: u32) -> Self {
        let present = Incarnation { id: incarnation, groups: 0, last_generation: u64::MAX };
        Self {
            renewal_due: false,
            incarnations: vec![present],
            history: Vec::new(),
            groups: BTreeMap::new(),
            epochs: BTreeMap::new(),
            dedupe: Vec::new(),
            encryption: Vec::new(),
        }
    }

    /// The present incarnation.
    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnations.last().expect("never empty").id
    }

    /// The generation of the file that these contents are.
    pub(crate) fn generation(&self) -> u64 {
        self.history.first().map_or(0, |(generation, _)| *generation)
    }

    /// Begins another incarnation, by a random number, in what was put back from a copy of a generation. Nothing
    /// more is wrapped under the groups of before: how many keys they have is not known.
    pub(crate) fn begin_incarnation(
        &mut self,
        incarnation: u32,
        generation: u64,
    ) -> Result<(), VaultError> {
        room("restorations", self.incarnations.len(), INCARNATIONS_MAX)?;
        self.incarnations.last_mut().expect("never empty").last_generation = generation;
        let present = Incarnation { id: incarnation, groups: 0, last_generation: u64::MAX };
        self.incarnations.push(present);
        self.groups.values_mut().for_each(|group| group.given_out = GROUP_KEYS_MAX);
        Ok(())
    }

    /// Whether an incarnation has this number, which a new one must not have.
    pub(crate) fn has_incarnation(&self, incarnation: u32) -> bool {
        self.incarnations.iter().any(|known| known.id == incarnation)
    }

    /// Notes the file that these contents are about to be.
    pub(crate) fn note(&mut self, name: &KeysName) {
        self.history.insert(0, (name.generation, name.file));
        self.history.truncate(HISTORY_MAX);
    }

    /// Whether a file is this one.
    pub(crate) fn are(&self, name: &KeysName) -> bool {
        self.history.first() == Some(&(name.generation, name.file))
    }

    /// Whether a file is this one, or one that this one came from.
    pub(crate) fn descend_from(&self, name: &KeysName) -> bool {
        let is_older = self.history.last().is_none_or(|(oldest, _)| name.generation < *oldest);
        let in_line = |known: &Incarnation| {
            known.id == name.incarnation && name.generation <= known.last_generation
        };
        self.history.contains(&(name.generation, name.file))
            || (is_older && self.incarnations.iter().any(in_line))
    }

    /// Reserves keys in the open group of a month, or in a new one.
    pub(crate) fn reserve(&mut self, month: RetentionMonth) -> Result<Reserved, VaultError> {
        let has_room = |group: &Group| {
            group.month == month && !group.is_closed && group.given_out < GROUP_KEYS_MAX
        };
        let open = self.groups.iter().find(|(_, group)| has_room(group));
        let number = match open.map(|(number, _)| *number) {
            Some(number) => number,
            None => self.add_group(month)?,
        };
        let group = self.groups.get_mut(&number).expect("found or added");
        let left = RESERVED.min(GROUP_KEYS_MAX - group.given_out);
        group.given_out += left;
        Ok(Reserved { group: number, left })
    }

    fn add_group(&mut self, month: RetentionMonth) -> Result<GroupNumber, VaultError> {
        room("group keys", self.groups.len(), GROUPS_MAX)?;
        let present = self.incarnations.last_mut().expect("never empty");
        room("groups that were ever begun", present.groups as usize, u32::MAX as usize)?;
        let number = GroupNumber(u64::from(present.id) << 32 | u64::from(present.groups));
        let key = Secret::random().map_err(VaultError::Randomness)?;
        present.groups += 1;
        self.groups.insert(number, Group { month, given_out: 0, is_closed: false, key });
        Ok(number)
    }

    /// The key of a group, or why there is none.
    pub(crate) fn group(&self, number: GroupNumber) -> Result<&Group, VaultError> {
        let was_begun = |known: &Incarnation| {
            u64::from(known.id) == number.0 >> 32
                && number.0 & u64::from(u32::MAX) < u64::from(known.groups)
        };
        match self.groups.get(&number) {
            Some(group) => Ok(group),
            None if self.incarnations.iter().any(was_begun) => Err(VaultError::Ended(number)),
            None => Err(VaultError::GroupUnknown(number)),
        }
    }

    /// Has nothing more wrapped under these groups.
    pub(crate) fn close(&mut self, numbers: &[GroupNumber]) {
        for number in numbers {
            if let Some(group) = self.groups.get_mut(number) {
                group.is_closed = true;
            }
        }
    }

    /// Ends groups, which were closed.
    pub(crate) fn end(&mut self, numbers: &[GroupNumber]) -> Result<(), VaultError> {
        for number in numbers {
            if self.groups.get(number).is_some_and(|group| !group.is_closed) {
                return Err(VaultError::NotClosed(*number));
            }
            self.renewal_due |= self.groups.remove(number).is_some();
        }
        Ok(())
    }

    fn length(&self) -> usize {
        let (line, groups) = (self.incarnations.len() * 16, self.groups.len() * 49);
        let (history, epochs) = (self.history.len() * 24, self.epochs.len() * 76);
        let (dedupe, encryption) = (self.dedupe.len() * 40, self.encryption.len() * 32);
        2 + 6 * 4 + line + history + groups + epochs + dedupe + encryption
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let count = |count: usize| u32::try_from(count).expect("bounded by `room`");
        let secret = |out: Writer, secret: &Secret| secret.with(|bytes| out.bytes(bytes));
        // Room for the whole, so that nothing secret is moved and left behind.
        let mut out = Writer::with_capacity(self.length()).u8(VERSION);
        out = out.u8(self.renewal_due.into()).u32(count(self.incarnations.len()));
        for known in &self.incarnations {
            out = out.u32(known.id).u32(known.groups).u64(known.last_generation);
        }
        out = out.u32(count(self.history.len()));
        for (generation, file) in &self.history {
            out = out.u64(*generation).bytes(file);
        }
        out = out.u32(count(self.groups.len()));
        for (number, group) in &self.groups {
            out = out.u64(number.0).u32(group.month.to_number()).u32(group.given_out);
            out = secret(out.u8(group.is_closed.into()), &group.key);
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
        let renewal_due = flag(&mut reader, "renewal due")?;
        let mut contents = Self { renewal_due, incarnations: Vec::new(), ..Self::new(0) };
        for _ in 0..count(&mut reader, "incarnations", INCARNATIONS_MAX)? {
            let (id, groups) = (reader.u32("incarnation")?, reader.u32("groups begun")?);
            let last_generation = reader.u64("last generation")?;
            contents.incarnations.push(Incarnation { id, groups, last_generation });
        }
        if contents.incarnations.is_empty() {
            return Err(LayoutError::Invalid("incarnations"));
        }
        for _ in 0..count(&mut reader, "history", HISTORY_MAX)? {
            contents.history.push((reader.u64("generation")?, reader.array("file")?));
        }
        for _ in 0..count(&mut reader, "groups", GROUPS_MAX)? {
            let number = GroupNumber(reader.u64("group")?);
            let month = RetentionMonth::from_number(reader.u32("month")?);
            let month = month.ok_or(LayoutError::Invalid("month"))?;
            let given_out = reader.u32("keys given out")?;
            if given_out > GROUP_KEYS_MAX {
                return Err(LayoutError::Invalid("keys given out"));
            }
            let is_closed = flag(&mut reader, "closed")?;
            let key = secret(&mut reader, "group key")?;
            contents.groups.insert(number, Group { month, given_out, is_closed, key });
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

fn flag(reader: &mut Reader<'_>, field: &'static str) -> Result<bool, LayoutError> {
    match reader.u8(field)? {
        value @ 0..=1 => Ok(value == 1),
        _ => Err(LayoutError::Invalid(field)),
    }
}

fn secret(reader: &mut Reader<'_>, field: &'static str) -> Result<Secret, LayoutError> {
    let bytes = reader.take(Secret::LENGTH, field)?;
    bytes.try_into().map(Secret::new).map_err(|_| LayoutError::Invalid(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month() -> RetentionMonth {
        "2031-07".parse().expect("a month")
    }

    fn name(incarnation: u32, generation: u64, file: u8) -> KeysName {
        KeysName { incarnation, generation, file: [file; 16] }
    }

    fn full() -> Contents {
        let secret = |byte| Secret::new(&[byte; 32]);
        let mut contents = Contents::new(7);
        let first = contents.add_group(month()).expect("room");
        contents.add_group(month()).expect("room");
        contents.groups.remove(&first);
        contents.note(&name(7, 1, 1));
        contents.begin_incarnation(9, 4).expect("room");
        contents.close(&[GroupNumber(7 << 32 | 1)]);
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
        let (contents, empty) = (full(), Contents::new(1));
        for contents in [&contents, &empty] {
            let bytes = contents.encode();
            assert_eq!(bytes.len(), contents.length());
            assert_eq!(Contents::decode(&bytes).expect("the layout").encode(), bytes);
        }
    }

    #[test]
    fn a_group_was_ended_or_never_made_or_may_have_been_made_after_a_backup() {
        let mut contents = full();
        let code = |contents: &Contents, number| {
            contents.group(GroupNumber(number)).expect_err("none").code()
        };
        assert_eq!(code(&contents, 7 << 32), "VAULT_ENDED");
        assert!(contents.group(GroupNumber(7 << 32 | 1)).is_ok());
        for number in [7 << 32 | 2, 9 << 32, 0, 8 << 32, u64::MAX] {
            assert_eq!(code(&contents, number), "VAULT_GROUP_UNKNOWN", "{number}");
        }
        // Restored again, from the same copy: the numbers are others.
        contents.begin_incarnation(11, 4).expect("room");
        assert_eq!(contents.add_group(month()).expect("room"), GroupNumber(11 << 32));
        assert_eq!(code(&contents, 9 << 32), "VAULT_GROUP_UNKNOWN");
    }

    #[test]
    fn a_group_is_gone_on_with_until_it_is_full_or_closed_and_never_in_another_incarnation() {
        let mut contents = Contents::new(1);
        let first = GroupNumber(1 << 32);
        for round in 1..=GROUP_KEYS_MAX / RESERVED {
            let reserved = contents.reserve(month()).expect("room");
            assert_eq!(reserved, Reserved { group: first, left: RESERVED });
            assert_eq!(contents.groups[&first].given_out, round * RESERVED);
        }
        let mut group = || contents.reserve(month()).map(|reserved| reserved.group.0);
        assert_eq!((group().expect("room"), group().expect("room")), (1 << 32 | 1, 1 << 32 | 1));
        contents.close(&[GroupNumber(1 << 32 | 1)]);
        assert_eq!(contents.reserve(month()).expect("room").group.0, 1 << 32 | 2);
        contents.begin_incarnation(5, 1).expect("room");
        assert_eq!(contents.reserve(month()).expect("room").group.0, 5 << 32);
    }

    #[test]
    fn a_file_is_known_one_by_one_or_by_its_line() {
        let mut contents = Contents::new(1);
        for generation in 1..=100 {
            contents.note(&name(1, generation, u8::try_from(generation).expect("small")));
        }
        assert!(
            contents.descend_from(&name(1, 100, 100)) && contents.descend_from(&name(1, 37, 37))
        );
        // Of a copy that went on by itself, as far back as files are known.
        assert!(!contents.descend_from(&name(1, 99, 200)));
        assert!(!contents.descend_from(&name(1, 101, 101)));
        assert!(contents.descend_from(&name(1, 2, 2)) && !contents.descend_from(&name(3, 2, 2)));
        // Put back from a copy of generation 50.
        contents.history.retain(|(generation, _)| *generation <= 50);
        contents.begin_incarnation(2, 50).expect("room");
        for generation in 51..=200 {
            contents.note(&name(2, generation, 9));
        }
        assert!(
            contents.descend_from(&name(1, 50, 50)) && !contents.descend_from(&name(1, 51, 51))
        );
        assert!(contents.descend_from(&name(2, 52, 9)));
    }

    #[test]
    fn what_is_cut_or_too_many_is_refused() {
        let bytes = full().encode();
        for length in 0..bytes.len() {
            assert!(Contents::decode(&bytes[..length]).is_err(), "{length}");
        }
        // The version, the flag, and the counts of incarnations and of files.
        for at in [0, 1, 2, 2 + 4 + 32] {
            let mut changed = bytes.clone();
            changed[at] = 0xff;
            assert!(Contents::decode(&changed).is_err(), "{at}");
        }
        let mut contents = Contents::new(0);
        let key = Secret::new(&[1; 32]);
        let group = Group { month: month(), given_out: GROUP_KEYS_MAX, is_closed: false, key };
        let numbers = (0..).map(GroupNumber).take(GROUPS_MAX);
        contents.groups = numbers.map(|number| (number, group.clone())).collect();
        assert_eq!(contents.reserve(month()).expect_err("full").code(), "VAULT_FULL");
        assert!(Contents::decode(&contents.encode()).is_ok());
    }
}
