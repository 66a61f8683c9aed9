//! A case as its directory tells it, and what is wrong with one.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a case has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expect {
    /// The playbook ran unattended and the service works.
    Resolved,
    /// A human is asked whether the playbook may run.
    Asked,
    /// A human is told, and nothing was done.
    Escalated,
    /// Nobody is disturbed and nothing was done.
    Nothing,
}

impl Expect {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            Self::Asked => "asked",
            Self::Escalated => "escalated",
            Self::Nothing => "nothing",
        }
    }
}

/// `case.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    /// In a sentence, what is broken.
    pub(crate) about: String,
    /// How it has to end.
    pub(crate) expect: Expect,
    /// The playbook that has to run, or that is asked for.
    pub(crate) playbook: Option<String>,
    /// Playbooks that may run besides it.
    #[serde(default)]
    pub(crate) also: Vec<String>,
    /// How long the node watches the healthy host.
    #[serde(default = "learn", deserialize_with = "span")]
    pub(crate) learn: Duration,
    /// How long it may take from the fault to the record.
    #[serde(default = "within", deserialize_with = "span")]
    pub(crate) within: Duration,
    /// Whether a resolved case's playbook is run once more.
    #[serde(default = "yes")]
    pub(crate) replay: bool,
    /// Whether it is one of the few that `--smoke` carries out.
    #[serde(default)]
    pub(crate) smoke: bool,
    /// Tags of the host.
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    /// Series of the host that are judged although they show the machine outside.
    #[serde(default)]
    pub(crate) host_series: Vec<String>,
    /// Programs that the host has to have.
    #[serde(default)]
    pub(crate) tools: Vec<String>,
    /// How large its disk is, as `mount -o size=` takes it.
    #[serde(default = "disk")]
    pub(crate) disk: String,
}

fn learn() -> Duration {
    Duration::from_secs(15)
}

fn within() -> Duration {
    Duration::from_secs(60)
}

fn yes() -> bool {
    true
}

fn disk() -> String {
    "2g".to_owned()
}

/// `90s`, `2m`.
fn span<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let wrong = || serde::de::Error::custom(format!("`{text}` is no time; write 90s or 2m"));
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => Err(wrong()),
    }
}

/// A case.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Its directory's name.
    pub(crate) name: String,
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// What it says of itself.
    pub(crate) told: Told,
}

impl Case {
    /// Reads one.
    pub(crate) fn read(dir: &Path) -> Result<Self, String> {
        let dir = dir
            .canonicalize()
            .map_err(|e| format!("{}: {e}", dir.display()))?;
        let name = dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text =
            fs::read_to_string(dir.join("case.toml")).map_err(|e| format!("case.toml: {e}"))?;
        let told = toml::from_str(&text).map_err(|e| format!("case.toml: {e}"))?;
        Ok(Self { name, dir, told })
    }

    /// Whether it has such a script.
    pub(crate) fn has(&self, script: &str) -> bool {
        self.dir.join(script).exists()
    }

    /// Whether this playbook may run in it.
    pub(crate) fn allows(&self, playbook: &str) -> bool {
        self.told.expect == Expect::Resolved
            && (self.told.playbook.as_deref() == Some(playbook)
                || self.told.also.iter().any(|p| p == playbook))
    }

    /// What is wrong with it, as far as that can be seen without running it.
    pub(crate) fn faults(&self, playbooks: &BTreeSet<String>) -> Vec<String> {
        let mut faults = vec![];
        for script in ["prepare", "break", "check"] {
            faults.extend(self.script_fault(script, true));
        }
        faults.extend(self.script_fault("unharmed", false));
        if let Err(why) = super::config::of(self, false) {
            faults.push(why);
        }
        if self.told.about.trim().is_empty() {
            faults.push("case.toml: `about` says nothing".into());
        }
        if self.told.expect == Expect::Resolved && self.told.playbook.is_none() {
            faults.push("case.toml: name the `playbook` that has to resolve it".into());
        }
        for playbook in self.told.playbook.iter().chain(&self.told.also) {
            if !playbooks.contains(playbook) {
                faults.push(format!("case.toml: the library has no playbook {playbook}"));
            }
        }
        faults
    }

    fn script_fault(&self, name: &str, needed: bool) -> Option<String> {
        let path = self.dir.join(name);
        let Ok(meta) = fs::metadata(&path) else {
            return needed.then(|| format!("{name} is missing"));
        };
        if meta.permissions().mode() & 0o111 == 0 {
            return Some(format!("{name} is not executable"));
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let is_strict =
            text.starts_with("#!/usr/bin/env bash\n") && text.contains("\nset -euo pipefail\n");
        (!is_strict).then(|| {
            format!(
                "{name} has to begin with #!/usr/bin/env bash and have the line set -euo pipefail"
            )
        })
    }
}

/// Where the cases are.
pub(crate) fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("gallery/cases")
}

/// The directories of the cases, sorted; those that are named, or all.
pub(crate) fn directories(home: &Path, named: &[String]) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(home).map_err(|e| format!("{}: {e}", home.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_dir())
        .collect();
    found.sort();
    let name = |path: &PathBuf| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let known: BTreeSet<String> = found.iter().map(name).collect();
    if let Some(stranger) = named.iter().find(|n| !known.contains(*n)) {
        return Err(format!("there is no case {stranger} in {}", home.display()));
    }
    found.retain(|p| named.is_empty() || named.contains(&name(p)));
    Ok(found)
}
