//! Lists the library's files, so that adding a playbook is adding a file.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let var = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .ok_or(io::ErrorKind::NotFound)
    };
    let library = var("CARGO_MANIFEST_DIR")?.join("library");
    let mut files = vec![];
    collect(&library, &mut files)?;
    files.sort();
    let mut list = String::from("const LIBRARY: &[(&str, &str)] = &[\n");
    for file in &files {
        let short = file
            .strip_prefix(&library)
            .unwrap_or(file)
            .to_string_lossy();
        list += &format!("    ({short:?}, include_str!({file:?})),\n");
    }
    list += "];\n";
    fs::write(var("OUT_DIR")?.join("library.rs"), list)?;
    println!("cargo::rerun-if-changed=library");
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}
