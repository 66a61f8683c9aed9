//! Endpoints on loopback: who gets in, what gets through, what is refused.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod support;

use hale_model::wire;
use hale_transport::{Config, Endpoint, Lane, Limits, Peer, Stream, TransportError};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_ask_and_answer_on_one_connection_each_way() {
    let members = roster(&[1, 2]);
    let (a, arrivals_a) = start(config(1, &members));
    let (b, arrivals_b) = start(config(2, &members));
    echo(arrivals_a);
    echo(arrivals_b);
    for i in 0..20u8 {
        let payload = vec![i; usize::from(i) * 9_000];
        assert_eq!(
            a.ask(peer(&b), Lane::Main, &frame(&payload), SOON)
                .await
                .unwrap(),
            frame(&payload)
        );
    }
    b.ask(peer(&a), Lane::Main, &frame(b"back"), SOON)
        .await
        .unwrap();
    // The way back uses the connection that was accepted.
    assert_eq!((a.counts().dialed, b.counts().dialed), (1, 0));
    b.ask(peer(&a), Lane::Bulk, &frame(b"snapshot"), SOON)
        .await
        .unwrap();
    assert_eq!((b.counts().dialed, b.open_connections()), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_arrive_with_their_sender_and_are_bounded() {
    let members = roster(&[1, 2]);
    let (a, _arrivals) = start(config(1, &members));
    let (b, mut arrivals) = start(config(2, &members));
    let largest = vec![9; hale_transport::MAX_DATAGRAM_BYTES - 1];
    a.datagram(peer(&b), 3, &largest).await.unwrap();
    let got = tokio::time::timeout(SOON, arrivals.datagrams.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (got.from, got.kind, got.payload),
        (a.node(), 3, largest.clone())
    );
    let over = [largest, vec![9]].concat();
    let refused = a.datagram(peer(&b), 3, &over).await.unwrap_err();
    assert!(
        matches!(refused, TransportError::DatagramTooLarge(1151)),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_on_no_roster_is_refused_on_both_sides() {
    let (a, _a) = start(config(1, &roster(&[1, 2])));
    let (stranger, _s) = start(config(9, &roster(&[1, 9])));
    // The stranger trusts us; we do not trust it. Its dial is over before it knows: a stream shows.
    let asked = stranger
        .ask(peer(&a), Lane::Main, &frame(b"hello"), SOON)
        .await;
    assert!(asked.is_err());
    until(|| a.counts().refused_keys == 1 && a.open_connections() == 0).await;
    // Whoever answers under another key than we dialed is not talked to.
    let wrong = Peer {
        node: key(2).node_id(),
        ..peer(&stranger)
    };
    assert!(matches!(
        a.link(wrong, Lane::Main).await,
        Err(TransportError::Unreachable { .. })
    ));
    assert_eq!(a.counts().refused_keys, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_does_not_finish_the_handshake() {
    let members = roster(&[1, 2]);
    let (a, _a) = start(config(1, &members));
    let (foreign, _f) = start(Config {
        cluster: 0xbad,
        ..config(2, &members)
    });
    assert!(foreign.link(peer(&a), Lane::Main).await.is_err());
    until(|| a.counts().refused_handshakes == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_too_large_of_another_cluster_or_cut_short_are_refused_and_counted() {
    let members = roster(&[1, 2]);
    let (a, _a) = start(Config {
        limits: Limits::default(),
        ..config(1, &members)
    });
    let (b, arrivals) = start(config(2, &members));
    echo(arrivals);
    let large = frame(&vec![0; (1 << 20) + 1]);
    assert!(a.ask(peer(&b), Lane::Main, &large, SOON).await.is_err());
    until(|| b.counts().frames_oversized == 1).await;
    let foreign = wire::frame(7, 0xbad, b"x").unwrap();
    let refused = a
        .ask(peer(&b), Lane::Main, &foreign, SOON)
        .await
        .unwrap_err();
    assert!(matches!(refused, TransportError::Frame(_)), "{refused}");
    let cut = &frame(b"hello")[..20];
    assert!(a.ask(peer(&b), Lane::Main, cut, SOON).await.is_err());
    // And the connection goes on.
    a.ask(peer(&b), Lane::Main, &frame(b"fine"), SOON)
        .await
        .unwrap();
    assert_eq!(a.counts().dialed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_port_disturbs_nobody() {
    let members = roster(&[1, 2]);
    let (a, _a) = start(config(1, &members));
    let (b, arrivals) = start(config(2, &members));
    echo(arrivals);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1u32;
    for len in 0..2_000 {
        let mut bytes = vec![0; len % 1400];
        for byte in &mut bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        let _ = socket.send_to(&bytes, b.local_addr().unwrap());
    }
    a.ask(peer(&b), Lane::Main, &frame(b"still here"), SOON)
        .await
        .unwrap();
    assert_eq!(b.open_connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_taken_off_the_roster_is_shut_out_at_once() {
    let members = roster(&[1, 2]);
    let (a, _a) = start(config(1, &members));
    let (b, arrivals) = start(config(2, &members));
    echo(arrivals);
    a.ask(peer(&b), Lane::Main, &frame(b"in"), SOON)
        .await
        .unwrap();
    members.lock().unwrap().retain(|n| *n != a.node());
    b.enforce_roster();
    assert_eq!(b.open_connections(), 0);
    until(|| a.open_connections() == 0).await;
    assert!(
        a.ask(peer(&b), Lane::Main, &frame(b"out"), SOON)
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_was_restarted_is_found_again_on_its_old_address() {
    let members = roster(&[1, 2]);
    let (a, _a) = start(config(1, &members));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let first = config(2, &members);
    let b = runtime.spawn(async move {
        let (b, arrivals) = start(first);
        echo(arrivals);
        b
    });
    let at = peer(&b.await.unwrap());
    a.ask(at, Lane::Main, &frame(b"one"), SOON).await.unwrap();
    // It dies without a word.
    runtime.shutdown_background();
    until(|| UdpSocket::bind(at.addr).is_ok()).await;
    let (_b, arrivals) = start(Config {
        bind: at.addr,
        ..config(2, &members)
    });
    echo(arrivals);
    let started = std::time::Instant::now();
    let wait = Duration::from_millis(300);
    while a.ask(at, Lane::Main, &frame(b"two"), wait).await.is_err() {
        // Well before the idle timeout: the restarted node's reset tells it.
        assert!(started.elapsed() < Duration::from_secs(6));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_that_failed_is_not_repeated_at_once() {
    let members = roster(&[1, 2]);
    let (a, _a) = start(Config {
        limits: Limits {
            handshake: Duration::from_millis(100),
            first_pause: Duration::from_secs(60),
            longest_pause: Duration::from_secs(60),
            ..Limits::default()
        },
        ..config(1, &members)
    });
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = Peer {
        node: key(2).node_id(),
        addr: nobody.local_addr().unwrap(),
    };
    assert!(matches!(
        a.link(at, Lane::Main).await,
        Err(TransportError::Unreachable { .. })
    ));
    assert!(matches!(
        a.link(at, Lane::Main).await,
        Err(TransportError::Pausing { .. })
    ));
    assert_eq!(a.counts().dial_failures, 1);
}

/// One that waits a minute for a handshake, and a peer that answers.
fn patient_and_its_peer() -> (Endpoint, Endpoint) {
    let members = roster(&[1, 2]);
    let (patient, _) = start(Config {
        limits: Limits {
            handshake: Duration::from_secs(60),
            ..Limits::default()
        },
        ..config(1, &members)
    });
    let (peer, arrivals) = start(config(2, &members));
    echo(arrivals);
    (patient, peer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_moved_is_reached_as_soon_as_it_calls() {
    let (a, b) = patient_and_its_peer();
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let before = Peer {
        addr: nobody.local_addr().unwrap(),
        ..peer(&b)
    };
    // That nothing was sent is told apart from that no answer came.
    let asked = a.ask(before, Lane::Main, &frame(b"one"), SOON / 10).await;
    assert!(
        matches!(asked, Err(TransportError::Unreachable { .. })),
        "{asked:?}"
    );
    assert_eq!(a.linked_at(b.node()), None);
    // Its dial still waits for an answer from where it was.
    let asker = a.clone();
    let asks = tokio::spawn(async move {
        let question = frame(b"two");
        asker.ask(before, Lane::Main, &question, SOON).await
    });
    b.link(peer(&a), Lane::Main).await.unwrap();
    assert!(asks.await.unwrap().is_ok());
    assert_eq!(a.linked_at(b.node()), Some(peer(&b).addr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_to_where_a_peer_was_does_not_hold_up_one_to_where_it_is() {
    let (a, b) = patient_and_its_peer();
    let nobody: Vec<_> = (0..6)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    let asks: Vec<_> = nobody
        .iter()
        .map(|was| {
            let before = Peer {
                addr: was.local_addr().unwrap(),
                ..peer(&b)
            };
            let asker = a.clone();
            tokio::spawn(async move { asker.link(before, Lane::Main).await.is_ok() })
        })
        .collect();
    tokio::task::yield_now().await;
    a.ask(peer(&b), Lane::Main, &frame(b"one"), SOON)
        .await
        .unwrap();
    for asked in asks {
        // Whoever waits for an answer from there is content with the connection too.
        assert!(asked.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_connections_are_bounded() {
    let members = roster(&[1, 2, 3, 4, 5]);
    let (a, arrivals) = start(Config {
        limits: Limits {
            connections: 2,
            ..Limits::default()
        },
        ..config(1, &members)
    });
    echo(arrivals);
    let mut others = vec![];
    for n in 2..=5 {
        let (other, _arrivals) = start(config(n, &members));
        other
            .ask(peer(&a), Lane::Main, &frame(b"hi"), SOON)
            .await
            .unwrap();
        others.push((other, _arrivals));
    }
    assert!(a.open_connections() <= 2);
    assert_eq!(a.counts().evicted, 2);
    // Who was evicted comes back by itself.
    others[0]
        .0
        .ask(peer(&a), Lane::Main, &frame(b"again"), SOON)
        .await
        .unwrap_or_default();
    others[0]
        .0
        .ask(peer(&a), Lane::Main, &frame(b"again"), SOON)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_plain_bytes_keeps_its_connection_busy() {
    let members = roster(&[1, 2, 3, 4]);
    let (a, _arrivals) = start(Config {
        limits: Limits {
            connections: 2,
            ..Limits::default()
        },
        ..config(1, &members)
    });
    let mut others = vec![];
    for n in 2..=4 {
        others.push(start(config(n, &members)));
    }
    let mut first = a.link(peer(&others[0].0), Lane::Main).await.unwrap();
    let mut stream = first.open().await.unwrap();
    stream.send(1, b"bytes follow").await.unwrap();
    let mut theirs = others[0].1.streams.recv().await.unwrap();
    assert_eq!(theirs.id(), stream.id());
    assert_eq!(
        theirs.recv().await.unwrap().unwrap().payload(),
        b"bytes follow"
    );
    let (read, mut write) = stream.into_halves();
    let (mut their_read, mut their_write) = theirs.into_halves();
    drop(read);
    // Half a stream is still a stream: the idle connections make room, this one stays.
    for (other, _) in &others[1..] {
        a.link(peer(other), Lane::Main).await.unwrap();
    }
    assert_eq!(a.counts().evicted, 1);
    write.write_all(b"no frame at all").await.unwrap();
    drop(write);
    let mut got = vec![];
    their_read.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"no frame at all");
    assert!(their_write.write_all(&[0; 64]).await.is_err());
    // Now nothing is open on it any more, and it makes room too.
    a.link(peer(&others[1].0), Lane::Main).await.unwrap();
    first = a.link(peer(&others[0].0), Lane::Main).await.unwrap();
    assert_eq!(a.counts().evicted, 3);
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_joins_only_while_it_may_and_both_ends_share_a_secret() {
    let open = Arc::new(AtomicBool::new(true));
    let (door, members) = (open.clone(), roster(&[1]));
    let mut with_door = config(1, &members);
    with_door.trust.joins = Arc::new(move || door.load(Ordering::Relaxed));
    let (a, mut arrivals) = start(with_door);
    let (stranger, _s) = start(Config {
        cluster: 0,
        ..config(9, &roster(&[]))
    });
    let link = stranger.join(a.local_addr().unwrap()).await.unwrap();
    assert_eq!(link.peer(), a.node());
    let mut stream = link.open().await.unwrap();
    stream.send(1, b"token").await.unwrap();
    let theirs: Stream = tokio::time::timeout(SOON, arrivals.streams.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (theirs.lane(), theirs.peer()),
        (Lane::Join, stranger.node())
    );
    assert_eq!(
        theirs.link().export(b"join").unwrap(),
        link.export(b"join").unwrap()
    );
    assert_ne!(
        link.export(b"join").unwrap(),
        link.export(b"other").unwrap()
    );
    // What it may say is little; what it is told may be a whole ledger.
    let mut theirs = theirs;
    let ledger = vec![7; 900 << 10];
    let (told, heard) = tokio::join!(theirs.send(2, &ledger), stream.recv());
    told.unwrap();
    assert_eq!(heard.unwrap().unwrap().payload(), ledger);
    // By the front door it does not come in.
    let (impostor, _i) = start(config(8, &roster(&[1, 8])));
    assert!(
        impostor
            .ask(peer(&a), Lane::Main, &frame(b"x"), SOON)
            .await
            .is_err()
    );
    open.store(false, Ordering::Relaxed);
    let (late, _l) = start(config(7, &roster(&[])));
    let shut = async {
        late.join(a.local_addr().unwrap())
            .await?
            .open()
            .await?
            .recv()
            .await
    };
    assert!(tokio::time::timeout(SOON, shut).await.unwrap().is_err());
}
