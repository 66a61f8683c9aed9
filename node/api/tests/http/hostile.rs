//! Requests of any kind, as a member forwards them: the same routes, checks and handlers as at the
//! listener. The fuzz target of the API is this file too.

use crate::fake::Fake;
use hale_api::Internal;
use hale_hostile::Parser;
use std::sync::Arc;
use tokio::sync::watch;

/// A line with the method and the path, then the body.
pub(crate) const REQUEST: Parser = Parser {
    name: "api_request",
    seeds: requests,
    feed: request,
};

const LIMIT: usize = 1 << 20;

fn requests() -> Vec<Vec<u8>> {
    [
        "GET /v1/incidents?state=all&service=nginx&limit=7&consistency=stale\n",
        "GET /v1/audit/entries?from=3&kind=intent&incident=inc_1\n",
        "GET /v1/hosts/db-01/telemetry\n",
        "GET /v1/hosts/db-01/baselines?series=system.cpu_percent%7Bcore=%220%22%7D\n",
        "POST /v1/freeze\n{\"by\":\"ana\",\"reason\":\"t\\u00e9sted\"}",
        "POST /v1/playbooks/postgres_connection_pool_reset/run\n{\"by\":\"ana\",\"dry_run\":true,\"params\":{\"idle_seconds\":60}}",
        "POST /v1/tokens\n{\"by\":\"ana\",\"ttl_seconds\":60,\"uses\":3}",
        "POST /v1/budgets\n{\"by\":\"ana\",\"name\":\"web\",\"service\":\"nginx\",\"percent\":20}",
        "POST /v1/playbooks/lint\nmetadata:\n  name: x\n",
        "GET /v1/events?follow=1\n",
        "GET /openapi.json\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Whatever is asked is answered, and never by a handler that gave up.
fn request(bytes: &[u8]) {
    let at = bytes
        .iter()
        .position(|b| *b == b'\n')
        .unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let body = bytes.get(at + 1..).unwrap_or_default().to_vec();
    let (method, path) = head.split_once(' ').unwrap_or(("GET", &head));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        // Streams end at once.
        let (_stop, stopping) = watch::channel(true);
        let internal = Internal::new(Arc::new(Fake::default()), stopping);
        let answer = internal.call(method, path, body, LIMIT).await;
        assert!((200..600).contains(&answer.status), "{answer:?}");
        // The fake backend has a host of that name.
        assert!(
            answer.status != 500 || path.contains("panics"),
            "{answer:?}"
        );
    });
}
