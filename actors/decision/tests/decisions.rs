//! From a host's signals to a decision, with the embedded model and a small library.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use common::{cpu_spike, event, exhausted_pool, library, round, runaway_log, unhealthy_service};
use hale_decision::catalogue::Entry;
use hale_decision::coefficients::Coefficients;
use hale_decision::confidence::{self, Grounds, Looked, Policy};
use hale_decision::describe;
use hale_decision::embed::Embedder;
use hale_decision::incident::{Change, Correlator, Settings};
use hale_decision::rank::{Ranker, Ranking};
use hale_model::ledger::History;
use hale_model::{
    Anomaly, Consumer, Decision, Event, EventSource, Fence, Finding, Incident, IncidentState,
    Level, Route, Share,
};
use std::sync::OnceLock;

fn ranker() -> &'static Ranker {
    static RANKER: OnceLock<Ranker> = OnceLock::new();
    RANKER.get_or_init(|| Ranker::build(Embedder::embedded().unwrap(), library()))
}

/// Of the library that comes with the program.
fn shipped() -> &'static Ranker {
    static RANKER: OnceLock<Ranker> = OnceLock::new();
    RANKER.get_or_init(|| {
        let library = hale_playbooks::load_all(hale_playbooks::library()).unwrap();
        let entries = library.iter().map(Entry::from).collect();
        Ranker::build(Embedder::embedded().unwrap(), entries)
    })
}

fn incident_of(anomalies: Vec<Anomaly>, events: Vec<Event>, consumers: Vec<Consumer>) -> Incident {
    let mut correlator = Correlator::new(Settings::default());
    for second in 0..3 {
        let observed = round(second, anomalies.clone(), events.clone());
        for change in correlator.on(observed.at, &observed) {
            if let Change::Opened(incident) = change {
                correlator.enrich(&incident.id, consumers.clone());
            }
        }
    }
    correlator.open().next().unwrap().clone()
}

fn decide_with(incident: &Incident, policy: &Policy) -> Decision {
    decide_among(ranker(), incident, policy)
}

fn decide_among(ranker: &Ranker, incident: &Incident, policy: &Policy) -> Decision {
    decide_after(ranker, incident, policy, &[])
}

/// What is decided once the probes of some playbooks, by name, found what they look for, or did not.
fn decide_after(
    ranker: &Ranker,
    incident: &Incident,
    policy: &Policy,
    probes: &[(&str, bool)],
) -> Decision {
    let ranking = ranking_after(ranker, incident, probes);
    decide_on(ranker, incident, policy, &ranking, &Looked::Nothing)
}

fn ranking_after(ranker: &Ranker, incident: &Incident, probes: &[(&str, bool)]) -> Ranking {
    let query = describe::query(incident);
    let coefficients = Coefficients::embedded();
    let embedding = Embedder::embedded().unwrap().embed(&ranker.reading(&query));
    let ranking = ranker.rank(&query, &embedding, coefficients);
    let finding = |found| Finding {
        probe: "look".into(),
        found: Some(found),
        is_strong: true,
        rules_out: false,
        saw: "it was looked at".into(),
        took_ms: 1,
    };
    let entry = |name: &str| {
        let mut entries = ranker.entries().iter();
        entries.position(|e| e.name.as_str() == name).unwrap()
    };
    let found = probes
        .iter()
        .map(|(n, found)| (entry(n), vec![finding(*found)]));
    ranker.diagnosed(&query, ranking, found.collect(), coefficients)
}

fn decide_on(
    ranker: &Ranker,
    incident: &Incident,
    policy: &Policy,
    ranking: &Ranking,
    looked: &Looked,
) -> Decision {
    confidence::route(&Grounds {
        incident,
        text: &describe::query(incident).text,
        ranking,
        looked,
        entries: ranker.entries(),
        coefficients: Coefficients::embedded(),
        history: History::default(),
        policy,
    })
}

fn decide(incident: &Incident) -> Decision {
    let decision = decide_with(incident, &Policy::default());
    eprintln!("{}\n  {}", decision.text, decision.rationale);
    for m in &decision.matches {
        eprintln!("    {} {:.3} {:?}", m.playbook, m.similarity, m.features);
    }
    decision
}

fn runs(decision: &Decision, playbook: &str) {
    assert_eq!(decision.chosen().unwrap().playbook.as_str(), playbook);
    assert_eq!(
        decision.route,
        Route::Execute,
        "{} {:#?}",
        decision.rationale,
        decision.gates
    );
    assert!(decision.confidence.total >= 0.90);
}

