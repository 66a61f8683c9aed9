//! A node that watches small web services, with playbooks of the test's own for them.

use super::events::Events;
use super::node::Node;
use super::scratch::Scratch;
use super::service::Service;
use super::wait::wait_for;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// How long anything of a small playbook may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(15);

/// A node and what it watches. The node is dropped, and so killed, first.
#[derive(Debug)]
pub struct Scene {
    /// The node.
    pub node: Node,
    /// What it watches.
    pub service: Service,
    /// The directory of it all.
    pub scratch: Scratch,
}

impl Scene {
    /// A node that watches one service, `name`, and knows the playbooks that the test wrote into
    /// `scratch`, and no other; not started. `further` is more configuration, `settings` more lines
    /// for the section `[node]`. A playbook that fits at all is sure enough to run.
    pub fn prepare(name: &str, scratch: Scratch, further: &str, settings: &str) -> Self {
        let service = Service::start(&scratch.path(&format!("{name}.broken")));
        std::fs::create_dir_all(scratch.path("playbooks")).unwrap();
        let mut sections = format!(
            "[telemetry]\ninterval = \"250ms\"\n\
             [[telemetry.health]]\nservice = \"{name}\"\nhttp = \"{}\"\ntimeout = \"1s\"\n",
            service.url()
        );
        if !further.contains("[decision]") {
            sections.push_str("[decision]\nexecute_at = 0.05\nask_at = 0.05\n");
        }
        let directory = scratch.path("playbooks");
        // None of the library's may act on the machine that runs the tests.
        let disabled = library_names();
        // The test's own playbooks need not earn anything first.
        sections.push_str("[decision.autonomy]\nnew = \"auto\"\n");
        writeln!(
            sections,
            "[playbooks]\ndirectory = {directory:?}\ndisabled = {disabled:?}"
        )
        .ok();
        sections.push_str(further);
        let node = Node::new(&scratch, &sections).with(settings);
        Self {
            node,
            service,
            scratch,
        }
    }

    /// Waits until the node knows the service as healthy.
    #[track_caller]
    pub fn learn(&self) {
        wait_for("the health check has a baseline", SOON, || {
            let known = self
                .node
                .get("/v1/hosts/test-host/baselines?series=health.up");
            let samples = known["baselines"][0]["baseline"]["samples"].as_u64();
            samples.filter(|n| *n >= 10)
        });
    }

    /// A program for `argv` that writes its arguments, as one line, to the file `did`.
    pub fn note(scratch: &Scratch) -> String {
        scratch.script(
            "note",
            &format!("echo \"$*\" >> '{}'", scratch.text_path("did")),
        )
    }

    /// What the playbooks' programs wrote to `did`.
    pub fn did(&self) -> Vec<String> {
        self.scratch.lines("did")
    }

    /// Breaks the service, and follows what happens.
    pub fn break_it(&self) -> Events {
        let events = self.node.events();
        self.service.break_it();
        events
    }

    /// The approval that waits.
    #[track_caller]
    pub fn waiting(&self) -> Value {
        wait_for("an approval is asked for", SOON, || {
            let waiting = self.node.get("/v1/approvals");
            waiting["approvals"].as_array().unwrap().first().cloned()
        })
    }

    /// The one record of an incident once it is there.
    #[track_caller]
    pub fn record(&self, events: &mut Events, service: &str) -> Value {
        let recorded = events.recorded(service, SOON);
        let incident = recorded.incident.unwrap().to_string();
        self.node.chain().record_of(&incident).clone()
    }

    /// Checks that nothing is left: no lease, no open grant, a chain that holds.
    ///
    /// # Panics
    /// If anything is.
    #[track_caller]
    pub fn assert_nothing_is_left(&self) {
        assert_eq!(self.node.get("/v1/leases")["leases"], serde_json::json!([]));
        self.node.chain().assert_sound();
        let verified = self.node.get("/v1/audit/verify");
        assert_eq!(verified["valid"], true, "{verified:#}");
    }
}

/// The names of the library's playbooks: as their files are named.
pub(crate) fn library_names() -> Vec<String> {
    let mut names = vec![];
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../playbooks/library")];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if let Some(name) = path.file_stem() {
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    names
}
