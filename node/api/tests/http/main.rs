//! The API over a real listener, asked with raw requests.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod client;
mod cluster;
mod fake;
mod forwarded;
mod hostile;
mod hostile_tests;
mod nouns;
mod schema;
mod streams;

use client::{Answer, TOKEN, node};
use nouns::{happening, incident_id};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

const APPROVAL: &str = "apr_20260212_112600_00000003";

/// The error's code, message and next.
fn error(answer: &Answer) -> (String, String, String) {
    error_in(&answer.json())
}

fn error_in(body: &Value) -> (String, String, String) {
    let part = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    assert!(
        !part("next").is_empty(),
        "every error names what to type next: {body}"
    );
    (part("code"), part("message"), part("next"))
}

#[tokio::test]
async fn without_the_token_nothing_but_health_and_the_page_is_answered() {
    let node = node().await;
    for route in hale_api::routes::ROUTES {
        let path = filled(route.path);
        let method = route.verb.as_str().to_uppercase();
        for token in [None, Some("wrong"), Some("")] {
            let answer = node.ask(&method, &path, token, "").await;
            let open = ["/healthz", "/readyz", "/openapi.json", "/"].contains(&route.path);
            assert_eq!(
                answer.status,
                if open { 200 } else { 401 },
                "{method} {path} {token:?}"
            );
            if !open {
                let (code, message, next) = error(&answer);
                assert_eq!(code, "unauthorized");
                assert!(message.contains("/var/lib/hale/api.token"), "{message}");
                assert!(next.contains("Bearer"), "{next}");
                assert!(answer.head.contains("www-authenticate: bearer"));
            }
        }
    }
}

/// A path of the table with its parts filled in.
fn filled(path: &str) -> String {
    path.replace("{host}", "db-01")
        .replace(
            "{series}",
            "system.disk_usage_percent%7Bmount=%22%2Fvar%22%7D",
        )
        .replace("{name}", "postgres_connection_pool_reset")
        .replace("{index}", "4")
        .replace("{node}", "db-01")
        .replace(
            "{id}",
            if path.contains("approvals") {
                APPROVAL
            } else {
                "inc_20260212_112600_00000007"
            },
        )
}

fn body_for(schema: &str) -> &'static str {
    match schema {
        "AnswerRequest" | "FreezeRequest" | "RemoveRequest" => r#"{"by":"ana","reason":"tested"}"#,
        "StatesRequest" => r#"{"series":["system.load_1m"]}"#,
        "ExcludeRequest" => {
            r#"{"by":"ana","from":"2026-02-12T11:00:00Z","until":"2026-02-12T12:00:00Z"}"#
        }
        "ByRequest" => r#"{"by":"ana"}"#,
        "TransferRequest" => r#"{"by":"ana","to":"db-01"}"#,
        "CreateTokenRequest" => r#"{"by":"ana","ttl_seconds":60,"uses":3}"#,
        "SetBudgetRequest" => r#"{"by":"ana","name":"web","service":"nginx","percent":20}"#,
        "RunRequest" => r#"{"by":"ana","dry_run":true,"params":{"idle_seconds":60}}"#,
        _ => "name: x",
    }
}

#[tokio::test]
async fn every_answer_has_the_shape_that_the_openapi_document_promises() {
    let node = node().await;
    node.fake.feed.tell(happening("one"));
    let document = node.get("/openapi.json").await.json();
    for route in hale_api::routes::ROUTES {
        let method = route.verb.as_str().to_uppercase();
        let body = route.body.map_or("", |b| body_for(b.schema));
        let answer = node
            .ask(&method, &filled(route.path), Some(TOKEN), body)
            .await;
        assert_eq!(answer.status, 200, "{method} {}: {answer:?}", route.path);
        let content =
            &document["paths"][route.path][route.verb.as_str()]["responses"]["200"]["content"];
        let (media, content) = content.as_object().unwrap().iter().next().unwrap();
        assert!(
            answer.head.contains(&format!("content-type: {media}")),
            "{}: {}",
            route.path,
            answer.head
        );
        if media == "application/json" {
            schema::check(&document, &content["schema"], &answer.json(), route.path);
        }
    }
    let event: Value = serde_json::from_str(node.get("/v1/events").await.text().trim()).unwrap();
    schema::check(
        &document,
        &json!({ "$ref": "#/components/schemas/Happening" }),
        &event,
        "event",
    );
    let missing = node.get("/v1/incidents/inc_x").await.json();
    schema::check(
        &document,
        &json!({ "$ref": "#/components/schemas/Error" }),
        &missing,
        "error",
    );
}

