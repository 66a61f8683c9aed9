//! What reads bytes from outside here, to be held against hostile ones: the configuration, backups,
//! the host's own state, replayed files, histories.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::config::Config;
use crate::store::{HostStore, Part};
use crate::{backtest, backup, replay};
use hale_decision::replay as decisions;
use hale_hostile::Parser;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// All of them.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "config",
        seeds: configs,
        feed: config,
    },
    Parser {
        name: "backup",
        seeds: || vec![BACKUP.clone()],
        feed: read_backup,
    },
    Parser {
        name: "host_store",
        seeds: || vec![vec![], vec![0, 0, 0, 9, 9, 0x5a], vec![1, 0, 0, 1, 0, 0]],
        feed: host_store,
    },
    Parser {
        name: "replayed_series",
        seeds: || {
            vec![
                b"timestamp,value\n2014-02-14 14:30:00,1.5\n2014-02-14T14:35:00Z,2\n1392388800,nan\n"
                    .to_vec(),
            ]
        },
        feed: |bytes| replay::fuzzed(&String::from_utf8_lossy(bytes)),
    },
    Parser {
        name: "backtest_history",
        seeds: || {
            vec![
                br#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"host.name","value":{"stringValue":"db-01"}}]},"scopeMetrics":[{"metrics":[{"name":"m","sum":{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1770000000000000000","asInt":"7"},{"timeUnixNano":"1770000030000000000","asDouble":"NaN"}]}}]}]}]}"#.to_vec(),
                br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up","instance":"db-01:9100","job":"node"},"values":[[1770000000,"0.5"],[1770000030.5,"NaN"]]}]}}"#.to_vec(),
                br#"{"status":"error","error":"bad_data"}"#.to_vec(),
            ]
        },
        feed: backtest::fuzzed,
    },
    Parser {
        name: "replayed_incidents",
        seeds: || {
            vec![
                br#"{"query_id":"q1","label":"x","tags":{"service":"redis"},"metric":"redis_up","anomaly":{"direction":"below","severity":"critical","value":0},"logs":["a"],"text":"Redis down"}"#.to_vec(),
                br#"{"playbook":"redis_restart","services":["redis"],"metrics":["redis_*"],"risk":"low","description":"Restarts Redis."}"#.to_vec(),
            ]
        },
        feed: incidents,
    },
];

fn configs() -> Vec<Vec<u8>> {
    let sample = include_str!("../../deploy/hale.toml");
    let whole: String = sample
        .lines()
        .map(|l| l.strip_prefix("#! ").unwrap_or(l))
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .map(|l| l.to_owned() + "\n")
        .collect();
    vec![whole.into_bytes(), b"[node]\nhost = \"a\"\n".to_vec()]
}

fn config(bytes: &[u8]) {
    if let Ok(config) = Config::parse(Path::new("hale.toml"), &String::from_utf8_lossy(bytes)) {
        let _ = config.settled("machine");
    }
}

/// A backup of a cluster of one.
static BACKUP: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(backup::tests::backup(dir.path()))
});

/// Only what was written is a backup.
fn read_backup(bytes: &[u8]) {
    let mut entries = 0u64;
    let read = backup::read(bytes, |_| {
        entries += 1;
        Ok(())
    });
    if let Ok(backup) = read {
        assert_eq!(bytes, BACKUP.as_slice());
        assert_eq!(backup.report.entries, entries);
    }
}

/// The files of a state by their names, and the rows of its journal.
type State = (BTreeMap<String, Vec<u8>>, Vec<crate::store::Row>);

static STORE: LazyLock<State> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let store = HostStore::open(dir.path()).unwrap();
    for n in 0..12u8 {
        let part = [Part::Journal, Part::Baselines, Part::Outbox][usize::from(n % 3)];
        let row = (vec![b'k', n], Some(vec![n; 700]));
        store.write(part, [row]).unwrap();
    }
    let rows = store.scan(Part::Journal).unwrap();
    drop(store);
    let files = fs::read_dir(dir.path()).unwrap().flatten();
    let files = files.filter(|f| f.path().is_file()).map(|f| {
        let name = f.file_name().into_string().unwrap();
        (name, fs::read(f.path()).unwrap())
    });
    (files.collect(), rows)
});

/// Six bytes a change: which file, whether it is cut there, the place among its bytes that are not
/// zero, what is changed in it.
fn host_store(how: &[u8]) {
    let mut files = STORE.0.clone();
    for change in how.chunks_exact(6) {
        let place = change[1..5].iter().fold(0, |n, b| n << 8 | usize::from(*b));
        let nth = usize::from(change[0]) / 2 % files.len();
        let Some(bytes) = files.values_mut().nth(nth) else {
            continue;
        };
        let used: Vec<_> = (0..bytes.len()).filter(|n| bytes[*n] != 0).collect();
        if let Some(at) = used.get(place % used.len().max(1)) {
            match change[0].is_multiple_of(2) {
                true => bytes[*at] ^= change[5],
                false => bytes.truncate(*at),
            }
        }
    }
    let is_changed = files != STORE.0;
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    match HostStore::open(dir.path()) {
        Ok(store) => {
            // What was changed held nothing, or what it held is told to be gone.
            let rows = store.scan(Part::Journal).unwrap();
            assert!(rows.len() <= STORE.1.len());
            let row = (b"new".to_vec(), Some(vec![1]));
            let _ = store.write(Part::Journal, [row]);
        }
        Err(e) => assert!(is_changed, "{e}"),
    }
}

fn incidents(bytes: &[u8]) {
    static REPLAY: LazyLock<decisions::Replay> = LazyLock::new(|| {
        let entry = r#"{"playbook":"a","services":["x"],"metrics":["y*"],"description":"d"}"#;
        decisions::Replay::new(decisions::catalogue(entry).unwrap()).unwrap()
    });
    let text = String::from_utf8_lossy(bytes);
    let _ = decisions::catalogue(&text);
    for incident in decisions::incidents(&text).unwrap_or_default() {
        let answer = REPLAY.decide(&incident);
        assert!(answer.ranked.iter().all(|(_, c)| (0.0..=1.0).contains(c)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_hostile::hold_for;

    #[test]
    fn a_configuration_may_be_anything() {
        hold_for(&PARSERS[0], 256);
    }

    #[test]
    fn a_backup_may_be_anything_and_only_what_was_written_is_one() {
        hold_for(&PARSERS[1], 128);
    }

    #[test]
    fn a_state_on_the_disk_may_be_spoilt_anywhere() {
        hold_for(&PARSERS[2], 24);
    }

    #[test]
    fn what_is_replayed_may_be_anything() {
        hold_for(&PARSERS[3], 256);
        hold_for(&PARSERS[5], 48);
    }

    #[test]
    fn a_history_that_is_tested_back_may_be_anything() {
        hold_for(&PARSERS[4], 512);
    }
}
