//! The TCP listener that ractor_cluster insists on: nobody gets in, and it goes with the gateway.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use hale_gateway::{Gateway, GatewayError, Limits};
use hale_model::{NodeId, port::port};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// The ports on loopback, or anywhere, that this process listens on.
fn ports() -> Vec<(String, u16)> {
    let own: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let mut found = vec![];
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        for line in fs::read_to_string(table)
            .unwrap_or_default()
            .lines()
            .skip(1)
        {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (addr, port) = words[1].split_once(':').unwrap();
            let is_own = own.contains(&format!("socket:[{}]", words[9]));
            if words[3] == "0A" && is_own {
                found.push((addr.to_owned(), u16::from_str_radix(port, 16).unwrap()));
            }
        }
    }
    found
}

/// What a client that says this hears until the end.
fn says(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    // It may be closed before all is said.
    let _ = client.write_all(bytes);
    let mut heard = vec![];
    let _ = client.read_to_end(&mut heard);
    heard
}

/// A TLS 1.3 client's first message, as OpenSSL sends it (RFC 8446 section 4.1.2).
fn client_hello() -> Vec<u8> {
    let key_share = [&[0, 0x33, 0, 0x26, 0, 0x24, 0, 0x1d, 0, 0x20][..], &[9; 32]].concat();
    let extensions = [
        &[0, 0x2b, 0, 3, 2, 3, 4][..],
        &[0, 0x0a, 0, 4, 0, 2, 0, 0x1d],
        &[0, 0x0d, 0, 6, 0, 4, 8, 4, 4, 3],
        &key_share,
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[5; 32],
        &[0],
        &[0, 2, 0x13, 1],
        &[1, 0],
        &(extensions.len() as u16).to_be_bytes(),
        &extensions,
    ]
    .concat();
    let handshake = [&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat();
    [
        &[0x16, 3, 1][..],
        &(handshake.len() as u16).to_be_bytes(),
        &handshake,
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_by_tcp() {
    let start = || {
        let answer = port(|_| async { vec![] });
        Gateway::start(
            NodeId::from_bytes([1; 32]),
            [0; 32],
            answer,
            Limits::default(),
        )
    };
    let gateway = start().await.unwrap();
    assert!(matches!(start().await, Err(GatewayError::Second)));
    let open = ports();
    let [(addr, port)] = &open[..] else {
        panic!("{open:?}");
    };
    assert_eq!(addr, "0100007F", "127.0.0.1 as the kernel writes it");
    // A frame as ractor_cluster would send it without TLS, and a handshake with TLS.
    let plain = [
        &12u64.to_be_bytes()[..],
        &[0x0a, 10, 0x0a, 8, 0x0a, 6],
        b"a@host",
    ]
    .concat();
    for bytes in [plain, b"GET / HTTP/1.0\r\n\r\n".to_vec(), client_hello()] {
        let port = *port;
        let heard = tokio::task::spawn_blocking(move || says(port, &bytes))
            .await
            .unwrap();
        // At most an alert (RFC 8446 section 6), and nothing of the server's.
        let is_alert = heard.is_empty() || heard.len() == 7 && heard[0] == 0x15;
        assert!(is_alert, "{heard:x?}");
        assert_eq!((gateway.sessions(), gateway.counts().accepted), (0, 0));
    }
    gateway.stop().await;
    assert_eq!(ports(), []);
    let again = start().await.unwrap();
    assert_eq!(ports().len(), 1);
    again.stop().await;
}
