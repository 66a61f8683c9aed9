//! Text to vector, by the model inside the binary: all-MiniLM-L6-v2 with int8 weights, made by
//! `model/build.py`. No network, no key; some milliseconds of arithmetic on one core. The vectors
//! of the library's own texts come with the program.

mod bert;
mod linear;
mod maths;
mod shipped;
mod tokenizer;
mod weights;

use bert::Bert;
use std::sync::OnceLock;
use tokenizer::Tokenizer;
use weights::Weights;

/// The length of an embedding.
pub const DIMENSIONS: usize = 384;
/// What the model is called in `why`.
pub const MODEL_NAME: &str = "all-MiniLM-L6-v2 int8 (embedded)";
/// The longest text that is looked at, in bytes: more than the tokens that are read can need.
const MAX_TEXT_BYTES: usize = 4096;

static MODEL: &[u8] = include_bytes!("../../model/minilm.bin");

/// A unit vector of [`DIMENSIONS`]: the dot product of two is their cosine.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Vec<f32>);

impl Embedding {
    /// Scales a vector to length one; the zero vector stays as it is.
    pub fn new(mut values: Vec<f32>) -> Self {
        let length = maths::dot(&values, &values).sqrt();
        if length > 0.0 && length.is_finite() {
            values.iter_mut().for_each(|v| *v /= length);
        }
        Self(values)
    }

    /// The cosine of the angle between two, -1 to 1.
    pub fn cosine(&self, other: &Self) -> f32 {
        maths::dot(&self.0, &other.0)
    }

    /// Its components.
    pub fn values(&self) -> &[f32] {
        &self.0
    }
}

/// Why the weights in the binary can't be used: they were not made by this version's script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model/minilm.bin does not fit this program ({0}); run model/build.py again")]
pub struct BadModel(&'static str);

/// The model, ready to embed. Its weights stay where they are in the binary.
#[derive(Debug)]
pub struct Embedder {
    tokenizer: Tokenizer,
    bert: Bert,
}

impl Embedder {
    /// The one in this binary, read at the first use.
    ///
    /// # Errors
    /// If the weights were not made by this version's script.
    pub fn embedded() -> Result<&'static Self, BadModel> {
        static EMBEDDER: OnceLock<Result<Embedder, BadModel>> = OnceLock::new();
        let made = EMBEDDER.get_or_init(|| {
            let weights = Weights::read(MODEL)?;
            Ok(Self {
                tokenizer: Tokenizer::new(weights.vocabulary)?,
                bert: Bert::new(&weights)?,
            })
        });
        made.as_ref().map_err(Clone::clone)
    }

    /// The embedding of a text. Deterministic; a text without words has one too.
    pub fn embed(&self, text: &str) -> Embedding {
        shipped::find(text).unwrap_or_else(|| self.compute(text))
    }

    /// The embedding of a text by the network, whether or not it came with the program.
    pub fn compute(&self, text: &str) -> Embedding {
        Embedding::new(self.bert.forward(&self.tokens(text)))
    }

    /// Whether the vector of this text came with the program.
    pub fn is_shipped(text: &str) -> bool {
        shipped::find(text).is_some()
    }

    /// The file `model/library.bin` for these texts, computed anew.
    pub fn shipped(&self, texts: &[String]) -> Vec<u8> {
        shipped::file(texts.iter().map(|t| (t.clone(), self.compute(t))))
    }

    /// The token ids the model sees, `[CLS]` and `[SEP]` included.
    pub fn tokens(&self, text: &str) -> Vec<u16> {
        let cut = text.floor_char_boundary(MAX_TEXT_BYTES);
        self.tokenizer.encode(&text[..cut], self.bert.positions())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        text: String,
        ids: Vec<u16>,
        embedding: Option<Vec<f32>>,
    }

    fn goldens() -> Vec<Golden> {
        serde_json::from_str(include_str!("../../model/golden.json")).unwrap()
    }

    #[test]
    fn every_text_becomes_the_tokens_of_the_reference_implementation() {
        let embedder = Embedder::embedded().unwrap();
        for golden in goldens() {
            assert_eq!(
                embedder.tokens(&golden.text),
                golden.ids,
                "{:?}",
                golden.text
            );
        }
    }

    #[test]
    fn int8_weights_give_the_vectors_of_the_fp32_network() {
        let embedder = Embedder::embedded().unwrap();
        for golden in goldens() {
            let Some(expected) = golden.embedding else {
                continue;
            };
            let cosine = embedder
                .embed(&golden.text)
                .cosine(&Embedding::new(expected));
            assert!(cosine > 0.995, "{cosine} for {:?}", golden.text);
        }
    }

    #[test]
    fn the_weights_are_those_that_the_script_wrote() {
        let line = include_str!("../../model/minilm.bin.sha256");
        let found = hale_model::Digest::of(MODEL).to_string();
        let found = found.rsplit(':').next().unwrap().to_owned();
        assert_eq!(line.split(' ').next().unwrap(), found);
    }

    #[test]
    fn a_special_token_in_a_log_line_is_only_text() {
        let embedder = Embedder::embedded().unwrap();
        assert!(!embedder.tokens("a [SEP] b")[1..].contains(&101));
        assert_eq!(
            embedder
                .tokens("a [SEP] b")
                .iter()
                .filter(|t| **t == 102)
                .count(),
            1
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_text_has_a_finite_unit_vector(text in "\\PC{0,80}|.{0,80}") {
            let embedding = Embedder::embedded().unwrap().embed(&text);
            prop_assert_eq!(embedding.values().len(), DIMENSIONS);
            prop_assert!((embedding.cosine(&embedding) - 1.0).abs() < 1e-4);
        }
    }

    proptest! {
        #[test]
        fn no_text_has_more_tokens_than_the_model_has_positions(text in ".{0,600}") {
            let tokens = Embedder::embedded().unwrap().tokens(&text);
            prop_assert!((2..=128).contains(&tokens.len()));
        }
    }
}
