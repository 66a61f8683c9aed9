//! A series as a picture: its values over the band that was normal, and its alerts.

use hale_baseline::replay::Normal;
use hale_model::{Severity, Timestamp};
use std::fmt::Write as _;

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 30.0;
/// Columns: more rows than these are drawn by their least and their most.
const COLUMNS: usize = 1100;

/// A row to be drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawn {
    pub(super) at: Timestamp,
    pub(super) value: f64,
    pub(super) normal: Option<Normal>,
    pub(super) alert: Option<Severity>,
}

/// The least and the most, of the values and of the band, in one column.
#[derive(Debug, Clone, Copy)]
struct Column {
    value: (f64, f64),
    band: Option<(f64, f64)>,
}

/// The picture.
pub(super) fn svg(name: &str, rows: &[Drawn]) -> String {
    let finite = || rows.iter().filter(|r| r.value.is_finite());
    let Some((first, last)) = finite()
        .map(|r| r.at)
        .min()
        .zip(finite().map(|r| r.at).max())
    else {
        return format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} 60\"><text x=\"10\" \
             y=\"30\">{}: there is no number in it</text></svg>\n",
            escaped(name)
        );
    };
    let length = (last.as_millis() - first.as_millis()).max(1) as f64;
    let part = |at: Timestamp| (at.as_millis() - first.as_millis()) as f64 / length;
    let columns = columns(finite(), part);
    let known = || columns.iter().flatten();
    let least = known().fold(f64::MAX, |a, c| a.min(c.value.0));
    let most = known().fold(f64::MIN, |a, c| a.max(c.value.1));
    let room = 0.05 * (most - least).max(1e-9 * most.abs().max(1.0));
    let (bottom, top) = (least - room, most + room);
    let x = |part: f64| LEFT + part * (WIDTH - LEFT - 10.0);
    let y = |v: f64| {
        let v = v.clamp(bottom, top);
        HEIGHT - BOTTOM - (v - bottom) / (top - bottom) * (HEIGHT - BOTTOM - TOP)
    };
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\"><title>{0}</title>\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\
         <text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">{0}</text>",
        escaped(name)
    );
    // As many digits as tell two lines apart.
    let digits = (2.0 - (top - bottom).log10()).ceil().clamp(0.0, 9.0) as usize;
    for n in 0..5 {
        let v = bottom + (top - bottom) * f64::from(n) / 4.0;
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"#e5e5e5\"/>\
             <text x=\"{2:.0}\" y=\"{3:.1}\" text-anchor=\"end\" fill=\"#555\">{4:.5$}</text>",
            WIDTH - 10.0,
            y(v),
            LEFT - 6.0,
            y(v) + 4.0,
            v,
            digits
        );
    }
    for n in 0..=4 {
        let at = first.as_millis() + (length * f64::from(n) / 4.0) as i64;
        let text = Timestamp::from_millis(at).to_string();
        let anchor = ["start", "middle", "middle", "middle", "end"][n as usize];
        let _ = write!(
            out,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"{anchor}\" fill=\"#555\">{}</text>",
            x(f64::from(n) / 4.0),
            HEIGHT - 16.0,
            text.get(..16).unwrap_or(&text)
        );
    }
    let place = |i: usize| x((i as f64 + 0.5) / COLUMNS as f64);
    let (mut band, mut line) = (String::new(), String::new());
    for (i, c) in columns.iter().enumerate() {
        let Some(c) = c else { continue };
        if let Some((low, high)) = c.band {
            let _ = write!(
                band,
                "M{:.1} {:.1}V{:.1}",
                place(i),
                y(low) + 0.5,
                y(high) - 0.5
            );
        }
        let _ = write!(
            line,
            "{}{:.1} {:.1}L{:.1} {:.1}",
            if line.is_empty() { "M" } else { "L" },
            place(i),
            y(c.value.0),
            place(i),
            y(c.value.1)
        );
    }
    let _ = write!(
        out,
        "<path d=\"{band}\" stroke=\"#cfe3f7\" stroke-width=\"1.2\"/>\
         <path d=\"{line}\" stroke=\"#1f5f9f\" fill=\"none\"/>"
    );
    for r in finite() {
        let Some(severity) = r.alert else { continue };
        let colour = match severity {
            Severity::Critical => "#c62828",
            Severity::Warning => "#ef8f00",
            Severity::Info => "#777",
        };
        let _ = write!(
            out,
            "<g stroke=\"{colour}\"><line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{1:.0}\" \
             stroke-dasharray=\"3 3\"/><circle cx=\"{0:.1}\" cy=\"{2:.1}\" r=\"4\" fill=\"{colour}\">\
             <title>{3} at {4}: {5}</title></circle></g>",
            x(part(r.at)),
            HEIGHT - BOTTOM,
            y(r.value),
            severity.as_str(),
            r.at,
            r.value
        );
    }
    out.push_str("</svg>\n");
    out
}

fn columns<'a>(
    rows: impl Iterator<Item = &'a Drawn>,
    part: impl Fn(Timestamp) -> f64,
) -> Vec<Option<Column>> {
    let mut columns: Vec<Option<Column>> = vec![None; COLUMNS];
    for row in rows {
        let i = ((part(row.at) * COLUMNS as f64) as usize).min(COLUMNS - 1);
        let band = row.normal.map(|n| (n.low, n.high));
        let column = columns[i].get_or_insert(Column {
            value: (row.value, row.value),
            band,
        });
        column.value = (column.value.0.min(row.value), column.value.1.max(row.value));
        column.band = match (column.band, band) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }
    columns
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(s: i64, value: f64, alert: Option<Severity>) -> Drawn {
        Drawn {
            at: Timestamp::from_secs(s),
            value,
            normal: Some(Normal {
                expected: 1.0,
                low: 0.0,
                high: 2.0,
            }),
            alert,
        }
    }

    #[test]
    fn each_alert_is_a_mark_and_a_name_is_only_text() {
        let mut rows: Vec<Drawn> = (0..5000).map(|s| row(s, (s % 3) as f64, None)).collect();
        rows[4000] = row(4000, 9.0, Some(Severity::Critical));
        rows[10].value = f64::NAN;
        let svg = svg("<a> & b.csv", &rows);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains("&lt;a&gt; &amp; b.csv") && !svg.contains("NaN"));
    }

    #[test]
    fn nothing_and_one_row_can_be_drawn() {
        for rows in [
            vec![],
            vec![row(1, f64::NAN, None)],
            vec![row(1, 5.0, None)],
        ] {
            let svg = svg("x", &rows);
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"));
        }
    }
}
