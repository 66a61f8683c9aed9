//! What each route does: reads the call, asks the backend, shapes the answer.

mod cluster;

pub(crate) use cluster::*;

use crate::ask::{
    AnswerRequest, BaselineQuery, EntryQuery, ExcludeRequest, FreezeRequest, IncidentFilter,
    IncidentQuery, RunRequest, StatesRequest,
};
use crate::call::Call;
use crate::problem::{Code, Problem};
use crate::server::stopped;
use crate::view::{ApprovalView, EntryView, LeaseView, SharedLeaseView};
use crate::{metrics as prometheus, openapi as document, page as html, stream};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hale_model::ledger::EntryKind;
use hale_model::{Happening, SeriesKey};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;

type Answered = Result<Response, Problem>;

/// How often a follower hears something, so that both ends notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How many happenings are written at once.
const BATCH: usize = 256;

pub(crate) async fn status(c: Call) -> Answered {
    c.json(&c.backend().status(c.consistency()).await?)
}

pub(crate) async fn hosts(c: Call) -> Answered {
    c.json(&json!({ "hosts": c.backend().hosts(c.consistency()).await? }))
}

pub(crate) async fn telemetry(c: Call) -> Answered {
    c.json(&c.backend().telemetry(c.part("host")?).await?)
}

pub(crate) async fn baselines(c: Call) -> Answered {
    let query = BaselineQuery {
        series: c.text("series").map(str::to_owned),
        limit: size(&c, 1000),
    };
    let host: hale_model::HostName = c.part("host")?;
    let mut readings = c.backend().baselines(host.clone(), query.clone()).await?;
    readings.retain(|r| query.wants(&r.series.to_string()));
    readings.truncate(query.limit);
    c.json(&json!({ "host": host, "baselines": readings }))
}

pub(crate) async fn series(c: Call) -> Answered {
    let text: String = c.part("series")?;
    let series = SeriesKey::parse(&text).filter(SeriesKey::is_within_limits);
    let series = series.ok_or_else(|| {
        Problem::new(
            Code::BadRequest,
            format!("`{}` is no series", text.chars().take(80).collect::<String>()),
            "write it like system.cpu_percent or system.disk_usage_percent{mount=\"/var\"}, percent-encoded",
        )
    })?;
    c.json(&c.backend().series(c.part("host")?, series).await?)
}

pub(crate) async fn states(c: Call) -> Answered {
    let request: StatesRequest = c.body()?;
    c.json(&c.backend().states(c.part("host")?, request).await?)
}

pub(crate) async fn exclude(c: Call) -> Answered {
    let request: ExcludeRequest = c.body()?;
    c.json(&c.backend().exclude(c.part("host")?, request).await?)
}

pub(crate) async fn incidents(c: Call) -> Answered {
    let query = IncidentQuery {
        state: match c.text("state") {
            Some("resolved") => IncidentFilter::Resolved,
            Some("all") => IncidentFilter::All,
            _ => IncidentFilter::Open,
        },
        service: c.noun("service")?,
        limit: size(&c, 50),
        consistency: c.consistency(),
    };
    let limit = query.limit;
    let mut found = c.backend().incidents(query).await?;
    found.items.truncate(limit);
    c.json(&json!({ "incidents": found.items, "silent": found.silent }))
}

pub(crate) async fn incident(c: Call) -> Answered {
    c.json(&c.backend().incident(c.part("id")?, c.consistency()).await?)
}

pub(crate) async fn why(c: Call) -> Answered {
    c.json(&c.backend().why(c.part("id")?, c.consistency()).await?)
}

pub(crate) async fn approvals(c: Call) -> Answered {
    let waiting = c.backend().approvals(c.consistency()).await?;
    let waiting: Vec<ApprovalView> = waiting.iter().map(Into::into).collect();
    c.json(&json!({ "approvals": waiting }))
}

pub(crate) async fn approve(c: Call) -> Answered {
    answer(c, true).await
}

pub(crate) async fn deny(c: Call) -> Answered {
    answer(c, false).await
}

