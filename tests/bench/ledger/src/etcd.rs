//! etcd's KV.Put over gRPC, by hand: one HTTP/2 connection, one stream for each request, as etcd's
//! own clients do.

use crate::load;
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;

const VALUE_BYTES: usize = 256;

/// Writes through the etcd at `addr`.
pub async fn client(addr: &str, clients: usize, time: Duration, file: &Path) {
    let tcp = TcpStream::connect(addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let (sender, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{addr}/etcdserverpb.KV/Put");
    let run = std::process::id();
    load::run(clients, time, file, move |client, n| {
        let key = format!("{run:08}/{client:03}/{n:010}");
        put(sender.clone(), uri.clone(), key)
    })
    .await;
}

/// `PutRequest { bytes key = 1; bytes value = 2; }` behind gRPC's five bytes.
fn framed(key: &str) -> Bytes {
    let mut message = BytesMut::new();
    message.put_slice(&[0x0a, key.len() as u8]);
    message.put_slice(key.as_bytes());
    message.put_slice(&[
        0x12,
        0x80 | (VALUE_BYTES & 0x7f) as u8,
        (VALUE_BYTES >> 7) as u8,
    ]);
    message.put_bytes(b'x', VALUE_BYTES);
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    frame.freeze()
}

async fn put(sender: SendRequest<Bytes>, uri: String, key: String) {
    let request = http::Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let mut sender = sender.ready().await.unwrap();
    let (answer, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(framed(&key), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0", "{trailers:?}");
}
