//! The command line as its users meet it: help that teaches, JSON for programs, exit codes for
//! scripts, the demo, and an audit that finds every change.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{
    Ended, Node, Playbook, SOON, Scene, Scratch, check, command, free_port, hale, hale_command, run,
};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const QUICK: &str = "[telemetry]\ninterval = \"200ms\"\n";

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let after = help.lines().skip_while(|l| l.trim() != "Commands:").skip(1);
    let names = after
        .take_while(|l| !l.trim().is_empty())
        .filter(|l| l.starts_with("  ") && !l.starts_with("     "));
    names
        .filter_map(|l| l.split_whitespace().next())
        .filter(|n| *n != "help")
        .map(str::to_owned)
        .collect()
}

/// Every command, with what leads to it, down to the last.
fn commands(path: &[String]) -> Vec<(Vec<String>, String)> {
    let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let help = hale(&args).succeeded().stdout;
    let mut found = vec![];
    for name in listed(&help) {
        found.extend(commands(&[path, &[name]].concat()));
    }
    found.push((path.to_vec(), help));
    found
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let all = commands(&[]);
    for wanted in [
        "node",
        "status",
        "incidents",
        "why",
        "approve",
        "deny",
        "leases",
        "freeze",
        "thaw",
        "metrics",
        "demo",
        "audit verify",
        "audit export",
        "audit tail",
        "playbook ls",
        "playbook show",
        "playbook lint",
        "playbook run",
    ] {
        assert!(
            all.iter().any(|(path, _)| path.join(" ") == wanted),
            "there is no `hale {wanted}`"
        );
    }
    let leaves = all.iter().filter(|(_, help)| listed(help).is_empty());
    let without: Vec<String> = leaves
        .filter(|(_, help)| !help.contains("Example"))
        .map(|(path, _)| path.join(" "))
        .collect();
    assert!(
        without.is_empty(),
        "commands whose help has no example: {without:?}"
    );
}

#[test]
fn the_configuration_that_the_help_shows_is_one_that_a_node_takes() {
    let help = hale(&["node", "--help"]).succeeded().stdout;
    let sample: Vec<&str> = help
        .lines()
        .map(str::trim)
        .skip_while(|l| *l != "[node]")
        .take_while(|l| !l.starts_with("Options") && !l.starts_with("Usage"))
        .collect();
    assert!(sample.len() > 5, "the help shows no configuration:\n{help}");
    starts_with("sample of the help", &sample.join("\n"));
}

#[test]
fn the_sample_configuration_is_one_that_a_node_takes_with_every_example_in_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/hale.toml");
    let text = std::fs::read_to_string(path).unwrap();
    starts_with("deploy/hale.toml", &text);
    starts_with(
        "deploy/hale.toml with its examples",
        &text.replace("#! ", ""),
    );
}

/// Starts a node with a whole configuration, on a data directory and address of the test's own,
/// and waits until it says so or ends.
fn starts_with(what: &str, config: &str) {
    let scratch = Scratch::new();
    let file = scratch.write("hale.toml", config);
    for path in ["postgres.password", "deploy.token"] {
        scratch.write(path, "secret\n");
    }
    let text = config
        .replace("/etc/hale/playbooks", &scratch.text_path("playbooks"))
        .replace("/etc/hale/", &format!("{}/", scratch.dir().display()))
        .replace("0.0.0.0:7118", &format!("127.0.0.1:{}", free_port()))
        .replace("data_dir = \"/var/lib/hale\"", "");
    std::fs::create_dir_all(scratch.path("playbooks")).unwrap();
    std::fs::write(&file, text).unwrap();
    // A member already: a node of no cluster would ask the sample's seeds to let it in.
    let data = scratch.text_path("data");
    let mut init = hale_command(&["init", "--bind", "127.0.0.1:0", "--data-dir", &data]);
    let founded = init.stdout(std::process::Stdio::null()).status();
    assert!(founded.unwrap().success());
    let log = std::fs::File::create(scratch.path("log")).unwrap();
    let mut command = hale_command(&["node", "--listen", "127.0.0.1:0", "--config"]);
    command
        .arg(&file)
        .arg("--data-dir")
        .arg(scratch.path("data"));
    command.stdout(log.try_clone().unwrap()).stderr(log);
    // The samples name variables; nobody listens where these lead.
    for name in ["HALE_WEBHOOK", "HALE_WEBHOOK_URL"] {
        command.env(name, "http://127.0.0.1:9/");
    }
    let mut node = hale_tests::Guarded::spawn(&mut command);
    hale_tests::wait_until("the node answers or ends", SOON, || {
        node.ended().is_some() || scratch.path("data/api.json").exists()
    });
    let ended = node.ended();
    assert!(
        ended.is_none(),
        "{what}: {ended:?}\n{}",
        scratch.read("log")
    );
}

