//! What nobody should send: each gets a clear answer, nothing is lost, the node stays up.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{Client, Node, Scratch, hale, wait_for, wait_until};
use serde_json::json;
use std::io::Write;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);
/// A configuration that watches nothing but the machine, quickly.
const QUICK: &str = "[telemetry]\ninterval = \"200ms\"\n";

fn node(scratch: &Scratch, further: &str) -> Node {
    Node::new(scratch, &format!("{QUICK}{further}"))
}

/// One number of `/metrics`, over all labels that hold `part`.
fn metric(node: &Node, name: &str, part: &str) -> f64 {
    let text = node.client().try_get("/metrics").text();
    let lines = text
        .lines()
        .filter(|l| l.starts_with(name) && l.contains(part));
    lines
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[test]
fn malformed_statsd_is_counted_and_what_is_well_formed_beside_it_is_kept() {
    let scratch = Scratch::new();
    let port = hale_tests::free_port();
    let statsd = format!("statsd = \"127.0.0.1:{port}\"\n");
    let mut node = node(&scratch, &statsd).start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |bytes: &[u8]| {
        socket.send_to(bytes, ("127.0.0.1", port)).unwrap();
    };
    let long = format!("{}:1|c", "n".repeat(5000));
    let tags = format!(
        "tagged:1|c|#{}",
        (0..500)
            .map(|n| format!("t{n}:v"))
            .collect::<Vec<_>>()
            .join(",")
    );
    let bad: [&[u8]; 14] = [
        b"",
        b"\n\n\n",
        b"nonsense",
        b":1|c",
        b"x:|c",
        b"x:1|",
        b"x:1|zz",
        b"x:nan|g",
        b"x:inf|g",
        b"x:1|c|@0",
        b"x:1|c|@7",
        b"\xff\xfe\xfd:1|c",
        long.as_bytes(),
        tags.as_bytes(),
    ];
    for _ in 0..20 {
        bad.iter().for_each(|b| send(b));
    }
    send(b"broken\nshop.orders:7|c\nx:1|zz\nshop.queue:42|g");
    wait_for("the well-formed lines are there", SOON, || {
        // A gauge stays; a lost datagram is UDP's, so it is sent again.
        send(b"shop.queue:42|g\nbroken");
        let snapshot = node.get("/v1/hosts/test-host/telemetry");
        (snapshot["metrics"]["custom"]["shop"]["queue"] == 42).then_some(())
    });
    wait_until("the malformed lines are counted", SOON, || {
        metric(&node, "hale_dropped_total", "statsd") >= 10.0
    });
    assert!(node.is_running());
}

#[test]
fn log_lines_of_a_megabyte_and_of_no_encoding_are_cut_and_the_next_one_is_seen() {
    let scratch = Scratch::new();
    let path = scratch.write("shop.log", "INFO shop: started\n");
    let logs = format!("[[telemetry.logs]]\npath = {path:?}\nservice = \"shop\"\n");
    let mut node = node(&scratch, &logs).start();
    let mut events = node.events();
    let mut log = std::fs::File::options().append(true).open(&path).unwrap();
    log.write_all(b"ERROR shop: \xff\xfe\x80 cart \xc3\x28 is broken\n")
        .unwrap();
    log.write_all(format!("ERROR shop: {}\n", "x".repeat(1 << 20)).as_bytes())
        .unwrap();
    log.write_all(&[b"ERROR \0\0\x1b[31m".as_slice(), &[0xff; 4096], b"\n"].concat())
        .unwrap();
    for n in 0..5 {
        writeln!(log, "ERROR shop: order {n} could not be stored").unwrap();
    }
    let detected = events.stage("shop", hale_model::Stage::Detected, SOON);
    let id = detected.incident.unwrap().to_string();
    wait_until("the line after them is evidence", SOON, || {
        let incident = node.get(&format!("/v1/incidents/{id}"));
        incident["incident"]["events"]
            .to_string()
            .contains("could not be stored")
    });
    let incident = node.get(&format!("/v1/incidents/{id}")).to_string();
    assert!(
        incident.len() < 256 << 10,
        "a long line is told whole: {} bytes",
        incident.len()
    );
    assert!(node.is_running());
    let rss = resident_bytes(node.pid());
    assert!(rss < 400 << 20, "the node takes {} MB", rss >> 20);
}

fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

/// Nine lists of nine of the one before: a thousand million of the first.
fn yaml_bomb() -> String {
    let mut text = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for n in 1..10 {
        let nine = vec![format!("*a{}", n - 1); 9].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{nine}]\n"));
    }
    text + "metadata: *a9\n"
}

