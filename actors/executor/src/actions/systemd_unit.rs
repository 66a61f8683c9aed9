//! `systemd_unit`: a unit of the host's service manager, through `systemctl`.

use super::command::{self, Wanted};
use super::{Stop, Tried};
use crate::run::ActionResult;
use hale_model::StepStatus;
use hale_playbooks::language::UnitOperation;
use serde_json::{Map, Value};
use std::path::Path;
use std::time::Duration;

/// How often a unit that is on its way to a state is looked at.
const LOOK: Duration = Duration::from_millis(200);
const PROPERTIES: &str = "--property=ActiveState,SubState,Result,NRestarts,MainPID,LoadState";

pub(super) async fn run(
    unit: &str,
    operation: UnitOperation,
    expect_state: Option<&str>,
    mut stop: Stop,
) -> Tried {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.:@\\".contains(c);
    if unit.is_empty() || unit.len() > 255 || unit.starts_with('-') || !unit.chars().all(is_name) {
        return Err(format!(
            "`{unit}` is not a unit's name; write it like nginx.service"
        ));
    }
    if !Path::new("/run/systemd/system").exists() {
        return Err(format!(
            "systemd does not run this host, so `{unit}` can't be asked for: use a `command` with \
             the service's own tool, or a `process` step"
        ));
    }
    let verb = match operation {
        UnitOperation::Check => None,
        UnitOperation::Start => Some("start"),
        UnitOperation::Stop => Some("stop"),
        UnitOperation::Restart => Some("restart"),
        UnitOperation::Reload => Some("reload"),
        UnitOperation::ResetFailed => Some("reset-failed"),
    };
    if let Some(verb) = verb {
        let told = systemctl(&[verb, "--", unit], stop.clone()).await;
        if told.status != StepStatus::Success {
            return Ok(told);
        }
    }
    loop {
        let shown = systemctl(&["show", PROPERTIES, "--", unit], stop.clone()).await;
        if shown.status != StepStatus::Success {
            return Ok(shown);
        }
        let state = properties(&shown.result);
        let active = state
            .get("active_state")
            .and_then(Value::as_str)
            .unwrap_or("unknown");
        let is_moving = matches!(active, "activating" | "deactivating" | "reloading");
        let is_wanted = expect_state.is_none_or(|wanted| wanted == active);
        let message = format!("{unit} is {active}");
        if is_wanted {
            return Ok(ActionResult::success(Value::Object(state), message));
        }
        if !is_moving {
            let wanted = expect_state.unwrap_or_default();
            let message =
                format!("{message}, {wanted} is needed; `systemctl status {unit}` says why");
            return Ok(ActionResult::failed(Value::Object(state), message));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.asked() => return Ok(ActionResult::interrupted()),
        }
    }
}

async fn systemctl(arguments: &[&str], stop: Stop) -> ActionResult {
    let mut argv = vec!["systemctl", "--no-ask-password", "--no-pager"];
    argv.extend(arguments);
    let argv = argv.into_iter().map(str::to_owned).collect();
    command::run(Wanted::of(argv), &[0], stop).await
}

/// `ActiveState=active` becomes `active_state: "active"`; numbers become numbers.
pub(super) fn properties(result: &Value) -> Map<String, Value> {
    let text = result
        .get("stdout")
        .and_then(Value::as_str)
        .unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| {
            let name = match name {
                "ActiveState" => "active_state",
                "SubState" => "sub_state",
                "LoadState" => "load_state",
                "NRestarts" => "restarts",
                "MainPID" => "main_pid",
                _ => "result",
            };
            let value = value
                .parse::<u64>()
                .map_or_else(|_| value.into(), Value::from);
            (name.to_owned(), value)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn properties_are_read_as_systemctl_shows_them() {
        let out =
            json!({"stdout": "ActiveState=failed\nSubState=failed\nNRestarts=3\nMainPID=0\n"});
        let read = Value::Object(properties(&out));
        let expected =
            json!({"active_state": "failed", "sub_state": "failed", "restarts": 3, "main_pid": 0});
        assert_eq!(read, expected);
    }
}
