//! The playbooks of this node: those in the binary, and the operator's own from a directory.

use crate::config::PlaybooksConfig;
use hale_api::FindingView;
use hale_model::{Digest, PlaybookName};
use hale_playbooks::{Finding, Playbook, Proof};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where those in the binary come from.
const LIBRARY: &str = "library";
/// The largest file that is read as a playbook, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 10;
/// The most files that are looked at in the operator's directory.
const MAX_FILES: usize = 2000;
/// How deep the operator's directory is looked into.
const MAX_DEPTH: usize = 6;

/// A playbook with where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) playbook: Playbook,
    /// `library` or a file's path.
    pub(crate) source: String,
    pub(crate) text: String,
}

impl Known {
    /// How far it is proven. What an operator wrote has not been proven by our tests, whatever it
    /// says of itself.
    pub(crate) fn proof(&self) -> Proof {
        if self.source == LIBRARY {
            self.playbook.proof
        } else {
            Proof::Linted
        }
    }
}

/// The playbooks of this node, by name.
#[derive(Debug, Default)]
pub(crate) struct Library(BTreeMap<PlaybookName, Known>);

impl Library {
    /// Loads all. A file of the operator's that is not valid is left out and told: one bad
    /// playbook must not keep the node from healing with the others.
    pub(crate) fn load(config: &PlaybooksConfig) -> (Self, Loading) {
        let mut library = Self::default();
        let mut findings = Vec::new();
        for (path, text) in hale_playbooks::library() {
            library.take(&path, text.to_owned(), LIBRARY, &mut findings);
        }
        if let Some(directory) = &config.directory {
            for path in yaml_files(directory, &mut findings) {
                let name = path.to_string_lossy().into_owned();
                match read(&path) {
                    Ok(text) => library.take(&name, text, &name, &mut findings),
                    Err(e) => findings.push(unreadable(&path, &e)),
                }
            }
        }
        // What the operator wrote to keep a playbook in bounds must not be lost to a typing error.
        let mut mistakes = Vec::new();
        for (name, params) in &config.params {
            library.settle(name, params, &mut mistakes);
        }
        for name in &config.disabled {
            let removed = PlaybookName::new(name.clone())
                .ok()
                .and_then(|n| library.0.remove(&n));
            if removed.is_none() {
                mistakes.push(mistake(
                    "[playbooks] disabled",
                    format!("there is no playbook `{name}`"),
                    "`hale playbook ls` lists those there are".into(),
                ));
            }
        }
        (library, Loading { findings, mistakes })
    }

    /// The operator's values take the place of the playbook's defaults, checked as they are.
    fn settle(
        &mut self,
        name: &str,
        params: &BTreeMap<String, Value>,
        findings: &mut Vec<Finding>,
    ) {
        let section = format!("[playbooks.params.{name}]");
        let mut wrong =
            |message: String, instead: String| findings.push(mistake(&section, message, instead));
        let known = PlaybookName::new(name)
            .ok()
            .and_then(|n| self.0.get_mut(&n));
        let Some(Known { playbook, .. }) = known else {
            wrong(
                "there is no such playbook".into(),
                "`hale playbook ls` lists those there are".into(),
            );
            return;
        };
        for (param, value) in params {
            let given = BTreeMap::from([(param.clone(), value.clone())]);
            // Only this one: the others' values are settled when the playbook is planned.
            let mut alone = playbook.clone();
            alone.parameters.retain(|p| p.name == *param);
            let settled = hale_playbooks::settle(&alone, &hale_playbooks::Env::new(), &given);
            let slot = playbook.parameters.iter_mut().find(|p| p.name == *param);
            match (settled, slot) {
                (Ok(mut values), Some(slot)) => {
                    slot.default = values.remove(param);
                    slot.from = None;
                }
                (Err(e), _) => wrong(
                    e.to_string(),
                    format!("`hale playbook show {name}` tells its parameters"),
                ),
                (_, None) => wrong(
                    format!("it has no parameter `{param}`"),
                    format!("`hale playbook show {name}` tells its parameters"),
                ),
            }
        }
    }

    fn take(&mut self, file: &str, text: String, source: &str, findings: &mut Vec<Finding>) {
        match hale_playbooks::parse(file, &text) {
            Ok(playbook) => {
                let known = Known {
                    source: source.to_owned(),
                    text,
                    playbook,
                };
                self.0.insert(known.playbook.name.clone(), known);
            }
            Err(wrong) => findings.extend(wrong),
        }
    }

    pub(crate) fn get(&self, name: &PlaybookName) -> Option<&Known> {
        self.0.get(name)
    }

    pub(crate) fn names(&self) -> Vec<&PlaybookName> {
        self.0.keys().collect()
    }

    /// The digest of each text, by name.
    pub(crate) fn editions(&self) -> Vec<(PlaybookName, Digest)> {
        let all = self.0.iter();
        all.map(|(name, k)| (name.clone(), k.playbook.digest))
            .collect()
    }

    pub(crate) fn playbooks(&self) -> Vec<Playbook> {
        self.0.values().map(|k| k.playbook.clone()).collect()
    }
}

/// What was found wrong while loading.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    /// In playbooks; those with errors are left out.
    pub(crate) findings: Vec<Finding>,
    /// In the configuration; the node does not start with them.
    pub(crate) mistakes: Vec<Finding>,
}

fn mistake(section: &str, message: String, instead: String) -> Finding {
    Finding {
        file: section.to_owned(),
        line: 1,
        column: 1,
        severity: hale_playbooks::FindingSeverity::Error,
        message,
        instead,
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(std::io::Error::other(
            "it is larger than 256 KiB, which no playbook is",
        ));
    }
    std::fs::read_to_string(path)
}

fn unreadable(path: &Path, e: &std::io::Error) -> Finding {
    Finding {
        file: path.to_string_lossy().into_owned(),
        line: 1,
        column: 1,
        severity: hale_playbooks::FindingSeverity::Error,
        message: format!("it can't be read: {e}"),
        instead: "make it a readable UTF-8 file below 256 KiB".into(),
    }
}

fn yaml_files(directory: &Path, findings: &mut Vec<Finding>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![(directory.to_owned(), 0)];
    while let Some((dir, depth)) = left.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) => {
                findings.push(unreadable(&dir, &e));
                continue;
            }
        };
        for entry in entries.flatten().take(MAX_FILES) {
            let (path, kind) = (entry.path(), entry.file_type());
            if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) && depth < MAX_DEPTH {
                left.push((path, depth + 1));
            } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml")
                && found.len() < MAX_FILES
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// What is wrong with a playbook's text, as it is shown.
pub(crate) fn lint(file: &str, text: &str) -> Vec<FindingView> {
    hale_playbooks::lint(file, text)
        .into_iter()
        .map(view)
        .collect()
}

fn view(f: Finding) -> FindingView {
    FindingView {
        severity: if f.is_error() { "error" } else { "warning" }.to_owned(),
        file: f.file,
        line: f.line as u64,
        column: f.column as u64,
        message: f.message,
        instead: f.instead,
    }
}
