//! The configuration of a case's node: what the case says, and what the gallery adds.

use super::case::Case;
use std::fs;
use toml::{Table, Value};

/// In a container these show the machine outside.
const OF_THE_MACHINE: [&str; 2] = ["system.*", "process.*"];

/// The text of the node's configuration.
pub(crate) fn of(case: &Case, with_library: bool) -> Result<String, String> {
    let path = case.dir.join("hale.toml");
    let text = fs::read_to_string(path).map_err(|e| format!("hale.toml: {e}"))?;
    let mut all: Table = toml::from_str(&text).map_err(|e| format!("hale.toml: {e}"))?;
    if all.contains_key("node") {
        return Err("hale.toml: [node] is the gallery's; tags belong into case.toml".into());
    }
    all.insert("node".into(), Value::Table(node(case)));
    section(&mut all, "telemetry")?
        .entry("interval")
        .or_insert("1s".into());
    section(&mut all, "decision")?
        .entry("learn_first")
        .or_insert(learn_first(case).into());
    ignore_the_machine(case, section(&mut all, "baseline")?)?;
    if with_library {
        section(&mut all, "playbooks")?
            .entry("directory")
            .or_insert("/library".into());
    }
    toml::to_string(&all).map_err(|e| format!("hale.toml: {e}"))
}

/// Deviations alone count from shortly before the fault on: of a host known for a moment nobody can
/// say what is normal.
fn learn_first(case: &Case) -> String {
    format!("{}s", case.told.learn.as_secs().saturating_sub(3).max(1))
}

fn node(case: &Case) -> Table {
    let mut node = Table::new();
    node.insert("host".into(), "gallery".into());
    node.insert("environment".into(), "production".into());
    let tags = case
        .told
        .tags
        .iter()
        .map(|(k, v)| (k.clone(), v.as_str().into()));
    node.insert("tags".into(), Value::Table(tags.collect()));
    node
}

fn section<'a>(all: &'a mut Table, name: &str) -> Result<&'a mut Table, String> {
    let section = all
        .entry(name)
        .or_insert_with(|| Value::Table(Table::new()));
    section
        .as_table_mut()
        .ok_or_else(|| format!("hale.toml: {name} is no section"))
}

/// Of the overrides the first that fits a series holds: the case's own come first, then what it
/// keeps of the machine's series, then the rest of those is ignored.
fn ignore_the_machine(case: &Case, baseline: &mut Table) -> Result<(), String> {
    let sensitivity = baseline
        .get("sensitivity")
        .cloned()
        .unwrap_or("medium".into());
    let overrides = baseline
        .entry("overrides")
        .or_insert_with(|| Value::Array(vec![]));
    let overrides = overrides
        .as_array_mut()
        .ok_or("hale.toml: baseline.overrides is no list")?;
    let mut add = |series: &str, what: &str, value: Value| {
        let mut one = Table::new();
        one.insert("series".into(), series.into());
        one.insert(what.into(), value);
        overrides.push(Value::Table(one));
    };
    for kept in &case.told.host_series {
        add(kept, "sensitivity", sensitivity.clone());
    }
    for ignored in OF_THE_MACHINE {
        add(ignored, "ignore", Value::Boolean(true));
    }
    Ok(())
}
