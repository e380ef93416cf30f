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

/// Each text and attribute of the message is in a field or an extension, as many times as in the
/// message.
#[test]
fn no_text_and_no_attribute_of_any_message_is_lost() {
    let Some(examples) = examples() else { return };
    for imported in &examples.imported {
        nothing_is_lost(imported);
        assert_eq!(check_source(&imported.record), SourceCheck::Checked, "{}", imported.label);
    }
}

/// Every text and attribute of a message is in a field of its record or in an extension, as often as it is
/// in the message.
fn nothing_is_lost(imported: &Imported) {
    let source = &imported.record.source.as_ref().expect("a source").content;
    let text = std::str::from_utf8(source).expect("it was read as UTF-8");
    let root = xml::parse(text.trim_start_matches('\u{feff}')).expect("it was read");
    let mut texts = Vec::new();
    collect_texts(&root, &mut texts);
    let mut kept = count(values(&imported.record));
    for (path, text) in texts {
        let known = kept.get_mut(&text).filter(|count| **count > 0);
        let Some(known) = known else { panic!("{}: {path} {text:?}", imported.label) };
        *known -= 1;
    }
}

/// A declaration of as many goods items as there may be, made from one of the examples: each item says
/// something of its own.
#[test]
fn no_text_and_no_attribute_of_a_declaration_of_999_items_is_lost() {
    const ITEMS: usize = 999;
    let Some(folder) = shared("wco-hmrc/examples") else { return };
    let file = folder.join("TT_IM001d/TT_IM001d.xml");
    let text = std::fs::read_to_string(&file).expect("one of the examples");
    let (start, end) = ("<GovernmentAgencyGoodsItem>", "</GovernmentAgencyGoodsItem>");
    let (before, rest) = text.split_once(start).expect("an item");
    let (item, _) = rest.split_once(end).expect("its end");
    let after = rest.rsplit_once(end).expect("its end").1;
    let of_its_own = |number: usize| {
        let item = item.replace("</Description>", &format!(" {number}</Description>"));
        let sequence = item.find("<SequenceNumeric>").expect("a sequence");
        let until = item.find("</SequenceNumeric>").expect("its end");
        format!("{start}{}<SequenceNumeric>{number}{}{end}", &item[..sequence], &item[until..])
    };
    let items: String = (1..=ITEMS).map(of_its_own).collect();
    let text = format!("{before}{items}{after}");
    let begun = std::time::Instant::now();
    let outcome = super::wco::message_within(text.as_bytes(), "999.xml", 32 << 20);
    let took = begun.elapsed();
    let Ok(Outcome::Imported(imported)) = outcome else { panic!("{outcome:?}") };
    let Some(Body::Declaration(declaration)) = &imported.record.body else { panic!("another") };
    assert_eq!(declaration.items.len(), ITEMS);
    let left_out = |warning: &Warning| matches!(warning, Warning::ExtensionsLeftOut(_));
    assert!(!imported.warnings.iter().any(left_out), "{:?}", imported.warnings);
    nothing_is_lost(&imported);
    let nodes = nodes(&xml::parse(text.trim_start_matches('\u{feff}')).expect("it was read"));
    eprintln!("999 items: {nodes} elements and attributes");
    assert!(nodes * 2 < xml::NODES_MAX, "{nodes}");
    let bytes = imported.record.encoded_len();
    eprintln!("999 items: {} bytes of XML, a record of {bytes} bytes, in {took:?}", text.len());
    // Within the limits of the ledger, its source goes beside the record, and nothing is left out.
    let outcome = super::wco_message(text.as_bytes(), "999.xml");
    let Ok(Outcome::Imported(imported)) = outcome else { panic!("{outcome:?}") };
    assert!(!imported.warnings.iter().any(left_out), "{:?}", imported.warnings);
    assert_eq!(imported.detached.as_deref(), Some(text.as_bytes()));
    let bytes = imported.record.encoded_len();
    eprintln!("beside its source: a record of {bytes} bytes");
    ValidRecord::from_record(completed(&imported.record)).expect("the ledger takes it");
}

/// Elements and attributes, without those that declare namespaces.
fn nodes(element: &xml::Element) -> usize {
    1 + element.attributes.len() + element.children.iter().map(nodes).sum::<usize>()
}

/// Texts with their paths, without those that a field says in other words.
fn collect_texts(element: &xml::Element, into: &mut Vec<(String, String)>) {
    for child in &element.children {
        let restated = match &*child.name {
            // That the digits of a tariff code are one.
            "IdentificationTypeCode" => {
                let digits = element.child("ID").map_or(0, |id| id.text.len());
                matches!((&*child.text, digits), ("TSP", 8) | ("TRC", 2))
            }
            // That all is payable that was assessed.
            "PaymentAmount" => element
                .child("TaxAssessedAmount")
                .is_some_and(|assessed| assessed.text == child.text),
            // The version and type are in the format of the source as well.
            _ => false,
        };
        let path = format!("{}/{}", element.name, child.name);
        for attribute in
            child.attributes.iter().filter(|attribute| !restated && !is_usual(attribute))
        {
            into.push((format!("{path}@{}", attribute.name), attribute.value.clone()));
        }
        if !child.text.is_empty() && !restated {
            into.push((path, child.text.clone()));
        }
        collect_texts(child, into);
    }
}

