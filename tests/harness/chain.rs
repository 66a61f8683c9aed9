//! A node's chain, read over HTTP, and what has to hold of it.

use super::http::Client;
use serde_json::Value;

/// The entries of a chain, in order, as `/v1/audit/entries` shows them.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The entries.
    pub entries: Vec<Value>,
}

impl Chain {
    /// Reads the whole chain, page by page.
    ///
    /// # Panics
    /// If the node does not answer.
    #[track_caller]
    pub fn read(client: &Client) -> Self {
        Self::pages(client, "")
    }

    /// Reads what the node itself holds of it.
    #[track_caller]
    pub(crate) fn known(client: &Client) -> Self {
        Self::pages(client, "&consistency=stale")
    }

    #[track_caller]
    fn pages(client: &Client, further: &str) -> Self {
        let (mut entries, mut from) = (vec![], Some(0));
        while let Some(start) = from {
            let path = format!("/v1/audit/entries?from={start}&limit=500{further}");
            let page = client.get(&path);
            entries.extend(page["entries"].as_array().unwrap().iter().cloned());
            from = page["next"].as_u64();
        }
        Self { entries }
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.entries.iter().filter(move |e| e["kind"] == kind)
    }

    /// The records.
    pub fn records(&self) -> Vec<&Value> {
        self.of_kind("record").map(|e| &e["body"]).collect()
    }

    /// The records of one incident.
    pub fn records_of(&self, incident: &str) -> Vec<&Value> {
        self.records()
            .into_iter()
            .filter(|r| r["incident_id"] == incident)
            .collect()
    }

    /// The one record of an incident.
    ///
    /// # Panics
    /// If there is none, or more than one.
    #[track_caller]
    pub fn record_of(&self, incident: &str) -> &Value {
        let records = self.records_of(incident);
        assert_eq!(records.len(), 1, "records of {incident}: {records:#?}");
        records[0]
    }

    /// The fences of grants that no record closes.
    pub fn open_intents(&self) -> Vec<u64> {
        let fences = |kind| self.of_kind(kind).filter_map(|e| e["fence"].as_u64());
        let closed: Vec<u64> = fences("record").collect();
        fences("intent").filter(|f| !closed.contains(f)).collect()
    }

    /// The fences of grants that more than one record closes.
    pub fn closed_twice(&self) -> Vec<u64> {
        let mut closed: Vec<u64> = self
            .of_kind("record")
            .filter_map(|e| e["fence"].as_u64())
            .collect();
        closed.sort_unstable();
        closed
            .windows(2)
            .filter(|w| w[0] == w[1])
            .map(|w| w[0])
            .collect()
    }

    /// Checks what always has to hold once nothing runs: every grant closed exactly once, each
    /// entry after the one before it.
    ///
    /// # Panics
    /// If it does not hold.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert_eq!(
            self.open_intents(),
            [0; 0],
            "grants that nothing closes: {:#?}",
            self.entries
        );
        assert_eq!(
            self.closed_twice(),
            [0; 0],
            "grants closed twice: {:#?}",
            self.entries
        );
        for (i, pair) in self.entries.windows(2).enumerate() {
            assert_eq!(
                pair[1]["previous"],
                pair[0]["hash"],
                "entry {} follows {i}",
                i + 1
            );
        }
    }
}
