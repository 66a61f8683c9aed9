//! Playbooks that tests write, in the language that operators write.

use super::scratch::Scratch;
use std::fmt::Write;

/// A playbook for the failing health check of one service.
#[derive(Debug, Clone)]
pub struct Playbook {
    /// Its name.
    pub name: String,
    service: String,
    idempotent: bool,
    version: &'static str,
    scope: String,
    sections: [(&'static str, Vec<String>); 4],
}

/// A check or step that runs a program: its name and its arguments.
pub fn command(name: &str, argv: &[&str]) -> String {
    let argv: Vec<String> = argv.iter().map(|a| format!("{a:?}")).collect();
    format!(
        "name: {name}\ntype: command\nargv: [{}]\ntimeout: 10s",
        argv.join(", ")
    )
}

/// A check that holds if and only if `condition` does.
pub fn check(name: &str, condition: &str) -> String {
    format!("name: {name}\ntype: condition\ncondition: {condition:?}")
}

impl Playbook {
    /// One without any steps yet. It may run unattended.
    pub fn of(name: &str, service: &str) -> Self {
        let sections = ["pre_execution_checks", "steps", "verification", "rollback"];
        Self {
            name: name.to_owned(),
            service: service.to_owned(),
            idempotent: true,
            version: "1.0.0",
            scope: "service".into(),
            sections: sections.map(|s| (s, vec![])),
        }
    }

    /// It may not be run twice, so it always asks.
    pub fn not_idempotent(mut self) -> Self {
        self.idempotent = false;
        self
    }

    /// Another version of it.
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// What is leased for it, instead of its service on its host: `custom:NAME` is one for the whole
    /// cluster.
    pub fn scope(mut self, scope: &str) -> Self {
        scope.clone_into(&mut self.scope);
        self
    }

    fn add(mut self, section: usize, step: String) -> Self {
        self.sections[section].1.push(step);
        self
    }

    /// With one more check before anything is touched.
    pub fn pre_check(self, step: impl Into<String>) -> Self {
        self.add(0, step.into())
    }

    /// With one more step.
    pub fn step(self, step: impl Into<String>) -> Self {
        self.add(1, step.into())
    }

    /// With one more check afterwards.
    pub fn verify(self, step: impl Into<String>) -> Self {
        self.add(2, step.into())
    }

    /// With one more step that undoes.
    pub fn undo(self, step: impl Into<String>) -> Self {
        self.add(3, step.into())
    }

    /// Its YAML.
    pub fn yaml(&self) -> String {
        let Self {
            name,
            service,
            idempotent,
            version,
            scope,
            sections,
        } = self;
        let mut text = format!(
            "metadata:\n  name: {name}\n  version: \"{version}\"\n  \
             description: >-\n    {service} health check down: the health check of {service} fails, \
             {service} answers 503 and serves nobody. Brings {service} back.\n  \
             idempotent: {idempotent}\n  services: [{service}]\n  \
             signature:\n    series: [{{metric: health.up, direction: below}}]\n    \
             logs: [\"health check .* of {service} fails\"]\n  scope: {scope}\n  max_duration: 60s\n"
        );
        for (section, steps) in sections.iter().filter(|(_, s)| !s.is_empty()) {
            writeln!(text, "{section}:").ok();
            for step in steps {
                writeln!(text, "  - {}", step.replace('\n', "\n    ")).ok();
            }
        }
        if sections[3].1.is_empty() {
            text.push_str("no_rollback_reason: it only writes into a scratch directory\n");
        }
        text
    }

    /// Writes it into the directory `playbooks` of a test.
    pub fn write(&self, scratch: &Scratch) {
        scratch.write(&format!("playbooks/{}.yaml", self.name), self.yaml());
    }
}
