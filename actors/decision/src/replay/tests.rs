//! The bench's formats, well-formed and not.

use super::*;
use proptest::prelude::*;

const CATALOGUE: &str = r#"{"playbook": "disk_log_cleanup", "services": ["host"], "metrics": ["node_filesystem_avail*"], "risk": "low", "description": "A filesystem on a host is almost full because log files grow. Compresses old logs until usage is below the target."}

{"playbook": "redis_restart", "services": ["redis"], "metrics": ["redis_up"], "description": "The Redis server is down or unreachable. Restarts the Redis service and checks that PING answers."}"#;

#[test]
fn the_bench_s_lines_are_read_and_ranked() {
    let replay = Replay::new(catalogue(CATALOGUE).unwrap()).unwrap();
    let text = r#"{"query_id": "q1", "label": "x", "tags": {"service": "redis"}, "metric": "redis_up", "anomaly": {"direction": "below", "severity": "critical", "value": 0}, "alert": "RedisDown", "logs": [], "text": "Redis down Redis instance is down"}"#;
    let answer = replay.decide(&incidents(text).unwrap()[0]);
    assert_eq!(
        (answer.query_id.as_str(), answer.ranked[0].0.as_str()),
        ("q1", "redis_restart")
    );
    assert!(answer.ranked.iter().all(|(_, c)| (0.0..=1.0).contains(c)));
    assert!(answer.ranked[0].1 >= answer.ranked[1].1);
}

#[test]
fn a_line_that_is_none_is_named() {
    let wrong = incidents("{\"query_id\": \"a\"}\n\nnot json").unwrap_err();
    assert!(
        wrong.to_string().starts_with("line 3 of the incidents"),
        "{wrong}"
    );
    let wrong = catalogue(r#"{"playbook": "a b", "description": ""}"#).unwrap_err();
    assert!(
        wrong.to_string().starts_with("line 1 of the catalogue"),
        "{wrong}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_text_has_an_answer_within_bounds(text in "\\PC{0,120}", metric in proptest::option::of("\\PC{0,20}")) {
        static REPLAY: std::sync::OnceLock<Replay> = std::sync::OnceLock::new();
        let replay = REPLAY.get_or_init(|| Replay::new(catalogue(CATALOGUE).unwrap()).unwrap());
        let line = IncidentLine {
            query_id: "q".into(), logs: vec![text.clone()], text, metric, anomaly: None, tags: BTreeMap::new(),
        };
        let answer = replay.decide(&line);
        prop_assert_eq!(answer.ranked.len(), 2);
        prop_assert!(answer.ranked.iter().all(|(_, c)| (0.0..=1.0).contains(c)));
    }
}
