//! The project's own samples: what the demo shows must be what the importers say.

use std::path::Path;

use customhouse_proto::v1::reference::Relation;

use super::*;

fn samples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/samples")
}

#[test]
fn the_samples_are_imported_without_a_warning_and_linked_by_reference() {
    let batch: Vec<Imported> = wco_paths(&[samples()])
        .files
        .iter()
        .map(|path| match wco_file(path) {
            Ok(Outcome::Imported(imported)) => *imported,
            other => panic!("{}: {other:?}", path.display()),
        })
        .collect();
    assert_eq!(waves(&batch).map(|wave| wave.len()), [3, 1, 8]);
    for imported in &batch {
        assert_eq!(imported.warnings, [], "{}", imported.label);
    }
    let links = link_batch(&batch, |_| None);
    assert_eq!((links.unlinked.len(), links.duplicates.len()), (0, 0));
    for link in &links.links {
        let (from, by_mrn) = (&batch[link.from], MessageRole::Additional(Relation::Amends));
        // The amendment has a reference of its own and names the declaration by its MRN.
        let expected = if from.role == by_mrn { Rule::Mrn } else { Rule::Reference };
        assert_eq!(link.rule, expected, "{}", from.label);
        let LinkTarget::Batch(to) = link.to else { panic!("{} is not in the batch", from.label) };
        let granted = from.label.ends_with("amendment-granted.xml");
        assert_eq!(batch[to].role == by_mrn, granted, "{}", from.label);
    }
}

#[test]
fn the_sample_rows_are_imported_and_one_country_is_flagged() {
    let path = samples().join("import-rows.csv");
    let bytes = std::fs::read(&path).expect("the sample can be read");
    let rows: Vec<_> = csv_rows(&bytes[..], "import-rows.csv")
        .expect("its header")
        .collect::<Result<_, _>>()
        .expect("good rows");
    let flagged = rows.iter().filter(|row| !row.warnings.is_empty()).count();
    assert_eq!((rows.len(), flagged), (10, 1));
}
