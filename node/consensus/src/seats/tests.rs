use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;

/// What is true of a node, besides its place in the group.
#[derive(Debug, Clone, Copy, Default)]
struct Truth {
    /// Gossip does not see it.
    unseen: bool,
    /// Raft does not hear it.
    silent: bool,
    unfit: bool,
    /// Never catches up.
    lags: bool,
    /// For how long it is alive, in seconds.
    age: u64,
}

/// A group that changes as the plan says.
#[derive(Debug, Clone)]
struct World {
    nodes: BTreeMap<NodeId, (String, Truth)>,
    group: Group,
    policy: Policy,
    /// Whether a voter that loses its seat stays as a learner, as openraft offers.
    retain: bool,
}

fn node(letter: char) -> NodeId {
    NodeId::from_bytes([letter as u8; 32])
}

fn letter(node: &NodeId) -> char {
    (node.raft_id() as u8).into()
}

fn set(letters: &str) -> BTreeSet<NodeId> {
    letters.chars().map(node).collect()
}

fn text(set: &BTreeSet<NodeId>) -> String {
    set.iter().map(letter).collect()
}

/// Nodes as `A/zone`, then flags: `!` down, `g` gossip does not see it, `s` silent, `u` unfit, `l`
/// lags, `y` young (1 s), `m` alive for 10 s; else for 100 s. The first voter leads.
fn world(nodes: &str, voters: &str, learners: &str) -> World {
    let parse = |word: &str| {
        let (name, rest) = word.split_once('/').unwrap();
        let has = |flag: char| rest[1..].contains(flag);
        let truth = Truth {
            unseen: has('!') || has('g'),
            silent: has('!') || has('s'),
            unfit: has('u'),
            lags: has('l'),
            age: if has('y') {
                1
            } else if has('m') {
                10
            } else {
                100
            },
        };
        let id = node(name.chars().next().unwrap());
        (id, (rest[..1].to_owned(), truth))
    };
    World {
        nodes: nodes.split_whitespace().map(parse).collect(),
        group: Group {
            voters: set(voters),
            learners: set(learners),
            leader: node(voters.chars().next().unwrap()),
            is_joint: false,
            joint_target: BTreeSet::new(),
        },
        policy: Policy::default(),
        retain: false,
    }
}

impl World {
    fn roster(&self) -> Vec<Candidate> {
        let group = &self.group;
        let one = |(id, (zone, truth)): (&NodeId, &(String, Truth))| {
            let in_group = group.voters.contains(id) || group.learners.contains(id);
            let silent = Duration::from_secs(if truth.silent { 100 } else { 0 });
            Candidate {
                node: *id,
                zone: zone.clone(),
                alive_for: (!truth.unseen).then(|| Duration::from_secs(truth.age)),
                silent_for: in_group.then_some(silent),
                caught_up: in_group && !truth.lags,
                fit: !truth.unfit,
            }
        };
        self.nodes.iter().map(one).collect()
    }

    fn plan(&self) -> Option<Change> {
        plan(&self.group, &self.roster(), &self.policy)
    }

    /// Acknowledges what the leader sends. Who is off the roster is shut out.
    fn answers(&self, id: &NodeId) -> bool {
        let known = self.nodes.get(id);
        *id == self.group.leader || known.is_some_and(|(_, t)| !t.silent && !t.unseen)
    }

    fn quorum_answers(&self, voters: &BTreeSet<NodeId>) -> bool {
        let answering = voters.iter().filter(|v| self.answers(v)).count();
        answering > voters.len() / 2
    }

    /// Carries out a change, as openraft does, and checks what must hold of each.
    fn apply(&mut self, change: &Change) {
        assert!(self.quorum_answers(&self.group.voters), "{change:?}");
        let group = &mut self.group;
        match change {
            Change::AddLearner(id) => {
                assert!(self.nodes.contains_key(id));
                assert!(!group.voters.contains(id) && group.learners.insert(*id));
            }
            Change::RemoveLearner(id) => assert!(group.learners.remove(id)),
            Change::SetVoters(voters) => {
                assert_eq!(voters.len() % 2, 1, "an even number of voters");
                let leader_left = !self.nodes.contains_key(&group.leader);
                assert!(leader_left || voters.contains(&group.leader));
                let members = &group.voters | &group.learners;
                assert!(voters.is_subset(&members));
                assert!((voters - &group.voters).iter().all(|new| {
                    let (_, t) = self.nodes[new];
                    !t.unseen && !t.silent && !t.unfit && !t.lags && t.age >= 5
                }));
                assert!(self.quorum_answers(voters));
                if self.retain {
                    self.group.learners.extend(&self.group.voters);
                }
                self.group.learners = &self.group.learners - voters;
                self.group.voters = voters.clone();
                let next = voters.iter().find(|v| self.answers(v)).copied();
                if !voters.contains(&self.group.leader) {
                    self.group.leader = next.unwrap();
                }
            }
            Change::FinishJoint(_) => panic!("nothing is joint"),
        }
    }