#[test]
fn an_exhausted_connection_pool_is_reset_unattended() {
    let (anomalies, events) = exhausted_pool();
    runs(
        &decide(&incident_of(anomalies, events, vec![])),
        "postgres_connection_pool_reset",
    );
}

#[test]
fn what_is_found_on_the_host_tells_two_that_are_alike_apart() {
    let (anomalies, events) = exhausted_pool();
    let incident = incident_of(anomalies, events, vec![]);
    let (reset, scale) = (
        "postgres_connection_pool_reset",
        "postgres_connection_pool_scale",
    );
    let after = |probes: &[_]| decide_after(ranker(), &incident, &Policy::default(), probes);
    let before = after(&[]);
    let found = after(&[(reset, true), (scale, false)]);
    runs(&found, reset);
    assert!(found.matches[0].similarity >= before.matches[0].similarity);
    assert_eq!(found.matches[0].findings.len(), 1);
    // The same words, and all sessions at work: what ends sessions does not run alone.
    let refuted = after(&[(reset, false), (scale, true)]);
    let runs_alone = refuted.route == Route::Execute;
    let is_reset = refuted.chosen().unwrap().playbook.as_str() == reset;
    assert!(!(runs_alone && is_reset), "{}", refuted.rationale);
    assert!(refuted.matches.iter().any(|m| m.playbook.as_str() == scale));
}

#[test]
fn a_probe_that_speaks_against_the_chosen_one_makes_it_ask() {
    let (anomalies, events) = unhealthy_service();
    let incident = incident_of(anomalies, events, vec![]);
    let policy = Policy::default();
    let decision = decide_after(ranker(), &incident, &policy, &[("service_restart", false)]);
    assert_ne!(decision.route, Route::Execute, "{}", decision.rationale);
    let gate = decision
        .gates
        .iter()
        .find(|g| g.name == "diagnosis")
        .unwrap();
    let chosen = decision.chosen().unwrap().playbook.as_str();
    assert!(!gate.passed || chosen != "service_restart", "{gate:?}");
}

#[test]
fn how_the_host_was_looked_at_is_told_and_without_an_answer_a_human_is_asked() {
    let (anomalies, events) = exhausted_pool();
    let incident = incident_of(anomalies, events, vec![]);
    let ranking = ranking_after(ranker(), &incident, &[]);
    let after = |looked| decide_on(ranker(), &incident, &Policy::default(), &ranking, &looked);
    let gate = |d: &Decision| {
        let mut gates = d.gates.iter();
        gates.find(|g| g.name == "diagnosis").unwrap().clone()
    };
    let held = after(Looked::Under(Share::Held(Fence(7))));
    assert_eq!(held.route, Route::Execute);
    assert!(gate(&held).value.contains("under shared lease 7"));
    let without = after(Looked::Under(Share::Without("no leader".into())));
    assert_eq!(
        without.route,
        Route::Execute,
        "the run has a lease of its own"
    );
    assert!(gate(&without).value.contains("without a lease: no leader"));
    let unanswered = after(Looked::Unanswered);
    assert_eq!(unanswered.route, Route::Ask);
    assert!(!gate(&unanswered).passed);
}

#[test]
fn of_several_looks_the_one_that_tells_least_counts() {
    let held = || Looked::Under(Share::Held(Fence(7)));
    let without = || Looked::Under(Share::Without("no leader".into()));
    assert_eq!(held().max(without()), without());
    assert_eq!(Looked::Nothing.max(held()), held());
    assert_eq!(Looked::Unanswered.max(without()), Looked::Unanswered);
}

#[test]
fn text_alone_runs_nothing_while_another_says_it_more_nearly() {
    let (anomalies, events) = exhausted_pool();
    let incident = incident_of(anomalies, events, vec![]);
    let mut ranking = ranking_after(ranker(), &incident, &[]);
    let c = Coefficients::embedded();
    let sure = confidence::similarity_of_first(&ranking, c, false);
    assert!(sure > 0.90, "{sure}");
    ranking.is_nearest_by_sentence = false;
    let with_a_log_line = confidence::similarity_of_first(&ranking, c, false);
    assert_eq!(with_a_log_line, sure);
    ranking.playbooks[0].evidence.logs = 0;
    assert!(confidence::similarity_of_first(&ranking, c, false) < 0.90);
}

