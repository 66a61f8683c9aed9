//! Replays a folder of `timestamp,value` files through the baseline, for the detection bench:
//! `replay IN OUT` writes files of the same names with
//! `timestamp,value,anomaly_score,alert,severity`. `IN/series.json` may give kind, min, max, harm and tz.

use hale_baseline::replay::Replay;
use hale_baseline::{LocalTime, Sensitivity};
use hale_model::{Bounds, Harm, Sample, SeriesKey, SeriesKind, Timestamp};
use serde_json::Value;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, from, to] = args.as_slice() else {
        return Err("usage: replay IN OUT".into());
    };
    let about: Value = match std::fs::read(Path::new(from).join("series.json")) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(_) => Value::Null,
    };
    folder(Path::new(from), Path::new(to), "", &about)
}

fn folder(from: &Path, to: &Path, under: &str, about: &Value) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(from.join(under))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let key = if under.is_empty() {
            name
        } else {
            format!("{under}/{name}")
        };
        if entry.path().is_dir() {
            folder(from, to, &key, about)?;
        } else if key.ends_with(".csv") {
            let text = std::fs::read_to_string(entry.path())?;
            let out = to.join(&key);
            out.parent().map(std::fs::create_dir_all).transpose()?;
            std::fs::write(out, file(&text, &about[&key])?)?;
        }
    }
    Ok(())
}

fn file(text: &str, about: &Value) -> Result<String, Box<dyn Error>> {
    let mut sample = Sample::gauge(SeriesKey::new("replayed"), 0.0).harm(Harm::Both);
    if about["kind"] == "counter" {
        sample.kind = SeriesKind::Counter;
    }
    if let (Some(min), Some(max)) = (about["min"].as_f64(), about["max"].as_f64()) {
        sample.bounds = Some(Bounds { min, max });
    }
    sample.harm = match about["harm"].as_str() {
        Some("high") => Harm::High,
        Some("low") => Harm::Low,
        _ => Harm::Both,
    };
    let local = LocalTime::named(about["tz"].as_str().unwrap_or("UTC"))?;
    let week = Duration::from_secs(7 * 86_400);
    let mut replay = Replay::new(sample, Sensitivity::Medium, local, week);
    let mut out = "timestamp,value,anomaly_score,alert,severity,sigma,expected\n".to_owned();
    for line in text.lines().skip(1) {
        let (at, value) = line.split_once(',').ok_or("a line without a comma")?;
        let row = replay.row(time(at)?, value.trim().parse().unwrap_or(f64::NAN));
        let severity = row.severity.map_or("", |s| s.as_str());
        let alert = u8::from(row.alert);
        let expected = row.expected.unwrap_or_default();
        writeln!(
            out,
            "{at},{value},{:.6},{alert},{severity},{:.3},{expected:.4}",
            row.score, row.sigma
        )?;
    }
    Ok(out)
}

fn time(text: &str) -> Result<Timestamp, Box<dyn Error>> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok(Timestamp::from_millis((seconds * 1000.0) as i64));
    }
    Ok(format!("{}Z", text.trim().trim_end_matches('Z').replace(' ', "T")).parse()?)
}
