//! By strangers that speak TLS: with a key on no roster, with and without a token.

use super::fleet::Fleet;
use super::forged::{HELLO, endpoint, hello, join, key, say};
use super::{HANDSHAKE, JOIN, KEY, MALFORMED, OVERSIZED, runtime};
use hale_membership::join::{Answer, EXPORT_LABEL, JoinToken, Rejection};
use hale_model::wire;
use hale_tests::alone;
use hale_transport::{Lane, Link, Peer};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Tries to get in by the lanes of members; whether anything was answered there.
async fn knock(cluster: u64, peer: Peer) -> bool {
    let mut answered = false;
    for n in 0..10 {
        let (stranger, _arrivals) = endpoint(&key(100 + n), cluster);
        for lane in [Lane::Main, Lane::Bulk] {
            let frame = wire::frame(hale_consensus::REQUEST, cluster, &[7]).unwrap();
            let asked = stranger
                .ask(peer, lane, &frame, Duration::from_secs(2))
                .await;
            answered |= asked.is_ok();
        }
    }
    answered
}

#[test]
fn where_there_is_no_token_no_stranger_ends_a_handshake() {
    let _alone = alone();
    let mut fleet = Fleet::of_one();
    let (cluster, node, addr) = (fleet.number(), fleet.nodes()[0], fleet.hosts[0].udp);
    let peer = Peer { node, addr };
    fleet.withstands("unknown keys, no token", &[(KEY, 20)], || {
        assert!(!runtime().block_on(knock(cluster, peer)));
    });
    fleet.withstands("the lane of strangers, no token", &[(KEY, 1)], || {
        let came_in = runtime().block_on(async {
            let (stranger, _arrivals) = endpoint(&key(9), 0);
            match stranger.join(addr).await {
                Ok(link) => say(&link, HELLO, b"let me in").await.is_some(),
                Err(_) => false,
            }
        });
        assert!(!came_in);
    });
}

fn rejected(answer: Option<Answer>) -> Rejection {
    match answer {
        Some(Answer::Rejected(why)) => why,
        other => panic!("not rejected: {other:?}"),
    }
}

async fn stranger(n: u8, at: SocketAddr) -> (Link, Box<dyn std::any::Any + Send>) {
    let (endpoint, arrivals) = endpoint(&key(n), 0);
    let link = endpoint.join(at).await.unwrap();
    (link, Box::new((endpoint, arrivals)))
}

/// Hellos that lack the right proof, or are none.
async fn lie(at: SocketAddr, token: &str) {
    let right: JoinToken = token.parse().unwrap();
    let (link, _kept) = stranger(50, at).await;
    let own = link.export(EXPORT_LABEL).unwrap();
    let wrong = JoinToken::new(right.id.clone(), [7; 32]);
    let why = rejected(say(&link, HELLO, &hello(&wrong, "x", &own)).await);
    assert!(matches!(why, Rejection::WrongSecret(_)), "{why}");
    let unknown = JoinToken::new("tok_nosuch", [7; 32]);
    let why = rejected(say(&link, HELLO, &hello(&unknown, "x", &own)).await);
    assert!(matches!(why, Rejection::UnknownToken(_)), "{why}");
    // Said on another connection: what an eavesdropper or a false seed could say again.
    let (other, _kept) = stranger(51, at).await;
    let overheard = hello(&right, "x", &own);
    let why = rejected(say(&other, HELLO, &overheard).await);
    assert!(matches!(why, Rejection::WrongSecret(_)), "{why}");
    for bytes in [&[][..], &[0xff; 300], &overheard[..overheard.len() - 1]] {
        let (link, _kept) = stranger(52, at).await;
        let why = rejected(say(&link, HELLO, bytes).await);
        assert!(matches!(why, Rejection::Refused(_)), "{why}");
    }
    let (link, _kept) = stranger(53, at).await;
    assert!(say(&link, 0x31, b"not a hello").await.is_none());
}

/// Bytes that are no frame, or one that may not come.
async fn babble(at: SocketAddr) {
    let (link, _kept) = stranger(60, at).await;
    let mut large = wire::frame(HELLO, 0, b"").unwrap();
    large[14..18].copy_from_slice(&(16u32 << 20).to_be_bytes());
    for bytes in [&large[..], b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let (_read, mut write) = link.open().await.unwrap().into_halves();
        let _ = write.write_all(bytes).await;
        let _ = write.shutdown().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Many that begin to speak and go on and on, a byte at a time; meanwhile a host that has a token
/// comes.
async fn dawdle(at: SocketAddr, token: &str) {
    let mut kept = vec![];
    let mut writes = vec![];
    for n in 0..40 {
        let (link, keep) = stranger(150 + n, at).await;
        for _ in 0..3 {
            let Ok(stream) = link.open().await else { break };
            let (read, mut write) = stream.into_halves();
            let mut begun = wire::frame(HELLO, 0, &[0; 1]).unwrap();
            begun[14..18].copy_from_slice(&(60u32 << 10).to_be_bytes());
            let _ = write.write_all(&begun).await;
            writes.push((read, write));
        }
        kept.push((link, keep));
    }
    let slow = tokio::spawn(async move {
        for _ in 0..70 {
            for (_, write) in &mut writes {
                let _ = write.write_all(&[0; 400]).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let welcome = join(at, token, "punctual", &key(42)).await;
    assert_ne!(welcome.cluster, 0);
    slow.await.unwrap();
}

#[test]
fn strangers_get_in_with_a_token_and_never_otherwise() {
    let _alone = alone();
    let mut fleet = Fleet::of_three();
    let (cluster, token, at) = (fleet.number(), fleet.token(), fleet.hosts[1].udp);
    let peer = Peer {
        node: fleet.nodes()[1],
        addr: at,
    };
    let runtime = runtime();
    fleet.withstands("unknown keys on the lanes of members", &[(KEY, 20)], || {
        assert!(!runtime.block_on(knock(cluster, peer)));
    });
    fleet.withstands("another cluster's lanes", &[(HANDSHAKE, 20)], || {
        assert!(!runtime.block_on(knock(cluster ^ 1, peer)));
    });
    fleet.withstands("hellos without the right proof", &[(JOIN, 7)], || {
        runtime.block_on(lie(at, &token));
    });
    fleet.withstands(
        "what is no frame for strangers",
        &[(OVERSIZED, 1), (MALFORMED, 1), (JOIN, 2)],
        || {
            runtime.block_on(babble(at));
        },
    );
    fleet.withstands("120 hellos that never end", &[(JOIN, 60)], || {
        runtime.block_on(dawdle(at, &token));
    });
}
