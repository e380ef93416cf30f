//! Who may say what, asked of real nodes: what was once taken from anybody, lodged in both ways (through a node,
//! which signs, and by a client that signs itself), is refused by the call, with its code, and is nowhere.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use customhouse_client::{Client, ClientError, tls::ClientTls};
use customhouse_files::{keyfile::KeyFile, pem::KeyedCertificate, profile::Profile};
use customhouse_ledger::{
    hash::{Hash, Tag},
    keys::SigningKey,
    merkle,
    record::{dedupe_key, field_tree, subject_keys},
    transaction::{DedupeScope, Slot, SlotForm, TransactionHeader},
};
use customhouse_node::{identity, tls::Authority};
use customhouse_proto::v1::{
    self, Phase, Role, declaration::Regime, get_history_request::SubjectOrKey, record::Body,
    reference::Relation, subject::Scheme,
};
use customhouse_tests::{cluster::Cluster, records, wait::PATIENCE};
use prost::Message as _;
use tokio::time::timeout;
use tonic::Code;

use crate::changes::Change;

/// As many agencies as it takes to have the Belgian and the Dutch one among them.
const ALL: [usize; 5] = [0, 1, 2, 3, 4];
const BELGIAN: usize = 0;
const DUTCH: usize = 4;
const BELGIAN_MRN: &str = "26BE00011002231QW1";
const DUTCH_MRN: &str = "26NL00051004471RX3";
/// For how long a transaction may be committed.
const LIFETIME: Duration = Duration::from_secs(600);
/// The id of no record.
const NOTHING: Hash = Hash([9; 32]);

async fn belgian_dutch_and_others() -> Cluster {
    let cluster = Cluster::start(ALL.len()).await;
    let codes = [BELGIAN, DUTCH].map(|node| cluster.agency(node).code().to_string());
    assert_eq!(codes, ["BE-AADA", "NL-DOUANE"]);
    cluster
}

/// Who lodges, with a certificate for its node and a key of its own.
struct Lodger {
    node: usize,
    name: &'static str,
    role: Role,
    client: Client,
    key: SigningKey,
}

impl Lodger {
    /// One of those that the layout makes.
    fn of(cluster: &Cluster, node: usize, name: &'static str, role: Role) -> Self {
        let profile = Profile::read(&cluster.profile(node, name)).expect("the layout made it");
        let file = profile.submitter_key.expect("who lodges has one");
        let key = KeyFile::read(&file).expect("the layout made it").key.clone();
        Self { node, name, role, client: cluster.client(node, name), key }
    }

    /// A second broker of the Dutch agency: its certificate is its authority's, and its key is registered.
    fn rival(cluster: &Cluster) -> Self {
        let (node, name, role) = (DUTCH, "rival", Role::Broker);
        let key = SigningKey::from_seed(&[7; 32]);
        let change = Change { cluster, approving: &ALL, submitting: node, joining_key: None };
        let addition = format!("NL-DOUANE:broker:{name}={}", key.public());
        change.make(name, ["--add", &*addition]);
        let client = client_named(cluster, node, name, identity::Role::Broker);
        Self { node, name, role, client, key }
    }

    /// A record in a transaction of its own, signed whatever the record says: no rule is kept here.
    fn signed(&self, cluster: &Cluster, record: &v1::Record, key: &str) -> v1::Transaction {
        let agency = cluster.agency(self.node).code();
        let dedupe_key = dedupe_key(&agency, self.name, key);
        let record = v1::Record {
            // Nobody is kept from guessing here, and each key has another.
            salt: dedupe_key.0.to_vec(),
            agency: agency.to_string(),
            submitter: self.name.to_owned(),
            submitter_role: self.role as i32,
            ..record.clone()
        };
        let bytes = record.encode_to_vec();
        let slot = Slot {
            form: SlotForm::Open,
            record_id: field_tree::record_id(&bytes, &record.salt).expect("its one encoding"),
            subject_keys: subject_keys(&record),
            dedupe_key,
            scope: DedupeScope::Signer,
        };
        let slots: Vec<Bytes> = vec![slot.encode().into()];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
        let header = TransactionHeader {
            chain_id: cluster.genesis().chain_id(),
            signer: self.key.public(),
            agency,
            not_after_ms: u64::try_from((now + LIFETIME).as_millis()).expect("a time of ours"),
            slot_count: 1,
            records_root: merkle::root(&slots),
        };
        let header = header.encode();
        let signature = self.key.sign(&Tag::TRANSACTION_SIGNATURE.message(&[&header]));
        v1::Transaction {
            header: header.into(),
            signature: signature.0.to_vec().into(),
            slots,
            records: vec![bytes.into()],
        }
    }

