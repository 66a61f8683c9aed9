//! A program that a sensor runs: bounded in time and in what is read of it, with nothing of the
//! node's environment, and gone with all it started when its time is over.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is read of an answer; the rest is thrown away.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its exit code; none if a signal ended it.
    pub(crate) exit: Option<i32>,
    /// The beginning of its standard output.
    pub(crate) text: String,
}

/// Runs a program to its end.
///
/// # Errors
/// If it can't be started or did not end in time, in words.
pub(crate) async fn run(argv: &[String], timeout: Duration) -> Result<Said, String> {
    let [program, arguments @ ..] = argv else {
        return Err("there is no program to run".to_owned());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => format!("there is no program {program}"),
            _ => format!("{program} can't be started: {e}"),
        })?;
    let group = Group::of(&child);
    let answer = child.stdout.take();
    let reading = async {
        let mut bytes = Vec::new();
        if let Some(mut answer) = answer {
            (&mut answer)
                .take(MAX_ANSWER_BYTES)
                .read_to_end(&mut bytes)
                .await?;
            // Read on, so that it can end.
            tokio::io::copy(&mut answer, &mut tokio::io::sink()).await?;
        }
        Ok::<_, io::Error>((bytes, child.wait().await?))
    };
    let ended = tokio::time::timeout(timeout, reading).await;
    drop(group);
    match ended {
        Ok(Ok((bytes, status))) => Ok(Said {
            exit: status.code(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }),
        Ok(Err(e)) => Err(format!("{program} can't be read: {e}")),
        Err(_) => Err(format!(
            "{program} did not end within {}",
            crate::Span(timeout)
        )),
    }
}

/// A program and what it started; killed when it is let go.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // What has ended already can't be killed, and need not be.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str, timeout: Duration) -> Result<Said, String> {
        run(&["sh", "-c", script].map(str::to_owned), timeout).await
    }

    #[tokio::test]
    async fn what_it_says_and_how_it_ends_is_told() {
        let said = sh("echo one; echo two >&2; exit 2", Duration::from_secs(5)).await;
        let text = "one\n".to_owned();
        assert_eq!(
            said,
            Ok(Said {
                exit: Some(2),
                text
            })
        );
        let said = sh("kill -9 $$", Duration::from_secs(5)).await.unwrap();
        assert_eq!(said.exit, None);
        let missing = run(&["/no/such".to_owned()], Duration::from_secs(1)).await;
        assert_eq!(missing, Err("there is no program /no/such".to_owned()));
    }

    #[tokio::test]
    async fn it_has_nothing_of_our_environment_and_says_so_much_at_most() {
        let said = sh("env | grep -c CARGO", Duration::from_secs(5)).await;
        assert_eq!(said.unwrap().text, "0\n");
        let said = sh("head -c 1000000 /dev/zero", Duration::from_secs(5)).await;
        let said = said.unwrap();
        assert_eq!(said.exit, Some(0));
        assert_eq!(said.text.len() as u64, MAX_ANSWER_BYTES);
    }

    #[tokio::test]
    async fn what_takes_too_long_is_ended_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", pid.display());
        let error = sh(&script, Duration::from_millis(500)).await.unwrap_err();
        assert!(error.contains("did not end within 500ms"), "{error}");
        let pid = std::fs::read_to_string(pid).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        for _ in 0..100 {
            match stat() {
                Ok(stat) if !stat.contains(") Z ") => {}
                _ => return,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("what it started goes on: {:?}", stat());
    }
}
