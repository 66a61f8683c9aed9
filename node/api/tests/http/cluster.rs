//! What operators ask of the cluster.

use crate::client::node;
use crate::error;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn what_is_asked_of_the_cluster_reaches_the_backend_whole() {
    let node = node().await;
    for (method, path, body) in [
        ("POST", "/v1/tokens", r#"{"by":"ana"}"#),
        ("DELETE", "/v1/tokens/tok_1", r#"{"by":"ana"}"#),
        ("POST", "/v1/leave", r#"{"by":"ana","reason":"retired"}"#),
        ("POST", "/v1/leader/transfer", r#"{"by":"ana"}"#),
        ("DELETE", "/v1/budgets/web", r#"{"by":"bob"}"#),
    ] {
        let answer = node.ask(method, path, Some(crate::TOKEN), body).await;
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
    }
    let heard = node.fake.heard.lock().unwrap().join("\n");
    for part in [
        r#"CreateTokenRequest { ttl_seconds: 3600, uses: 1, by: "ana" }"#,
        r#"tok_1 ByRequest { by: "ana" }"#,
        r#"RemoveRequest { by: "ana", reason: "retired" }"#,
        r#"TransferRequest { to: None, by: "ana" }"#,
        r#"web ByRequest { by: "bob" }"#,
    ] {
        assert!(heard.contains(part), "{part} in {heard}");
    }
}

#[tokio::test]
async fn a_member_is_removed_by_its_host_or_by_digits_of_its_key() {
    let node = node().await;
    let digits = node.get("/v1/members").await.json()["members"][0]["node"]
        .as_str()
        .unwrap()[..8]
        .to_owned();
    let remove = async |who: &str| {
        let path = format!("/v1/members/{who}/remove");
        node.post(&path, r#"{"by":"ana"}"#).await
    };
    for who in ["db-01", &digits] {
        assert_eq!(remove(who).await.json()["removed"], true, "{who}");
    }
    let short = remove(&digits[..7]).await;
    assert_eq!((short.status, error(&short).0.as_str()), (404, "not_found"));
    assert!(error(&short).2.contains("hale members"));
    assert_eq!(remove("a%20b").await.status, 400);
}

#[tokio::test]
async fn limits_of_the_cluster_s_requests_are_kept_and_named() {
    let node = node().await;
    for (path, body, names) in [
        (
            "/v1/tokens",
            r#"{"by":"ana","ttl_seconds":0}"#,
            "`ttl_seconds`",
        ),
        ("/v1/tokens", r#"{"by":"ana","uses":1001}"#, "`uses`"),
        ("/v1/tokens", r#"{"by":""}"#, "`by`"),
        ("/v1/budgets", r#"{"by":"ana","name":"web"}"#, "exactly one"),
        (
            "/v1/budgets",
            r#"{"by":"ana","name":"web","at_most":1,"percent":5}"#,
            "exactly one",
        ),
        (
            "/v1/budgets",
            r#"{"by":"ana","name":"web","percent":101}"#,
            "`percent`",
        ),
        (
            "/v1/budgets",
            r#"{"by":"ana","name":"a b","at_most":1}"#,
            "`a b`",
        ),
        ("/v1/leader/transfer", r#"{"by":"ana","to":"a b"}"#, "a b"),
        ("/v1/leave", r#"{"by":"ana","force":true}"#, "`force`"),
    ] {
        let answer = node.post(path, body).await;
        assert_eq!(answer.status, 422, "{path} {body}: {answer:?}");
        let message = error(&answer).1;
        assert!(message.contains(names), "{body}: {message}");
    }
    let strange = node
        .ask(
            "DELETE",
            "/v1/tokens/a%1bb",
            Some(crate::TOKEN),
            r#"{"by":"ana"}"#,
        )
        .await;
    assert_eq!(strange.status, 422);
    assert!(!error(&strange).1.contains('\u{1b}'));
}

#[tokio::test]
async fn a_backup_comes_as_bytes_and_does_not_look_whole_when_it_breaks_off() {
    let node = node().await;
    let whole = node.get("/v1/backup").await;
    assert!(
        whole
            .head
            .contains("content-type: application/octet-stream")
    );
    assert_eq!(whole.body, [0, 159, 146, 150]);
    node.fake.ready.store(false, Ordering::SeqCst);
    let raw = crate::streams::to_the_end(&node, "/v1/backup").await;
    assert!(!raw.ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn a_token_s_secret_is_not_in_a_log() {
    let told = format!("{:?}", crate::nouns::new_token());
    assert!(
        told.contains("tok_1") && !told.contains("a-secret"),
        "{told}"
    );
}
