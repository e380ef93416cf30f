//! What is sealed and opened, and the groups that the keys of it are wrapped by.

use std::time::Duration;

use customhouse_files::secret::Secret;
use zeroize::Zeroizing;

use super::Vault;
use crate::{
    attachment_key::AttachmentKey,
    contents::Contents,
    error::VaultError,
    group::{GroupNumber, RetentionMonth},
    lease::{InUse, Lease, Leased},
    sealed::{SealedBytes, SealedPlace, WrappedKey},
};

impl Vault {
    /// Seals bytes for a place, under a key of their own, wrapped by the current group of the month in which
    /// their retention ends. Where a group begins, its key is durable before anything is sealed. Before that
    /// `intend` makes the wrapped key durable at its place, to be found by a retry.
    ///
    /// # Errors
    /// Longer than [`crate::sealed::CONTENT_BYTES_MAX`]; a failing disk or mirror; no randomness; what `intend`
    /// answers.
    pub fn seal<E: From<VaultError>>(
        &self,
        place: SealedPlace,
        month: RetentionMonth,
        bytes: &[u8],
        intend: impl FnOnce(&WrappedKey) -> Result<(), E>,
    ) -> Result<Leased<SealedBytes>, E> {
        let key = Secret::random().map_err(VaultError::Randomness)?;
        let wrapped = self.wrap(place, month, &key, intend)?;
        let seal = |wrapped| SealedBytes::seal(place, wrapped, &key, bytes);
        wrapped.and_then(seal).map_err(E::from)
    }

    /// A new key for a place, wrapped as [`Vault::seal`] does, for whoever makes many intents durable with one write:
    /// what it is for is sealed with [`Vault::seal_again`] when that is done.
    ///
    /// # Errors
    /// As [`Vault::seal`].
    pub fn new_key(
        &self,
        place: SealedPlace,
        month: RetentionMonth,
    ) -> Result<Leased<WrappedKey>, VaultError> {
        let key = Secret::random().map_err(VaultError::Randomness)?;
        self.wrap(place, month, &key, |_| Ok(()))
    }

