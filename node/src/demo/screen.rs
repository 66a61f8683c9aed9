//! What the demo shows: one line a stage, in colour on a terminal, plain elsewhere.

use crate::demo::fleet::Fleet;
use crate::demo::loss::Survival;
use crate::demo::outcome::Chains;
use hale_model::{Happening, Stage};
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Where the demo is told.
pub(super) struct Screen {
    json: bool,
    terminal: bool,
    colour: bool,
    /// Whether the last line is a bar, whose place the next line takes.
    has_bar: bool,
}

/// How a step of the cluster is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Good,
    Bad,
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
            has_bar: false,
        }
    }

    /// A closed pipe is no reason to stop healing: write errors are let go.
    fn line(&mut self, text: &str) {
        if !self.json {
            let clear = match std::mem::take(&mut self.has_bar) {
                true => "\r\x1b[K",
                false => "",
            };
            let mut out = std::io::stdout().lock();
            writeln!(out, "{clear}{text}")
                .and_then(|()| out.flush())
                .ok();
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A mark, and what it is about.
    fn heading(&mut self, colour: &str, mark: &str, text: &str) {
        let mark = self.paint(colour, mark);
        let text = self.paint(BOLD, text);
        self.line("");
        self.line(&format!("{mark} {text}"));
    }

    pub(super) fn title(&mut self, nodes: usize) {
        let (title, what) = match nodes {
            1 => ("", "a real node".to_owned()),
            2 => ("", "2 real nodes on this machine".to_owned()),
            n => (
                ", also when one of its own is lost",
                format!("{n} real nodes on this machine"),
            ),
        };
        let title = format!("Hale heals this machine's faults while you watch{title}");
        let promise = format!("{what}, real faults, nothing left behind; under a minute");
        self.line(&self.paint(BOLD, &title));
        self.line(&self.paint(DIM, &promise));
    }

    pub(super) fn note(&mut self, text: &str) {
        self.line(&format!("  {}", self.paint(DIM, text)));
    }

    pub(super) fn learning(&mut self, status: &Value, past: Duration, of: Duration) {
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
        self.has_bar = true;
        let mut out = std::io::stdout().lock();
        write!(
            out,
            "\r  learning what is normal {bar} {} series, {} samples ",
            status["series"], status["samples"]
        )
        .and_then(|()| out.flush())
        .ok();
    }

    /// Something begins that has steps.
    pub(super) fn act(&mut self, mark: &str, name: &str, story: &str) {
        self.heading(CYAN, mark, name);
        self.note(story);
    }

    /// A step of the cluster, in the same columns as a stage of an incident.
    pub(super) fn step(&mut self, since: Duration, what: &str, look: Look, text: &str) {
        let colour = match look {
            Look::Plain => CYAN,
            Look::Good => GREEN,
            Look::Bad => RED,
        };
        self.row(since.as_secs_f64(), what, colour, text);
    }

    pub(super) fn fault(&mut self, name: &str, story: &str) {
        self.heading(RED, "✗ broken:", name);
        self.note(story);
    }

    pub(super) fn skipped(&mut self, name: &str, why: &str) {
        self.line("");
        self.line(&format!(
            "{} {name}: {why}",
            self.paint(YELLOW, "- skipped:")
        ));
    }

    pub(super) fn happening(&mut self, h: &Happening, seconds: f64) {
        let colour = match h.stage {
            Stage::Escalated | Stage::Undone => RED,
            Stage::Asked => YELLOW,
            Stage::Recorded | Stage::Resolved => GREEN,
            _ => CYAN,
        };
        self.row(seconds, h.stage.as_str(), colour, &h.text);
    }

    fn row(&mut self, seconds: f64, what: &str, colour: &str, text: &str) {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let what = self.paint(colour, &format!("{what:<10}"));
        self.line(&format!("  {seconds:>5.2} s  {what} {first}"));
        for more in lines {
            self.line(&format!("           {:10} {}", "", self.paint(DIM, more)));
        }
    }

    pub(super) fn proof(&mut self, healed: bool, proof: &str) {
        let mark = if healed {
            self.paint(GREEN, "✓ healed:")
        } else {
            self.paint(RED, "✗ not healed:")
        };
        self.line(&format!("{mark} {proof}"));
    }

    pub(super) fn survived(&mut self, survival: &Survival) {
        let killed = &survival.killed;
        let text = match survival.is_good() {
            true => format!(
                "{} the playbook ran on, its record is on every host, and {killed} is back",
                self.paint(GREEN, "✓ survived:"),
            ),
            false => format!(
                "{} the loss of {killed} did not go by without a trace",
                self.paint(RED, "✗ not survived:"),
            ),
        };
        self.line(&text);
    }

    pub(super) fn chain(&mut self, chain: &Value, chains: &Chains) {
        let word = match chain["valid"].as_bool() {
            Some(true) => self.paint(GREEN, "verified"),
            _ => self.paint(RED, "BROKEN"),
        };
        self.line("");
        self.line(&format!(
            "chain {word}: {} entries, {} signatures, tip {}",
            chain["entries"],
            chain["signatures"],
            chain["tip"].as_str().unwrap_or("-"),
        ));
        match chains.copies {
            1 => {}
            n if chains.are_equal => {
                self.note(&format!(
                    "verified on each of the {n} hosts that keep it: all are the same"
                ));
            }
            _ => {
                let text = "the hosts' chains differ, or do not verify";
                self.line(&self.paint(RED, text));
            }
        }
    }

    pub(super) fn summary(&mut self, is_good: bool, summary: &Value, keep: bool) {
        if self.json {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{summary:#}").and_then(|()| out.flush()).ok();
            return;
        }
        let seconds = summary["seconds"].as_f64().unwrap_or_default();
        let count = summary["faults"].as_array().map_or(0, Vec::len);
        let lost = match summary["cluster"]["killed"].as_str() {
            Some(_) => ", one leader lost and back,",
            None => "",
        };
        let text = match is_good {
            true => self.paint(
                GREEN,
                &format!("{count} of {count} faults healed without a human{lost}"),
            ),
            false => self.paint(RED, "not everything went well"),
        };
        self.line(&format!("{text} in {seconds:.0} s"));
        if let Some(text) = memory(&summary["cluster"]["members"]) {
            self.note(&text);
        }
        if !keep {
            self.note("`hale demo --keep` leaves everything running to look around: the page, and");
            self.note("hale members, hale incidents, hale audit verify in another terminal");
        }
    }

    /// What there is to look at while the nodes are kept.
    pub(super) fn keep(&mut self, fleet: &Fleet) {
        let width = fleet.members.iter().map(|m| m.host.len()).max();
        let (width, several) = (width.unwrap_or_default(), fleet.members.len() > 1);
        self.line("");
        self.line(&self.paint(BOLD, "look around; Ctrl-C ends and removes everything"));
        for member in &fleet.members {
            let (host, page) = (&member.host, self.paint(BOLD, &member.asker.page()));
            self.line(&format!("  {host:<width$}  {page}"));
        }
        let Some(last) = fleet.members.last() else {
            return;
        };
        self.note("and in another terminal, with the directory of any of them:");
        let (hale, dir) = (fleet.called(), last.data_dir.display());
        let cluster: &[&str] = if several { &["members", "voters"] } else { &[] };
        for command in cluster
            .iter()
            .chain(&["incidents", "audit tail", "audit verify"])
        {
            self.line(&format!("  {hale} {command} --data-dir {dir}"));
        }
    }
}

/// What the nodes hold of the machine's memory.
fn memory(members: &Value) -> Option<String> {
    let bytes = members.as_array()?.iter();
    let mb: Vec<u64> = bytes
        .filter_map(|m| Some(m["resident_bytes"].as_u64()? / 1_000_000))
        .collect();
    let (least, most) = (mb.iter().min()?, mb.iter().max()?);
    // An unoptimised build is several times as large.
    let build = if cfg!(debug_assertions) {
        " (a debug build)"
    } else {
        ""
    };
    Some(match mb.len() {
        1 => format!("the node holds {most} MB of memory{build}"),
        _ if least == most => format!("each node holds {most} MB of memory{build}"),
        _ => format!("each node holds {least} to {most} MB of memory{build}"),
    })
}
