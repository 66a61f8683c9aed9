//! A log message becomes a template: its variable parts replaced by `<*>`, so that lines which
//! say the same fold into one.
//!
//! Each word is judged by itself (no state, no learning), so every node gives a line the same
//! template: it can be compared between hosts and with the past. The idea of a constant part and
//! parameters is Drain's (He et al., ICWS 2017); its tree is not needed for that.

use std::collections::HashMap;

/// What stands for a variable part.
pub const HOLE: &str = "<*>";
/// The longest template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 300;
/// The template of lines that came when the book was full.
pub const OVERFLOW: &str = "<lines of other kinds>";

/// The template of a message.
pub fn template(message: &str) -> String {
    let mut out = String::with_capacity(message.len().min(MAX_TEMPLATE_BYTES));
    let mut rest = message.trim();
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        if out.len() >= MAX_TEMPLATE_BYTES {
            break;
        }
        if let Some(quoted) = quoted(rest, before) {
            push(&mut out, &format!("{c}{HOLE}{c}"));
            before = c;
            rest = &rest[quoted..];
        } else if is_delimiter(c) {
            // Runs of blanks are one blank: how a line was padded says nothing.
            if !(c.is_whitespace() && before.is_whitespace()) {
                out.push(if c.is_whitespace() { ' ' } else { c });
            }
            before = c;
            rest = &rest[c.len_utf8()..];
        } else {
            let end = rest.find(is_delimiter).unwrap_or(rest.len());
            push(&mut out, &word(&rest[..end]));
            before = 'x';
            rest = &rest[end..];
        }
    }
    truncate(&mut out, MAX_TEMPLATE_BYTES);
    out
}

/// Cuts a text to at most `max` bytes, at a character's boundary.
pub fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

/// The templates in use, at most `max`. When it is full, the ones not seen for the longest time
/// make room, but never those of the last rounds: then a new one becomes [`OVERFLOW`].
#[derive(Debug)]
pub struct Book {
    max: usize,
    seen: HashMap<String, u64>,
    round: u64,
}

impl Book {
    /// Rounds for which a template keeps its place.
    const KEPT_ROUNDS: u64 = 10;

    /// A book of at most `max` templates.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            seen: HashMap::new(),
            round: 0,
        }
    }

    /// Begins a round.
    pub fn next_round(&mut self) {
        self.round += 1;
        if self.seen.len() >= self.max {
            let oldest = self.round.saturating_sub(Self::KEPT_ROUNDS);
            self.seen.retain(|_, seen| *seen >= oldest);
        }
    }

    /// How many templates it holds.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// The message's template, or [`OVERFLOW`] if there is no room for a new one.
    pub fn name(&mut self, message: &str) -> String {
        let name = template(message);
        if let Some(seen) = self.seen.get_mut(&name) {
            *seen = self.round;
        } else if self.seen.len() < self.max {
            self.seen.insert(name.clone(), self.round);
        } else {
            return OVERFLOW.to_owned();
        }
        name
    }
}

fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || ",;()[]{}\"'=<>|`".contains(c)
}

/// Two holes beside each other are one: how long a list is says nothing.
fn push(out: &mut String, part: &str) {
    if part == HOLE && (out.ends_with("<*> ") || out.ends_with("<*>")) {
        out.truncate(out.trim_end().len());
        return;
    }
    out.push_str(part);
}

/// The length of the quoted text that `rest` begins with. An apostrophe within a word (`don't`)
/// opens no quote.
fn quoted(rest: &str, before: char) -> Option<usize> {
    let quote = rest.chars().next().filter(|c| "\"'`".contains(*c))?;
    if quote == '\'' && !is_delimiter(before) {
        return None;
    }
    let end = rest[1..].find(quote)? + 2;
    let next = rest[end..].chars().next();
    (end <= 202 && !next.is_some_and(char::is_alphanumeric)).then_some(end)
}

