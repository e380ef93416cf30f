//! Gossiped transactions: what is taken, what goes on, and who is at fault.
//!
//! A batch goes on as it came when this node has taken all of it: it is verified, and may be in a block.
//! Nothing else does. What was taken of the others waits in this node's mempool, and is sent again from
//! there while it waits.
//!
//! The sender is at fault for what breaks a rule whatever the chain's state: bytes that are not a
//! transaction, a signature that does not verify, the name of one transaction with the body of another.
//! Whether a signer is registered, a transaction expired or a mempool full differs between honest nodes.
//! So no signature is checked of a transaction that could not wait here in any case: one that its signer
//! signs anew as often as it likes, or one of an agency that has no room left.
//!
//! Peers take turns: one batch of each is verified or waits for its turn, and its other batches come after
//! that.

use std::sync::Arc;

use bytes::Bytes;
use customhouse_ledger::{
    chain::ChainReader,
    hash::Hash,
    keys::PublicKey,
    transaction::{TransactionError, TransactionHeader, VerifiedTransaction},
};

use super::{Inbound, turns::Turn};
use crate::{
    admission::{self, AdmissionError},
    driver::{SharedMempool, lock},
    mempool::MempoolError,
    network::PendingJudgement,
    priority::let_consensus_go_first,
};

/// Most transactions of one gossiped batch.
const BATCH_TRANSACTIONS_MAX: usize = 4096;

/// What a node judges gossip by. The simulated node judges by the same.
#[derive(Clone, Copy)]
pub struct KnownTransactions<'a> {
    /// The committed state.
    pub reader: &'a ChainReader,
    /// What waits.
    pub mempool: &'a SharedMempool,
    /// The node's clock, Unix milliseconds.
    pub unix_ms: u64,
}

/// What a gossiped transaction is to this node.
#[derive(Debug)]
enum Gossiped {
    /// Verified, and not here yet.
    New(Arc<VerifiedTransaction>),
    /// In the mempool, in these very bytes.
    Waiting,
    /// Nothing that can wait for a block here.
    Refused(AdmissionError),
    /// Nothing that an honest peer forwards.
    Wrong(Wrong),
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("{0}")]
    Transaction(#[from] TransactionError),
    #[error("other bytes than those of transaction leaf {0}, which is known")]
    OtherBytes(Hash),
}

impl Wrong {
    fn code(&self) -> &'static str {
        match self {
            Self::Transaction(error) => error.code(),
            Self::OtherBytes(_) => "OTHER_BYTES",
        }
    }
}

impl Inbound {
    /// Verifies a batch beside the consensus messages, which must not wait behind it. What waits
    /// for a turn is bounded by the network: a peer's messages that are not judged yet count.
    pub(super) fn verify(
        &self,
        from: PublicKey,
        transactions: Vec<Bytes>,
        judgement: PendingJudgement,
    ) {
        if transactions.len() > BATCH_TRANSACTIONS_MAX {
            self.metrics.rejected("gossip", "BATCH_TOO_LARGE");
            return judgement.reject("more transactions than a batch may have");
        }
        let inbound = self.clone();
        let admit = move |turn: Turn| {
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                let_consensus_go_first();
                match inbound.admit_all(transactions) {
                    Ok(true) => judgement.accept(),
                    Ok(false) => judgement.ignore(),
                    Err(code) => judgement.reject(code),
                }
            });
        };
        let turns = Arc::clone(&self.batches);
        match turns.now(from) {
            Some(turn) => admit(turn),
            None => {
                tokio::spawn(async move {
                    if let Some(turn) = turns.next(from).await {
                        admit(turn);
                    }
                });
            }
        }
    }

    pub(super) fn admit_all(&self, transactions: Vec<Bytes>) -> Result<bool, &'static str> {
        let (reader, mempool) = (&self.reader, &self.mempool);
        let known = KnownTransactions { reader, mempool, unix_ms: crate::clock::unix_ms() };
        let rejected = |code| self.metrics.rejected("gossip", code);
        known.admit_all(transactions, |transaction| self.admission.admit(transaction), rejected)
    }
}

