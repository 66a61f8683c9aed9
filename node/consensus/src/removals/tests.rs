use super::*;
use hale_audit::removal;
use hale_model::{HostName, Keypair, Timestamp};

fn key(n: u8) -> Keypair {
    Keypair::from_seed(&[n; 32])
}

fn remove(n: u8) -> Command {
    let host = HostName::new(format!("host-{n}")).unwrap();
    let (node, at) = (key(n).node_id(), Timestamp::from_millis(0));
    Command::Remove {
        node,
        by: "ada".into(),
        reason: "retired".into(),
        entry: removal::sign(node, &host, "ada", "retired", at, &key(n)),
    }
}

fn nodes(of: &[u8]) -> BTreeSet<NodeId> {
    of.iter().map(|n| key(*n).node_id()).collect()
}

fn votes(sets: &[&[u8]], live: &[u8]) -> Votes {
    Votes {
        sets: sets.iter().map(|set| nodes(set)).collect(),
        live: nodes(live),
    }
}

/// The places that are refused when these leave, in order, in one pack.
fn refused(votes: &Votes, gone: &mut BTreeSet<NodeId>, leave: &[u8]) -> Vec<usize> {
    let pack = Pack(leave.iter().map(|n| remove(*n)).collect());
    let (allowed, refused) = judge(pack, votes, gone);
    assert_eq!(allowed.0.len() + refused.len(), leave.len());
    refused.into_keys().collect()
}

#[test]
fn one_of_three_may_go_and_the_next_waits_for_its_seat_to_be_taken() {
    let (three, mut gone) = (votes(&[&[1, 2, 3]], &[1, 2, 3]), nodes(&[]));
    assert_eq!(refused(&three, &mut gone, &[2]), [0; 0]);
    assert_eq!(
        refused(&three, &mut gone, &[3]),
        [0],
        "the other is under way"
    );
    assert_eq!(
        refused(&three, &mut gone, &[2]),
        [0; 0],
        "the same once more"
    );
    // By now the first is off the roster, but still has its vote.
    let (shut_out, mut gone) = (votes(&[&[1, 2, 3]], &[1, 3]), nodes(&[]));
    assert_eq!(refused(&shut_out, &mut gone, &[3]), [0]);
    let replaced = votes(&[&[1, 3, 4]], &[1, 3, 4]);
    assert_eq!(refused(&replaced, &mut gone, &[3]), [0; 0]);
}

#[test]
fn those_in_one_pack_are_judged_one_after_the_other() {
    let (five, mut gone) = (votes(&[&[1, 2, 3, 4, 5]], &[1, 2, 3, 4, 5]), nodes(&[]));
    assert_eq!(refused(&five, &mut gone, &[5, 9, 4, 3, 8, 2]), [3, 5]);
}

#[test]
fn the_dead_may_always_go_while_a_majority_lives_and_who_has_no_vote_too() {
    let (one_dead, mut gone) = (votes(&[&[1, 2, 3]], &[1, 2]), nodes(&[]));
    assert_eq!(refused(&one_dead, &mut gone, &[3, 7, 2]), [2]);
    let (alone, mut gone) = (votes(&[&[1]], &[1]), nodes(&[]));
    assert_eq!(refused(&alone, &mut gone, &[1, 2]), [0]);
}

#[test]
fn while_the_voters_change_both_halves_keep_a_majority() {
    let (joint, mut gone) = (votes(&[&[1, 2, 3], &[1, 4, 5]], &[1, 2, 4, 5]), nodes(&[]));
    assert_eq!(refused(&joint, &mut gone, &[2]), [0], "3 is dead");
    assert_eq!(refused(&joint, &mut gone, &[5]), [0; 0]);
    assert_eq!(refused(&joint, &mut gone, &[4]), [0]);
}

#[test]
fn each_refusal_stands_at_its_place() {
    let why = Refusal::NoMajority { left: 1, voters: 3 };
    let done = || Answer::Done { entry: None };
    let refused = BTreeMap::from([(0, why.clone()), (2, why.clone())]);
    let (no, yes) = (Answer::Refused(why), done());
    let answers = answered(vec![done(), done()], refused);
    assert_eq!(answers, [no.clone(), yes.clone(), no, yes]);
}
