//! How much a playbook may do here: a level for each playbook, service and environment, earned by
//! verified outcomes. What the evidence is stands on the ledger, signed; the level follows from it
//! and from the operator's rules alone, so that anyone can work it out again.

use hale_model::Route;
use hale_model::ledger::History;
use hale_playbooks::Proof;
use serde::{Deserialize, Serialize};

/// How much a playbook may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It says what it would have done, and does nothing.
    Shadow,
    /// A human has to agree.
    Ask,
    /// It runs alone where the confidence is there.
    Auto,
}

impl Level {
    /// Its name in the configuration and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Ask => "ask",
            Self::Auto => "auto",
        }
    }

    /// The most it may do.
    pub const fn max_route(self) -> Route {
        match self {
            Self::Shadow => Route::Escalate,
            Self::Ask => Route::Ask,
            Self::Auto => Route::Execute,
        }
    }
}

/// When levels are earned and lost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Autonomy {
    /// Where a playbook begins that no test has proven: `shadow`, `ask` or `auto`.
    pub new: Level,
    /// After so many verified successes on a service, and no failure, it runs alone; one that begins
    /// in shadow asks after it was right so often. Never if 0.
    pub promote_after: u32,
    /// Below this share of successes, with two failures at least, it asks again.
    pub demote_below: f64,
    /// After so many incidents of a kind in thirty days a human is asked for the cause instead of
    /// mending it once more; never if 0.
    pub root_cause_after: u32,
}

impl Default for Autonomy {
    fn default() -> Self {
        Self {
            new: Level::Ask,
            promote_after: 5,
            demote_below: 0.8,
            root_cause_after: 10,
        }
    }
}

/// What the operator says of some playbooks, services or environments. Patterns are globs; one that
/// is left out fits all. Of several rules that fit, the last that says something is taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Which playbooks: `postgres_*`.
    pub playbook: Option<String>,
    /// Which services.
    pub service: Option<String>,
    /// Which environments: `production`.
    pub environment: Option<String>,
    /// The level, whatever was earned.
    pub level: Option<Level>,
    /// From this confidence on it runs alone.
    pub execute_at: Option<f64>,
    /// From this confidence on a human is asked.
    pub ask_at: Option<f64>,
}

/// One playbook where it would run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place<'a> {
    /// Its name.
    pub playbook: &'a str,
    /// The service; none for the host itself.
    pub service: Option<&'a str>,
    /// The host's environment.
    pub environment: &'a str,
}

impl Rule {
    /// Whether it speaks of this place.
    pub fn fits(&self, place: &Place<'_>) -> bool {
        let is = |pattern: &Option<String>, name: &str| {
            pattern
                .as_deref()
                .is_none_or(|p| glob_match::glob_match(p, name))
        };
        is(&self.playbook, place.playbook)
            && is(&self.service, place.service.unwrap_or_default())
            && is(&self.environment, place.environment)
    }
}

/// What the rules that fit say together: a level, and from which confidence on to run and to ask.
pub fn ruled(rules: &[Rule], place: &Place<'_>) -> Rule {
    let mut said = Rule::default();
    for rule in rules.iter().filter(|r| r.fits(place)) {
        said.level = rule.level.or(said.level);
        said.execute_at = rule.execute_at.or(said.execute_at);
        said.ask_at = rule.ask_at.or(said.ask_at);
    }
    said
}

