//! What reads bytes from outside here, to be held against hostile ones: gossip, and what strangers
//! and members say to each other at joining.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::join::{Hello, JoinToken, Proven, Welcome};
use crate::{Contact, Effect, Event, MAX_PACKET_BYTES, Membership, Profile, Settings, Tuning};
use hale_hostile::Parser;
use hale_model::{Digest, HostName, Keypair, wire};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// All of them.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "gossip_packet",
        seeds: || heard().0,
        feed: packet,
    },
    Parser {
        name: "gossip_exchange",
        seeds: || vec![heard().1],
        feed: exchange,
    },
    Parser {
        name: "joining",
        seeds: joining,
        feed: join,
    },
];

const CLOCK_MS: u64 = 1_770_000_000_000;

fn key(n: u8) -> Keypair {
    Keypair::from_seed(&[n; 32])
}

fn contact(n: u8) -> Contact {
    Contact {
        node: key(n).node_id(),
        addr: SocketAddr::from(([10, 0, 0, n], 7118)),
    }
}

fn member(n: u8) -> Membership {
    let settings = Settings {
        key: key(n),
        addr: contact(n).addr,
        started_ms: CLOCK_MS + u64::from(n),
        seed: 7,
        admit: Arc::new(|node| (1..=4).any(|n| key(n).node_id() == *node)),
        tuning: Tuning::default(),
    };
    let profile = Profile {
        host: HostName::new(format!("host-{n}")).unwrap(),
        zone: "a".into(),
        version: "1.0.0".into(),
        http: Some("10.0.0.1:7700".into()),
        tags: [("role".to_owned(), "db".to_owned())].into(),
        chain: None,
    };
    Membership::new(settings, &profile).unwrap()
}

/// What the first node hears, packets and an exchange, until two know each other.
fn heard() -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut first, mut second) = (member(1), member(2));
    let mut now = Duration::ZERO;
    let mut waiting = second.on(now, Event::Join(vec![contact(1)]));
    let mut packets = vec![];
    for _ in 0..40 {
        now += Duration::from_millis(250);
        let mut answers = vec![];
        for effect in waiting.drain(..) {
            if let Effect::Send { bytes, .. } = effect {
                packets.push(bytes.clone());
                let from = key(2).node_id();
                answers.extend(first.on(now, Event::Packet { from, bytes }));
            }
        }
        answers.extend(first.on(now, Event::Tick));
        for effect in answers {
            if let Effect::Send { bytes, .. } = effect {
                let from = key(1).node_id();
                waiting.extend(second.on(now, Event::Packet { from, bytes }));
            }
        }
        waiting.extend(second.on(now, Event::Tick));
    }
    (packets, second.everything().unwrap())
}

/// Goes on for some rounds; what is sent stays a packet.
fn go_on(member: &mut Membership, event: Event) {
    let mut effects = member.on(Duration::from_secs(1), event);
    for n in 2..8 {
        effects.extend(member.on(Duration::from_secs(n), Event::Tick));
    }
    for effect in effects {
        if let Effect::Send { bytes, .. } = effect {
            assert!(bytes.len() <= MAX_PACKET_BYTES);
        }
    }
    let _ = member.everything();
}

fn packet(bytes: &[u8]) {
    let (from, bytes) = (key(2).node_id(), bytes.to_vec());
    go_on(&mut member(1), Event::Packet { from, bytes });
}

fn exchange(bytes: &[u8]) {
    go_on(&mut member(1), Event::Everything(bytes.to_vec()));
}

fn joining() -> Vec<Vec<u8>> {
    let token = JoinToken::new("tok_5b1e9d20f3", [7; 32]);
    let hello = Hello::new(&token, HostName::new("h").unwrap(), "1.0.0", 1_000);
    vec![wire::encode(&hello).unwrap(), token.reveal().into_bytes()]
}

fn join(bytes: &[u8]) {
    if let Ok(hello) = wire::decode::<Hello>(bytes) {
        let _ = (hello.check(0), hello.check(i64::MAX), hello.check(i64::MIN));
    }
    if let Ok(proven) = wire::decode::<Proven>(bytes) {
        let verifier = Digest::of(b"another token");
        assert!(!proven.holds(&verifier, crate::join::End::Stranger, &[0; 32]));
    }
    if let Ok(welcome) = wire::decode::<Welcome>(bytes) {
        let _ = crate::join::check_clocks(i64::MIN, welcome.clock_ms);
    }
    if let Ok(token) = String::from_utf8_lossy(bytes).parse::<JoinToken>() {
        assert_eq!(token.reveal().parse(), Ok(token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_hostile::hold_for;

    #[test]
    fn a_packet_may_be_anything() {
        hold_for(&PARSERS[0], 96);
    }

    #[test]
    fn what_a_peer_says_that_it_knows_may_be_anything() {
        hold_for(&PARSERS[1], 96);
    }

    #[test]
    fn what_a_stranger_says_may_be_anything() {
        hold_for(&PARSERS[2], 384);
    }
}