fn word(text: &str) -> String {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 {
        return if is_hex_id(text) {
            HOLE.to_owned()
        } else {
            text.to_owned()
        };
    }
    let tail = if text.ends_with([':', '.', '%']) {
        &text[text.len() - 1..]
    } else {
        ""
    };
    let body = &text[..text.len() - tail.len()];
    let first = body
        .trim_start_matches(['-', '+', '#', '*', '/', '$', '@', '~'])
        .chars()
        .next();
    if first.is_some_and(|c| c.is_ascii_digit()) && !body.starts_with('/')
        || is_hex_id(body)
        || digits * 5 >= body.chars().count() * 2 && body.len() > 3
        || body.contains(['/', ':', '@']) && digits >= 4
    {
        return format!("{HOLE}{tail}");
    }
    let holed = holes_for_digits(body);
    format!("{holed}{tail}")
}

/// `0xdeadbeef`, hashes and UUIDs: at least eight hexadecimal digits, at most joined by dashes.
fn is_hex_id(text: &str) -> bool {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let hex = text.bytes().filter(u8::is_ascii_hexdigit).count();
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    hex >= 8 && digits >= 1 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// `worker-12` → `worker-<*>`, `EXT4-fs` and `ipv6` as they are: a lone digit in a short word or
/// before a letter is part of a name.
fn holes_for_digits(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let len = rest[at..].bytes().take_while(u8::is_ascii_digit).count();
        let (digits, after) = rest[at..].split_at(len);
        out.push_str(&rest[..at]);
        let lone = len == 1 && (!after.is_empty() || text.len() <= 4);
        out.push_str(if lone { digits } else { HOLE });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_varies_becomes_a_hole_and_what_names_stays() {
        for (message, want) in [
            (
                "sorry, too many clients already",
                "sorry, too many clients already",
            ),
            (
                "remaining connection slots are reserved for non-replication superuser connections",
                "remaining connection slots are reserved for non-replication superuser connections",
            ),
            (
                "relation \"users_17\" does not exist",
                "relation \"<*>\" does not exist",
            ),
            (
                "connect() failed (111: Connection refused) while connecting to upstream, client: 10.0.0.7",
                "connect() failed (<*>: Connection refused) while connecting to upstream, client: <*>",
            ),
            (
                "Out of memory: Killed process 4711 (postgres) total-vm:123456kB",
                "Out of memory: Killed process <*> (postgres) <*>",
            ),
            (
                "EXT4-fs error (device sda1): ipv6 md5",
                "EXT4-fs error (device sda1): ipv6 md5",
            ),
            ("worker-12 took 35ms", "worker-<*> took <*>"),
            (
                "request 5f2b1c9e-1111-4222-8333-444455556666 done",
                "request <*> done",
            ),
            ("don't panic   now", "don't panic now"),
            ("ids 1 2 3 4", "ids <*>"),
            (
                "could not write /var/lib/pg/base/16384/2619: No space left on device",
                "could not write <*>: No space left on device",
            ),
        ] {
            assert_eq!(template(message), want);
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_short_template(text in "\\PC{0,400}") {
            prop_assert!(template(&text).len() <= MAX_TEMPLATE_BYTES);
        }

        #[test]
        fn numbers_do_not_make_new_templates(a in 0u64.., b in 0u64.., ip in any::<[u8; 4]>()) {
            let line = |n: u64| template(&format!("query {n} from {} took {n} ms", std::net::Ipv4Addr::from(ip)));
            prop_assert_eq!(line(a), line(b));
        }

        #[test]
        fn the_book_never_grows_past_its_limit(lines in proptest::collection::vec("[a-z]{1,4}( [a-z]{1,3}){0,2}", 0..100)) {
            let mut book = Book::new(8);
            for (i, line) in lines.iter().enumerate() {
                if i % 9 == 0 { book.next_round(); }
                let name = book.name(line);
                prop_assert!(book.len() <= 8);
                prop_assert!(name == OVERFLOW || book.seen.contains_key(&name));
            }
        }
    }
}
