//! A cluster of three loses two voters for good, and then all of its nodes: real processes, killed
//! with `kill -9`, brought back with `hale recover` and with `hale restore`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{
    Client, Ended, Guarded, Scratch, alone, free_port, hale_command, run, wait_until,
};
use serde_json::{Value, json};
use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

/// How long a node may take to start, to join, and the seats to be given: on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// A member, running or not.
struct Member {
    name: String,
    dir: PathBuf,
    log: PathBuf,
    api: SocketAddr,
    udp: u16,
    process: Option<Guarded>,
}

impl Member {
    fn new(scratch: &Scratch, name: &str) -> Self {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self {
            name: name.into(),
            dir: scratch.path(name),
            log: scratch.path(&format!("{name}.log")),
            api: SocketAddr::from(([127, 0, 0, 1], free_port())),
            udp: udp.local_addr().unwrap().port(),
            process: None,
        }
    }

    /// Runs it with `node` or `join …`, until it is ready.
    fn start(&mut self, args: &[&str]) {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.unwrap();
        let mut command = hale_command(args);
        command
            .args(["--host", &self.name, "--interval", "1s"])
            .arg("--listen")
            .arg(self.api.to_string())
            .arg("--bind")
            .arg(format!("127.0.0.1:{}", self.udp))
            .arg("--data-dir")
            .arg(&self.dir)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.process = Some(Guarded::spawn(&mut command));
        let client = Client {
            addr: self.api,
            token: None,
        };
        wait_until(&format!("{} is ready", self.name), LONG, || {
            let ready = client.send("GET", "/readyz", &[], b"");
            assert!(
                self.process.as_mut().unwrap().ended().is_none(),
                "{} ended: {}",
                self.name,
                std::fs::read_to_string(&self.log).unwrap_or_default()
            );
            ready.is_ok_and(|a| a.status == 200)
        });
    }

    fn kill9(&mut self) {
        self.process.take().unwrap().kill();
    }

    fn cli(&self, args: &[&str]) -> Ended {
        let mut command = hale_command(args);
        command.arg("--data-dir").arg(&self.dir);
        run(&mut command, Duration::from_secs(60))
    }

    fn json(&self, args: &[&str]) -> Value {
        let args: Vec<_> = args.iter().copied().chain(["--json"]).collect();
        self.cli(&args).succeeded().json()
    }

    fn token(&self) -> String {
        let made = self.json(&["token", "create", "--uses", "5"]);
        let texts = made.as_object().unwrap().values().filter_map(Value::as_str);
        let found = texts
            .filter(|t| t.starts_with("tok_") && t.contains('.'))
            .max();
        found.unwrap().to_owned()
    }

    fn seed(&self) -> String {
        format!("127.0.0.1:{}", self.udp)
    }

    fn join(&mut self, seed: &str, token: &str) {
        self.start(&["join", seed, "--token", token]);
    }

    fn voters(&self) -> usize {
        let told = self.cli(&["voters", "--json"]);
        let told: Option<Value> = serde_json::from_str(&told.stdout).ok();
        let told = told.unwrap_or_default();
        let seats = told["voters"].as_array().cloned().unwrap_or_default();
        seats.iter().filter(|v| v["seat"] != "learner").count()
    }

    /// Something that goes on the chain.
    fn freeze_and_thaw(&self) {
        self.cli(&["freeze", "--reason", "a test"]).succeeded();
        self.cli(&["thaw"]).succeeded();
    }

    fn entries(&self) -> u64 {
        let status = self.json(&["status"]);
        status["ledger"]["entries"].as_u64().unwrap()
    }
}

fn founded(scratch: &Scratch) -> Vec<Member> {
    let mut all: Vec<_> = ["alpha", "beta", "gamma"]
        .iter()
        .map(|n| Member::new(scratch, n))
        .collect();
    let bind = all[0].seed();
    all[0]
        .cli(&["init", "--host", "alpha", "--bind", &bind])
        .succeeded();
    all[0].start(&["node"]);
    let (seed, token) = (all[0].seed(), all[0].token());
    for member in &mut all[1..] {
        member.join(&seed, &token);
    }
    wait_until("all three vote", LONG, || all[0].voters() == 3);
    all
}

