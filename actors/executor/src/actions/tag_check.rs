//! `tag_check`: a tag of the host, as it is now. One that is missing counts as `false`.

use crate::run::ActionResult;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) fn run(tags: &BTreeMap<String, String>, tag: &str, expected: &Value) -> ActionResult {
    let value = tags.get(tag).map_or("false", String::as_str);
    let wanted = match expected {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let result = json!({"tag": tag, "value": value});
    match value.trim().eq_ignore_ascii_case(&wanted) {
        true => ActionResult::success(result, format!("{tag} is {value}")),
        false => ActionResult::failed(result, format!("{tag} is {value}, {wanted} is needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_model::StepStatus;

    #[test]
    fn a_missing_tag_counts_as_false() {
        let tags = [("maintenance_mode".to_owned(), "true".to_owned())].into();
        let status = |tag, v| run(&tags, tag, &v).status;
        assert_eq!(status("maintenance_mode", json!(false)), StepStatus::Failed);
        assert_eq!(
            status("maintenance_mode", json!("true")),
            StepStatus::Success
        );
        assert_eq!(status("pinned", json!(false)), StepStatus::Success);
        assert_eq!(status("pinned", json!(true)), StepStatus::Failed);
    }
}
