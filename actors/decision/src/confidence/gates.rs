//! The gates, in the order they are asked: each lets the route pass or lowers it, and says what
//! would have flipped it.

use super::{Grounds, KINDS_NEEDED, Looked};
use hale_model::{Confidence, Direction, Gate, Harm, IncidentState, Reading, Route};

/// All gates, and the route that is left.
pub(super) fn pass(grounds: &Grounds<'_>, confidence: &Confidence) -> (Vec<Gate>, Route) {
    let checks = [
        open(grounds),
        some_playbook(grounds),
        sure_enough_to_ask(grounds, confidence),
        sure_enough_to_execute(grounds, confidence),
        person(grounds),
        evidence(grounds),
        diagnosis(grounds),
        product(grounds),
        danger(grounds),
        nearest(grounds),
        not_when(grounds),
        direction(grounds),
        runner_up(grounds),
        known_long_enough(grounds),
        idempotent(grounds),
        root_cause(grounds),
        level(grounds),
        frozen(grounds),
    ];
    let lowest = checks
        .iter()
        .filter(|(_, g)| !g.passed)
        .map(|(route, _)| *route)
        .min();
    let gates = checks.into_iter().map(|(_, gate)| gate).collect();
    (gates, lowest.unwrap_or(Route::Execute))
}

/// A gate with the route that is left if it does not let pass.
fn gate(
    left: Route,
    name: &str,
    passed: bool,
    value: String,
    needed: String,
    flip: String,
) -> (Route, Gate) {
    (
        left,
        Gate {
            name: name.into(),
            passed,
            value,
            needed,
            flip,
        },
    )
}

fn open(g: &Grounds<'_>) -> (Route, Gate) {
    let passed = g.incident.state == IncidentState::Open;
    let value = if passed { "open" } else { "resolved" };
    let flip = "signals that return would open a new incident";
    gate(
        Route::Escalate,
        "open",
        passed,
        value.into(),
        "open".into(),
        flip.into(),
    )
}

fn some_playbook(g: &Grounds<'_>) -> (Route, Gate) {
    let n = g.ranking.playbooks.len();
    let flip = "add playbooks to the library; `hale playbook ls` shows what is loaded";
    gate(
        Route::Escalate,
        "library",
        n > 0,
        format!("{n} playbooks"),
        "at least 1".into(),
        flip.into(),
    )
}

fn threshold(name: &str, left: Route, total: f64, needed: f64) -> (Route, Gate) {
    let passed = total >= needed;
    let flip = if passed {
        format!(
            "{:.2} less confidence, or a threshold above {total:.2}",
            total - needed
        )
    } else {
        format!(
            "{:.2} more confidence: a matching log line or series, or verified successes",
            needed - total
        )
    };
    gate(
        left,
        name,
        passed,
        format!("{total:.4}"),
        format!("at least {needed:.2}"),
        flip,
    )
}

fn sure_enough_to_ask(g: &Grounds<'_>, c: &Confidence) -> (Route, Gate) {
    threshold("confidence_to_ask", Route::Escalate, c.total, g.policy.ask)
}

fn sure_enough_to_execute(g: &Grounds<'_>, c: &Confidence) -> (Route, Gate) {
    threshold(
        "confidence_to_execute",
        Route::Ask,
        c.total,
        g.policy.execute,
    )
}

fn person(g: &Grounds<'_>) -> (Route, Gate) {
    let first = g.ranking.playbooks.first().map_or(0.0, |c| c.probability);
    let person = g.ranking.persons.first();
    let passed = person.is_none_or(|p| p.probability < first);
    let value = person.map_or_else(
        || "none".to_owned(),
        |p| format!("{} at {:.2}", g.entries[p.entry].name, p.probability),
    );
    let flip =
        "words that tell it from what belongs to a person, or evidence of the playbook's signature";
    gate(
        Route::Ask,
        "person",
        passed,
        value,
        format!("below the playbook's {first:.2}"),
        flip.into(),
    )
}

