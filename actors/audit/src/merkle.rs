//! The Merkle tree over the chain's entries, after RFC 6962 section 2.1 (and RFC 9162, which keeps
//! it): its root from a stream, proofs that an entry is in it, proofs that it only ever grew.

use hale_model::Digest;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A proof has at most one hash for each bit of the tree's size, and one more.
pub const MAX_PATH: usize = 65;

/// The hash of a leaf: SHA-256 of `0x00` and its bytes.
pub fn leaf(bytes: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], bytes])
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The roots of the full subtrees that a tree consists of, largest first: all that is needed to
/// go on growing it. 32 bytes for each bit set in its size.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    /// From its parts; `None` if there is not one peak for each bit set in `size`.
    pub fn from_parts(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of its full subtrees, largest first.
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// Adds a leaf by its hash ([`leaf`]).
    pub fn push(&mut self, leaf: Digest) {
        let mut merged = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                merged = node(&left, &merged);
            }
        }
        self.peaks.push(merged);
        self.size += 1;
    }

    /// The tree's root; SHA-256 of nothing if it has no leaves.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return Digest::of(b"");
        };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

/// Collects a proof while the leaves go by, once and in order, in memory that does not grow with
/// the tree.
#[derive(Debug)]
pub struct Prover {
    /// The subtrees whose roots the proof needs, by place, each with its place in the proof.
    wanted: Vec<(Range<u64>, usize)>,
    path: Vec<Digest>,
    seen: u64,
    subtree: Frontier,
}

impl Prover {
    /// Proves that leaf `index` is in the tree of the first `size` leaves (RFC 6962 section
    /// 2.1.1); `None` if it is not.
    pub fn inclusion(index: u64, size: u64) -> Option<Self> {
        if index >= size {
            return None;
        }
        let (mut low, mut high, mut ranges) = (0, size, vec![]);
        while high - low > 1 {
            let middle = low + split(high - low);
            if index < middle {
                ranges.push(middle..high);
                high = middle;
            } else {
                ranges.push(low..middle);
                low = middle;
            }
        }
        Some(Self::over(ranges))
    }

    /// Proves that the tree of the first `old` leaves is how the tree of the first `new` began
    /// (RFC 6962 section 2.1.2); `None` if `old` is zero or larger than `new`.
    pub fn consistency(old: u64, new: u64) -> Option<Self> {
        if old == 0 || old > new {
            return None;
        }
        let (mut low, mut high, mut ranges, mut whole) = (0, new, vec![], true);
        while high != old {
            let middle = low + split(high - low);
            if old <= middle {
                ranges.push(middle..high);
                high = middle;
            } else {
                ranges.push(low..middle);
                low = middle;
                whole = false;
            }
        }
        if !whole {
            ranges.push(low..high);
        }
        Some(Self::over(ranges))
    }

    /// `ranges` from the proof's end to its beginning.
    fn over(ranges: Vec<Range<u64>>) -> Self {
        let path = vec![Digest::ZERO; ranges.len()];
        let mut wanted: Vec<_> = ranges.into_iter().rev().zip(0..).collect();
        // The next one to come is popped from the end.
        wanted.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        Self {
            wanted,
            path,
            seen: 0,
            subtree: Frontier::default(),
        }
    }

    /// The next leaf's hash, from the first on.
    pub fn push(&mut self, leaf: Digest) {
        if let Some((range, place)) = self.wanted.last()
            && range.contains(&self.seen)
        {
            self.subtree.push(leaf);
            if self.seen + 1 == range.end {
                self.path[*place] = self.subtree.root();
                self.subtree = Frontier::default();
                self.wanted.pop();
            }
        }
        self.seen += 1;
    }

    /// The proof, once all the leaves that it is about went by.
    pub fn finish(self) -> Option<Vec<Digest>> {
        self.wanted.is_empty().then_some(self.path)
    }
}

/// The largest power of two below `n`, for `n` above 1.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// Whether `path` proves that `leaf` is number `index` of the tree with this size and root
/// (RFC 9162 section 2.1.3.2).
pub fn includes(leaf: Digest, index: u64, size: u64, path: &[Digest], root: &Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// A tree by its size and root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// How many leaves.
    pub size: u64,
    /// Their root.
    pub root: Digest,
}

