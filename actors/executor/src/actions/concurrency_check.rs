//! `concurrency_check`: how many other runs hold what this one would disturb. Of two that wait for
//! each other the one that was granted first goes on: later fences are not counted.

use super::Context;
use crate::run::ActionResult;
use hale_model::ledger::{Lease, Scope};
use hale_playbooks::ScopeKind;
use serde_json::{Value, json};

pub(super) fn run(
    leases: Result<Vec<Lease>, String>,
    context: &Context,
    scope: &ScopeKind,
    max: u32,
) -> ActionResult {
    let leases = match leases {
        Ok(leases) => leases,
        Err(why) => {
            let message =
                format!("the leases can't be read: {why}; `hale status` shows the ledger");
            return ActionResult::failed(Value::Null, message);
        }
    };
    let scope = match (scope, &context.service) {
        (ScopeKind::Custom(name), _) => Scope::Custom(name.clone()),
        (ScopeKind::Service, Some(service)) => {
            Scope::Service(context.host.clone(), service.clone())
        }
        _ => Scope::Host(context.host.clone()),
    };
    let own = leases
        .iter()
        .find(|l| l.execution == context.execution)
        .map(|l| l.fence);
    let others: Vec<String> = leases
        .iter()
        .filter(|l| l.live && l.execution != context.execution && l.scope.conflicts(&scope))
        .filter(|l| own.is_none_or(|own| l.fence < own))
        .map(|l| format!("{} on {}", l.playbook, l.scope))
        .collect();
    let result = json!({"others": others, "count": others.len()});
    if others.len() <= max as usize {
        ActionResult::success(result, format!("{} others on {scope}", others.len()))
    } else {
        let message = format!(
            "{max} others may run on {scope}, there are: {}",
            others.join(", ")
        );
        ActionResult::failed(result, message)
    }
}