#[test]
fn a_survivor_of_three_goes_on_and_the_others_join_anew() {
    let _alone = alone();
    let scratch = Scratch::new();
    let mut all = founded(&scratch);
    all[0].freeze_and_thaw();
    let before = all[0].entries();
    let running = all[0].cli(&["recover"]);
    assert_eq!(running.code, Some(1), "{running}");
    assert!(running.stderr.contains("another node runs"), "{running}");
    for member in &mut all {
        member.kill9();
    }

    // Each survivor says how far it came; nothing changes by asking.
    let places: Vec<Value> = all.iter().map(|m| m.json(&["recover"])).collect();
    for (member, place) in all.iter().zip(&places) {
        assert_eq!(place["voters"].as_array().unwrap().len(), 3, "{place}");
        assert_eq!(&member.json(&["recover"])["last_log"], &place["last_log"]);
    }
    let place_of = |v: &Value| {
        let number = |k: &str| v["last_log"][k].as_u64().unwrap();
        (number("term"), number("index"))
    };
    let best = (0..3).max_by_key(|n| place_of(&places[*n])).unwrap();
    let mut survivor = all.remove(best);
    let text = survivor.cli(&["recover"]).succeeded().stdout;
    for part in [
        "voter",
        "log end",
        "committed",
        "--as-sole-voter",
        "can't be counted",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let unasked = survivor.cli(&["recover", "--as-sole-voter"]);
    assert_eq!(unasked.code, Some(2), "{unasked}");
    let done = survivor.json(&["recover", "--as-sole-voter", "--yes"]);
    assert_eq!(done["told"]["lost"].as_array().unwrap().len(), 2, "{done}");
    let again = survivor.cli(&["recover", "--as-sole-voter", "--yes"]);
    assert_eq!(again.code, Some(1), "{again}");

    survivor.start(&["node"]);
    assert!(survivor.entries() > before, "all it had, and the recovery");
    let verified = survivor.cli(&["audit", "verify"]).succeeded();
    assert!(verified.stdout.contains("NOTE"), "{verified}");
    survivor.freeze_and_thaw();

    // One with its old directory is shut out; wiped, it joins as a new node under its old name.
    let mut other = all.remove(0);
    let (seed, token) = (survivor.seed(), survivor.token());
    std::fs::rename(&other.dir, scratch.path("old")).unwrap();
    other.join(&seed, &token);
    std::fs::remove_dir_all(&all[0].dir).unwrap();
    all[0].join(&seed, &token);
    wait_until("all three vote again", LONG, || survivor.voters() == 3);
    survivor.freeze_and_thaw();
    let members = survivor.json(&["members"]);
    let members = members["members"].as_array().or(members.as_array());
    assert_eq!(members.unwrap().len(), 3);
    other.cli(&["audit", "verify"]).succeeded();
}

#[test]
fn a_backup_becomes_a_cluster_after_all_nodes_are_lost() {
    let _alone = alone();
    let scratch = Scratch::new();
    let mut all = founded(&scratch);
    all[0].freeze_and_thaw();
    let file = scratch.text_path("hale.backup");
    let made = all[2].json(&["backup", &file]);
    let entries = made["entries"].as_u64().unwrap();
    assert!(entries >= 5, "{made}");
    for member in &mut all {
        member.kill9();
    }

    // A file that is not whole makes nothing.
    let whole = std::fs::read(&file).unwrap();
    let mut forged = whole.clone();
    forged[whole.len() / 2] ^= 1;
    let broken = scratch.write("broken.backup", &forged);
    let mut new = Member::new(&scratch, "alpha-2");
    let to_new = |file: &str, more: &[&str]| {
        let bind = new.seed();
        let args = ["restore", file, "--host", "alpha-2", "--bind", &bind];
        new.cli(&[&args, more].concat())
    };
    let refused = to_new(&broken.to_string_lossy(), &["--yes"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(!new.dir.join("cluster.id").exists());
    let unasked = to_new(&file, &[]);
    assert_eq!(unasked.code, Some(2), "{unasked}");
    let done = to_new(&file, &["--yes", "--json"]).succeeded().json();
    assert_eq!(done["told"]["lost"].as_array().unwrap().len(), 3, "{done}");
    let again = to_new(&file, &["--yes"]);
    assert!(again.stderr.contains("is not empty"), "{again}");

    new.start(&["node"]);
    assert_eq!(new.entries(), entries + 1);
    let report = new.json(&["audit", "verify"]);
    assert_eq!(report["valid"], json!(true), "{report}");
    assert_eq!(report["recoveries"][0]["vouched"], json!(false), "{report}");
    assert_eq!(report["roster"].as_array().unwrap().len(), 1, "{report}");
    new.freeze_and_thaw();

    // Others join it anew, under the names they had.
    let (seed, token) = (new.seed(), new.token());
    for member in &mut all[..2] {
        std::fs::remove_dir_all(&member.dir).unwrap();
        member.join(&seed, &token);
    }
    wait_until("three vote", LONG, || new.voters() == 3);
    let second = new.json(&["backup", &scratch.text_path("second.backup")]);
    assert!(second["entries"].as_u64().unwrap() > entries, "{second}");
}