    /// Lodges a record in a transaction of its own: nothing where it is final, or the code with which the call is
    /// refused.
    async fn by_itself(
        &self,
        cluster: &Cluster,
        record: &v1::Record,
        key: &str,
    ) -> Result<(), String> {
        let answer = ended(&self.client, self.signed(cluster, record, key)).await?;
        assert!(counts(&answer), "refused after it was taken: {answer:?}");
        Ok(())
    }

    /// Checks that a record is refused with a code in both ways, and by the call: nothing of it is on the log.
    async fn is_refused(&self, cluster: &Cluster, record: &v1::Record, code: &str) {
        let key = Tag::DEDUPE.hash(&[&record.encode_to_vec()]).to_string();
        let through_node = lodge(&self.client, record, &key).await;
        assert_eq!(through_node.err().as_deref(), Some(code), "through its node: {record:?}");
        let by_itself = self.by_itself(cluster, record, &key).await;
        assert_eq!(by_itself.err().as_deref(), Some(code), "by itself: {record:?}");
    }
}

/// A client with a certificate that is made for it by the authority of a node's agency.
fn client_named(cluster: &Cluster, node: usize, name: &str, role: identity::Role) -> Client {
    let agency = cluster.agency(node);
    let files = &agency.config.api.tls;
    let keyed = KeyedCertificate::read(&files.ca, &files.ca.with_file_name("ca.key"));
    let keyed = keyed.expect("the layout made it");
    let authority = Authority::restore(agency.code(), &keyed).expect("its own");
    let own = authority.client(name, role).expect("made");
    let tls = ClientTls { authority: keyed.certificate, own };
    Client::connect_lazily(&agency.config.api.listen.to_string(), &tls).expect("an endpoint")
}

/// Lodges a record through the client's node: its id where it is final, or the code with which the call is refused.
async fn lodge(client: &Client, record: &v1::Record, key: &str) -> Result<Hash, String> {
    let record = Some(record.clone());
    let submission = v1::RecordSubmission {
        record,
        idempotency_key: key.to_owned(),
        open: true,
        agreement: Vec::new(),
    };
    let call = client.submit_records(vec![submission], true);
    let results = timeout(PATIENCE, call).await.expect("an answer");
    let results = results.map_err(|error| code_of(&error))?;
    assert_eq!(results[0].phase(), Phase::Final, "refused after it was taken: {results:?}");
    Ok(Hash::from_slice(&results[0].record_id).expect("a record id"))
}

/// How a transaction has ended, or the code with which the call is refused.
async fn ended(
    client: &Client,
    transaction: v1::Transaction,
) -> Result<v1::SubmitTransactionResponse, String> {
    let answer = timeout(PATIENCE, client.submit_transaction(transaction, true)).await;
    answer.expect("an answer").map_err(|error| code_of(&error))
}

fn counts(answer: &v1::SubmitTransactionResponse) -> bool {
    answer.phase() == Phase::Final && answer.not_counted.is_empty()
}

fn code_of(error: &ClientError) -> String {
    error.refused().unwrap_or_else(|| panic!("{error}")).reason_code.clone()
}

fn record(body: Body) -> v1::Record {
    v1::Record { body: Some(body), ..Default::default() }
}

fn declaration(reference: &str, mrn: &str) -> v1::Record {
    record(Body::Declaration(v1::Declaration {
        regime: Regime::Import as i32,
        type_code: "IMA".into(),
        function_code: "9".into(),
        reference: reference.into(),
        mrn: mrn.into(),
        ..Default::default()
    }))
}

/// Customs has released the goods of a movement.
fn released(reference: &str, mrn: &str) -> v1::Record {
    record(Body::DeclarationStatus(v1::DeclarationStatus {
        function_code: "08".into(),
        reference: reference.into(),
        mrn: mrn.into(),
        ..Default::default()
    }))
}

fn referring(record: v1::Record, relation: Relation, id: Hash, agency: &str) -> v1::Record {
    let reference = v1::Reference {
        relation: relation as i32,
        record_id: id.0.to_vec(),
        agency: agency.into(),
        ..Default::default()
    };
    v1::Record { references: vec![reference], ..record }
}