#[test]
fn a_playbook_that_is_a_bomb_is_refused_by_name_and_never_unfolded() {
    let scratch = Scratch::new();
    let path = scratch.write("playbooks/bomb.yaml", yaml_bomb());
    let linted = hale(&["playbook", "lint", path.to_str().unwrap()]);
    assert!(!linted.success(), "{linted}");
    assert!(linted.took < Duration::from_secs(5), "{linted}");
    let said = format!("{}{}", linted.stdout, linted.stderr);
    assert!(said.contains("bomb.yaml"), "{linted}");
    for (name, text) in deep_and_broken() {
        let path = scratch.write(&format!("lint/{name}.yaml"), text);
        let linted = hale(&["playbook", "lint", path.to_str().unwrap()]);
        assert!(
            !linted.success() && linted.code.is_some(),
            "{name}: {linted}"
        );
        assert!(
            format!("{}{}", linted.stdout, linted.stderr).contains(name),
            "{linted}"
        );
    }
    // With it in the directory the node either starts without it, or refuses; it says so each way.
    let directory = scratch.path("playbooks");
    let mut node = node(
        &scratch,
        &format!("[playbooks]\ndirectory = {directory:?}\n"),
    );
    match node.try_start() {
        Ok(()) => assert!(
            node.log().contains("bomb.yaml"),
            "it says nothing of the bomb"
        ),
        Err(ended) => {
            assert!(ended.stderr.contains("bomb.yaml"), "{ended}");
            assert!(ended.code.is_some_and(|c| c != 0 && c != 101), "{ended}");
        }
    }
}

fn deep_and_broken() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (
            "deep",
            format!("metadata: {}{}", "[".repeat(50_000), "]".repeat(50_000)).into_bytes(),
        ),
        ("binary", vec![0xff, 0x00, 0xfe, 0x80, 0x81]),
        ("empty", vec![]),
        (
            "huge",
            format!("metadata:\n  description: {}\n", "x".repeat(4 << 20)).into_bytes(),
        ),
    ]
}

#[test]
fn what_is_wrong_with_a_request_is_answered_in_words() {
    let scratch = Scratch::new();
    let mut node = node(&scratch, "").start();
    let client = node.client();
    // A body over the limit.
    let large = vec![b' '; 5 << 20];
    let json = [("content-type", "application/json")];
    let answer = client.send("POST", "/v1/freeze", &json, &large).unwrap();
    assert_eq!(
        (answer.status, answer.error()[0].as_str()),
        (413, "too_large")
    );
    // An unknown field is named, a missing one too.
    let answer = client.try_post("/v1/freeze", &json!({ "by": "ana", "becuase": "x" }));
    assert!([400, 422].contains(&answer.status), "{}", answer.text());
    assert!(answer.error()[1].contains("becuase"), "{}", answer.text());
    let answer = client.try_post("/v1/freeze", &json!({ "reason": "x" }));
    assert!([400, 422].contains(&answer.status), "{}", answer.text());
    assert!(answer.error()[1].contains("by"), "{}", answer.text());
    // Not JSON, not the type, not UTF-8.
    for body in [
        &b"{"[..],
        b"",
        b"[1,2",
        b"\xff\xfe",
        b"{\"by\": 7}",
        &[b'['; 60_000],
    ] {
        let answer = client.send("POST", "/v1/freeze", &json, body).unwrap();
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        answer.error();
    }
    let xml = [("content-type", "application/xml")];
    assert_eq!(
        client
            .send("POST", "/v1/freeze", &xml, b"<a/>")
            .unwrap()
            .status,
        415
    );
    // Unknown parameters, paths, methods, ids.
    let answer = client.try_get("/v1/incidents?sort=age");
    assert!(
        (400..500).contains(&answer.status) && answer.error()[1].contains("sort"),
        "{}",
        answer.text()
    );
    assert_eq!(
        client
            .try_get("/v1/incidents?limit=1000000000000000000000")
            .status
            / 100,
        4
    );
    assert_eq!(client.try_get("/v1/nowhere").status, 404);
    assert_eq!(
        client.send("PUT", "/v1/freeze", &[], b"").unwrap().status,
        405
    );
    for path in [
        "/v1/incidents/no-such",
        "/v1/hosts/%00%ff/telemetry",
        "/v1/playbooks/..%2f..%2fetc",
        "/v1/audit/entries/-1",
    ] {
        let answer = client.try_get(path);
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {}",
            answer.text()
        );
        answer.error();
    }
    let answer = client.try_get("/v1/hosts/another/telemetry");
    assert_eq!(answer.status, 404);
    assert!(!node.get("/v1/freeze")["frozen"].as_bool().unwrap());
    assert!(node.is_running());
}

