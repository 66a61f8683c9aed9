//! Who is told when nobody watches: a Slack-compatible webhook hears what was resolved, what waits
//! for approval and what needs a human, each with the command to type next.
//!
//! Messages wait in a bounded queue and are sent one after the other; a webhook that is slow or
//! down never holds up the line. The URL is a secret: it is in no log and in no error.

use crate::config::NotifyConfig;
use hale_model::execution::OutcomeStatus;
use hale_model::ledger::{Approval, EntryRef};
use hale_model::record::Record;
use reqwest::{StatusCode, header};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Messages that wait; the next is dropped and counted.
const QUEUE: usize = 256;
/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts for one message: with the waits between them some two minutes.
const ATTEMPTS: u32 = 7;
/// The first wait between attempts; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait, also if the webhook asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Slack cuts at 40,000 characters; nobody reads that many.
const MAX_TEXT_CHARS: usize = 3000;

/// Why nobody can be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    /// The variable is not there.
    #[error(
        "notify.webhook_url_env names {0}, which is not set for the node; set it in its environment"
    )]
    NoVariable(String),
    /// It is no URL.
    #[error("notify.webhook_url is not an http or https URL; copy it from the webhook's page")]
    NotAUrl,
    /// Both are given.
    #[error(
        "notify.webhook_url and notify.webhook_url_env are both set; keep the second, the URL is a secret"
    )]
    Both,
    /// The client can't be made.
    #[error("notifications can't be sent from this host")]
    Client(#[source] reqwest::Error),
}

/// Tells what matters. Cloning shares it; without a webhook it tells nobody.
#[derive(Clone)]
pub(crate) struct Notifier(Option<Arc<Inner>>);

struct Inner {
    queue: mpsc::Sender<String>,
    dropped: AtomicU64,
    stopping: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Notifier {
    /// Starts telling, if the configuration names a webhook.
    ///
    /// # Errors
    /// If it names one that can't be used.
    pub(crate) fn start(config: &NotifyConfig) -> Result<Self, NotifyError> {
        let Some(url) = webhook(config)? else {
            return Ok(Self(None));
        };
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A webhook that moved is a new secret: it belongs in the configuration.
            .redirect(reqwest::redirect::Policy::none())
            .build();
        let http = http.map_err(|e| NotifyError::Client(e.without_url()))?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (stopping, stop) = watch::channel(false);
        let task = tokio::spawn(Sender { http, url, stop }.run(waiting));
        let inner = Inner {
            queue,
            dropped: AtomicU64::new(0),
            stopping,
            task: Mutex::new(Some(task)),
        };
        Ok(Self(Some(Arc::new(inner))))
    }

    /// A plan waits for a human.
    pub(crate) fn asked(&self, approval: &Approval) {
        self.tell(|| text_of_approval(approval));
    }

    /// A record is on the chain, or (without an entry) waits for the ledger.
    pub(crate) fn recorded(&self, record: &Record, entry: Option<&EntryRef>) {
        if is_worth_telling(record.outcome.status) {
            self.tell(|| text_of_record(record, entry));
        }
    }

    fn tell(&self, text: impl FnOnce() -> String) {
        let Some(inner) = &self.0 else { return };
        if inner.queue.try_send(text()).is_err() {
            let dropped = inner.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(
                dropped,
                "the webhook is too slow: a notification was dropped"
            );
        }
    }

    /// Gives what waits one last try each, for at most `limit`.
    pub(crate) async fn stop(&self, limit: Duration) {
        let Some(inner) = &self.0 else { return };
        inner.stopping.send_replace(true);
        let task = inner
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout(limit, &mut task).await.is_err() {
            task.abort();
            tracing::warn!("some notifications could not be sent before the node stopped");
        }
    }
}

/// A URL that nothing prints.
struct Secret(reqwest::Url);

fn webhook(config: &NotifyConfig) -> Result<Option<Secret>, NotifyError> {
    let text = match (&config.webhook_url, &config.webhook_url_env) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(NotifyError::Both),
        (Some(url), None) => url.clone(),
        (None, Some(name)) => {
            std::env::var(name).map_err(|_| NotifyError::NoVariable(name.clone()))?
        }
    };
    let url = reqwest::Url::parse(text.trim()).map_err(|_| NotifyError::NotAUrl)?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(NotifyError::NotAUrl);
    }
    Ok(Some(Secret(url)))
}

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Done,
    /// It may work later; the webhook may say when.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// It never will.
    Never(String),
}

struct Sender {
    http: reqwest::Client,
    url: Secret,
    stop: watch::Receiver<bool>,
}

impl Sender {
    async fn run(mut self, mut waiting: mpsc::Receiver<String>) {
        loop {
            let next = tokio::select! {
                next = waiting.recv() => next,
                () = stopped(&mut self.stop) => waiting.try_recv().ok(),
            };
            match next {
                Some(text) => self.deliver(&text).await,
                None => return,
            }
        }
    }

