//! By a member of the cluster that lies. Its key is on the roster; it has no vote.

use super::fleet::{Fleet, host};
use super::forged::{EXCHANGE, Liar, Reply, Request, SOON, join, key};
use super::{
    FOREIGN, IDENTITIES, LEDGER, MALFORMED, MEMBERS, OVERSIZED, PACKETS, PROFILES, SESSIONS,
    UNKNOWN, VERSION, runtime,
};
use hale_membership::{Contact, Effect, Event, Membership, Profile, Settings, Tuning};
use hale_model::ledger::{Acquire, Answer, Command, Disposition, EntryKind, Scope, Signed};
use hale_model::{
    Digest, ExecutionId, Fence, Keypair, NodeId, OutcomeStatus, PlaybookName, Signature, canonical,
    wire,
};
use hale_tests::alone;
use hale_transport::{Lane, Peer};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// What only a leader or a candidate may say, of one node's.
fn raft_requests(by: u64, term: u64) -> Vec<Request> {
    let (me, end) = ((term, by), Some(((term, by), 1 << 40)));
    let nobody = (None, (None, vec![], vec![]), "forged".to_owned());
    vec![
        Request::Vote((me, false), end),
        Request::Vote((me, false), None),
        Request::Append((me, true), None, vec![], end),
        Request::Append((me, false), end, vec![], end),
        Request::Snapshot((me, true), nobody, 0, vec![7; 1 << 16], true),
    ]
}

async fn usurp(liar: &Liar, term: u64) {
    for peer in &liar.peers {
        for by in [liar.node(), liar.peers[0].node, liar.peers[1].node] {
            for term in [term, term + 1, term + 1000, u64::MAX] {
                for request in raft_requests(by.raft_id(), term) {
                    let reply = liar.ask(*peer, &request).await;
                    assert!(matches!(reply, Some(Reply::Unable(_)) | None), "{reply:?}");
                }
            }
        }
        liar.ask(*peer, &Request::TakeOver).await;
    }
}

fn signed(kind: EntryKind, body: serde_json::Value, key: &Keypair) -> Signed {
    Signed::new(kind, canonical::to_bytes(&body).unwrap(), key)
}

/// What the liar may not forward: what only another may say.
fn of_others(liar: &Keypair, victim: NodeId) -> Vec<Command> {
    let mut intent = signed(
        EntryKind::Intent,
        serde_json::json!({ "what": "forged" }),
        liar,
    );
    let stranger = key(200).node_id();
    let enrolment = signed(
        EntryKind::Enrolment,
        serde_json::json!({ "node": stranger }),
        liar,
    );
    let acquire = |entry: &Signed| {
        Command::Acquire(Acquire {
            scope: Scope::Custom("forged".into()),
            holder: victim,
            ttl_ms: 60_000,
            execution: ExecutionId::new("exe_forged").unwrap(),
            plan_digest: Digest::of(b"plan"),
            playbook: PlaybookName::new("restart").unwrap(),
            service: None,
            approval: None,
            entry: entry.clone(),
        })
    };
    let own_entry = acquire(&intent);
    intent.signer = victim;
    vec![
        own_entry,
        acquire(&intent),
        Command::Expire {
            fence: Fence(1),
            generation: 0,
        },
        Command::Renew {
            fence: Fence(1),
            holder: victim,
            ttl_ms: 60_000,
        },
        Command::Services {
            node: victim,
            services: vec![],
        },
        Command::Rules { version: u32::MAX },
        Command::Enrol {
            node: stranger,
            host: host("forged"),
            entry: enrolment,
        },
        Command::Append {
            entry: Signed {
                signer: victim,
                ..signed(
                    EntryKind::Record,
                    serde_json::json!({ "what": "forged" }),
                    liar,
                )
            },
        },
    ]
}

/// What it may forward, and the ledger does not take.
fn worthless(liar: &Keypair) -> Vec<Command> {
    let record = || {
        signed(
            EntryKind::Record,
            serde_json::json!({ "what": "forged" }),
            liar,
        )
    };
    let wrong = Signed {
        signature: Signature::from_bytes([7; 64]),
        ..record()
    };
    let mut enrolment = signed(
        EntryKind::Enrolment,
        serde_json::json!({ "node": key(200).node_id() }),
        liar,
    );
    enrolment.kind = EntryKind::Record;
    vec![
        Command::Append { entry: wrong },
        Command::Append { entry: enrolment },
        Command::Close {
            fence: Fence(1),
            holder: liar.node_id(),
            disposition: Disposition::Done,
            outcome: OutcomeStatus::Success,
            entry: record(),
        },
        Command::Admit {
            token: hale_model::TokenId::new("tok_nosuch").unwrap(),
            node: key(200).node_id(),
            host: host("forged"),
            entry: signed(
                EntryKind::Enrolment,
                serde_json::json!({ "node": key(200).node_id() }),
                liar,
            ),
        },
    ]
}

