//! Every parser of outside bytes by its name, as the crates list them in their `src/fuzz.rs`.
//! The API's is the file that its own tests use.

use hale_hostile::Parser;
use std::path::Path;
use std::sync::Once;

#[path = "../../../node/api/tests/http/fake.rs"]
mod fake;
#[path = "../../../node/api/tests/http/hostile.rs"]
mod hostile;
#[path = "../../../node/api/tests/http/nouns.rs"]
mod nouns;

/// All of them.
pub fn parsers() -> impl Iterator<Item = &'static Parser> {
    let api: &[Parser] = &[hostile::REQUEST];
    let all = [
        hale_model::fuzz::PARSERS,
        hale_consensus::fuzz::PARSERS,
        hale_baseline::fuzz::PARSERS,
        hale_audit::fuzz::PARSERS,
        hale_telemetry::fuzz::PARSERS,
        hale_executor::fuzz::PARSERS,
        hale_playbooks::fuzz::PARSERS,
        hale_membership::fuzz::PARSERS,
        hale_gateway::fuzz::PARSERS,
        hale_node::fuzz::PARSERS,
        api,
    ];
    all.into_iter().flatten()
}

fn named(name: &str) -> &'static Parser {
    let parser = parsers().find(|p| p.name == name);
    parser.expect("a parser of that name")
}

/// Puts the parser's valid bytes into the corpus that libFuzzer is about to read.
///
/// # Panics
/// If they can't be written.
pub fn begin(name: &str) {
    let arguments = std::env::args().skip(1);
    let corpus = arguments
        .filter(|a| !a.starts_with('-'))
        .find(|a| Path::new(a).is_dir());
    let Some(corpus) = corpus else { return };
    for (n, bytes) in (named(name).seeds)().iter().enumerate() {
        std::fs::write(Path::new(&corpus).join(format!("seed-{n}")), bytes).expect("a seed");
    }
}

/// Feeds bytes to the parser of that name; the process aborts if it panics. Its own hook, unlike
/// libFuzzer's, lets the product catch what it catches around foreign code.
pub fn feed(name: &str, bytes: &[u8]) {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|info| eprintln!("{info}"))));
    let parser = named(name);
    if std::panic::catch_unwind(|| (parser.feed)(bytes)).is_err() {
        std::process::abort();
    }
}
