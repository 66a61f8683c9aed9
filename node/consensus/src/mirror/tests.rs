//! The copy on disk, and whom a node outside the group believes.

use super::*;
use crate::config::Config;
use crate::network::{self, Acks, Alive, Asker, PeerTransport, TransportError};
use crate::proposer::Queue;
use crate::types::Pack;
use crate::{ChainStore, recovery};
use hale_model::chain::Entry;
use hale_model::ledger::{Command, EntryKind, Signed};
use hale_model::port::Later;
use hale_model::{HostName, Keypair, canonical};
use std::collections::BTreeMap;
use std::ops::Range;

#[test]
fn a_copy_is_kept_whole_or_not_used() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Copy::read(dir.path()).unwrap().is_none());
    let copy = Copy {
        applied: 7,
        state: Ledger::default().encode().unwrap(),
        group: Group::default(),
    };
    copy.write(dir.path()).unwrap();
    assert_eq!(Copy::read(dir.path()).unwrap().unwrap(), copy);
    let path = dir.path().join("copy");
    let whole = std::fs::read(&path).unwrap();
    for at in [0, 4, 20, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(Copy::read(dir.path()).is_err(), "byte {at}");
    }
    std::fs::write(&path, &whole[..20]).unwrap();
    assert!(Copy::read(dir.path()).is_err());
}

fn told(applied: u64, term: u64, state: Option<Vec<u8>>) -> Followed {
    Followed {
        state,
        applied,
        packs: vec![],
        group: group(term, &[1]),
        age_ms: 0,
    }
}

#[test]
fn a_copy_begins_anew_after_a_recovery_and_leaves_the_old_ledger_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::open(dir.path()).unwrap();
    let (from, teller) = (node(1), Teller::new(8));
    let from_one = group(4, &[1]);
    mirror.learn(from_one);
    let empty = || Some(Ledger::default().encode().unwrap());
    let take = |t: Followed, after| mirror.take(t, after, from, &teller).unwrap();
    assert!(take(told(300, 4, empty()), 0));
    assert!(take(told(310, 5, None), 300));
    // A recovered ledger may be shorter; what was added to it does not fit what is here.
    let term = 5 + recovery::LEAP;
    assert!(!take(told(305, term, None), 310));
    assert_eq!(mirror.wants_after(), 0);
    assert!(!take(told(320, 6, empty()), 0), "the old ledger");
    assert!(take(told(305, term, empty()), 0));
    assert_eq!((mirror.ledger.applied(), mirror.wants_after()), (305, 305));
    assert!(!take(told(330, 7, None), 305), "the old ledger");
    // One that keeps all of its log tells it from the start.
    let term = 2 * term;
    assert!(!take(told(200, term, None), 305));
    assert!(take(told(200, term, None), 0));
    assert_eq!(mirror.ledger.applied(), 200);
}

const CLUSTER: u64 = 7;

fn key(n: u8) -> Keypair {
    Keypair::from_seed(&[n; 32])
}

fn node(n: u8) -> NodeId {
    key(n).node_id()
}

fn group(term: u64, voters: &[u8]) -> Group {
    let peer = |n: &u8| Peer {
        node: node(*n),
        addr: String::new(),
    };
    Group {
        term,
        leader: voters.first().map(|n| node(*n)),
        voters: voters.iter().map(peer).collect(),
        learners: vec![],
    }
}

fn voters(group: &Group) -> Vec<NodeId> {
    group.voters.iter().map(|p| p.node).collect()
}

fn enrol(n: u8) -> Command {
    let body = canonical::to_bytes(&serde_json::json!({ "enrol": n })).unwrap();
    Command::Enrol {
        node: node(n),
        host: HostName::new(format!("host-{n}")).unwrap(),
        entry: Signed::new(EntryKind::Enrolment, body, &key(1)),
    }
}

/// A ledger whose roster has the first nodes, and its log index.
fn ledger(nodes: u8) -> (Ledger, u64) {
    let mut ledger = Ledger::default();
    for n in 1..=nodes {
        ledger.apply(u64::from(n), enrol(n));
    }
    assert_eq!(ledger.roster().count(), usize::from(nodes));
    (ledger, u64::from(nodes))
}