/// The level, and why.
pub fn level(
    autonomy: &Autonomy,
    ruled: Option<Level>,
    proof: Proof,
    history: History,
) -> (Level, String) {
    if let Some(level) = ruled {
        return (level, "by the operator's rule".into());
    }
    let (right, wrong) = (history.succeeded, history.failed);
    let told = format!("{right} verified successes, {wrong} failures");
    let share = right as f64 / (right + wrong).max(1) as f64;
    if wrong >= 2 && share < autonomy.demote_below {
        let least = autonomy.new.min(Level::Ask);
        return (least, format!("lost: {told}"));
    }
    let needed = u64::from(autonomy.promote_after);
    if proof == Proof::Proven {
        return (Level::Auto, format!("proven by test; {told}"));
    }
    // A failure is made good by many successes, not by time.
    let has_earned = needed > 0 && right >= needed.saturating_mul(1 + wrong.saturating_mul(4));
    if has_earned && share >= autonomy.demote_below {
        return (Level::Auto, format!("earned: {told}"));
    }
    let (agreed, disagreed) = (history.agreed, history.disagreed);
    let was_right = agreed as f64 / (agreed + disagreed).max(1) as f64;
    if autonomy.new == Level::Shadow && needed > 0 && agreed >= needed {
        let told = format!("in shadow right {agreed} times, wrong {disagreed} times");
        if was_right >= autonomy.demote_below {
            return (Level::Ask, format!("earned: {told}"));
        }
        return (Level::Shadow, format!("new here: {told}"));
    }
    let of = if needed > 0 {
        format!("{told}; {needed} successes in a row would earn more")
    } else {
        told
    };
    (autonomy.new, format!("new here: {of}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn history(succeeded: u64, failed: u64) -> History {
        History {
            succeeded,
            failed,
            ..History::default()
        }
    }

    fn of(proof: Proof, succeeded: u64, failed: u64) -> Level {
        level(
            &Autonomy::default(),
            None,
            proof,
            history(succeeded, failed),
        )
        .0
    }

    #[test]
    fn what_no_test_has_proven_asks_until_it_has_earned_more() {
        assert_eq!(of(Proof::Linted, 0, 0), Level::Ask);
        assert_eq!(of(Proof::Linted, 4, 0), Level::Ask);
        assert_eq!(of(Proof::Linted, 5, 0), Level::Auto);
        assert_eq!(of(Proof::Linted, 5, 1), Level::Ask, "a failure weighs");
        assert_eq!(of(Proof::Linted, 25, 1), Level::Auto);
    }

    #[test]
    fn what_fails_asks_again_proven_or_not() {
        assert_eq!(of(Proof::Proven, 0, 0), Level::Auto);
        assert_eq!(of(Proof::Proven, 0, 1), Level::Auto, "once may be bad luck");
        assert_eq!(of(Proof::Proven, 1, 2), Level::Ask);
        assert_eq!(of(Proof::Proven, 9, 2), Level::Auto);
    }

    #[test]
    fn what_was_right_in_shadow_may_ask() {
        let autonomy = Autonomy {
            new: Level::Shadow,
            ..Autonomy::default()
        };
        let of = |agreed, disagreed| {
            let history = History {
                agreed,
                disagreed,
                ..History::default()
            };
            level(&autonomy, None, Proof::Linted, history).0
        };
        assert_eq!(of(0, 0), Level::Shadow);
        assert_eq!(of(4, 0), Level::Shadow);
        assert_eq!(of(5, 1), Level::Ask);
        assert_eq!(of(5, 2), Level::Shadow);
    }

    #[test]
    fn the_last_rule_that_says_something_is_taken() {
        let rule = |playbook: &str, environment: &str, level, execute_at| Rule {
            playbook: Some(playbook.into()),
            environment: Some(environment.into()),
            level,
            execute_at,
            ..Rule::default()
        };
        let rules = [
            rule("*", "*", Some(Level::Ask), None),
            rule("postgres_*", "staging", Some(Level::Auto), None),
            rule("*", "production", None, Some(0.95)),
            Rule {
                service: Some("shop".into()),
                level: Some(Level::Shadow),
                ..Rule::default()
            },
        ];
        let at = |service, environment| {
            let place = Place {
                playbook: "postgres_vacuum",
                service,
                environment,
            };
            let said = ruled(&rules, &place);
            (said.level.unwrap(), said.execute_at)
        };
        assert_eq!(at(None, "staging"), (Level::Auto, None));
        assert_eq!(at(None, "production"), (Level::Ask, Some(0.95)));
        assert_eq!(at(Some("shop"), "production"), (Level::Shadow, Some(0.95)));
    }

    proptest! {
        #[test]
        fn more_failures_never_earn_more(right in 0u64..10_000, wrong in 0u64..10_000, proven: bool) {
            let proof = if proven { Proof::Proven } else { Proof::Linted };
            prop_assert!(of(proof, right, wrong + 1) <= of(proof, right, wrong));
        }

        #[test]
        fn a_rule_is_law(right: u64, wrong: u64) {
            let wrong = wrong % (u64::MAX / 2);
            let right = right % (u64::MAX / 2);
            let told = level(&Autonomy::default(), Some(Level::Shadow), Proof::Proven, history(right, wrong));
            prop_assert_eq!(told.0, Level::Shadow);
        }
    }
}
