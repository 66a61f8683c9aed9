//! What the demo breaks, and how it looks from outside whether it was healed.

use crate::demo::DemoError;
use crate::demo::service;
use crate::demo::world::World;
use hale_model::Stage;
use std::time::Duration;

/// A fault of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A service process hangs: it keeps its port and answers nothing.
    HungService,
    /// A log grows without end in a scratch directory.
    RunawayLog,
    /// A client leaks idle connections until PostgreSQL refuses new ones.
    ExhaustedPool,
}

/// In the order they are broken. The last takes longest to be sure that it is healed, which leaves
/// time for the leader to be lost meanwhile.
pub(super) const ALL: [Fault; 3] = [Fault::RunawayLog, Fault::ExhaustedPool, Fault::HungService];

/// How large the runaway log becomes, in bytes.
const RUNAWAY_BYTES: usize = 48 << 20;
/// A log directory is healthy again below this, in bytes.
const HEALTHY_LOG_BYTES: u64 = 16 << 20;

impl Fault {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HungService => "a hung service",
            Self::RunawayLog => "a runaway log",
            Self::ExhaustedPool => "an exhausted connection pool",
        }
    }

    /// What is done, for people.
    pub(super) fn story(self) -> &'static str {
        match self {
            Self::HungService => {
                "SIGSTOP to the `shop` process: it keeps its port and answers no request"
            }
            Self::RunawayLog => "`reports` writes 48 MB of debug lines into its log",
            Self::ExhaustedPool => {
                "a client of PostgreSQL leaks idle connections until new ones are refused"
            }
        }
    }

    /// The service whose incident it becomes.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::HungService => "shop",
            Self::RunawayLog => "reports",
            Self::ExhaustedPool => "postgresql",
        }
    }

    /// At which stage of its healing the leader is lost, for that to be in the middle of it.
    pub(super) fn moment(self) -> Stage {
        match self {
            // It restarts, and looks for two seconds whether the service stays up.
            Self::HungService => Stage::Acted,
            // These are done within milliseconds once they act.
            Self::RunawayLog | Self::ExhaustedPool => Stage::Leased,
        }
    }

    /// Whether it was asked for.
    pub(super) fn is_wanted(self, only: &[String]) -> bool {
        let named = |part: &String| {
            self.name().contains(part.as_str()) || self.service().contains(part.as_str())
        };
        only.is_empty() || only.iter().any(named)
    }

    /// Whether this machine has what it needs.
    pub(super) fn is_possible(self, world: &World) -> bool {
        self != Self::ExhaustedPool || world.postgres.is_some()
    }

    /// Breaks it.
    pub(super) async fn break_it(self, world: &mut World) -> Result<(), DemoError> {
        match self {
            Self::HungService => service::hang(&world.dir),
            Self::RunawayLog => {
                let path = world.log_file();
                let line = "DEBUG reports: cache entry 4711 was looked at again, nothing changed\n";
                let written = tokio::task::spawn_blocking(move || {
                    let mut log = std::fs::OpenOptions::new().append(true).open(path)?;
                    std::io::Write::write_all(
                        &mut log,
                        line.repeat(RUNAWAY_BYTES / line.len()).as_bytes(),
                    )
                });
                match written.await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(source)) => Err(DemoError::Io {
                        what: "write the demo's log".into(),
                        source,
                    }),
                    Err(_) => Err(DemoError::Failed(
                        "the demo's log writer ended early".into(),
                    )),
                }
            }
            Self::ExhaustedPool => match &mut world.postgres {
                Some(cluster) => cluster.exhaust().await.map(drop),
                None => Ok(()),
            },
        }
    }

    /// Looks from outside: is it healed, and by what can one tell?
    pub(super) async fn look(self, world: &mut World) -> (bool, String) {
        match self {
            Self::HungService => {
                match service::wait_until_healthy(world.shop_port, Duration::from_secs(2)).await {
                    Ok(()) => (true, "the shop answers 200 again".into()),
                    Err(e) => (false, e.to_string()),
                }
            }
            Self::RunawayLog => {
                let bytes = std::fs::metadata(world.log_file()).map_or(0, |m| m.len());
                let text = format!("the log has {:.1} MB", bytes as f64 / 1e6);
                (bytes > 0 && bytes < HEALTHY_LOG_BYTES, text)
            }
            Self::ExhaustedPool => {
                let busy_left = world.busy_sessions_left().await;
                let Some(cluster) = &world.postgres else {
                    return (false, "no PostgreSQL".into());
                };
                let connected = cluster.connect("demo-proof").await;
                match (connected, busy_left) {
                    (Ok(_), true) => (
                        true,
                        "a new connection works, the busy session is untouched".into(),
                    ),
                    (Ok(_), false) => (false, "the busy session was ended too".into()),
                    (Err(e), _) => (false, format!("a new connection is refused: {e}")),
                }
            }
        }
    }
}
