//! A folder of `timestamp,value` files. Files of one folder are one host, whose name is the
//! folder's; `series.json` may say otherwise.

use super::{BacktestError, Recorded};
use crate::recorded::{self, Descriptions};
use std::fs;
use std::path::Path;

pub(super) fn read(dir: &Path) -> Result<Vec<Recorded>, BacktestError> {
    let described = Descriptions::read(dir)?;
    let own = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let own = own
        .file_name()
        .map_or_else(|| "host".into(), |n| n.to_string_lossy());
    let mut all = vec![];
    for name in recorded::files(dir)? {
        let path = dir.join(&name);
        let text = fs::read_to_string(&path).map_err(recorded::at(&path))?;
        let known = described.of(&name);
        let mut rows = vec![];
        for row in recorded::rows(&path, &text) {
            let row = row?;
            rows.push((row.at, row.number));
        }
        let folder = name.parent().filter(|p| *p != Path::new(""));
        let host = known
            .host
            .clone()
            .or_else(|| folder.map(|p| p.to_string_lossy().replace('/', "-")))
            .unwrap_or_else(|| own.clone().into_owned());
        let recorded = Recorded {
            host,
            sample: known.sample(&name),
            zone: known.tz,
            rows,
        };
        all.push(recorded.sorted());
    }
    Ok(all)
}