#[test]
fn every_answer_is_json_where_json_is_wanted() {
    let scratch = Scratch::new();
    let node = Node::new(&scratch, QUICK).start();
    let incident = one_incident();
    for args in [
        &["status"][..],
        &["incidents"],
        &["incidents", "--state", "all"],
        &["approve"],
        &["leases"],
        &["playbook", "ls"],
        &["playbook", "show", "tmp_cleanup"],
        &["playbook", "schema"],
        &["playbook", "run", "tmp_cleanup", "--dry-run"],
        &["audit", "verify"],
        &["metrics"],
        &["metrics", "--hosts"],
        &["metrics", "--snapshot"],
        &["freeze", "--reason", "test"],
        &["thaw"],
    ] {
        let ended = node.cli(&[args, &["--json"]].concat());
        assert!(ended.success(), "hale {args:?}: {ended}");
        ended.json();
        // The same for people says something too.
        let ended = node.cli(args);
        assert!(
            ended.success() && !ended.stdout.trim().is_empty(),
            "hale {args:?}: {ended}"
        );
    }
    let (scene, id) = &incident;
    for args in [&["why", id.as_str()][..], &["incidents", id.as_str()]] {
        let ended = scene.node.cli(&[args, &["--json"]].concat());
        assert!(ended.json().is_object(), "hale {args:?}: {ended}");
    }
    let told = scene.node.cli(&["why", id]).succeeded().stdout;
    for part in ["similarity", "confidence", "zulu_revive"] {
        assert!(
            told.contains(part),
            "`hale why` says nothing of {part}:\n{told}"
        );
    }
    // A stream is a line of JSON each.
    let tail = scene.node.cli(&["audit", "tail", "--json"]).succeeded();
    assert!(tail.stdout.lines().count() > 2, "{tail}");
    for line in tail.stdout.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert!(entry["hash"].is_string(), "{entry}");
    }
}

/// A node on which one incident was healed, and its id.
fn one_incident() -> (Scene, String) {
    let scratch = Scratch::new();
    let broken = scratch.text_path("zulu.broken");
    Playbook::of("zulu_revive", "zulu")
        .step(command("mend", &["/bin/rm", "-f", &broken]))
        .verify(check("fine", "steps.mend.exit == 0"))
        .write(&scratch);
    let mut scene = Scene::prepare("zulu", scratch, "", "");
    scene.node.start_again();
    let mut events = scene.break_it();
    let record = scene.record(&mut events, "zulu");
    let id = record["incident_id"].as_str().unwrap().to_owned();
    (scene, id)
}

#[test]
fn exit_codes_and_messages_tell_what_to_type_next() {
    let scratch = Scratch::new();
    let mut node = Node::new(&scratch, QUICK).start();
    let code = |ended: &Ended| ended.code.unwrap();
    let wrong = hale(&["statsu"]);
    assert_eq!(code(&wrong), 2, "{wrong}");
    assert!(wrong.stderr.contains("status"), "no suggestion: {wrong}");
    assert_eq!(code(&hale(&["status", "--wrong"])), 2);
    assert_eq!(code(&hale(&[])), 2);
    let unknown = node.cli(&["why", "inc_20260212_112600_a8f3b2c1"]);
    assert_eq!(code(&unknown), 1, "{unknown}");
    assert!(unknown.stderr.contains("next:"), "{unknown}");
    let malformed = node.cli(&["why", "../../etc/passwd"]);
    assert!([1, 2, 4].contains(&code(&malformed)), "{malformed}");
    let as_json = node.cli(&["why", "inc_20260212_112600_a8f3b2c1", "--json"]);
    assert_eq!(as_json.json()["error"]["exit_code"], 1, "{as_json}");
    let foreign = run(
        hale_command(&["status", "--token", "wrong", "--addr"]).arg(node.addr().to_string()),
        Duration::from_secs(10),
    );
    assert_eq!(code(&foreign), 4, "{foreign}");
    node.stop();
    let nobody = node.cli(&["status"]);
    assert_eq!(code(&nobody), 3, "{nobody}");
    assert!(nobody.stderr.contains("hale node"), "{nobody}");
    let nowhere = hale(&[
        "status",
        "--data-dir",
        scratch.path("nowhere").to_str().unwrap(),
    ]);
    assert_eq!(code(&nowhere), 3, "{nowhere}");
    assert!(nowhere.stderr.contains("hale node"), "{nowhere}");
}

