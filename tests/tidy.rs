//! The rules of the house that a program can check. Each says what to do instead.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use regex::Regex;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our crates each crate may import. Dependencies only point down:
/// node → {transport, membership, consensus, api, gateway} → actors → playbooks → model.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("actors/model", &[]),
    ("playbooks", &["model"]),
    ("actors/telemetry", &["model", "playbooks"]),
    ("actors/baseline", &["model", "playbooks"]),
    ("actors/decision", &["model", "playbooks"]),
    ("actors/executor", &["model", "playbooks"]),
    ("actors/audit", &["model", "playbooks"]),
    ("node/transport", &["model"]),
    ("node/membership", &["model"]),
    ("node/consensus", &["model", "audit", "transport"]),
    ("node/api", &["model", "playbooks", "audit"]),
    ("node/gateway", &["model", "transport"]),
];

/// Each foreign crate's one home: a file or a folder. Tests may name what they test against.
const HOMES: &[(&str, &[&str])] = &[
    ("bincode", &["actors/model/src/wire.rs"]),
    (
        "serde_json_canonicalizer",
        &["actors/model/src/canonical.rs"],
    ),
    ("ed25519_dalek", &["actors/model/src/crypto.rs"]),
    ("curve25519_dalek", &["actors/model/src/crypto/together.rs"]),
    (
        "sha2",
        &["actors/model/src/crypto.rs", "actors/model/src/crypto/"],
    ),
    ("cel", &["playbooks/src/expr.rs", "playbooks/src/expr/"]),
    ("serde_saphyr", &["playbooks/src/"]),
    ("procfs", &["actors/telemetry/src/sensors/"]),
    ("instant_distance", &["actors/decision/src/index.rs"]),
    ("pulp", &["actors/decision/src/embed/linear.rs"]),
    ("quinn", &["node/transport/"]),
    ("rcgen", &["node/transport/"]),
    (
        "rustls",
        &[
            "node/transport/",
            "node/gateway/src/listener.rs",
            "node/src/lib.rs",
            "node/src/tls.rs",
            "chaos/src/commands/real.rs",
        ],
    ),
    ("foca", &["node/membership/"]),
    ("ractor_cluster", &["node/gateway/"]),
    ("openraft", &["node/consensus/"]),
    ("raft_log", &["node/consensus/src/store/legacy.rs"]),
    ("crc32fast", &["node/consensus/src/store/wal/frame.rs"]),
    (
        "sled",
        &[
            "node/consensus/src/store.rs",
            "node/consensus/src/store/",
            "node/src/store.rs",
        ],
    ),
    ("axum", &["node/api/"]),
    ("clap", &["node/src/", "chaos/"]),
    ("indicatif", &["node/src/", "chaos/src/commands/"]),
    ("tappers", &["chaos/src/real/line.rs"]),
    ("todc_utils", &["chaos/src/linear.rs"]),
    ("toml", &["node/src/config.rs"]),
    ("tracing_subscriber", &["node/src/logging.rs"]),
];

/// In an actor crate only these may do I/O, run tasks, read a clock or ask for randomness.
const IMPURE: &[&str] = &[
    "src/actor.rs",
    "src/actor/",
    "src/sensors/",
    "src/actions/",
    "src/archive/",
];
const IMPURE_NAMES: &str = r"\b(tokio|ractor|reqwest)::|std::(fs|net|process|thread|env)\b|Instant::now|SystemTime|getrandom|rand::|Timestamp::now";

