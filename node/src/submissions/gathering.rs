//! A gathering: submissions that are signed and synced together.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use customhouse_ledger::{
    agency::AgencyCode,
    hash::Hash,
    keys::SigningKey,
    record::{ValidRecord, load::Load},
    registry::parameters::Parameters,
    transaction::{DedupeScope, NewSlot, Slot, TransactionError, VerifiedTransaction},
};
use tokio::sync::oneshot;

use super::{
    Accepted, SubmissionRefusal,
    prepare::Prepared,
    references::Targets,
    shares::{self, Parts},
};
use crate::sealed::OwnSealed;

/// Most slots of one gathering, beyond the last job's.
const SLOTS_MAX: usize = 8192;
/// Most bytes of one gathering, beyond the last job's.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// The records of a transaction that a client's own key signed.
pub(super) fn signed_by_clients(transaction: &VerifiedTransaction) -> impl Iterator<Item = Hash> {
    let slots = transaction.slots().iter().filter(|slot| slot.scope != DedupeScope::Agency);
    slots.map(|slot| slot.record_id)
}

/// What goes into a transaction of a record.
pub(super) enum Carried {
    /// The record with its dedupe key.
    Open(Box<ValidRecord>, Hash),
    /// Its slot alone.
    Sealed(Slot),
}

impl Carried {
    /// Bytes of a transaction that it takes: hashes, keys and field headers, and the record where it is open.
    fn bytes(&self) -> usize {
        match self {
            Self::Open(record, _) => record.bytes.len() + slot_bytes(record.subject_keys.len()),
            Self::Sealed(slot) => slot_bytes(slot.subject_keys.len()) + SEALED_SLOT_BYTES,
        }
    }

    fn load(&self) -> Load {
        match self {
            Self::Open(record, _) => record.load,
            Self::Sealed(_) => Load::default(),
        }
    }

    fn record_id(&self) -> Hash {
        match self {
            Self::Open(record, _) => record.id,
            Self::Sealed(slot) => slot.record_id,
        }
    }

    fn to_slot(&self) -> NewSlot<'_> {
        match self {
            Self::Open(record, dedupe_key) => NewSlot::Open(record, *dedupe_key),
            Self::Sealed(slot) => NewSlot::Alone(slot.clone()),
        }
    }
}

fn slot_bytes(subject_keys: usize) -> usize {
    128 + 34 * subject_keys + 8
}

/// Bytes that this node holds of a submission until it is final, wherever its record is.
pub(super) fn held_bytes(prepared: &Prepared) -> usize {
    let record = &prepared.record;
    record.bytes.len() + slot_bytes(record.subject_keys.len())
}

/// What a sealed slot has beside an open one: its agreement and epoch.
const SEALED_SLOT_BYTES: usize = 40;
/// Bytes of a transaction that are not slots or records.
const TRANSACTION_OVERHEAD_BYTES: usize = 512;

/// What is done about one submission.
#[derive(Debug)]
pub(super) enum Plan {
    /// Answered without being sealed.
    Done(Result<Accepted, SubmissionRefusal>),
    /// Record number i of the gathering.
    Record(usize),
    /// Transaction number i of the gathering.
    Transaction(usize),
}

enum Reply {
    Records(Vec<Plan>, oneshot::Sender<Vec<Result<Accepted, SubmissionRefusal>>>),
    Transaction(Plan, oneshot::Sender<Result<Accepted, SubmissionRefusal>>),
}

/// A record that this node is to sign.
pub(super) struct Gathered {
    pub(super) prepared: Prepared,
    /// Whose it is.
    pub(super) client: Arc<str>,
    /// Bytes that it takes of the client's share.
    pub(super) share: u64,
    /// Where what it refers to is.
    pub(super) targets: Targets,
    /// Where it is sealed and could not be kept: why.
    pub(super) refused: Option<SubmissionRefusal>,
}

#[derive(Default)]
pub(super) struct Gathering {
    records: Vec<Gathered>,
    by_key: HashMap<Hash, usize>,
    transactions: Vec<Arc<VerifiedTransaction>>,
    by_id: HashMap<Hash, usize>,
    /// Records that clients have signed themselves.
    signed: HashSet<Hash>,
    bytes: usize,
    replies: Vec<Reply>,
}

/// A transaction of a gathering.
pub(super) struct SealedTransaction {
    pub(super) transaction: Arc<VerifiedTransaction>,
    /// What it has of its clients' shares.
    pub(super) parts: Parts,
    /// What each of its records says, where this node signed them.
    pub(super) contents: Vec<Hash>,
}