/// Whether an attribute says what holds for the field anyway: a mass is in kilograms, a date and
/// time in the format 304.
fn is_usual(attribute: &xml::Attribute) -> bool {
    matches!((&*attribute.name, &*attribute.value), ("unitCode", "KGM") | ("formatCode", "304"))
}

/// All texts and numbers of a record's body, and the parts that some are put together from.
fn values(record: &v1::Record) -> Vec<String> {
    let mut values = Values::default();
    match &record.body {
        Some(Body::Declaration(declaration)) => values.declaration(declaration),
        Some(Body::DeclarationStatus(status)) => values.status(status),
        other => panic!("not imported: {other:?}"),
    }
    values.0
}

#[derive(Default)]
struct Values(Vec<String>);

impl Values {
    fn texts<'t>(&mut self, texts: impl IntoIterator<Item = &'t String>) {
        self.0.extend(texts.into_iter().cloned());
    }

    fn declaration(&mut self, d: &v1::Declaration) {
        self.texts([&d.type_code, &d.function_code, &d.reference, &d.mrn, &d.ucr, &d.lodged_at]);
        self.texts([&d.office, &d.gross_mass_kg, &d.transport_mode, &d.transport_means_id]);
        self.texts([&d.country_departure, &d.country_destination]);
        self.0.push(d.package_count.to_string());
        self.texts(&d.container_ids);
        self.money(&d.invoice_total);
        self.parties(&d.parties);
        self.documents(&d.previous_documents);
        self.documents(&d.supporting_documents);
        self.extensions(&d.extensions);
        for item in &d.items {
            self.item(item);
        }
    }

    fn item(&mut self, item: &v1::GoodsItem) {
        let (tariff, national) = item.hs_code.split_at(item.hs_code.len().min(8));
        let (current, previous) = item.procedure.split_at(item.procedure.len().min(2));
        self.0.extend([&item.hs_code, tariff, national, current, previous].map(str::to_owned));
        self.0.push(item.sequence.to_string());
        self.texts([&item.description, &item.country_origin, &item.net_mass_kg]);
        self.texts([&item.gross_mass_kg, &item.supplementary_quantity, &item.ucr]);
        self.texts(&item.additional_procedures);
        self.texts(&item.container_ids);
        self.money(&item.value);
        self.money(&item.statistical_value);
        for package in &item.packages {
            self.texts([&package.type_code, &package.marks]);
            self.0.push(package.count.to_string());
        }
        self.documents(&item.previous_documents);
        self.documents(&item.supporting_documents);
        self.parties(&item.parties);
        self.taxes(&item.taxes);
        self.extensions(&item.extensions);
    }

    fn status(&mut self, status: &v1::DeclarationStatus) {
        self.texts([&status.function_code, &status.reference, &status.issued_at]);
        self.texts([&status.declaration_reference, &status.mrn, &status.version]);
        for reason in &status.reasons {
            self.texts([&reason.code, &reason.type_code, &reason.text]);
            self.0.extend(reason.pointer.split(['/', '[', ']', '.']).map(str::to_owned));
        }
        self.taxes(&status.taxes);
        let items: BTreeSet<u32> = status.taxes.iter().map(|tax| tax.item).collect();
        self.0.extend(items.iter().map(ToString::to_string));
        self.extensions(&status.extensions);
    }

    fn money(&mut self, money: &Option<v1::Money>) {
        self.texts(money.iter().flat_map(|money| [&money.amount, &money.currency]));
    }

    fn parties(&mut self, parties: &[v1::Party]) {
        self.texts(parties.iter().flat_map(|party| [&party.id, &party.name, &party.country]));
    }

    fn documents(&mut self, documents: &[v1::DocumentReference]) {
        let texts = |d: &'_ v1::DocumentReference| {
            [d.category.clone(), d.type_code.clone(), d.id.clone(), d.item.clone()]
        };
        self.0.extend(documents.iter().flat_map(texts));
    }

    fn taxes(&mut self, taxes: &[v1::Tax]) {
        for tax in taxes {
            self.texts([&tax.type_code, &tax.rate, &tax.payment_method]);
            self.money(&tax.amount);
            self.money(&tax.base);
        }
    }

    fn extensions(&mut self, extensions: &[v1::Extension]) {
        self.texts(extensions.iter().map(|extension| &extension.value));
    }
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
    let (start, end) = ("<GovernmentAgencyGoodsItem>", "</GovernmentAgencyGoodsItem>");
    let at = text.find(start).expect("an item");
    let behind = at + text[at..].find(end).expect("its end") + end.len();
    let item = &text[at..behind];
    let number = "<SequenceNumeric>1</SequenceNumeric>";
    assert!(item.contains(number));
    let numbered = |n: u32| item.replacen(number, &number.replace('1', &n.to_string()), 1);
    let items: String = (1..=999).map(numbered).collect();
    Some([&text[..at], &items, &text[behind..]].concat())
}

#[test]
fn a_declaration_of_999_items_is_one_record_with_its_source_and_every_extension() {
    let Some(text) = of_many_items() else { return };
    let imported = match wco_message(text.as_bytes(), "many.xml") {
        Ok(Outcome::Imported(imported)) => imported,
        other => panic!("{:?}", other.map(|_| "skipped")),
    };
    let left_out = |warning: &Warning| matches!(warning, Warning::ExtensionsLeftOut(_));
    assert!(!imported.warnings.iter().any(left_out), "{:?}", imported.warnings);
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
