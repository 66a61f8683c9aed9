//! What one node makes of what a lying one tells it.

use super::*;
use foca::{Header, Message};
use hale_model::HostName;

/// The clock of all, in milliseconds since the epoch: in 2026.
const NOW_MS: u64 = 1_780_000_000_000;

fn key(n: u8) -> Keypair {
    Keypair::from_seed(&[n; 32])
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 7118))
}

fn elsewhere() -> SocketAddr {
    addr(99)
}

fn id(n: u8) -> Id {
    Id::sign(addr(n), NOW_MS, &key(n))
}

fn profile() -> Profile {
    Profile {
        host: HostName::new("db-1").unwrap(),
        zone: String::new(),
        version: "1.0.0".into(),
        http: None,
        tags: [].into(),
        chain: None,
    }
}

/// A node on a roster of ten.
fn node(n: u8) -> Membership {
    let settings = Settings {
        key: key(n),
        addr: addr(n),
        started_ms: NOW_MS,
        seed: u64::from(n),
        admit: Arc::new(|node| (1..=10).any(|n| key(n).node_id() == *node)),
        tuning: Tuning::default(),
    };
    Membership::new(settings, &profile()).unwrap()
}

fn everything(ids: &[Id]) -> Event {
    let told = Everything {
        members: ids.iter().map(|id| foca::Member::alive(*id)).collect(),
        profiles: vec![],
    };
    Event::Everything(wire::encode(&told).unwrap())
}

/// A packet of the second node's to the first.
fn packet(message: Message<Id>, members: &[Id]) -> Event {
    use bytes::BufMut;
    use foca::Codec;
    let header = Header {
        src: id(2),
        src_incarnation: 0,
        dst: id(1),
        message,
    };
    let mut bytes = vec![];
    WireCodec.encode_header(&header, &mut bytes).unwrap();
    bytes.put_u16(members.len() as u16);
    for member in members {
        let member = foca::Member::alive(*member);
        WireCodec.encode_member(&member, &mut bytes).unwrap();
    }
    Event::Packet {
        from: key(2).node_id(),
        bytes,
    }
}

fn at(member: &Membership, n: u8) -> Option<SocketAddr> {
    let node = key(n).node_id();
    let members = member.members();
    let found = members.iter().find(|m| m.contact.node == node);
    found.map(|m| m.contact.addr)
}

/// What a liar may say of the third node: elsewhere, in whatever life.
fn lies() -> Vec<Id> {
    let lives = [
        0,
        1,
        NOW_MS - 1,
        NOW_MS,
        NOW_MS + 1,
        NOW_MS + 1_000,
        u64::MAX,
    ];
    let moved = lives.map(|life| {
        let mut moved = id(3);
        moved.contact.addr = elsewhere();
        moved.incarnation = life;
        moved
    });
    let own_key = lives.map(|life| {
        let mut other = Id::sign(elsewhere(), life, &key(2));
        other.contact.node = key(3).node_id();
        other
    });
    let later = lives.map(|life| {
        let mut later = id(3);
        later.incarnation = life;
        later
    });
    let all = moved.into_iter().chain(own_key).chain(later);
    all.filter(|lie| *lie != id(3)).collect()
}

fn events(lie: Id) -> [Event; 5] {
    let probe_number = 0;
    [
        everything(&[lie, id(4)]),
        packet(Message::Gossip, &[lie, id(4)]),
        packet(Message::Feed, &[id(4), lie]),
        packet(
            Message::PingReq {
                target: lie,
                probe_number,
            },
            &[],
        ),
        packet(
            Message::IndirectAck {
                target: lie,
                probe_number,
            },
            &[],
        ),
    ]
}

