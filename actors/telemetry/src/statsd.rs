//! StatsD datagrams become metrics, metrics become series: counters, gauges, timers, histograms,
//! distributions and sets, with sample rates and DogStatsD's tags.

mod aggregate;

pub use aggregate::Aggregate;

use std::collections::BTreeMap;

/// The longest metric name, in bytes; [`hale_model::series::MAX_LABEL_BYTES`] less the group's
/// and a statistic's name.
pub const MAX_NAME_BYTES: usize = 200;
/// The most tags of one metric.
pub const MAX_TAGS: usize = hale_model::series::MAX_LABELS;
/// The most values in one line (`name:1:2:3|ms`).
pub const MAX_VALUES: usize = 1_000;

/// What kind of metric a line tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `c`: adds to a total.
    Counter,
    /// `g`: sets a value, or moves it if signed.
    Gauge,
    /// `ms`, `h`, `d`: one of many values whose distribution matters.
    Distribution,
    /// `s`: counts different values.
    Set,
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// A number.
    Number(f64),
    /// A gauge's change: it was written with a sign.
    Change(f64),
    /// A member of a set.
    Member(&'a str),
}

/// One line of a datagram.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric<'a> {
    /// Its name, with what no path can hold replaced by `_`.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Its values, at least one.
    pub values: Vec<Value<'a>>,
    /// How many of the real events were sent: in `0.0 ..= 1.0`, not zero.
    pub rate: f64,
    /// Its tags; a tag without a value has an empty one.
    pub tags: BTreeMap<String, String>,
}

/// Why a line is no metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// It is no UTF-8.
    NotUtf8,
    /// It has no `:value`, or no name.
    NoValue,
    /// It has no `|type`.
    NoType,
    /// Its type is none of `c g ms h d s`.
    UnknownType,
    /// A value is no finite number.
    BadValue,
    /// `@rate` is not within `0 < rate <= 1`.
    BadRate,
    /// A name over [`MAX_NAME_BYTES`], or too many tags or values.
    TooLong,
    /// An event or a service check of DogStatsD.
    Unsupported,
}

impl Malformed {
    /// The reason it is counted under.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotUtf8 => "statsd_not_utf8",
            Self::NoValue => "statsd_no_value",
            Self::NoType => "statsd_no_type",
            Self::UnknownType => "statsd_unknown_type",
            Self::BadValue => "statsd_bad_value",
            Self::BadRate => "statsd_bad_rate",
            Self::TooLong => "statsd_too_long",
            Self::Unsupported => "statsd_unsupported",
        }
    }
}

/// The metrics of a datagram, one a line; empty lines are left out.
pub fn datagram(bytes: &[u8]) -> impl Iterator<Item = Result<Metric<'_>, Malformed>> {
    bytes
        .split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .map(|line| parse(std::str::from_utf8(line).map_err(|_| Malformed::NotUtf8)?))
}

/// One line: `name:value|type|@rate|#tag:value,tag`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &str) -> Result<Metric<'_>, Malformed> {
    if line.starts_with("_e{") || line.starts_with("_sc|") {
        return Err(Malformed::Unsupported);
    }
    let (name, rest) = line.split_once(':').ok_or(Malformed::NoValue)?;
    let mut fields = rest.split('|');
    let text = fields
        .next()
        .filter(|v| !v.is_empty())
        .ok_or(Malformed::NoValue)?;
    let kind = kind(fields.next().ok_or(Malformed::NoType)?)?;
    let name = clean(name).ok_or(Malformed::NoValue)?;
    let (mut rate, mut tags) = (1.0, BTreeMap::new());
    for field in fields {
        if let Some(text) = field.strip_prefix('@') {
            rate = text
                .parse()
                .ok()
                .filter(|r| *r > 0.0 && *r <= 1.0)
                .ok_or(Malformed::BadRate)?;
        } else if let Some(text) = field.strip_prefix('#') {
            tags = parse_tags(text)?;
        }
        // Others (`c:` container, `T` time stamp) are extensions that may be ignored.
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Malformed::TooLong);
    }
    Ok(Metric {
        name,
        kind,
        values: values(kind, text)?,
        rate,
        tags,
    })
}

fn kind(text: &str) -> Result<Kind, Malformed> {
    Ok(match text {
        "c" | "m" => Kind::Counter,
        "g" => Kind::Gauge,
        "ms" | "h" | "d" => Kind::Distribution,
        "s" => Kind::Set,
        "" => return Err(Malformed::NoType),
        _ => return Err(Malformed::UnknownType),
    })
}

