//! The command line as it is typed.

use super::*;
use clap::CommandFactory;

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn everything_that_is_promised_can_be_typed() {
    for line in [
        "hale node --config /etc/hale.toml --listen 127.0.0.1:0 --interval 250ms --data-dir /tmp/x",
        "hale demo --keep --only shop --json",
        "hale demo --nodes 7",
        "hale status --json",
        "hale --json status",
        "hale incidents",
        "hale incidents inc_1 --addr 127.0.0.1:1 --token t",
        "hale incidents --state all --service nginx --limit 5",
        "hale why inc_1",
        "hale approve",
        "hale approve apr_1 --by ana --reason ok",
        "hale deny apr_1",
        "hale playbook ls",
        "hale playbook show disk_log_cleanup",
        "hale playbook lint a.yaml b.yaml",
        "hale playbook schema",
        "hale playbook run disk_log_cleanup --dry-run --param a=1 --param b=x --host h --service s",
        "hale leases",
        "hale members --json",
        "hale members --all",
        "hale voters",
        "hale leader --json",
        "hale transfer-leadership",
        "hale transfer-leadership db-02 --by ana",
        "hale token create",
        "hale token create --ttl 7d --uses 20 --by ana",
        "hale token ls",
        "hale token list --json",
        "hale token revoke tok_1",
        "hale leave --reason retired",
        "hale remove db-02",
        "hale remove 1a2b3c4d --reason scrapped --yes --by ana",
        "hale budget ls",
        "hale budget set web --service nginx --at-most 2",
        "hale budget set web --percent 20",
        "hale budget set calm --per-hour 10 --by ana",
        "hale budget rm web",
        "hale backup a.backup",
        "hale backup a.backup --force --json",
        "hale restore a.backup --data-dir new",
        "hale restore a.backup --data-dir new --host db-1 --bind 10.0.0.5:7118 --yes",
        "hale restore a.backup --key-file node.key --advertise 10.0.0.5:7118 --json",
        "hale recover",
        "hale recover --data-dir d --json",
        "hale recover --as-sole-voter --yes",
        "hale audit verify",
        "hale audit verify file.jsonl",
        "hale audit export out.jsonl",
        "hale audit tail -n 5 -f",
        "hale freeze --reason release",
        "hale thaw",
        "hale metrics",
        "hale metrics db-01 disk --sort sigma",
        "hale baseline replay in.csv out.csv",
        "hale decision replay --incidents i.jsonl --playbooks p.jsonl out.jsonl",
        "hale demo-service restart --port 80 --dir /tmp/x",
    ] {
        assert!(
            parsed(line).is_ok(),
            "{line}: {}",
            parsed(line).unwrap_err()
        );
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for line in [
        "hale",
        "hale heal",
        "hale why",
        "hale freeze",
        "hale incidents --limit 0",
        "hale node --interval 5",
        "hale demo --nodes 0",
        "hale demo --nodes 10",
        "hale token",
        "hale token create --ttl 31d",
        "hale token create --ttl 0s",
        "hale token create --uses 0",
        "hale token revoke",
        "hale remove",
        "hale remove not/a*name",
        "hale budget set web",
        "hale budget set web --at-most 2 --percent 20",
        "hale budget set web --at-most 0",
        "hale budget set web --percent 101",
        "hale budget rm",
        "hale backup",
        "hale restore",
        "hale restore a.backup --host not/a*name",
        "hale recover --yes",
    ] {
        let error = parsed(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
    }
}

#[test]
fn every_command_teaches_by_example_or_is_one_word() {
    fn walk(command: &clap::Command, path: &str) {
        for sub in command.get_subcommands().filter(|s| !s.is_hide_set()) {
            let path = format!("{path} {}", sub.get_name());
            assert!(
                sub.get_about().is_some(),
                "{path} does not say what it is for"
            );
            let arguments = sub.get_positionals().count()
                + sub.get_opts().filter(|o| !o.is_global_set()).count();
            let is_group = sub.get_subcommands().next().is_some();
            let one_word = ["show", "thaw", "replay"].contains(&sub.get_name());
            let teaches = sub
                .get_after_help()
                .is_some_and(|h| h.to_string().contains("Examples:"));
            assert!(
                teaches || is_group || arguments == 0 || one_word,
                "{path} has no examples"
            );
            walk(sub, &path);
        }
    }
    walk(&Cli::command(), "hale");
}

#[test]
fn each_way_to_fail_has_its_exit_code_and_a_next_step() {
    let said = |status| CliError::Said {
        status,
        error: hale_api::ErrorView {
            code: "c".into(),
            message: "m".into(),
            next: "n".into(),
        },
    };
    let usage = CliError::Usage {
        what: "w".into(),
        next: "n".into(),
    };
    for (error, code) in [
        (CliError::NoNode("/x".into()), 3),
        (usage, 2),
        (said(401), 4),
        (said(409), 4),
        (said(422), 4),
        (said(404), 1),
        (said(500), 1),
        (said(503), 1),
    ] {
        assert_eq!(error.code(), code, "{error:?}");
        assert!(!error.next().is_empty());
    }
}

mod tables {
    use super::super::out::{Out, Table};
    use super::super::{budget, leases, members, status, voters};
    use hale_api::*;
    use hale_model::{Digest, ExecutionId, HostName, NodeId, ServiceName, Timestamp};

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn host(n: u8) -> HostName {
        HostName::new(format!("db-{n:02}")).unwrap()
    }

    fn check(table: &Table, wanted: &[&str]) {
        let lines = table.lines(&Out::plain());
        let lines: Vec<_> = lines.iter().map(|l| l.trim_end()).collect();
        assert_eq!(lines, wanted, "\n{}", lines.join("\n"));
    }

    fn member(n: u8, state: MemberState, seat: Seat) -> MemberView {
        MemberView {
            node: node(n),
            host: host(n),
            addr: Some(format!("10.0.0.{n}:7118")),
            http: None,
            state,
            incarnation: 0,
            zone: Some("a".into()),
            version: Some("0.1.0".into()),
            tags: Default::default(),
            seat,
            chain_entries: Some(12_345),
            chain_tip: None,
            is_self: n == 1,
            removed: n == 4,
        }
    }

    #[test]
    fn members_are_told_in_a_line_each() {
        let unknown = MemberView {
            addr: None,
            zone: None,
            version: None,
            chain_entries: None,
            ..member(3, MemberState::Unknown, Seat::None)
        };
        let members = [
            member(1, MemberState::Alive, Seat::Leader),
            member(2, MemberState::Down, Seat::Voter),
            unknown,
            member(4, MemberState::Alive, Seat::None),
        ];
        check(
            &members::table(&members),
            &[
                "HOST          NODE      STATE    SEAT    ZONE  VERSION   CHAIN  ADDRESS",
                "db-01 (this)  01010101  alive    leader  a     0.1.0    12,345  10.0.0.1:7118",
                "db-02         02020202  down     voter   a     0.1.0    12,345  10.0.0.2:7118",
                "db-03         03030303  unknown  -       -     -             -  -",
                "db-04         04040404  removed  -       a     0.1.0    12,345  10.0.0.4:7118",
            ],
        );
    }

    #[test]
    fn voters_are_told_with_what_they_lack() {
        let voter = |n: u8, seat, lag, silent| VoterView {
            node: node(n),
            host: (n != 3).then(|| host(n)),
            addr: format!("10.0.0.{n}:7118"),
            seat,
            zone: None,
            matched: Some(1041 - lag),
            lag: Some(lag),
            silent_ms: Some(silent),
        };
        let silent = VoterView {
            matched: None,
            lag: None,
            silent_ms: None,
            addr: String::new(),
            ..voter(3, Seat::Learner, 0, 0)
        };
        let view = VotersView {
            term: 3,
            leader: Some(node(1)),
            commit: 1040,
            last_log: 1041,
            voters: vec![
                voter(1, Seat::Leader, 0, 0),
                voter(2, Seat::Voter, 41, 9000),
                silent,
            ],
            quorum: 2,
            age_ms: 0,
            plan: None,
        };
        assert_eq!(
            voters::numbers(&view),
            "term 3, log 1,040 of 1,041 committed, 2 of 2 have to agree"
        );
        check(
            &voters::table(&view.voters),
            &[
                "HOST   NODE      SEAT     ZONE    HAS  LACKS  SILENT  ADDRESS",
                "db-01  01010101  leader   -     1,041      0    0 ms  10.0.0.1:7118",
                "db-02  02020202  voter    -     1,000     41     9 s  10.0.0.2:7118",
                "-      03030303  learner  -         -      -       -  -",
            ],
        );
    }

    #[test]
    fn a_node_s_status_says_who_is_alive_and_what_its_seat_is() {
        let mut ledger = LedgerStatus {
            role: "follower".into(),
            leader: Some(node(1)),
            term: 3,
            applied: 9,
            voters: vec![node(1), node(2)],
            learners: vec![node(3)],
            entries: 5,
            tip: Digest::of(b"tip"),
            members_alive: 3,
            members_known: 4,
            zone: Some("a".into()),
        };
        let said = |l: &LedgerStatus, n| status::members(l, node(n), &Out::plain());
        for (n, seat) in [(1, "leader"), (2, "voter"), (3, "learner"), (4, "none")] {
            let wanted = format!("3 of 4 alive, seat {seat}, zone a  hale members");
            assert_eq!(said(&ledger, n), wanted);
        }
        (ledger.members_alive, ledger.members_known, ledger.zone) = (1, 1, None);
        assert_eq!(said(&ledger, 1), "1 of 1 alive, seat leader");
    }

    #[test]
    fn budgets_and_waits_are_told_in_a_line_each() {
        let budget = |name: &str, service: Option<&str>, limit, used, allowed| BudgetView {
            name: name.into(),
            service: service.map(|s| ServiceName::new(s).unwrap()),
            limit,
            used,
            allowed,
        };
        check(
            &budget::table(&[
                budget("calm", None, BudgetLimitView::PerHour(10), 3, 10),
                budget("web", Some("nginx"), BudgetLimitView::Percent(20), 2, 2),
            ]),
            &[
                "BUDGET  SERVICE  LIMIT         USED  ALLOWED",
                "calm    -        10 per hour      3       10",
                "web     nginx    20 % at once     2        2",
            ],
        );
        let wait = WaitView {
            execution: ExecutionId::at(Timestamp::from_secs(0), 7),
            scope: "host:db-01".into(),
            holder: node(2),
            service: None,
            waits_for: "its turn".into(),
            position: 1,
        };
        check(
            &leases::waits(&[wait]),
            &[
                "WAITS  ON          FOR       NODE      EXECUTION",
                "    1  host:db-01  its turn  02020202  exe_19700101_000000_00000007",
            ],
        );
    }
}

#[test]
fn what_init_was_told_is_typed_again_at_each_start() {
    let line = "hale init --host a --bind 127.0.0.1:1 --listen 127.0.0.1:2 --interval 1s";
    let Command::Init(args) = parsed(line).unwrap().command else {
        panic!("{line}");
    };
    let again = format!("hale node{}", args.for_each_start());
    assert_eq!(
        again,
        "hale node --listen 127.0.0.1:2 --interval 1s --host a"
    );
    assert!(parsed(&again).is_ok());
}