/// What the records of a gathering are signed with.
pub(super) struct Signing<'a> {
    pub(super) agency: AgencyCode,
    pub(super) not_after_ms: u64,
    pub(super) chain_id: &'a Hash,
    pub(super) key: &'a SigningKey,
    /// Say how large a transaction may be.
    pub(super) parameters: &'a Parameters,
}

/// A gathering as transactions, with its answers.
pub(super) struct Sealed {
    /// The transactions.
    pub(super) transactions: Vec<SealedTransaction>,
    /// What those have that were not signed.
    pub(super) unsigned: Parts,
    results: Vec<Result<Accepted, SubmissionRefusal>>,
    gathering: Gathering,
}

impl Gathering {
    pub(super) fn is_full(&self) -> bool {
        self.records.len() + self.transactions.len() >= SLOTS_MAX || self.bytes >= BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.transactions.is_empty()
    }

    /// The number and the record with this key, if one is in the gathering.
    pub(super) fn record_of_key(&self, dedupe_key: &Hash) -> Option<(usize, &Prepared)> {
        let index = *self.by_key.get(dedupe_key)?;
        Some((index, &self.records.get(index)?.prepared))
    }

    /// Takes out the bytes of its sealed records, which are to be kept before anything is signed.
    pub(super) fn take_sealed(&mut self) -> Vec<OwnSealed> {
        let sealed = self.records.iter_mut().filter_map(|gathered| {
            let sealed = gathered.prepared.sealed.as_mut()?;
            let record_id = sealed.slot.record_id;
            Some(OwnSealed { record_id, sealed: sealed.bytes.take()? })
        });
        sealed.collect()
    }

    /// Has none of its sealed records signed: they could not be kept.
    pub(super) fn refuse_sealed(&mut self, refusal: &SubmissionRefusal) {
        for gathered in &mut self.records {
            if gathered.prepared.sealed.is_some() {
                gathered.refused = Some(refusal.clone());
            }
        }
    }

    pub(super) fn add_record(&mut self, record: Gathered) -> Plan {
        let index = self.records.len();
        self.bytes += record.prepared.record.bytes.len();
        self.by_key.insert(record.prepared.dedupe_key, index);
        self.records.push(record);
        Plan::Record(index)
    }

    pub(super) fn add_transaction(&mut self, transaction: Arc<VerifiedTransaction>) -> Plan {
        let next = self.transactions.len();
        let index = *self.by_id.entry(transaction.id()).or_insert(next);
        if index == next {
            self.bytes += transaction.encoded().len();
            self.signed.extend(signed_by_clients(&transaction));
            self.transactions.push(transaction);
        }
        Plan::Transaction(index)
    }

    /// The record of a transaction that another of the gathering has.
    pub(super) fn record_in_both(&self, transaction: &VerifiedTransaction) -> Option<Hash> {
        let is_same = self.by_id.contains_key(&transaction.id());
        signed_by_clients(transaction).find(|id| !is_same && self.signed.contains(id))
    }

    pub(super) fn answer_records(
        &mut self,
        plans: Vec<Plan>,
        reply: oneshot::Sender<Vec<Result<Accepted, SubmissionRefusal>>>,
    ) {
        self.replies.push(Reply::Records(plans, reply));
    }

    pub(super) fn answer_transaction(
        &mut self,
        plan: Plan,
        reply: oneshot::Sender<Result<Accepted, SubmissionRefusal>>,
    ) {
        self.replies.push(Reply::Transaction(plan, reply));
    }

