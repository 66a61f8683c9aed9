//! What a peer may have the leader write.

use super::*;
use hale_model::ledger::BudgetLimit;

/// Who may forward it, for each command there is.
enum May {
    Nobody,
    /// Its signer, its holder, the node it tells of.
    Itself,
}

fn may(command: &Command) -> (&'static str, May) {
    match command {
        Command::Enrol { .. } => ("enrol", May::Nobody),
        Command::Acquire(_) => ("acquire", May::Itself),
        Command::Renew { .. } => ("renew", May::Itself),
        Command::Expire { .. } => ("expire", May::Nobody),
        Command::Close { .. } => ("close", May::Itself),
        Command::Append { .. } => ("append", May::Itself),
        Command::AskApproval(_) => ("ask", May::Itself),
        Command::Answer { .. } => ("answer", May::Itself),
        Command::CloseApproval { .. } => ("close approval", May::Itself),
        Command::Freeze { .. } => ("freeze", May::Itself),
        Command::CreateToken { .. } => ("create token", May::Itself),
        Command::RevokeToken { .. } => ("revoke token", May::Itself),
        Command::ExpireToken { .. } => ("expire token", May::Nobody),
        Command::Admit { .. } => ("admit", May::Itself),
        Command::Remove { .. } => ("remove", May::Itself),
        Command::ExpireWait { .. } => ("expire wait", May::Nobody),
        Command::SetBudget { .. } => ("set budget", May::Itself),
        Command::DropBudget { .. } => ("drop budget", May::Itself),
        Command::Services { .. } => ("services", May::Itself),
        Command::Refill { .. } => ("refill", May::Nobody),
        Command::Rules { .. } => ("rules", May::Nobody),
        Command::Recovered { .. } => ("recovered", May::Itself),
        Command::Editions { .. } => ("editions", May::Itself),
        Command::Seen { .. } => ("seen", May::Itself),
        Command::Look(_) => ("look", May::Itself),
        Command::EndLook { .. } => ("end look", May::Itself),
        Command::ExpireLook { .. } => ("expire look", May::Nobody),
    }
}
const VARIANTS: usize = 27;

/// One of each, by node 0.
fn all() -> Vec<Command> {
    let (id, by) = (TokenId::of([1; 5]), || "ada".to_owned());
    let token = || signed(EntryKind::Token, 0, "token");
    let budget = || signed(EntryKind::Budget, 0, "budget");
    let mut all = golden::commands();
    all.extend([
        Command::CreateToken {
            id: id.clone(),
            verifier: plan(1),
            uses: 1,
            ttl_ms: 60_000,
            by: by(),
            expires_at_ms: 0,
            entry: token(),
        },
        Command::RevokeToken {
            id: id.clone(),
            by: by(),
            entry: token(),
        },
        Command::ExpireToken { id: id.clone() },
        Command::Admit {
            token: id,
            node: key(5).node_id(),
            host: host(5),
            entry: enrolment::sign(key(5).node_id(), &host(5), &key(0)),
        },
        remove(2, 0),
        Command::ExpireWait {
            execution: ExecutionId::new("exe_1").unwrap(),
            generation: 1,
        },
        Command::SetBudget {
            budget: Budget {
                name: "web".into(),
                service: None,
                limit: BudgetLimit::AtMost(1),
            },
            by: by(),
            entry: budget(),
        },
        Command::DropBudget {
            name: "web".into(),
            by: by(),
            entry: budget(),
        },
        Command::Services {
            node: key(0).node_id(),
            services: vec![],
        },
        Command::Refill {
            budget: "web".into(),
            fence: Fence(1),
        },
        Command::Rules { version: RULES },
        recovered(0, Cause::QuorumLost, &[1]),
        Command::Editions {
            node: key(0).node_id(),
            editions: vec![],
        },
        Command::Seen {
            node: key(0).node_id(),
            playbook: PlaybookName::new("restart").unwrap(),
            service: None,
            what: Sighting::WentAway,
        },
        Command::Look(looks::at(0, 0, 1)),
        Command::EndLook {
            node: key(0).node_id(),
            id: looks::at(0, 0, 1).id,
        },
        Command::ExpireLook { fence: Fence(1) },
    ]);
    all
}

#[test]
fn a_peer_speaks_for_itself_and_never_for_the_leaders_clock() {
    let mut seen = BTreeSet::new();
    for command in all() {
        let (name, may) = may(&command);
        seen.insert(name);
        let own = matches!(may, May::Itself);
        assert_eq!(may_forward(&key(0).node_id(), &command), own, "{name}");
        assert!(!may_forward(&key(1).node_id(), &command), "{name}");
    }
    assert_eq!(seen.len(), VARIANTS);
}

#[test]
fn a_grant_is_not_asked_for_in_anothers_name() {
    let ask = Acquire {
        holder: key(1).node_id(),
        ..ask_for(0, 0, 1, None)
    };
    for n in 0..2 {
        assert!(!may_forward(
            &key(n).node_id(),
            &Command::Acquire(ask.clone())
        ));
    }
}

#[test]
fn a_member_reports_what_another_abandoned() {
    let report = Command::Close {
        fence: Fence(1),
        holder: key(1).node_id(),
        disposition: Disposition::Abandoned,
        outcome: OutcomeStatus::Abandoned,
        entry: signed(EntryKind::Record, 0, "abandoned"),
    };
    assert!(may_forward(&key(0).node_id(), &report));
    assert!(!may_forward(&key(1).node_id(), &report));
}
