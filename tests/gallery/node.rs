//! The node of a host: `hale` under the unit that ships, and what it says over its API.

use super::case::Case;
use super::config;
use super::host::{Ended, Host};
use super::stop;
use hale_tests::Client;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long a node may take until it is ready, on a busy machine.
const READY: Duration = Duration::from_secs(60);
/// How long a command of the CLI may take.
const CLI: Duration = Duration::from_secs(40);
/// Where its log is in the host.
pub(crate) const LOG: &str = "/gallery/node.log";

/// A node, asked from a thread that has joined its host's network.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    host: &'a Host,
    client: Client,
}

impl<'a> Node<'a> {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(host: &'a Host, case: &Case, with_library: bool) -> Result<Self, String> {
        let write = |path: &str, text: &str| {
            let path = host.path(path);
            fs::create_dir_all(path.parent().unwrap_or(&path))
                .and_then(|()| fs::write(&path, text))
                .map_err(|e| format!("{}: {e}", path.display()))
        };
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/hale.service");
        let unit = fs::read_to_string(&unit).map_err(|e| format!("{}: {e}", unit.display()))?;
        write("/etc/hale/hale.toml", &config::of(case, with_library)?)?;
        write("/etc/systemd/system/hale.service", &unit)?;
        write(
            "/etc/systemd/system/hale.service.d/gallery.conf",
            &drop_in(),
        )?;
        for argv in [
            &["systemctl", "daemon-reload"][..],
            &["systemctl", "start", "hale"],
        ] {
            let ended = host.run(argv, READY)?;
            if !ended.success() {
                return Err(format!("the node does not start: {}", ended.said));
            }
        }
        let addr = ([127, 0, 0, 1], 7117).into();
        let mut node = Self {
            host,
            client: Client { addr, token: None },
        };
        stop::wait_for("the node is ready", READY, || {
            let answer = node.client.send("GET", "/readyz", &[], b"").ok()?;
            (answer.status == 200).then_some(())
        })?;
        let known = fs::read(host.path("/var/lib/hale/api.json")).map_err(|e| e.to_string())?;
        let known: Value = serde_json::from_slice(&known).map_err(|e| e.to_string())?;
        node.client.token = known["token"].as_str().map(str::to_owned);
        Ok(node)
    }

    /// Asks, and expects JSON.
    pub(crate) fn ask(&self, path: &str) -> Result<Value, String> {
        let answer = self.client.send("GET", path, &[], b"");
        let answer = answer.map_err(|e| format!("the node does not answer {path}: {e}"))?;
        match answer.status {
            200 => serde_json::from_slice(&answer.body).map_err(|e| format!("{path}: {e}")),
            status => Err(format!("{path} answered {status}: {}", answer.text())),
        }
    }

    /// What it lists under `name`.
    pub(crate) fn list(&self, path: &str, name: &str) -> Result<Vec<Value>, String> {
        Ok(self.ask(path)?[name]
            .as_array()
            .cloned()
            .unwrap_or_default())
    }

    /// The records on its chain, in order.
    pub(crate) fn records(&self) -> Result<Vec<Value>, String> {
        let (mut records, mut from) = (vec![], Some(0));
        while let Some(start) = from {
            let page = self.ask(&format!("/v1/audit/entries?from={start}&limit=500"))?;
            let entries = page["entries"].as_array().cloned().unwrap_or_default();
            let of_records = entries.into_iter().filter(|e| e["kind"] == "record");
            records.extend(of_records.map(|mut e| e["body"].take()));
            from = page["next"].as_u64();
        }
        Ok(records)
    }

    /// Runs a command that an operator would type on the host.
    pub(crate) fn cli(&self, args: &[&str]) -> Result<Ended, String> {
        self.host.run(&[&["hale"], args].concat(), CLI)
    }
}

/// What differs from the unit that ships: where the program is, and where its log goes.
fn drop_in() -> String {
    format!(
        "[Service]\nExecStart=\nExecStart=/usr/local/bin/hale node --config /etc/hale/hale.toml\n\
         StandardOutput=append:{LOG}\nStandardError=append:{LOG}\nEnvironment=NO_COLOR=1\n"
    )
}