/// A file longer than this is asked which two things it is.
const MAX_LINES: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn files(under: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            if !["target", ".git", "node_modules"].contains(&&*name) {
                files(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

/// Every Rust file of the product as (path from the root, text).
fn sources() -> Vec<(String, String)> {
    let mut found = vec![];
    files(&root(), ".rs", &mut found);
    found.sort();
    found
        .into_iter()
        .map(|p| {
            let short = p
                .strip_prefix(root())
                .unwrap()
                .to_string_lossy()
                .into_owned();
            (short, read(&p))
        })
        .collect()
}

/// The text of a file that may be anything: a rule about words does not depend on every byte.
fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

/// Whether a file is a test by where it stands. Modules that a `#[cfg(test)]` declares are found by
/// [`test_modules`].
fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.contains("/benches/")
        || path.contains("/examples/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
}

/// The files that only tests compile: those of modules declared under `#[cfg(test)]`, as they are
/// named without `.rs` or `/mod.rs`.
fn test_modules(sources: &[(String, String)]) -> BTreeSet<String> {
    let declared =
        Regex::new(r"#\[cfg\((?:test|any\(test, fuzzing\))\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))? )?mod (\w+);")
            .unwrap();
    let mut found = BTreeSet::new();
    for (path, text) in sources {
        let is_root = ["mod.rs", "lib.rs", "main.rs"]
            .iter()
            .any(|n| path.ends_with(&format!("/{n}")));
        let dir = if is_root {
            path.rsplit_once('/').unwrap().0
        } else {
            path.trim_end_matches(".rs")
        };
        found.extend(
            declared
                .captures_iter(text)
                .map(|c| format!("{dir}/{}", &c[1])),
        );
    }
    found
}

/// The sources that ship: no test files, no modules of tests.
fn shipped_sources() -> Vec<(String, String)> {
    let all = sources();
    let tests = test_modules(&all);
    let is_shipped = |path: &str| {
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
        !is_test_file(path)
            && !tests
                .iter()
                .any(|t| module == t || module.starts_with(&format!("{t}/")))
    };
    all.into_iter()
        .filter(|(path, _)| is_shipped(path))
        .collect()
}

/// The lines that ship, with their numbers: no comments, no test modules.
fn shipped(text: &str) -> Vec<(usize, String)> {
    let mut out = vec![];
    let mut lines = text.lines().enumerate().peekable();
    while let Some((i, line)) = lines.next() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            // The item that follows, up to the closing brace at the same depth.
            let indent = line.len() - line.trim_start().len();
            let close = format!("{}}}", " ".repeat(indent));
            for (_, l) in lines.by_ref() {
                if l == close || (l.ends_with(';') && l.len() - l.trim_start().len() == indent) {
                    break;
                }
            }
            continue;
        }
        let code = match line.find("//") {
            Some(at) if !line[..at].contains('"') => &line[..at],
            _ => line,
        };
        out.push((i + 1, code.to_owned()));
    }
    out
}

fn report(rule: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{rule}\n  {}\n", wrong.join("\n  "));
}

#[test]
fn siblings_do_not_know_each_other_and_dependencies_point_down() {
    let mut wrong = vec![];
    for (dir, may) in MAY_IMPORT {
        let manifest = fs::read_to_string(root().join(dir).join("Cargo.toml")).unwrap();
        let shipped = manifest.split("[dev-dependencies]").next().unwrap();
        for line in shipped.lines() {
            if let Some(rest) = line.strip_prefix("hale-") {
                let name = rest.split(['.', ' ', '=']).next().unwrap();
                if !may.contains(&name) {
                    wrong.push(format!("{dir}/Cargo.toml imports hale-{name}"));
                }
            }
        }
    }
    report(
        "take what you need through a port that node/src/pipeline.rs gives:",
        &wrong,
    );
}

#[test]
fn the_core_is_pure() {
    let impure = Regex::new(IMPURE_NAMES).unwrap();
    let mut wrong = vec![];
    for (path, text) in shipped_sources() {
        let is_core = path.starts_with("actors/") || path.starts_with("playbooks/src");
        if !is_core || IMPURE.iter().any(|ok| path.contains(ok)) || path.ends_with("build.rs") {
            continue;
        }
        for (n, line) in shipped(&text) {
            // The keys' home is the one place that asks the system for randomness.
            if impure.is_match(&line) && !path.ends_with("model/src/crypto.rs") {
                wrong.push(format!("{path}:{n}: {}", line.trim()));
            }
        }
    }
    report(
        "take time, bytes and randomness as parameters; I/O belongs in actor.rs, sensors/, actions/, archive/:",
        &wrong,
    );
}

#[test]
fn every_foreign_crate_has_one_home() {
    let mut wrong = vec![];
    let sources = shipped_sources();
    for (krate, homes) in HOMES {
        let named = Regex::new(&format!(
            r"\b{krate}::|^\s*use {krate}\b|extern crate {krate}\b"
        ))
        .unwrap();
        for (path, text) in &sources {
            if homes.iter().any(|h| path.starts_with(h)) {
                continue;
            }
            for (n, line) in shipped(text) {
                if named.is_match(&line) {
                    wrong.push(format!(
                        "{path}:{n} names {krate}, whose home is {}",
                        homes.join(" or ")
                    ));
                }
            }
        }
    }
    report(
        "go through the crate's home, so that replacing it touches one place:",
        &wrong,
    );
}

#[test]
fn no_file_is_two_things() {
    let wrong: Vec<_> = sources()
        .iter()
        .filter(|(_, text)| text.lines().count() > MAX_LINES)
        .map(|(path, text)| format!("{path}: {} lines", text.lines().count()))
        .collect();
    report(
        &format!("files over {MAX_LINES} lines are asking which two things they are:"),
        &wrong,
    );
}

#[test]
fn nothing_shipped_gives_up() {
    let gives_up =
        Regex::new(r"\.unwrap\(\)|\.expect\(|\bpanic!\(|\btodo!|\bunimplemented!|\bdbg!").unwrap();
    let mut wrong = vec![];
    for (path, text) in shipped_sources() {
        for (n, line) in shipped(&text) {
            if gives_up.is_match(&line) {
                wrong.push(format!("{path}:{n}: {}", line.trim()));
            }
        }
    }
    report("return an error that says what to do next:", &wrong);
}

#[test]
fn every_exception_from_a_lint_has_a_reason() {
    // The formatter may break one over several lines.
    let exception = Regex::new(r"(?m)^\s*#!?\[(?:allow|expect)\(([^\]]*)\)\]").unwrap();
    let mut wrong = vec![];
    for (path, text) in sources() {
        for found in exception.captures_iter(&text) {
            let above = text[..found.get(0).unwrap().start()].trim_end();
            let is_told = above
                .lines()
                .last()
                .is_some_and(|l| l.trim_start().starts_with("//"));
            if !found[1].contains("reason") && !is_told {
                wrong.push(format!("{path}:{}", above.lines().count() + 1));
            }
        }
    }
    report("say why: `#[allow(…, reason = \"…\")]`:", &wrong);
}

#[test]
fn comments_speak_of_the_software_alone() {
    let history = Regex::new(
        r"(?i-u)\bissue #?\d|\bTODO\b|\bFIXME\b|\bXXX\b|/work/|acceptance test|the founder|helper-\d",
    )
    .unwrap();
    let mut found = vec![];
    for ending in [".rs", ".md", ".toml", ".yaml", ".sh", ".py"] {
        files(&root(), ending, &mut found);
    }
    let mut wrong = vec![];
    for path in found.iter().filter(|p| !p.ends_with("tests/tidy.rs")) {
        let text = read(path);
        for (i, line) in text.lines().enumerate() {
            // The lint of that name is no note.
            if history.is_match(line) && line != "todo = \"warn\"" {
                let short = path.strip_prefix(root()).unwrap().display();
                wrong.push(format!("{short}:{}: {}", i + 1, line.trim()));
            }
        }
    }
    report("finish it, or leave it out:", &wrong);
}

#[test]
fn every_dependency_is_explained_in_the_architecture() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let wrong: Vec<_> = section
        .lines()
        .filter_map(|l| l.split_once(" = ").map(|(name, _)| name.trim()))
        // The house's own crates are in the code map, which a rule of its own checks.
        .filter(|name| !name.starts_with('#') && !name.starts_with("hale-"))
        .filter(|name| !text.contains(&format!("`{name}`")))
        .map(str::to_owned)
        .collect();
    report(
        "write in ARCHITECTURE.md what it is for, why this one, and its home:",
        &wrong,
    );
}

#[test]
fn every_crate_is_in_the_architecture_and_takes_the_lints() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut manifests = vec![];
    files(&root(), "Cargo.toml", &mut manifests);
    let mut wrong = BTreeSet::new();
    for path in manifests.iter().filter(|p| p.parent() != Some(&root())) {
        // A benchmark with a workspace of its own takes no part in the product's build.
        if read(path).contains("\n[workspace]") {
            continue;
        }
        let dir = path
            .parent()
            .unwrap()
            .strip_prefix(root())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        if !text.contains(&format!("`{dir}/`")) {
            wrong.insert(format!("{dir} is not in ARCHITECTURE.md's code map"));
        }
        if !fs::read_to_string(path)
            .unwrap()
            .contains("[lints]\nworkspace = true")
        {
            wrong.insert(format!("{dir} does not take the workspace's lints"));
        }
    }
    report(
        "a visitor has to find it:",
        &wrong.into_iter().collect::<Vec<_>>(),
    );
}
