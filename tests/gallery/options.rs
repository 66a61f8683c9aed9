//! What may be typed after `tests/gallery/run`.

use super::case;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
Usage: tests/gallery/run [NAME…] [--jobs N] [--json FILE] [--keep] [--stories] [--smoke] [--cases DIR] [--library DIR]

  NAME…          these cases; all without
  --jobs N       so many at a time (3)
  --json FILE    writes how each went
  --keep         leaves the hosts running after their case, and tells how to get into them
  --stories      tells of every case what it tells of one that failed: the decision, the record and
                 the times between
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
    pub(crate) stories: bool,
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
            stories: false,
            smoke: false,
            cases: case::home(),
            library: None,
        };
        // What `cargo test` starts does not run where the command was typed.
        let from = PathBuf::from(std::env::var_os("GALLERY_FROM").unwrap_or_default());
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .ok_or_else(|| format!("{arg} needs a value\n{USAGE}"))
            };
            match arg.as_str() {
                "--jobs" => this.jobs = value()?.parse().map_err(|_| USAGE)?,
                "--json" => this.json = Some(from.join(value()?)),
                "--keep" => this.keep = true,
                "--stories" => this.stories = true,
                "--smoke" => this.smoke = true,
                "--cases" => this.cases = from.join(value()?),
                "--library" => {
                    let path = from.join(value()?);
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
