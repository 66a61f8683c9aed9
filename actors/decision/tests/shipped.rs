//! The vectors that come with the program are those of the library that comes with it.

use hale_decision::embed::Embedder;
use hale_decision::rank::Ranker;

const AGAIN: &str = "run `cargo run --release -p hale-decision --example library_vectors` again";

#[test]
fn every_text_of_the_library_has_the_vector_that_the_network_gives() {
    let embedder = Embedder::embedded().unwrap();
    let mut texts = Ranker::shipped_texts().unwrap();
    assert!(texts.len() > 100, "only {} texts", texts.len());
    texts.sort();
    texts.dedup();
    for text in &texts {
        assert!(Embedder::is_shipped(text), "no vector of {text:?}: {AGAIN}");
        let cosine = embedder.embed(text).cosine(&embedder.compute(text));
        assert!(cosine > 0.999, "{cosine} for {text:?}: {AGAIN}");
    }
    let file = include_bytes!("../model/library.bin");
    assert_eq!(
        file.len(),
        8 + texts.len() * (16 + 4 + 384),
        "other texts too: {AGAIN}"
    );
}