/// How a node answers.
#[derive(Clone)]
enum Does {
    /// As one of the group does: with the whole state.
    Leads(Group, Vec<u8>, u64),
    /// As one outside does.
    Knows(Group),
}

/// The other nodes: those that are named are alive.
struct World(BTreeMap<NodeId, Does>);

impl PeerTransport for World {
    fn ask(
        &self,
        to: Peer,
        _: Lane,
        frame: Vec<u8>,
        _: Duration,
    ) -> Later<Result<Vec<u8>, TransportError>> {
        let does = self.0.get(&to.node).cloned();
        Box::pin(async move {
            let gone = || TransportError::Unreachable {
                peer: to.node.short(),
                why: "it is down".into(),
            };
            let request = network::parse_request(CLUSTER, &frame).map_err(|_| gone())?;
            let reply = match (does.ok_or_else(gone)?, request) {
                (Does::Leads(group, state, applied), Request::Follow { .. }) => {
                    Reply::Followed(Box::new(Followed {
                        state: Some(state),
                        applied,
                        group,
                        ..Followed::default()
                    }))
                }
                (Does::Leads(group, ..) | Does::Knows(group), _) => Reply::Group(group),
            };
            network::frame_reply(CLUSTER, &reply).map_err(|_| gone())
        })
    }

    fn alive(&self) -> Option<Vec<Alive>> {
        let alive = self.0.keys().map(|node| Alive {
            peer: Peer {
                node: *node,
                addr: String::new(),
            },
            zone: String::new(),
            since: Duration::from_secs(60),
            release: String::new(),
        });
        Some(alive.collect())
    }
}

struct NoChain;

impl ChainStore for NoChain {
    fn len(&self) -> u64 {
        0
    }

    fn append(&self, _: &[Entry]) -> std::io::Result<()> {
        Ok(())
    }

    fn tip(&self) -> Digest {
        Digest::ZERO
    }

