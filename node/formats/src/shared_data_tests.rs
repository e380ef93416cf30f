//! What the importers make of real messages (`../shared/data`). Where those are absent, each test
//! says so and checks nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use customhouse_ledger::record::ValidRecord;
use customhouse_proto::v1::{self, record::Body, reference::Relation};
use prost::Message as _;

use super::*;

#[path = "leaves_tests.rs"]
mod leaves;
#[path = "../../../tests/tests/cluster/many_items.rs"]
mod many_items;

/// The folder of shared data, if it is there.
fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {} absent", path.display());
    None
}

struct Examples {
    imported: Vec<Imported>,
    skipped: Vec<Skipped>,
    errors: Vec<ImportError>,
}

fn examples() -> Option<Examples> {
    let folder = shared("wco-hmrc/examples")?;
    let mut examples = Examples { imported: vec![], skipped: vec![], errors: vec![] };
    for path in wco_paths(std::slice::from_ref(&folder)).files {
        // Names within the folder: the same on every machine.
        let label = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
        let bytes = std::fs::read(&path).expect("a file that was listed");
        match wco_message(&bytes, &label) {
            Ok(Outcome::Imported(imported)) => {
                let source = imported.record.source.as_ref().expect("a source");
                assert_eq!(source.content, bytes, "{label} is kept byte for byte");
                assert_eq!(wco_file(&path).map(|_| ()), Ok(()), "{label}");
                examples.imported.push(*imported);
            }
            Ok(Outcome::Skipped(skipped)) => examples.skipped.push(skipped),
            Err(error) => examples.errors.push(error),
        }
    }
    Some(examples)
}

fn count<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts
}

#[test]
fn every_file_is_a_declaration_a_status_skipped_by_name_or_refused() {
    let Some(examples) = examples() else { return };
    let roles = count(examples.imported.iter().map(|imported| match imported.role {
        MessageRole::Declaration => "declaration",
        MessageRole::Additional(Relation::Amends) => "amendment",
        MessageRole::Additional(Relation::Cancels) => "cancellation",
        MessageRole::Additional(_) => "presentation",
        MessageRole::Status => "status",
    }));
    let expected = [
        ("amendment", 13),
        ("cancellation", 2),
        ("declaration", 249),
        ("presentation", 4),
        ("status", 377),
    ];
    assert_eq!(roles, BTreeMap::from(expected));
    let roots = count(examples.skipped.iter().map(|skipped| &*skipped.root));
    let expected = [
        ("DeclarationFullResponse", 2),
        ("DeclarationStatusResponse", 2),
        ("DeclarationVersionResponse", 1),
        ("InventoryLinkingExportsInboundRequest", 2),
        ("InventoryLinkingImportsValidateMovementResponse", 8),
        ("inventoryLinkingConsolidationRequest", 2),
        ("inventoryLinkingImportsGoodsArrival", 2),
        ("inventoryLinkingMovementRequest", 25),
        ("inventoryLinkingQueryRequest", 1),
    ];
    assert_eq!(roots, BTreeMap::from(expected));
    let reason = "not well-formed: \"--\" in a comment (one before it may lack its end)";
    let errors: Vec<_> = examples.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            format!("TT_EX022a/TT_EX022a_Declaration1_(Step1).xml:52:6: {reason}"),
            format!("TT_IM084a/TT_IM084a.xml:164:7: {reason}"),
        ]
    );
}

/// The record as the node completes it.
fn completed(record: &v1::Record) -> v1::Record {
    v1::Record {
        salt: vec![1; customhouse_ledger::record::SALT_BYTES],
        agency: "A".repeat(16),
        submitter: "s".repeat(customhouse_ledger::limits::SUBMITTER_BYTES_MAX),
        submitter_role: v1::Role::Office as i32,
        submitter_certificate: vec![1; 32],
        references: vec![
            v1::Reference {
                relation: 1,
                record_id: vec![1; 32],
                ground: 0,
                agency: String::new()
            };
            8
        ],
        ..record.clone()
    }
}

#[test]
fn every_record_is_valid_on_the_ledger_once_the_node_has_completed_it() {
    let Some(examples) = examples() else { return };
    for imported in &examples.imported {
        let label = &imported.label;
        assert!(imported.record.encoded_len() <= MESSAGE_BYTES_MAX, "{label}");
        let valid = ValidRecord::from_record(completed(&imported.record));
        assert!(valid.is_ok_and(|valid| !valid.subject_keys.is_empty()), "{label}");
        let left_out =
            imported.warnings.iter().find(|w| matches!(w, Warning::ExtensionsLeftOut(_)));
        assert_eq!(left_out, None, "{}", imported.label);
    }
}

