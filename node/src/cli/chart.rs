//! A series in the terminal: its values over the band that was normal, a column for each part of
//! the time.

use super::CliError;
use super::out::{Look, Out, number};
use hale_api::{PointView, SeriesView};
use hale_model::Timestamp;

const COLUMNS: usize = 72;
const ROWS: usize = 12;
/// Less surprise than this says nothing.
const LEAST_TELLING: f64 = 0.25;

/// What one column shows.
#[derive(Debug, Clone, Copy)]
struct Column {
    least: f64,
    most: f64,
    low: f64,
    high: f64,
    strange: bool,
}

/// Draws the points, with the anomalies marked below and why the last reading is as it is.
pub(super) fn draw(series: &SeriesView, out: &Out) -> Result<(), CliError> {
    let points = &series.points;
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Ok(());
    };
    let width = points.len().clamp(2, COLUMNS);
    let columns = columns(points, first.at, last.at, width);
    let seen = columns.iter().flatten();
    let (bottom, top) = seen.fold((f64::MAX, f64::MIN), |(a, b), c| {
        (a.min(c.least).min(c.low), b.max(c.most).max(c.high))
    });
    let height = (top - bottom).max(1e-9 * top.abs().max(1.0));
    out.line("")?;
    for row in (0..ROWS).rev() {
        let edge = |n: usize| bottom + height * n as f64 / ROWS as f64;
        let (from, until) = (edge(row), edge(row + 1));
        let label = match row {
            0 => number(bottom),
            r if r == ROWS - 1 => number(top),
            r if r == ROWS / 2 => number(bottom + height / 2.0),
            _ => String::new(),
        };
        let is_top = row == ROWS - 1;
        let within =
            |low: f64, high: f64| high >= from && (low < until || (is_top && low <= until));
        let mut line = format!("{label:>10} │");
        for column in &columns {
            let mark = match column {
                Some(c) if within(c.least, c.most) && c.strange => out.paint(Look::Bad, "×"),
                Some(c) if within(c.least, c.most) => "•".to_owned(),
                Some(c) if within(c.low, c.high) => out.paint(Look::Dim, "░"),
                _ => " ".to_owned(),
            };
            line.push_str(&mark);
        }
        out.line(line.trim_end())?;
    }
    out.line(format!("{:>10} └{}", "", "─".repeat(width)))?;
    let (from, until) = (first.at.to_string(), last.at.to_string());
    let gap = width.saturating_sub(from.len() + until.len()).max(2);
    out.line(format!("{:>12}{from}{}{until}", "", " ".repeat(gap)))?;
    out.line(format!(
        "{:>12}• value  × 3σ or more  ░ normal then; {} points, {} s apart",
        "",
        points.len(),
        number(series.step_seconds)
    ))?;
    for a in series.anomalies.iter().rev().take(5) {
        let until = a.until.map_or("now".to_owned(), |t| t.to_string());
        out.line(format!(
            "  {} from {} to {until}",
            a.severity.as_str(),
            a.from
        ))?;
    }
    out.line("")?;
    for why in &series.explanation.why {
        out.line(format!("  {why}"))?;
    }
    if series.explanation.surprise >= LEAST_TELLING {
        out.line(format!(
            "  if all were told that surprises as much ({}), a series like it gave {} false alerts a week",
            number(series.explanation.surprise),
            number(series.explanation.false_alerts_per_week)
        ))?;
    }
    Ok(())
}

/// The points of each part of the time, together.
fn columns(
    points: &[PointView],
    first: Timestamp,
    last: Timestamp,
    width: usize,
) -> Vec<Option<Column>> {
    let mut columns: Vec<Option<Column>> = vec![None; width];
    let length = (last.as_millis() - first.as_millis()).max(1) as f64;
    for p in points {
        let part = (p.at.as_millis() - first.as_millis()).max(0) as f64 / length;
        let at = ((part * width as f64) as usize).min(width - 1);
        let strange = p.sigma.abs() >= 3.0;
        let own = Column {
            least: p.value,
            most: p.value,
            low: p.low,
            high: p.high,
            strange,
        };
        let column = columns[at].get_or_insert(own);
        column.least = column.least.min(p.value);
        column.most = column.most.max(p.value);
        column.low = column.low.min(p.low);
        column.high = column.high.max(p.high);
        column.strange |= strange;
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(n: i64) -> Vec<PointView> {
        let point = |i: i64| PointView {
            at: Timestamp::from_secs(1000 + 30 * i),
            value: i as f64,
            expected: 0.0,
            low: -1.0,
            high: 1.0,
            sigma: if i == 3 { 4.0 } else { 0.0 },
        };
        (0..n).map(point).collect()
    }

    #[test]
    fn every_point_is_in_a_column_and_the_strange_ones_are_marked() {
        for n in [1, 2, 5, 72, 1000] {
            let points = points(n);
            let width = points.len().clamp(2, COLUMNS);
            let last = points[points.len() - 1].at;
            let columns = columns(&points, points[0].at, last, width);
            let most = columns
                .iter()
                .flatten()
                .fold(-1.0, |a, c| f64::max(a, c.most));
            assert_eq!(most, (n - 1) as f64);
            let strange = columns.iter().flatten().filter(|c| c.strange).count();
            assert_eq!(strange, usize::from(n > 3));
        }
    }
}
