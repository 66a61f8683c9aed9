//! Several nodes, each a process of its own: `examples/peer.rs`, which cargo builds with the tests.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

struct Node {
    seed: u8,
    addr: String,
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

fn binary() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().unwrap().parent().unwrap();
    let peer = profile.join("examples").join("peer");
    assert!(peer.exists(), "cargo build -p hale-gateway --examples");
    peer
}

impl Node {
    fn start(seed: u8, roster: &str) -> Self {
        Self::start_with(seed, roster, &[])
    }

    fn start_with(seed: u8, roster: &str, more: &[&str]) -> Self {
        let mut process = Command::new(binary())
            .args([&seed.to_string(), roster])
            .args(more)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = process.stdin.take().unwrap();
        let mut from = BufReader::new(process.stdout.take().unwrap());
        let mut addr = String::new();
        from.read_line(&mut addr).unwrap();
        let addr = addr.trim().to_owned();
        Self {
            seed,
            addr,
            process,
            to,
            from,
        }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.to, "{line}").unwrap();
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn say(&mut self, line: &str) -> String {
        self.tell(line);
        self.read()
    }

    fn ask(&mut self, of: &Node, text: &str) -> String {
        self.ask_within(of, 10_000, text)
    }

    fn ask_within(&mut self, of: &Node, ms: u64, text: &str) -> String {
        self.say(&format!("ask {} {} {ms} {text}", of.seed, of.addr))
    }

