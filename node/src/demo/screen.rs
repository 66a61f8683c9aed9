//! What the demo shows: one line a stage, in colour on a terminal, plain elsewhere.

use hale_model::{Happening, Stage};
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Where the demo is told.
pub(super) struct Screen {
    json: bool,
    terminal: bool,
    colour: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            json,
            terminal,
            colour: terminal && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// A closed pipe is no reason to stop healing: write errors are let go.
    fn line(&self, text: &str) {
        if !self.json {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{text}").and_then(|()| out.flush()).ok();
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn title(&self) {
        self.line(&self.paint(BOLD, "Hale heals this machine's faults while you watch"));
        self.line(&self.paint(
            DIM,
            "a real node, real faults, nothing left behind; under a minute",
        ));
    }

    pub(super) fn note(&self, text: &str) {
        self.line(&format!("  {}", self.paint(DIM, text)));
    }

    pub(super) fn learning(&self, status: &Value, past: Duration, of: Duration) {
        if !self.terminal || self.json {
            return;
        }
        let width = 24;
        let filled = (past.as_secs_f64() / of.as_secs_f64() * f64::from(width)).min(24.0) as usize;
        let bar = format!(
            "{}{}",
            "█".repeat(filled),
            "░".repeat(width as usize - filled)
        );
        let mut out = std::io::stdout().lock();
        write!(
            out,
            "\r  learning what is normal {bar} {} series, {} samples ",
            status["series"], status["samples"]
        )
        .and_then(|()| out.flush())
        .ok();
    }

    pub(super) fn learned(&self) {
        if self.terminal {
            self.line("");
        } else {
            self.note("learned what is normal for ten seconds");
        }
    }

    pub(super) fn fault(&self, name: &str, story: &str) {
        self.line("");
        self.line(&format!(
            "{} {}",
            self.paint(RED, "✗ broken:"),
            self.paint(BOLD, name)
        ));
        self.note(story);
    }

    pub(super) fn skipped(&self, name: &str, why: &str) {
        self.line("");
        self.line(&format!(
            "{} {name}: {why}",
            self.paint(YELLOW, "- skipped:")
        ));
    }

    pub(super) fn happening(&self, h: &Happening, seconds: f64) {
        let colour = match h.stage {
            Stage::Escalated | Stage::Undone => RED,
            Stage::Asked => YELLOW,
            Stage::Recorded | Stage::Resolved => GREEN,
            _ => CYAN,
        };
        let mut lines = h.text.lines();
        let first = lines.next().unwrap_or_default();
        let stage = format!("{:<10}", h.stage.as_str());
        self.line(&format!(
            "  {seconds:>5.2} s  {} {first}",
            self.paint(colour, &stage)
        ));
        for more in lines {
            self.line(&format!("           {:10} {}", "", self.paint(DIM, more)));
        }
    }

    pub(super) fn proof(&self, healed: bool, proof: &str) {
        let mark = if healed {
            self.paint(GREEN, "✓ healed:")
        } else {
            self.paint(RED, "✗ not healed:")
        };
        self.line(&format!("{mark} {proof}"));
    }

    pub(super) fn chain(&self, chain: &Value) {
        let valid = chain["valid"].as_bool() == Some(true);
        let word = if valid {
            self.paint(GREEN, "verified")
        } else {
            self.paint(RED, "BROKEN")
        };
        self.line("");
        self.line(&format!(
            "chain {word}: {} entries, {} signatures, tip {}",
            chain["entries"],
            chain["signatures"],
            chain["tip"].as_str().unwrap_or("-"),
        ));
    }

    pub(super) fn summary(&self, healed: bool, summary: &Value, keep: bool) {
        if self.json {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{summary:#}").and_then(|()| out.flush()).ok();
            return;
        }
        let seconds = summary["seconds"].as_f64().unwrap_or_default();
        let count = summary["faults"].as_array().map_or(0, Vec::len);
        let text = if healed {
            self.paint(
                GREEN,
                &format!("{count} of {count} faults healed without a human"),
            )
        } else {
            self.paint(RED, "not everything was healed")
        };
        self.line(&format!("{text} in {seconds:.0} s"));
        if !keep {
            self.note("`hale demo --keep` leaves the node running to look around:");
            self.note("the page, /v1/incidents, /v1/audit/entries, /metrics, /openapi.json");
        }
    }

    pub(super) fn keep(&self, page: &str) {
        self.line("");
        self.line(&format!(
            "look around at {}  (Ctrl-C ends and cleans up)",
            self.paint(BOLD, page)
        ));
        let root = page.split("/#").next().unwrap_or(page);
        for path in [
            "/v1/incidents",
            "/v1/audit/entries",
            "/metrics",
            "/openapi.json",
        ] {
            self.note(&format!("{root}{path}"));
        }
    }
}
