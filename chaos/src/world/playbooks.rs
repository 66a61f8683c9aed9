//! What is run in the simulated world: two playbooks that only pretend, one that may run again and
//! one that may not.

use super::TTL_MS;
use hale_executor::env;
use hale_executor::journal::Intent;
use hale_executor::run::{Limits, Setup};
use hale_model::{Digest, PlaybookName, Route};
use hale_playbooks::language::{Action, FailAction, Playbook, Proof, ScopeKind, Signature, Step};
use hale_playbooks::{Expr, Template};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn setup(intent: Intent, playbook: Playbook) -> Setup {
    let env = env::base(&intent.incident, &BTreeMap::new(), &BTreeMap::new(), None);
    let limits = Limits {
        lease_ttl: Duration::from_millis(TTL_MS),
        queue_wait: Duration::from_secs(40),
        regain_wait: Duration::from_secs(60),
    };
    Setup {
        intent,
        playbook,
        env,
        limits,
    }
}

pub(super) fn playbook(idempotent: bool) -> Playbook {
    let name = if idempotent {
        "simulated_idempotent"
    } else {
        "simulated_once"
    };
    let command = |name: &str, undoes: Option<&str>| Step {
        undoes: undoes.map(str::to_owned),
        ..step(
            name,
            Template::parse(name).map_or(
                Action::Wait {
                    duration: Duration::ZERO,
                },
                |t| Action::Command {
                    argv: vec![t],
                    expect_exit: vec![0],
                    cwd: None,
                    env: vec![],
                },
            ),
        )
    };
    let check = |name: &str| {
        let condition = Expr::parse("true");
        step(
            name,
            condition.map_or(
                Action::Wait {
                    duration: Duration::ZERO,
                },
                |condition| Action::Condition { condition },
            ),
        )
    };
    Playbook {
        // A literal that is a valid name.
        name: PlaybookName::new(name).unwrap_or_else(|_| unreachable!("a literal")),
        version: "1.0.0".into(),
        description: "simulated".into(),
        tags: vec![],
        idempotent,
        services: vec![],
        aliases: vec![],
        not_when: vec![],
        signature: Signature::default(),
        max_route: Route::Execute,
        scope: if idempotent {
            ScopeKind::Host
        } else {
            ScopeKind::Custom("shared".into())
        },
        max_duration: Duration::from_secs(300),
        proof: Proof::Proven,
        diagnose: vec![],
        parameters: vec![],
        pre_execution_checks: vec![Step {
            fail_action: FailAction::Abort,
            ..check("ready")
        }],
        // Longer than a lease lasts without being renewed.
        steps: ["first", "second", "third"]
            .map(|name| command(name, None))
            .to_vec(),
        verification: vec![check("healthy")],
        rollback: vec![
            command("undo_first", Some("first")),
            command("undo_second", Some("second")),
        ],
        no_rollback_reason: None,
        references: vec![],
        digest: Digest::of(name.as_bytes()),
    }
}

fn step(name: &str, action: Action) -> Step {
    Step {
        name: name.into(),
        action,
        reason: None,
        when: None,
        expect: None,
        timeout: Duration::from_secs(10),
        fail_action: FailAction::Rollback,
        max_wait: Duration::from_secs(30),
        retries: 0,
        retry_delay: Duration::from_secs(1),
        hold: Duration::ZERO,
        undoes: None,
    }
}
