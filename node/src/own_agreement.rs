//! Keeps an epoch of the agreement that the agency has with itself in force, so that its records can be sealed when
//! they are shared with nobody yet.
//!
//! An epoch lasts a year and is followed by the next a month before its end, or where its secret is not in the
//! vault any more (it was put back from before the epoch was agreed). Its secret and its terms are durable before
//! it is lodged. No more than one is lodged in a day, whatever goes wrong: an agreement has 1,024 epochs.

use std::time::Duration;

use customhouse_ledger::{
    agreement::{
        Agreement, AgreementChange, AgreementError, Epoch, EpochProposal, own_id,
        terms::{AgreementTerms, TermsError},
    },
    chain::ChainReader,
    hash::Hash,
};
use customhouse_proto::v1;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    agreements::{HeldAgreements, KeepError, new_salt, new_secret},
    clock,
    driver::ConsensusStatus,
    health::Responder,
    identity::{ClientIdentity, Role},
    services::Services,
    submissions::{End, SubmissionRefusal, Submissions},
};

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// How long an epoch lasts.
const EPOCH_MS: u64 = 365 * DAY_MS;
/// How long before its end the next one is lodged.
const AHEAD_MS: u64 = 30 * DAY_MS;
/// Time between two looks where there is nothing to do …
const LOOK: Duration = Duration::from_secs(60);
/// … or where what is needed is not there yet: the signing key's entry, or the newest blocks.
const WAIT: Duration = Duration::from_secs(1);
/// How long one that failed waits before the next try, twice as long each time …
const PAUSE: Duration = Duration::from_secs(5);
/// … up to this.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
/// A lodged epoch whose end is not told by then is looked for on the chain.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// The submitter.
const SUBMITTER: &str = "node";