#[test]
fn a_second_node_on_the_same_data_is_refused() {
    let scratch = Scratch::new();
    let node = Node::new(&scratch, QUICK).start();
    let data = node.data_dir();
    let mut command = hale_command(&["node", "--listen", "127.0.0.1:0", "--data-dir"]);
    let second = run(command.arg(&data), SOON);
    assert!(second.code.is_some_and(|c| c != 0), "{second}");
    assert!(second.stderr.contains(data.to_str().unwrap()), "{second}");
    let taken = scratch.path("other");
    let mut command = hale_command(&["node", "--data-dir"]);
    command
        .arg(&taken)
        .arg("--listen")
        .arg(node.addr().to_string());
    let taken = run(&mut command, SOON);
    assert!(taken.code.is_some_and(|c| c != 0), "{taken}");
    assert!(taken.stderr.contains(&node.addr().to_string()), "{taken}");
}

/// What a verification of a file says, as JSON.
fn verified(file: &Path) -> (i32, Value) {
    let ended = hale(&["audit", "verify", file.to_str().unwrap(), "--json"]);
    (ended.code.unwrap(), ended.json())
}

#[test]
fn any_byte_of_an_exported_chain_that_is_flipped_is_found_and_located() {
    let (scene, _) = one_incident();
    for n in 0..3 {
        let reason = format!("entry {n}");
        scene
            .node
            .cli(&["freeze", "--by", "ana", "--reason", &reason])
            .succeeded();
        scene.node.cli(&["thaw", "--by", "ana"]).succeeded();
    }
    let live = scene.node.cli(&["audit", "verify"]).succeeded();
    assert!(
        live.stdout.contains("PASS") && !live.stdout.contains("FAIL"),
        "{live}"
    );
    let file = scene.scratch.path("audit.jsonl");
    scene
        .node
        .cli(&["audit", "export", file.to_str().unwrap()])
        .succeeded();
    let (code, whole) = verified(&file);
    assert_eq!(
        (code, &whole["valid"]),
        (0, &Value::Bool(true)),
        "{whole:#}"
    );
    assert!(whole["entries"].as_u64().unwrap() >= 9, "{whole:#}");
    let bytes = std::fs::read(&file).unwrap();
    let changed = scene.scratch.path("changed.jsonl");
    // Every 37th byte, and the first and the last: 37 is prime to any period a line could have.
    let places = (0..bytes.len()).step_by(37).chain([bytes.len() - 2]);
    let (mut flipped, mut located) = (0, 0);
    for at in places {
        let mut wrong = bytes.clone();
        wrong[at] ^= 0x01;
        std::fs::write(&changed, &wrong).unwrap();
        let (code, found) = verified(&changed);
        let line = bytes[..at].iter().filter(|b| **b == b'\n').count();
        assert_eq!(
            code,
            1,
            "byte {at}, in line {}, was flipped unseen: {found:#}",
            line + 1
        );
        let faults = found["faults"].as_array().unwrap();
        assert!(!faults.is_empty(), "{found:#}");
        // The first fault named is where the change is, or at the next entry that rests on it.
        let said = found["problems"].to_string();
        let here = [line, line + 1].map(|l| format!("line {l}"));
        located += usize::from(
            here.iter().any(|l| said.contains(l.as_str()))
                || said.contains(&format!("entry {line}")),
        );
        flipped += 1;
    }
    assert_eq!(
        located, flipped,
        "only {located} of {flipped} flipped bytes were located"
    );
    for (what, wrong) in forgeries(&bytes) {
        std::fs::write(&changed, &wrong).unwrap();
        let (code, found) = verified(&changed);
        assert_eq!(code, 1, "{what} was not found: {found:#}");
    }
    writeln!(
        std::io::stderr(),
        "\naudit: {flipped} flipped bytes of {} found and located",
        bytes.len()
    )
    .unwrap();
}

