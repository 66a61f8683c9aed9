//! Requests that another member forwarded.

use crate::fake::Fake;
use crate::nouns::happening;
use hale_api::{Internal, InternalAnswer, MAX_PIECE_BYTES};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

const LIMIT: usize = 1 << 20;

fn internal() -> (Internal, Arc<Fake>, watch::Sender<bool>) {
    let (stop, stopping) = watch::channel(false);
    let fake = Arc::new(Fake::default());
    (Internal::new(fake.clone(), stopping), fake, stop)
}

fn json(answer: &InternalAnswer) -> Value {
    assert_eq!(answer.content_type, "application/json");
    serde_json::from_slice(&answer.body).unwrap()
}

fn code(answer: &InternalAnswer) -> (u16, String) {
    (answer.status, crate::error_in(&json(answer)).0)
}

#[tokio::test]
async fn every_route_answers_a_member_as_it_answers_a_client() {
    let (internal, _, _stop) = internal();
    for route in hale_api::routes::ROUTES {
        let method = route.verb.as_str().to_uppercase();
        let body = route.body.map_or("", |b| crate::body_for(b.schema));
        let path = crate::filled(route.path);
        let answer = internal.call(&method, &path, body.into(), LIMIT).await;
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        let media = answer.content_type.split(';').next();
        assert_eq!(media, Some(route.answer.media), "{method} {path}");
    }
}

#[tokio::test]
async fn a_forwarded_write_reaches_the_backend_and_a_refusal_comes_back() {
    let (internal, fake, _stop) = internal();
    let post = async |path: &str, body: &str| internal.call("POST", path, body.into(), LIMIT).await;
    let answer = post("/v1/leave", r#"{"by":"ana","reason":"retired"}"#).await;
    assert_eq!(json(&answer)["removed"], true);
    assert!(fake.heard.lock().unwrap().join("").contains("retired"));
    let headless = post("/v1/freeze", r#"{"by":"ana","reason":"no leader"}"#).await;
    assert_eq!(code(&headless), (503, "unavailable".into()));
}

#[tokio::test]
async fn limits_and_checks_hold_for_members_too() {
    let (internal, _, _stop) = internal();
    let call = async |method: &str, path: &str, body: Vec<u8>| {
        code(&internal.call(method, path, body, LIMIT).await)
    };
    let big = vec![b'x'; (1 << 20) + 1];
    for (got, status, word) in [
        (
            call("GET", "/v1/incidents?stat=open", vec![]).await,
            400,
            "bad_request",
        ),
        (
            call("POST", "/v1/freeze", b"{\"by\":\"\"}".to_vec()).await,
            422,
            "invalid",
        ),
        (
            call("POST", "/v1/playbooks/lint", big).await,
            413,
            "too_large",
        ),
        (
            call("PUT", "/v1/freeze", vec![]).await,
            405,
            "method_not_allowed",
        ),
        (call("GET", "/nowhere", vec![]).await, 404, "not_found"),
        (
            call("GET", "/v1/hosts/panics/telemetry", vec![]).await,
            500,
            "internal",
        ),
        (
            call("GET", "http://evil.example/v1/status", vec![]).await,
            400,
            "bad_request",
        ),
        (call("GET", "", vec![]).await, 400, "bad_request"),
        (call("GET", "/v1/\n", vec![]).await, 400, "bad_request"),
        (call("G T", "/v1/status", vec![]).await, 400, "bad_request"),
        (
            call("GET", &"/x".repeat(1 << 16), vec![]).await,
            400,
            "bad_request",
        ),
    ] {
        assert_eq!(got, (status, word.into()));
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_an_error_and_not_a_part() {
    let (internal, _, _stop) = internal();
    let whole = internal.call("GET", "/v1/status", vec![], LIMIT).await;
    let exact = internal
        .call("GET", "/v1/status", vec![], whole.body.len())
        .await;
    assert_eq!(exact, whole);
    let less = internal
        .call("GET", "/v1/status", vec![], whole.body.len() - 1)
        .await;
    assert_eq!(code(&less), (413, "too_large".into()));
}

#[tokio::test]
async fn a_stream_comes_in_pieces_and_says_when_it_broke_off() {
    let (internal, fake, _stop) = internal();
    let (status, media, mut pieces) = internal.call_streaming("GET", "/v1/backup", vec![]).await;
    assert_eq!((status, media.as_str()), (200, "application/octet-stream"));
    assert_eq!(pieces.recv().await, Some(Ok(vec![0, 159, 146, 150])));
    assert_eq!(pieces.recv().await, None);

    fake.ready.store(false, Ordering::SeqCst);
    let (_, _, mut pieces) = internal
        .call_streaming("GET", "/v1/audit/export", vec![])
        .await;
    assert!(pieces.recv().await.unwrap().is_ok());
    let broken = pieces.recv().await.unwrap().unwrap_err();
    assert!(broken.contains("segment 3"), "{broken}");
    assert_eq!(pieces.recv().await, None);
    let cut = internal
        .call("GET", "/v1/audit/export", vec![], LIMIT)
        .await;
    assert_eq!(code(&cut), (500, "internal".into()));
}

#[tokio::test]
async fn a_large_piece_is_cut_to_what_a_frame_holds() {
    let (internal, _, _stop) = internal();
    let (_, _, mut pieces) = internal
        .call_streaming("GET", "/openapi.json", vec![])
        .await;
    let mut all = Vec::new();
    while let Some(piece) = pieces.recv().await {
        let piece = piece.unwrap();
        assert!(piece.len() <= MAX_PIECE_BYTES);
        all.extend(piece);
    }
    let whole = internal.call("GET", "/openapi.json", vec![], LIMIT).await;
    assert_eq!(all, whole.body);
}

#[tokio::test]
async fn a_follower_that_goes_leaves_its_place_and_a_node_that_stops_ends_it() {
    let (internal, fake, stop) = internal();
    let follow = "/v1/events?follow=true";
    // More than there are places for, one after the other.
    for _ in 0..100 {
        let free = async {
            while internal.call_streaming("GET", follow, vec![]).await.0 != 200 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), free)
            .await
            .unwrap();
    }
    let (status, media, mut pieces) = internal.call_streaming("GET", follow, vec![]).await;
    assert_eq!((status, media.as_str()), (200, "application/x-ndjson"));
    fake.feed.tell(happening("here"));
    let line = pieces.recv().await.unwrap().unwrap();
    assert!(String::from_utf8(line).unwrap().contains("\"here\""));
    stop.send(true).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(4), pieces.recv());
    assert_eq!(ended.await.unwrap(), None);
}