#[test]
fn every_route_is_in_the_openapi_document_and_the_other_way_round() {
    let document = hale_api::openapi_document().unwrap();
    let mut described: Vec<(String, String)> = vec![];
    for (path, methods) in document["paths"].as_object().unwrap() {
        described.extend(
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(|m| (path.clone(), m.clone())),
        );
    }
    let mut there: Vec<(String, String)> = hale_api::routes::ROUTES
        .iter()
        .map(|r| (r.path.to_owned(), r.verb.as_str().to_owned()))
        .collect();
    described.sort();
    there.sort();
    assert_eq!(described, there);
    schema::every_reference_leads_somewhere(&document);
}

#[tokio::test]
async fn an_unknown_query_parameter_is_named_with_those_that_are_known() {
    let node = node().await;
    let answer = node.get("/v1/incidents?stat=open").await;
    let (code, message, next) = error(&answer);
    assert_eq!((answer.status, code.as_str()), (400, "bad_request"));
    assert!(message.contains("`stat`"), "{message}");
    assert!(
        next.contains("state, service, limit, consistency"),
        "{next}"
    );
    for bad in [
        "state=shut",
        "limit=0",
        "limit=1001",
        "limit=many",
        "limit=1&limit=2",
        "consistency=maybe",
    ] {
        let answer = node.get(&format!("/v1/incidents?{bad}")).await;
        let name = bad.split('=').next().unwrap();
        assert_eq!(answer.status, 400, "{bad}");
        assert!(error(&answer).1.contains(&format!("`{name}`")), "{bad}");
    }
    assert_eq!(node.get("/v1/leases?x").await.status, 400);
    assert!(
        error(&node.get("/healthz?x=1").await)
            .2
            .contains("no query parameters")
    );
}

#[tokio::test]
async fn filters_reach_the_backend_typed() {
    let node = node().await;
    assert_eq!(
        node.get("/v1/incidents?state=all&service=nginx&limit=7&consistency=stale")
            .await
            .status,
        200
    );
    assert_eq!(
        node.get("/v1/audit/entries?from=3&kind=intent&incident=inc_1")
            .await
            .status,
        200
    );
    let heard = node.fake.heard.lock().unwrap().join("\n");
    for part in [
        "All",
        "nginx",
        "limit: 7",
        "Stale",
        "Some(3)",
        "Intent",
        "inc_1",
        "limit: 50",
    ] {
        assert!(heard.contains(part), "{part} in {heard}");
    }
}

#[tokio::test]
async fn baselines_are_found_by_series() {
    let node = node().await;
    let count = async |query: &str| {
        let answer = node
            .get(&format!("/v1/hosts/db-01/baselines{query}"))
            .await
            .json();
        answer["baselines"].as_array().unwrap().len()
    };
    assert_eq!(count("").await, 2);
    assert_eq!(count("?series=disk").await, 1);
    assert_eq!(count("?series=*%7Bmount=*").await, 1);
    assert_eq!(count("?limit=1").await, 1);
}

