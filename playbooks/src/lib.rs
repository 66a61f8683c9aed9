//! The playbook language: what may be written in a playbook, checked before it can run.
//!
//! Text becomes a tree that knows its lines (`node`), is held against the tables of the language
//! (`shape`, `check`) and against itself (`relations`), and becomes a [`Playbook`] whose every
//! field is valid. What is wrong is told by [`lint`]: file, line, and what to write instead.
//! Conditions are CEL ([`expr`]), values are typed, and there are no shell strings. The library
//! that comes with the binary is [`library`].

mod check;
pub mod expr;
mod finding;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod language;
mod library;
mod node;
mod quantity;
mod relations;
mod schema;
mod settle;
mod shape;
mod typed;

pub use expr::{Env, EvalError, Expr, Template};
pub use finding::{Finding, FindingSeverity, Place};
pub use language::{
    Action, FailAction, Parameter, ParameterType, Playbook, Probe, Proof, ScopeKind, SeriesPattern,
    Signature, Step, Weight,
};
pub use library::library;
pub use node::MAX_PLAYBOOK_BYTES;
pub use schema::schema;
pub use settle::{SettleError, settle};

use finding::Findings;
use std::collections::BTreeMap;

/// Reads one playbook.
///
/// # Errors
/// Every finding, warnings too, if one of them is an error.
pub fn parse(file_name: &str, text: &str) -> Result<Playbook, Vec<Finding>> {
    let (playbook, findings) = look(file_name, text);
    playbook.ok_or(findings)
}

/// All that is wrong with one playbook, or could be better, in the order of the text.
pub fn lint(file_name: &str, text: &str) -> Vec<Finding> {
    look(file_name, text).1
}

/// Reads a whole library: pairs of a file's name and its text.
///
/// # Errors
/// Every finding of every file, if one of them is an error, or if two playbooks have one name.
pub fn load_all<F, T>(
    texts: impl IntoIterator<Item = (F, T)>,
) -> Result<Vec<Playbook>, Vec<Finding>>
where
    F: AsRef<str>,
    T: AsRef<str>,
{
    let mut playbooks: Vec<Playbook> = vec![];
    let mut findings = vec![];
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for (file, text) in texts {
        let (playbook, found) = look(file.as_ref(), text.as_ref());
        findings.extend(found);
        let Some(playbook) = playbook else { continue };
        match files.insert(playbook.name.to_string(), file.as_ref().to_owned()) {
            Some(first) => {
                let mut twice = Findings::of(file.as_ref());
                let message = format!("{first} has a playbook `{}` already", playbook.name);
                twice.error(
                    Place::START,
                    message,
                    "name it differently, or remove one of the two",
                );
                findings.extend(twice.sorted());
            }
            None => playbooks.push(playbook),
        }
    }
    if findings.iter().any(Finding::is_error) {
        return Err(findings);
    }
    Ok(playbooks)
}

fn look(file: &str, text: &str) -> (Option<Playbook>, Vec<Finding>) {
    let root = match node::read(text) {
        Ok(root) => root,
        Err((at, why)) => {
            let mut findings = Findings::of(file);
            let instead = "write plain YAML: two spaces for each level, `key: value`, no anchors, texts with `: ` or `#` in quotes";
            findings.error(at, format!("it is not a playbook's YAML: {why}"), instead);
            return (None, findings.sorted());
        }
    };
    let mut checked = check::playbook(file, &root);
    if root.is_map() {
        relations::check(&root, &mut checked);
    }
    let mut findings = checked.findings;
    if findings.has_errors() {
        return (None, findings.sorted());
    }
    let playbook = match typed::playbook(&root) {
        Ok(playbook) => Some(playbook),
        Err(why) => {
            findings.error(root.at, why, "correct it");
            None
        }
    };
    (playbook, findings.sorted())
}