    /// Plans until nothing is left to do, and tells each step.
    fn settle(&mut self) -> Vec<String> {
        let mut steps = vec![];
        while let Some(change) = self.plan() {
            steps.push(match &change {
                Change::AddLearner(id) => format!("+{}", letter(id)),
                Change::RemoveLearner(id) => format!("-{}", letter(id)),
                Change::SetVoters(voters) => text(voters),
                Change::FinishJoint(voters) => format!("finish {}", text(voters)),
            });
            self.apply(&change);
            assert!(steps.len() <= 60, "no end: {steps:?} {self:?}");
        }
        steps
    }

    fn story(mut self) -> String {
        let steps = self.settle().join(" ");
        let Group {
            voters, learners, ..
        } = &self.group;
        format!("{steps} = {}|{}", text(voters), text(learners))
    }
}

fn check(nodes: &str, voters: &str, learners: &str, story: Expect) {
    story.assert_eq(&world(nodes, voters, learners).story());
}

#[test]
fn a_group_grows_from_one_node_to_seven_in_one_to_three_zones() {
    let mut table = String::new();
    for zones in 1..=3 {
        for nodes in 1..=7 {
            let word = |i: usize| format!("{}/{} ", (b'A' + i as u8) as char, i * zones / nodes);
            let roster: String = (0..nodes).map(word).collect();
            let story = world(&roster, "A", "").story();
            table += &format!("{roster}: {story}\n");
        }
    }
    expect![[r#"
        A/0 :  = A|
        A/0 B/0 : +B = A|B
        A/0 B/0 C/0 : +B +C ABC = ABC|
        A/0 B/0 C/0 D/0 : +B +C ABC +D = ABC|D
        A/0 B/0 C/0 D/0 E/0 : +B +C ABC +D +E ABCDE = ABCDE|
        A/0 B/0 C/0 D/0 E/0 F/0 : +B +C ABC +D +E ABCDE +F = ABCDE|F
        A/0 B/0 C/0 D/0 E/0 F/0 G/0 : +B +C ABC +D +E ABCDE +F +G = ABCDE|FG
        A/0 :  = A|
        A/0 B/1 : +B = A|B
        A/0 B/0 C/1 : +C +B ABC = ABC|
        A/0 B/0 C/1 D/1 : +C +B ABC +D = ABC|D
        A/0 B/0 C/0 D/1 E/1 : +D +B ABD +E +C ABCDE = ABCDE|
        A/0 B/0 C/0 D/1 E/1 F/1 : +D +B ABD +E +C ABCDE +F = ABCDE|F
        A/0 B/0 C/0 D/0 E/1 F/1 G/1 : +E +B ABE +F +C ABCEF +G +D = ABCEF|DG
        A/0 :  = A|
        A/0 B/1 : +B = A|B
        A/0 B/1 C/2 : +B +C ABC = ABC|
        A/0 B/0 C/1 D/2 : +C +D ACD +B = ACD|B
        A/0 B/0 C/1 D/1 E/2 : +C +E ACE +B +D ABCDE = ABCDE|
        A/0 B/0 C/1 D/1 E/2 F/2 : +C +E ACE +B +D ABCDE +F = ABCDE|F
        A/0 B/0 C/0 D/1 E/1 F/2 G/2 : +D +F ADF +B +E ABDEF +G +C = ABDEF|CG
    "#]]
    .assert_eq(&table);
}

#[test]
fn a_failed_voter_is_replaced_in_one_change() {
    check("A/a B/b C/c! D/a E/b", "ABC", "DE", expect!["ABD = ABD|E"]);
    check("A/a B/b C/c! D/a", "ABC", "D", expect!["ABD = ABD|"]);
}

#[test]
fn neither_gossip_alone_nor_silence_alone_costs_a_seat() {
    check("A/a B/b C/cg D/a", "ABC", "D", expect![" = ABC|D"]);
    check("A/a B/b C/cs D/a", "ABC", "D", expect![" = ABC|D"]);
    check("A/a B/b C/c D/ag", "ABC", "D", expect![" = ABC|D"]);
}

#[test]
fn a_failed_voter_without_a_replacement_keeps_its_seat() {
    check("A/a B/b C/c!", "ABC", "", expect![" = ABC|"]);
    check("A/a B/b C/c! D/cu", "ABC", "D", expect![" = ABC|D"]);
    check("A/a B/b C/c! D/cl", "ABC", "D", expect![" = ABC|D"]);
    // In a quiet group a learner that is not heard looks caught up for ever.
    check("A/a B/b C/c! D/cs", "ABC", "D", expect![" = ABC|D"]);
    check("A/a B/b C/c! D/cy", "ABC", "D", expect![" = ABC|D"]);
}

#[test]
fn the_replacement_that_spreads_best_is_taken() {
    check("A/a B/b C/c! D/a E/c", "ABC", "DE", expect!["ABE = ABE|D"]);
    check(
        "A/a B/a C/a D/b! E/c! F/b",
        "ABCDE",
        "F",
        expect!["ABCEF = ABCEF|"],
    );
}

#[test]
fn without_a_live_quorum_nothing_changes() {
    check("A/a B/b! C/c! D/a E/b", "ABC", "DE", expect![" = ABC|DE"]);
    check("A/a B/bg C/cs D/a E/b", "ABC", "DE", expect![" = ABC|DE"]);
}

#[test]
fn who_left_the_roster_leaves_the_group() {
    // C left, and D is ready.
    check("A/a B/b D/c E/a", "ABC", "D", expect!["ABD +E = ABD|E"]);
    // D is on its way: worth waiting for.
    check("A/a B/b D/cl", "ABC", "", expect!["+D = ABC|D"]);
    // D is down: nobody comes.
    check("A/a B/b D/c!", "ABC", "D", expect!["A -D +B = A|B"]);
    // A learner that left.
    check("A/a B/b C/c", "ABC", "D", expect!["-D = ABC|"]);
    // Of two seats to give, that of who left comes first.
    check(
        "A/a B/b C/c! D/d E/e F/f",
        "ABCGD",
        "F",
        expect!["ABCDF +E ABDEF = ABDEF|"],
    );
}

#[test]
fn a_smaller_roster_has_fewer_voters() {
    check("A/a B/a C/b D/c", "ABCDE", "", expect!["ACD +B = ACD|B"]);
    check("A/a B/a C/b", "ABCDE", "", expect!["ABC = ABC|"]);
    check("A/a B/b", "ABC", "", expect!["A +B = A|B"]);
    check("A/a", "ABC", "", expect![" = ABC|"]);
    // The dead go first, whatever zone that costs.
    check("A/a B/a C/b! D/c", "ABCDE", "", expect!["ABD = ABD|"]);
}

#[test]
fn a_leader_goes_last_and_only_if_it_left() {
    check("B/b C/c D/d E/a", "ABC", "DE", expect!["BCD = BCD|E"]);
    check("B/b C/c", "ABC", "", expect!["B +C = B|C"]);
    check("B/b C/c", "A", "BC", expect!["B = B|C"]);
}

#[test]
fn a_new_zone_is_worth_a_move_only_among_the_settled() {
    check("A/a B/a C/b D/c", "ABC", "D", expect!["ACD +B = ACD|B"]);
    check("A/a B/a C/b D/cm", "ABC", "D", expect![" = ABC|D"]);
    check("A/a B/am C/b D/c", "ABC", "D", expect![" = ABC|D"]);
    // Balance within the same zones is not.
    check(
        "A/a B/a C/a D/a E/b F/b",
        "ABCDE",
        "F",
        expect![" = ABCDE|F"],
    );
    // All stand-bys are taken by zones that have voters.
    check(
        "A/a B/a C/a D/a E/a F/a G/a H/b",
        "ABCDE",
        "FG",
        expect!["+H ABCDH = ABCDH|FG"],
    );
}

#[test]
fn stand_bys_that_are_of_no_use_are_exchanged() {
    check("A/a B/b C/c D/a! E/b", "ABC", "D", expect!["-D +E = ABC|E"]);
    check(
        "A/a B/b C/c D/au E/bu F/c G/c",
        "ABC",
        "DE",
        expect!["+F +G ABCFG = ABCFG|DE"],
    );
    check(
        "A/a B/b C/c D/a E/b F/c",
        "ABCDE",
        "F",
        expect![" = ABCDE|F"],
    );
}

#[test]
fn three_voters_are_enough_if_the_policy_says_so() {
    let mut world = world("A/a B/b C/c D/a E/b", "ABCDE", "");
    world.policy.max_voters = 3;
    expect!["ABC +D +E = ABC|DE"].assert_eq(&world.story());
}

#[test]
fn a_joint_group_is_finished_and_nothing_else() {
    let mut world = world("A/a B/b C/c! D/d E/e", "ABC", "DE");
    world.group.is_joint = true;
    world.group.joint_target = set("ABD");
    assert_eq!(world.plan(), Some(Change::FinishJoint(set("ABD"))));
    world.group.joint_target = set("ACZ");
    assert_eq!(world.plan(), None, "it can't be finished yet");
    world.group.joint_target = set("");
    assert_eq!(world.plan(), None);
}

fn truths() -> impl Strategy<Value = Truth> {
    let age = prop_oneof![Just(1), Just(10), Just(100), Just(100)];
    let rarely = || prop::bool::weighted(0.15);
    (rarely(), rarely(), rarely(), rarely(), rarely(), age).prop_map(
        |(down, unseen, silent, unfit, lags, age)| Truth {
            unseen: down || unseen,
            silent: down || silent,
            unfit,
            lags,
            age,
        },
    )
}

/// Up to eleven nodes; some are enrolled, some have a seat, most are well.
fn worlds() -> impl Strategy<Value = World> {
    let one = (prop::bool::weighted(0.85), 0u8..4, "[abc]", truths());
    let policy = (prop_oneof![Just(3usize), Just(5)], 0usize..4, any::<bool>());
    (prop::collection::vec(one, 1..12), policy).prop_map(|(all, (max_voters, learners, retain))| {
        let mut world = world("", "A", "");
        world.retain = retain;
        world.policy.max_voters = max_voters;
        world.policy.learners = learners;
        for (i, (enrolled, seat, zone, truth)) in all.into_iter().enumerate() {
            let id = node((b'A' + i as u8) as char);
            if enrolled {
                world.nodes.insert(id, (zone, truth));
            }
            let group = &mut world.group;
            match seat {
                0 | 1 if group.voters.len() < 6 => drop(group.voters.insert(id)),
                2 if !group.voters.contains(&id) => drop(group.learners.insert(id)),
                _ => {}
            }
        }
        world
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// `apply` checks each step: odd, a live quorum before and after, nobody unready promoted, no
    /// enrolled leader removed. `settle` checks that there is an end.
    #[test]
    fn every_start_comes_to_rest(mut world in worlds()) {
        world.settle();
        let Group { voters, learners, .. } = &world.group;
        if !world.quorum_answers(voters) {
            return Ok(());
        }
        let target = world.policy.target(world.nodes.len());
        prop_assert!(voters.len() <= target);
        prop_assert!(learners.iter().all(|l| world.nodes.contains_key(l)));
        let spare = target - voters.len();
        prop_assert!(learners.len() <= spare + world.policy.learners.max(voters.len()));
    }

    #[test]
    fn nodes_that_are_all_well_get_all_the_seats_and_zones(mut world in worlds()) {
        for (_, truth) in world.nodes.values_mut() {
            *truth = Truth { age: 100, ..Truth::default() };
        }
        world.settle();
        let Group { voters, learners, .. } = &world.group;
        if !world.quorum_answers(voters) || world.nodes.is_empty() {
            return Ok(());
        }
        let enrolled = world.nodes.len();
        let target = world.policy.target(enrolled);
        prop_assert_eq!(voters.len(), target);
        prop_assert!(voters.iter().all(|v| world.nodes.contains_key(v)));
        prop_assert_eq!(learners.len(), world.policy.learners.min(enrolled - target));
        let zones = |set: &mut dyn Iterator<Item = &NodeId>| {
            set.map(|n| world.nodes[n].0.clone()).collect::<BTreeSet<_>>().len()
        };
        let all = zones(&mut world.nodes.keys());
        // A learner is what brings a new zone in.
        if world.policy.learners > 0 {
            prop_assert_eq!(zones(&mut voters.iter()), all.min(target));
        }
    }

    #[test]
    fn whatever_changes_meanwhile_no_step_is_unsafe(
        mut world in worlds(),
        changes in prop::collection::vec((0usize..11, truths(), prop::bool::weighted(0.1)), 0..80),
    ) {
        for (i, truth, leaves) in changes {
            let id = node((b'A' + i as u8) as char);
            if leaves {
                world.nodes.remove(&id);
            } else if let Some((_, known)) = world.nodes.get_mut(&id) {
                *known = truth;
            }
            if let Some(change) = world.plan() {
                world.apply(&change);
            }
        }
        world.settle();
    }

    #[test]
    fn the_order_of_the_roster_does_not_matter(world in worlds()) {
        let mut roster = world.roster();
        roster.reverse();
        prop_assert_eq!(plan(&world.group, &roster, &world.policy), world.plan());
    }
}
