//! What is told of each case and of all together.

use super::case::{Case, Expect};
use super::verdict::Outcome;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// How a case went.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) expect: Expect,
    pub(crate) outcome: Outcome,
    /// Why it is not as it has to be.
    pub(crate) why: Option<String>,
    /// Why it was not carried out.
    pub(crate) skipped: Option<String>,
    /// Whether a human was asked or told before the fault, and nothing was done.
    pub(crate) disturbed: bool,
    /// The playbook that ran, or that is asked for.
    pub(crate) playbook: Option<String>,
    /// Whether `check` failed right after the fault.
    pub(crate) felt: bool,
    /// Seconds from the fault to the incident.
    pub(crate) detected: Option<f64>,
    /// Seconds from the fault to the record.
    pub(crate) fixed: Option<f64>,
    /// How the second run ended.
    pub(crate) again: Option<String>,
    /// How long all of it took.
    pub(crate) took: Duration,
    /// What a developer needs if it failed.
    pub(crate) story: String,
}

impl Report {
    /// Of a case that was not carried out yet.
    pub(crate) fn of(case: &Case) -> Self {
        Self {
            name: case.name.clone(),
            expect: case.told.expect,
            outcome: Outcome::Nothing,
            why: None,
            skipped: None,
            disturbed: false,
            playbook: None,
            felt: false,
            detected: None,
            fixed: None,
            again: None,
            took: Duration::ZERO,
            story: String::new(),
        }
    }

    /// It could not be carried out to its end.
    pub(crate) fn fail(&mut self, why: String) {
        self.outcome = Outcome::Failed;
        self.why = Some(why);
    }

    /// Whether it is not as it has to be.
    pub(crate) fn is_failed(&self) -> bool {
        self.why.is_some()
    }

    fn is_passed(&self) -> bool {
        self.why.is_none() && self.skipped.is_none()
    }

    fn seconds(value: Option<f64>) -> String {
        value.map_or_else(|| "-".into(), |s| format!("{s:.1} s"))
    }

    /// Tells how it went, and everything if it failed.
    pub(crate) fn print(&self) {
        if let Some(why) = &self.skipped {
            return say(&format!("SKIPPED gallery {}: {why}", self.name));
        }
        let verdict = if self.is_passed() { "ok    " } else { "FAILED" };
        let mut line = format!(
            "{verdict} {:<34} {:<10} {:<34} seen {:>7}  recorded {:>7}  again {:<9} {:>5.1} s",
            self.name,
            self.outcome.as_str(),
            self.playbook.as_deref().unwrap_or("-"),
            Self::seconds(self.detected),
            Self::seconds(self.fixed),
            self.again.as_deref().unwrap_or("-"),
            self.took.as_secs_f64(),
        );
        if let Some(why) = &self.why {
            line.push_str(&format!("\n{why}"));
        }
        if !self.story.is_empty() {
            line.push_str(&format!("\n{}── end of {}\n", self.story, self.name));
        }
        say(&line);
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "expect": self.expect.as_str(),
            "outcome": self.outcome.as_str(),
            "passed": self.is_passed(),
            "why": self.why,
            "skipped": self.skipped,
            "playbook": self.playbook,
            "felt_by_check": self.felt,
            "seconds_to_incident": self.detected,
            "seconds_to_record": self.fixed,
            "run_again": self.again,
            "seconds": self.took.as_secs_f64(),
        })
    }
}

/// Writes lines at once, so that those of two cases don't mix.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// All cases together. Returns whether all is well.
pub(crate) fn summary(reports: &[Report], took: Duration, json: Option<&Path>) -> bool {
    let count = |outcome| {
        let fits = |r: &&Report| r.skipped.is_none() && r.outcome == outcome;
        reports.iter().filter(fits).count()
    };
    let median = median(reports);
    say(&format!(
        "\n{} resolved alone, {} asked, {} escalated, {} left alone, {} wrong, {} harmed, {} failed; \
         median from fault to record {}",
        count(Outcome::Resolved),
        count(Outcome::Asked),
        count(Outcome::Escalated),
        count(Outcome::Nothing),
        count(Outcome::Wrong),
        count(Outcome::Harmed),
        count(Outcome::Failed),
        Report::seconds(median),
    ));
    let passed = reports.iter().filter(|r| r.is_passed()).count();
    let failed = reports.iter().filter(|r| r.is_failed()).count();
    if let Some(path) = json {
        let cases: Vec<Value> = reports.iter().map(Report::json).collect();
        let all = json!({
            "cases": cases,
            "passed": passed,
            "failed": failed,
            "median_seconds_to_record": median,
            "seconds": took.as_secs_f64(),
        });
        if let Err(e) = std::fs::write(path, format!("{all:#}\n")) {
            say(&format!("{}: {e}", path.display()));
        }
    }
    result(passed, failed, took)
}

/// The last line, as libtest writes it. Returns whether all is well.
pub(crate) fn result(passed: usize, failed: usize, took: Duration) -> bool {
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    say(&format!(
        "test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; \
         0 filtered out; finished in {:.2}s",
        took.as_secs_f64()
    ));
    failed == 0
}

fn median(reports: &[Report]) -> Option<f64> {
    let resolved = reports.iter().filter(|r| r.outcome == Outcome::Resolved);
    let mut seconds: Vec<f64> = resolved.filter_map(|r| r.fixed).collect();
    seconds.sort_by(f64::total_cmp);
    let n = seconds.len();
    let middle = |i: usize| seconds.get(i).copied();
    match n % 2 {
        1 => middle(n / 2),
        _ => Some((middle((n / 2).checked_sub(1)?)? + middle(n / 2)?) / 2.0),
    }
}
