//! What is being sealed while a round ends its group, and what a crash leaves of a round.

use std::{thread, time::Duration};

use super::{
    Place, attachment,
    groups::{close, rewrapped},
    month, opened, place, seal, sealed,
};
use crate::{
    error::VaultError,
    sealed::{SealedKind, WrappedKey},
    vault::Vault,
};

/// Longer than any test: what waits for so long is told by a deadline of the tests.
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_group_is_not_ended_while_something_sealed_under_it_is_being_stored() {
    let here = Place::new();
    let vault = here.plain();
    let (place, july) = (place(SealedKind::Record), month("2031-07"));
    let first = seal(&vault, place, july, b"bytes").expect("sealed");
    let group = [first.key().group()];
    let anew = vault.rewrap::<VaultError>(place, july, first.key(), |_| Ok(())).expect("wrapped");
    let key = vault.new_attachment::<VaultError>(place, july, |_| Ok(())).expect("made");
    assert_eq!([anew.group(), key.wrapped().group()], [group[0]; 2]);
    let code = |result: Result<(), VaultError>| result.expect_err("in use").code();
    let waited = || vault.close_groups(&group, Duration::ZERO);
    assert_eq!(code(vault.end_groups(&group)), "VAULT_NOT_CLOSED");
    assert_eq!(code(waited()), "VAULT_IN_USE");
    // What comes now is under another group already, and does not keep the round.
    let other = seal(&vault, place, july, b"other").expect("sealed");
    assert_ne!(other.key().group(), group[0]);
    assert_eq!(code(vault.end_groups(&group)), "VAULT_IN_USE");
    assert_eq!(code(vault.renew_root(&group)), "VAULT_IN_USE");
    let first = first.stored();
    drop(anew);
    assert_eq!(code(waited()), "VAULT_IN_USE", "an attachment's key is being stored");
    thread::scope(|scope| {
        let waits = scope.spawn(|| vault.close_groups(&group, LONG));
        key.stored();
        waits.join().expect("no panic").expect("closed");
    });
    // The round finds the record now, and wraps it anew.
    let kept = first.clone().with_key(rewrapped(&vault, july, first.key()));
    vault.renew_root(&group).expect("renewed");
    assert_eq!(opened(&vault, &kept), b"bytes");
    assert_eq!(opened(&vault, &other.stored()), b"other");
}

/// Threads seal and store while rounds wrap anew what was stored and end the groups: what was stored opens.
#[test]
fn nothing_that_was_stored_is_lost_to_rounds_that_go_on_meanwhile() {
    let here = Place::new();
    let vault = here.plain();
    let store = std::sync::Mutex::new(Vec::new());
    let (place, july) = (place(SealedKind::Record), month("2031-07"));
    let store_records = || {
        for _ in 0..200 {
            let record = seal(&vault, place, july, b"bytes").expect("sealed");
            store.lock().expect("whole").push((*record).clone());
            drop(record.stored());
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(store_records)).collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            let groups: Vec<_> = vault.groups().into_iter().map(|(number, _)| number).collect();
            vault.close_groups(&groups, LONG).expect("closed");
            for record in store.lock().expect("whole").iter_mut() {
                if groups.contains(&record.key().group()) {
                    let anew = rewrapped(&vault, july, record.key());
                    *record = record.clone().with_key(anew);
                }
            }
            vault.renew_root(&groups).expect("renewed");
        }
    });
    let stored = store.into_inner().expect("whole");
    assert_eq!(stored.len(), 600);
    assert!(stored.iter().all(|record| opened(&vault, record) == b"bytes"));
}

#[test]
fn a_retry_goes_on_with_the_key_of_before_so_that_one_group_ends_every_copy() {
    let here = Place::new();
    let vault = here.plain();
    let place = place(SealedKind::Record);
    // Kept before anything is sealed; what was sealed went to the mirror; and then the process ended.
    let mut intent = None;
    let keep = |wrapped: &WrappedKey| -> Result<(), VaultError> {
        intent = Some(*wrapped);
        Ok(())
    };
    let mirrored = vault.seal(place, month("2031-07"), b"bytes", keep).expect("sealed").stored();
    drop(vault);
    let vault = here.open();
    let intent = intent.expect("kept");
    let again = vault.seal_again(place, &intent, b"bytes").expect("sealed").stored();
    assert_eq!(again.key(), mirrored.key());
    let groups = [intent.group()];
    close(&vault, &groups);
    let error = vault.seal_again(place, &intent, b"bytes").expect_err("about to be ended");
    assert_eq!(error.code(), "VAULT_CLOSED");
    vault.renew_root(&groups).expect("renewed");
    for copy in [mirrored, again] {
        assert_eq!(vault.open_sealed(place, &copy).expect_err("purged").code(), "VAULT_ENDED");
    }
}

#[test]
fn nothing_is_sealed_where_the_intent_could_not_be_kept() {
    let here = Place::new();
    let vault = here.plain();
    let refuse = |_: &WrappedKey| Err(VaultError::SealedForm("a disk that is full"));
    let place = place(SealedKind::Record);
    vault.seal(place, month("2031-07"), b"bytes", refuse).expect_err("refused");
    vault.new_attachment(place, month("2031-07"), refuse).expect_err("refused");
    let groups: Vec<_> = vault.groups().into_iter().map(|(number, _)| number).collect();
    close(&vault, &groups);
}

#[test]
fn a_round_that_a_crash_cut_short_is_known_after_it() {
    let here = Place::new();
    let vault = here.plain();
    let record = sealed(&vault, b"bytes");
    let groups = [record.key().group()];
    close(&vault, &groups);
    let anew = rewrapped(&vault, month("2031-07"), record.key());
    drop(vault);
    let vault = here.open();
    assert_eq!(vault.closed_groups(), groups);
    let later = attachment(&vault, place(SealedKind::Attachment));
    assert_eq!(later.wrapped().group(), anew.group(), "nothing more is under what is closed");
    vault.renew_root(&groups).expect("renewed");
    assert_eq!(vault.closed_groups(), []);
    let look = |vault: &Vault| vault.open_sealed(place(SealedKind::Record), &record).is_err();
    assert!(look(&vault));
    assert_eq!(opened(&vault, &record.clone().with_key(anew)), b"bytes");
}
