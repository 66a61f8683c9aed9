//! What may be typed after `tests/gallery/run`.

use super::case;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
Usage: tests/gallery/run [NAME…] [--jobs N] [--json FILE] [--keep] [--smoke] [--cases DIR] [--library DIR]

  NAME…          these cases; all without
  --jobs N       so many at a time (3)
  --json FILE    writes how each went
  --keep         leaves the hosts running after their case, and tells how to get into them
  --smoke        only those whose case.toml says `smoke = true`: one of each kind
  --cases DIR    where the cases are (tests/gallery/cases)
  --library DIR  playbooks that come before those in the program: playbooks/library, to try a
                 playbook without a build

HALE_BIN names the program under test; without it that is the release build.";

/// How the gallery is run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) names: Vec<String>,
    pub(crate) jobs: usize,
    pub(crate) json: Option<PathBuf>,
    pub(crate) keep: bool,
    pub(crate) smoke: bool,
    pub(crate) cases: PathBuf,
    pub(crate) library: Option<PathBuf>,
}

impl Options {
    /// From the command line.
    pub(crate) fn parse(args: &[String]) -> Result<Self, String> {
        let mut this = Self {
            names: vec![],
            jobs: 3,
            json: None,
            keep: false,
            smoke: false,
            cases: case::home(),
            library: None,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .ok_or_else(|| format!("{arg} needs a value\n{USAGE}"))
            };
            match arg.as_str() {
                "--jobs" => this.jobs = value()?.parse().map_err(|_| USAGE)?,
                "--json" => this.json = Some(value()?.into()),
                "--keep" => this.keep = true,
                "--smoke" => this.smoke = true,
                "--cases" => this.cases = value()?.into(),
                "--library" => {
                    let path = PathBuf::from(value()?);
                    let path = path
                        .canonicalize()
                        .map_err(|e| format!("{}: {e}", path.display()))?;
                    this.library = Some(path);
                }
                name if !name.starts_with('-') => this.names.push(name.to_owned()),
                _ => return Err(USAGE.into()),
            }
        }
        if this.jobs == 0 {
            return Err(USAGE.into());
        }
        Ok(this)
    }
}