#[test]
fn statuses_and_additional_messages_are_linked_and_the_rules_counted() {
    let Some(examples) = examples() else { return };
    let batch = &examples.imported;
    let links = link_batch(batch, |_| None);
    let rules = |role: fn(MessageRole) -> bool| {
        count(links.links.iter().filter(|l| role(batch[l.from].role)).map(|link| link.rule))
    };
    let statuses = rules(|role| role == MessageRole::Status);
    assert_eq!(statuses, BTreeMap::from([(Rule::Reference, 284), (Rule::Folder, 78)]));
    let additional = rules(|role| role != MessageRole::Status);
    let expected = [(Rule::Reference, 11), (Rule::Mrn, 1), (Rule::Folder, 7)];
    assert_eq!(additional, BTreeMap::from(expected));
    // A gallery of notifications without the declarations that they answer.
    assert_eq!(links.unlinked.len(), 15);
    for unlinked in &links.unlinked {
        assert!(batch[unlinked.from].label.starts_with("Example_DMS_notifications/"));
        assert!(!unlinked.key.mrn.is_empty() && !unlinked.key.reference.is_empty());
    }
    for link in &links.links {
        let LinkTarget::Batch(to) = link.to else { panic!("nothing is on a ledger") };
        assert!(links.duplicates.iter().all(|duplicate| duplicate.index != to));
        assert_ne!(batch[to].role, MessageRole::Status);
        let scenario = |index: usize| batch[index].label.split('/').next().map(str::to_owned);
        let repeated = links.duplicates.iter().any(|duplicate| duplicate.index == link.from)
            || links.duplicates.iter().any(|duplicate| duplicate.first == to);
        assert!(repeated || scenario(link.from) == scenario(to), "{}", batch[link.from].label);
    }
    assert_eq!(links, link_batch(batch, |_| None), "the same batch gives the same links");
}

#[test]
fn two_messages_share_a_key_only_where_they_say_the_same() {
    let Some(examples) = examples() else { return };
    let duplicates = link_batch(&examples.imported, |_| None).duplicates;
    assert_eq!(duplicates.len(), 7);
    let keys: BTreeSet<_> = examples.imported.iter().map(|i| &i.idempotency_key).collect();
    assert_eq!(keys.len(), examples.imported.len() - duplicates.len());
    for Duplicate { index, first } in duplicates {
        assert_eq!(examples.imported[index].record, examples.imported[first].record);
    }
}

#[test]
fn containers_warn_and_are_kept() {
    let Some(examples) = examples() else { return };
    let warnings = || examples.imported.iter().flat_map(|imported| &imported.warnings);
    let wrong: BTreeSet<_> = warnings()
        .filter_map(|warning| match warning {
            Warning::ContainerCheckDigit(id) => Some(&**id),
            _ => None,
        })
        .collect();
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    let declared: BTreeSet<_> = examples
        .imported
        .iter()
        .filter_map(|imported| match &imported.record.body {
            Some(Body::Declaration(declaration)) => Some(declaration),
            _ => None,
        })
        .flat_map(|d| d.container_ids.iter().chain(d.items.iter().flat_map(|i| &i.container_ids)))
        .map(|id| &**id)
        .collect();
    assert!(wrong.is_subset(&declared));
}

/// Each text and attribute of a message is under the field, or in the extension, that its path is mapped to.
#[test]
fn no_text_and_no_attribute_of_any_message_is_lost() {
    let Some(examples) = examples() else { return };
    for imported in &examples.imported {
        leaves::are_where_they_belong(imported, leaves::source_text(imported));
        assert_eq!(check_source(&imported.record), SourceCheck::Checked, "{}", imported.label);
    }
}

/// A declaration of as many goods items as there may be, made from one of the examples: each item says
/// something of its own. As the example has them, and with so many more documents that it has 12 MB.
#[test]
fn no_text_and_no_attribute_of_a_declaration_of_999_items_is_lost() {
    let Some(folder) = shared("wco-hmrc/examples") else { return };
    let file = folder.join("TT_IM001d/TT_IM001d.xml");
    let example = std::fs::read_to_string(&file).expect("one of the examples");
    // How many times as many elements and attributes may be read.
    for (documents, times) in [(0, 2), (many_items::DOCUMENTS, 1)] {
        let text = many_items::declaration(&example, documents);
        let begun = std::time::Instant::now();
        let outcome = super::wco::message_within(text.as_bytes(), "999.xml", 32 << 20);
        let took = begun.elapsed();
        let Ok(Outcome::Imported(imported)) = outcome else { panic!("{outcome:?}") };
        let Some(Body::Declaration(declaration)) = &imported.record.body else { panic!("another") };
        assert_eq!(declaration.items.len(), many_items::ITEMS);
        assert!(!imported.warnings.iter().any(is_left_out), "{:?}", imported.warnings);
        leaves::are_where_they_belong(&imported, &text);
        let nodes = nodes(&xml::parse(&text).expect("it was read"));
        eprintln!("999 items: {nodes} elements and attributes");
        assert!(nodes * times < xml::NODES_MAX, "{nodes}");
        let bytes = imported.record.encoded_len();
        eprintln!("999 items: {} bytes of XML, a record of {bytes} bytes, in {took:?}", text.len());
        goes_beside_its_record(&text);
    }
}