/// A record as a node has it on the ledger.
async fn kept(cluster: &Cluster, node: usize, id: Hash) -> v1::Record {
    let answer = cluster.client(node, "auditor").record(id).await.expect("on the ledger");
    v1::Record::decode(&answer.record[..]).expect("a record")
}

/// Checks that a movement's history has these records and no other, at every node, linked ones among them.
async fn history_is(cluster: &Cluster, mrn: &str, ids: &[Hash]) {
    // What was on its way is there by then.
    cluster.same_head(&ALL, 1).await;
    let expected: BTreeSet<Hash> = ids.iter().copied().collect();
    for node in ALL {
        let subject = v1::Subject { scheme: Scheme::Mrn as i32, id: mrn.to_owned() };
        let client = cluster.client(node, "auditor");
        let page = client.linked_history_page(SubjectOrKey::Subject(subject), 100, Vec::new());
        let page = page.await.expect("an answer");
        assert!(page.next_page_token.is_empty() && !page.links_cut, "all of it: {page:?}");
        let linked = page.linked.iter().filter_map(|linked| linked.item.as_ref());
        let items = page.items.iter().chain(linked);
        let found: BTreeSet<Hash> =
            items.map(|item| Hash::from_slice(&item.record_id).expect("a record id")).collect();
        assert_eq!(found, expected, "node {node}, {mrn}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_releases_nobody_s_goods_and_another_agency_s_office_states_its_view() {
    let cluster = belgian_dutch_and_others().await;
    let dutch = Lodger::of(&cluster, DUTCH, "broker", Role::Broker);
    let declared = lodge(&dutch.client, &declaration("LRN-1", DUTCH_MRN), "declared").await;
    let declared = declared.expect("its own");
    history_is(&cluster, DUTCH_MRN, &[declared]).await;
    let answer = |reference: &str| {
        let record = released(reference, DUTCH_MRN);
        referring(record, Relation::RespondsTo, declared, "NL-DOUANE")
    };
    let broker = Lodger::of(&cluster, BELGIAN, "broker", Role::Broker);
    broker.is_refused(&cluster, &answer("REL-1"), "RECORD_AUTHORITY").await;
    // Nor may its key sign as if it were the office's.
    let as_office = Lodger { role: Role::Office, ..broker };
    let refused = as_office.by_itself(&cluster, &answer("REL-1"), "as office").await;
    assert_eq!(refused.err().as_deref(), Some("SIGNER_ROLE"));
    history_is(&cluster, DUTCH_MRN, &[declared]).await;

    let office = Lodger::of(&cluster, BELGIAN, "officer", Role::Office);
    let view = lodge(&office.client, &answer("REL-2"), "view").await.expect("an act of customs");
    history_is(&cluster, DUTCH_MRN, &[declared, view]).await;
    let view = kept(&cluster, DUTCH, view).await;
    assert_eq!((&*view.agency, &*view.submitter), ("BE-AADA", "officer"));
    assert_eq!((view.submitter_role(), view.submitter_certificate.len()), (Role::Office, 32));
    office.by_itself(&cluster, &answer("REL-3"), "by itself").await.expect("with its own key too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_signs_in_nobody_else_s_name_and_uses_up_nobody_else_s_idempotency_key() {
    const KEY: &str = "2026-11-27/0001";
    let cluster = Cluster::start(2).await;
    let broker = Lodger::of(&cluster, 0, "broker", Role::Broker);
    let claimed = declaration("LRN-2", "");
    let as_operator =
        Lodger { name: "operator", ..Lodger::of(&cluster, 0, "broker", Role::Broker) };
    let transaction = as_operator.signed(&cluster, &claimed, KEY);
    let id = Tag::TRANSACTION.hash(&[&transaction.header]);
    let refused = ended(&broker.client, transaction).await;
    assert_eq!(refused.err().as_deref(), Some("SIGNER_SUBMITTER"));
    // The name was all that was wrong with it.
    broker.by_itself(&cluster, &claimed, KEY).await.expect("in its own name");

    // The submitter is the name in the certificate: the office has one in the name of its operator, who lodges
    // nothing as such.
    let event = records::event("arrived", "operator");
    let operator = cluster.client(0, "operator");
    assert_eq!(lodge(&operator, &event, KEY).await.err().as_deref(), Some("ROLE"));
    let office = client_named(&cluster, 0, "operator", identity::Role::Officer);
    let own = lodge(&office, &event, KEY).await.expect("its key is free");
    assert_eq!(lodge(&office, &event, KEY).await, Ok(own), "again");
    cluster.same_head(&[0, 1], 1).await;
    for node in [0, 1] {
        let record = kept(&cluster, node, own).await;
        assert_eq!((&*record.submitter, record.submitter_role()), ("operator", Role::Office));
        assert_eq!(record.body, event.body);
        let unknown = cluster.client(node, "auditor").transaction(id).await;
        let unknown = unknown.expect_err("never on the log");
        assert_eq!(unknown.refused().map(|refused| refused.code), Some(Code::NotFound));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_amends_or_cancels_what_another_has_lodged_nor_refers_to_what_is_not_there() {
    let cluster = belgian_dutch_and_others().await;
    let belgian = Lodger::of(&cluster, BELGIAN, "broker", Role::Broker);
    let dutch = Lodger::of(&cluster, DUTCH, "broker", Role::Broker);
    let theirs = lodge(&belgian.client, &declaration("LRN-BE", BELGIAN_MRN), "one").await;
    let own = lodge(&dutch.client, &declaration("LRN-NL", DUTCH_MRN), "one").await;
    let event = lodge(&dutch.client, &records::event("loaded", "authority"), "two").await;
    let (theirs, own, event) = (theirs.expect("own"), own.expect("own"), event.expect("own"));
    let rival = Lodger::rival(&cluster);
    let another = records::event("of the rival", "authority");
    rival.by_itself(&cluster, &another, "own").await.expect("its key is registered");
    cluster.same_head(&ALL, 1).await;

    let office = Lodger::of(&cluster, DUTCH, "officer", Role::Office);
    for relation in [Relation::Amends, Relation::Cancels] {
        let of = |mrn: &str, id: Hash, agency: &str| {
            referring(
                declaration(&format!("LRN-{relation:?}").to_uppercase(), mrn),
                relation,
                id,
                agency,
            )
        };
        let of_theirs = of(BELGIAN_MRN, theirs, "BE-AADA");
        dutch.is_refused(&cluster, &of_theirs, "REFERENCE_AGENCY").await;
        office.is_refused(&cluster, &of_theirs, "REFERENCE_AGENCY").await;
        // Without the agency, it would be one of its own.
        dutch.is_refused(&cluster, &of(BELGIAN_MRN, theirs, ""), "REFERENCE_UNKNOWN").await;
        rival.is_refused(&cluster, &of(DUTCH_MRN, own, ""), "REFERENCE_SUBMITTER").await;
        dutch.is_refused(&cluster, &of(DUTCH_MRN, NOTHING, ""), "REFERENCE_UNKNOWN").await;
        dutch.is_refused(&cluster, &of(DUTCH_MRN, event, ""), "REFERENCE_KIND").await;
    }
    let answer = |id: Hash, agency: &str| {
        referring(released("REL-1", DUTCH_MRN), Relation::RespondsTo, id, agency)
    };
    office.is_refused(&cluster, &answer(NOTHING, "BE-AADA"), "REFERENCE_UNKNOWN").await;
    office.is_refused(&cluster, &answer(event, ""), "REFERENCE_KIND").await;
    history_is(&cluster, BELGIAN_MRN, &[theirs]).await;
    history_is(&cluster, DUTCH_MRN, &[own]).await;

    let amendment = referring(declaration("LRN-NL-2", DUTCH_MRN), Relation::Amends, own, "");
    let amended = lodge(&dutch.client, &amendment, "amended").await.expect("its own");
    history_is(&cluster, DUTCH_MRN, &[own, amended]).await;
}

/// Of two records under one key of a client, one counts. While no block is made, nobody can tell which, so each may
/// be amended; the block tells.
#[tokio::test(flavor = "multi_thread")]
async fn what_amends_a_record_that_turns_out_not_to_count_is_refused_by_the_block() {
    let cluster = Cluster::start(4).await;
    let broker = Lodger::of(&cluster, 0, "broker", Role::Broker);
    for node in [2, 3] {
        cluster.pause(node);
    }
    let declared = ["LRN-A", "LRN-B"].map(|reference| {
        let transaction = broker.signed(&cluster, &declaration(reference, ""), "one key for both");
        let slot = Slot::decode(&transaction.slots[0]).expect("a slot");
        let amendment = referring(declaration("LRN-C", ""), Relation::Amends, slot.record_id, "");
        (transaction, broker.signed(&cluster, &amendment, &slot.record_id.to_string()))
    });
    for (transaction, amendment) in declared.clone() {
        for transaction in [transaction, amendment] {
            let answer = broker.client.submit_transaction(transaction, false).await.expect("taken");
            assert_eq!(answer.phase(), Phase::Accepted, "{answer:?}");
        }
    }
    for node in [2, 3] {
        cluster.resume(node);
    }
    let mut counted = 0;
    for (transaction, amendment) in declared {
        let id = Slot::decode(&amendment.slots[0]).expect("a slot").record_id;
        let answer = ended(&broker.client, transaction).await.expect("it was taken");
        let amended = ended(&broker.client, amendment).await.expect("it was taken");
        cluster.same_head(&[0, 1, 2, 3], 1).await;
        if counts(&answer) {
            counted += 1;
            assert!(counts(&amended), "{amended:?}");
            continue;
        }
        assert_eq!(answer.not_counted[0].reason_code, "DUPLICATE_KEY", "{answer:?}");
        let refused = (amended.phase(), &*amended.reason_code);
        assert_eq!(refused, (Phase::Rejected, "REFERENCE_UNKNOWN"), "{amended:?}");
        for node in 0..4 {
            let unknown = cluster.client(node, "auditor").record(id).await;
            let code = unknown.expect_err("no record").refused().map(|refused| refused.code);
            assert_eq!(code, Some(Code::NotFound), "node {node}");
        }
    }
    assert_eq!(counted, 1, "one of two under one key");
}

/// For each role that lodges: a kind that it may state, and one that it may not.
fn kinds_by_role() -> [(identity::Role, Role, Body, Body); 5] {
    use identity::Role::{Broker, Carrier, Officer, Port, Trader};
    let id = |id: &str| id.to_owned();
    let party = v1::Party { id: id("NL1"), ..Default::default() };
    let document = v1::TransportDocument { id: id("MAEU-1"), ..Default::default() };
    let certificate = v1::Certificate { id: id("ORIGIN-1"), ..Default::default() };
    let event = v1::Event { event_id: id("DISCHARGED-1"), ..Default::default() };
    let inspection = v1::Inspection { mrn: id(DUTCH_MRN), ..Default::default() };
    let alert = v1::RiskAlert { alert_id: id("ALERT-1"), ..Default::default() };
    let status = v1::DeclarationStatus { reference: id("REL-1"), ..Default::default() };
    let trader = v1::TraderStatus { trader: Some(party), ..Default::default() };
    let declaration = declaration("LRN-OF-A-TRADER", "").body.expect("a declaration");
    [
        (Broker, Role::Broker, Body::Certificate(certificate), Body::DeclarationStatus(status)),
        (
            Carrier,
            Role::Carrier,
            Body::TransportDocument(document),
            Body::Inspection(inspection.clone()),
        ),
        (Trader, Role::Trader, declaration, Body::TraderStatus(trader)),
        (Port, Role::Port, Body::Event(event), Body::RiskAlert(alert)),
        (
            Officer,
            Role::Office,
            Body::Inspection(inspection),
            Body::Misbehaviour(v1::Misbehaviour::default()),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_lodges_through_its_node_what_it_may_state_and_nothing_else() {
    let cluster = Cluster::start(2).await;
    let mut lodged = Vec::new();
    for (role, speaks_as, may, may_not) in kinds_by_role() {
        let client = client_named(&cluster, 0, role.as_str(), role);
        let id = lodge(&client, &record(may), "may").await;
        lodged.push((role, speaks_as, id.unwrap_or_else(|code| panic!("{role}: {code}"))));
        let refused = lodge(&client, &record(may_not), "may not").await;
        assert_eq!(refused.err().as_deref(), Some("RECORD_AUTHORITY"), "{role}");
    }
    for name in ["auditor", "operator"] {
        let event = records::event(name, "roles");
        let refused = lodge(&cluster.client(0, name), &event, "may not").await;
        assert_eq!(refused.err().as_deref(), Some("ROLE"), "{name}");
    }
    // The other agency reads who spoke, and in which role.
    cluster.same_head(&[0, 1], 1).await;
    for (role, speaks_as, id) in lodged {
        let record = kept(&cluster, 1, id).await;
        assert_eq!((&*record.submitter, record.submitter_role()), (role.as_str(), speaks_as));
        assert_eq!(record.submitter_certificate.len(), 32, "{role}");
    }
}
