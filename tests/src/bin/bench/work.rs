//! What is submitted: declarations of 500 bytes, no two alike.

use std::sync::Arc;

use anyhow::Context as _;
use customhouse_ledger::{
    agency::AgencyCode,
    hash::Hash,
    keys::SigningKey,
    record::{CERTIFICATE_HASH_BYTES, SALT_BYTES, ValidRecord, dedupe_key},
    transaction::VerifiedTransaction,
};
use customhouse_proto::v1::{self, declaration::Regime, record::Body};
use prost::Message as _;

use crate::report::Section;

/// Bytes of a record as it is committed.
pub(crate) const RECORD_BYTES: usize = 500;
/// Who submits, by the certificate.
pub(crate) const SUBMITTER: &str = "broker";
/// Traders that the declarations are about.
const TRADERS: u64 = 1000;

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The client: one record a transaction.
    ClientSigned,
    /// The node: many records a transaction.
    NodeSigned,
}

impl Kind {
    pub(crate) fn section(self) -> Section {
        match self {
            Self::ClientSigned => Section::ClientSigned,
            Self::NodeSigned => Section::NodeSigned,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClientSigned => "client-signed",
            Self::NodeSigned => "node-signed",
        }
    }
}

/// One declaration with its own reference, movement reference number and container, and a trader
/// that others name too: four subjects. `number` is unique in its agency.
fn record(agency: AgencyCode, number: u64, kind: Kind) -> v1::Record {
    let declaration = |padding: usize| v1::Declaration {
        regime: Regime::Import as i32,
        type_code: "IMA".into(),
        function_code: "9".into(),
        reference: format!("REF-{number:012}"),
        mrn: format!("26{}{number:014}", &agency.as_str()[..2]),
        office: "NL000396".into(),
        parties: vec![v1::Party {
            role: "Importer".into(),
            id: format!("NL{:09}", number.wrapping_mul(7919) % TRADERS),
            name: "Vandermolen Import B.V.".into(),
            country: "NL".into(),
        }],
        invoice_total: Some(v1::Money { amount: "48250.00".into(), currency: "EUR".into() }),
        gross_mass_kg: "1250.5".into(),
        package_count: 48,
        container_ids: vec![format!("CSQU{number:010}")],
        items: vec![v1::GoodsItem {
            sequence: 1,
            hs_code: "8471300000".into(),
            country_origin: "KR".into(),
            procedure: "4000".into(),
            description: "x".repeat(padding),
            ..Default::default()
        }],
        ..Default::default()
    };
    let record = |padding| v1::Record {
        agency: agency.to_string(),
        submitter: SUBMITTER.into(),
        submitter_role: v1::Role::Broker as i32,
        body: Some(Body::Declaration(declaration(padding))),
        ..Default::default()
    };
    // The salt is still to come, with its tag and its length, and where the node signs the hash of the client's
    // certificate. Length prefixes grow with the padding,
    // so that the first correction may be a few bytes off.
    let mut padding = 1;
    for _ in 0..3 {
        let certificate = if kind == Kind::NodeSigned { CERTIFICATE_HASH_BYTES + 2 } else { 0 };
        let length = record(padding).encoded_len() + SALT_BYTES + 2 + certificate;
        padding = (padding + RECORD_BYTES).saturating_sub(length);
    }
    record(padding)
}

/// A record for the node to sign.
pub(crate) fn submission(agency: AgencyCode, number: u64) -> v1::RecordSubmission {
    let record = Some(record(agency, number, Kind::NodeSigned));
    v1::RecordSubmission {
        record,
        idempotency_key: key_of(number),
        open: true,
        agreement: Vec::new(),
    }
}

pub(crate) fn key_of(number: u64) -> String {
    format!("bench-{number}")
}

/// What a client signs its transactions with.
pub(crate) struct Signer {
    pub(crate) agency: AgencyCode,
    pub(crate) key: SigningKey,
    pub(crate) chain_id: Hash,
    pub(crate) not_after_ms: u64,
}

impl Signer {
    /// A signed transaction of one record.
    pub(crate) fn transaction(&self, number: u64) -> anyhow::Result<(Hash, v1::Transaction)> {
        let mut record = record(self.agency, number, Kind::ClientSigned);
        record.salt = number.to_be_bytes().repeat(SALT_BYTES / 8);
        let record = ValidRecord::from_record(record)?;
        let key = dedupe_key(&self.agency, SUBMITTER, &key_of(number));
        let records = [(record, key)];
        let signed = VerifiedTransaction::sign(
            &records,
            self.agency,
            self.not_after_ms,
            &self.chain_id,
            &self.key,
        )?;
        Ok((signed.id(), signed.parts().clone()))
    }

    /// Signs transactions `from..from + count`, on all processors, before a clock is started.
    pub(crate) fn transactions(
        self: Arc<Self>,
        from: u64,
        count: u64,
    ) -> anyhow::Result<Vec<(Hash, v1::Transaction)>> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let share = count.div_ceil(threads);
        let workers: Vec<_> = (0..threads)
            .map(|index| {
                let signer = Arc::clone(&self);
                let numbers =
                    from + (index * share).min(count)..from + ((index + 1) * share).min(count);
                std::thread::spawn(move || {
                    numbers.map(|number| signer.transaction(number)).collect::<Result<Vec<_>, _>>()
                })
            })
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().ok().context("a signing thread failed")??);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_valid_and_of_the_stated_length() {
        let signer = Signer {
            agency: "NL-DOUANE".parse().expect("a code"),
            key: SigningKey::from_seed(&[3; 32]),
            chain_id: Hash::ZERO,
            not_after_ms: 1,
        };
        for number in [0, 1, 999, 1_000_000] {
            let (_, transaction) = signer.transaction(number).expect("valid");
            assert_eq!(transaction.records[0].len(), RECORD_BYTES);
        }
    }
}
