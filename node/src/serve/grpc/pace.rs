//! How slowly a request may come that has many messages: each within a time, and all of them together with so
//! many bytes a second, at every moment after a while to begin with.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::serve::{
    quotas::{Coming, Place},
    refused::Refused,
};

/// After which time a call that was ended for another may find a place.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// How slowly a request may come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Time until the next message.
    pub(super) message: Duration,
    /// Time for all, beside that which the bytes have that have come.
    pub(super) beginning: Duration,
    /// Bytes that come in a second, as an average.
    pub(super) bytes_a_second: u64,
}

impl Pace {
    /// With this time for the next message.
    pub(super) fn of(message: Duration) -> Self {
        Self { message, beginning: 2 * message, bytes_a_second: 16 * 1024 }
    }
}

/// A request that is kept to a pace. The time in which the node works with what has come, or has no room for
/// more, is not the client's.
pub(super) struct Paced {
    pace: Pace,
    coming: Arc<Coming>,
}

impl Paced {
    pub(super) fn new(pace: Pace, place: Option<&Place>) -> Self {
        Self { pace, coming: place.map(Place::coming).unwrap_or_default() }
    }

    /// Waits for what comes next.
    ///
    /// # Errors
    /// What `late` says where it does not come in time, and that another needs the place where one does.
    pub(super) async fn next<T>(
        &self,
        next: impl Future<Output = T>,
        late: impl FnOnce() -> Refused,
    ) -> Result<T, Refused> {
        let (before, bytes) = self.coming.so_far();
        let Pace { message, beginning, bytes_a_second } = self.pace;
        let in_all = beginning + Duration::from_secs(bytes / bytes_a_second.max(1));
        let until = in_all.min(before + message);
        let mut next = std::pin::pin!(next);
        let _waited_for = self.coming.wait();
        loop {
            let left = until.saturating_sub(self.coming.so_far().0);
            if left.is_zero() {
                return Err(late());
            }
            tokio::select! {
                // It stands still meanwhile where the node has no room.
                found = timeout(left, &mut next) => if let Ok(found) = found {
                    return Ok(found);
                },
                () = self.coming.given_up() => {
                    let what = "calls of this kind, of which this one came slowest";
                    return Err(Refused::overloaded(what, RETRY_AFTER));
                }
            }
        }
    }

    /// Bytes have come.
    pub(super) fn came(&self, bytes: usize) {
        self.coming.came(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt as _;
    use tonic::Code;

    use super::*;
    use crate::{
        identity::{ClientIdentity, Role},
        serve::quotas::{Class, Quotas},
    };

    const PACE: Pace = Pace {
        message: Duration::from_secs(60),
        beginning: Duration::from_millis(100),
        bytes_a_second: 1000,
    };

    fn late() -> Refused {
        Refused::new(Code::DeadlineExceeded, "LATE", "late")
    }

    #[tokio::test]
    async fn the_pace_is_kept_at_every_moment() {
        let paced = Paced::new(PACE, None);
        paced.came(60_000);
        let next = paced.next(pending::<()>(), late);
        timeout(3 * PACE.beginning, next).await.expect_err("what has come has its time");
        let paced = Paced::new(PACE, None);
        paced.next(ready(()), late).await.expect("at once");
        // Whatever is to come still.
        let next = timeout(PACE.message / 2, paced.next(pending::<()>(), late)).await;
        assert_eq!(next.expect("in time").expect_err("too slow").reason_code, "LATE");
    }

    #[tokio::test]
    async fn the_slowest_gives_its_place_to_who_waits_for_one() {
        let quotas = Quotas::new(1024, 1024);
        let share = |number: usize| {
            let agency = "NL-DOUANE".parse().expect("a code");
            let role = Role::Broker;
            let name = number.to_string();
            quotas.share(&ClientIdentity { agency, name, role, certificate: [0; 32] })
        };
        let pace = Pace::of(Duration::from_secs(60));
        let (mut open, mut number) = (Vec::new(), 0);
        while let Some(place) = share(number).place(Class::ImportStream).now_or_never() {
            let place = place.expect("room");
            let paced = Paced::new(pace, Some(&place));
            // All but the third come fast.
            paced.came(if number == 2 { 9 } else { 1 << 30 });
            open.push(tokio::spawn(async move {
                let _place = place;
                paced.next(pending::<()>(), late).await.expect_err("nothing comes")
            }));
            number += 1;
        }
        let share = share(number);
        let next = timeout(Duration::from_secs(20), share.place(Class::ImportStream)).await;
        next.expect("in time").expect("the slowest's");
        let ended: Vec<_> = (0..open.len()).filter(|index| open[*index].is_finished()).collect();
        assert_eq!(ended, [2]);
        let refused = open.remove(2).await.expect("no panic");
        assert_eq!(refused.reason_code, "OVERLOADED");
        assert!(refused.retry_after.is_some());
    }
}