#[test]
fn nobody_is_believed_of_where_another_is_or_which_life_it_lives() {
    for knows in [true, false] {
        for lie in lies() {
            for event in events(lie) {
                let mut member = node(1);
                let known: &[Id] = if knows { &[id(2), id(3)] } else { &[id(2)] };
                member.on(Duration::ZERO, everything(known));
                let told = format!("{event:?}");
                for effect in member.on(Duration::from_millis(1), event) {
                    let dials = match effect {
                        Effect::Send { to, .. } | Effect::Up(to) | Effect::Down(to) => to.addr,
                        _ => continue,
                    };
                    assert_ne!(dials, elsewhere(), "{told}");
                }
                assert_eq!(at(&member, 3), knows.then(|| addr(3)), "{lie:?} by {told}");
                let alive = member.foca.iter_members().find(|m| m.id() == &id(3));
                assert_eq!(alive.is_some(), knows, "{lie:?} by {told}");
                // What is of the past anyway need not be looked at.
                let is_past = knows && id(3).is_after(&lie);
                let refused = member.counts().refused_identities;
                assert!(is_past || refused == 1, "{lie:?} by {told}: {refused}");
            }
        }
    }
}

#[test]
fn what_a_member_has_signed_is_handed_on() {
    let moved = Id::sign(elsewhere(), NOW_MS + 1, &key(3));
    for event in [
        everything(&[moved]),
        packet(Message::Gossip, &[moved]),
        packet(Message::Feed, &[moved]),
    ] {
        let mut member = node(1);
        member.on(Duration::ZERO, everything(&[id(2), id(3)]));
        member.on(Duration::from_millis(1), event);
        assert_eq!(at(&member, 3), Some(elsewhere()));
        assert_eq!(member.counts().refused_identities, 0);
        // And what was said before does not undo it.
        member.on(Duration::from_millis(2), packet(Message::Gossip, &[id(3)]));
        assert_eq!(at(&member, 3), Some(elsewhere()));
        assert_eq!(member.counts().refused_packets, 0);
    }
}

#[test]
fn a_life_beyond_all_clocks_is_left_out_and_keeps_nobody_else_from_being_heard() {
    let mut member = node(1);
    let last = Id::sign(addr(3), u64::MAX, &key(3));
    member.on(Duration::ZERO, everything(&[last, id(4)]));
    assert_eq!((at(&member, 3), at(&member, 4)), (None, Some(addr(4))));
    assert_eq!(member.counts().refused_identities, 1);
    // The node itself, once its clock is right.
    member.on(Duration::from_millis(1), everything(&[id(3)]));
    assert_eq!(at(&member, 3), Some(addr(3)));
}

#[test]
fn a_node_that_others_have_on_record_in_a_later_life_begins_one_after_it() {
    let mut member = node(1);
    let later = Id::sign(addr(1), NOW_MS + 3_600_000, &key(1));
    let effects = member.on(Duration::ZERO, everything(&[id(2), later]));
    let incarnation = later.incarnation + 1;
    assert!(effects.contains(&Effect::Rejoined { incarnation }));
    assert!(member.foca.identity().is_genuine() && member.foca.identity().is_after(&later));
    // Nobody has it begin one by saying that it has.
    let mut forged = *member.foca.identity();
    forged.incarnation += 1;
    let effects = member.on(Duration::from_millis(1), everything(&[id(2), forged]));
    assert_eq!(effects, []);
    assert_eq!(member.foca.identity().incarnation, incarnation);
    assert_eq!(member.counts().refused_identities, 1);
}

#[test]
fn three_identities_and_the_largest_profile_fit_a_packet() {
    use foca::Codec;
    let v6 = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
        .parse()
        .unwrap();
    let largest = Id::sign(v6, u64::MAX, &key(1));
    let header = Header {
        src: largest,
        src_incarnation: u16::MAX,
        dst: largest,
        message: Message::ForwardedAck {
            origin: largest,
            probe_number: u8::MAX,
        },
    };
    let mut bytes = vec![];
    WireCodec.encode_header(&header, &mut bytes).unwrap();
    let (tally, length) = (2, 2);
    let whole = bytes.len() + tally + length + crate::MAX_PROFILE_BYTES;
    assert!(whole <= MAX_PACKET_BYTES, "{whole}");
}