async fn answer(c: Call, approve: bool) -> Answered {
    let request: AnswerRequest = c.body()?;
    let approval = c.backend().answer(c.part("id")?, approve, request).await?;
    c.json(&ApprovalView::from(&approval))
}

pub(crate) async fn playbooks(c: Call) -> Answered {
    c.json(&json!({ "playbooks": c.backend().playbooks(c.consistency()).await? }))
}

pub(crate) async fn playbook(c: Call) -> Answered {
    c.json(
        &c.backend()
            .playbook(c.part("name")?, c.consistency())
            .await?,
    )
}

pub(crate) async fn run(c: Call) -> Answered {
    let request: RunRequest = c.body()?;
    c.json(&c.backend().run(c.part("name")?, request).await?)
}

pub(crate) async fn lint(c: Call) -> Answered {
    let findings = c.backend().lint(c.body_text()?).await?;
    let valid = findings.iter().all(|f| f.severity != "error");
    c.json(&json!({ "valid": valid, "findings": findings }))
}

pub(crate) async fn leases(c: Call) -> Answered {
    let leases = c.backend().leases(c.consistency()).await?;
    let leases: Vec<LeaseView> = leases.iter().map(Into::into).collect();
    let waiting = c.backend().waiting(c.consistency()).await?;
    let shared = c.backend().looks(c.consistency()).await?;
    let shared: Vec<SharedLeaseView> = shared.iter().map(Into::into).collect();
    c.json(&json!({ "leases": leases, "shared": shared, "waiting": waiting }))
}

pub(crate) async fn executions(c: Call) -> Answered {
    let found = c.backend().executions(c.consistency()).await?;
    c.json(&json!({ "executions": found.items, "silent": found.silent }))
}

pub(crate) async fn entries(c: Call) -> Answered {
    let query = EntryQuery {
        from: c.number("from"),
        limit: size(&c, 50),
        kind: c.text("kind").and_then(kind),
        incident: c.noun("incident")?,
        consistency: c.consistency(),
    };
    let page = c.backend().entries(query).await?;
    let entries: Vec<EntryView> = page.entries.iter().map(Into::into).collect();
    c.json(&json!({ "entries": entries, "next": page.next, "total": page.total }))
}

fn kind(text: &str) -> Option<EntryKind> {
    (0..=u8::MAX)
        .map_while(EntryKind::from_code)
        .find(|k| k.as_str() == text)
}

pub(crate) async fn entry(c: Call) -> Answered {
    let index = c.part::<u64>("index")?;
    c.json(&EntryView::from(
        &c.backend().entry(index, c.consistency()).await?,
    ))
}

pub(crate) async fn export(c: Call) -> Answered {
    let permit = place(&c)?;
    let lines = c.backend().export().await?;
    Ok(typed("application/x-ndjson", fed(&c, permit, lines)))
}

/// A body of the backend's pieces; broken off if a piece is an error or the node stops.
fn fed(
    c: &Call,
    permit: tokio::sync::OwnedSemaphorePermit,
    mut from: mpsc::Receiver<Result<Vec<u8>, Problem>>,
) -> Body {
    let (pieces, body) = stream::channel();
    let mut stopping = c.api.stopping.clone();
    tokio::spawn(async move {
        let _permit = permit;
        loop {
            let piece = tokio::select! {
                piece = from.recv() => piece,
                () = stopped(&mut stopping) => Some(Err(Problem::internal("the node stops"))),
            };
            let gone = match piece {
                Some(Ok(piece)) => !pieces.send(piece).await,
                Some(Err(problem)) => return pieces.break_off(problem.message).await,
                None => true,
            };
            if gone {
                return;
            }
        }
    });
    body
}

pub(crate) async fn verify(c: Call) -> Answered {
    c.json(&c.backend().verify().await?)
}

pub(crate) async fn freeze_state(c: Call) -> Answered {
    c.json(&c.backend().freeze_state(c.consistency()).await?)
}

pub(crate) async fn freeze(c: Call) -> Answered {
    set_frozen(c, true).await
}