/// Other ways to rewrite history than flipping a byte.
fn forgeries(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    let without = |n: usize| {
        let kept = lines
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != n)
            .map(|(_, l)| *l);
        kept.collect::<Vec<_>>().concat()
    };
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    let mut twice = lines.clone();
    twice.insert(3, lines[3]);
    vec![
        ("the first entry left out", without(0)),
        ("an entry left out", without(3)),
        ("two entries in another order", swapped.concat()),
        ("an entry twice", twice.concat()),
        ("half of the file", bytes[..bytes.len() / 2].to_vec()),
        ("nothing at all", vec![]),
        ("something else", b"{\"hello\": \"world\"}\n".to_vec()),
        ("the end cut off", lines[..lines.len() - 2].concat()),
    ]
}

/// Processes whose command line or environment-free name holds a text.
fn processes_with(text: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    lines
        .map(|l| String::from_utf8_lossy(&l).replace('\0', " "))
        .filter(|l| l.contains(text))
        .collect()
}

#[test]
fn the_demo_heals_everything_and_survives_its_leader_within_a_minute_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let mut command = hale_command(&["demo", "--json"]);
    command.env("TMPDIR", scratch.dir());
    let ended = run(&mut command, Duration::from_secs(90)).succeeded();
    assert!(
        ended.took < Duration::from_secs(60),
        "it took {:?}",
        ended.took
    );
    let told = ended.json();
    assert_eq!(told["healed"], true, "{told:#}");
    assert_eq!(told["chain"]["valid"], true, "{told:#}");
    let faults = told["faults"].as_array().unwrap();
    assert!(faults.len() >= 2, "{told:#}");
    for fault in faults {
        assert_eq!(fault["healed"], true, "{fault:#}");
        let stages: Vec<&str> = fault["story"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|h| h["stage"].as_str())
            .collect();
        for stage in [
            "detected",
            "understood",
            "matched",
            "confident",
            "leased",
            "acted",
            "verified",
            "recorded",
        ] {
            assert!(
                stages.contains(&stage),
                "{} tells nothing of {stage}: {stages:?}",
                fault["fault"]
            );
        }
    }
    let cluster = &told["cluster"];
    assert_eq!(cluster["nodes"], 3, "{cluster:#}");
    assert_eq!(cluster["record_kept"], true, "{cluster:#}");
    assert_eq!(cluster["chains_equal"], true, "{cluster:#}");
    let (killed, holder) = (&cluster["killed"], &faults[0]["story"][0]["host"]);
    assert!(killed.is_string(), "no leader was killed: {cluster:#}");
    assert_ne!(killed, holder, "the host that was healed was killed");
    assert_ne!(killed, &cluster["new_leader"], "{cluster:#}");
    let ms = |what: &str| {
        let ms = cluster[what].as_u64();
        ms.unwrap_or_else(|| panic!("{what} is not told: {cluster:#}"))
    };
    let (formed, led, caught_up) = (ms("formed_ms"), ms("new_leader_ms"), ms("caught_up_ms"));
    let left: Vec<_> = std::fs::read_dir(scratch.dir())
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    let dir = scratch.dir().to_str().unwrap();
    assert_eq!(processes_with(dir), [""; 0], "still running");
    let seconds = |f: &Value| {
        format!(
            "{} {:.1} s",
            f["fault"].as_str().unwrap(),
            f["seconds_to_record"].as_f64().unwrap_or(-1.0)
        )
    };
    let each: Vec<String> = faults.iter().map(seconds).collect();
    writeln!(
        std::io::stderr(),
        "\ndemo: {:.1} s; from breaking to record: {}; 3 nodes formed in {formed} ms, another led \
         {led} ms after the leader was killed, which caught up in {caught_up} ms",
        ended.took.as_secs_f64(),
        each.join(", ")
    )
    .unwrap();
}