    /// Signs the records into as few transactions as the limits allow; those of each client that wait for what
    /// they refer to into some of their own, so that nothing of another waits with them. Each goes through the
    /// `door` that those of clients went through before they were gathered: what no block may carry is not accepted.
    ///
    /// # Errors
    /// The door's, where it could not tell.
    pub(super) fn seal<E>(
        mut self,
        signing: &Signing<'_>,
        mut door: impl FnMut(&VerifiedTransaction) -> Result<Result<(), SubmissionRefusal>, E>,
    ) -> Result<Sealed, E> {
        // What waits for its targets waits with no other client's.
        let mut groups: BTreeMap<Option<Arc<str>>, Group> = BTreeMap::new();
        let mut refused = Refused::default();
        for (place, gathered) in std::mem::take(&mut self.records).into_iter().enumerate() {
            if let Some(refusal) = gathered.refused {
                refused.unsigned.push((gathered.client, gathered.share));
                refused.results.push((place, Err(refusal)));
                continue;
            }
            let waiting = gathered.targets == Targets::Pending;
            let group = waiting.then(|| Arc::clone(&gathered.client));
            groups.entry(group).or_default().push(place, gathered);
        }
        let unshared = |transaction: &Arc<_>| SealedTransaction {
            transaction: Arc::clone(transaction),
            parts: Parts::new(),
            contents: Vec::new(),
        };
        let transactions = self.transactions.iter().map(unshared).collect();
        let Refused { unsigned, results } = refused;
        let mut signed = Signed { transactions, unsigned, results };
        for group in groups.into_values() {
            group.sign(signing, &mut door, &mut signed)?;
        }
        let Signed { transactions, unsigned, mut results } = signed;
        results.sort_by_key(|(place, _)| *place);
        let results = results.into_iter().map(|(_, result)| result).collect();
        Ok(Sealed { transactions, unsigned, results, gathering: self })
    }

    /// Sends the answers; `results` are those of the gathered records.
    pub(super) fn answer(self, results: &[Result<Accepted, SubmissionRefusal>]) {
        let transactions = self.transactions;
        let outcome = |plan: Plan| match plan {
            Plan::Done(result) => result,
            Plan::Record(index) => {
                results.get(index).cloned().unwrap_or(Err(SubmissionRefusal::ShuttingDown))
            }
            Plan::Transaction(index) => match transactions.get(index) {
                Some(transaction) => Ok(accepted(transaction)),
                None => Err(SubmissionRefusal::ShuttingDown),
            },
        };
        for reply in self.replies {
            // A caller that left needs no answer.
            match reply {
                Reply::Records(plans, reply) => {
                    let _gone = reply.send(plans.into_iter().map(&outcome).collect());
                }
                Reply::Transaction(plan, reply) => {
                    let _gone = reply.send(outcome(plan));
                }
            }
        }
    }
}

/// What was refused before anything was signed.
#[derive(Default)]
struct Refused {
    unsigned: Parts,
    results: Vec<(usize, Result<Accepted, SubmissionRefusal>)>,
}

/// Records that may share transactions.
#[derive(Default)]
struct Group {
    /// Of each in the gathering.
    places: Vec<usize>,
    slots: Vec<Carried>,
    /// With what each has of its share.
    clients: Vec<(Arc<str>, u64)>,
    contents: Vec<Hash>,
}

/// What has come of groups.
struct Signed {
    transactions: Vec<SealedTransaction>,
    unsigned: Parts,
    /// With the record's place in the gathering.
    results: Vec<(usize, Result<Accepted, SubmissionRefusal>)>,
}

impl Group {
    fn push(&mut self, place: usize, Gathered { prepared, client, share, .. }: Gathered) {
        self.places.push(place);
        self.slots.push(match prepared.sealed {
            None => Carried::Open(Box::new(prepared.record), prepared.dedupe_key),
            Some(sealed) => Carried::Sealed(sealed.slot),
        });
        self.clients.push((client, share));
        self.contents.push(prepared.content);
    }

    fn sign<E>(
        self,
        signing: &Signing<'_>,
        door: &mut impl FnMut(&VerifiedTransaction) -> Result<Result<(), SubmissionRefusal>, E>,
        signed: &mut Signed,
    ) -> Result<(), E> {
        let (mut places, mut clients, mut contents) =
            (self.places.into_iter(), self.clients.into_iter(), self.contents.into_iter());
        for chunk in chunks(&self.slots, signing.parameters) {
            // The chunk first: it ends before the clients do.
            let of_chunk = chunk.iter().zip(clients.by_ref());
            let parts = shares::sum(of_chunk.map(|(_, of_client)| of_client));
            let contents = contents.by_ref().take(chunk.len()).collect();
            let places = chunk.iter().zip(places.by_ref());
            let transaction = match signing.sign(chunk) {
                Ok(transaction) => door(&transaction)?.map(|()| transaction),
                // Every record was checked; only a limit can be to blame.
                Err(error) => Err(error.into()),
            };
            match transaction {
                Ok(transaction) => {
                    let transaction_id = transaction.id();
                    signed.results.extend(places.map(|(carried, place)| {
                        let record_id = carried.record_id();
                        (place, Ok(Accepted { record_id, transaction_id, end: None }))
                    }));
                    let transaction = Arc::new(transaction);
                    signed.transactions.push(SealedTransaction { transaction, parts, contents });
                }
                Err(refusal) => {
                    signed.unsigned.extend(parts);
                    signed.results.extend(places.map(|(_, place)| (place, Err(refusal.clone()))));
                }
            }
        }
        Ok(())
    }
}

