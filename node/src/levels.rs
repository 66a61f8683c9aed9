//! How much each playbook may do on this node: the operator's rules, the proof that came with it, and
//! what the ledger says of how it did.

use crate::config::Config;
use crate::library::Library;
use hale_consensus::Ledger;
use hale_decision::autonomy::{self, Level, Place};
use hale_decision::confidence::Policy;
use hale_model::ledger::History;
use hale_model::{PlaybookName, ServiceName};
use hale_playbooks::Proof;

/// A playbook where it would run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) playbook: &'a PlaybookName,
    pub(crate) service: Option<&'a ServiceName>,
    /// How it did there.
    pub(crate) history: History,
}

/// How a playbook did, by the text that it has here: what another text earned does not count.
pub(crate) fn history(
    ledger: &Ledger,
    library: &Library,
    playbook: &PlaybookName,
    service: Option<&ServiceName>,
) -> History {
    match is_of_another_text(ledger, library, playbook) {
        true => History::default(),
        false => ledger.history(playbook, service),
    }
}

/// Whether the ledger counts for another text of this playbook than the one here.
pub(crate) fn is_of_another_text(
    ledger: &Ledger,
    library: &Library,
    playbook: &PlaybookName,
) -> bool {
    let here = library.get(playbook).map(|k| k.playbook.digest);
    let counted = ledger.edition(playbook);
    counted.is_some() && here.is_some() && counted != here
}

/// The level and why, with the thresholds that hold there.
pub(crate) fn of(config: &Config, library: &Library, asked: &Asked<'_>) -> (Level, Policy) {
    let decision = &config.decision;
    let place = Place {
        playbook: asked.playbook.as_str(),
        service: asked.service.map(ServiceName::as_str),
        environment: &config.node.environment,
    };
    let ruled = autonomy::ruled(&decision.rules, &place);
    let known = library.get(asked.playbook);
    let proof = known.map_or(Proof::Linted, |k| k.proof());
    let (level, why) = autonomy::level(&decision.autonomy, ruled.level, proof, asked.history);
    let execute = ruled.execute_at.unwrap_or(decision.execute_at);
    let policy = Policy {
        execute,
        ask: ruled.ask_at.unwrap_or(decision.ask_at).min(execute),
        max_route: level.max_route(),
        level: format!("{}, {why}", level.as_str()),
        root_cause_after: decision.autonomy.root_cause_after,
        learn_first_seconds: decision.learn_first.0.as_secs(),
        ..Policy::default()
    };
    (level, policy)
}
