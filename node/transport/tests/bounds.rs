//! What one peer, or all strangers together, can make a node keep.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod support;

use hale_model::wire;
use hale_transport::{Arrivals, Config, Endpoint, Lane, Limits};
use std::sync::Arc;
use std::time::Duration;
use support::*;
use tokio::io::AsyncWriteExt;

/// Another connection under a member's key.
async fn member_of(a: &Endpoint, n: u8, members: &Roster) -> (Endpoint, Arrivals) {
    let (member, arrivals) = start(config(n, members));
    member
        .ask(peer(a), Lane::Main, &frame(b"hi"), SOON)
        .await
        .unwrap();
    (member, arrivals)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_dials_again_and_again_pushes_out_its_own_connections_alone() {
    let members = roster(&[1, 2, 3]);
    let (a, arrivals) = start(Config {
        limits: Limits {
            connections: 8,
            ..Limits::default()
        },
        ..config(1, &members)
    });
    echo(arrivals);
    let (honest, _h) = member_of(&a, 3, &members).await;
    // Each endpoint of its own is one more connection under the same key.
    let mut greedy = vec![];
    for _ in 0..12 {
        greedy.push(member_of(&a, 2, &members).await);
    }
    let of_one = Limits::default().of_one_peer;
    until(|| a.open_connections() == 1 + of_one).await;
    assert_eq!(a.counts().evicted, 12 - of_one as u64);
    honest
        .ask(peer(&a), Lane::Main, &frame(b"still here"), SOON)
        .await
        .unwrap();
    assert_eq!(honest.counts().dialed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_little_and_push_out_one_another_alone() {
    let members = roster(&[1, 2]);
    let mut open = config(1, &members);
    open.trust.joins = Arc::new(|| true);
    open.limits.of_strangers = 3;
    let (a, arrivals) = start(open);
    echo(arrivals);
    let (honest, _h) = member_of(&a, 2, &members).await;
    let mut strangers = vec![];
    for n in 50..60 {
        let (stranger, arrivals) = start(Config {
            cluster: 0,
            limits: Limits::default(),
            ..config(n, &roster(&[]))
        });
        let link = stranger.join(a.local_addr().unwrap()).await.unwrap();
        strangers.push((stranger, arrivals, link));
    }
    until(|| a.open_connections() == 1 + 3).await;
    let link = &strangers.last().unwrap().2;
    let mut large = link.open().await.unwrap();
    let limit = Limits::default().stranger_frame_bytes;
    // It is refused by its header, before it has come.
    let _ = large.send(7, &vec![0; limit + 1]).await;
    until(|| a.counts().frames_oversized == 1).await;
    let mut small = link.open().await.unwrap();
    small.send(7, &vec![0; limit]).await.unwrap();
    assert_eq!(small.recv().await.unwrap().unwrap().payload().len(), limit);
    // Streams that are never finished: the fifth has to wait.
    let mut open = vec![];
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), link.open()).await {
        let stream = stream.unwrap();
        let (read, mut write) = stream.into_halves();
        let begun = wire::frame(7, 0, &vec![0; limit]).unwrap();
        write.write_all(&begun[..100]).await.unwrap();
        open.push((read, write));
        assert!(open.len() <= 4, "a stranger has {} streams", open.len());
    }
    honest
        .ask(peer(&a), Lane::Main, &frame(b"still here"), SOON)
        .await
        .unwrap();
    assert_eq!(honest.counts().dialed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_begins_many_large_frames_has_room_for_one() {
    let members = roster(&[1, 2, 3]);
    let (a, mut arrivals) = start(config(1, &members));
    let (greedy, _g) = start(config(2, &members));
    let large = frame(&vec![9; 1 << 20]);
    let link = greedy.link(peer(&a), Lane::Main).await.unwrap();
    let mut begun = vec![];
    for _ in 0..20 {
        let (read, mut write) = link.open().await.unwrap().into_halves();
        write.write_all(&large[..100_000]).await.unwrap();
        begun.push((read, write));
    }
    let mut taken = vec![];
    for _ in 0..20 {
        let mut stream = arrivals.streams.recv().await.unwrap();
        taken.push(tokio::spawn(async move { stream.recv().await.map(drop) }));
    }
    // What is small still gets through, and so does what is large from others.
    let mut small = link.open().await.unwrap();
    small.send(7, b"small").await.unwrap();
    let mut stream = arrivals.streams.recv().await.unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap().payload(), b"small");
    let (other, _o) = start(config(3, &members));
    let asked = tokio::spawn(async move {
        let link = other.link(peer(&a), Lane::Main).await.unwrap();
        link.open()
            .await
            .unwrap()
            .send_frame(&large)
            .await
            .map(|()| other)
    });
    let mut stream = arrivals.streams.recv().await.unwrap();
    assert_eq!(
        stream.recv().await.unwrap().unwrap().payload().len(),
        1 << 20
    );
    asked.await.unwrap().unwrap();
    // The first ends without its end, and the next has its room.
    drop(begun);
    for one in taken {
        assert!(
            tokio::time::timeout(SOON, one)
                .await
                .unwrap()
                .unwrap()
                .is_err()
        );
    }
}
