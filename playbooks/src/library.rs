//! The library that comes with the binary.

include!(concat!(env!("OUT_DIR"), "/library.rs"));

/// Every playbook of the library: its path below `library/`, and its text.
pub fn library() -> Vec<(String, &'static str)> {
    LIBRARY
        .iter()
        .map(|(path, text)| ((*path).to_owned(), *text))
        .collect()
}
