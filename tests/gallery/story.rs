//! What a developer needs to know of a case that failed.

use super::host::Host;
use super::node::LOG;
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(20);
/// Lines of the node's log.
const LOG_LINES: usize = 40;

/// The incidents, each with its decision, the records, and the end of the node's log.
pub(crate) fn of(host: &Host) -> String {
    let mut story = String::new();
    for id in incidents(host) {
        section(
            &mut story,
            &format!("hale why {id}"),
            &said(host, &["hale", "why", &id]),
        );
    }
    for record in records(host) {
        section(&mut story, "record", &format!("{record:#}"));
    }
    section(
        &mut story,
        "the end of the node's log",
        &host.tail(LOG, LOG_LINES),
    );
    let failed = said(host, &["systemctl", "--failed", "--no-legend", "--plain"]);
    section(&mut story, "failed units", &failed);
    story
}

fn section(story: &mut String, title: &str, text: &str) {
    if !text.trim().is_empty() {
        let _ = writeln!(story, "── {title}\n{}", text.trim_end());
    }
}

fn said(host: &Host, argv: &[&str]) -> String {
    host.run(argv, BOUND)
        .map_or_else(|why| why, |ended| ended.said)
}

fn incidents(host: &Host) -> Vec<String> {
    let said = said(host, &["hale", "incidents", "--state", "all", "--json"]);
    let rows: Vec<Value> = serde_json::from_str(&said).unwrap_or_default();
    rows.iter()
        .filter_map(|r| r["id"].as_str().map(str::to_owned))
        .collect()
}

/// The records without what `hale why` has told already.
fn records(host: &Host) -> Vec<Value> {
    let said = said(host, &["hale", "audit", "export", "-"]);
    let entries = said
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let bodies = entries
        .filter(|e| e["kind"] == "record")
        .filter_map(|e| serde_json::from_str::<Value>(e["body"].as_str()?).ok());
    bodies
        .map(|mut record| {
            if let Some(fields) = record.as_object_mut() {
                fields
                    .retain(|k, _| k.ends_with("_log") || ["outcome", "decision"].contains(&&**k));
            }
            record
        })
        .collect()
}
