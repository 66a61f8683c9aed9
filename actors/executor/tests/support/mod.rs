//! What the tests of actions share: tools without a cluster, and steps to perform with them.

#![allow(dead_code, reason = "each test file uses its own part")]

use hale_executor::actions::{Context, Level, Lookups, Stop, Tools};
use hale_executor::journal::Phase;
use hale_executor::{ActionResult, ExecutorConfig, Perform};
use hale_model::port::port;
use hale_model::{ExecutionId, HostName, Timestamp};
use hale_playbooks::language::{Action, FailAction, Step};
use hale_playbooks::{Env, Template};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::watch;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn lookups() -> Lookups {
    Lookups {
        leases: port(|()| async { Ok(vec![]) }),
        readings: port(|_| async { vec![] }),
        secrets: port(|name: String| async move {
            match name.as_str() {
                "token" => Ok("s3cr3t-value".to_owned()),
                _ => Err("it is not configured".into()),
            }
        }),
        tags: port(|()| async { BTreeMap::new() }),
    }
}

pub(crate) fn tools(config: ExecutorConfig) -> Tools {
    Tools::new(&config, lookups())
}

pub(crate) fn context() -> Context {
    Context {
        execution: ExecutionId::at(Timestamp::from_secs(1), std::process::id()),
        host: HostName::new("here").unwrap(),
        service: None,
        offsets: Default::default(),
        secrets: Default::default(),
    }
}

pub(crate) fn env() -> Env {
    [
        ("params".to_owned(), json!({})),
        ("service".to_owned(), json!({})),
    ]
    .into()
}

pub(crate) fn text(t: &str) -> Template {
    Template::parse(t).unwrap()
}

pub(crate) fn step(name: &str, action: Action) -> Step {
    Step {
        name: name.into(),
        action,
        reason: None,
        when: None,
        expect: None,
        timeout: PATIENCE,
        fail_action: FailAction::Abort,
        max_wait: Duration::ZERO,
        retries: 0,
        retry_delay: Duration::from_millis(100),
        hold: Duration::ZERO,
        undoes: None,
    }
}

pub(crate) fn command(argv: &[&str]) -> Action {
    Action::Command {
        argv: argv.iter().map(|a| text(a)).collect(),
        expect_exit: vec![0],
        cwd: None,
        env: vec![],
    }
}

pub(crate) fn perform(action: Action, env: Env) -> Perform {
    Perform {
        ticket: 1,
        phase: Phase::Steps,
        step: step("it", action),
        env,
        timeout: PATIENCE,
    }
}

pub(crate) fn stop() -> (watch::Sender<Level>, Stop) {
    Stop::channel()
}

/// Performs an action to its end.
pub(crate) async fn act(tools: &Tools, action: Action) -> ActionResult {
    act_in(tools, &context(), action, env()).await
}

pub(crate) async fn act_in(
    tools: &Tools,
    context: &Context,
    action: Action,
    env: Env,
) -> ActionResult {
    let (_go_on, stop) = stop();
    tools.perform(context, perform(action, env), stop).await
}

/// Waits for something to become true.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it did not come to be: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process runs (a zombie does not).
pub(crate) fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) fn pid_in(path: &std::path::Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

pub(crate) fn number(result: &ActionResult, name: &str) -> u64 {
    result
        .result
        .get(name)
        .and_then(Value::as_u64)
        .unwrap_or(u64::MAX)
}
