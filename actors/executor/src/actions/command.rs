//! `command`: a program with its arguments, in a process group of its own, so that all it started
//! can be ended with it. Never a shell.

use super::{MAX_TEXT_BYTES, Stop, text};
use crate::journal::Phase;
use crate::plan::cut;
use crate::run::ActionResult;
use hale_model::{ExecutionId, StepStatus};
use hale_playbooks::{Env, Template};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long a command has to end after TERM, before KILL.
const GRACE: Duration = Duration::from_millis(800);
/// How long its output is waited for after it has ended: a child it left may keep it open.
const LAST_OUTPUT: Duration = Duration::from_millis(300);
const EXECUTION: &str = "HALE_EXECUTION";
const STEP: &str = "HALE_STEP";
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command whose texts are rendered.
pub(super) struct Wanted {
    argv: Vec<String>,
    cwd: String,
    env: BTreeMap<String, String>,
}

impl Wanted {
    pub(super) fn of(argv: Vec<String>) -> Self {
        let inherited = |name: &str| std::env::var(name).ok().map(|v| (name.to_owned(), v));
        let mut env: BTreeMap<_, _> = ["LANG", "HOME"].into_iter().filter_map(inherited).collect();
        let path = std::env::var("PATH").unwrap_or_else(|_| PATH.into());
        env.insert("PATH".into(), path);
        Self {
            argv,
            cwd: "/".into(),
            env,
        }
    }

    pub(super) fn render(
        argv: &[Template],
        cwd: Option<&Template>,
        further: &[(String, Template)],
        env: &Env,
    ) -> Result<Self, String> {
        let mut arguments = vec![];
        for template in argv {
            // A configured command (`${service.restart_command}`) is a list: each item stays one
            // argument, whatever is in it.
            match template.render(env).map_err(|e| e.to_string())? {
                Value::Array(items) if template.is_single() => {
                    for item in items {
                        match item {
                            Value::String(s) => arguments.push(s),
                            Value::Number(_) | Value::Bool(_) => arguments.push(item.to_string()),
                            other => return Err(format!("{other} can't be an argument")),
                        }
                    }
                }
                _ => arguments.push(text(template, env)?),
            }
        }
        let mut wanted = Self::of(arguments);
        if let Some(cwd) = cwd {
            wanted.cwd = text(cwd, env)?;
        }
        for (name, value) in further {
            wanted.env.insert(name.clone(), text(value, env)?);
        }
        Ok(wanted)
    }

    /// Marks it, so that it can be found and ended if this node dies before it does.
    pub(super) fn tag(&mut self, execution: &ExecutionId, phase: Phase, step: &str) {
        self.env.insert(EXECUTION.into(), execution.to_string());
        self.env.insert(STEP.into(), tag_of(phase, step));
    }
}

fn tag_of(phase: Phase, step: &str) -> String {
    format!("{phase:?}/{step}")
}

/// Kills the group unless it ended in peace: also when the future is dropped.
struct Group {
    leader: Pid,
    is_armed: bool,
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.is_armed {
            let _ = kill_process_group(self.leader, Signal::KILL);
        }
    }
}