#[test]
fn one_that_probes_have_refuted_is_no_nearer() {
    let (anomalies, events) = unhealthy_service();
    let incident = incident_of(anomalies, events, vec![]);
    let place = hale_decision::features::place("dense_sentence");
    let ranking = ranking_after(shipped(), &incident, &[]);
    let own = ranking.playbooks[0].features[place];
    let others = ranking.playbooks.iter().skip(1);
    let nearer: Vec<_> = others
        .filter(|k| k.features[place] > own)
        .map(|k| shipped().entries()[k.entry].name.clone())
        .collect();
    assert!(!nearer.is_empty() && !ranking.is_nearest_by_sentence);
    let refuted: Vec<_> = nearer.iter().map(|name| (name.as_str(), false)).collect();
    let after = ranking_after(shipped(), &incident, &refuted);
    assert_eq!(after.playbooks[0].entry, ranking.playbooks[0].entry);
    assert!(after.is_nearest_by_sentence);
    let all_but_one = ranking_after(shipped(), &incident, &refuted[1..]);
    assert!(!all_but_one.is_nearest_by_sentence);
}

#[test]
fn what_is_mended_again_and_again_asks_for_its_cause() {
    let (anomalies, events) = unhealthy_service();
    let mut incident = incident_of(anomalies, events, vec![]);
    let policy = Policy::default();
    incident.recurrence_30d = policy.root_cause_after - 1;
    runs(&decide_with(&incident, &policy), "service_restart");
    incident.recurrence_30d = policy.root_cause_after;
    let decision = decide_with(&incident, &policy);
    assert_eq!(decision.route, Route::Ask, "{}", decision.rationale);
    assert!(
        decision.rationale.contains("root_cause"),
        "{}",
        decision.rationale
    );
}

#[test]
fn a_product_that_speaks_anothers_language_is_found_and_asks() {
    let asked = |text: &str| {
        let query = hale_decision::query::Query {
            text: text.into(),
            ..Default::default()
        };
        let reading = ranker().reading(&query);
        let embedding = Embedder::embedded().unwrap().embed(&reading);
        ranker().rank(&query, &embedding, Coefficients::embedded())
    };
    let first = |ranking: &hale_decision::rank::Ranking| {
        let entry = ranking.playbooks[0].entry;
        ranker().entries()[entry].name.as_str().to_owned()
    };
    let own = asked("PostgreSQL connection pool exhausted by idle sessions");
    let kin = asked("CockroachDB connection pool exhausted by idle sessions");
    assert_eq!(first(&own), "postgres_connection_pool_reset");
    assert_eq!(first(&kin), first(&own));
    // Not what is for a program beside PostgreSQL.
    assert_eq!(first(&asked("CockroachDB connection pool")), first(&own));
    assert!(kin.is_other_product && !own.is_other_product);
}

#[test]
fn an_unhealthy_service_is_restarted_unattended() {
    let (anomalies, events) = unhealthy_service();
    runs(
        &decide(&incident_of(anomalies, events, vec![])),
        "service_restart",
    );
}

#[test]
fn a_runaway_log_is_cut_unattended() {
    let (anomalies, consumers) = runaway_log();
    runs(
        &decide(&incident_of(anomalies, vec![], consumers)),
        "disk_log_cleanup",
    );
}

#[test]
fn a_deviation_from_what_was_learned_for_seconds_alone_asks() {
    let (anomalies, consumers) = runaway_log();
    let mut incident = incident_of(anomalies, vec![], consumers);
    for anomaly in &mut incident.anomalies {
        anomaly.reading.baseline.age_seconds = 14;
    }
    let decision = decide(&incident);
    assert_eq!(decision.route, Route::Ask, "{}", decision.rationale);
    let gate = decision
        .gates
        .iter()
        .find(|g| g.name == "known_long_enough");
    assert!(gate.is_some_and(|g| !g.passed));
}

#[test]
fn wal_that_fills_a_disk_is_archived_and_not_cleaned_up_as_logs() {
    let of = Some("postgresql");
    let anomalies = vec![
        common::anomaly(
            "system.disk_usage_percent{mount=\"/var/lib/postgresql\"}",
            None,
            94.8,
            72.3,
            9.7,
        ),
        common::anomaly("database.wal_size_bytes", of, 8.3e9, 2e8, 12.0),
    ];
    let events = vec![event(
        EventSource::Log,
        of,
        Level::Error,
        "LOG:  archive command failed with exit code 1",
    )];
    let consumers = vec![common::consumer("disk", "WAL files 8.3 GB under pg_wal")];
    runs(
        &decide(&incident_of(anomalies, events, consumers)),
        "postgres_wal_archival_recovery",
    );
}

