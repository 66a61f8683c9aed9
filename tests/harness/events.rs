//! What a node tells live, as typed happenings.

use super::http::Client;
use hale_model::{Happening, Stage};
use std::io::BufRead;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Follows a node's `/v1/events`. What was seen is kept, so that nothing is missed however late it
/// is asked for.
pub struct Events {
    lines: Receiver<Result<Happening, String>>,
    seen: Vec<(Instant, Happening)>,
}

impl Events {
    /// Follows from the first that the node remembers.
    ///
    /// # Panics
    /// If the node does not answer.
    pub(crate) fn follow(client: &Client) -> Self {
        let body = client.follow("/v1/events?follow=true&after=0").unwrap();
        let (tell, lines) = sync_channel(4096);
        std::thread::spawn(move || {
            // The node's end ends the stream; that is no failure of its own.
            for line in body
                .lines()
                .map_while(Result::ok)
                .filter(|l| !l.trim().is_empty())
            {
                let parsed = serde_json::from_str(&line).map_err(|e| format!("{e}: {line}"));
                if tell.send(parsed).is_err() {
                    return;
                }
            }
        });
        Self {
            lines,
            seen: vec![],
        }
    }

    /// What was seen so far, each with when.
    ///
    /// # Panics
    /// If the node sent what is no happening.
    pub fn seen(&mut self) -> &[(Instant, Happening)] {
        while self.take(Duration::ZERO).is_some() {}
        &self.seen
    }

    fn take(&mut self, bound: Duration) -> Option<()> {
        match self.lines.recv_timeout(bound) {
            Ok(Ok(happening)) => self.seen.push((Instant::now(), happening)),
            Ok(Err(why)) => panic!("the node sent what is no happening: {why}"),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        }
        Some(())
    }

    /// The first happening that fits, of those seen and those to come.
    ///
    /// # Panics
    /// If there is none within `bound`; the story so far is told.
    #[track_caller]
    pub fn wait(
        &mut self,
        what: &str,
        bound: Duration,
        fits: impl Fn(&Happening) -> bool,
    ) -> Happening {
        self.wait_timed(what, bound, fits).1
    }

    /// The same, with when it was seen.
    #[track_caller]
    pub fn wait_timed(
        &mut self,
        what: &str,
        bound: Duration,
        fits: impl Fn(&Happening) -> bool,
    ) -> (Instant, Happening) {
        let until = Instant::now() + bound;
        let mut looked = 0;
        loop {
            if let Some(found) = self.seen[looked..].iter().find(|(_, h)| fits(h)) {
                return found.clone();
            }
            looked = self.seen.len();
            let left = until.saturating_duration_since(Instant::now());
            if self.take(left).is_none() {
                assert!(
                    !left.is_zero(),
                    "waited {bound:?} in vain for {what}\n{}",
                    self.story()
                );
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
    }

    /// The record of a service's incident.
    #[track_caller]
    pub fn recorded(&mut self, service: &str, bound: Duration) -> Happening {
        self.wait(&format!("a record of {service}"), bound, |h| {
            h.stage == Stage::Recorded && is_of(h, service)
        })
    }

    /// The first happening of a stage of a service's incident.
    #[track_caller]
    pub fn stage(&mut self, service: &str, stage: Stage, bound: Duration) -> Happening {
        self.wait(&format!("{} of {service}", stage.as_str()), bound, |h| {
            h.stage == stage && is_of(h, service)
        })
    }

    /// What happened, a line each.
    pub fn story(&mut self) -> String {
        let lines = self.seen().iter().map(|(_, h)| {
            let service = h.service.as_ref().map_or("-", |s| s.as_str());
            format!(
                "{} {} {service}: {} {}",
                h.at,
                h.stage.as_str(),
                h.text,
                h.detail
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn is_of(happening: &Happening, service: &str) -> bool {
    happening
        .service
        .as_ref()
        .is_some_and(|s| s.as_str() == service)
}
