//! What the fold makes of real messages (`../shared/data`). Where those are absent, each test says so and
//! checks nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use customhouse_formats::{
    Imported, LinkTarget, MessageRole, Outcome, link_batch, wco_message, wco_paths,
};
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, record::Body};

use super::*;

/// The folder of shared data, if it is there.
fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {} absent", path.display());
    None
}

/// The messages, each once, linked as an import links them. Their index is their record's id.
struct Examples {
    batch: Vec<Imported>,
    /// What each is about, by index.
    about: BTreeMap<usize, usize>,
    /// Those that are there a second time.
    repeated: BTreeSet<usize>,
}

fn id(index: usize) -> Hash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(index as u64).to_be_bytes());
    Hash(bytes)
}

fn status(imported: &Imported) -> Option<&v1::DeclarationStatus> {
    match &imported.record.body {
        Some(Body::DeclarationStatus(status)) => Some(status),
        _ => None,
    }
}

impl Examples {
    fn read() -> Option<Self> {
        let folder = shared("wco-hmrc/examples")?;
        let mut batch = Vec::new();
        for path in wco_paths(std::slice::from_ref(&folder)).files {
            let label = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
            let bytes = std::fs::read(&path).expect("a file that was listed");
            if let Ok(Outcome::Imported(imported)) = wco_message(&bytes, &label) {
                batch.push(*imported);
            }
        }
        let links = link_batch(&batch, |_| None);
        let mut about = BTreeMap::new();
        for link in &links.links {
            let LinkTarget::Batch(to) = link.to else { panic!("nothing is on a ledger") };
            batch[link.from].refer(link.relation, (id(to).0, ""), link.rule.ground());
            about.insert(link.from, to);
        }
        let repeated = links.duplicates.iter().map(|duplicate| duplicate.index).collect();
        Some(Self { batch, about, repeated })
    }

    /// In the order in which they happened: declarations, requests, and what customs said by its time.
    fn sorted(&self, mut indexes: Vec<usize>) -> Vec<usize> {
        let rank = |role| match role {
            MessageRole::Declaration => 0,
            MessageRole::Additional(_) => 1,
            MessageRole::Status => 2,
        };
        indexes.sort_by_key(|index| {
            let imported = &self.batch[*index];
            let issued = status(imported).map_or("", |status| &*status.issued_at);
            (rank(imported.role), issued, &*imported.label)
        });
        indexes
    }

    fn fold(&self, indexes: &[usize]) -> (Clearance, Vec<AnomalousRecord>) {
        let recorded =
            |index: &usize| Recorded { id: id(*index), record: &self.batch[*index].record };
        fold(indexes.iter().map(recorded))
    }

    /// Each declaration that customs answered, with all that is linked to it.
    fn by_declaration(&self) -> BTreeMap<usize, Vec<usize>> {
        let mut sequences: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (from, to) in self.about.iter().filter(|(from, _)| !self.repeated.contains(from)) {
            // An answer to a request leads to it, and it to the declaration.
            let declaration = *self.about.get(to).unwrap_or(to);
            sequences.entry(declaration).or_insert_with(|| vec![declaration]).push(*from);
        }
        let has_status =
            |sequence: &Vec<usize>| sequence.iter().any(|at| status(&self.batch[*at]).is_some());
        sequences.retain(|_, sequence| has_status(sequence));
        sequences.into_iter().map(|(to, sequence)| (to, self.sorted(sequence))).collect()
    }

    /// What customs said under each MRN, which is all that an MRN's history has: a declarant lodges without.
    fn by_mrn(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut sequences: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, imported) in self.batch.iter().enumerate() {
            // One sample of each message, and no life cycle.
            let is_gallery = imported.label.starts_with("Example_DMS_notifications/");
            let said = status(imported).filter(|_| !is_gallery && !self.repeated.contains(&index));
            if let Some(status) = said {
                sequences.entry(&status.mrn).or_default().push(index);
            }
        }
        sequences.into_iter().map(|(mrn, sequence)| (mrn, self.sorted(sequence))).collect()
    }
}

