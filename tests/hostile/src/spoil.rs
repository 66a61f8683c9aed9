//! How bytes are spoilt: bits flipped, numbers made absurd, parts cut, doubled, moved.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// What parsers stumble over, to be put into text.
const WORDS: [&[u8]; 22] = [
    b"99999999999999999999",
    b"-9223372036854775808",
    b"18446744073709551615",
    b"1e999",
    b"-0",
    b"NaN",
    b"\xc3\xa9",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"'",
    b"${",
    b"}",
    b"[[[[[[[[",
    b"{\"\":{\"\":{\"\":",
    b": ",
    b"&a *a",
    b"\\u0000",
    b"\\ud800",
];
/// The most one change takes or doubles.
const MAX_PART_BYTES: usize = 64;

#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Number(Index, u64, usize, bool),
    Cut(Index),
    Remove(Index, usize),
    Double(Index, usize),
    Word(Index, usize),
    Insert(Index, Vec<u8>),
    /// The rest of another valid value instead of one's own.
    Graft(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let number = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(i64::MAX as u64),
        Just(1 << 63),
        Just(u64::from(u32::MAX)),
        Just(1 << 31),
        Just(i32::MAX as u64),
        Just(u64::from(u16::MAX)),
        any::<u64>(),
        0u64..1024,
    ];
    let width = prop_oneof![Just(1usize), Just(2), Just(4), Just(8)];
    let part = 1..MAX_PART_BYTES;
    prop_oneof![
        4 => (at(), 0u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        3 => (at(), number, width, any::<bool>())
            .prop_map(|(at, number, width, big)| Change::Number(at, number, width, big)),
        1 => at().prop_map(Change::Cut),
        2 => (at(), part.clone()).prop_map(|(at, n)| Change::Remove(at, n)),
        2 => (at(), part).prop_map(|(at, n)| Change::Double(at, n)),
        2 => (at(), 0..WORDS.len()).prop_map(|(at, word)| Change::Word(at, word)),
        1 => (at(), vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (at(), at(), at()).prop_map(|(at, seed, from)| Change::Graft(at, seed, from)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change, seeds: &[Vec<u8>]) {
    // One past the end too: what is put there is put behind.
    let place = |at: &Index| at.index(bytes.len() + 1);
    match change {
        Change::Flip(at, bit) => {
            let at = place(at);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        Change::Set(at, to) => {
            let at = place(at);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *to;
            }
        }
        Change::Number(at, number, width, big) => {
            let at = place(at);
            let number = match big {
                true => number.to_be_bytes()[8 - width..].to_vec(),
                false => number.to_le_bytes()[..*width].to_vec(),
            };
            let end = bytes.len().min(at + width);
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        Change::Cut(at) => bytes.truncate(place(at)),
        Change::Remove(at, n) => {
            let at = place(at);
            let end = bytes.len().min(at + n);
            bytes.drain(at..end);
        }
        Change::Double(at, n) => {
            let at = place(at);
            let part = bytes[at..bytes.len().min(at + n)].to_vec();
            bytes.splice(at..at, part);
        }
        Change::Word(at, word) => {
            let at = place(at);
            bytes.splice(at..at, WORDS[*word].iter().copied());
        }
        Change::Insert(at, more) => {
            let at = place(at);
            bytes.splice(at..at, more.iter().copied());
        }
        Change::Graft(at, seed, from) => {
            let other = &seeds[seed.index(seeds.len())];
            bytes.truncate(place(at));
            bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
        }
    }
}

/// Valid bytes with a few changes.
pub(crate) fn spoilt(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (any::<Index>(), vec(change(), 1..6)).prop_map(move |(seed, changes)| {
        let mut bytes = seeds[seed.index(seeds.len())].clone();
        for change in &changes {
            apply(&mut bytes, change, &seeds);
        }
        bytes
    })
}

/// Bytes of any kind: all of them, or those of text.
pub(crate) fn random(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![b' '..=b'~', Just(b'\n'), Just(b'\t')];
    prop_oneof![
        vec(any::<u8>(), 0..most),
        vec(text, 0..most),
        vec(0..WORDS.len(), 0..24)
            .prop_map(|words| { words.into_iter().flat_map(|w| WORDS[w]).copied().collect() }),
    ]
}