impl Signing<'_> {
    fn sign(&self, carried: &[Carried]) -> Result<VerifiedTransaction, TransactionError> {
        let Self { agency, not_after_ms, chain_id, key, .. } = self;
        let slots: Vec<_> = carried.iter().map(Carried::to_slot).collect();
        VerifiedTransaction::sign_slots(&slots, *agency, *not_after_ms, chain_id, key)
    }
}

impl Sealed {
    pub(super) fn answer(self) {
        self.gathering.answer(&self.results);
    }
}

fn accepted(transaction: &VerifiedTransaction) -> Accepted {
    let record_id = transaction.first_record_id();
    Accepted { record_id, transaction_id: transaction.id(), end: None }
}

/// Splits records so that each part fits one transaction.
fn chunks<'a>(slots: &'a [Carried], parameters: &Parameters) -> Vec<&'a [Carried]> {
    let count_max = usize::try_from(parameters.transaction_slots_max).unwrap_or(usize::MAX);
    let bytes_max = usize::try_from(parameters.transaction_bytes_max).unwrap_or(usize::MAX)
        - TRANSACTION_OVERHEAD_BYTES;
    let mut chunks = Vec::new();
    let (mut start, mut bytes, mut load) = (0, 0, Load::default());
    for (index, carried) in slots.iter().enumerate() {
        let length = carried.bytes();
        let is_full = index - start >= count_max
            || bytes + length > bytes_max
            || (load + carried.load()).check_transaction().is_err();
        if index > start && is_full {
            chunks.push(&slots[start..index]);
            (start, bytes, load) = (index, 0, Load::default());
        }
        bytes += length;
        load += carried.load();
    }
    if start < slots.len() {
        chunks.push(&slots[start..]);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use customhouse_proto::v1;

    use super::{
        super::prepare::{Preparing, prepare},
        *,
    };
    use crate::identity::{ClientIdentity, Role};

    fn agency() -> AgencyCode {
        "NL-DOUANE".parse().expect("a code")
    }

    fn prepared(number: usize, name: &str) -> Prepared {
        let client = ClientIdentity {
            agency: agency(),
            name: name.to_owned(),
            role: Role::Officer,
            certificate: [0; 32],
        };
        let mrn = format!("{}{number}", "M".repeat(number + 1));
        let declaration = v1::Declaration { regime: 1, mrn, ..Default::default() };
        let body = Some(v1::record::Body::Declaration(declaration));
        let record = Some(v1::Record { body, ..Default::default() });
        let submission = v1::RecordSubmission {
            record,
            idempotency_key: number.to_string(),
            open: true,
            agreement: Vec::new(),
        };
        let preparing = Preparing {
            agency: &agency(),
            parameters: &Parameters::default(),
            content_secret: &[7; 32],
            sealing: None,
        };
        prepare(submission, &client, &preparing).expect("valid")
    }

    /// Seals ten records of two clients, three to a transaction; gives what each client has added.
    fn seal_ten(
        targets: impl Fn(usize) -> Targets,
        door: impl FnMut(&VerifiedTransaction) -> Result<Result<(), SubmissionRefusal>, Infallible>,
    ) -> (Sealed, HashMap<Arc<str>, u64>) {
        let mut gathering = Gathering::default();
        let mut added: HashMap<Arc<str>, u64> = HashMap::new();
        for number in 0..10 {
            let name: Arc<str> = if number % 3 == 0 { "a" } else { "b" }.into();
            let prepared = prepared(number, &name);
            let share = held_bytes(&prepared) as u64;
            *added.entry(Arc::clone(&name)).or_default() += share;
            gathering.add_record(Gathered {
                prepared,
                client: name,
                share,
                targets: targets(number),
                refused: None,
            });
        }
        let signing = Signing {
            agency: agency(),
            not_after_ms: 1,
            chain_id: &Hash([1; 32]),
            key: &SigningKey::from_seed(&[7; 32]),
            parameters: &Parameters { transaction_slots_max: 3, ..Parameters::default() },
        };
        let Ok(sealed) = gathering.seal(&signing, door);
        (sealed, added)
    }

    #[test]
    fn records_that_are_too_much_work_together_go_into_several_transactions() {
        let dense = |number: u8| {
            let items = vec![v1::GoodsItem::default(); 4000];
            let mrn = format!("M{number}");
            let declaration = v1::Declaration { regime: 1, mrn, items, ..Default::default() };
            let record = v1::Record {
                salt: vec![number; 32],
                agency: agency().to_string(),
                submitter: "a".into(),
                submitter_role: v1::Role::Broker as i32,
                body: Some(v1::record::Body::Declaration(declaration)),
                ..Default::default()
            };
            let record = ValidRecord::from_record(record).expect("valid");
            Carried::Open(Box::new(record), Hash([number; 32]))
        };
        let slots: Vec<_> = (0..3).map(dense).collect();
        let lengths: Vec<_> =
            chunks(&slots, &Parameters::default()).into_iter().map(<[_]>::len).collect();
        assert_eq!(lengths, [1, 1, 1]);
    }

    #[test]
    fn each_transaction_is_of_the_shares_of_those_whose_records_it_has() {
        let (sealed, mut added) = seal_ten(|_| Targets::There, |_| Ok(Ok(())));
        assert_eq!((sealed.transactions.len(), sealed.unsigned.len()), (4, 0));
        for SealedTransaction { parts, contents, transaction } in &sealed.transactions {
            assert_eq!(contents.len(), transaction.slots().len());
            for (client, bytes) in parts {
                *added.get_mut(client).expect("one of both") -= bytes;
            }
        }
        assert!(added.values().all(|left| *left == 0), "{added:?}");
    }

    #[test]
    fn what_waits_for_its_target_keeps_nothing_else_waiting() {
        let waits = |number| number % 4 == 1;
        let targets = |number| if waits(number) { Targets::Pending } else { Targets::There };
        let (sealed, mut added) = seal_ten(targets, |_| Ok(Ok(())));
        let lengths: Vec<_> =
            sealed.transactions.iter().map(|sealed| sealed.transaction.slots().len()).collect();
        // Seven that wait for nothing; one of `a`, and two of `b`.
        assert_eq!(lengths, [3, 3, 1, 1, 2]);
        let waiting: Vec<_> = sealed.transactions[3..].iter().map(|s| s.transaction.id()).collect();
        for (number, result) in sealed.results.iter().enumerate() {
            let accepted = result.as_ref().expect("accepted");
            let in_which = waiting.iter().position(|id| *id == accepted.transaction_id);
            let expected = waits(number).then_some(usize::from(number % 3 != 0));
            assert_eq!(in_which, expected, "record {number}");
            let carried = sealed.transactions.iter().find_map(|sealed| {
                let mut slots = sealed.transaction.slots().iter();
                let place = slots.position(|slot| slot.record_id == accepted.record_id)?;
                Some((sealed.transaction.id(), sealed.transaction.stated()[place].clone()?))
            });
            let (transaction_id, stated) = carried.expect("in one of them");
            assert_eq!(transaction_id, accepted.transaction_id);
            assert_eq!(stated.submitter, if number % 3 == 0 { "a" } else { "b" });
        }
        for (client, bytes) in sealed.transactions.iter().flat_map(|sealed| &sealed.parts) {
            *added.get_mut(client).expect("one of both") -= bytes;
        }
        assert!(added.values().all(|left| *left == 0), "{added:?}");
    }

    #[test]
    fn what_the_door_refuses_is_not_accepted_and_takes_nothing_of_a_share() {
        let refusal = || SubmissionRefusal::RecordTooLarge { bytes: 2, max: 1 };
        let mut asked = 0;
        let door = |_: &VerifiedTransaction| {
            asked += 1;
            Ok(if asked == 2 { Err(refusal()) } else { Ok(()) })
        };
        let (sealed, mut added) = seal_ten(|_| Targets::There, door);
        assert_eq!((asked, sealed.transactions.len(), sealed.results.len()), (4, 3, 10));
        for (place, result) in sealed.results.iter().enumerate() {
            match (3..6).contains(&place) {
                true => assert_eq!(result, &Err(refusal()), "record {place}"),
                false => assert!(result.is_ok(), "record {place}"),
            }
        }
        let of_transactions = sealed.transactions.iter().flat_map(|sealed| &sealed.parts);
        for (client, bytes) in of_transactions.chain(&sealed.unsigned) {
            *added.get_mut(client).expect("one of both") -= bytes;
        }
        assert!(added.values().all(|left| *left == 0), "{added:?}");
    }
}