    /// Seals bytes for a place whose wrapped key is there already: from an attempt that a crash cut short.
    ///
    /// # Errors
    /// As [`Vault::seal`] and [`Vault::open_sealed`]; [`VaultError::Closed`] while a round is about to end the
    /// group: it wraps the key anew.
    pub fn seal_again(
        &self,
        place: SealedPlace,
        wrapped: &WrappedKey,
        bytes: &[u8],
    ) -> Result<Leased<SealedBytes>, VaultError> {
        let lease = self.lease_again(wrapped.group())?;
        let key = self.unwrap(place, wrapped)?;
        Ok(Leased::new(SealedBytes::seal(place, *wrapped, &key, bytes)?, lease))
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// [`VaultError::Ended`] for what was purged; [`VaultError::GroupUnknown`]; [`VaultError::NotAuthentic`]
    /// for what is damaged, or was sealed for another place.
    pub fn open_sealed(
        &self,
        place: SealedPlace,
        sealed: &SealedBytes,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        sealed.open(place, &self.unwrap(place, sealed.key())?)
    }

    /// A new key for an attachment, wrapped as [`Vault::seal`] does. The wrapped key alone is to be stored: where
    /// `intend` has done that, [`Leased::stored`] is said before the first piece comes, and no round waits for
    /// the last. What is stored is not written again from [`AttachmentKey::wrapped`] then.
    ///
    /// # Errors
    /// As [`Vault::seal`].
    pub fn new_attachment<E: From<VaultError>>(
        &self,
        place: SealedPlace,
        month: RetentionMonth,
        intend: impl FnOnce(&WrappedKey) -> Result<(), E>,
    ) -> Result<Leased<AttachmentKey>, E> {
        let key = Secret::random().map_err(VaultError::Randomness)?;
        let wrapped = self.wrap(place, month, &key, intend)?;
        wrapped.and_then(|wrapped| Ok(AttachmentKey::new(place, wrapped, key)))
    }

    /// The key of an attachment from what is kept beside its pieces.
    ///
    /// # Errors
    /// As [`Vault::open_sealed`].
    pub fn open_attachment(
        &self,
        place: SealedPlace,
        wrapped: &WrappedKey,
    ) -> Result<AttachmentKey, VaultError> {
        Ok(AttachmentKey::new(place, *wrapped, self.unwrap(place, wrapped)?))
    }

    /// The same key, wrapped by the current group of a month. What it opens stays as it is. `intend` makes it
    /// durable in the store, before the mirror has it.
    ///
    /// # Errors
    /// As [`Vault::open_sealed`] and [`Vault::seal`].
    pub fn rewrap<E: From<VaultError>>(
        &self,
        place: SealedPlace,
        month: RetentionMonth,
        wrapped: &WrappedKey,
        intend: impl FnOnce(&WrappedKey) -> Result<(), E>,
    ) -> Result<Leased<WrappedKey>, E> {
        self.wrap(place, month, &self.unwrap(place, wrapped)?, intend)
    }

    fn wrap<E: From<VaultError>>(
        &self,
        place: SealedPlace,
        month: RetentionMonth,
        key: &Secret,
        intend: impl FnOnce(&WrappedKey) -> Result<(), E>,
    ) -> Result<Leased<WrappedKey>, E> {
        let (number, group, lease) = self.lease(month)?;
        let wrapped = WrappedKey::wrap(place, number, &group, key)?;
        intend(&wrapped)?;
        Ok(Leased::new(wrapped, lease))
    }

    fn unwrap(&self, place: SealedPlace, wrapped: &WrappedKey) -> Result<Secret, VaultError> {
        let group = self.contents().group(wrapped.group())?.key.clone();
        wrapped.unwrap(place, &group)
    }

    /// A place in the month's current group, with the group's key: of the same moment, so that no round comes
    /// between the two.
    fn lease(&self, month: RetentionMonth) -> Result<(GroupNumber, Secret, Lease), VaultError> {
        let mut writer = self.writer();
        writer.bring_up(&self.contents())?;
        if writer.reserved.get(&month).is_none_or(|reserved| reserved.left == 0) {
            let reserved = self.change_here(&mut writer, |contents| contents.reserve(month))?;
            writer.reserved.insert(month, reserved);
            writer.bring_up(&self.contents()).map_err(VaultError::after_the_change)?;
        }
        let reserved = writer.reserved.get_mut(&month).expect("inserted above");
        reserved.left -= 1;
        let number = reserved.group;
        let key = self.contents().group(number)?.key.clone();
        Ok((number, key, self.leases.take(number)))
    }

    /// A lease of the group that a key was wrapped by before.
    fn lease_again(&self, number: GroupNumber) -> Result<Lease, VaultError> {
        // Groups are closed under the same lock.
        let _writer = self.writer();
        match self.contents().group(number)?.is_closed {
            true => Err(VaultError::Closed(number)),
            false => Ok(self.leases.take(number)),
        }
    }

    /// The groups whose keys there are, each with its month, by number.
    pub fn groups(&self) -> Vec<(GroupNumber, RetentionMonth)> {
        let contents = self.contents();
        contents.groups.iter().map(|(number, group)| (*number, group.month)).collect()
    }

    /// The groups that were closed and not ended: a round that a crash cut short goes on with these.
    pub fn closed_groups(&self) -> Vec<GroupNumber> {
        let contents = self.contents();
        let closed = contents.groups.iter().filter(|(_, group)| group.is_closed);
        closed.map(|(number, _)| *number).collect()
    }

    /// Has nothing more wrapped under these groups, durably, before what remains in them is wrapped anew; and
    /// waits until what is being stored is stored, or no longer than `patience`.
    ///
    /// # Errors
    /// [`VaultError::InUse`] after `patience`: the groups are closed, and the same call waits again. A failing
    /// disk or mirror.
    pub fn close_groups(
        &self,
        numbers: &[GroupNumber],
        patience: Duration,
    ) -> Result<(), VaultError> {
        {
            let mut writer = self.writer();
            writer.reserved.retain(|_, reserved| !numbers.contains(&reserved.group));
            self.change_with(&mut writer, |contents| {
                contents.close(numbers);
                Ok(())
            })?;
        }
        self.leases.wait(numbers, patience).map_err(in_use)
    }

    /// Ends the keys of groups, durably: from here on [`VaultError::Ended`] is told of what was sealed under
    /// them. A copy of the keys from before still opens it, until [`Vault::renew_root`].
    ///
    /// # Errors
    /// [`VaultError::NotClosed`], [`VaultError::InUse`]; a failing disk or mirror.
    pub fn end_groups(&self, numbers: &[GroupNumber]) -> Result<(), VaultError> {
        self.change(|contents| self.end(contents, numbers))
    }

    /// Under the writer's lock, where no lease begins.
    pub(super) fn end(
        &self,
        contents: &mut Contents,
        numbers: &[GroupNumber],
    ) -> Result<(), VaultError> {
        contents.end(numbers)?;
        self.leases.of(numbers).map_or(Ok(()), |found| Err(in_use(found)))
    }
}

fn in_use((group, count): InUse) -> VaultError {
    VaultError::InUse { group, count }
}
