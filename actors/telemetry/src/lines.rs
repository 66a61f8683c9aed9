//! Bytes as they are read from a file become lines, however they were cut apart.

/// Puts lines together from chunks of bytes. Holds at most `max` bytes of a line that has not
/// ended; the rest of a longer one is skipped, so that a line of a megabyte costs no megabyte.
#[derive(Debug)]
pub struct Splitter {
    max: usize,
    partial: Vec<u8>,
    unfinished: u64,
    cut: u64,
}

impl Splitter {
    /// A splitter for lines of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            partial: Vec::new(),
            unfinished: 0,
            cut: 0,
        }
    }

    /// Takes bytes and gives each line that ends in them, without its end, what is no UTF-8
    /// replaced by `U+FFFD`. Empty lines are left out.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl FnMut(&str)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            self.push(&rest[..end]);
            self.finish(sink);
            rest = &rest[end + 1..];
        }
        self.push(rest);
    }

    /// Ends the last line though no newline came: its file will not grow any more.
    pub fn finish(&mut self, sink: &mut impl FnMut(&str)) {
        if self.unfinished > self.partial.len() as u64 {
            self.cut += 1;
        }
        while self.partial.last().is_some_and(|b| *b == b'\r') {
            self.partial.pop();
        }
        if !self.partial.is_empty() {
            sink(&String::from_utf8_lossy(&self.partial));
        }
        self.partial.clear();
        self.unfinished = 0;
    }

    /// How many bytes of the line that has not ended were taken, those that were skipped too:
    /// where the last whole line ended is that many bytes back.
    pub fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// How many lines were cut since this was last asked.
    pub fn take_cut(&mut self) -> u64 {
        std::mem::take(&mut self.cut)
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = self.max.saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.unfinished += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]], max: usize) -> (Vec<String>, u64, u64) {
        let mut s = Splitter::new(max);
        let mut lines = Vec::new();
        for chunk in chunks {
            s.feed(chunk, &mut |l| lines.push(l.to_owned()));
            assert!(s.partial.len() <= max);
        }
        (lines, s.unfinished(), s.take_cut())
    }

    #[test]
    fn a_line_of_a_megabyte_is_cut_and_the_next_one_is_whole() {
        let mut text = vec![b'x'; 1 << 20];
        text.extend_from_slice(b"\nnext\n");
        let (lines, left, cut) = split(&[&text], 1024);
        assert_eq!((lines[0].len(), lines[1].as_str()), (1024, "next"));
        assert_eq!((left, cut), (0, 1));
    }

    #[test]
    fn invalid_utf8_is_replaced_and_nothing_else_is_lost() {
        let (lines, ..) = split(&[b"a\xff\xfeb\r\n\r\n\xc3", b"\xa4\n"], 100);
        assert_eq!(lines, ["a\u{fffd}\u{fffd}b", "ä"]);
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_apart_does_not_matter(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), any::<u8>()], 0..200),
            at in 0usize..200,
        ) {
            let at = at.min(text.len());
            prop_assert_eq!(split(&[&text], 16), split(&[&text[..at], &text[at..]], 16));
        }
    }
}
