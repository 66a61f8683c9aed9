//! The program under test.

use super::process::{Ended, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where the `hale` program is: `HALE_BIN`, else the release build, else the debug build.
///
/// # Panics
/// If there is none.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("HALE_BIN") {
        let path = PathBuf::from(path);
        assert!(
            path.is_file(),
            "HALE_BIN names {}, which is no file",
            path.display()
        );
        return path;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let built = ["release/hale", "debug/hale"].map(|b| target.join(b));
    match built.iter().find(|b| b.is_file()) {
        Some(path) => path.clone(),
        None => panic!("there is no hale program to test; run `cargo build --release` first"),
    }
}

/// The program with arguments, and nothing of the caller's settings.
pub fn hale_command(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("HALE_") || text == "RUST_LOG" || text.ends_with("_proxy") {
            command.env_remove(&name);
        }
    }
    command.env("NO_COLOR", "1");
    command
}

/// Runs the program to its end, within half a minute.
#[track_caller]
pub fn hale(args: &[&str]) -> Ended {
    run(&mut hale_command(args), Duration::from_secs(30))
}