/// Whether `path` proves that `old` is how `new` began (RFC 9162 section 2.1.4.2). Every tree
/// begins with the empty one, which needs no proof.
pub fn extends(old: Tree, new: Tree, path: &[Digest]) -> bool {
    if old.size == new.size {
        return path.is_empty() && old.root == new.root;
    }
    if old.size == 0 {
        return path.is_empty() && old.root == Digest::of(b"");
    }
    if old.size > new.size {
        return false;
    }
    // A full tree is its own first node.
    let (first, rest) = match path.split_first() {
        _ if old.size.is_power_of_two() => (old.root, path),
        Some((first, rest)) => (*first, rest),
        None => return false,
    };
    let (mut at, mut last) = (old.size - 1, new.size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_hash = node(sibling, &old_hash);
            new_hash = node(sibling, &new_hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node(&new_hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == old.root && new_hash == new.root
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The reference leaves and hashes of the Certificate Transparency log's own tests.
    const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn leaves(n: usize) -> Vec<Digest> {
        (0..n)
            .map(|i| leaf(LEAVES.get(i).copied().unwrap_or(&i.to_be_bytes())))
            .collect()
    }

    fn tree(n: usize) -> Tree {
        let mut f = Frontier::default();
        leaves(n).into_iter().for_each(|l| f.push(l));
        Tree {
            size: n as u64,
            root: f.root(),
        }
    }

    fn prove(prover: Option<Prover>, n: usize) -> Vec<Digest> {
        let mut prover = prover.unwrap();
        leaves(n).into_iter().for_each(|l| prover.push(l));
        prover.finish().unwrap()
    }

    fn digests(hex: &[&str]) -> Vec<Digest> {
        hex.iter()
            .map(|h| format!("sha256:{h}").parse().unwrap())
            .collect()
    }

    /// The definition of RFC 6962 section 2.1, word for word.
    fn by_definition(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest::of(b""),
            [one] => *one,
            many => {
                let (l, r) = many.split_at(split(many.len() as u64) as usize);
                node(&by_definition(l), &by_definition(r))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_reference() {
        assert_eq!(
            tree(0).root.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for (i, root) in digests(&ROOTS).into_iter().enumerate() {
            assert_eq!(tree(i + 1).root, root, "of {} leaves", i + 1);
        }
    }

    #[test]
    fn proofs_are_those_of_the_reference() {
        let first_of_eight = [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ];
        assert_eq!(prove(Prover::inclusion(0, 8), 8), digests(&first_of_eight));
        let six_to_eight = [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        assert_eq!(prove(Prover::consistency(6, 8), 8), digests(&six_to_eight));
    }

    #[test]
    fn the_empty_tree_begins_every_tree_and_none_shrinks() {
        assert!(extends(tree(0), tree(5), &[]));
        assert!(extends(tree(5), tree(5), &[]));
        assert!(!extends(tree(5), tree(4), &[]));
        assert!(!includes(Digest::ZERO, 0, 0, &[], &tree(0).root));
        assert!(Prover::inclusion(3, 3).is_none() && Prover::consistency(4, 3).is_none());
    }

    #[test]
    fn a_frontier_with_the_wrong_number_of_peaks_is_refused() {
        assert!(Frontier::from_parts(5, vec![Digest::ZERO; 2]).is_some());
        assert!(Frontier::from_parts(5, vec![Digest::ZERO; 3]).is_none());
    }

    proptest! {
        #[test]
        fn a_streamed_root_is_the_one_by_definition(n in 0usize..300) {
            prop_assert_eq!(tree(n).root, by_definition(&leaves(n)));
        }

        #[test]
        fn an_inclusion_proof_holds_for_its_leaf_place_and_tree_alone(n in 1usize..300, pick in any::<prop::sample::Index>(), other in 0u64..300, bit in 0usize..256) {
            let (i, t) = (pick.index(n), tree(n));
            let l = leaves(n)[i];
            let path = prove(Prover::inclusion(i as u64, n as u64), n);
            prop_assert!(includes(l, i as u64, t.size, &path, &t.root));
            prop_assert!(!includes(leaf(b"another"), i as u64, t.size, &path, &t.root));
            prop_assert!(other == i as u64 || !includes(l, other, t.size, &path, &t.root));
            for k in 0..path.len() {
                let mut bytes = *path[k].as_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let mut forged = path.clone();
                forged[k] = Digest::from_bytes(bytes);
                prop_assert!(!includes(l, i as u64, t.size, &forged, &t.root));
            }
            let longer = [path.clone(), vec![Digest::ZERO]].concat();
            prop_assert!(!includes(l, i as u64, t.size, &longer, &t.root));
        }

        #[test]
        fn a_consistency_proof_holds_for_its_two_trees_alone(new in 1usize..300, pick in any::<prop::sample::Index>()) {
            let old = pick.index(new) + 1;
            let path = prove(Prover::consistency(old as u64, new as u64), new);
            prop_assert!(extends(tree(old), tree(new), &path));
            let rewritten = Tree { root: leaf(b"rewritten"), ..tree(old) };
            prop_assert!(!extends(rewritten, tree(new), &path));
            let cut = Tree { size: tree(old).size + 1, ..tree(old) };
            prop_assert!(!extends(cut, tree(new), &path));
            if old != new {
                let other = Tree { root: leaf(b"other"), ..tree(new) };
                prop_assert!(!extends(tree(old), other, &path));
            }
        }
    }
}