/// Why no epoch was lodged.
#[derive(Debug, thiserror::Error)]
enum OwnError {
    #[error("{0}")]
    Keep(#[from] KeepError),
    #[error("{0}")]
    Terms(#[from] TermsError),
    #[error("{0}")]
    Agreement(#[from] AgreementError),
    #[error("{0}")]
    Refused(#[from] SubmissionRefusal),
    #[error("the thread that keeps its secret is gone")]
    Thread,
    #[error("it was not taken: {0}")]
    NotTaken(String),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// One is in force, or was lodged less than a day ago.
    Nothing,
    /// To be lodged: its number, and how many changes there were.
    Lodge { number: u32, changes: u32 },
}

pub(crate) struct OwnAgreement {
    held: HeldAgreements,
    submissions: Submissions,
    reader: ChainReader,
    status: watch::Receiver<ConsensusStatus>,
    retention_months: u32,
}

impl OwnAgreement {
    /// Of a node with a vault.
    pub(crate) fn of(node: &Services, retention_months: u32) -> Self {
        Self {
            held: node.agreements.clone(),
            submissions: node.submissions.clone(),
            reader: node.reader.clone(),
            status: node.status.clone(),
            retention_months,
        }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(self, mut responder: Responder, stop: CancellationToken) {
        let mut turning = std::pin::pin!(self.turns());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = responder.answer() => {}
                () = &mut turning => return,
            }
        }
    }

    async fn turns(&self) {
        let mut pause = PAUSE;
        loop {
            if !self.can_lodge() {
                sleep(WAIT).await;
                continue;
            }
            match self.turn().await {
                Ok(()) => {
                    pause = PAUSE;
                    sleep(LOOK).await;
                }
                Err(error) => {
                    tracing::warn!(%error, ?pause, "no epoch of the agency's own agreement was lodged");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Whether the registry has the key that signs, and this node the newest blocks.
    fn can_lodge(&self) -> bool {
        let tip = self.reader.tip();
        let signer = tip.registry.signer_at(&self.held.approver(), tip.header.height + 1);
        let signs = signer.is_some_and(|signer| signer.agency == self.held.agency());
        signs && !self.status.borrow().catching_up
    }

    async fn turn(&self) -> Result<(), OwnError> {
        let id = own_id(&self.held.agency());
        let now_ms = clock::unix_ms();
        let next = {
            let agreements = self.reader.agreements();
            next(agreements.get(&id), now_ms, |epoch| self.held.secret_of(&epoch.key).is_some())
        };
        match next {
            Next::Nothing => Ok(()),
            Next::Lodge { number, changes } => self.lodge(id, number, changes, now_ms).await,
        }
    }

    async fn lodge(
        &self,
        id: Hash,
        number: u32,
        changes: u32,
        now_ms: u64,
    ) -> Result<(), OwnError> {
        let terms = own_terms(self.retention_months)?;
        let secret = new_secret()?;
        let tip = self.reader.tip();
        // Blocks of a network that was idle may have times from before now.
        let from_ms = tip.header.time_ms.max(now_ms.saturating_sub(HOUR_MS)).min(now_ms);
        let lifetime_ms = tip.parameters.transaction_lifetime_ms_max;
        let proposal = EpochProposal::from_proto(v1::AgreementEpoch {
            agreement: id.0.to_vec(),
            number,
            parties: vec![self.held.agency().to_string()],
            public_key: secret.public().as_bytes().to_vec(),
            from_ms,
            until_ms: now_ms + EPOCH_MS,
            terms_hash: terms.hash().0.to_vec(),
            not_after_ms: now_ms + lifetime_ms,
            changes,
        })?;
        let (held, kept) = (self.held.clone(), proposal.clone());
        let keeping = tokio::task::spawn_blocking(move || held.keep(&kept, &secret, &terms));
        keeping.await.map_err(|_| OwnError::Thread)??;
        let approval = self.held.approve(&proposal);
        let change = AgreementChange::epoch(proposal, vec![approval])?;
        let node = ClientIdentity {
            agency: self.held.agency(),
            name: SUBMITTER.to_owned(),
            role: Role::Operator,
            certificate: [0; 32],
        };
        let accepted = self.submissions.submit_agreement_change(&node, &change).await?;
        let ended = self.submissions.wait_record(accepted.record_id);
        match timeout(PATIENCE, ended).await {
            Ok(Ok(End::Final { height, .. })) => {
                tracing::info!(number, height, "an epoch of the agency's own agreement");
                Ok(())
            }
            Ok(Ok(End::Rejected { code, reason })) => {
                Err(OwnError::NotTaken(format!("{reason} ({code})")))
            }
            Ok(end) => Err(OwnError::NotTaken(format!("{end:?}"))),
            Err(_) => Err(OwnError::NotTaken("it is not final yet".to_owned())),
        }
    }
}

/// Whether another epoch is needed.
fn next(own: Option<&Agreement>, now_ms: u64, is_held: impl Fn(&Epoch) -> bool) -> Next {
    let Some(own) = own else { return Next::Lodge { number: 1, changes: 0 } };
    let lasts = |epoch: &&Epoch| {
        epoch.from_ms <= now_ms && epoch.until_ms > now_ms.saturating_add(AHEAD_MS)
    };
    let lasting = own.epochs.iter().filter(lasts).any(&is_held);
    // It begins with the block before it.
    let is_of_today = own.newest().from_ms.saturating_add(DAY_MS) > now_ms;
    match lasting || is_of_today {
        true => Next::Nothing,
        false => Next::Lodge { number: own.next_number(), changes: own.changes },
    }
}

/// The terms of what an agency lodges for itself.
fn own_terms(retention_months: u32) -> Result<AgreementTerms, OwnError> {
    let terms = v1::AgreementTerms {
        salt: new_salt()?,
        purpose: "records that the agency shares with nobody yet".to_owned(),
        legal_basis: "what the agency may keep by its own law".to_owned(),
        retention_months,
        erase_days: 30,
        ..Default::default()
    };
    Ok(AgreementTerms::from_proto(terms)?)
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::{
        agreement::{Agreements, KnownMembers, LodgedAt},
        keys::{PublicKey, SigningKey},
    };

    use customhouse_ledger::agency::AgencyCode;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    struct Anybody;

    impl KnownMembers for Anybody {
        fn is_member(&self, _: &AgencyCode) -> bool {
            true
        }

        fn is_node_of(&self, _: &PublicKey, _: &AgencyCode) -> bool {
            true
        }
    }

    /// The own agreement after epochs of these periods.
    fn own(periods: &[(u64, u64)]) -> Agreement {
        let agency: AgencyCode = "NL-DOUANE".parse().expect("a code");
        let (id, signer) = (own_id(&agency), SigningKey::from_seed(&[1; 32]));
        let mut agreements = Agreements::default();
        for (number, (from_ms, until_ms)) in (1..).zip(periods) {
            let proposal = EpochProposal::from_proto(v1::AgreementEpoch {
                agreement: id.0.to_vec(),
                number,
                parties: vec![agency.to_string()],
                public_key: signer.public().as_bytes().to_vec(),
                from_ms: *from_ms,
                until_ms: *until_ms,
                terms_hash: vec![2; 32],
                not_after_ms: *from_ms,
                changes: number - 1,
            });
            let proposal = proposal.expect("valid");
            let approvals = vec![proposal.approve(&Hash([3; 32]), &signer)];
            let change = AgreementChange::epoch(proposal, approvals).expect("one party");
            let at = LodgedAt { agency, height: number.into(), time_ms: *from_ms };
            agreements.apply(&change, &at, &Anybody).expect("valid");
        }
        agreements.get(&id).expect("made").clone()
    }

    #[test]
    fn another_epoch_is_lodged_where_none_is_held_that_lasts_and_never_two_in_a_day() {
        let (held, lost) = (true, false);
        let lodge = |number| Next::Lodge { number, changes: number - 1 };
        let year = |from_ms: u64| (from_ms, from_ms + EPOCH_MS);
        assert_eq!(next(None, NOW, |_| held), lodge(1));
        let began = |days: u64| NOW - days * DAY_MS;
        for (periods, is_held, expected) in [
            (&[year(began(0))][..], held, Next::Nothing),
            (&[year(began(334))], held, Next::Nothing),
            (&[year(began(336))], held, lodge(2)),
            (&[year(began(400))], held, lodge(2)),
            (&[year(began(2))], lost, lodge(2)),
            (&[year(began(0))], lost, Next::Nothing),
            (&[year(began(400)), year(began(100))], held, Next::Nothing),
            (&[year(began(100)), year(began(2))], lost, lodge(3)),
        ] {
            assert_eq!(next(Some(&own(periods)), NOW, |_| is_held), expected, "{periods:?}");
        }
        // Of two, the one that lasts is lost.
        let two = own(&[year(began(100)), year(began(2))]);
        let first = two.epochs[0].from_ms;
        assert_eq!(next(Some(&two), NOW, |epoch| epoch.from_ms == first), lodge(3));
    }
}
