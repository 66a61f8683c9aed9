//! A PostgreSQL cluster of a test's own, in a temporary directory, run without privileges.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) struct Cluster {
    directory: tempfile::TempDir,
    programs: PathBuf,
    pub port: u16,
}

impl Cluster {
    /// Starts one, or says loudly why there is none here: past the capture of a passing test's
    /// output.
    pub(crate) fn start(test: &str, settings: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: {test}: PostgreSQL's programs are not installed"
            );
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let cluster = Self {
            directory: tempfile::tempdir().unwrap(),
            programs,
            port,
        };
        if is_root() {
            let owned = Command::new("chown")
                .arg("postgres")
                .arg(cluster.directory.path())
                .status();
            if !owned.is_ok_and(|s| s.success()) {
                let _ = writeln!(
                    std::io::stderr(),
                    "SKIPPED: {test}: there is no user postgres to run the server as"
                );
                return None;
            }
        }
        let data = cluster.data();
        let made = cluster.run(
            "initdb",
            &[
                "-D",
                &data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ],
        );
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let options = format!(
            "-p {port} -k {} -c listen_addresses=127.0.0.1 -c fsync=off {settings}",
            cluster.directory.path().display()
        );
        let log = cluster.directory.path().join("server.log");
        let log = log.to_string_lossy();
        let started = cluster.run(
            "pg_ctl",
            &["-D", &data, "-w", "-l", &log, "-o", &options, "start"],
        );
        assert!(
            started.status.success(),
            "{}",
            std::fs::read_to_string(&*log).unwrap_or_default()
        );
        Some(cluster)
    }

    pub(crate) fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) fn stop(&self) {
        self.run(
            "pg_ctl",
            &["-D", &self.data(), "-m", "immediate", "-w", "stop"],
        );
    }

    fn data(&self) -> String {
        self.directory
            .path()
            .join("data")
            .to_string_lossy()
            .into_owned()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let path = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        // The server would keep our pipes open for as long as it runs.
        let log = self.directory.path().join("programs.log");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let status = command
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .status()
            .unwrap();
        Output {
            status,
            stdout: Vec::new(),
            stderr: std::fs::read(self.directory.path().join("programs.log")).unwrap(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if Path::new(&self.data()).join("postmaster.pid").exists() {
            self.stop();
        }
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut all: Vec<PathBuf> = versions.flatten().map(|v| v.path().join("bin")).collect();
    all.sort();
    all.into_iter().rfind(|p| p.join("initdb").exists())
}