pub(crate) async fn thaw(c: Call) -> Answered {
    set_frozen(c, false).await
}

async fn set_frozen(c: Call, frozen: bool) -> Answered {
    let request: FreezeRequest = c.body()?;
    c.json(&c.backend().freeze(frozen, request).await?)
}

pub(crate) async fn events(c: Call) -> Answered {
    let permit = place(&c)?;
    let feed = c.backend().feed();
    let follow = c.flag("follow");
    let accept = c
        .headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let sse = accept.contains("text/event-stream");
    // A browser that lost the stream says where it was.
    let resumed = c
        .headers
        .get("last-event-id")
        .and_then(|v| v.to_str().ok()?.parse().ok());
    let mut seen = c
        .number("after")
        .or(resumed)
        .unwrap_or(if follow { feed.last() } else { 0 });
    let (pieces, body) = stream::channel();
    let (api, mut stopping) = (c.api.clone(), c.api.stopping.clone());
    tokio::spawn(async move {
        let _permit = permit;
        api.meter.followers.fetch_add(1, Ordering::Relaxed);
        loop {
            let batch = if follow {
                tokio::select! {
                    batch = feed.next(seen, BATCH) => batch,
                    () = tokio::time::sleep(KEEP_ALIVE) => Vec::new(),
                    () = stopped(&mut stopping) => break,
                    () = pieces.closed() => break,
                }
            } else {
                feed.after(seen, BATCH)
            };
            if batch.is_empty() && !follow {
                break;
            }
            seen = batch.last().map_or(seen, |h| h.seq);
            if !pieces.send(lines(&batch, sse)).await {
                break;
            }
        }
        api.meter.followers.fetch_sub(1, Ordering::Relaxed);
    });
    Ok(typed(
        if sse {
            "text/event-stream"
        } else {
            "application/x-ndjson"
        },
        body,
    ))
}

fn lines(batch: &[Arc<Happening>], sse: bool) -> Vec<u8> {
    if batch.is_empty() {
        return if sse {
            b":\n\n".to_vec()
        } else {
            b"\n".to_vec()
        };
    }
    let mut out = Vec::new();
    for happening in batch {
        let text = serde_json::to_string(&**happening).unwrap_or_default();
        let line = match sse {
            true => format!(
                "id: {}\nevent: {}\ndata: {text}\n\n",
                happening.seq,
                happening.stage.as_str()
            ),
            false => format!("{text}\n"),
        };
        out.extend_from_slice(line.as_bytes());
    }
    out
}

/// A place among those that follow a stream.
fn place(c: &Call) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
    c.api.streams.clone().try_acquire_owned().map_err(|_| {
        Problem::unavailable(
            "too many clients follow a stream",
            "end one of them, or try again later",
        )
    })
}

pub(crate) async fn metrics(c: Call) -> Answered {
    let mut families = c.backend().metrics().await;
    families.extend(c.api.meter.families());
    Ok(typed(
        prometheus::MEDIA_TYPE,
        Body::from(prometheus::encode(&families)),
    ))
}

pub(crate) async fn healthz(c: Call) -> Answered {
    c.json(&json!({ "status": "ok" }))
}

pub(crate) async fn readyz(c: Call) -> Answered {
    let readiness = c.backend().readiness().await;
    let mut response = c.json(&readiness)?;
    if !readiness.ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

pub(crate) async fn openapi(c: Call) -> Answered {
    let document = document::document();
    let document =
        document.map_err(|e| Problem::new(Code::Internal, e.to_string(), "report this"))?;
    c.json(&document)
}

pub(crate) async fn page(_: Call) -> Answered {
    let mut response = typed("text/html; charset=utf-8", Body::from(html::HTML));
    if let Ok(policy) = HeaderValue::from_str(&html::policy()) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

fn typed(media: &'static str, body: Body) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static(media))],
        body,
    )
        .into_response()
}

/// The `limit` parameter; the table holds its bounds.
fn size(c: &Call, default: usize) -> usize {
    c.number("limit")
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(default)
}
