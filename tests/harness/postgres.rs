//! A PostgreSQL cluster of a test's own, and a small client for it: enough of the protocol
//! (version 3, no passwords) to hold a hundred sessions without a thread each.

use super::scratch::{Scratch, free_port};
use super::wait::skipped;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A running cluster, stopped and removed when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// Its port on loopback.
    pub port: u16,
    programs: PathBuf,
    scratch: Scratch,
}

impl Cluster {
    /// Starts one, or says that `test` is skipped where PostgreSQL is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn start(test: &str, max_connections: u32) -> Option<Self> {
        let Some(programs) = programs() else {
            skipped(test, "PostgreSQL's programs are not installed");
            return None;
        };
        let cluster = Self {
            port: free_port(),
            programs,
            scratch: Scratch::new(),
        };
        let dir = cluster.scratch.dir();
        if is_root() {
            // The server refuses to run as root.
            let owned = Command::new("chown").arg("postgres").arg(dir).status();
            if !owned.is_ok_and(|s| s.success()) {
                skipped(test, "there is no user postgres to run the server as");
                return None;
            }
        }
        let data = cluster.data();
        cluster.run(
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
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off -c shared_buffers=16MB \
             -c max_connections={max_connections} -c logging_collector=off",
            cluster.port,
            dir.display(),
        );
        cluster.start_with(&options);
        fs::write(dir.join("options"), options).unwrap();
        Some(cluster)
    }

    fn start_with(&self, options: &str) {
        let log = self.log().to_string_lossy().into_owned();
        self.run(
            "pg_ctl",
            &[
                "-D",
                &self.data(),
                "-w",
                "-t",
                "20",
                "-l",
                &log,
                "-o",
                options,
                "start",
            ],
        );
    }

    /// Starts it again after [`Cluster::stop`].
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_again(&self) {
        self.start_with(&self.scratch.read("options"));
    }

    /// Stops it at once, as a crash would.
    pub fn stop(&self) {
        if PathBuf::from(self.data()).join("postmaster.pid").exists() {
            self.run(
                "pg_ctl",
                &[
                    "-D",
                    &self.data(),
                    "-m",
                    "immediate",
                    "-w",
                    "-t",
                    "10",
                    "stop",
                ],
            );
        }
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.scratch.path("server.log")
    }

    /// How to reach it as a user.
    pub fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }

    /// A new session.
    ///
    /// # Errors
    /// If the server refuses it.
    pub fn session(&self, user: &str, application: &str) -> Result<Session, PgError> {
        Session::open(self.port, user, application)
    }

    /// Runs statements as the superuser.
    ///
    /// # Panics
    /// If one fails.
    #[track_caller]
    pub fn sql(&self, text: &str) -> Vec<Vec<Option<String>>> {
        let mut session = self.session("postgres", "test").unwrap();
        session.query(text).unwrap()
    }

    fn data(&self) -> String {
        self.scratch.text_path("data")
    }

    fn run(&self, program: &str, args: &[&str]) {
        let path = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        // Not our pipes: the server would keep them open for as long as it runs.
        let said = self.scratch.path("programs.log");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(said)
            .unwrap();
        let status = command
            .args(args)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .status()
            .unwrap();
        let read = |name| self.scratch.read(name);
        assert!(
            status.success(),
            "{program}: {}\n{}",
            read("programs.log"),
            read("server.log")
        );
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
            return;
        }
        // A second panic would abort; the pid file names the process to end.
        let pid = fs::read_to_string(PathBuf::from(self.data()).join("postmaster.pid"));
        let pid = pid.ok().and_then(|t| t.lines().next()?.trim().parse().ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::QUIT).ok();
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut all: Vec<PathBuf> = versions.flatten().map(|v| v.path().join("bin")).collect();
    all.sort();
    all.into_iter().rfind(|p| p.join("initdb").exists())
}

/// Why the server refused something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgError {
    /// The SQLSTATE; empty if there was no answer.
    pub code: String,
    /// What the server said.
    pub message: String,
}

impl PgError {
    /// Whether all connections are taken.
    pub fn is_full(&self) -> bool {
        self.code == "53300"
    }
}

impl From<io::Error> for PgError {
    fn from(e: io::Error) -> Self {
        Self {
            code: String::new(),
            message: e.to_string(),
        }
    }
}

/// One session.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    /// The process that serves it.
    pub pid: u32,
}

impl Session {
    fn open(port: u16, user: &str, application: &str) -> Result<Self, PgError> {
        let bound = Duration::from_secs(5);
        let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), bound)?;
        stream.set_read_timeout(Some(bound))?;
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        for text in [
            "user",
            user,
            "database",
            "postgres",
            "application_name",
            application,
        ] {
            startup.extend_from_slice(text.as_bytes());
            startup.push(0);
        }
        startup.push(0);
        let mut session = Self { stream, pid: 0 };
        let length = u32::try_from(startup.len() + 4).unwrap();
        session
            .stream
            .write_all(&[&length.to_be_bytes(), startup.as_slice()].concat())?;
        session.answer()?;
        Ok(session)
    }

    /// Runs statements and returns the rows.
    ///
    /// # Errors
    /// If one fails, or the session was ended.
    pub fn query(&mut self, text: &str) -> Result<Vec<Vec<Option<String>>>, PgError> {
        self.begin(text)?;
        self.answer()
    }

    /// Sends a statement and does not wait for its answer.
    ///
    /// # Errors
    /// If the session is gone.
    pub fn begin(&mut self, text: &str) -> Result<(), PgError> {
        let length = u32::try_from(text.len() + 5).unwrap().to_be_bytes();
        Ok(self
            .stream
            .write_all(&[b"Q", &length[..], text.as_bytes(), &[0]].concat())?)
    }

    /// Reads until the server is ready for the next statement.
    fn answer(&mut self) -> Result<Vec<Vec<Option<String>>>, PgError> {
        let (mut rows, mut failed) = (vec![], None);
        loop {
            let mut head = [0; 5];
            if let Err(e) = self.stream.read_exact(&mut head) {
                return Err(failed.unwrap_or_else(|| e.into()));
            }
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body)?;
            match head[0] {
                b'E' => failed = Some(error(&body)),
                b'K' => self.pid = u32::from_be_bytes([body[0], body[1], body[2], body[3]]),
                b'D' => rows.push(row(&body)),
                b'Z' => return failed.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }
}

fn error(body: &[u8]) -> PgError {
    let field = |kind: u8| {
        let mut fields = body.split(|b| *b == 0);
        let found = fields
            .find(|f| f.first() == Some(&kind))
            .unwrap_or_default();
        String::from_utf8_lossy(found.get(1..).unwrap_or_default()).into_owned()
    };
    PgError {
        code: field(b'C'),
        message: field(b'M'),
    }
}

fn row(body: &[u8]) -> Vec<Option<String>> {
    let mut rest = &body[2..];
    let mut fields = vec![];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            fields.push(None);
            rest = after;
            continue;
        };
        fields.push(Some(String::from_utf8_lossy(&after[..length]).into_owned()));
        rest = &after[length..];
    }
    fields
}