#[test]
fn a_busy_cpu_alone_runs_nothing_unattended() {
    for consumers in [
        vec![],
        vec![common::consumer("cpu", "process stress 98 % cpu")],
    ] {
        let decision = decide(&incident_of(cpu_spike(), vec![], consumers));
        assert!(decision.confidence.total < 0.90 && decision.route < Route::Execute);
    }
}

#[test]
fn a_full_disk_of_nobody_knows_what_asks() {
    let (anomalies, _) = runaway_log();
    let decision = decide(&incident_of(
        anomalies,
        vec![],
        vec![common::consumer(
            "disk",
            "customer-archive 412 GB under /srv",
        )],
    ));
    assert!(decision.route < Route::Execute);
}

#[test]
fn what_belongs_to_a_person_is_handed_to_one() {
    let of = Some("postgresql");
    let events = vec![event(
        EventSource::Log,
        of,
        Level::Error,
        "ERROR:  duplicate key value violates unique constraint \"orders_pkey\"",
    )];
    assert_eq!(
        decide(&incident_of(vec![], events, vec![])).route,
        Route::Escalate
    );
}

#[test]
fn what_would_run_asks_when_the_cluster_is_frozen_and_nothing_runs_once_resolved() {
    let (anomalies, events) = exhausted_pool();
    let mut incident = incident_of(anomalies, events, vec![]);
    let frozen = Policy {
        frozen: Some("change night".into()),
        ..Policy::default()
    };
    assert_eq!(decide_with(&incident, &frozen).route, Route::Ask);
    let bounded = Policy {
        max_route: Route::Escalate,
        ..Policy::default()
    };
    assert_eq!(decide_with(&incident, &bounded).route, Route::Escalate);
    incident.state = IncidentState::Resolved;
    assert_eq!(
        decide_with(&incident, &Policy::default()).route,
        Route::Escalate
    );
}

#[test]
fn a_product_that_speaks_the_same_language_finds_the_playbook_and_asks() {
    let of = Some("cockroachdb");
    let anomalies = vec![common::anomaly(
        "database.connections_utilization",
        of,
        0.98,
        0.4,
        7.0,
    )];
    let events = vec![event(
        EventSource::Log,
        of,
        Level::Critical,
        "FATAL: sorry, too many clients already",
    )];
    let decision = decide(&incident_of(anomalies, events, vec![]));
    assert_eq!(
        decision.chosen().unwrap().playbook.as_str(),
        "postgres_connection_pool_reset"
    );
    assert_eq!(decision.route, Route::Ask, "{:#?}", decision.gates);
}

/// The same with the playbooks that come with the binary, as far as they are there.
#[test]
fn the_library_s_own_playbooks_run_where_they_fit() {
    let ranker = shipped();
    let (pool, pool_events) = exhausted_pool();
    let (unhealthy, unhealthy_events) = unhealthy_service();
    let path = "disk.directory_bytes{path=\"/srv/reports\"}";
    let grown = vec![common::anomaly(path, Some("reports"), 5e7, 4096.0, 12.0)];
    let stories = [
        (
            "postgres_connection_pool_reset",
            incident_of(pool, pool_events, vec![]),
        ),
        (
            "service_restart",
            incident_of(unhealthy, unhealthy_events, vec![]),
        ),
        (
            "disk_log_cleanup",
            incident_of(
                grown,
                vec![],
                vec![common::consumer(
                    "disk",
                    "reports.log 48.2 MB under /srv/reports",
                )],
            ),
        ),
    ];
    for (playbook, incident) in stories {
        let decision = decide_among(ranker, &incident, &Policy::default());
        eprintln!("{playbook}: {}", decision.rationale);
        for m in &decision.matches {
            eprintln!("    {} {:.3} {:?}", m.playbook, m.similarity, m.features);
        }
        runs(&decision, playbook);
    }
    // A full disk of a host has several remedies: the right one is proposed.
    let (log, consumers) = runaway_log();
    let full = decide_among(
        ranker,
        &incident_of(log, vec![], consumers),
        &Policy::default(),
    );
    assert_eq!(full.chosen().unwrap().playbook.as_str(), "disk_log_cleanup");
    assert!(full.route >= Route::Ask, "{}", full.rationale);
    let spike = decide_among(
        ranker,
        &incident_of(cpu_spike(), vec![], vec![]),
        &Policy::default(),
    );
    assert!(
        spike.confidence.total < 0.90 && spike.route < Route::Execute,
        "{}",
        spike.rationale
    );
}
