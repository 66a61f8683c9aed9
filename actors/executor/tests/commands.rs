//! Commands and processes, with real ones.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use hale_executor::actions::{Level, end_leftovers};
use hale_executor::journal::Phase;
use hale_executor::{ActionResult, ExecutorConfig};
use hale_model::StepStatus;
use hale_playbooks::language::{Action, ProcessMatch, ProcessOperation, UnitOperation};
use serde_json::json;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::*;

fn stdout(result: &ActionResult) -> &str {
    result.result["stdout"].as_str().unwrap()
}

/// A process of the test's own, ended with it.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Victim {
    fn start(argv: &[&str]) -> Self {
        let child = Command::new(argv[0])
            .args(&argv[1..])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

#[tokio::test]
async fn an_argument_stays_one_argument_whatever_is_in_it() {
    let tools = tools(ExecutorConfig::default());
    let nasty = "a b; touch /tmp/x $(id) `id` | > & '\"";
    let mut env = env();
    env.insert(
        "params".into(),
        json!({"nasty": nasty, "list": ["one two", 3]}),
    );
    let action = command(&["printf", "%s|", "${params.nasty}", "${params.list}"]);
    let done = act_in(&tools, &context(), action, env).await;
    assert_eq!(stdout(&done), format!("{nasty}|one two|3|"));
}

#[tokio::test]
async fn a_command_inherits_nothing_but_path_home_and_language() {
    let tools = tools(ExecutorConfig::default());
    let Action::Command {
        argv,
        expect_exit,
        cwd,
        ..
    } = command(&["env"])
    else {
        unreachable!()
    };
    let env = vec![("MINE".to_owned(), text("yes"))];
    let done = act(
        &tools,
        Action::Command {
            argv,
            expect_exit,
            cwd,
            env,
        },
    )
    .await;
    let names: Vec<&str> = stdout(&done)
        .lines()
        .filter_map(|l| l.split('=').next())
        .collect();
    assert!(
        names.contains(&"MINE") && names.contains(&"HALE_EXECUTION"),
        "{names:?}"
    );
    let known = [
        "PATH",
        "HOME",
        "LANG",
        "MINE",
        "HALE_EXECUTION",
        "HALE_STEP",
    ];
    assert!(names.iter().all(|n| known.contains(n)), "{names:?}");
}

#[tokio::test]
async fn a_command_that_fails_says_why_and_one_that_is_not_there_too() {
    let tools = tools(ExecutorConfig::default());
    let done = act(
        &tools,
        command(&["sh", "-c", "echo disk on fire >&2; exit 7"]),
    )
    .await;
    assert_eq!(
        (done.status, &done.result["exit"]),
        (StepStatus::Failed, &json!(7))
    );
    assert!(
        done.message.contains("disk on fire") && done.message.contains("7"),
        "{}",
        done.message
    );
    let done = act(&tools, command(&["/no/such/program"])).await;
    assert!(
        done.message.contains("/no/such/program"),
        "{}",
        done.message
    );
}

#[tokio::test]
async fn a_flood_of_output_is_cut_and_does_not_hold_the_program_up() {
    let tools = tools(ExecutorConfig::default());
    let done = act(&tools, command(&["head", "-c", "3000000", "/dev/zero"])).await;
    assert_eq!(done.status, StepStatus::Success);
    assert_eq!(stdout(&done).len(), 64 << 10);
    assert_eq!(number(&done, "dropped_bytes"), 3_000_000 - (64 << 10));
}

#[tokio::test]
async fn a_child_that_ignores_term_is_killed_with_all_it_started() {
    for level in [Level::Gently, Level::AtOnce] {
        let tools = tools(ExecutorConfig::default());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("grandchild");
        let script = format!(
            "trap '' TERM; (trap '' TERM; sleep 1000) & echo $! > {}; wait; sleep 1000",
            file.display()
        );
        let (tell, stop) = stop();
        let begun = Instant::now();
        let asking = async {
            until("it has started its own", || pid_in(&file).is_some()).await;
            tell.send(level).unwrap();
        };
        let perform = perform(command(&["sh", "-c", &script]), env());
        let context = context();
        let (done, ()) = tokio::join!(tools.perform(&context, perform, stop), asking);
        assert_eq!(done.status, StepStatus::Interrupted, "{}", done.message);
        assert!(begun.elapsed() < Duration::from_secs(10));
        let pid = pid_in(&file).unwrap();
        until("its own is dead too", || !is_running(pid)).await;
    }
}

#[tokio::test]
async fn a_run_that_is_dropped_takes_its_processes_along() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let script = format!("echo $$ > {}; sleep 1000", file.display());
    let task = tokio::spawn(async move {
        let tools = tools(ExecutorConfig::default());
        let (_go_on, stop) = stop();
        tools
            .perform(
                &context(),
                perform(command(&["sh", "-c", &script]), env()),
                stop,
            )
            .await
    });
    until("it runs", || pid_in(&file).is_some()).await;
    let pid = pid_in(&file).unwrap();
    task.abort();
    until("it is dead", || !is_running(pid)).await;
}

