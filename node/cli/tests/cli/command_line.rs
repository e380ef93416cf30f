//! The program as its users have it: processes, exit codes, files.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use customhouse_ledger::limits::RECEIPT_BYTES_MAX;
use serde_json::Value;

use crate::{
    desk::{Answer, Desk, PROGRAM, samples, vector},
    processes::{Running, base_port, network},
};

const FOUR: &str = "NL-DOUANE,BE-AADA,DE-ZOLL,FR-DGDDI";

#[test]
fn a_closed_terminal_stops_a_node_gracefully_unless_hangups_are_ignored() {
    let desk = Desk::new();
    let base = base_port();
    let new = "network new --agencies NL-DOUANE --dir net --history-bits 8 --base-port";
    desk.run(&format!("{new} {base}")).exits(0);
    let node = "node run --config net/NL-DOUANE/node.toml";
    for run in [node, "network run --dir net"] {
        // These tests may themselves run where hangups are ignored, which children inherit.
        let mut heeding = Command::new("env");
        heeding.args(["--default-signal=HUP", PROGRAM]).args(run.split_whitespace());
        heeding.current_dir(desk.dir());
        let running = Running::start(heeding);
        desk.run("network status --dir net --wait 60").exits(0);
        running.send("HUP");
        assert_eq!(running.wait().code(), Some(0), "{run}");
    }
    // As nohup does it.
    let mut shell = Command::new("sh");
    shell.current_dir(desk.dir()).args(["-c", &format!("trap '' HUP; exec {PROGRAM} {node}")]);
    let running = Running::start(shell);
    desk.run("network status --dir net --wait 60").exits(0);
    running.send("HUP");
    let status = fs::read_to_string(format!("/proc/{}/status", running.id())).expect("it runs");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("hexadecimal");
    assert_eq!(ignored & 1, 1, "{status}");
    running.send("TERM");
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn two_agencies_found_a_network_from_their_public_files() {
    let desk = Desk::new();
    for (agency, dir) in [("NL-DOUANE", "nl"), ("BE-AADA", "be")] {
        desk.run(&format!("keys new --agency {agency} --dir {dir}")).exits(0);
    }
    let again = desk.run("keys new --agency NL-DOUANE --dir nl").exits(1);
    assert!(again.stderr.contains("agency.json exists"), "{}", again.stderr);

    let genesis = "genesis new nl/agency.json be/agency.json --network pilot";
    let unknown = desk.run(&format!("{genesis} --parameter blocks=1")).exits(2);
    assert!(unknown.stderr.contains("no parameter is called `blocks`"), "{}", unknown.stderr);
    let made = desk.run(&format!("--output json {genesis}")).exits(0).json();
    assert_eq!(made["validators"].as_array().map(Vec::len), Some(2));
    let chain_id = made["chain_id"].as_str().expect("a chain id");
    desk.run(&format!("genesis verify genesis.json --chain-id {chain_id}")).exits(0);
    let other = desk.run(&format!("genesis verify genesis.json --chain-id {}", "ab".repeat(32)));
    assert!(other.exits(1).stderr.contains(chain_id));

    let keys = desk.run("--output json keys show nl/keys/peer.key").exits(0);
    assert!(keys.json()[0]["peer_id"].as_str().is_some_and(|id| id.starts_with("12D3")));
    let seed = fs::read_to_string(desk.path("nl/keys/peer.key")).expect("readable");
    let seed: Value = serde_json::from_str(&seed).expect("JSON");
    let shown = String::from_utf8(keys.stdout).expect("text");
    assert!(!shown.contains(seed["seed"].as_str().expect("a seed")), "a secret is never shown");
}

#[test]
fn a_wrong_configuration_has_its_own_exit_code_and_names_the_field() {
    let desk = Desk::new();
    let base = base_port();
    desk.run(&format!("network new --agencies NL-DOUANE,BE-AADA --dir net --base-port {base}"))
        .exits(0);
    let check = "--output json node check --config net/NL-DOUANE/node.toml";
    let ready = desk.run(check).exits(0).json();
    let genesis = desk.run("--output json genesis show net/genesis.json").exits(0).json();
    assert_eq!((&ready["ready"], &ready["agency"]), (&true.into(), &"NL-DOUANE".into()));
    assert_eq!(ready["chain_id"], genesis["chain_id"]);
    let file = desk.path("net/NL-DOUANE/node.toml");
    let text = fs::read_to_string(&file).expect("readable");
    fs::write(&file, text.replace("[log]", "[lag]")).expect("writable");
    let refused = desk.run("node run --config net/NL-DOUANE/node.toml").exits(2);
    assert!(refused.stderr.contains("node.toml") && refused.stderr.contains("lag"));
    fs::write(&file, text.replace("validator.key", "peer.key")).expect("writable");
    let refused = desk.run("node run --config net/NL-DOUANE/node.toml").exits(2);
    assert!(refused.stderr.contains("a validator key is needed"), "{}", refused.stderr);
    let refused = desk.run(check).exits(2).json();
    assert_eq!(refused["ready"], false);
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("a validator key")));
}

