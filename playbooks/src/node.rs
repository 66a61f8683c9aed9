//! A YAML text as a tree that knows its lines, read within strict bounds.
//!
//! Anchors and aliases are refused altogether: no playbook needs them, and a bomb is made of them.

use crate::finding::Place;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Location, MergeKeyPolicy, Spanned};
use std::fmt;

/// The longest playbook, in bytes.
pub const MAX_PLAYBOOK_BYTES: usize = 256 << 10;
/// The deepest nesting; the language itself needs seven.
const MAX_DEPTH: usize = 16;
/// The most values in one playbook.
const MAX_NODES: usize = 10_000;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) at: Place,
    pub(crate) name: String,
}

/// Reads a text.
///
/// # Errors
/// Where and why it is not YAML within the bounds.
pub(crate) fn read(text: &str) -> Result<Node, (Place, String)> {
    if text.len() > MAX_PLAYBOOK_BYTES {
        let why = format!(
            "it has {} bytes, the most is {MAX_PLAYBOOK_BYTES}",
            text.len()
        );
        return Err((Place::START, why));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 4 * MAX_NODES,
            max_aliases: 0,
            max_anchors: 0,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: 1,
            max_nodes: MAX_NODES,
            max_total_scalar_bytes: MAX_PLAYBOOK_BYTES,
            max_merge_keys: 0,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Spanned<Kind>>(text, options)
        .map(Node::from)
        .map_err(|e| {
            let at = e.location().map_or(Place::START, place);
            (at, in_words(&e.to_string()))
        })
}

/// The parser's complaint without the names of its own settings.
fn in_words(why: &str) -> String {
    let first = why.lines().next().unwrap_or_default();
    let first = first
        .split(", set DuplicateKeyPolicy")
        .next()
        .unwrap_or_default();
    match first {
        w if w.contains("breached: Anchors") || w.contains("breached: Aliases") => {
            "anchors and aliases are no part of the language".into()
        }
        w if w.contains("budget breached") => {
            "it is larger or nests deeper than any playbook".into()
        }
        w => w.chars().take(300).collect(),
    }
}

fn place(location: Location) -> Place {
    let bounded = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    Place {
        line: bounded(location.line()),
        column: bounded(location.column()),
    }
}

impl From<Spanned<Kind>> for Node {
    fn from(spanned: Spanned<Kind>) -> Self {
        Self {
            at: place(spanned.referenced),
            kind: spanned.value,
        }
    }
}

impl Node {
    /// Whether it is a map.
    pub(crate) fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map(_))
    }

    /// The value under a key.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|(k, _)| k.name == name)
            .map(|(_, v)| v)
    }

    /// The entries of a map; none of anything else.
    pub(crate) fn entries(&self) -> &[(Key, Node)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// It as a text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// It as JSON.
    pub(crate) fn json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(b) => Value::Bool(*b),
            Kind::Number(n) => Value::Number(n.clone()),
            Kind::Text(t) => Value::String(t.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Node::json).collect()),
            Kind::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(k, v)| (k.name.clone(), v.json()))
                    .collect(),
            ),
        }
    }

    /// What it is, for a message.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".into(),
            Kind::Bool(b) => format!("`{b}`"),
            Kind::Number(n) => format!("the number {n}"),
            Kind::Text(t) => format!("the text `{}`", t.chars().take(60).collect::<String>()),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
        }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Kind, D::Error> {
        d.deserialize_any(self)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(b))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Kind, E> {
        Ok(Kind::Number(n.into()))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Kind, E> {
        Ok(Kind::Number(n.into()))
    }

    fn visit_f64<E: Error>(self, n: f64) -> Result<Kind, E> {
        Number::from_f64(n)
            .map(Kind::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        Ok(Kind::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Kind, E> {
        Ok(Kind::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut items = vec![];
        while let Some(item) = seq.next_element::<Spanned<Kind>>()? {
            items.push(item.into());
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries = vec![];
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Spanned<Kind>>()? {
            let at = place(key.referenced);
            entries.push((
                Key {
                    at,
                    name: key.value,
                },
                value.into(),
            ));
        }
        Ok(Kind::Map(entries))
    }
}
