//! The library that comes with the binary, and the language's committed schema.

use hale_model::Route;
use hale_playbooks::{Action, FailAction, Playbook, library, lint, load_all, schema};
use std::collections::BTreeSet;
use std::path::Path;

fn playbooks() -> Vec<Playbook> {
    load_all(library()).unwrap_or_else(|findings| {
        let all: Vec<_> = findings.iter().map(ToString::to_string).collect();
        panic!("{}", all.join("\n"))
    })
}

#[test]
fn every_playbook_of_the_library_is_without_findings() {
    let found: Vec<_> = library()
        .iter()
        .flat_map(|(file, text)| lint(file, text))
        .collect();
    let all: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{}", all.join("\n"));
}

#[test]
fn a_playbook_stands_in_the_file_of_its_name() {
    for (file, text) in library() {
        let playbook = hale_playbooks::parse(&file, text).unwrap();
        let stem = Path::new(&file)
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        assert_eq!(playbook.name.as_str(), stem, "{file}");
    }
}

#[test]
fn whatever_acts_alone_looks_before_and_after() {
    for p in playbooks().iter().filter(|p| p.max_route == Route::Execute) {
        let kinds: BTreeSet<_> = p
            .pre_execution_checks
            .iter()
            .map(|c| c.action.kind())
            .collect();
        assert!(
            kinds.contains("tag_check") && kinds.contains("concurrency_check"),
            "{}",
            p.name
        );
        assert!(p.idempotent, "{}", p.name);
        assert!(
            p.verification
                .iter()
                .any(|v| v.fail_action != FailAction::Warn),
            "{}",
            p.name
        );
        assert!(
            !p.signature.series.is_empty() || !p.signature.logs.is_empty(),
            "{}",
            p.name
        );
    }
}

#[test]
fn no_playbook_of_the_library_starts_a_shell() {
    for p in playbooks() {
        for step in p
            .steps
            .iter()
            .chain(&p.rollback)
            .chain(&p.verification)
            .chain(&p.pre_execution_checks)
            .chain(p.diagnose.iter().map(|probe| &probe.step))
        {
            if let Action::Command { argv, .. } = &step.action {
                let program = argv[0].as_str().rsplit('/').next().unwrap_or_default();
                let is_shell = ["sh", "bash", "dash", "zsh", "ksh"].contains(&program);
                assert!(!is_shell, "{} {}", p.name, step.name);
            }
        }
    }
}

#[test]
fn a_run_can_not_outlive_its_bound() {
    for p in playbooks() {
        for step in p
            .steps
            .iter()
            .chain(&p.verification)
            .chain(&p.pre_execution_checks)
        {
            assert!(step.timeout <= p.max_duration, "{} {}", p.name, step.name);
            assert!(
                step.hold < p.max_duration && step.max_wait < p.max_duration,
                "{} {}",
                p.name,
                step.name
            );
        }
    }
}

/// `UPDATE_EXPECT=1 cargo test -p hale-playbooks` writes it anew.
#[test]
fn the_committed_schema_is_in_step_with_the_language() {
    let text = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    expect_test::expect_file!["../schema.json"].assert_eq(&text);
}

#[test]
fn the_example_of_the_readme_is_without_findings() {
    let readme = include_str!("../README.md");
    let example = readme
        .split("```yaml\n")
        .nth(1)
        .and_then(|r| r.split("```").next())
        .unwrap();
    let found: Vec<_> = lint("README.md", example)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