#[tokio::test]
async fn a_field_that_is_unknown_missing_or_wrong_is_named() {
    let node = node().await;
    let approve = format!("/v1/approvals/{APPROVAL}/approve");
    for (body, status, names) in [
        (r#"{"by":"ana","plan":"x"}"#, 422, "`plan`"),
        (r#"{"reason":"x"}"#, 422, "`by`"),
        (r#"{"by":7}"#, 422, "string"),
        (r#"{"by":""}"#, 422, "`by`"),
        (
            r#"{"by":"ana","plan_digest":"sha256:zz"}"#,
            422,
            "hexadecimal",
        ),
        (r#"{"by":"ana","by":"bob"}"#, 422, "`by`"),
        (r#"{"by":"#, 400, "EOF"),
        ("nonsense", 400, "expected"),
    ] {
        let answer = node.post(&approve, body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(
            error(&answer).1.contains(names),
            "{body}: {:?}",
            error(&answer)
        );
    }
    assert_eq!(node.post(&approve, "").await.status, 400);
}

#[tokio::test]
async fn an_answer_to_an_approval_comes_back_and_refusals_say_why() {
    let node = node().await;
    let path = format!("/v1/approvals/{APPROVAL}/deny");
    let answer = node
        .post(&path, r#"{"by":"ana","reason":"not now"}"#)
        .await
        .json();
    assert_eq!(
        (answer["state"].as_str(), answer["answered_by"].as_str()),
        (Some("denied"), Some("ana"))
    );
    let other = format!(
        r#"{{"by":"ana","plan_digest":"sha256:{}"}}"#,
        "0".repeat(64)
    );
    let changed = node.post(&path, &other).await;
    assert_eq!(
        (changed.status, error(&changed).0.as_str()),
        (409, "refused")
    );
    assert!(error(&changed).2.contains("hale approve"));
    assert_eq!(
        node.post("/v1/approvals/apr_none/deny", r#"{"by":"ana"}"#)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_body_over_a_mebibyte_is_refused_however_it_is_sent() {
    let node = node().await;
    let big = "x".repeat((1 << 20) + 1);
    let declared = node.post("/v1/playbooks/lint", &big).await;
    assert_eq!(
        (declared.status, error(&declared).0.as_str()),
        (413, "too_large")
    );
    // Chunked: no length is declared, it has to be counted.
    let head = format!(
        "POST /v1/playbooks/lint HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         authorization: Bearer {TOKEN}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunked = format!("{head}{:x}\r\n{big}\r\n0\r\n\r\n", big.len());
    let chunked = node.raw(chunked.as_bytes()).await;
    assert_eq!(
        (chunked.status, error(&chunked).0.as_str()),
        (413, "too_large")
    );
    let fits = node.post("/v1/playbooks/lint", &"x".repeat(1 << 20)).await;
    assert_eq!(fits.status, 200);
}

#[tokio::test]
async fn what_is_no_json_or_no_utf8_is_said_to_be_so() {
    let node = node().await;
    let send = async |path: &str, media: &str, body: &[u8]| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: {media}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        node.raw(&[head.as_bytes(), body].concat()).await
    };
    let form = send("/v1/freeze", "application/x-www-form-urlencoded", b"by=ana").await;
    assert_eq!(form.status, 415);
    assert!(error(&form).2.contains("application/json"));
    assert_eq!(
        send(
            "/v1/freeze",
            "application/json; charset=utf-8",
            br#"{"by":"ana"}"#
        )
        .await
        .status,
        200
    );
    let bytes = send("/v1/playbooks/lint", "application/yaml", b"name: \xff").await;
    assert_eq!(bytes.status, 400);
    assert!(error(&bytes).1.contains("byte 6"), "{bytes:?}");
}

#[tokio::test]
async fn a_head_without_end_and_headers_without_number_are_refused() {
    let node = node().await;
    let long = format!(
        "GET /v1/status HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "x".repeat(64 << 10)
    );
    assert!([400, 414, 431].contains(&node.raw(long.as_bytes()).await.status));
    let many: String = (0..200).map(|i| format!("x-{i}: 1\r\n")).collect();
    let many = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    assert_eq!(node.raw(many.as_bytes()).await.status, 431);
    assert_eq!(
        node.raw(b"\x16\x03\x01 not http at all\r\n\r\n")
            .await
            .status,
        400
    );
    assert_eq!(node.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_name_that_was_bent_to_loopback_is_not_answered_to() {
    let node = node().await;
    let with_host = async |host: &str| {
        let request = format!(
            "GET /v1/status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
        );
        node.raw(request.as_bytes()).await
    };
    for good in ["localhost", "127.0.0.1:7700", "[::1]:7700"] {
        assert_eq!(with_host(good).await.status, 200, "{good}");
    }
    for bad in ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.1"] {
        let answer = with_host(bad).await;
        assert_eq!(
            (answer.status, error(&answer).0.as_str()),
            (421, "misdirected"),
            "{bad}"
        );
    }
    let absolute =
        b"GET http://evil.example/healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(node.raw(absolute).await.status, 421);
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_told_as_json() {
    let node = node().await;
    let unknown = node.get("/v1/incident").await;
    assert_eq!(
        (unknown.status, error(&unknown).0.as_str()),
        (404, "not_found")
    );
    assert!(error(&unknown).2.contains("/openapi.json"));
    let wrong = node.ask("PUT", "/v1/freeze", Some(TOKEN), "").await;
    assert_eq!(
        (wrong.status, error(&wrong).0.as_str()),
        (405, "method_not_allowed")
    );
    assert!(
        wrong.head.contains("allow: ") && wrong.head.contains("delete"),
        "{}",
        wrong.head
    );
    let missing = node.get("/v1/incidents/inc_none").await;
    assert_eq!(missing.status, 404);
    assert!(error(&missing).2.contains("hale incidents"));
    assert_eq!(node.get("/v1/incidents/in%20c").await.status, 400);
    assert_eq!(node.get("/v1/audit/entries/-1").await.status, 400);
    let bytes = node.get("/v1/hosts/%00%ff/telemetry").await;
    assert_eq!(
        (bytes.status, error(&bytes).0.as_str()),
        (400, "bad_request")
    );
}

#[tokio::test]
async fn what_an_error_shows_of_a_request_can_not_steer_a_terminal() {
    let node = node().await;
    let answer = node.get("/v1/incidents?%1b%5b31m=1").await;
    assert!(!error(&answer).1.contains('\u{1b}'));
}

#[tokio::test]
async fn a_handler_that_panics_is_an_error_of_its_request_alone() {
    let node = node().await;
    let answer = node.get("/v1/hosts/panics/telemetry").await;
    assert_eq!(
        (answer.status, error(&answer).0.as_str()),
        (500, "internal")
    );
    assert_eq!(node.get("/v1/status").await.status, 200);
}

#[tokio::test]
async fn a_stale_answer_says_how_old_it_is() {
    let node = node().await;
    let stale = node.get("/v1/status?consistency=stale").await;
    assert!(
        stale.head.contains("hale-consistency: stale") && stale.head.contains("hale-age-ms: 250")
    );
    let fresh = node.get("/v1/status?consistency=linearizable").await;
    assert!(!fresh.head.contains("hale-age-ms"));
    assert!(fresh.head.contains("cache-control: no-store") && fresh.head.contains("nosniff"));
}

#[tokio::test]
async fn metrics_are_escaped_and_hold_the_api_s_own() {
    let node = node().await;
    node.get("/v1/status").await;
    node.get("/nowhere").await;
    let answer = node.get("/metrics").await;
    assert!(
        answer
            .head
            .contains("content-type: text/plain; version=0.0.4")
    );
    let text = answer.text();
    for line in [
        "# HELP hale_incidents_open Incidents \\\\ open\\nnow.",
        "# TYPE hale_incidents_open gauge",
        "hale_incidents_open{title=\"a \\\"quoted\\\" one\\nwith \\\\ a line\"} 2",
        "hale_http_requests_total{route=\"/v1/status\",status=\"200\"} 1",
        "hale_http_requests_total{route=\"none\",status=\"404\"} 1",
        "hale_http_request_duration_seconds_bucket{route=\"/v1/status\",le=\"+Inf\"} 1",
        "hale_http_request_duration_seconds_count{route=\"/v1/status\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let value = line.rsplit_once(' ').unwrap().1;
        assert!(
            value.parse::<f64>().is_ok() || ["NaN", "+Inf", "-Inf"].contains(&value),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_node_that_is_not_ready_says_what_is_missing() {
    let node = node().await;
    node.fake.ready.store(false, Ordering::SeqCst);
    let answer = node.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json(),
        json!({ "ready": false, "reasons": ["the ledger has no leader"] })
    );
    let answer = node
        .post("/v1/freeze", r#"{"by":"ana","reason":"no leader"}"#)
        .await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after"));
    assert!(error(&answer).2.contains("hale voters"));
}

#[tokio::test]
async fn the_page_runs_only_its_own_script() {
    let node = node().await;
    let page = node.ask("GET", "/", None, "").await;
    assert!(page.head.contains("content-type: text/html"));
    assert!(
        page.head
            .contains("content-security-policy: default-src 'none'; script-src 'sha256-")
    );
    let head = node.ask("HEAD", "/", None, "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(!page.text().contains(incident_id().as_str()));
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_with_what_to_do() {
    let node = node().await;
    let token = hale_api::Token::new("t", "f");
    let taken = hale_api::bind(hale_api::ApiConfig {
        listen: node.addr,
        token,
    })
    .await;
    assert!(taken.unwrap_err().to_string().contains("hale status"));
}
