//! What the demo runs in: a scratch directory with a service, a log, a PostgreSQL where there is
//! one, and the nodes, one of which watches them. Dropping it ends and removes everything.

use crate::demo::fleet::{Fleet, Member};
use crate::demo::ports::FreePorts;
use crate::demo::postgres::{self, Cluster};
use crate::demo::screen::Screen;
use crate::demo::{DemoError, service};
use std::path::{Path, PathBuf};
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
    /// The nodes.
    pub(super) fleet: Fleet,
    /// Which of them the services run on.
    pub(super) affected: usize,
}

fn io(what: &str) -> impl Fn(std::io::Error) -> DemoError + '_ {
    move |source| DemoError::Io {
        what: what.to_owned(),
        source,
    }
}

impl World {
    /// Builds it. Its nodes are configured, and none is started yet.
    pub(super) async fn build(screen: &mut Screen, nodes: usize) -> Result<Self, DemoError> {
        let dir = std::env::temp_dir().join(format!("hale-demo-{}", std::process::id()));
        let mut ports = FreePorts::new();
        let mut world = Self {
            shop_port: ports.take().map_err(io("find a free port"))?,
            fleet: Fleet::plan(&dir, nodes, &mut ports)?,
            // Not the one that founds, since that one leads at first.
            affected: usize::from(nodes > 1),
            dir,
            postgres: None,
            busy: None,
            writer: None,
        };
        std::fs::create_dir_all(world.dir.join("reports"))
            .map_err(io("make a scratch directory"))?;
        service::start(&world.dir, world.shop_port)?;
        service::wait_until_healthy(world.shop_port, Duration::from_secs(5)).await?;
        world.write_a_log()?;
        screen
            .note("started `shop` (a service with a health check) and `reports` (it writes a log)");
        // PostgreSQL's own user has to reach its directory.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&world.dir, open).map_err(io("open the scratch directory"))?;
        // A machine whose PostgreSQL does not start can still show the rest.
        let port = ports.take().map_err(io("find a free port"))?;
        world.postgres = match Cluster::start(&world.dir, port).await {
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
        world.fleet.configure(world.affected, &world.services()?)?;
        Ok(world)
    }

    /// The node that watches the services, and heals them.
    pub(super) fn holder(&self) -> &Member {
        &self.fleet.members[self.affected]
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

    /// What an operator of these services would write into the node's configuration.
    fn services(&self) -> Result<String, DemoError> {
        let program = std::env::current_exe().map_err(io("find this program"))?;
        let quoted = |p: &Path| format!("{:?}", p.to_string_lossy());
        let dir = quoted(&self.dir);
        let mut text = format!(
            r#"[[telemetry.health]]
service = "shop"
http = "http://127.0.0.1:{shop}/health"
timeout = "400ms"

[[telemetry.logs]]
path = {reports_log}
service = "reports"

[services.shop]
health_url = "http://127.0.0.1:{shop}/health"
restart_command = [{program}, "demo-service", "restart", "--port", "{shop}", "--dir", {dir}]

[services.reports]
log_dir = {reports}
"#,
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
}

impl Drop for World {
    fn drop(&mut self) {
        self.fleet.stop();
        if let Some(task) = self.writer.take() {
            task.abort();
        }
        if let Some(task) = self.busy.take() {
            task.abort();
        }
        self.postgres = None;
        service::sweep(&self.dir);
        std::fs::remove_dir_all(&self.dir).ok();
    }
}