    /// One of its counts.
    fn count(&mut self, name: &str) -> u64 {
        let counts = self.say("counts");
        let (_, rest) = counts.split_once(&format!(" {name}: ")).unwrap();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It fails only if the process has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn two() -> (Node, Node) {
    (Node::start(1, "1,2"), Node::start(2, "1,2"))
}

fn until(mut what: impl FnMut() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came");
        std::thread::yield_now();
    }
}

#[test]
fn each_asks_the_other_over_one_session() {
    let (mut a, mut b) = two();
    let heard = a.ask(&b, "how are you");
    assert!(heard.ends_with(" heard how are you"), "{heard}");
    let back = b.ask(&a, "fine");
    assert!(back.ends_with(" heard fine"), "{back}");
    // Each was told who asks.
    assert_ne!(heard.split(' ').nth(2), back.split(' ').nth(2));
    for node in [&mut a, &mut b] {
        assert_eq!(node.say("sessions"), "ok 1");
        assert_eq!(node.count("answers_given"), 1);
    }
    assert_eq!((a.count("opened"), b.count("accepted")), (1, 1));
}

#[test]
fn many_at_once_and_how_long_they_take() {
    let (mut a, b) = two();
    assert!(a.ask(&b, "warm up").starts_with("ok"));
    for (n, width) in [(2_000, 1), (10_000, 64), (2_000, 200)] {
        let said = a.say(&format!("many 2 {} {n} {width}", b.addr));
        let mut words = said.split(' ').skip(1).map(|w| w.parse::<f64>().unwrap());
        let (answered, micros) = (words.next().unwrap(), words.next().unwrap());
        println!(
            "{width} at once: {:.0} calls/s, {:.0} µs a call",
            answered / micros * 1e6,
            micros * f64::from(width) / answered
        );
        assert_eq!(answered, f64::from(n));
    }
    assert_eq!(a.say("sessions"), "ok 1");
    println!(
        "resident: {} and {} KiB",
        a.resident_kib(),
        b.resident_kib()
    );
}

#[test]
fn a_big_answer_comes_whole_and_one_over_the_limit_is_an_error() {
    let (mut a, mut b) = two();
    let big = 4 << 20;
    assert!(
        a.ask(&b, &format!("big {big}"))
            .starts_with(&format!("ok {big} yyy"))
    );
    let largest = 8 << 20;
    assert!(
        a.ask(&b, &format!("big {largest}"))
            .starts_with(&format!("ok {largest} "))
    );
    let over = a.ask(&b, &format!("big {}", largest + 1));
    assert!(over.starts_with("err the answer of "), "{over}");
    assert_eq!(
        (a.say("sessions"), b.count("unanswered")),
        ("ok 1".to_owned(), 1)
    );
}

#[test]
fn a_question_over_the_limit_is_refused_here() {
    let (mut a, mut b) = two();
    let limit = 256 << 10;
    let said = a.say(&format!("long 2 {} {}", b.addr, limit + 1));
    assert_eq!(
        said,
        format!(
            "err a question of {} bytes is over the limit of {limit}; ask for less at once",
            limit + 1
        )
    );
    assert_eq!(a.say("sessions"), "ok 0");
    let largest = a.say(&format!("long 2 {} {limit}", b.addr));
    assert!(largest.starts_with("ok "), "{largest}");
    assert_eq!(b.count("answers_given"), 1);
}

#[test]
fn an_answer_that_takes_too_long_is_an_error_that_says_so() {
    let (mut a, mut b) = two();
    assert!(a.ask(&b, "hi").starts_with("ok"));
    let late = a.ask_within(&b, 300, "sleep 1000");
    assert!(
        late.contains("within 300ms") || late.contains("no answer in time"),
        "{late}"
    );
    // What never answers is given up at the other end too, after its own bound.
    let never = a.ask(&b, "never");
    assert!(never.contains("found no answer in time"), "{never}");
    let broken = a.ask(&b, "break");
    assert!(broken.contains("found no answer in time"), "{broken}");
    assert!(a.ask(&b, "and now").contains("heard and now"));
    assert_eq!(
        (a.say("sessions"), b.count("unanswered")),
        ("ok 1".to_owned(), 3)
    );
}

#[test]
fn a_peer_that_was_killed_and_is_back_is_asked_again() {
    let (mut a, mut b) = two();
    assert!(a.ask(&b, "hi").starts_with("ok"));
    for round in 0..3 {
        b.kill();
        b = Node::start_with(2, "1,2", &[&b.addr]);
        let start = Instant::now();
        // First from this end, then from the other, which knows nothing of the old session.
        let said = if round == 1 {
            b.ask(&a, "back")
        } else {
            a.ask(&b, "back")
        };
        assert!(said.ends_with(" heard back"), "{said}");
        println!("asked again {:?} after it was back", start.elapsed());
        assert!(a.ask(&b, "still").starts_with("ok") && b.ask(&a, "still").starts_with("ok"));
    }
}

#[test]
fn a_peer_that_is_gone_is_an_error_in_time() {
    let (mut a, mut b) = two();
    assert!(a.ask(&b, "hi").starts_with("ok"));
    b.kill();
    let start = Instant::now();
    let said = a.ask_within(&b, 1500, "hello?");
    assert!(said.starts_with("err "), "{said}");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn both_may_ask_first_at_the_same_time() {
    for _ in 0..8 {
        let (mut a, mut b) = two();
        a.tell(&format!("many 2 {} 50 8", b.addr));
        b.tell(&format!("many 1 {} 50 8", a.addr));
        for said in [a.read(), b.read()] {
            assert!(said.starts_with("ok 50 "), "{said}");
        }
        until(|| a.say("sessions") == "ok 1" && b.say("sessions") == "ok 1");
    }
}

#[test]
fn a_peer_that_claims_another_name_gets_no_session_and_ends_nobody_elses() {
    let mut a = Node::start(1, "1,2,3");
    let mut honest = Node::start(3, "1,2,3");
    assert!(a.ask(&honest, "hi").starts_with("ok"));
    // Node 2 says that it is node 3.
    let mut liar = Node::start_with(2, "1,2,3", &["127.0.0.1:0", "3"]);
    let said = liar.ask_within(&a, 700, "let me in");
    assert!(said.starts_with("err "), "{said}");
    assert!(a.count("wrong_names") >= 1);
    let said = a.ask_within(&liar, 700, "who are you");
    assert!(said.starts_with("err "), "{said}");
    assert!(a.count("wrong_names") >= 2);
    assert!(a.ask(&honest, "still there").contains("heard still there"));
    assert!(honest.ask(&a, "still there").contains("heard still there"));
    assert_eq!(honest.count("ended"), 0);
}

#[test]
fn an_idle_session_ends_and_a_forgotten_one_at_once() {
    let (mut a, mut b) = two();
    assert!(a.ask(&b, "hi").starts_with("ok"));
    assert_eq!(a.say("forget 2"), "ok");
    assert_eq!(a.say("sessions"), "ok 0");
    until(|| b.say("sessions") == "ok 0");
    assert!(a.ask(&b, "hi again").starts_with("ok"));
    assert_eq!(b.say("sessions"), "ok 1");
    // Pings alone don't keep it.
    until(|| a.say("sessions") == "ok 0" && b.say("sessions") == "ok 0");
    assert!(a.count("idle") + b.count("idle") >= 1);
    assert!(b.ask(&a, "and again").starts_with("ok"));
}

#[test]
fn one_that_stopped_asks_nobody_and_the_others_go_on() {
    let (mut a, mut b) = two();
    assert!(a.ask(&b, "hi").starts_with("ok"));
    assert_eq!(b.say("stop"), "ok 0");
    assert_eq!(b.ask(&a, "hi"), "err this node is stopping");
    until(|| a.say("sessions") == "ok 0");
    assert!(a.ask_within(&b, 500, "hello?").starts_with("err "));
}