#[test]
fn a_watch_that_is_stopped_before_it_saw_anything_has_verified_nothing() {
    let desk = Desk::new();
    // A node that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    desk.run("network new --agencies NL-DOUANE,BE-AADA --dir net").exits(0);
    let profile = desk.path("net/NL-DOUANE/clients/auditor/client.toml");
    let text = fs::read_to_string(&profile).expect("the layout made it");
    let port = silent.local_addr().expect("bound").port();
    let named = text.lines().map(|line| match line.starts_with("node") {
        true => format!("node = \"https://127.0.0.1:{port}\""),
        false => line.to_owned(),
    });
    fs::write(&profile, named.collect::<Vec<_>>().join("\n")).expect("writable");
    let watch = "audit watch net/NL-DOUANE/clients/auditor --genesis net/genesis.json";
    let running = Running::start(desk.command(watch));
    let (asked, is_asked) = mpsc::channel();
    std::thread::spawn(move || asked.send(silent.accept()));
    // The connection is kept open until the end of the test.
    let _asked = is_asked.recv_timeout(Duration::from_secs(60)).expect("it asks the node");
    running.send("TERM");
    assert_eq!(running.wait().code(), Some(2));
}

#[test]
fn a_device_and_a_file_that_is_too_large_are_refused_with_their_name() {
    let desk = Desk::new();
    desk.write_large("large");
    desk.run("network new --agencies NL-DOUANE,BE-AADA --dir net").exits(0);
    for (command, device, code, limit) in [
        ("genesis show FILE", 1, 1, 16 << 20),
        ("genesis verify FILE", 1, 1, 16 << 20),
        ("genesis new FILE --network pilot", 1, 1, 1 << 20),
        ("node check --config FILE", 2, 2, 1 << 20),
        ("--profile FILE query status", 1, 1, 64 << 10),
        ("audit verify x.receipt --genesis FILE", 2, 1, 16 << 20),
        // In its JSON form, which may have four times the bytes.
        ("audit verify FILE --genesis net/genesis.json", 2, 1, 4 * RECEIPT_BYTES_MAX),
    ] {
        let said = |file: &str, code| {
            let said = desk.run(&command.replace("FILE", file)).exits(code).said();
            assert!(said.contains(&format!("{file}: ")), "{command}: {said}");
            said
        };
        assert!(said("/dev/zero", device).contains("a device"), "{command}");
        assert!(said("large", code).contains(&format!("{limit} bytes")), "{command}");
    }
}

/// Under whom notifications go in.
const OFFICE: &str = "--office-profile net/NL-DOUANE/clients/officer";

