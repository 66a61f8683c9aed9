//! Answers that come piece by piece.

use crate::client::{Node, TOKEN, node};
use crate::nouns::happening;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

async fn follow(node: &Node, accept: &str) -> BufReader<tokio::net::TcpStream> {
    let mut stream = node.connect().await;
    let request = format!(
        "GET /v1/events?follow HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\naccept: {accept}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reader = BufReader::new(stream);
    assert!(until(&mut reader, "200").await.contains("200"));
    // The head ends before anything happens.
    until(&mut reader, "\r\n").await;
    reader
}

/// Reads lines until one holds `what`.
async fn until(reader: &mut BufReader<tokio::net::TcpStream>, what: &str) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        let read = tokio::time::timeout(Duration::from_secs(10), reader.read_line(&mut line));
        assert_ne!(
            read.await.expect("something comes").unwrap(),
            0,
            "the stream ended before {what}"
        );
        if line.contains(what) {
            return line;
        }
    }
}

#[tokio::test]
async fn a_follower_hears_what_happens_as_it_happens() {
    let node = node().await;
    node.fake.feed.tell(happening("before"));
    let mut lines = follow(&node, "*/*").await;
    let mut events = follow(&node, "text/event-stream").await;
    node.fake.feed.tell(happening("after"));
    let line = until(&mut lines, "seq").await;
    let told: hale_model::Happening = serde_json::from_str(&line).unwrap();
    assert_eq!((told.seq, told.text.as_str()), (2, "after"));
    assert_eq!(until(&mut events, "id: ").await, "id: 2\n");
    assert!(until(&mut events, "data: ").await.contains("\"after\""));
    assert_eq!(
        node.get("/v1/events?after=1").await.text().lines().count(),
        1
    );
    assert_eq!(node.get("/v1/events").await.text().lines().count(), 2);
}

#[tokio::test]
async fn a_node_that_stops_ends_its_followers_and_closes_its_port() {
    let node = node().await;
    let mut lines = follow(&node, "*/*").await;
    node.stop.send(true).unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(4), lines.read_to_end(&mut rest));
    ended.await.expect("the stream ends").unwrap();
    tokio::time::timeout(Duration::from_secs(4), node.served)
        .await
        .unwrap()
        .unwrap();
    assert!(tokio::net::TcpStream::connect(node.addr).await.is_err());
}

/// All that the node sends until it closes, the chunks' frames too.
pub(crate) async fn to_the_end(node: &Node, path: &str) -> Vec<u8> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    );
    let mut stream = node.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.ok();
    all
}

#[tokio::test]
async fn an_export_that_breaks_off_does_not_look_whole() {
    let node = node().await;
    let read = async || to_the_end(&node, "/v1/audit/export").await;
    assert!(
        read().await.ends_with(b"0\r\n\r\n"),
        "a whole export has its last chunk"
    );
    node.fake.ready.store(false, Ordering::SeqCst);
    assert!(!read().await.ends_with(b"0\r\n\r\n"));
}