#[test]
fn without_the_token_nothing_is_told() {
    let scratch = Scratch::new();
    let node = node(&scratch, "").start();
    let right = node.token();
    let wrong = [
        "",
        "x",
        &right[..right.len() - 1],
        &format!("{right}x"),
        "\u{1F511}",
    ];
    for token in wrong.iter().map(|t| Some((*t).to_owned())).chain([None]) {
        let client = Client {
            addr: node.addr(),
            token,
        };
        for path in [
            "/v1/status",
            "/v1/audit/entries",
            "/metrics",
            "/v1/events?follow=true",
        ] {
            let answer = client.try_get(path);
            assert_eq!(
                answer.status,
                401,
                "{path} {:?}: {}",
                client.token,
                answer.text()
            );
            assert!(!answer.text().contains(&right));
        }
        let answer = client.try_post("/v1/freeze", &json!({ "by": "mallory" }));
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert_eq!(client.try_get("/healthz").status, 200);
    }
    let api = node.data_dir().join("api.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&api.metadata().unwrap().permissions());
    assert_eq!(
        mode & 0o077,
        0,
        "{} can be read by others: {mode:o}",
        api.display()
    );
    // Another host's name on a loopback listener is a page that plays tricks with DNS.
    let raw = format!(
        "GET /v1/status HTTP/1.1\r\nhost: evil.example\r\nauthorization: Bearer {right}\r\nconnection: close\r\n\r\n"
    );
    let answer = String::from_utf8_lossy(&node.client().raw(raw.as_bytes())).into_owned();
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
}

#[test]
fn garbage_on_the_wire_closes_that_connection_and_no_other() {
    let scratch = Scratch::new();
    let mut node = node(&scratch, "").start();
    let client = node.client();
    let long_header = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5000));
    let garbage: [&[u8]; 8] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\0\0\0\0",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/freeze HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/freeze HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzzzz\r\n",
        long_header.as_bytes(),
        many_headers.as_bytes(),
    ];
    for bytes in garbage {
        let back = String::from_utf8_lossy(&client.raw(bytes)).into_owned();
        let refused =
            back.is_empty() || back.starts_with("HTTP/1.1 4") || back.starts_with("HTTP/1.1 505");
        assert!(
            refused,
            "{:?}: {back}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(60)])
        );
        assert_eq!(client.try_get("/healthz").status, 200);
    }
    assert!(node.is_running());
}

/// All files below a directory that are not empty.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if entry.metadata().unwrap().len() > 0 => found.push(path),
            false => {}
        }
    }
    found
}

