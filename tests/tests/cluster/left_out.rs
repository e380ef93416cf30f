//! What is left out of an import or an answer is said, and what is on the ledger is found by its id however
//! it was spelt.

use std::{fs, os::unix::fs::symlink, path::Path};

use customhouse_tests::{
    cluster::Cluster,
    program::{self, Answer},
};

/// Runs a command as one of the clients of node 0.
fn run(cluster: &Cluster, client: &str, format: &str, arguments: &[&str]) -> Answer {
    let profile = cluster.profile(0, client);
    let profile = profile.to_str().expect("a path of ours");
    let before = ["--profile", profile, "--output", format];
    program::run(before.iter().chain(arguments))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

fn declaration(reference: &str, elements: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Declaration \
         xmlns=\"urn:wco:datamodel:WCO:DEC-DMS:2\"><FunctionCode>9</FunctionCode>\
         <FunctionalReferenceID>{reference}</FunctionalReferenceID>{elements}\
         <TypeCode>IMA</TypeCode></Declaration>\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_is_said_and_the_exit_code_knows_it() {
    let cluster = Cluster::start(4).await;
    let dir = tempfile::tempdir().expect("a directory");
    let folder = dir.path().join("messages");
    fs::create_dir(&folder).expect("a directory");
    let write =
        |name: &str, content: &[u8]| fs::write(folder.join(name), content).expect("written");
    let plain = declaration("B-87", "<ID>26nl\u{a0}00000000000c87</ID>");
    write("a.xml", plain.as_bytes());
    write("b.xml", plain.replace('\n', "\r\n").as_bytes());
    write("._a.xml", b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ");
    write("c.txt", b"no message");
    let status = "<Response><FunctionCode>01</FunctionCode><Declaration><FunctionalReferenceID>NONE\
                  </FunctionalReferenceID></Declaration></Response>";
    write("s.xml", status.as_bytes());
    let office = cluster.profile(0, "officer");
    let submit = ["submit", "wco", text(&folder), "--open", "--office-profile", text(&office)];

    let answer = run(&cluster, "broker", "text", &submit).expect_code(0);
    let said = answer.stderr.clone() + &answer.text();
    for part in [
        "b.xml: says the same as",
        "._a.xml: AppleDouble",
        "no declaration has the reference \"NONE\"",
        "2  committed",
        "1  say the same as another of this run",
        "1  other files, not named *.xml",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }

    symlink(folder.join("nothing"), folder.join("lost.xml")).expect("a link");
    let again = run(&cluster, "broker", "json", &submit).expect_code(1).json();
    assert_eq!((&again["unreadable"], &again["already_there"]), (&1.into(), &2.into()), "{again}");
    assert_eq!(again["problems"][0]["code"], "UNREADABLE", "{again}");

    // Under the right id whatever was typed, then and now.
    let absent = |id: &str, code| {
        let genesis = cluster.genesis_file();
        let absent = ["audit", "absent", id, "--genesis", text(&genesis)];
        run(&cluster, "auditor", "text", &absent).expect_code(code).text()
    };
    for id in ["mrn:26NL00000000000C87", "mrn:26nl00000000000c87"] {
        assert!(absent(id, 1).contains("records about it"), "{id}");
    }
    let said = absent("mrn:26NL00000000000C88", 0);
    assert!(said.contains("names mrn:26NL00000000000C88 as a subject"), "{said}");
    assert!(said.contains("covers what submitters named"), "{said}");
    rows_and_histories(&cluster, dir.path());
}

fn rows_and_histories(cluster: &Cluster, dir: &Path) {
    let header = "Declaration ID,Date,Office ID,Process Type,Import Type,Import Use,Payment Type,Mode of \
                  Transport,Declarant ID,Importer ID,Seller ID,Courier ID,HS6 Code,Country of \
                  Departure,Country of Origin,Tax Rate,Tax Type,Country of Origin Indicator,Net Mass,Item \
                  Price,Fraud,Critical Fraud";
    let row = |id: u32| {
        format!("{id},2026-09-01,20,B,11,21,11,10,D1,IMP7,S1,,090111,KE,KE,2.0,A,E,18.0,57.0,0,0")
    };
    let rows = [header.to_owned(), row(1), row(1), row(2), row(3)].join("\r") + "\r";
    let file = dir.join("rows.csv");
    fs::write(&file, rows).expect("written");
    let submit = ["submit", "declarations-csv", text(&file), "--open"];
    let report = run(cluster, "broker", "json", &submit).expect_code(0).json();
    assert_eq!((&report["messages"], &report["committed"]), (&4.into(), &3.into()), "{report}");
    let (file, duplicate) = (text(&file), &report["duplicate_of"][0]);
    assert_eq!(duplicate["source"].as_str(), Some(&*format!("{file}:3")), "{report}");
    assert_eq!(duplicate["first"].as_str(), Some(&*format!("{file}:2")), "{report}");

    let history = ["query", "history", "trader:imp7"];
    let ask = |more: &[&str], format: &str, code| {
        run(cluster, "officer", format, &[&history[..], more].concat()).expect_code(code)
    };
    assert_eq!(ask(&[], "json", 0).json().as_array().map(Vec::len), Some(3));
    assert!(ask(&["--all"], "text", 0).text().contains("3 records"));
    let cut = ask(&["--limit", "2"], "text", 2).text();
    assert!(cut.contains("the first 2 records of more: --all prints all"), "{cut}");
    assert_eq!(ask(&["--limit", "2"], "json", 2).json().as_array().map(Vec::len), Some(2));
}
