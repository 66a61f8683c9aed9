//! A PostgreSQL of the demo's own, where its programs are installed: a cluster in the scratch
//! directory, on a port of its own, with few connections to exhaust.

use crate::demo::DemoError;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

/// How many connections the cluster takes.
pub(super) const MAX_CONNECTIONS: u32 = 40;

/// A running cluster; dropping it stops it.
pub(super) struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    user: Option<&'static str>,
    /// The port on loopback.
    pub(super) port: u16,
    leaked: Vec<Client>,
}

/// The newest installed version's programs.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    versions.sort();
    versions.pop().map(|(_, bin)| bin)
}

impl Cluster {
    /// Starts a cluster under `dir`. `None` where PostgreSQL is not installed, or where there is
    /// no unprivileged user to run it as.
    pub(super) async fn start(dir: &Path, port: u16) -> Result<Option<Self>, DemoError> {
        let Some(programs) = programs() else {
            return Ok(None);
        };
        // The server refuses to run as root.
        let root = rustix::process::geteuid().is_root();
        let user = root.then_some("postgres");
        let has_runuser =
            Path::new("/usr/sbin/runuser").exists() || Path::new("/sbin/runuser").exists();
        if root && !(has_runuser && knows_user("postgres")) {
            return Ok(None);
        }
        let data = dir.join("pgdata");
        std::fs::create_dir_all(&data).map_err(|source| DemoError::Io {
            what: "make PostgreSQL's directory".into(),
            source,
        })?;
        let cluster = Self {
            programs,
            data,
            user,
            port,
            leaked: Vec::new(),
        };
        cluster.own_data()?;
        cluster.run(
            "initdb",
            &[
                "--auth=trust",
                "--username=postgres",
                "--no-sync",
                "--encoding=UTF8",
            ],
        )?;
        let options = format!(
            "-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
             -c max_connections={MAX_CONNECTIONS} -c fsync=off -c shared_buffers=16MB \
             -c logging_collector=off"
        );
        let log = cluster.data.join("server.log");
        cluster.run(
            "pg_ctl",
            &[
                "-w",
                "-t",
                "15",
                "-o",
                &options,
                "-l",
                &log.to_string_lossy(),
                "start",
            ],
        )?;
        cluster.make_role().await?;
        Ok(Some(cluster))
    }

    /// The server's log.
    pub(super) fn log(&self) -> PathBuf {
        self.data.join("server.log")
    }

    /// How to reach it.
    pub(super) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn own_data(&self) -> Result<(), DemoError> {
        let Some(user) = self.user else { return Ok(()) };
        let status = Command::new("chown").arg(user).arg(&self.data).status();
        match status {
            Ok(s) if s.success() => Ok(()),
            _ => Err(DemoError::Failed(format!(
                "{} can't be given to {user}",
                self.data.display()
            ))),
        }
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<(), DemoError> {
        let path = self.programs.join(program);
        let mut command = match self.user {
            Some(user) => {
                let mut c = Command::new("runuser");
                c.args(["-u", user, "--"]).arg(path);
                c
            }
            None => Command::new(path),
        };
        let out = command
            .arg("-D")
            .arg(&self.data)
            .args(args)
            .current_dir(&self.data)
            .env_remove("PGDATA")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match out {
            Ok(s) if s.success() => Ok(()),
            Ok(s) => Err(DemoError::Failed(format!(
                "PostgreSQL's {program} ended with {s}"
            ))),
            Err(source) => Err(DemoError::Io {
                what: format!("run PostgreSQL's {program}"),
                source,
            }),
        }
    }

    /// The application's own role, with no more rights than an application has.
    async fn make_role(&self) -> Result<(), DemoError> {
        let refused = |e: tokio_postgres::Error| {
            DemoError::Failed(format!("the demo's PostgreSQL takes no role: {e}"))
        };
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls)
            .await
            .map_err(refused)?;
        tokio::spawn(async move {
            connection.await.ok();
        });
        client
            .batch_execute("CREATE ROLE shop LOGIN")
            .await
            .map_err(refused)
    }

    /// A client that does what an application does: one query.
    pub(super) async fn connect(&self, application: &str) -> Result<Client, tokio_postgres::Error> {
        let url = format!(
            "postgres://shop@127.0.0.1:{}/postgres?application_name={application}&connect_timeout=3",
            self.port
        );
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(async move {
            connection.await.ok();
        });
        client.simple_query("SELECT 1").await?;
        Ok(client)
    }

    /// Leaks idle connections until the server refuses one. Returns how many it took.
    pub(super) async fn exhaust(&mut self) -> Result<usize, DemoError> {
        for _ in 0..MAX_CONNECTIONS * 2 {
            match self.connect("checkout-leak").await {
                Ok(client) => self.leaked.push(client),
                Err(_) => return Ok(self.leaked.len()),
            }
        }
        Err(DemoError::Failed(
            "PostgreSQL took more connections than it may".into(),
        ))
    }

    /// Stops the server.
    pub(super) fn stop(&mut self) {
        self.leaked.clear();
        if self.data.join("postmaster.pid").exists() {
            self.run("pg_ctl", &["-m", "immediate", "-t", "5", "stop"])
                .ok();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

fn knows_user(name: &str) -> bool {
    std::fs::read_to_string("/etc/passwd")
        .is_ok_and(|text| text.lines().any(|l| l.split(':').next() == Some(name)))
}

/// Waits until something listens on the port.
pub(super) async fn wait_until_up(port: u16, at_most: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + at_most;
    while tokio::time::Instant::now() < deadline {
        if tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_ok()
        {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}