fn is_left_out(warning: &Warning) -> bool {
    matches!(warning, Warning::ExtensionsLeftOut(_))
}

/// Within the limits of the ledger, the source goes beside the record, and nothing is left out.
fn goes_beside_its_record(text: &str) {
    let outcome = super::wco_message(text.as_bytes(), "999.xml");
    let Ok(Outcome::Imported(imported)) = outcome else { panic!("{outcome:?}") };
    assert!(!imported.warnings.iter().any(is_left_out), "{:?}", imported.warnings);
    assert!(imported.detached.as_deref() == Some(text.as_bytes()), "byte for byte");
    leaves::are_where_they_belong(&imported, text);
    let bytes = imported.record.encoded_len();
    eprintln!("beside its source: a record of {bytes} bytes");
    ValidRecord::from_record(completed(&imported.record)).expect("the ledger takes it");
}

/// Elements and attributes, without those that declare namespaces.
fn nodes(element: &xml::Element) -> usize {
    1 + element.attributes.len() + element.children.iter().map(nodes).sum::<usize>()
}

#[test]
fn every_korean_row_is_accepted_and_unknown_countries_flagged() {
    let Some(folder) = shared("customs-declarations-kr") else { return };
    let (mut rows, mut unknown, mut rounded, mut other) = (0, 0, 0, BTreeSet::new());
    let mut keys = BTreeSet::new();
    for (file, expected) in [("df_syn_train_eng.csv", 37_385), ("df_syn_valid_eng.csv", 8_134)] {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let reader = BufReader::new(File::open(&path).expect("the file can be read"));
        let imported = csv_rows(reader, file).expect("its header").zip(text.lines().skip(1));
        let before = rows;
        for (imported, line) in imported {
            let imported = imported.expect("a good row");
            let valid = ValidRecord::from_record(completed(&imported.record));
            assert!(valid.is_ok(), "{}", imported.label);
            assert_eq!(imported.record.source.map(|s| s.content), Some(line.into()));
            assert!(keys.insert(imported.idempotency_key), "{} repeats", imported.label);
            let flags = |of: fn(&Warning) -> bool| usize::from(imported.warnings.iter().any(of));
            unknown += flags(|warning| matches!(warning, Warning::CountryUnknown { .. }));
            rounded += flags(|warning| matches!(warning, Warning::Rounded { .. }));
            other.extend(imported.warnings.iter().filter_map(|warning| match warning {
                Warning::CountryUnknown { .. } | Warning::Rounded { .. } => None,
                other => Some(other.to_string()),
            }));
            rows += 1;
        }
        assert_eq!(rows - before, expected, "{file}");
    }
    assert_eq!((unknown, rounded), (39, 4_926));
    assert_eq!(other, BTreeSet::new());
}

/// An export declaration with its item 999 times, each under its own number, without the comments of the
/// example.
fn of_many_items() -> Option<String> {
    let path = shared("wco-hmrc/examples")?.join("TT_EX026a/TT_EX026a.xml");
    let mut text = std::fs::read_to_string(path).expect("a file that was listed");
    while let Some((before, rest)) = text.split_once("<!--") {
        text = before.to_owned() + rest.split_once("-->").expect("an end").1;
    }
    // Without the white space around elements; attributes on lines of their own stay apart.
    let apart = |line: &str| if line.starts_with('<') { "" } else { " " }.to_owned() + line;
    let text: String = text.lines().map(str::trim).map(apart).collect();
    Some(many_items::declaration(&text, 0))
}

#[test]
fn a_declaration_of_999_items_is_one_record_with_its_source_and_every_extension() {
    let Some(text) = of_many_items() else { return };
    let imported = match wco_message(text.as_bytes(), "many.xml") {
        Ok(Outcome::Imported(imported)) => imported,
        other => panic!("{:?}", other.map(|_| "skipped")),
    };
    assert!(!imported.warnings.iter().any(is_left_out), "{:?}", imported.warnings);
    let source = imported.record.source.as_ref().expect("a source");
    assert!(source.content == text.as_bytes(), "byte for byte");
    let Some(Body::Declaration(declaration)) = &imported.record.body else {
        panic!("another kind")
    };
    assert_eq!(declaration.items.len(), 999);
    let sequences = declaration.items.iter().map(|item| item.sequence);
    assert!(sequences.eq(1..=999));
    assert!(declaration.items.iter().all(|item| !item.extensions.is_empty()));
    let valid = ValidRecord::from_record(completed(&imported.record)).expect("valid");
    eprintln!("{} bytes of XML, {} of record", text.len(), valid.bytes.len());
    assert!(valid.bytes.len() > text.len());
}