#[tokio::test]
async fn what_a_dead_node_left_running_of_a_step_is_found_and_ended() {
    let context = context();
    let start = |step: &str| {
        let mut command = Command::new("sleep");
        command
            .arg("1000")
            .env("HALE_EXECUTION", context.execution.as_str());
        command.env("HALE_STEP", step).process_group(0);
        Victim(command.spawn().unwrap())
    };
    let (left, other) = (start("Steps/restart"), start("Steps/earlier"));
    let found = end_leftovers(&context.execution, Phase::Steps, "restart");
    assert_eq!(
        found.iter().map(|l| l.pid).collect::<Vec<_>>(),
        [left.pid()]
    );
    until("it is dead", || !is_running(left.pid())).await;
    assert!(
        is_running(other.pid()),
        "what an earlier step started is a service by now"
    );
}

#[tokio::test]
async fn a_secret_is_given_to_the_command_and_masked_in_all_it_says() {
    let tools = tools(ExecutorConfig::default());
    let context = context();
    let action = command(&[
        "sh",
        "-c",
        "echo got $0; echo $0 >&2; exit 3",
        "${secret.token}",
    ]);
    let done = act_in(&tools, &context, action, env()).await;
    assert_eq!(stdout(&done), "got ***");
    assert!(!format!("{done:?}").contains("s3cr3t-value"), "{done:?}");
    // It stays masked in what later steps find.
    let done = act_in(&tools, &context, command(&["echo", "s3cr3t-value"]), env()).await;
    assert_eq!(stdout(&done), "***");
    let done = act(&tools, command(&["echo", "${secret.nowhere}"])).await;
    assert!(
        done.message.contains("no secret `nowhere`"),
        "{}",
        done.message
    );
}

#[tokio::test]
async fn a_unit_on_a_host_without_systemd_is_a_clear_error() {
    if Path::new("/run/systemd/system").exists() {
        eprintln!("SKIPPED: systemd runs this host");
        return;
    }
    let tools = tools(ExecutorConfig::default());
    let action = |unit: &str| Action::SystemdUnit {
        unit: text(unit),
        operation: UnitOperation::Restart,
        expect_state: Some("active".into()),
    };
    let done = act(&tools, action("nginx.service")).await;
    assert!(
        done.message.contains("systemd does not run this host"),
        "{}",
        done.message
    );
    let done = act(&tools, action("--now")).await;
    assert!(
        done.message.contains("not a unit's name"),
        "{}",
        done.message
    );
}

fn signal(matching: ProcessMatch, kill_after: bool) -> Action {
    let operation = ProcessOperation::Signal {
        signal: "TERM".into(),
        grace: Duration::from_millis(300),
        kill_after,
    };
    Action::Process {
        matching,
        operation,
    }
}

fn by_cmdline(pattern: &str, limit: u32) -> ProcessMatch {
    ProcessMatch {
        cmdline: Some(text(pattern)),
        limit,
        ..ProcessMatch::default()
    }
}

#[tokio::test]
async fn processes_are_ended_and_those_that_ignore_it_only_where_that_is_wanted() {
    let tools = tools(ExecutorConfig::default());
    // A signal that is ignored stays ignored by what the shell becomes.
    let mark = format!("98{}", std::process::id());
    let stubborn = Victim::start(&["sh", "-c", &format!("trap '' TERM; exec sleep {mark}")]);
    let pattern = format!("^sleep {mark}$");
    let cmdline = format!("/proc/{}/cmdline", stubborn.pid());
    until("it ignores TERM", || {
        std::fs::read(&cmdline).is_ok_and(|c| c.starts_with(b"sleep"))
    })
    .await;
    let done = act(&tools, signal(by_cmdline(&pattern, 1), false)).await;
    assert_eq!(
        (done.status, number(&done, "left")),
        (StepStatus::Failed, 1),
        "{done:?}"
    );
    assert!(is_running(stubborn.pid()));
    let done = act(&tools, signal(by_cmdline(&pattern, 1), true)).await;
    assert_eq!(
        (done.status, number(&done, "killed")),
        (StepStatus::Success, 1),
        "{done:?}"
    );
    assert!(!is_running(stubborn.pid()));
    let done = act(&tools, signal(by_cmdline(&pattern, 1), true)).await;
    assert_eq!(
        done.status,
        StepStatus::Success,
        "a second time there is nothing to do"
    );
}

