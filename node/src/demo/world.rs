//! What the demo runs in: a scratch directory with a service, a log, a PostgreSQL where there is
//! one, and a node that watches them. Dropping it ends and removes everything.

use crate::demo::postgres::{self, Cluster};
use crate::demo::screen::Screen;
use crate::demo::{DemoError, service};
use hale_model::Happening;
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// The demo's world.
pub(super) struct World {
    /// The scratch directory.
    pub(super) dir: PathBuf,
    /// The shop's port.
    pub(super) shop_port: u16,
    /// PostgreSQL, where its programs are.
    pub(super) postgres: Option<Cluster>,
    busy: Option<tokio::task::JoinHandle<bool>>,
    writer: Option<tokio::task::JoinHandle<()>>,
    node: Option<std::process::Child>,
    api: String,
    token: String,
    http: reqwest::Client,
}

fn io(what: &str) -> impl Fn(std::io::Error) -> DemoError + '_ {
    move |source| DemoError::Io {
        what: what.to_owned(),
        source,
    }
}

/// A port that is free now.
fn free_port() -> Result<u16, DemoError> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(io("find a free port"))?;
    listener
        .local_addr()
        .map(|a| a.port())
        .map_err(io("find a free port"))
}

impl World {
    /// Builds it and waits until the node is ready.
    pub(super) async fn build(screen: &mut Screen) -> Result<Self, DemoError> {
        let dir = std::env::temp_dir().join(format!("hale-demo-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("reports")).map_err(io("make a scratch directory"))?;
        let http = reqwest::Client::builder()
            .no_proxy()
            // Plain HTTP on loopback needs no certificate authorities, which a bare machine lacks.
            .tls_certs_only([])
            .build()
            .map_err(|source| DemoError::Node {
                path: "(client)".into(),
                source,
            })?;
        let mut world = Self {
            shop_port: free_port()?,
            api: format!("http://127.0.0.1:{}", free_port()?),
            dir,
            postgres: None,
            busy: None,
            writer: None,
            node: None,
            token: String::new(),
            http,
        };
        service::start(&world.dir, world.shop_port)?;
        service::wait_until_healthy(world.shop_port, Duration::from_secs(5)).await?;
        world.write_a_log()?;
        screen
            .note("started `shop` (a service with a health check) and `reports` (it writes a log)");
        // PostgreSQL's own user has to reach its directory.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&world.dir, open).map_err(io("open the scratch directory"))?;
        // A machine whose PostgreSQL does not start can still show the rest.
        world.postgres = match Cluster::start(&world.dir, free_port()?).await {
            Ok(cluster) => cluster,
            Err(e) => {
                screen.note(&format!("no PostgreSQL: {e}"));
                None
            }
        };
        if let Some(cluster) = &world.postgres {
            postgres::wait_until_up(cluster.port, Duration::from_secs(5)).await;
            screen.note(&format!(
                "started PostgreSQL with {} connections",
                postgres::MAX_CONNECTIONS
            ));
        }
        world.keep_a_session_busy().await?;
        world.start_node().await?;
        screen.note(&format!("started a node, answering at {}", world.api));
        Ok(world)
    }

    /// The log that `reports` writes.
    pub(super) fn log_file(&self) -> PathBuf {
        self.dir.join("reports/reports.log")
    }

    /// Ten short lines a second.
    fn write_a_log(&mut self) -> Result<(), DemoError> {
        let path = self.log_file();
        std::fs::write(&path, "INFO reports: started\n").map_err(io("write the demo's log"))?;
        self.writer = Some(tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            for n in 0u64.. {
                tick.tick().await;
                let Ok(mut log) = std::fs::OpenOptions::new().append(true).open(&path) else {
                    return;
                };
                std::io::Write::write_all(
                    &mut log,
                    format!("INFO reports: row {n} done\n").as_bytes(),
                )
                .ok();
            }
        }));
        Ok(())
    }

    /// A session that works the whole time: it must survive.
    async fn keep_a_session_busy(&mut self) -> Result<(), DemoError> {
        let Some(cluster) = &self.postgres else {
            return Ok(());
        };
        let client = cluster.connect("checkout-busy").await.map_err(|e| {
            DemoError::Failed(format!("the demo's PostgreSQL refuses a session: {e}"))
        })?;
        self.busy = Some(tokio::spawn(async move {
            client.simple_query("SELECT pg_sleep(120)").await.is_ok()
        }));
        Ok(())
    }

    /// Whether the busy session is still at work.
    pub(super) async fn busy_sessions_left(&self) -> bool {
        self.busy.as_ref().is_some_and(|task| !task.is_finished())
    }

