//! Durations and sizes as people write them.

use serde_json::Value;
use std::time::Duration;

/// Reads `90s`, `1h30m`, `250ms`, `7d`. `None` if it is not such a text.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = number(rest)?;
        let letters = after.len()
            - after
                .trim_start_matches(|c: char| c.is_ascii_lowercase())
                .len();
        let seconds = match &after[..letters] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after[letters..].trim_start();
    }
    Some(total)
}

/// Reads `512`, `64KiB`, `10MiB`, `1GB`. `None` if it is not such a text.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = number(text.trim())?;
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    let bytes = number * factor as f64;
    (bytes <= 2f64.powi(60)).then_some(bytes as u64)
}

/// Seconds as JSON: whole if they are.
pub(crate) fn seconds(d: Duration) -> Value {
    match d.subsec_nanos() {
        0 => d.as_secs().into(),
        _ => d.as_secs_f64().into(),
    }
}

fn number(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        let s = |t: &str| duration(t).map(|d| d.as_secs_f64());
        assert_eq!(s("90s"), Some(90.0));
        assert_eq!(s("1h30m"), Some(5400.0));
        assert_eq!(s("250ms"), Some(0.25));
        assert_eq!(s("1.5m"), Some(90.0));
        assert_eq!(
            [s("90"), s(""), s("h"), s("1y"), s("-3s"), s("1..2s")],
            [None; 6]
        );
        assert_eq!(bytes("64KiB"), Some(65_536));
        assert_eq!(bytes("12"), Some(12));
        assert_eq!(
            [
                bytes("12 parsecs"),
                bytes("-1"),
                bytes("99999999999999999999")
            ],
            [None; 3]
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in ".{0,20}", digits in "[0-9.]{1,40}[a-zA-Z]{0,3}") {
            for t in [text, digits] {
                let _ = (duration(&t), bytes(&t));
            }
        }
    }
}
