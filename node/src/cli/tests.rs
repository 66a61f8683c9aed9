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