#[test]
fn declarations_go_in_once_and_come_back_byte_for_byte_with_receipts() {
    let desk = Desk::new();
    let _network = network(&desk, FOUR);
    let samples = samples();
    let broken = desk.path("broken.xml");
    fs::write(&broken, "<a>\n  <b></a>").expect("writable");
    let submit = format!(
        "--profile net/NL-DOUANE/clients/broker --output json submit wco {} {} --open --receipts receipts {OFFICE}",
        samples.display(),
        broken.display()
    );

    let first = desk.run(&submit).exits(1).json();
    assert_eq!((&first["malformed"], &first["problems"][0]["line"]), (&1.into(), &2.into()));
    let committed = first["committed"].as_u64().expect("a number");
    assert!(committed >= 12, "{first}");
    assert_eq!(first["unlinked"], Value::Array(vec![]));

    // A broker alone: what only customs may state is named and left out, and the exit code knows it.
    let alone = submit.replace(OFFICE, "--allow-malformed");
    let planned = desk.run(&format!("{alone} --dry-run")).exits(1).json();
    assert_eq!((&planned["committed"], &planned["records"]), (&0.into(), &Value::Array(vec![])));
    assert!(planned["planned"][0]["record"]["declaration"].is_object(), "{planned}");
    let alone = desk.run(&alone).exits(1).json();
    let left_out = alone["left_out"].as_u64().expect("a number");
    assert!(left_out >= 7, "{alone}");
    assert_eq!(alone["already_there"].as_u64(), Some(committed - left_out), "{alone}");

    let again = desk.run(&format!("{submit} --allow-malformed")).exits(0).json();
    assert_eq!((&again["committed"], &again["already_there"]), (&0.into(), &committed.into()));

    desk.run("network status --dir net --wait 60").exits(0);
    for record in first["records"].as_array().expect("a list") {
        let (id, file) = (record["record_id"].as_str(), record["source"].as_str());
        let query = "--profile net/FR-DGDDI/clients/officer query record --source";
        let source = desk.run(&format!("{query} {}", id.expect("an id"))).exits(0).stdout;
        assert!(source == fs::read(file.expect("a file")).expect("readable"), "{file:?}");
        assert_eq!(record["about"].is_string(), record["kind"] != "declaration", "{record}");
    }

    let row = desk.run(&format!(
        "--profile net/BE-AADA/clients/broker --output json submit declarations-csv {}",
        samples.join("import-rows.csv").display()
    ));
    assert_eq!(row.exits(0).json()["committed"], 10);

    drop(desk.run("--profile net/NL-DOUANE/clients/officer submit wco broken.xml").exits(1));
    desk.write("nothing.json", r#"{"riskAlert": {}}"#);
    let broker = "--profile net/NL-DOUANE/clients/broker";
    let refused = desk.run(&format!("{broker} submit record nothing.json")).exits(1).stderr;
    let expected = "nothing.json: RECORD_AUTHORITY: record: who speaks as broker may not state";
    assert!(refused.contains(expected), "{refused}");
    let officer = "--profile net/NL-DOUANE/clients/officer";
    let refused = desk.run(&format!("{officer} submit record nothing.json")).exits(1).stderr;
    let expected = "nothing.json: RECORD_ABOUT_NOTHING: record.risk_alert.alert_id: ";
    assert!(refused.contains(expected), "{refused}");

    for kind in ["record", "declarations-csv", "wco"] {
        let refused = desk.run(&format!("{broker} submit {kind} /dev/zero")).exits(1);
        assert!(refused.stderr.contains("/dev/zero:"), "{kind}: {}", refused.stderr);
    }
}

/// One of two nodes is no quorum: nothing becomes final, and each message is said to be left.
#[test]
fn what_does_not_become_final_is_counted_and_the_exit_code_knows_it() {
    let desk = Desk::new();
    let new = "network new --agencies NL-DOUANE,BE-AADA --dir net --history-bits 8 --base-port";
    desk.run(&format!("{new} {}", base_port())).exits(0);
    let _node = Running::start(desk.command("node run --config net/NL-DOUANE/node.toml"));
    let broker = "--profile net/NL-DOUANE/clients/broker --output json submit";
    let status = "--profile net/NL-DOUANE/clients/operator query status";
    desk.wait_for(status, 0);
    let missing = "NO QUORUM in sight: 1 connected with this one, 2 decide";
    for asked in [status, "network status --dir net --only NL-DOUANE"] {
        let said = desk.run(asked).exits(0).text();
        assert!(said.contains(missing), "{said}");
    }
    let count = |report: &Value, name: &str| report[name].as_u64().expect("a number");
    let wco = format!("{broker} wco {} --patience 1 {OFFICE}", samples().display());
    let report = desk.run(&wco).exits(1).json();
    assert_eq!((count(&report, "messages"), count(&report, "unfinished")), (12, 12), "{report}");
    let rows = samples().join("import-rows.csv");
    let csv = format!("{broker} declarations-csv {} --patience 1", rows.display());
    let report = desk.run(&csv).exits(1).json();
    assert_eq!((count(&report, "messages"), count(&report, "unfinished")), (10, 10), "{report}");
    fs::create_dir(desk.path("empty")).expect("made");
    let nothing = desk.run(&format!("{broker} wco empty")).exits(1);
    assert!(nothing.stderr.contains("no file named *.xml"), "{}", nothing.stderr);
    desk.write("taken", "a file");
    let receipts = desk.run(&format!("{broker} wco empty --receipts taken/r")).exits(1);
    assert!(receipts.stderr.contains("nothing was submitted"), "{}", receipts.stderr);
}

fn decisions_are_read_from_a_node_and_from_a_store_of_one_that_does_not_run(
    desk: &Desk,
    network: Running,
) {
    let auditor = "--profile net/DE-ZOLL/clients/auditor";
    let decisions = "--output json audit decisions --height 1 --out";
    let asked = desk.run(&format!("{auditor} {decisions} de.decisions")).exits(0).json();
    assert!(asked["certificates"].as_u64().is_some_and(|count| count > 0), "{asked}");
    let again = desk.run(&format!("{auditor} {decisions} de.decisions")).exits(2);
    assert!(again.stderr.contains("never replaced"), "{}", again.stderr);
    desk.run(&format!("{auditor} audit decisions --height 1000000 --out no.decisions")).exits(2);
    let store = "--store net/FR-DGDDI/data/store --genesis net/genesis.json";
    let running = desk.run(&format!("{decisions} fr.decisions {store}")).exits(2);
    assert!(running.stderr.contains("open in another process"), "{}", running.stderr);
    drop(network);
    let stopped = || desk.run(&format!("{decisions} fr.decisions {store}"));
    let deadline = Instant::now() + Duration::from_secs(30);
    let files = || {
        let store = fs::read_dir(desk.path("net/FR-DGDDI/data/store")).expect("a store");
        let files = store.map(|entry| entry.expect("readable").path());
        let content = |file: PathBuf| (fs::read(&file).expect("readable"), file);
        let mut files: Vec<_> = files.filter(|file| file.is_file()).map(content).collect();
        files.sort();
        files
    };
    while stopped().code != 0 {
        assert!(Instant::now() < deadline, "the node still has its store open");
    }
    let before = files();
    desk.run(&format!("{decisions} again.decisions {store}")).exits(0);
    assert!(files() == before, "no file of the store is changed");
    let fork = "--output json audit fork de.decisions fr.decisions --genesis net/genesis.json";
    let agree = desk.run(fork).exits(0).json();
    assert_eq!(
        (&agree["verdict"], &agree["culprits"]),
        (&"verified".into(), &Value::Array(vec![]))
    );
    let nowhere = "--store net/nowhere --genesis net/genesis.json";
    desk.run(&format!("{decisions} no.decisions {nowhere}")).exits(2);
    assert!(!desk.path("net/nowhere").exists(), "nothing is begun where nothing is");
}

#[test]
fn an_audit_tells_verified_from_invalid_and_from_not_enough_evidence() {
    let desk = Desk::new();
    let network = network(&desk, FOUR);
    let submit = "--profile net/NL-DOUANE/clients/broker --output json submit wco --open";
    let samples = samples();
    desk.run(&format!("{submit} {} --receipts receipts {OFFICE}", samples.display())).exits(0);
    let history = "--profile net/DE-ZOLL/clients/auditor --output json audit history \
                   --genesis net/genesis.json";
    desk.run("network status --dir net --wait 60").exits(0);
    let known = desk.run(&format!("{history} mrn:26NL00051004471RX3")).exits(0).json();
    assert_eq!(known["records"].as_array().map(Vec::len), Some(5), "{known}");
    let unknown = desk.run(&format!("{history} mrn:NOTHING")).exits(0).json();
    assert_eq!(unknown["records"], Value::Array(vec![]), "absence is proven too");
    let auditor = "--profile net/DE-ZOLL/clients/auditor";
    let verify = "audit verify receipts --genesis net/genesis.json";
    desk.run(&format!("{auditor} {verify} --against-node")).exits(0);
    decisions_are_read_from_a_node_and_from_a_store_of_one_that_does_not_run(&desk, network);

    let sources = desk.run(&format!("--output json {verify} --source")).exits(0).json();
    let receipts = sources["receipts"].as_array().expect("a list");
    assert!(receipts.iter().all(|receipt| receipt["source"]["found"] == "CHECKED"), "{sources}");
    assert!(receipts.iter().all(|receipt| receipt["source"]["node_says_checked"] == true));

    let all = desk.run(&format!("--output json {verify}")).exits(0).json();
    assert_eq!(all["verdict"], "verified");
    assert!(all["rests_on"]["finalized_by_least"].as_u64().is_some_and(|least| least >= 3));
    desk.run("audit verify nothing.receipt --genesis net/genesis.json").exits(2);
    desk.run("audit verify receipts --genesis nothing.json").exits(2);
    desk.run(&format!("{auditor} {verify} --against-node")).exits(2);
    for wrong in ["audit", "audit verify receipts", "audit history 17 --genesis g", "audit vrify"] {
        let refused = desk.run(wrong).exits(64);
        assert!(refused.stderr.contains("--help"), "{wrong}: {}", refused.stderr);
    }
    let help = desk.run("audit verify --help").exits(0).text();
    assert!(help.contains("64 wrong arguments"));

    let receipts = fs::read_dir(desk.path("receipts")).expect("readable");
    let receipt = receipts.map(|entry| entry.expect("readable").path()).next().expect("one");
    let mut bytes = fs::read(receipt).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    desk.write("flipped.receipt", bytes);
    let flipped = "--output json audit verify flipped.receipt --genesis net/genesis.json";
    let flipped = desk.run(flipped).exits(1).json();
    assert!(flipped["receipts"][0]["code"].as_str().is_some_and(|code| !code.is_empty()));

    desk.run("network new --agencies NL-DOUANE,BE-AADA --dir other").exits(0);
    let other = "--output json audit verify receipts --genesis other/genesis.json";
    assert_eq!(desk.run(other).exits(1).json()["receipts"][0]["code"], "WRONG_CHAIN");
}

#[test]
fn lists_may_have_spaces_and_what_is_named_must_be_there() {
    let desk = Desk::new();
    let with = |arguments: &str, last: &str| {
        Answer::of(desk.command(arguments).env("CUSTOMHOUSE_PROFILE", "").arg(last))
    };
    with("network new --dir net --agencies", "NL-DOUANE, BE-AADA").exits(0);
    let absent = with("network status --dir net --only", "NL-DOUANE, KR-KCS").exits(2);
    assert!(absent.stderr.contains("--only KR-KCS: net has no such agency"), "{}", absent.stderr);
    fs::create_dir(desk.path("bare")).expect("writable");
    fs::copy(desk.path("net/genesis.json"), desk.path("bare/genesis.json")).expect("writable");
    with("network status --dir", "bare").exits(1);
    with("network new --agencies NL-DOUANE --dir none --base-port", "0").exits(1);
    let heartbeat = "--parameter heartbeat_ms=60000 --parameter";
    let new = format!("network new --agencies NL-DOUANE --dir none {heartbeat}");
    let twice = with(&new, "heartbeat_ms=5000").exits(2);
    assert!(twice.stderr.contains("--parameter heartbeat_ms is given twice"), "{}", twice.stderr);
    // An empty profile is no profile.
    let unnamed = with("query", "status").exits(2);
    assert!(unnamed.stderr.contains("which node?"), "{}", unnamed.stderr);
    let certificate = || fs::read(desk.path("net/NL-DOUANE/tls/server.crt")).expect("laid out");
    let before = certificate();
    let other = with("keys server --dir net/NL-DOUANE --agency", "BE-AADA").exits(1);
    assert!(other.stderr.contains("not the authority of BE-AADA"), "{}", other.stderr);
    assert!(certificate() == before, "the node keeps the one that it has");
    with("keys server --agency NL-DOUANE --dir net/NL-DOUANE --host", "a.example, [fd00::17]")
        .exits(0);
}

#[test]
fn a_fork_s_culprits_are_named_offline_and_nobody_else() {
    let desk = Desk::new();
    let (genesis, decisions) = (vector("genesis.json"), vector("decisions.json"));
    desk.write("genesis.json", genesis["json"].to_string());
    for name in ["one", "other", "other_caught_up", "halted"] {
        let bytes = hex::decode(decisions[name].as_str().expect("text")).expect("hexadecimal");
        fs::write(desk.path(name), &bytes).expect("writable");
        fs::write(desk.path(format!("{name}.cut")), &bytes[..bytes.len() - 1]).expect("writable");
    }
    fs::copy(desk.path("one"), desk.path("copy")).expect("writable");
    let fork = |files: &str, code| {
        let command = format!("--output json audit fork {files} --genesis genesis.json");
        desk.run(&command).exits(code).json()
    };
    let keys = |culprits: &Value| -> Vec<Value> {
        let culprits = culprits.as_array().expect("a list");
        culprits.iter().map(|culprit| culprit["key"].clone()).collect()
    };

    let proven = fork("one other", 3);
    assert_eq!((&proven["verdict"], &proven["height"]), (&"fork".into(), &1.into()));
    assert_eq!(Value::Array(keys(&proven["culprits"])), decisions["culprits"]);
    let first = &proven["culprits"][0]["evidence"][0];
    assert_eq!((&first["view"], first["first"].as_str().map(str::len)), (&1.into(), Some(370)));
    let text = desk.run("audit fork one other --genesis genesis.json").exits(3).text();
    assert!(text.contains("BE-DOUANE") && text.contains("nullified, and finalized"), "{text}");

    let short = fork("one other_caught_up", 2);
    assert_eq!(
        (&short["verdict"], &short["culprits"]),
        (&"not_enough_evidence".into(), &Value::Array(vec![]))
    );
    let ask = &short["missing"]["ask"];
    assert_eq!(ask, &serde_json::json!(["BE-DOUANE", "DE-ZOLL", "NL-DOUANE"]));
    assert_eq!(fork("one other_caught_up other", 3)["culprits"], proven["culprits"]);

    let halted = fork("halted", 2);
    assert_eq!((&halted["missing"], &halted["height"]), (&short["missing"], &1.into()));
    assert_eq!(halted["finalized"].as_array().map(Vec::len), Some(2), "{halted}");
    assert_eq!(fork("one halted", 2)["missing"], short["missing"]);

    let twice = fork("one ./one", 2);
    assert!(twice["reason"].as_str().is_some_and(|why| why.contains("named twice")), "{twice}");
    let copy = fork("one copy", 0);
    assert!(copy["reason"].as_str().is_some_and(|why| why.contains("its copy")), "{copy}");
    assert_eq!(fork("one", 2)["verdict"], "not_enough_evidence");
    assert_eq!(fork("one other.cut", 1)["verdict"], "invalid");
    desk.write_large("large");
    assert_eq!(fork("one large", 1)["verdict"], "invalid");
    desk.run("audit fork one nothing --genesis genesis.json").exits(2);
    desk.run("audit fork --genesis genesis.json").exits(64);
    desk.run("network new --agencies NL-DOUANE,BE-AADA --dir net").exits(0);
    let foreign =
        desk.run("--output json audit fork one other --genesis net/genesis.json").exits(1);
    assert!(foreign.json()["reason"].as_str().is_some_and(|why| why.contains("WRONG_CHAIN")));
    let help = desk.run("audit fork --help").exits(0).text();
    assert!(help.contains("3 the culprits are proven"));
}

/// A node that forked may tell what does not verify: that must not hide what others prove.
#[test]
fn what_is_wrong_with_one_file_or_side_does_not_hide_a_fork() {
    let desk = Desk::new();
    let (genesis, decisions) = (vector("genesis.json"), vector("decisions.json"));
    desk.write("genesis.json", genesis["json"].to_string());
    let told = |name: &str| decisions[name].as_str().expect("text").to_owned();
    // It ends with its finalization's last signature.
    let mut forged = hex::decode(told("other_caught_up")).expect("hexadecimal");
    *forged.last_mut().expect("not empty") ^= 1;
    let (one, other, forged) = (told("one"), told("other"), hex::encode(forged));
    for (name, text) in [("one", &one), ("other", &other), ("forged", &forged)] {
        fs::write(desk.path(name), hex::decode(text).expect("hexadecimal")).expect("writable");
    }
    let evidence = |name: &str, sides: &[&str], chain: &str| {
        let side = |decisions: &&str| {
            serde_json::json!({
                "from": "a node", "height": 1, "block_hash": "00".repeat(32), "decisions": decisions,
            })
        };
        let file = serde_json::json!({
            "format": "customhouse fork evidence 1",
            "chain_id": genesis["chain_id"],
            "validator_chain": chain,
            "sides": sides.iter().map(side).collect::<Vec<_>>(),
        });
        fs::write(desk.path(name), file.to_string()).expect("writable");
    };
    evidence("spoilt", &[&forged, &one, &other, "00"], "");
    evidence("half", &[&forged, &one], "");
    evidence("chained", &[&one, &other], "0a00");
    for (files, code, refused) in [
        ("spoilt", 3, 2),
        ("chained", 3, 1),
        ("half other", 3, 1),
        ("forged one other", 3, 1),
        ("one nothing other", 3, 1),
        ("half", 1, 1),
        ("forged one", 1, 1),
    ] {
        let command = format!("--output json audit fork {files} --genesis genesis.json");
        let answer = desk.run(&command).exits(code).json();
        let named = answer["refused"].as_array().expect("a list");
        assert_eq!(named.len(), refused, "{files}: {answer}");
        let culprits = answer["culprits"].as_array().map(Vec::len);
        assert_eq!(culprits, Some(if code == 3 { 2 } else { 0 }), "{files}: {answer}");
        let name = files.split(' ').find(|name| *name != "one").expect("one");
        let why = named[0].as_str().expect("text");
        assert!(why.starts_with(&format!("{name}: ")), "{files}: {why}");
        let forged = !["chained", "one nothing other"].contains(&files);
        let said = named.iter().any(|why| why.to_string().contains("CERTIFICATE_INVALID"));
        assert_eq!(said, forged, "{files}: {answer}");
        if code == 1 {
            let reason = answer["reason"].as_str().expect("text");
            assert!(reason.starts_with(why), "{files}: {reason}");
        }
    }
    let text = desk.run("audit fork spoilt --genesis genesis.json").exits(3).text();
    assert!(text.contains("not looked at: spoilt: a node: height 1"), "{text}");
}
