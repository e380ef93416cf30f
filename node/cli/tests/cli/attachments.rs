//! Files that belong to records, as users of the program have them.

use std::fs;

use crate::{
    desk::{Answer, Desk, PROGRAM, program_in},
    processes::network,
};

/// A file of bytes that repeat only after long, and its root as the program says it.
fn file(desk: &Desk, name: &str, size: usize) -> String {
    let bytes: Vec<u8> = (0..size).map(|i| (i / 9 + i / 65_000) as u8).collect();
    desk.write(name, bytes);
    let shown = desk.json(&format!("attach {name}"), 0);
    shown["root"].as_str().expect("text").to_owned()
}

#[test]
fn a_file_is_held_against_its_root_without_a_network() {
    let desk = Desk::new();
    let root = file(&desk, "invoice.pdf", 250_000);
    let shown =
        desk.run("--output json attach invoice.pdf --media-type text/x-odd").exits(0).json();
    let attachment = &shown["attachment"];
    assert_eq!(attachment["mediaType"], "text/x-odd");
    assert_eq!(
        (&attachment["name"], &attachment["size"]),
        (&"invoice.pdf".into(), &"250000".into())
    );
    let auditor = env!("CARGO_BIN_EXE_customhouse-audit");
    for (program, audit) in [(PROGRAM, &["audit"][..]), (auditor, &[])] {
        let check = |file: &str, root: &str| {
            let mut command = program_in(desk.dir(), program);
            Answer::of(command.args(audit).args(["attachment", file, root]))
        };
        assert!(check("invoice.pdf", &root).exits(0).text().starts_with("verified"));
        assert!(check("invoice.pdf", &"7".repeat(64)).exits(1).text().contains(&root));
        assert!(check("nothing.pdf", &root).exits(2).stderr.contains("nothing.pdf"));
        check("invoice.pdf", "77").exits(64);
    }
}

#[test]
fn files_go_to_the_node_with_their_record_and_come_back() {
    let desk = Desk::new();
    let _network = network(&desk, "NL-DOUANE");
    let (invoice, scan) =
        (file(&desk, "invoice.pdf", 250_000), file(&desk, "scan.tiff", 3_000_000));
    let record = r#"{"declaration": {"regime": "IMPORT", "reference": "LRN1"}}"#;
    desk.write("record.json", record);
    let broker = "--profile net/NL-DOUANE/clients/broker";
    let submit = "--output json submit record record.json --open --receipts receipts";
    let attach = "--attach invoice.pdf --attach scan.tiff";
    desk.run(&format!("{broker} {submit} {attach}")).exits(0);
    let receipt = fs::read_dir(desk.path("receipts")).expect("there").next().expect("one");
    let receipt = receipt.expect("an entry").path();
    let id = receipt.file_stem().expect("a name").to_string_lossy().into_owned();
    let officer = "--profile net/NL-DOUANE/clients/officer";
    let shown = desk.run(&format!("{officer} query record {id}")).exits(0).text();
    assert!(shown.contains(&format!("{scan} (scan.tiff, image/tiff, 3000000 bytes)")), "{shown}");
    for (root, name) in [(&invoice, "invoice.pdf"), (&scan, "scan.tiff")] {
        let fetch = format!("{officer} query attachment {root} --out back-{name}");
        desk.run(&fetch).exits(0);
        let read = |name: &str| fs::read(desk.path(name)).expect("there");
        assert!(read(name) == read(&format!("back-{name}")), "{name} byte for byte");
        let taken = desk.run(&fetch).exits(1).stderr;
        assert!(taken.contains("is there already"), "{taken}");
    }
    let unknown = "7".repeat(64);
    let fetch = format!("{officer} query attachment {unknown} --out other");
    let refused = desk.run(&fetch).exits(1).stderr;
    assert!(refused.contains("ATTACHMENT_NOT_HERE"), "{refused}");
    assert!(!desk.path("other").exists());
}

#[test]
fn a_source_larger_than_a_record_comes_back_byte_for_byte() {
    let desk = Desk::new();
    let _network = network(&desk, "NL-DOUANE");
    let padding = "what is in no field ".repeat(250_000);
    let message = format!(
        "<Declaration><!--{padding}--><TypeCode>IMA</TypeCode><ID>26NL1</ID></Declaration>"
    );
    fs::create_dir(desk.path("messages")).expect("made");
    desk.write("messages/large.xml", &message);
    let broker = "--profile net/NL-DOUANE/clients/broker";
    let submit = format!("{broker} --output json submit wco messages --open --receipts receipts");
    let submitted = desk.run(&submit).exits(0).json();
    let id = submitted["records"][0]["record_id"].as_str().expect("text");
    let query = format!("--profile net/NL-DOUANE/clients/officer query record {id}");
    let shown = desk.run(&query).exits(0).text();
    assert!(shown.contains(&format!("{} bytes (--source), attachment", message.len())), "{shown}");
    assert!(desk.run(&format!("{query} --source")).exits(0).text() == message, "byte for byte");

    // The auditor has it in a file.
    let verify = "audit verify receipts --genesis net/genesis.json";
    desk.run(verify).exits(0);
    let unchecked = desk.run(&format!("{verify} --source")).exits(2).text();
    assert!(unchecked.contains("SOURCE_NOT_CHECKED"), "{unchecked}");
    let checked = desk.run(&format!("{verify} --source-files messages")).exits(0).text();
    assert!(checked.contains("source CHECKED: customhouse-wco/1"), "{checked}");
    desk.write("messages/large.xml", message.replace("26NL1", "26NL2"));
    desk.run(&format!("{verify} --source-files messages")).exits(2);
}
