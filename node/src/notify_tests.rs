//! Notifications, as text and over a real socket.

use super::*;
use hale_model::ledger::{ApprovalState, EntryKind, Signed};
use hale_model::{ApprovalId, Digest, HostName, IncidentId, Keypair, PlaybookName, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn approval() -> Approval {
    let key = Keypair::from_seed(&[1; 32]);
    let at = Timestamp::from_secs(1_770_895_560);
    Approval {
        id: ApprovalId::at(at, 7),
        incident: IncidentId::at(at, 7),
        host: HostName::new("db-01").unwrap(),
        node: key.node_id(),
        playbook: PlaybookName::new("postgres_restart_service").unwrap(),
        version: "1.0.0".into(),
        plan_digest: Digest::of(b"plan"),
        plan: b"{}".to_vec(),
        rationale: "0.82 < 0.90 <!channel> & more".into(),
        confidence_ppm: 820_000,
        ttl_ms: 60_000,
        asked_at_ms: at.as_millis(),
        state: ApprovalState::Waiting,
        answered_by: None,
        entry: Signed::new(EntryKind::Approval, b"{}".to_vec(), &key),
    }
}

#[test]
fn a_message_names_the_next_command_and_calls_nobody_by_accident() {
    let text = text_of_approval(&approval());
    assert!(
        text.contains("`hale approve apr_20260212_112600_00000007`"),
        "{text}"
    );
    assert!(
        text.contains("0.82 &lt; 0.90 &lt;!channel&gt; &amp; more"),
        "{text}"
    );
    assert!(!text.contains("<!channel>"));
}

#[test]
fn a_long_message_is_cut_at_a_character() {
    let text = cut("ä".repeat(MAX_TEXT_CHARS + 10));
    assert_eq!(text.chars().count(), MAX_TEXT_CHARS + 1);
}

#[test]
fn waits_grow_are_jittered_and_have_an_end() {
    for attempt in 1..40 {
        let (longest, shortest) = (backoff(attempt, 0), backoff(attempt, u32::MAX));
        assert!(
            shortest * 2 == longest && longest <= LONGEST_WAIT,
            "{attempt}"
        );
        assert!(backoff(attempt + 1, 0) >= longest);
    }
    assert_eq!(backoff(1, 0), FIRST_WAIT);
}

#[test]
fn only_what_may_work_later_is_tried_again() {
    let of = |code| verdict(StatusCode::from_u16(code).unwrap(), None);
    assert_eq!(of(200), Sent::Done);
    assert!(
        [429, 500, 503]
            .iter()
            .all(|c| matches!(of(*c), Sent::Later { .. }))
    );
    assert!(
        [400, 403, 404, 410]
            .iter()
            .all(|c| matches!(of(*c), Sent::Never(_)))
    );
}

#[test]
fn a_url_that_can_not_be_used_is_told_without_its_secret() {
    let with = |url: Option<&str>, env: Option<&str>| {
        let config = NotifyConfig {
            webhook_url: url.map(str::to_owned),
            webhook_url_env: env.map(str::to_owned),
        };
        webhook(&config).map(|s| s.is_some())
    };
    assert!(!with(None, None).unwrap());
    assert!(with(Some("https://hooks.example/T0/s3cret"), None).unwrap());
    for (url, env) in [
        (Some("ftp://hooks.example/s3cret"), None),
        (Some("s3cret"), None),
        (None, Some("HALE_TEST_NO_SUCH_VARIABLE")),
        (Some("https://hooks.example/s3cret"), Some("X")),
    ] {
        assert!(!with(url, env).unwrap_err().to_string().contains("s3cret"));
    }
}

/// Answers one request with a status; returns its body.
async fn answer(listener: &TcpListener, status: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !request.ends_with(b"}") {
        let n = stream.read(&mut piece).await.unwrap();
        request.extend_from_slice(&piece[..n]);
    }
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: 0\r\nretry-after: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let text = String::from_utf8(request).unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn a_webhook_that_stumbles_hears_it_again() {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/services/s3cret", listener.local_addr().unwrap());
    let config = NotifyConfig {
        webhook_url: Some(url),
        webhook_url_env: None,
    };
    let notifier = Notifier::start(&config).unwrap();
    notifier.asked(&approval());
    let first = answer(&listener, "503 Service Unavailable").await;
    let second = answer(&listener, "200 OK").await;
    assert_eq!(first, second);
    let body: serde_json::Value = serde_json::from_str(&second).unwrap();
    assert!(body["text"].as_str().unwrap().contains("Waits for you"));
    // What waits when the node stops is tried once more.
    notifier.asked(&approval());
    let stopping = tokio::spawn(async move { notifier.stop(Duration::from_secs(5)).await });
    answer(&listener, "200 OK").await;
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_webhook_that_hangs_neither_blocks_nor_grows() {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let config = NotifyConfig {
        webhook_url: Some(url),
        webhook_url_env: None,
    };
    let notifier = Notifier::start(&config).unwrap();
    for _ in 0..QUEUE * 2 {
        notifier.asked(&approval());
    }
    let dropped = notifier.0.as_ref().unwrap().dropped.load(Ordering::Relaxed);
    assert!(dropped as usize >= QUEUE - 1, "{dropped}");
    notifier.stop(Duration::from_millis(200)).await;
}
