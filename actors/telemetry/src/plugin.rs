//! What a monitoring plugin says: a line for people and, behind a bar, performance data.
//!
//! The format is that of the Monitoring Plugins Development Guidelines ("Plugin Output for Nagios"),
//! with which most checks of the field are written: `DISK OK - free 40% | /=2643MB;5948;5958;0;5968`.

use hale_model::{Bounds, Harm, SeriesKind};

/// Values of one answer beyond these are left out.
const MAX_VALUES: usize = 50;
const MAX_LABEL_BYTES: usize = 128;

/// How a plugin says that it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Fine,
    Warning,
    Critical,
    /// It could not find out.
    Unknown,
}

impl State {
    /// By the exit code.
    pub(crate) fn of(exit: Option<i32>) -> Self {
        match exit {
            Some(0) => Self::Fine,
            Some(1) => Self::Warning,
            Some(2) => Self::Critical,
            _ => Self::Unknown,
        }
    }
}

/// One value of the performance data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) label: String,
    pub(crate) value: f64,
    pub(crate) kind: SeriesKind,
    pub(crate) bounds: Option<Bounds>,
    pub(crate) harm: Harm,
}

/// The line for people, and the values.
pub(crate) fn parse(text: &str) -> (String, Vec<Value>) {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let (line, mut data) = match first.split_once('|') {
        Some((line, data)) => (line, data.to_owned()),
        None => (first, String::new()),
    };
    // Of a longer answer the second bar begins more values.
    if let Some((_, more)) = lines.collect::<Vec<_>>().join(" ").split_once('|') {
        data.push(' ');
        data.push_str(more);
    }
    let values = items(&data).filter_map(|item| value(&item));
    (line.trim().to_owned(), values.take(MAX_VALUES).collect())
}

/// `label=value…` items: parted by spaces, but for those in single quotes.
fn items(data: &str) -> impl Iterator<Item = String> {
    let (mut all, mut item, mut quoted) = (vec![], String::new(), false);
    for c in data.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                item.push(c);
            }
            c if c.is_whitespace() && !quoted => all.push(std::mem::take(&mut item)),
            c => item.push(c),
        }
    }
    all.push(item);
    all.into_iter().filter(|i| !i.is_empty())
}

fn value(item: &str) -> Option<Value> {
    let (label, rest) = item.rsplit_once('=')?;
    let label = label.trim_matches('\'').replace("''", "'");
    let mut fields = rest.split(';');
    let measured = fields.next()?;
    let digits = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let end = measured.find(|c| !digits(c)).unwrap_or(measured.len());
    let value: f64 = measured[..end]
        .parse()
        .ok()
        .filter(|v: &f64| v.is_finite())?;
    let unit = &measured[end..];
    let (warning, critical) = (fields.next(), fields.next());
    let number = |f: Option<&str>| {
        f.and_then(|f| f.parse::<f64>().ok())
            .filter(|v| v.is_finite())
    };
    let (min, max) = (number(fields.next()), number(fields.next()));
    let max = max.or((unit == "%").then_some(100.0));
    let min = min.unwrap_or(0.0);
    if label.is_empty() || label.len() > MAX_LABEL_BYTES {
        return None;
    }
    Some(Value {
        label,
        value,
        kind: if unit == "c" {
            SeriesKind::Counter
        } else {
            SeriesKind::Gauge
        },
        bounds: max.filter(|max| *max > min).map(|max| Bounds { min, max }),
        harm: harm(critical.or(warning).or(Some("")).unwrap_or_default()),
    })
}

/// Which way the trouble lies, by a range: `80` and `0:80` alert above, `20:` below, `10:80` on both
/// sides. Without a range nothing is said to be trouble.
fn harm(range: &str) -> Harm {
    let range = range.trim();
    let is_number = |t: &str| t.parse::<f64>().is_ok();
    match range.split_once(':') {
        None if is_number(range) => Harm::High,
        Some((from, "")) if is_number(from) => Harm::Low,
        Some(("~" | "0", to)) if is_number(to) => Harm::High,
        Some((from, to)) if is_number(from) && is_number(to) => Harm::Both,
        _ => Harm::Neither,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_and_its_values() {
        let (line, values) = parse(
            "DISK OK - free 40% | /=2643MB;5948;5958;0;5968 'my var'=40%;20:;10:\nmore\n| a=1c",
        );
        assert_eq!(line, "DISK OK - free 40%");
        let told = values
            .iter()
            .map(|v| (v.label.as_str(), v.value, v.kind, v.harm));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                ("/", 2643.0, SeriesKind::Gauge, Harm::High),
                ("my var", 40.0, SeriesKind::Gauge, Harm::Low),
                ("a", 1.0, SeriesKind::Counter, Harm::Neither),
            ]
        );
        assert_eq!(
            values[0].bounds,
            Some(Bounds {
                min: 0.0,
                max: 5968.0
            })
        );
        assert_eq!(
            values[1].bounds,
            Some(Bounds {
                min: 0.0,
                max: 100.0
            })
        );
        assert_eq!(values[2].bounds, None);
    }

    #[test]
    fn what_is_no_value_is_left_out() {
        for bad in ["a", "a=", "=1", "a=U", "a=1e999", "| | |", "a=nan"] {
            assert_eq!(parse(&format!("OK|{bad}")).1, [], "{bad}");
        }
        assert_eq!(parse(""), (String::new(), vec![]));
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(text in "(.|\n){0,200}") {
            let (_, values) = parse(&text);
            prop_assert!(values.len() <= MAX_VALUES && values.iter().all(|v| v.value.is_finite()));
        }
    }
}
