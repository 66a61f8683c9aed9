//! A PostgreSQL server of a test's own, in a temporary directory, run without privileges.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) struct Cluster {
    directory: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
}

impl Cluster {
    /// Starts one, or says loudly why there is none here.
    pub(crate) fn start(test: &str, settings: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("SKIPPED: {test}: PostgreSQL's programs are not installed");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        if is_root() {
            let owned = Command::new("chown")
                .arg("postgres")
                .arg(directory.path())
                .status();
            if !owned.is_ok_and(|s| s.success()) {
                eprintln!("SKIPPED: {test}: there is no user postgres to run the server as");
                return None;
            }
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let cluster = Self {
            directory,
            programs,
            port,
        };
        let auth = [
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ];
        cluster.run("initdb", &[&["-D", &cluster.data()], &auth[..]].concat());
        let options = format!(
            "-p {port} -k {} -c listen_addresses=127.0.0.1 -c fsync=off {settings}",
            cluster.directory.path().display()
        );
        cluster.run(
            "pg_ctl",
            &["-D", &cluster.data(), "-w", "-o", &options, "start"],
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
        self.directory.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let path = self.programs.join(program);
        let mut command = match is_root() {
            true => Command::new("runuser"),
            false => Command::new(&path),
        };
        if is_root() {
            command.args(["-u", "postgres", "--"]).arg(path);
        }
        // The server would keep our pipes open for as long as it runs.
        let log = self.directory.path().join("log");
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let status = command
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .status();
        assert!(
            status.unwrap().success(),
            "{program}: {}",
            std::fs::read_to_string(log).unwrap()
        );
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
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut all: Vec<PathBuf> = versions.flatten().map(|v| v.path().join("bin")).collect();
    all.sort();
    all.into_iter().rfind(|p| p.join("initdb").exists())
}
