//! `http_check`: one request. Redirects are an answer, not followed; proxies are not asked.

use super::{MAX_TEXT_BYTES, Tried};
use crate::plan::cut;
use crate::run::ActionResult;
use reqwest::{Client, Method, Url};
use serde_json::{Value, json};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The client, made when it is first needed: the binary has chosen its TLS provider by then.
#[derive(Default)]
pub(super) struct Http(OnceLock<Client>);

impl Http {
    fn client(&self) -> Result<&Client, String> {
        if let Some(client) = self.0.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .user_agent("hale")
            .build()
            .map_err(|e| format!("no HTTP client can be made: {}", causes(&e)))?;
        Ok(self.0.get_or_init(|| client))
    }

    pub(super) async fn run(
        &self,
        url: &str,
        method: &str,
        expect_status: &[u16],
        expect_body: Option<&str>,
        timeout: Duration,
    ) -> Tried {
        let parsed = Url::parse(url).map_err(|e| format!("`{url}` is not a URL: {e}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(format!("`{url}` is neither http nor https"));
        }
        let method = match method {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            "POST" => Method::POST,
            other => return Err(format!("`{other}` is not one of GET, HEAD, POST")),
        };
        let begun = Instant::now();
        let answer = self
            .client()?
            .request(method, parsed)
            .timeout(timeout)
            .send()
            .await;
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(e) => {
                let message = format!("{url} does not answer: {}", causes(&e));
                return Ok(ActionResult::failed(Value::Null, message));
            }
        };
        let status = answer.status().as_u16();
        let mut body = vec![];
        while body.len() < MAX_TEXT_BYTES {
            match answer.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(e) => {
                    let message = format!("{url} broke off its answer: {}", causes(&e));
                    return Ok(ActionResult::failed(json!({"status": status}), message));
                }
            }
        }
        body.truncate(MAX_TEXT_BYTES);
        let body = String::from_utf8_lossy(&body).into_owned();
        let latency_ms = begun.elapsed().as_millis() as u64;
        let has_body = expect_body.is_none_or(|wanted| body.contains(wanted));
        let short = cut(&body, 200);
        let result = json!({"status": status, "body": body, "latency_ms": latency_ms});
        Ok(if !expect_status.contains(&status) {
            let message =
                format!("{url} answered {status}, expected is {expect_status:?}: {short}");
            ActionResult::failed(result, message)
        } else if !has_body {
            let wanted = expect_body.unwrap_or_default();
            ActionResult::failed(
                result,
                format!("{url} answered without `{wanted}`: {short}"),
            )
        } else {
            ActionResult::success(
                result,
                format!("{url} answered {status} in {latency_ms} ms"),
            )
        })
    }
}

/// An error with what caused it: the outermost alone says little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    cut(&text, 500)
}
