//! A chain that is made in this process, without a network: all that its validators sign is signed
//! here, and its records are the same for the same numbers.

use std::{ops::Range, sync::Arc};

use anyhow::Context as _;
use customhouse_ledger::{
    chain::{BlockContext, Chain},
    finality::{
        certificate::Certificate,
        header::Header,
        vote::{Ballot, Vote, VoteKind},
    },
    keys::SigningKey,
    record::{ValidRecord, dedupe_key},
    registry::genesis::Genesis,
    transaction::VerifiedTransaction,
};
use customhouse_proto::v1;

/// Records of a block.
const BLOCK_RECORDS: u64 = 2_000;
/// Records that share their containers.
const CONTAINER_SHARED_BY: u64 = 4;
const AGENCY: &str = "A001";

/// What the records of a chain are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Records that share a signature.
    pub(crate) a_signature: u64,
    /// Containers of a declaration, which are subjects beside its reference and MRN.
    pub(crate) containers: u64,
}

impl Kind {
    /// Subjects of a record.
    pub(crate) fn subjects(self) -> u64 {
        2 + self.containers
    }

    /// A declaration of about 500 bytes, and more for its containers.
    pub(crate) fn record(self, number: u64) -> anyhow::Result<ValidRecord> {
        let agency = AGENCY.parse()?;
        let shared = number / CONTAINER_SHARED_BY * self.containers;
        let containers = shared..shared + self.containers;
        let declaration = v1::Declaration {
            regime: v1::declaration::Regime::Import as i32,
            reference: format!("LRN{number}"),
            mrn: format!("24NL{number:014}"),
            container_ids: containers.map(|container| format!("CHXU{container:09}")).collect(),
            ..Default::default()
        };
        let part = |part: u64| dedupe_key(&agency, &number.to_string(), &part.to_string()).0;
        let source = v1::Source { content: (0..12).flat_map(part).collect(), ..Default::default() };
        Ok(ValidRecord::from_record(v1::Record {
            salt: vec![7; 32],
            submitter_role: v1::Role::Broker as i32,
            submitter_certificate: vec![6; 32],
            agency: AGENCY.to_owned(),
            submitter: "broker".into(),
            source: Some(source),
            body: Some(v1::record::Body::Declaration(declaration)),
            ..Default::default()
        })?)
    }

    /// The records of these numbers, signed by the node.
    pub(crate) fn transaction(
        self,
        genesis: &Genesis,
        numbers: Range<u64>,
    ) -> anyhow::Result<Arc<VerifiedTransaction>> {
        let agency = AGENCY.parse()?;
        let slot = |number: u64| {
            let key = dedupe_key(&agency, "broker", &number.to_string());
            Ok((self.record(number)?, key))
        };
        let slots = numbers.map(slot).collect::<anyhow::Result<Vec<_>>>()?;
        let (not_after_ms, chain_id) = (genesis.time_ms + 3_600_000, genesis.chain_id());
        let signed = VerifiedTransaction::sign(&slots, agency, not_after_ms, &chain_id, &key(101))?;
        Ok(Arc::new(signed))
    }

    /// The transactions of the records of these numbers, block for block.
    pub(crate) fn blocks(
        self,
        genesis: &Genesis,
        numbers: Range<u64>,
    ) -> impl Iterator<Item = anyhow::Result<Vec<Arc<VerifiedTransaction>>>> + use<> {
        let genesis = genesis.clone();
        let end = numbers.end;
        numbers.step_by(BLOCK_RECORDS as usize).map(move |first| {
            let block = first..end.min(first + BLOCK_RECORDS);
            let starts = block.clone().step_by(self.a_signature as usize);
            starts
                .map(|first| {
                    let numbers = first..block.end.min(first + self.a_signature);
                    self.transaction(&genesis, numbers)
                })
                .collect()
        })
    }
}

/// Commits a block of these transactions as a node does: stored for voting, then final.
pub(crate) fn commit(
    chain: &mut Chain,
    genesis: &Genesis,
    transactions: Vec<Arc<VerifiedTransaction>>,
) -> anyhow::Result<()> {
    let tip = chain.tip();
    let context = BlockContext {
        view: 1,
        proposer: tip.leaders.leader(&tip.validators, tip.header.height + 1, 1),
        time_ms: tip.header.time_ms + 1,
        bytes_max: u64::MAX,
    };
    let staged = chain.prepare(&context, transactions)?.staged;
    chain.store_pending(staged.block(), staged.transactions())?;
    let certificate = finalization(genesis, &staged.block().header)?;
    chain.commit(staged, certificate)?;
    Ok(())
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// Four agencies with a validator and a signing key each.
pub(crate) fn genesis() -> anyhow::Result<Genesis> {
    let agency = |number: u8| {
        serde_json::json!({
            "agency": format!("A{number:03}"),
            "name": format!("Agency {number}"),
            "country": "NL",
            "validators": [key(number).public()],
            "signing_keys": [{ "public_key": key(100 + number).public(), "role": "node" }],
        })
    };
    let genesis = serde_json::json!({
        "network": "offline",
        "time_ms": 1_700_000_000_000_u64,
        "history_bits": 20,
        "agencies": (1..=4).map(agency).collect::<Vec<_>>(),
    });
    Ok(Genesis::from_json(&genesis.to_string())?)
}

/// Three of the four validators finalize a block.
pub(crate) fn finalization(genesis: &Genesis, header: &Header) -> anyhow::Result<Certificate> {
    let block_hash = header.hash();
    let ballot = Ballot { kind: VoteKind::Finalize, height: header.height, view: 1, block_hash };
    let votes: Vec<_> =
        (1..=3).map(|seed| Vote::sign(ballot, &genesis.chain_id(), &key(seed))).collect();
    let certificate = Certificate::from_votes(ballot, &votes, &genesis.validators());
    certificate.context("three of four are a quorum")
}