async fn forge(liar: &Liar) {
    let victim = liar.peers[1].node;
    let (forbidden, worthless) = (of_others(&liar.key, victim), worthless(&liar.key));
    let mut refused = 0;
    for peer in &liar.peers {
        for commands in [forbidden.clone(), worthless.clone()] {
            let of = commands.len();
            match liar.ask(*peer, &Request::Propose(commands)).await {
                Some(Reply::Proposed(answers)) => {
                    let no = |a: &&Answer| matches!(a, Answer::Refused(_));
                    assert_eq!(answers.iter().filter(no).count(), of, "{answers:?}");
                    refused += of;
                }
                Some(Reply::NotLeader) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(
        refused >= forbidden.len() + worthless.len(),
        "only {refused} were refused"
    );
}

/// Requests of the API as if a user had asked at the liar's.
async fn ask_in_circles(liar: &Liar) {
    let [a, b, _] = liar.peers[..] else {
        panic!("three peers")
    };
    for peer in [a, b] {
        let status = liar.api(peer, "GET", "/v1/hosts/host-2/telemetry").await;
        assert_eq!(status, Some(404), "it is not asked on");
        for (method, path) in [
            ("POST", "/v1/leave"),
            ("POST", "/v1/tokens"),
            ("POST", "/v1/freeze"),
            ("POST", "/v1/members/host-2/remove"),
            ("POST", "/v1/playbooks/x/../../freeze/run"),
        ] {
            let status = liar.api(peer, method, path).await;
            assert!(
                status.is_some_and(|s| (400..500).contains(&s)),
                "{path}: {status:?}"
            );
        }
        let long = format!("/{}", "x".repeat(100_000));
        for path in [
            "",
            "//",
            "/../../etc/passwd",
            "/v1/%00%ff",
            "no slash",
            "/v1/hosts/\r\nx: y",
            &long,
        ] {
            let status = liar.api(peer, "GET", path).await;
            assert!(
                status.is_none_or(|s| (400..500).contains(&s)),
                "{path}: {status:?}"
            );
        }
        for method in ["", "BREW", "GET /", "\0"] {
            let status = liar.api(peer, method, "/v1/status").await;
            assert!(
                status.is_none_or(|s| (400..500).contains(&s)),
                "{method}: {status:?}"
            );
        }
    }
}

async fn babble(liar: &Liar) {
    let right = liar.frame(hale_consensus::REQUEST, &[7; 8]);
    let changed = |at: usize, to: &[u8]| {
        let mut bytes = right.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    let frames = [
        changed(14, &(64u32 << 20).to_be_bytes()),
        changed(4, &[9]),
        changed(6, &(liar.cluster ^ 1).to_be_bytes()),
        changed(0, b"HALE"),
        right[..right.len() - 3].to_vec(),
        liar.frame(0x7f, b"unknown"),
        liar.frame(hale_consensus::REQUEST, &[0xff; 4096]),
    ];
    for peer in &liar.peers {
        for lane in [Lane::Main, Lane::Bulk] {
            for frame in &frames {
                liar.write(*peer, lane, frame).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Opens as many streams as it may, each with a frame of 16 MiB that comes as slowly as is let.
async fn hoard(liar: &Liar) {
    let mut begun = wire::frame(EXCHANGE, liar.cluster, &[0; 1]).unwrap();
    begun[14..18].copy_from_slice(&(16u32 << 20).to_be_bytes());
    let mut tasks = vec![];
    for peer in &liar.peers {
        for lane in [Lane::Main, Lane::Bulk] {
            let link = liar.endpoint.link(*peer, lane).await.unwrap();
            while tasks.len() < 2000
                && let Ok(Ok(stream)) =
                    tokio::time::timeout(Duration::from_millis(200), link.open()).await
            {
                let (read, mut write) = stream.into_halves();
                let begun = begun.clone();
                tasks.push(tokio::spawn(async move {
                    let _ = write.write_all(&begun).await;
                    let flood = async {
                        for _ in 0..250 {
                            if write.write_all(&[7; 64 << 10]).await.is_err() {
                                break;
                            }
                        }
                        std::future::pending::<()>().await;
                    };
                    let _ = tokio::time::timeout(Duration::from_secs(8), flood).await;
                    drop(read);
                }));
            }
        }
    }
    assert!(tasks.len() > 100, "only {} streams", tasks.len());
    for task in tasks {
        task.await.unwrap();
    }
}

fn gossiper(key: &Keypair, peer: Peer) -> Membership {
    let profile = Profile {
        host: host("liar"),
        zone: String::new(),
        version: "0".into(),
        http: None,
        tags: [].into(),
        chain: None,
    };
    let settings = Settings {
        key: key.clone(),
        addr: peer.addr,
        started_ms: super::forged::now_ms() as u64,
        seed: 7,
        admit: Arc::new(|_| true),
        tuning: Tuning::default(),
    };
    Membership::new(settings, &profile).unwrap()
}

fn packets(effects: Vec<Effect>) -> Vec<(Contact, Vec<u8>)> {
    let sent = |e| match e {
        Effect::Send { to, bytes } => Some((to, bytes)),
        _ => None,
    };
    effects.into_iter().filter_map(sent).collect()
}

/// Gossip in another's name, of strangers, of what is no gossip.
async fn slander(liar: &Liar, target: Peer) {
    let contact = |p: Peer| Contact {
        node: p.node,
        addr: p.addr,
    };
    let here = Peer {
        node: liar.node(),
        addr: liar.endpoint.local_addr().unwrap(),
    };
    let send = async |bytes: &[u8]| {
        liar.endpoint.datagram(target, 0x01, bytes).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    // A stranger's packets, and a voter's, sent by the liar.
    let mut other = gossiper(&key(201), here);
    for (_, bytes) in packets(other.on(Duration::ZERO, Event::Join(vec![contact(target)]))) {
        send(&bytes).await;
    }
    for n in 0..50usize {
        send(&vec![n as u8; n * 20]).await;
    }
    // Strangers as members: the liar's own gossip, which has heard of them.
    let mut own = gossiper(&liar.key, here);
    let strange = other.everything().unwrap();
    own.on(Duration::ZERO, Event::Everything(strange.clone()));
    let mut sent = packets(own.on(Duration::ZERO, Event::Join(vec![contact(target)])));
    for second in 1..20 {
        sent.extend(packets(
            own.on(Duration::from_millis(second * 300), Event::Tick),
        ));
    }
    for (to, bytes) in sent {
        if to.node == target.node {
            send(&bytes).await;
        }
    }
    // Everything: strangers, a profile whose signature is wrong, 16 MB of nothing.
    let mut wrong = own.everything().unwrap();
    let last = wrong.len() - 1;
    wrong[last] ^= 1;
    for everything in [strange, wrong, vec![0xff; (16 << 20) - 64], vec![]] {
        let frame = liar.frame(EXCHANGE, &everything);
        let _ = liar.endpoint.ask(target, Lane::Main, &frame, SOON).await;
    }
}

/// Says that a node lives a later life elsewhere: what the liar has signed for itself, with the
/// node's name in it.
async fn mislead(liar: &Liar, target: Peer, victim: Peer) {
    let elsewhere = Peer {
        node: liar.node(),
        addr: "127.0.0.1:9".parse().unwrap(),
    };
    let own = gossiper(&liar.key, elsewhere).everything().unwrap();
    let (from, to) = (*liar.node().as_bytes(), *victim.node.as_bytes());
    let mut moved = own.clone();
    for at in 0..own.len() - from.len() {
        if own[at..].starts_with(&from) {
            moved[at..at + to.len()].copy_from_slice(&to);
        }
    }
    assert_ne!(moved, own);
    for _ in 0..20 {
        let frame = liar.frame(EXCHANGE, &moved);
        let _ = liar.endpoint.ask(target, Lane::Main, &frame, SOON).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Says of the nodes that they are down, as often as it can.
async fn denounce(liar: &Liar, target: Peer, victims: &[Peer]) {
    let here = Peer {
        node: liar.node(),
        addr: liar.endpoint.local_addr().unwrap(),
    };
    for n in 0..20u64 {
        let mut own = gossiper(&liar.key, here);
        let (frame, asked) = (liar.frame(EXCHANGE, &own.everything().unwrap()), SOON);
        let answer = liar.endpoint.ask(target, Lane::Main, &frame, asked).await;
        let known = answer.ok().map(|a| a[wire::FRAME_HEADER_BYTES..].to_vec());
        let at = Duration::from_millis(n);
        own.on(at, Event::Everything(known.unwrap_or_default()));
        for victim in victims {
            own.on(at, Event::Evict(victim.node));
        }
        let frame = liar.frame(EXCHANGE, &own.everything().unwrap());
        let _ = liar.endpoint.ask(target, Lane::Main, &frame, asked).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// A thousand questions at once, for news and for stretches that are not there.
async fn pester(liar: &Arc<Liar>, request: impl Fn(u64) -> Request) -> usize {
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let (liar, request) = (Arc::clone(liar), request(n));
        asked.spawn(async move {
            let peer = liar.peers[n as usize % liar.peers.len()];
            liar.ask(peer, &request).await.is_some()
        });
    }
    let answers = asked.join_all().await;
    answers.into_iter().filter(|answered| *answered).count()
}

/// Sessions for live questions that begin with noise.
async fn interrupt(liar: &Liar) {
    for n in 0..30u8 {
        for peer in &liar.peers {
            let mut bytes = liar.frame(b'?', b"");
            bytes.extend([0, 0, 0, 0, 0, 0, 0, 40]);
            bytes.extend([n; 40]);
            liar.write(*peer, Lane::Main, &bytes).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[test]
fn a_member_that_lies_is_refused_and_changes_nothing() {
    let _alone = alone();
    let mut fleet = Fleet::of_three();
    let (cluster, token, nodes) = (fleet.number(), fleet.token(), fleet.nodes());
    let addrs = fleet.hosts.iter().map(|h| h.udp);
    let peers: Vec<Peer> = nodes
        .iter()
        .zip(addrs)
        .map(|(node, addr)| Peer { node: *node, addr })
        .collect();
    let runtime = runtime();
    let mallory = key(66);
    let welcome = runtime.block_on(join(peers[0].addr, &token, "mallory", &mallory));
    assert_eq!(welcome.cluster, cluster);
    let liar = runtime.block_on(async { Arc::new(Liar::new(mallory, cluster, peers.clone())) });
    let before = fleet.chain().len();

    let term = fleet.term();
    fleet.withstands(
        "Raft's words in others' names and its own",
        &[(LEDGER, 180)],
        || {
            runtime.block_on(usurp(&liar, term));
        },
    );
    assert!(fleet.term() < term + 100, "a term was taken over");
    fleet.withstands(
        "commands of others, of the leader, unsigned",
        &[(LEDGER, 8)],
        || {
            runtime.block_on(forge(&liar));
        },
    );
    fleet.withstands("requests in circles, absurd paths", &[], || {
        runtime.block_on(ask_in_circles(&liar));
    });
    let frames = [
        (OVERSIZED, 6),
        (VERSION, 6),
        (FOREIGN, 6),
        (MALFORMED, 12),
        (UNKNOWN, 6),
    ];
    fleet.withstands("frames that may not come", &frames, || {
        runtime.block_on(babble(&liar));
    });
    fleet.withstands("streams without end on all lanes", &[], || {
        runtime.block_on(hoard(&liar));
    });
    let gossip = [(PACKETS, 50), (MEMBERS, 1), (PROFILES, 1)];
    fleet.withstands("gossip in others' names, of strangers", &gossip, || {
        runtime.block_on(slander(&liar, peers[1]));
    });
    fleet.withstands(
        "gossip that another is elsewhere",
        &[(IDENTITIES, 10)],
        || {
            runtime.block_on(mislead(&liar, peers[1], peers[0]));
        },
    );
    fleet.withstands("gossip that the others are down", &[], || {
        runtime.block_on(denounce(&liar, peers[1], &[peers[0], peers[2]]));
    });
    fleet.withstands(
        "1,000 questions for the whole state",
        &[(LEDGER, 1)],
        || {
            runtime.block_on(pester(&liar, |_| Request::Follow(0, 3000)));
        },
    );
    fleet.withstands("1,000 questions for absurd stretches", &[], || {
        let absurd = [
            (0, u64::MAX),
            (u64::MAX, 0),
            (u64::MAX - 1, u64::MAX),
            (7, 7),
        ];
        let answered = runtime.block_on(pester(&liar, |n| {
            let (from, to) = absurd[n as usize % 4];
            Request::Entries(from, to)
        }));
        assert!(answered > 500, "only {answered} were answered");
    });
    fleet.withstands("sessions of noise", &[(SESSIONS, 30)], || {
        runtime.block_on(interrupt(&liar));
    });

    // Nothing of all that is on the chain.
    let chain = fleet.chain();
    let forged = chain.iter().find(|e| e.to_string().contains("forged"));
    assert!(forged.is_none(), "{forged:?}");
    assert!(chain.len() > before, "{} after {before}", chain.len());
}
