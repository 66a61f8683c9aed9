//! Makes a record sayable in canonical JSON and small enough for the chain.

use hale_model::canonical;
use hale_model::execution::{LogLine, StepStatus};
use hale_model::record::Record;
use serde_json::Value;

/// Beyond this, a JSON number is no longer exact in every reader (RFC 7493 section 2.2).
const MAX_EXACT: u64 = 1 << 53;
/// How deep a step's result may be nested; readers of JSON commonly stop at 128.
const MAX_DEPTH: usize = 32;

/// Texts and lists at each try; the first that fits is taken. The last is small for sure.
const TRIES: [Cut; 5] = [
    Cut {
        text: 16_384,
        lines: 200,
        list: 200,
    },
    Cut {
        text: 4_096,
        lines: 100,
        list: 100,
    },
    Cut {
        text: 1_024,
        lines: 50,
        list: 50,
    },
    Cut {
        text: 512,
        lines: 20,
        list: 20,
    },
    Cut {
        text: 128,
        lines: 6,
        list: 6,
    },
];

#[derive(Clone, Copy)]
struct Cut {
    /// The longest text, in bytes.
    text: usize,
    /// The most lines of one log.
    lines: usize,
    /// The most items of any other list.
    list: usize,
}

/// Replaces what canonical JSON can't say exactly: integers beyond 2^53 become text, nesting
/// beyond [`MAX_DEPTH`] a note.
pub(super) fn make_sayable(record: &mut Record) {
    for line in logs(record).into_iter().flatten() {
        sayable(&mut line.result, 0);
    }
}

fn sayable(value: &mut Value, depth: usize) {
    match value {
        Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => {
            *value = Value::from("(nested too deep to be told)");
        }
        Value::Array(items) => items.iter_mut().for_each(|v| sayable(v, depth + 1)),
        Value::Object(map) => map.values_mut().for_each(|v| sayable(v, depth + 1)),
        Value::Number(n) => {
            let whole = n.as_u64().or_else(|| n.as_i64().map(i64::unsigned_abs));
            if whole.is_some_and(|w| w > MAX_EXACT) {
                *value = Value::from(n.to_string());
            }
        }
        _ => {}
    }
}

fn logs(record: &mut Record) -> [&mut Vec<LogLine>; 4] {
    [
        &mut record.pre_check_log,
        &mut record.execution_log,
        &mut record.verification_log,
        &mut record.rollback_log,
    ]
}

/// The canonical bytes of as much of the record as goes into `limit` bytes.
pub(super) fn within(record: &Record, limit: usize) -> Vec<u8> {
    let mut bytes = vec![];
    for cut in TRIES {
        let mut smaller = record.clone();
        shorten(&mut smaller, cut);
        bytes = canonical::to_bytes(&smaller).unwrap_or_default();
        if !bytes.is_empty() && bytes.len() <= limit {
            return bytes;
        }
    }
    bytes
}

fn shorten(record: &mut Record, cut: Cut) {
    for log in logs(record) {
        for line in log.iter_mut() {
            for text in [&mut line.step, &mut line.kind, &mut line.message] {
                shorten_text(text, cut.text);
            }
            let size = line.result.to_string().len();
            if size > cut.text {
                let mut text = line.result.to_string();
                shorten_text(&mut text, cut.text);
                line.result = Value::from(text);
            }
        }
        shorten_log(log, cut.lines);
    }
    let about = &mut record.incident_context;
    about.anomalies.truncate(cut.list);
    shorten_list(&mut about.events, cut.list);
    shorten_list(&mut about.top_consumers, cut.list);
    let tags = std::mem::take(&mut about.tags);
    let all = tags.len();
    about.tags = tags
        .into_iter()
        .filter(|(k, _)| k.len() <= cut.text)
        .take(cut.list)
        .collect();
    if about.tags.len() < all {
        let left_out = all - about.tags.len();
        about
            .tags
            .insert("hale_tags_left_out".into(), left_out.to_string());
    }
    let texts = about.events.iter_mut().chain(&mut about.top_consumers);
    let texts = texts.chain(about.tags.values_mut()).chain([
        &mut about.environment,
        &mut about.title,
        &mut record.decision.decision_rationale,
        &mut record.outcome.reason,
    ]);
    let names = record
        .decision
        .playbook_version
        .iter_mut()
        .chain(&mut record.decision.approved_by);
    let texts = texts.chain(names);
    texts.for_each(|t| shorten_text(t, cut.text));
}

/// Leaves out the middle: how it began and how it ended tell the most.
fn shorten_log(log: &mut Vec<LogLine>, most: usize) {
    if log.len() <= most {
        return;
    }
    let (head, tail) = (most / 2, most - most / 2);
    let left_out = log.len() - head - tail;
    let note = LogLine {
        step: "left_out".into(),
        kind: "note".into(),
        at: log[head].at,
        duration_ms: 0,
        status: StepStatus::Skipped,
        result: Value::Null,
        message: format!("{left_out} lines are left out here: the record was over the size limit"),
        attempts: 0,
    };
    log.splice(head..head + left_out, [note]);
}

fn shorten_list(list: &mut Vec<String>, most: usize) {
    if list.len() > most {
        let left_out = list.len() - most;
        list.truncate(most);
        list.push(format!("({left_out} more are left out)"));
    }
}

/// Leaves out the middle of a text, at character boundaries.
fn shorten_text(text: &mut String, most: usize) {
    if text.len() <= most {
        return;
    }
    let head = text.floor_char_boundary(most / 2);
    let tail = text.ceil_char_boundary(text.len() - most / 2);
    let note = format!("… ({} bytes are left out) …", tail - head);
    text.replace_range(head..tail, &note);
}
