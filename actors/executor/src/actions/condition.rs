//! `condition`: an expression over what the run knows.

use super::Tried;
use crate::run::ActionResult;
use hale_playbooks::{Env, Expr};
use serde_json::json;

pub(super) fn run(condition: &Expr, env: &Env) -> Tried {
    let holds = condition.holds(env).map_err(|e| e.to_string())?;
    let result = json!({ "holds": holds });
    let text = condition.as_str();
    Ok(match holds {
        true => ActionResult::success(result, format!("`{text}` holds")),
        false => ActionResult::failed(result, format!("`{text}` does not hold")),
    })
}