/// How many end in each state, and how often each anomaly is shown.
fn tally<'a>(
    examples: &Examples,
    sequences: impl Iterator<Item = &'a Vec<usize>>,
) -> (BTreeMap<&'static str, usize>, BTreeMap<&'static str, usize>) {
    let (mut states, mut anomalies) = (BTreeMap::new(), BTreeMap::new());
    for sequence in sequences {
        let (clearance, shown) = examples.fold(sequence);
        *states.entry(clearance.state().map_or("", ClearanceState::code)).or_default() += 1;
        for it in shown {
            *anomalies.entry(it.anomaly.code()).or_default() += 1;
        }
    }
    (states, anomalies)
}

#[test]
fn every_real_mrn_ends_where_customs_left_it() {
    let Some(examples) = Examples::read() else { return };
    let sequences = examples.by_mrn();
    let (states, anomalies) = tally(&examples, sequences.values());
    let expected = [
        ("CLEARED", 75),
        ("EXITED", 3),
        // Only one status of it is there: a tax of its second version.
        ("LODGED", 1),
        ("REJECTED", 5),
        ("TAX_ASSESSED", 1),
    ];
    assert_eq!(states, BTreeMap::from(expected));
    // Declarations and requests have no place in these histories, and each absence is told; nothing else is.
    let expected = [("DECLARATION_MISSING", 85), ("REQUEST_MISSING", 11)];
    assert_eq!(anomalies, BTreeMap::from(expected));
}

#[test]
fn every_real_declaration_stands_where_customs_left_it_unless_the_answers_name_another() {
    let Some(examples) = Examples::read() else { return };
    let sequences = examples.by_declaration();
    let (states, anomalies) = tally(&examples, sequences.values());
    let expected =
        [("CLEARED", 64), ("EXITED", 2), ("LODGED", 14), ("REJECTED", 1), ("TAX_ASSESSED", 1)];
    assert_eq!(states, BTreeMap::from(expected));
    // Of some scenarios the declaration was written anew and the answers were not: they name another.
    assert_eq!(anomalies, BTreeMap::from([("OTHER_MRN", 2), ("OTHER_REFERENCE", 75)]));
    for sequence in sequences.values() {
        let (clearance, shown) = examples.fold(sequence);
        let own = &examples.batch[sequence[0]].key.reference;
        let statuses = sequence.iter().filter_map(|at| status(&examples.batch[*at]));
        let (ours, others): (Vec<_>, Vec<_>) =
            statuses.partition(|status| status.declaration_reference == *own);
        let label = &examples.batch[sequence[0]].label;
        assert!(shown.len() <= others.len(), "{label}: {shown:?}");
        assert_eq!(clearance.state() == Some(ClearanceState::Lodged), is_silent(&ours), "{label}");
    }
}

/// Whether nothing but a tax was said.
fn is_silent(statuses: &[&v1::DeclarationStatus]) -> bool {
    statuses.iter().all(|status| status.function_code == "13")
}

#[test]
fn real_tax_before_acceptance_is_no_anomaly_and_a_later_rejection_leaves_the_clearance() {
    let Some(examples) = Examples::read() else { return };
    let (mut early, mut late) = (0, 0);
    for sequence in examples.by_declaration().values() {
        let (clearance, shown) = examples.fold(sequence);
        if shown.iter().any(|it| it.anomaly == ClearanceAnomaly::OtherReference) {
            continue;
        }
        let statuses: Vec<_> =
            sequence.iter().filter_map(|at| status(&examples.batch[*at])).collect();
        let first = |code| statuses.iter().position(|status| status.function_code == code);
        if let (Some(tax), Some(acceptance)) = (first("13"), first("01"))
            && tax < acceptance
        {
            assert!(clearance.taxed().is_some() && shown.is_empty());
            early += 1;
        }
        if let (Some(clearing), Some(rejection)) = (first("09"), first("03"))
            && clearing < rejection
        {
            assert_eq!(clearance.state(), Some(ClearanceState::Cleared));
            late += 1;
        }
    }
    assert_eq!((early, late), (14, 2));
}