/// Runs it. When this returns, its process group is gone, or it ended by itself.
pub(super) async fn run(wanted: Wanted, expect_exit: &[i32], stop: Stop) -> ActionResult {
    let Some(program) = wanted.argv.first().filter(|p| !p.is_empty()).cloned() else {
        return ActionResult::failed(Value::Null, "the command is empty");
    };
    let spawned = Command::new(&program)
        .args(&wanted.argv[1..])
        .env_clear()
        .envs(&wanted.env)
        .current_dir(&wanted.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let child = match spawned {
        Ok(child) => child,
        Err(e) => {
            let message = format!("`{program}` can't be started in {}: {e}", wanted.cwd);
            return ActionResult::failed(Value::Null, message);
        }
    };
    let Some(leader) = child.id().and_then(|id| Pid::from_raw(id as i32)) else {
        return ActionResult::failed(Value::Null, format!("`{program}` was gone at once"));
    };
    let mut group = Group {
        leader,
        is_armed: true,
    };
    attend(child, &mut group, &program, expect_exit, stop).await
}

async fn attend(
    mut child: Child,
    group: &mut Group,
    program: &str,
    expect_exit: &[i32],
    mut stop: Stop,
) -> ActionResult {
    let out = Output::gather(child.stdout.take());
    let err = Output::gather(child.stderr.take());
    let ended = tokio::select! {
        ended = child.wait() => Some(ended),
        () = stop.asked() => None,
    };
    let status = match ended {
        Some(Ok(status)) => {
            group.is_armed = false;
            Some(status)
        }
        Some(Err(_)) => None,
        None => {
            end(group, &mut stop).await;
            child.wait().await.ok()
        }
    };
    let was_stopped = group.is_armed;
    group.is_armed = false;
    let (stdout, stderr) = (out.end().await, err.end().await);
    judge(program, status, was_stopped, stdout, stderr, expect_exit)
}

/// TERM to the whole group, a moment, then KILL. The leader is not reaped in between, so that its
/// group's number can't be anybody else's.
async fn end(group: &Group, stop: &mut Stop) {
    let _ = kill_process_group(group.leader, Signal::TERM);
    let gone = async {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while let Ok(None) = waitid(WaitId::Pid(group.leader), look) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = gone => {}
        () = sleep(GRACE) => {}
        () = stop.at_once() => {}
    }
    let _ = kill_process_group(group.leader, Signal::KILL);
}

fn judge(
    program: &str,
    status: Option<ExitStatus>,
    was_stopped: bool,
    stdout: Text,
    stderr: Text,
    expect_exit: &[i32],
) -> ActionResult {
    let exit = status.and_then(|s| s.code());
    let signal = status.and_then(|s| s.signal());
    let said = match (stderr.text.is_empty(), stdout.text.is_empty()) {
        (true, true) => String::new(),
        (false, _) => format!(": {}", cut(last_line(&stderr.text), 300)),
        (true, false) => format!(": {}", cut(last_line(&stdout.text), 300)),
    };
    let result = json!({
        "exit": exit,
        "signal": signal,
        "stdout": stdout.text,
        "stderr": stderr.text,
        "dropped_bytes": stdout.dropped + stderr.dropped,
    });
    match (was_stopped, exit) {
        (true, _) => ActionResult {
            status: StepStatus::Interrupted,
            result,
            message: format!("`{program}` and what it started were ended{said}"),
        },
        (_, Some(code)) if expect_exit.contains(&code) => {
            ActionResult::success(result, format!("`{program}` ended with {code}"))
        }
        (_, Some(code)) => {
            let message =
                format!("`{program}` ended with {code}, expected is {expect_exit:?}{said}");
            ActionResult::failed(result, message)
        }
        (_, None) => {
            let by = signal.map_or_else(|| "unknown".into(), |s| s.to_string());
            ActionResult::failed(
                result,
                format!("`{program}` was ended by signal {by}{said}"),
            )
        }
    }
}

fn last_line(text: &str) -> &str {
    text.lines().next_back().unwrap_or_default()
}

struct Text {
    text: String,
    dropped: u64,
}

/// What a program writes, the first [`MAX_TEXT_BYTES`] of it; the rest is read and dropped, so that
/// the program is not held up.
struct Output {
    kept: Arc<Mutex<(Vec<u8>, u64)>>,
    reader: JoinHandle<()>,
}

impl Output {
    fn gather(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let kept = Arc::new(Mutex::new((vec![], 0)));
        let to = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let Some(mut pipe) = pipe else { return };
            let mut buffer = vec![0; 8192];
            while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
                let mut to = super::lock(&to);
                let room = MAX_TEXT_BYTES.saturating_sub(to.0.len()).min(n);
                to.0.extend_from_slice(&buffer[..room]);
                to.1 += (n - room) as u64;
            }
        });
        Self { kept, reader }
    }

    async fn end(mut self) -> Text {
        if timeout(LAST_OUTPUT, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        let kept = super::lock(&self.kept);
        Text {
            text: String::from_utf8_lossy(&kept.0).trim_end().to_owned(),
            dropped: kept.1,
        }
    }
}

/// A process that a dead run left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its pid.
    pub pid: i32,
    /// Its step.
    pub step: String,
}

/// Ends what is still running of a step that a dead node started: before anything else is done
/// for that run. Tells what it found.
pub fn end_leftovers(execution: &ExecutionId, phase: Phase, step: &str) -> Vec<Leftover> {
    let tag = tag_of(phase, step);
    let wanted = [format!("{EXECUTION}={execution}"), format!("{STEP}={tag}")];
    let mut found = vec![];
    // What a killed process forked in its last moment is found by the next round.
    for _ in 0..5 {
        let living: Vec<i32> = tagged(&wanted);
        if living.is_empty() {
            break;
        }
        for pid in living {
            if let Some(p) = Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(p, Signal::KILL);
            }
            found.push(Leftover {
                pid,
                step: step.to_owned(),
            });
        }
    }
    found.dedup();
    found
}

fn tagged(wanted: &[String]) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return vec![];
    };
    let pids = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |w: &String| environ.split(|b| *b == 0).any(|var| var == w.as_bytes());
        *pid != std::process::id() as i32 && wanted.iter().all(has)
    })
    .collect()
}