fn evidence(g: &Grounds<'_>) -> (Route, Gate) {
    let e = g
        .ranking
        .playbooks
        .first()
        .map(|c| c.evidence)
        .unwrap_or_default();
    let value = format!(
        "{} of 5 kinds: {} series, {} log lines, service {}, consumer {}, {} probes",
        e.kinds(),
        e.series,
        e.logs,
        if e.service { "yes" } else { "no" },
        if e.consumer { "yes" } else { "no" },
        e.found
    );
    let flip = "a series, a log line, the service or the top consumer of the playbook's signature";
    gate(
        Route::Ask,
        "evidence",
        e.kinds() >= KINDS_NEEDED,
        value,
        format!("at least {KINDS_NEEDED} kinds"),
        flip.into(),
    )
}

/// A probe that all but settles it is worth more than any likeness of words.
fn diagnosis(g: &Grounds<'_>) -> (Route, Gate) {
    let first = g.ranking.playbooks.first();
    let findings = first.map_or(&[][..], |c| c.findings.as_slice());
    let against = findings
        .iter()
        .find(|f| f.is_strong && f.found == Some(false));
    let mut value = match against {
        Some(finding) => format!("{} speaks against it: {}", finding.probe, finding.saw),
        None => {
            let found = findings.iter().filter(|f| f.found == Some(true)).count();
            format!("{found} of {} probes found what it is for", findings.len())
        }
    };
    match g.looked {
        Looked::Nothing => {}
        Looked::Under(share) => value.push_str(&format!(" ({share})")),
        Looked::Unanswered => value.push_str("; some did not answer in time"),
    }
    let is_open = against.is_none() && *g.looked != Looked::Unanswered;
    let flip = "the host being in the state that the playbook's `diagnose` looks for";
    // A human's consent would not make it run either.
    let left = match findings.iter().any(|f| f.rules_out) {
        true => Route::Escalate,
        false => Route::Ask,
    };
    gate(
        left,
        "diagnosis",
        is_open,
        value,
        "an answer in time, and no strong probe against it".into(),
        flip.into(),
    )
}

fn product(g: &Grounds<'_>) -> (Route, Gate) {
    let value = if g.ranking.is_other_product {
        "another product"
    } else {
        "its product, or any"
    };
    let flip = "add the product to the playbook's services once it is proven there";
    gate(
        Route::Ask,
        "product",
        !g.ranking.is_other_product,
        value.into(),
        "the playbook's own product".into(),
        flip.into(),
    )
}

fn danger(g: &Grounds<'_>) -> (Route, Gate) {
    let danger = g.ranking.danger;
    gate(
        Route::Ask,
        "danger",
        danger.is_none(),
        danger.map_or_else(
            || "none".to_owned(),
            |words| format!("it speaks of \"{words}…\""),
        ),
        "no words of harm that acting could make worse".into(),
        "an incident without these words".into(),
    )
}

fn nearest(g: &Grounds<'_>) -> (Route, Gate) {
    let is_told_apart = super::is_told_apart(g.ranking);
    let value = match (g.ranking.is_nearest_by_sentence, is_told_apart) {
        (true, _) => "no other has a nearer sentence",
        (false, true) => {
            "another has a nearer sentence, but a log line or a probe speaks for this one"
        }
        (false, false) => "another has a nearer sentence",
    };
    gate(
        Route::Ask,
        "nearest",
        is_told_apart,
        value.to_owned(),
        "no playbook with a nearer sentence, or a log line or strong probe for this one".into(),
        "a description that says it more plainly, or a probe that tells the two apart".into(),
    )
}

/// Whether a feature that speaks against the first candidate is set.
fn is_set(g: &Grounds<'_>, feature: &str) -> bool {
    let first = g.ranking.playbooks.first();
    first.is_some_and(|first| first.features[crate::features::place(feature)] > 0.0)
}

fn not_when(g: &Grounds<'_>) -> (Route, Gate) {
    let hit = is_set(g, "not_when");
    let value = if hit {
        "the incident speaks of what the playbook is not for"
    } else {
        "nothing of it"
    };
    let flip = "take the words out of the playbook's `not_when`, if they are wrong there";
    gate(
        Route::Escalate,
        "not_when",
        !hit,
        value.into(),
        "no words of `not_when`".into(),
        flip.into(),
    )
}

fn direction(g: &Grounds<'_>) -> (Route, Gate) {
    let against = is_set(g, "direction_conflict");
    let value = if against {
        "the series moved the other way"
    } else {
        "as in its signature"
    };
    let flip = "the series moving the way that the playbook's signature says";
    gate(
        Route::Escalate,
        "direction",
        !against,
        value.into(),
        "the signature's direction".into(),
        flip.into(),
    )
}

