//! nginx and Redis of a test's own, each in a directory and on a port of its own.

use super::process::Guarded;
use super::scratch::{Scratch, free_port};
use super::wait::{skipped, wait_until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn program(name: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    places
        .iter()
        .map(|p| Path::new(p).join(name))
        .find(|p| p.is_file())
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    /// Its port on loopback.
    pub port: u16,
    /// Its program.
    pub program: PathBuf,
    /// Its directory: `nginx.conf`, `nginx.pid`, `error.log`.
    pub scratch: Scratch,
    // Dropped, and so killed, before the directory goes.
    process: Option<Guarded>,
}

impl Nginx {
    /// Starts one, or says that `test` is skipped where it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn start(test: &str) -> Option<Self> {
        let Some(program) = program("nginx") else {
            skipped(test, "nginx is not installed");
            return None;
        };
        let mut nginx = Self {
            port: free_port(),
            program,
            scratch: Scratch::new(),
            process: None,
        };
        nginx.configure("first");
        let mut command = Command::new(&nginx.program);
        command
            .arg("-c")
            .arg(nginx.config())
            .arg("-p")
            .arg(nginx.scratch.dir());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        nginx.process = Some(Guarded::spawn(&mut command));
        wait_until("nginx listens", Duration::from_secs(10), || {
            listens(nginx.port)
        });
        Some(nginx)
    }

    /// Where its configuration is.
    pub fn config(&self) -> PathBuf {
        self.scratch.path("nginx.conf")
    }

    /// Writes a configuration whose `/` answers `text`; it holds from the next reload on.
    pub fn configure(&self, text: &str) {
        let (port, dir) = (self.port, self.scratch.dir().display());
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|t| format!("{t}_temp_path {dir}/{t};"))
            .join(" ");
        self.scratch.write(
            "nginx.conf",
            format!(
                "daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
                 events {{ worker_connections 64; }}\n\
                 http {{ access_log off; {temp}\n  server {{ listen 127.0.0.1:{port}; \
                 location / {{ return 200 \"{text}\"; }} }} }}\n"
            ),
        );
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it if it is asked; killed, it would leave them behind.
        if let Some(process) = &mut self.process {
            process.stop(Duration::from_secs(5));
        }
    }
}

/// A running Redis.
#[derive(Debug)]
pub struct Redis {
    /// Its port on loopback.
    pub port: u16,
    process: Guarded,
    scratch: Scratch,
}

impl Redis {
    /// Starts one with so much memory, or says that `test` is skipped where it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn start(test: &str, max_memory: &str) -> Option<Self> {
        let Some(program) = program("redis-server") else {
            skipped(test, "redis-server is not installed");
            return None;
        };
        let (port, scratch) = (free_port(), Scratch::new());
        let mut command = Command::new(program);
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ]);
        command
            .args(["--maxmemory", max_memory, "--dir"])
            .arg(scratch.dir());
        command
            .arg("--logfile")
            .arg(scratch.path("redis.log"))
            .stdout(Stdio::null());
        let redis = Self {
            port,
            process: Guarded::spawn(&mut command),
            scratch,
        };
        wait_until("Redis answers", Duration::from_secs(10), || listens(port));
        Some(redis)
    }

    /// Sends a command and returns its answer as Redis wrote it.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn command(&self, words: &[&str]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = vec![0; 64 << 10];
        let n = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..n]).into_owned()
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.scratch.path("redis.log")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
