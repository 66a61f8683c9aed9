//! WordPiece as uncased BERT has it: clean, split at white space, punctuation and ideographs, strip
//! accents, lower-case, then the longest pieces of the vocabulary from the left.

use super::BadModel;
use std::collections::HashMap;
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// Words longer than this are unknown as a whole, as in the reference implementation.
const MAX_WORD_CHARS: usize = 100;

/// Text to token ids.
#[derive(Debug)]
pub(super) struct Tokenizer {
    /// Pieces that begin a word.
    begins: HashMap<&'static str, u16>,
    /// Pieces that go on with one, without their `##`.
    continues: HashMap<&'static str, u16>,
    begin: u16,
    end: u16,
    unknown: u16,
}

impl Tokenizer {
    /// From one token a line, in the order of their ids.
    pub(super) fn new(vocabulary: &'static str) -> Result<Self, BadModel> {
        let (mut begins, mut continues) = (HashMap::new(), HashMap::new());
        for (id, token) in vocabulary.split('\n').enumerate() {
            let id = u16::try_from(id).map_err(|_| BadModel("it has over 65536 tokens"))?;
            match token.strip_prefix("##") {
                Some(rest) if !rest.is_empty() => continues.insert(rest, id),
                _ => begins.insert(token, id),
            };
        }
        let special = |name| {
            begins
                .get(name)
                .copied()
                .ok_or(BadModel("a special token is missing"))
        };
        let (begin, end, unknown) = (special("[CLS]")?, special("[SEP]")?, special("[UNK]")?);
        Ok(Self {
            begins,
            continues,
            begin,
            end,
            unknown,
        })
    }

    /// The ids of a text, begin and end included, `limit` at most.
    pub(super) fn encode(&self, text: &str, limit: usize) -> Vec<u16> {
        let mut ids = vec![self.begin];
        for word in words(text) {
            if ids.len() + 1 >= limit {
                break;
            }
            self.pieces(&word, &mut ids);
        }
        ids.truncate(limit.saturating_sub(1));
        ids.push(self.end);
        ids
    }

    fn pieces(&self, word: &str, ids: &mut Vec<u16>) {
        let before = ids.len();
        let mut rest = word;
        let mut known = word.chars().count() <= MAX_WORD_CHARS;
        while known && !rest.is_empty() {
            let pieces = if rest.len() == word.len() {
                &self.begins
            } else {
                &self.continues
            };
            let ends = rest.char_indices().rev().map(|(i, c)| i + c.len_utf8());
            let longest = ends
                .into_iter()
                .find_map(|end| Some((end, *pieces.get(&rest[..end])?)));
            match longest {
                Some((end, id)) => {
                    ids.push(id);
                    rest = &rest[end..];
                }
                None => known = false,
            }
        }
        if !known {
            ids.truncate(before);
            ids.push(self.unknown);
        }
    }
}

/// The words of a text: cleaned, without accents, in lower case, punctuation and ideographs alone.
fn words(text: &str) -> Vec<String> {
    let cleaned = text.chars().filter(|c| !is_dropped(*c));
    let plain = cleaned
        .nfd()
        .filter(|c| c.general_category() != GeneralCategory::NonspacingMark);
    let (mut words, mut word) = (Vec::new(), String::new());
    for c in plain.flat_map(char::to_lowercase) {
        if c.is_whitespace() {
            words.push(std::mem::take(&mut word));
        } else if is_alone(c) {
            words.push(std::mem::take(&mut word));
            words.push(c.into());
        } else {
            word.push(c);
        }
    }
    words.push(word);
    words.retain(|w| !w.is_empty());
    words
}

fn is_dropped(c: char) -> bool {
    let is_space = matches!(c, '\t' | '\n' | '\r');
    c == '\u{fffd}' || (!is_space && c.general_category_group() == GeneralCategoryGroup::Other)
}

fn is_alone(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_punctuation();
    }
    // CJK unified ideographs, their extensions and compatibility forms, as BERT counts them.
    let is_ideograph = matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F
        | 0x2B740..=0x2B81F | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F);
    is_ideograph || c.general_category_group() == GeneralCategoryGroup::Punctuation
}