#[tokio::test]
async fn more_processes_than_the_limit_are_all_left_alone() {
    let tools = tools(ExecutorConfig::default());
    let mark = format!("97{}", std::process::id());
    let victims = [
        Victim::start(&["sleep", &mark]),
        Victim::start(&["sleep", &mark]),
    ];
    let done = act(
        &tools,
        signal(by_cmdline(&format!("^sleep {mark}$"), 1), true),
    )
    .await;
    assert_eq!(
        (done.status, number(&done, "count")),
        (StepStatus::Failed, 2),
        "{done:?}"
    );
    assert!(victims.iter().all(|v| is_running(v.pid())));
}

#[tokio::test]
async fn the_first_process_and_this_one_are_never_signalled() {
    let tools = tools(ExecutorConfig::default());
    for pid in [1, std::process::id()] {
        let pid = Some(text(&pid.to_string()));
        let matching = ProcessMatch {
            pid,
            limit: 5,
            ..ProcessMatch::default()
        };
        let done = act(&tools, signal(matching, true)).await;
        assert!(done.message.contains("never touched"), "{}", done.message);
    }
}

#[tokio::test]
async fn a_service_is_found_by_its_pid_file_and_one_without_is_not_running() {
    let tools = tools(ExecutorConfig::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("it.pid");
    let victim = Victim::start(&["sleep", "1000"]);
    let matching = |limit| ProcessMatch {
        pid_file: Some(text(&file.display().to_string())),
        limit,
        ..ProcessMatch::default()
    };
    let count = || Action::Process {
        matching: matching(1),
        operation: ProcessOperation::Count,
    };
    assert_eq!(number(&act(&tools, count()).await, "count"), 0);
    std::fs::write(&file, format!("{}\n", victim.pid())).unwrap();
    assert_eq!(number(&act(&tools, count()).await, "count"), 1);
    let operation = ProcessOperation::Renice { nice: 7 };
    let done = act(
        &tools,
        Action::Process {
            matching: matching(1),
            operation,
        },
    )
    .await;
    assert_eq!(done.status, StepStatus::Success, "{done:?}");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", victim.pid())).unwrap();
    assert_eq!(stat.split(' ').nth(18), Some("7"));
}

#[tokio::test]
async fn a_zombie_is_reaped_through_its_parent() {
    let tools = tools(ExecutorConfig::default());
    let dir = tempfile::tempdir().unwrap();
    let name = format!("zz{}", std::process::id());
    let program = dir.path().join(&name);
    std::fs::copy("/bin/sleep", &program).unwrap();
    // The shell becomes a program that does not care for the child it is left with.
    let script = format!("{} 0.01 & exec sleep 1000", program.display());
    let parent = Victim::start(&["sh", "-c", &script]);
    let zombies = || ProcessMatch {
        name: Some(text(&name)),
        state: Some("Z".into()),
        limit: 3,
        ..ProcessMatch::default()
    };
    let begun = Instant::now();
    loop {
        let action = Action::Process {
            matching: zombies(),
            operation: ProcessOperation::Count,
        };
        if number(&act(&tools, action).await, "count") == 1 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "there is a zombie");
    }
    let done = act(
        &tools,
        signal(
            ProcessMatch {
                parent: true,
                ..zombies()
            },
            true,
        ),
    )
    .await;
    assert_eq!(done.status, StepStatus::Success, "{done:?}");
    assert!(!is_running(parent.pid()));
}

#[tokio::test]
async fn a_process_that_takes_a_whole_cpu_is_told_from_one_that_sleeps() {
    let tools = tools(ExecutorConfig::default());
    let mark = format!("busy{}", std::process::id());
    let _busy = Victim::start(&["sh", "-c", "while :; do :; done", &mark]);
    let _idle = Victim::start(&["sh", "-c", "while :; do sleep 1; done", &mark]);
    let matching = ProcessMatch {
        min_cpu_percent: Some(5.0),
        ..by_cmdline(&mark, 1)
    };
    let action = Action::Process {
        matching,
        operation: ProcessOperation::Count,
    };
    let done = act(&tools, action).await;
    assert_eq!(number(&done, "count"), 1, "{done:?}");
}