    async fn deliver(&mut self, text: &str) {
        for attempt in 1..=ATTEMPTS {
            let (why, after) = match self.attempt(text).await {
                Sent::Done => return,
                Sent::Never(why) => {
                    return tracing::warn!(why, "the webhook refuses notifications");
                }
                Sent::Later { why, after } => (why, after),
            };
            if attempt == ATTEMPTS || *self.stop.borrow() {
                return tracing::warn!(why, attempt, "a notification could not be sent");
            }
            let wait = after.unwrap_or_else(|| backoff(attempt, getrandom::u32().unwrap_or(0)));
            tracing::debug!(why, attempt, ?wait, "a notification is sent again later");
            tokio::select! {
                () = tokio::time::sleep(wait.min(LONGEST_WAIT)) => {}
                () = stopped(&mut self.stop) => {}
            }
        }
    }

    async fn attempt(&self, text: &str) -> Sent {
        let request = self
            .http
            .post(self.url.0.clone())
            .json(&json!({ "text": text }));
        match request.send().await {
            Ok(response) => {
                let after = response.headers().get(header::RETRY_AFTER);
                let after = after
                    .and_then(|v| v.to_str().ok()?.parse().ok())
                    .map(Duration::from_secs);
                verdict(response.status(), after)
            }
            // The error carries the URL: it is taken out before anybody reads it.
            Err(e) => Sent::Later {
                why: e.without_url().to_string(),
                after: None,
            },
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}

/// 408, 429 and 5xx may work later (RFC 9110 section 15, RFC 6585 section 4); other refusals won't.
fn verdict(status: StatusCode, after: Option<Duration>) -> Sent {
    let why = format!("it answered {status}");
    match status.as_u16() {
        200..=299 => Sent::Done,
        408 | 429 | 500..=599 => Sent::Later { why, after },
        _ => Sent::Never(why),
    }
}

/// Twice as long after each attempt, and a random part of up to a half shorter, so that a fleet
/// does not come back all at once.
fn backoff(attempt: u32, random: u32) -> Duration {
    let full = FIRST_WAIT
        .saturating_mul(1 << (attempt.clamp(1, 16) - 1))
        .min(LONGEST_WAIT);
    full.mul_f64(1.0 - 0.5 * f64::from(random) / f64::from(u32::MAX))
}

/// What healed by itself or was refused by a human needs no message.
fn is_worth_telling(status: OutcomeStatus) -> bool {
    !matches!(status, OutcomeStatus::SelfResolved | OutcomeStatus::Denied)
}

fn text_of_approval(a: &Approval) -> String {
    cut(format!(
        "✋ *Waits for you*: {} {} on {}\n{}\nConfidence {:.2}, for incident {}. Next: `hale approve {}` or `hale deny {}`",
        escaped(a.playbook.as_str()),
        escaped(&a.version),
        escaped(a.host.as_str()),
        escaped(&a.rationale),
        f64::from(a.confidence_ppm) / 1e6,
        escaped(a.incident.as_str()),
        a.id,
        a.id,
    ))
}

fn text_of_record(record: &Record, entry: Option<&EntryRef>) -> String {
    let o = &record.outcome;
    let head = match o.status {
        OutcomeStatus::Success => "✅ *Resolved*",
        OutcomeStatus::RolledBack => "↩️ *Undone, needs you*",
        OutcomeStatus::Aborted => "⚠️ *Not touched, needs you*",
        OutcomeStatus::Expired => "⌛ *Nobody answered, needs you*",
        OutcomeStatus::Abandoned => "⚠️ *Broken off, needs you*",
        OutcomeStatus::Failed => "❌ *Failed, needs you*",
        OutcomeStatus::Escalated | OutcomeStatus::Denied | OutcomeStatus::SelfResolved => {
            "⚠️ *Needs you*"
        }
    };
    let context = &record.incident_context;
    let mut text = format!(
        "{head}: {} on {}\n",
        escaped(&context.title),
        escaped(&context.host)
    );
    if let Some(playbook) = &record.decision.playbook_selected {
        let version = record
            .decision
            .playbook_version
            .as_deref()
            .unwrap_or_default();
        let by = record
            .decision
            .approved_by
            .as_deref()
            .map(|by| format!(", approved by {}", escaped(by)));
        text += &format!(
            "{} {} after {:.0} s at confidence {:.2}{}: ",
            escaped(playbook),
            escaped(version),
            o.resolution_time_seconds,
            record.decision.confidence,
            by.unwrap_or_default()
        );
    }
    text += &escaped(&o.reason);
    text += &match entry {
        Some(e) => format!("\nEntry {} {} in the chain. ", e.index, e.hash.short()),
        None => "\nThe record waits for the ledger. ".to_owned(),
    };
    text += &format!("Next: `hale why {}`", record.incident_id);
    cut(text)
}

/// The three signs that mean something to Slack; what a log line smuggled in is shown, not
/// followed.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
#[path = "notify_tests.rs"]
mod tests;