/// Changes bytes of a file where it holds something: what is not written yet may be anything.
fn flip(path: &Path, at_percent: &[usize]) {
    let mut bytes = std::fs::read(path).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|n| bytes[*n] != 0).collect();
    for percent in at_percent {
        bytes[used[used.len() * percent / 100]] ^= 0x5a;
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_node_does_not_start_on_damaged_data_and_says_what_to_do() {
    let scratch = Scratch::new();
    let mut node = node(&scratch, "").start();
    node.cli(&[
        "freeze",
        "--by",
        "ana",
        "--reason",
        "so that the chain has entries",
    ])
    .succeeded();
    node.cli(&["thaw", "--by", "ana"]).succeeded();
    let stopped = node.stop();
    assert!(stopped.is_some_and(|s| s.success()), "{stopped:?}");
    let data = node.data_dir();
    let all = files(&data);
    assert!(all.len() > 3, "{all:?}");
    let damages: [&[usize]; 4] = [&[3], &[50], &[97], &[10, 20, 30, 40, 60, 70, 80, 90]];
    for (n, file) in all.iter().enumerate() {
        let short = file.strip_prefix(&data).unwrap();
        for (m, damage) in damages.iter().enumerate() {
            let mut damaged = Node::named(&scratch, &format!("damaged-{n}-{m}"), QUICK);
            let copy = damaged.data_dir();
            let copied = std::process::Command::new("cp")
                .arg("-a")
                .arg(&data)
                .arg(&copy)
                .status();
            assert!(copied.unwrap().success());
            flip(&copy.join(short), damage);
            let before = std::fs::read(copy.join(short)).unwrap();
            let said = what_it_does(&mut damaged, short);
            writeln!(std::io::stderr(), "{} {damage:?}: {said}", short.display()).unwrap();
            if said.starts_with("refused") && !short.starts_with("state") {
                assert_evidence_is_kept(&copy.join(short), &before);
            }
        }
    }
}

/// What is damaged is what an examiner needs: it stays as it was found, or what was cut off it is
/// kept beside it.
fn assert_evidence_is_kept(file: &Path, before: &[u8]) {
    let mut now = std::fs::read(file).unwrap();
    if now == before {
        return;
    }
    let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
    let beside = files(file.parent().unwrap());
    let is_kept = |p: &&PathBuf| p.to_string_lossy().contains(&format!("{stem}.torn-at-"));
    let kept = beside.iter().find(is_kept);
    let kept = kept.unwrap_or_else(|| panic!("{} was changed, nothing is kept", file.display()));
    now.extend(std::fs::read(kept).unwrap());
    let end = before.iter().rposition(|b| *b != 0).map_or(0, |n| n + 1);
    assert_eq!(now, before[..end], "{}", file.display());
}

/// Starts a node on damaged data: it refuses in words, or what was damaged was not needed.
fn what_it_does(damaged: &mut Node, file: &Path) -> String {
    let Err(ended) = damaged.try_start() else {
        let verified = damaged.get("/v1/audit/verify");
        assert_eq!(
            verified["valid"],
            true,
            "{}: it runs on a broken chain: {verified}",
            file.display()
        );
        assert!(
            verified["entries"].as_u64().is_some_and(|n| n >= 3),
            "{}: entries are lost: {verified}",
            file.display()
        );
        return "not needed, it starts".to_owned();
    };
    let where_ = file.display();
    assert!(
        ended.code.is_some_and(|c| c != 0 && c != 101),
        "{where_}: {ended}"
    );
    assert!(!ended.stderr.contains("panicked"), "{where_}: {ended}");
    let path = damaged.data_dir().to_string_lossy().into_owned();
    assert!(
        ended.stderr.contains(&path),
        "{where_}: it does not say what is damaged: {ended}"
    );
    format!("refused with {:?}: {}", ended.code, ended.stderr.trim())
}

#[test]
fn a_configuration_with_a_mistake_is_refused_with_its_place() {
    let scratch = Scratch::new();
    for (wrong, named) in [
        ("[telemetry]\nintervall = \"1s\"\n", "intervall"),
        ("[telemetry]\ninterval = \"1ms\"\n", "interval"),
        ("[telemetry]\ninterval = 30\n", "interval"),
        ("[decision]\nask_at = 2.0\n", "ask_at"),
        ("[nodes]\n", "nodes"),
        (
            "[services.shop]\nrestart_command = \"sh -c x\"\n",
            "restart_command",
        ),
        (
            "[[telemetry.logs]]\npath = \"relative.log\"\n",
            "logs[0].path",
        ),
        ("[telemetry\n", "telemetry"),
    ] {
        let ended = Node::new(&scratch, wrong).refuses_to_start();
        assert!(
            ended.code.is_some_and(|c| c != 0 && c != 101),
            "{wrong}: {ended}"
        );
        assert!(ended.stderr.contains(named), "{wrong}: {ended}");
        assert!(!ended.stderr.contains("panicked"), "{wrong}: {ended}");
    }
    let ended = hale(&[
        "node",
        "--config",
        scratch.path("nowhere.toml").to_str().unwrap(),
    ]);
    assert!(
        !ended.success() && ended.stderr.contains("nowhere.toml"),
        "{ended}"
    );
}