    async fn start_node(&mut self) -> Result<(), DemoError> {
        let config = self.dir.join("hale.toml");
        service::write(&config, &self.config()?)?;
        let program = std::env::current_exe().map_err(io("find this program"))?;
        let log =
            std::fs::File::create(self.dir.join("node.log")).map_err(io("make the node's log"))?;
        let mut command = std::process::Command::new(program);
        // The demo's node is nobody else's, whatever the user's shell says.
        for name in [
            "HALE_DATA_DIR",
            "HALE_CONFIG",
            "HALE_ADDR",
            "HALE_TOKEN",
            "HALE_HOST",
            "HALE_LOG",
        ] {
            command.env_remove(name);
        }
        let node = command
            .args(["node", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(io("start a node"))?;
        self.node = Some(node);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
        while tokio::time::Instant::now() < deadline {
            let ready = self.http.get(format!("{}/readyz", self.api)).send().await;
            if ready.is_ok_and(|r| r.status().is_success()) {
                return self.read_token();
            }
            if let Some(node) = &mut self.node
                && let Ok(Some(status)) = node.try_wait()
            {
                return Err(DemoError::Failed(format!(
                    "the node ended with {status}: {}",
                    self.node_log()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(DemoError::Failed(format!(
            "the node was not ready in 15 s: {}",
            self.node_log()
        )))
    }

    fn read_token(&mut self) -> Result<(), DemoError> {
        let path = self.dir.join("data/api.json");
        let text = std::fs::read_to_string(&path).map_err(io("read the node's token"))?;
        let known: Value = serde_json::from_str(&text)
            .map_err(|e| DemoError::Failed(format!("{} is not JSON: {e}", path.display())))?;
        self.token = known["token"].as_str().unwrap_or_default().to_owned();
        Ok(())
    }

    /// The node's configuration: what an operator of these services would write.
    fn config(&self) -> Result<String, DemoError> {
        let program = std::env::current_exe().map_err(io("find this program"))?;
        let quoted = |p: &Path| format!("{:?}", p.to_string_lossy());
        let dir = quoted(&self.dir);
        let mut text = format!(
            r#"[node]
host = "demo-host"
environment = "demo"
data_dir = {data}
listen = "{listen}"

[telemetry]
interval = "250ms"

[[telemetry.health]]
service = "shop"
http = "http://127.0.0.1:{shop}/health"
timeout = "400ms"

[[telemetry.logs]]
path = {reports_log}
service = "reports"

# The demo heals its own faults; the machine it runs on is watched and left alone.
[[baseline.overrides]]
series = "system.*"
ignore = true

[[baseline.overrides]]
series = "process.*"
ignore = true

[decision]
learn_first = "5s"

[services.shop]
health_url = "http://127.0.0.1:{shop}/health"
restart_command = [{program}, "demo-service", "restart", "--port", "{shop}", "--dir", {dir}]

[services.reports]
log_dir = {reports}
"#,
            data = quoted(&self.dir.join("data")),
            listen = self.api.trim_start_matches("http://"),
            shop = self.shop_port,
            reports = quoted(&self.dir.join("reports")),
            reports_log = quoted(&self.log_file()),
            program = quoted(&program),
        );
        if let Some(cluster) = &self.postgres {
            text.push_str(&format!(
                r#"
[[telemetry.postgres]]
url = "{url}"
service = "postgresql"

[[telemetry.logs]]
path = {log}
service = "postgresql"

[services.postgresql]
port = {port}

[playbooks.params.postgres_connection_pool_reset]
idle_seconds = 1
"#,
                url = cluster.url(),
                log = quoted(&cluster.log()),
                port = cluster.port,
            ));
        }
        Ok(text)
    }

    /// Asks the node.
    pub(super) async fn get(&self, path: &str) -> Result<Value, DemoError> {
        let node = |source| DemoError::Node {
            path: path.to_owned(),
            source,
        };
        let response = self
            .http
            .get(format!("{}{path}", self.api))
            .bearer_auth(&self.token)
            .timeout(Duration::from_secs(5))
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(node)?;
        response.json().await.map_err(node)
    }

    /// Follows what happens.
    pub(super) async fn follow(&self) -> Result<Events, DemoError> {
        let path = "/v1/events?follow=true".to_owned();
        let response = self
            .http
            .get(format!("{}{path}", self.api))
            .bearer_auth(&self.token)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(|source| DemoError::Node { path, source })?;
        Ok(Events {
            response,
            buffer: Vec::new(),
        })
    }

    /// The page to look at, with the token in its fragment: a browser does not send it on.
    pub(super) fn page(&self) -> String {
        format!("{}/#token={}", self.api, self.token)
    }

    /// The end of the node's log.
    pub(super) fn node_log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("node.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut node) = self.node.take() {
            let pid = rustix::process::Pid::from_child(&node);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
            // It closes its stores; a node that hangs is not waited for.
            let deadline = std::time::Instant::now() + Duration::from_secs(5);
            while matches!(node.try_wait(), Ok(None)) && std::time::Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            node.kill().ok();
            node.wait().ok();
        }
        for task in [self.writer.take()].into_iter().flatten() {
            task.abort();
        }
        if let Some(task) = self.busy.take() {
            task.abort();
        }
        self.postgres = None;
        service::stop(&self.dir);
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

/// The node's event stream.
pub(super) struct Events {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Events {
    /// The next happening.
    pub(super) async fn next(&mut self) -> Result<Happening, DemoError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if let Ok(happening) = serde_json::from_slice(&line) {
                    return Ok(happening);
                }
                continue;
            }
            let chunk = self.response.chunk().await;
            let path = "/v1/events".to_owned();
            match chunk.map_err(|source| DemoError::Node { path, source })? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => return Err(DemoError::Failed("the node ended its event stream".into())),
            }
        }
    }
}