fn values(kind: Kind, text: &str) -> Result<Vec<Value<'_>>, Malformed> {
    // A member of a set may hold a colon, and nothing in it is a number.
    if kind == Kind::Set {
        return Ok(vec![Value::Member(text)]);
    }
    let mut out = Vec::new();
    for text in text.split(':') {
        if out.len() >= MAX_VALUES {
            return Err(Malformed::TooLong);
        }
        let number: f64 = text.parse().map_err(|_| Malformed::BadValue)?;
        if !number.is_finite() {
            return Err(Malformed::BadValue);
        }
        out.push(if kind == Kind::Gauge && text.starts_with(['+', '-']) {
            Value::Change(number)
        } else {
            Value::Number(number)
        });
    }
    Ok(out)
}

fn parse_tags(text: &str) -> Result<BTreeMap<String, String>, Malformed> {
    let mut tags = BTreeMap::new();
    for tag in text.split(',').filter(|t| !t.is_empty()) {
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        let limit = hale_model::series::MAX_LABEL_BYTES;
        if tags.len() >= MAX_TAGS || name.len().max(value.len()) > limit {
            return Err(Malformed::TooLong);
        }
        let name: String = name
            .chars()
            .map(|c| if is_name(c) { c } else { '_' })
            .collect();
        tags.insert(name, value.to_owned());
    }
    Ok(tags)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-".contains(c)
}

/// A name as a path: letters, digits, `_`, `-` and single dots. `None` if nothing is left.
fn clean(name: &str) -> Option<String> {
    let parts: Vec<String> = name
        .split('.')
        .map(|part| {
            let part = part.trim();
            part.chars()
                .map(|c| if is_name(c) { c } else { '_' })
                .collect::<String>()
        })
        .filter(|part| !part.is_empty())
        .collect();
    (!parts.is_empty()).then(|| parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_datagram_holds_several_metrics_and_its_bad_lines_do_not_spoil_the_good() {
        let bytes = b"api.hits:3|c|@0.1|#code:500,canary\nbroken\ntemp:-4|g\n\nusers:joe:x|s\r\nt:1:2.5|ms|c:abc|T165\n\xff:1|c";
        let all: Vec<_> = datagram(bytes).collect();
        assert_eq!(all.len(), 6);
        let hits = all[0].as_ref().unwrap();
        assert_eq!(
            (hits.name.as_str(), hits.kind, hits.rate),
            ("api.hits", Kind::Counter, 0.1)
        );
        assert_eq!(hits.tags.get("code").map(String::as_str), Some("500"));
        assert_eq!(hits.tags.get("canary").map(String::as_str), Some(""));
        assert_eq!(all[1], Err(Malformed::NoValue));
        assert_eq!(all[2].as_ref().unwrap().values, [Value::Change(-4.0)]);
        assert_eq!(all[3].as_ref().unwrap().values, [Value::Member("joe:x")]);
        let timer = all[4].as_ref().unwrap();
        assert_eq!(timer.values, [Value::Number(1.0), Value::Number(2.5)]);
        assert_eq!(all[5], Err(Malformed::NotUtf8));
    }

    #[test]
    fn each_malformation_has_its_reason() {
        use Malformed::{BadRate, BadValue, NoType, NoValue, TooLong, UnknownType, Unsupported};
        for (line, why) in [
            ("x", NoValue),
            (":1|c", NoValue),
            ("x:|c", NoValue),
            ("x:1", NoType),
            ("x:1|", NoType),
            ("x:1|zz", UnknownType),
            ("x:abc|c", BadValue),
            ("x:NaN|g", BadValue),
            ("x:1|c|@0", BadRate),
            ("x:1|c|@2", BadRate),
            ("x:1|c|@y", BadRate),
            ("_e{5,4}:title|text", Unsupported),
            ("_sc|check|0", Unsupported),
        ] {
            assert_eq!(parse(line), Err(why), "{line}");
        }
        assert_eq!(parse(&format!("{}:1|c", "x".repeat(201))), Err(TooLong));
    }

    proptest! {
        #[test]
        fn no_datagram_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            datagram(&bytes).for_each(drop);
        }

        #[test]
        fn nothing_that_looks_like_statsd_makes_it_panic(line in "[a-zä. ]{0,5}:?[-+0-9e.:NaninfÄ]{0,6}\\|{0,2}(c|g|ms|s)?(\\|[@#a-z:,.0-9]{0,9}){0,3}") {
            if let Ok(metric) = parse(&line) {
                prop_assert!(!metric.name.is_empty() && !metric.values.is_empty());
                prop_assert!(metric.rate > 0.0 && metric.rate <= 1.0);
            }
        }

        #[test]
        fn a_well_formed_line_is_understood(name in "[a-z][a-z0-9_.]{0,20}[a-z]", value in -1e9f64..1e9, tag in "[a-z]{1,5}") {
            let line = format!("{name}:{value}|h|#{tag}:x");
            let metric = parse(&line).unwrap();
            prop_assert_eq!(metric.values, vec![Value::Number(value)]);
            prop_assert!(metric.tags.contains_key(&tag));
        }
    }
}