impl KnownTransactions<'_> {
    /// Admits what is new; whether the batch may go on. `rejected` is told why something was not taken,
    /// unless it is here or was committed.
    ///
    /// # Errors
    /// The code of what no honest peer forwards; nothing after it is looked at.
    pub fn admit_all(
        self,
        transactions: Vec<Bytes>,
        mut admit: impl FnMut(Arc<VerifiedTransaction>) -> Result<(), AdmissionError>,
        mut rejected: impl FnMut(&'static str),
    ) -> Result<bool, &'static str> {
        let (mut any_new, mut all_taken) = (false, true);
        for encoded in transactions {
            let refused = match self.look_at(encoded) {
                Gossiped::New(transaction) => admit(transaction).err(),
                Gossiped::Waiting => Some(AdmissionError::Mempool(MempoolError::Present)),
                Gossiped::Refused(error) => Some(error),
                Gossiped::Wrong(wrong) => {
                    rejected(wrong.code());
                    tracing::debug!(%wrong, "a gossiped transaction is refused");
                    return Err(wrong.code());
                }
            };
            match refused {
                None => any_new = true,
                Some(AdmissionError::Mempool(MempoolError::Present)) => {}
                Some(AdmissionError::Committed(_)) => all_taken = false,
                Some(error) => {
                    rejected(error.code());
                    all_taken = false;
                }
            }
        }
        Ok(any_new && all_taken)
    }

    /// Looks at a transaction. A signature is checked last, and only where it could change something.
    fn look_at(&self, encoded: Bytes) -> Gossiped {
        let Some((header, leaf_hash)) = VerifiedTransaction::header_unchecked(&encoded) else {
            return self.verified(encoded);
        };
        let waiting = lock(self.mempool).by_leaf(&leaf_hash).map(|t| *t.encoded() == encoded);
        match waiting {
            Some(true) => return Gossiped::Waiting,
            Some(false) => return Gossiped::Wrong(Wrong::OtherBytes(leaf_hash)),
            None => {}
        }
        let id = header.id();
        match self.reader.log_index(&id) {
            Ok(None) => {}
            Ok(Some(_)) => return self.committed(id, leaf_hash, &encoded),
            Err(error) => return Gossiped::Refused(error.into()),
        }
        match self.may_wait(&header, encoded.len()) {
            Ok(()) => self.verified(encoded),
            Err(error) => Gossiped::Refused(error),
        }
    }

    /// One that is on the ledger. A body is read only where the leaf is that very one: a liar may send any
    /// number under other signatures, which cost nothing to make up.
    fn committed(&self, id: Hash, leaf_hash: Hash, encoded: &Bytes) -> Gossiped {
        match self.reader.transaction_by_leaf(&leaf_hash) {
            Ok(Some(committed)) if committed.encoded != *encoded => {
                Gossiped::Wrong(Wrong::OtherBytes(leaf_hash))
            }
            Ok(_) => Gossiped::Refused(AdmissionError::Committed(id)),
            Err(error) => Gossiped::Refused(error.into()),
        }
    }

    /// Whether a transaction of this header could wait for a block here, whatever its signature says.
    pub(super) fn may_wait(
        &self,
        header: &TransactionHeader,
        bytes: usize,
    ) -> Result<(), AdmissionError> {
        admission::check_header(self.reader, header, self.unix_ms)?;
        Ok(lock(self.mempool).has_room_for(header, bytes)?)
    }

    fn verified(&self, encoded: Bytes) -> Gossiped {
        match VerifiedTransaction::from_bytes(encoded, &self.reader.chain_id()) {
            Ok(transaction) => Gossiped::New(Arc::new(transaction)),
            Err(error) => Gossiped::Wrong(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use customhouse_ledger::{
        chain::{BlockContext, Chain},
        finality::{
            certificate::Certificate,
            vote::{Ballot, Vote, VoteKind},
        },
        store::StoreOptions,
    };
    use prost::Message as _;

    use super::*;
    use crate::{
        mempool::{Mempool, MempoolLimits, tests::another_signature},
        node::tests::{genesis, key, key_seed, signed_until},
    };

    /// The same transaction under a signature that does not verify.
    fn forged(of: &VerifiedTransaction) -> Bytes {
        let mut parts = of.parts().clone();
        let mut signature = parts.signature.to_vec();
        signature[5] ^= 1;
        parts.signature = signature.into();
        parts.encode_to_vec().into()
    }

    #[test]
    fn what_could_not_wait_in_any_case_costs_no_signature() {
        let (folder, genesis) = (tempfile::tempdir().expect("a folder"), genesis(4));
        let chain = Chain::open(folder.path(), &genesis, &StoreOptions::default()).expect("new");
        let (reader, chain_id) = (chain.reader(), genesis.chain_id());
        let limits = MempoolLimits { transactions_max: 8, ..MempoolLimits::default() };
        let mempool = Arc::new(Mutex::new(Mempool::new(limits)));
        let signing = key(3, 0);
        let in_a_minute = crate::clock::unix_ms() + 60_000;
        let signed = |number| Arc::new(signed_until(chain_id, (0, &signing), number, in_a_minute));
        let unix_ms = crate::clock::unix_ms();
        let known = KnownTransactions { reader: &reader, mempool: &mempool, unix_ms };
        let look_at = |encoded: &Bytes| known.look_at(encoded.clone());
        let first = signed(1);
        assert!(matches!(look_at(&forged(&first)), Gossiped::Wrong(Wrong::Transaction(_))));
        assert!(matches!(look_at(first.encoded()), Gossiped::New(_)));
        lock(&mempool).insert(Arc::clone(&first)).expect("room");
        assert!(matches!(look_at(first.encoded()), Gossiped::Waiting));
        // The same by another signature: as many of those as its signer likes, genuine or not.
        let again = another_signature(&first, key_seed(3, 0), &chain_id);
        for again in [again.encoded(), &forged(&first)] {
            let found = look_at(again);
            let present = AdmissionError::Mempool(MempoolError::Present);
            let Gossiped::Refused(error) = found else { panic!("{found:?}") };
            assert_eq!(error.code(), present.code());
        }
        // Of an agency that has no room left.
        for number in 2.. {
            if lock(&mempool).insert(signed(number)).is_err() {
                break;
            }
        }
        for more in [signed(100).encoded(), &forged(&signed(100))] {
            let found = look_at(more);
            assert!(matches!(&found, Gossiped::Refused(AdmissionError::Mempool(_))), "{found:?}");
        }
    }

    /// Commits a transaction in the next block of a chain of one validator.
    fn commit(chain: &mut Chain, transaction: &Arc<VerifiedTransaction>) {
        let tip = chain.tip();
        let (view, time_ms) = (1, crate::clock::unix_ms());
        let proposer = tip.leaders.leader(&tip.validators, tip.header.height + 1, view);
        let context = BlockContext { view, proposer, time_ms, bytes_max: u64::MAX };
        let prepared = chain.prepare(&context, [Arc::clone(transaction)]).expect("readable");
        let header = &prepared.staged.block().header;
        let (height, block_hash) = (header.height, header.hash());
        let ballot = Ballot { kind: VoteKind::Finalize, height, view, block_hash };
        let vote = Vote::sign(ballot, &chain.chain_id(), &key(1, 0));
        let certificate = Certificate::from_votes(ballot, &[vote], &tip.validators);
        let committed = chain.commit(prepared.staged, certificate.expect("a quorum of one"));
        assert_eq!(committed.expect("committed").transactions.len(), 1);
    }

    #[test]
    fn one_that_is_committed_is_held_to_its_bytes_only_where_it_is_that_very_leaf() {
        let (folder, genesis) = (tempfile::tempdir().expect("a folder"), genesis(1));
        let mut chain =
            Chain::open(folder.path(), &genesis, &StoreOptions::default()).expect("new");
        let (chain_id, unix_ms) = (genesis.chain_id(), crate::clock::unix_ms());
        let transaction = Arc::new(signed_until(chain_id, (0, &key(3, 0)), 1, unix_ms + 60_000));
        commit(&mut chain, &transaction);
        let mempool = Arc::new(Mutex::new(Mempool::new(MempoolLimits::default())));
        let reader = chain.reader();
        let known = KnownTransactions { reader: &reader, mempool: &mempool, unix_ms };
        let code_of = |encoded: &Bytes| match known.look_at(encoded.clone()) {
            Gossiped::Refused(error) => error.code(),
            Gossiped::Wrong(wrong) => wrong.code(),
            other => panic!("{other:?}"),
        };
        let committed = AdmissionError::Committed(transaction.id()).code();
        assert_eq!(code_of(transaction.encoded()), committed);
        // Another name of it, which anybody can make up: whoever sends it is not held to what it says.
        let again = another_signature(&transaction, key_seed(3, 0), &chain_id);
        assert_ne!(again.leaf_hash(), transaction.leaf_hash());
        for other in [again.encoded().clone(), forged(&transaction)] {
            assert_eq!(code_of(&other), committed);
        }
        // Its own name, and another body.
        let mut parts = transaction.parts().clone();
        parts.records = vec![Bytes::from_static(b"another body")];
        let other = Bytes::from(parts.encode_to_vec());
        let leaf = |bytes| VerifiedTransaction::header_unchecked(bytes).map(|(_, leaf)| leaf);
        assert_eq!(leaf(&other), Some(transaction.leaf_hash()));
        assert_eq!(code_of(&other), "OTHER_BYTES");
    }
}
