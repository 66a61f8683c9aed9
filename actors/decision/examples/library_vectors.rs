//! Writes `actors/decision/model/library.bin`, the vectors of the texts that come with the
//! program. To be run whenever the library's descriptions, the entries that stand for a person or
//! the model have changed; a test tells when:
//! `cargo run --release -p hale-decision --example library_vectors`.

#![allow(clippy::print_stdout, reason = "it says what it wrote")]

use hale_decision::embed::Embedder;
use hale_decision::rank::Ranker;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let texts = Ranker::shipped_texts()?;
    let file = Embedder::embedded()?.shipped(&texts);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/library.bin");
    std::fs::write(&path, &file)?;
    println!(
        "{} texts, {} bytes: {}",
        texts.len(),
        file.len(),
        path.display()
    );
    Ok(())
}
