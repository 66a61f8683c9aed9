//! The vectors of the texts that come with the program, so that a host that starts does not spend
//! seconds of arithmetic on what every host would compute alike.
//!
//! `model/library.bin`, written by `examples/library_vectors.rs`: [`MAGIC`], then for each text, in
//! the order of the keys, the first [`KEY`] bytes of its SHA-256, a scale (`f32`, little-endian)
//! and [`DIMENSIONS`] components as `i8`.

use super::{DIMENSIONS, Embedding};
use hale_model::Digest;

const MAGIC: &[u8; 8] = b"HALEVEC1";
const KEY: usize = 16;
const RECORD: usize = KEY + 4 + DIMENSIONS;

static FILE: &[u8] = include_bytes!("../../model/library.bin");

fn key(text: &str) -> [u8; KEY] {
    let mut key = [0; KEY];
    key.copy_from_slice(&Digest::of(text.as_bytes()).as_bytes()[..KEY]);
    key
}

/// The vector that came with the program for exactly this text.
pub(super) fn find(text: &str) -> Option<Embedding> {
    find_in(FILE, text)
}

fn find_in(file: &[u8], text: &str) -> Option<Embedding> {
    let (records, _) = file.strip_prefix(MAGIC)?.as_chunks::<RECORD>();
    let at = records
        .binary_search_by(|r| r[..KEY].cmp(&key(text)))
        .ok()?;
    let (scale, components) = records[at][KEY..].split_first_chunk::<4>()?;
    let scale = f32::from_le_bytes(*scale);
    let value = |c: &u8| f32::from(c.cast_signed()) * scale;
    Some(Embedding::new(components.iter().map(value).collect()))
}

/// The file for these texts.
pub(super) fn file(vectors: impl IntoIterator<Item = (String, Embedding)>) -> Vec<u8> {
    let record = |(text, embedding): (String, Embedding)| {
        let values = embedding.values();
        let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let scale = largest / 127.0;
        let mut record = key(&text).to_vec();
        record.extend(scale.to_le_bytes());
        // In range: no component is larger than the largest, which becomes 127.
        record.extend(
            values
                .iter()
                .map(|v| ((v / scale).round() as i8).cast_unsigned()),
        );
        record
    };
    let mut records: Vec<Vec<u8>> = vectors.into_iter().map(record).collect();
    records.sort();
    records.dedup_by(|a, b| a[..KEY] == b[..KEY]);
    [MAGIC.to_vec(), records.concat()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(seed: f32) -> Embedding {
        Embedding::new((0..DIMENSIONS).map(|i| (i as f32 * seed).sin()).collect())
    }

    #[test]
    fn a_text_that_was_written_is_found_nearly_as_it_was() {
        let texts = ["disk full", "pool exhausted", "", "disk full"];
        let vectors = texts.map(|t| (t.to_owned(), vector(t.len() as f32 + 0.3)));
        let file = file(vectors.clone());
        assert_eq!(file.len(), MAGIC.len() + 3 * RECORD);
        for (text, expected) in vectors {
            assert!(find_in(&file, &text).unwrap().cosine(&expected) > 0.9999);
        }
        assert_eq!(find_in(&file, "disk full."), None);
    }

    #[test]
    fn a_file_of_another_kind_or_cut_short_has_no_vectors() {
        let file = file([("a".to_owned(), vector(1.0))]);
        assert_eq!(find_in(b"", "a"), None);
        assert_eq!(find_in(&file[..file.len() - 1], "a"), None);
        assert_eq!(find_in(&file[1..], "a"), None);
    }
}
