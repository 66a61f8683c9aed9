//! What is undone, and in which order.

use hale_playbooks::language::{
    Action, FileOperation, Playbook, ProcessOperation, Step, UnitOperation,
};

/// Which of the playbook's rollback entries run, given the steps that ran or may have, in order:
/// the entries of the last step first, and those that undo no step in particular at the end.
pub(crate) fn order(playbook: &Playbook, ran: &[usize]) -> Vec<usize> {
    let entries = || playbook.rollback.iter().enumerate();
    let names = ran
        .iter()
        .rev()
        .filter_map(|i| playbook.steps.get(*i))
        .map(|s| s.name.as_str());
    let mut order: Vec<usize> = names
        .flat_map(|name| entries().filter(move |(_, e)| e.undoes.as_deref() == Some(name)))
        .map(|(i, _)| i)
        .collect();
    order.extend(
        entries()
            .filter(|(_, e)| e.undoes.is_none())
            .map(|(i, _)| i),
    );
    order
}

/// Whether any of the steps that ran may have changed something.
pub(crate) fn has_touched(playbook: &Playbook, ran: &[usize]) -> bool {
    ran.iter()
        .filter_map(|i| playbook.steps.get(*i))
        .any(touches)
}

/// Whether a step may change anything. A command always may.
pub(crate) fn touches(step: &Step) -> bool {
    match &step.action {
        Action::Command { .. } => true,
        Action::SqlQuery { writes, .. } => *writes,
        Action::HttpCheck { method, .. } => !matches!(method.as_str(), "GET" | "HEAD"),
        Action::SystemdUnit { operation, .. } => *operation != UnitOperation::Check,
        Action::Process { operation, .. } => *operation != ProcessOperation::Count,
        Action::File { operation, .. } => *operation != FileOperation::Stat,
        Action::Condition { .. }
        | Action::TagCheck { .. }
        | Action::ConcurrencyCheck { .. }
        | Action::Wait { .. }
        | Action::LogCheck { .. }
        | Action::MetricCheck { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::samples;

    fn names(ran: &[usize]) -> Vec<String> {
        let playbook = samples::playbook();
        order(&playbook, ran)
            .into_iter()
            .map(|i| playbook.rollback[i].name.clone())
            .collect()
    }

    #[test]
    fn the_last_step_is_undone_first_and_what_undoes_no_step_comes_at_the_end() {
        assert_eq!(names(&[0, 1]), ["undo_second", "undo_first", "undo_always"]);
        assert_eq!(names(&[1, 0]), ["undo_first", "undo_second", "undo_always"]);
    }

    #[test]
    fn a_step_that_did_not_run_is_not_undone() {
        assert_eq!(names(&[0]), ["undo_first", "undo_always"]);
    }

    #[test]
    fn looking_is_not_touching() {
        assert!(!touches(&samples::check("look")));
        assert!(touches(&samples::command("act")));
    }
}
