//! A look at an expression before the recursive parser sees it: how deep its tree can become.
//!
//! Brackets, and chains of operators and members, deepen the tree; `,`, `&&` and `||` begin a new
//! branch beside the last. Texts are skipped exactly as CEL's lexer skips them, and where the two
//! could disagree the expression is refused.

/// The deepest tree that is parsed. Measured: parsing and evaluating this deep takes less than
/// 512 KiB of the 2 MiB that a thread of the runtime has.
const MAX_DEPTH: usize = 64;
/// One bracket costs the parser as much stack as four operators.
const BRACKET: usize = 4;

/// One open bracket's state.
#[derive(Default)]
struct Level {
    /// Operators and members in the current branch.
    chain: usize,
    /// `?` since the last `,`: they nest to the right over `&&` and `||`.
    choices: usize,
}

/// Whether the tree of `text` stays within its bound.
pub(super) fn check(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let mut levels = vec![Level::default()];
    let mut depth_below = 0;
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        let level = levels.last_mut().ok_or("a bracket too many is closed")?;
        match b {
            b'(' | b'[' | b'{' => {
                depth_below += BRACKET + level.chain + level.choices;
                levels.push(Level::default());
            }
            b')' | b']' | b'}' => {
                levels.pop();
                let level = levels.last_mut().ok_or("a bracket too many is closed")?;
                depth_below -= BRACKET + level.chain + level.choices;
                level.chain += 1;
            }
            b',' => *level = Level::default(),
            b'&' | b'|' => level.chain = 1,
            b'?' => level.choices += 2,
            b'.' | b'+' | b'-' | b'*' | b'%' | b'!' | b'<' | b'>' | b'=' | b':' => level.chain += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..]
                    .iter()
                    .position(|b| *b == b'\n')
                    .unwrap_or(bytes.len() - at);
                continue;
            }
            b'/' => level.chain += 1,
            b'"' | b'\'' => {
                at = after_text(bytes, at, false)?;
                continue;
            }
            b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                let end = at + word_length(&bytes[at..]);
                level.chain += usize::from(&text[at..end] == "in");
                at = match bytes.get(end) {
                    Some(b'"' | b'\'') => after_text(bytes, end, is_raw(&text[at..end])?)?,
                    _ => end,
                };
                continue;
            }
            _ => {}
        }
        let level = levels.last().map_or(0, |l| l.chain + l.choices);
        if depth_below + level > MAX_DEPTH {
            return Err("it nests too deeply; split it into several checks".into());
        }
        at += 1;
    }
    Ok(())
}

fn word_length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|b| !(b.is_ascii_alphanumeric() || *b == b'_'))
        .unwrap_or(bytes.len())
}

/// Whether the word before a quote makes the text raw.
fn is_raw(word: &str) -> Result<bool, String> {
    match word.to_ascii_lowercase().as_str() {
        "r" | "br" => Ok(true),
        "b" => Ok(false),
        _ => Err("a text needs a space or an operator before it".into()),
    }
}

/// The position after the text whose opening quote is at `start`.
fn after_text(bytes: &[u8], start: usize, raw: bool) -> Result<usize, String> {
    let quote = bytes[start];
    let long = bytes.get(start + 1) == Some(&quote) && bytes.get(start + 2) == Some(&quote);
    let mut at = start + if long { 3 } else { 1 };
    while let Some(&b) = bytes.get(at) {
        if b == b'\\' && !raw {
            at += 2;
        } else if b == b'\n' && !long {
            break;
        } else if b == quote && !long {
            return Ok(at + 1);
        } else if b == quote && bytes[at..].starts_with(&[quote; 3]) {
            return Ok(at + 3);
        } else {
            at += 1;
        }
    }
    Err("a text is not closed".into())
}
