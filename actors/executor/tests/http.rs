//! HTTP checks against a small server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use hale_executor::actions::Level;
use hale_executor::{ActionResult, ExecutorConfig};
use hale_model::StepStatus;
use hale_playbooks::language::Action;
use std::time::{Duration, Instant};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers each request by its path.
async fn server() -> u16 {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let n = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..n]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let answer = match path.as_str() {
                    "/fine" => "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall fine".into(),
                    "/away" => {
                        "HTTP/1.1 302 Found\r\nLocation: /fine\r\nContent-Length: 0\r\n\r\n".into()
                    }
                    "/flood" => {
                        let body = "x".repeat(1 << 20);
                        format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        )
                    }
                    "/hang" => return tokio::time::sleep(Duration::from_secs(60)).await,
                    _ => "HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy".to_owned(),
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    port
}

fn check(url: &str, expect_body: Option<&str>) -> Action {
    Action::HttpCheck {
        url: text(url),
        method: "GET".into(),
        expect_status: vec![200],
        expect_body: expect_body.map(Into::into),
    }
}

async fn get(url: &str, body: Option<&str>) -> ActionResult {
    act(&tools(ExecutorConfig::default()), check(url, body)).await
}

#[tokio::test]
async fn status_and_body_are_what_is_judged() {
    let at = format!("http://127.0.0.1:{}", server().await);
    assert_eq!(
        get(&format!("{at}/fine"), Some("fine")).await.status,
        StepStatus::Success
    );
    let r = get(&format!("{at}/fine"), Some("perfect")).await;
    assert!(
        r.status == StepStatus::Failed && r.message.contains("without `perfect`"),
        "{r:?}"
    );
    let r = get(&format!("{at}/down"), None).await;
    assert!(
        r.status == StepStatus::Failed && r.message.contains("503"),
        "{r:?}"
    );
    assert_eq!(r.result["status"], 503);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let at = format!("http://127.0.0.1:{}/away", server().await);
    assert_eq!(number(&get(&at, None).await, "status"), 302);
}

#[tokio::test]
async fn a_flood_is_cut() {
    let r = get(&format!("http://127.0.0.1:{}/flood", server().await), None).await;
    assert_eq!(r.status, StepStatus::Success);
    assert_eq!(r.result["body"].as_str().unwrap().len(), 64 << 10);
}

#[tokio::test]
async fn what_is_no_web_address_or_does_not_answer_is_a_clear_error() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let _ = server().await;
    let r = get(&format!("http://127.0.0.1:{free}/"), None).await;
    assert!(
        r.message.contains("does not answer") && r.message.contains("refused"),
        "{}",
        r.message
    );
    for bad in ["file:///etc/passwd", "nonsense", "ftp://x/"] {
        assert_eq!(get(bad, None).await.status, StepStatus::Failed, "{bad}");
    }
}

#[tokio::test]
async fn a_request_that_hangs_ends_when_it_is_told_to() {
    let url = format!("http://127.0.0.1:{}/hang", server().await);
    let tools = tools(ExecutorConfig::default());
    let (tell, stop) = stop();
    let begun = Instant::now();
    let context = context();
    let work = tools.perform(&context, perform(check(&url, None), env()), stop);
    let end = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        tell.send(Level::Gently).unwrap();
    };
    let (r, ()) = tokio::join!(work, end);
    assert_eq!(r.status, StepStatus::Interrupted);
    assert!(begun.elapsed() < Duration::from_secs(5));
}