    fn truncate_to(&self, _: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn read(&self, _: Range<u64>) -> std::io::Result<Vec<Entry>> {
        Ok(vec![])
    }
}

/// The tenth node, outside the group; it knows the first three of term 5, and three on the roster.
fn outside(dir: &Path, others: &[(u8, Does)]) -> Shell {
    let (known, applied) = ledger(3);
    let copy = Copy {
        applied,
        state: known.encode().unwrap(),
        group: group(5, &[1, 2, 3]),
    };
    copy.write(dir).unwrap();
    let others = others.iter().map(|(n, does)| (node(*n), does.clone()));
    let asker = Asker {
        cluster: CLUSTER,
        transport: Arc::new(World(others.collect())),
        acks: Acks::default(),
    };
    let host = HostName::new("host-10").unwrap();
    let config = Config::new(dir.to_owned(), key(10), CLUSTER, host);
    let mirror = Mirror::open(dir).unwrap();
    Shell::new(config, Arc::new(NoChain), asker, Queue::new().0, mirror)
}

/// Some rounds; says whether one of them told something fresh.
async fn rounds(shell: &Shell) -> bool {
    let mut told = false;
    for _ in 0..5 {
        told |= round(shell).await;
    }
    told
}

fn leads(term: u64, voters: &[u8], roster: u8) -> Does {
    let (ledger, applied) = ledger(roster);
    Does::Leads(group(term, voters), ledger.encode().unwrap(), applied)
}

#[tokio::test]
async fn one_member_that_lies_is_not_believed_whatever_the_others_know() {
    let dir = tempfile::tempdir().unwrap();
    let old = || Does::Knows(group(5, &[1, 2, 3]));
    for term in [5, 6, 5 + recovery::LEAP, u64::MAX] {
        for others in [vec![], vec![(7, old()), (8, old())]] {
            let liar = (9, leads(term, &[9], 9));
            let shell = outside(dir.path(), &[others, vec![liar]].concat());
            assert!(!rounds(&shell).await);
            assert_eq!(shell.group(), group(5, &[1, 2, 3]));
            let applied = (shell.applied(), shell.view().roster().count());
            assert_eq!(applied, (3, 3), "term {term}");
        }
    }
}

#[tokio::test]
async fn what_a_liar_told_is_counted_once_the_group_is_heard_again() {
    let dir = tempfile::tempdir().unwrap();
    let others = [(9, leads(6, &[9], 9)), (2, leads(5, &[1, 2, 3], 4))];
    let shell = outside(dir.path(), &others);
    let lie = group(6, &[9]);
    shell.mirror.hear(vec![(node(9), lie)]);
    assert!(rounds(&shell).await);
    assert_eq!(shell.view().roster().count(), 4);
    assert_eq!(voters(&shell.group()), [node(1), node(2), node(3)]);
    assert_eq!(shell.counters.refused.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_node_that_was_down_while_all_voters_were_replaced_finds_the_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let liar = (9, leads(u64::MAX, &[4, 5, 6], 9));
    let news = |n| (n, leads(9, &[4, 5, 6], 6));
    let knows = |n| (n, Does::Knows(group(9, &[4, 5, 6])));
    for others in [
        vec![news(4), news(5), news(6)],
        vec![news(5), knows(8)],
        vec![knows(7), knows(8), news(4), liar],
    ] {
        let shell = outside(dir.path(), &others);
        assert!(rounds(&shell).await);
        assert_eq!(shell.group(), group(9, &[4, 5, 6]));
        assert_eq!(shell.view().roster().count(), 6);
    }
}

#[tokio::test]
async fn one_of_the_known_group_that_is_of_it_no_more_tells_who_is() {
    let dir = tempfile::tempdir().unwrap();
    let others = [
        (2, Does::Knows(group(9, &[4]))),
        (4, leads(9, &[4], 4)),
        (9, leads(12, &[9], 9)),
    ];
    let shell = outside(dir.path(), &others);
    assert!(rounds(&shell).await);
    assert_eq!(shell.group(), group(9, &[4]));
    assert_eq!(shell.view().roster().count(), 4);
}

#[tokio::test]
async fn a_ledger_that_was_recovered_is_begun_anew_however_its_group_is_learnt() {
    let (dir, term) = (tempfile::tempdir().unwrap(), 5 + recovery::LEAP);
    // The recovered ledger is shorter than what is here.
    let of_known = vec![(3, leads(term, &[3], 2))];
    let by_known = vec![
        (2, Does::Knows(group(term, &[4, 5]))),
        (4, leads(term, &[4, 5], 2)),
    ];
    let by_others = vec![(4, leads(term, &[4, 5], 2)), (5, leads(term, &[4, 5], 2))];
    for others in [of_known, by_known, by_others] {
        let shell = outside(dir.path(), &others);
        assert!(rounds(&shell).await);
        assert_eq!(shell.group().term, term);
        assert_eq!((shell.applied(), shell.view().roster().count()), (2, 2));
    }
}

#[test]
fn a_node_without_a_copy_goes_by_its_own_log() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::open(dir.path()).unwrap();
    let sources = |alive: &[u8]| {
        let alive = group(0, alive).voters;
        let (near, far) = mirror.sources(&alive, &node(10));
        (near.len(), far.len())
    };
    assert_eq!(sources(&[1, 9]), (0, 0));
    mirror.note_own(group(5, &[1, 2, 10]));
    assert_eq!(sources(&[1, 9]), (1, 1));
    // What it was told later counts more.
    mirror.learn(group(6, &[4]));
    assert_eq!(sources(&[1, 9]), (0, 1));
    let told = |from| {
        let told = Followed {
            packs: vec![(1, Pack(vec![enrol(1)]))],
            applied: 1,
            group: group(6, &[4]),
            ..Followed::default()
        };
        mirror.take(told, 0, node(from), &Teller::new(8)).unwrap()
    };
    assert!(!told(1) && !told(9) && mirror.ledger.applied() == 0);
    assert!(told(4) && mirror.ledger.applied() == 1);
}