fn runner_up(g: &Grounds<'_>) -> (Route, Gate) {
    let share = |at: usize| g.ranking.playbooks.get(at).map_or(0.0, |c| c.probability);
    let lead = share(0) - share(1);
    let second = g
        .ranking
        .playbooks
        .get(1)
        .map(|c| g.entries[c.entry].name.as_str());
    let value = format!("leads {} by {lead:.2}", second.unwrap_or("nobody"));
    let flip = "evidence that tells the two apart";
    gate(
        Route::Ask,
        "runner_up",
        lead >= g.policy.lead,
        value,
        format!("a lead of {:.2}", g.policy.lead),
        flip.into(),
    )
}

/// A deviation from what was learned for minutes alone is no ground to act unattended: on a new
/// host everything is new. An event, or a value at the harmful end of its range, needs no history.
fn known_long_enough(g: &Grounds<'_>) -> (Route, Gate) {
    let incident = g.incident;
    let age = incident
        .anomalies
        .iter()
        .map(|a| a.reading.baseline.age_seconds)
        .max()
        .unwrap_or(0);
    let needed = g.policy.learn_first_seconds;
    let at_an_end = incident
        .anomalies
        .iter()
        .any(|a| is_at_the_harmful_end(&a.reading));
    let passed = age >= needed || at_an_end || !incident.events.is_empty();
    gate(
        Route::Ask,
        "known_long_enough",
        passed,
        format!("{age} s of history, {} events", incident.events.len()),
        format!("{needed} s, an event, or a value at the end of its range"),
        "`[decision] learn_first` in the configuration, or time".into(),
    )
}

fn is_at_the_harmful_end(r: &Reading) -> bool {
    let Some(bounds) = r.bounds else { return false };
    let near = (bounds.max - bounds.min).abs() * 0.02;
    let high = r.value >= bounds.max - near && r.harm != Harm::Low;
    let low = r.value <= bounds.min + near && r.harm != Harm::High;
    (high && r.direction() == Direction::Above) || (low && r.direction() == Direction::Below)
}

fn idempotent(g: &Grounds<'_>) -> (Route, Gate) {
    let yes = g
        .ranking
        .playbooks
        .first()
        .is_none_or(|c| g.entries[c.entry].idempotent);
    let value = if yes { "idempotent" } else { "not idempotent" };
    let flip = "a playbook that may run twice without harm";
    gate(
        Route::Ask,
        "idempotent",
        yes,
        value.into(),
        "idempotent".into(),
        flip.into(),
    )
}

/// What is mended again and again has a cause that no playbook reaches: a human is told to look for
/// it, and agrees to the next run meanwhile.
fn root_cause(g: &Grounds<'_>) -> (Route, Gate) {
    let (times, most) = (g.incident.recurrence_30d, g.policy.root_cause_after);
    gate(
        Route::Ask,
        "root_cause",
        most == 0 || times < most,
        format!("{times} like it in the 30 days before"),
        format!("fewer than {most}"),
        "the cause mended, so that it does not come back; or `root_cause_after` under `[decision.autonomy]`"
            .into(),
    )
}

fn level(g: &Grounds<'_>) -> (Route, Gate) {
    let of_playbook = g
        .ranking
        .playbooks
        .first()
        .map_or(Route::Execute, |c| g.entries[c.entry].max_route);
    let allowed = of_playbook.min(g.policy.max_route);
    let flip = "verified successes; or `level` in a rule under `[decision]`, and the playbook's `max_route`";
    let why = if of_playbook < g.policy.max_route {
        "the playbook allows no more"
    } else {
        g.policy.level.as_str()
    };
    let colon = if why.is_empty() { "" } else { ": " };
    gate(
        allowed.min(Route::Ask),
        "level",
        allowed == Route::Execute,
        format!("{}{colon}{why}", allowed.as_str()),
        "execute".into(),
        flip.into(),
    )
}

fn frozen(g: &Grounds<'_>) -> (Route, Gate) {
    let value = g
        .policy
        .frozen
        .as_ref()
        .map_or_else(|| "not frozen".to_owned(), |why| format!("frozen: {why}"));
    gate(
        Route::Ask,
        "frozen",
        g.policy.frozen.is_none(),
        value,
        "not frozen".into(),
        "`hale thaw`".into(),
    )
}
