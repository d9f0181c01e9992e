//! The Merkle tree of RFC 6962 §2.1: SHA-256, leaves behind 0x00, nodes behind 0x01, no padding.

use sha2::{Digest as _, Sha256};

/// SHA-256 output.
pub type Hash = [u8; 32];

/// Hash of one entry: SHA-256(0x00 ‖ entry).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(entry);
    hash.finalize().into()
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// Root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The right edge of a growing tree: one hash per complete subtree, at most 64, whatever the size.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Frontier {
    size: u64,
    /// Complete subtrees from the left, largest first; one per set bit of `size`.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// A tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of a stored tree: the roots of its complete subtrees.
    pub fn read<R: HashReader>(reader: &R, size: u64) -> Result<Self, R::Error> {
        let peaks = complete_subtrees(reader, 0, size)?;
        Ok(Self { size, peaks })
    }

    /// The edge of a tree of which is known, per level of tiles and the highest first, which hashes follow its last full
    /// tile: each the root of 256^level leaves, fewer than 256 a level.
    #[cfg(feature = "audit")]
    pub(crate) fn of_rows<'a>(rows: impl Iterator<Item = &'a [Hash]>) -> Self {
        let mut edge = Self::default();
        for row in rows {
            let mut rest = row;
            while let Some(bit) = rest.len().checked_ilog2() {
                let (whole, after) = rest.split_at(1 << bit);
                edge.peaks.extend(crate::tile::subtree_root(whole));
                rest = after;
            }
            edge.size = (edge.size << 8) + row.len() as u64;
        }
        edge
    }

    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root over them.
    pub fn root(&self) -> Hash {
        fold_right(&self.peaks).unwrap_or_else(empty_root)
    }
}

/// Hashes of a tree that is stored somewhere.
pub trait HashReader {
    /// Why a hash could not be read.
    type Error;

    /// Root of the complete subtree over leaves `index * 2^level .. (index + 1) * 2^level`.
    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Inclusion path of leaf `index` in the tree of the first `size` leaves, from the leaf's sibling upward.
///
/// Empty if there is no such leaf; an empty path proves nothing for `index >= size`.
pub fn inclusion_path<R: HashReader>(reader: &R, index: u64, size: u64) -> Result<Vec<Hash>, R::Error> {
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    if index >= size {
        return Ok(path);
    }
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range_root(reader, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(reader, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Consistency proof from the tree of the first `old_size` leaves to that of the first `new_size`; empty if the sizes are
/// equal, if `old_size` is 0, or if it is the larger one.
pub fn consistency_proof<R: HashReader>(
    reader: &R,
    old_size: u64,
    new_size: u64,
) -> Result<Vec<Hash>, R::Error> {
    let mut proof = Vec::new();
    if old_size == 0 || old_size >= new_size {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, new_size);
    while end != old_size {
        let middle = start + split(end - start);
        if old_size <= middle {
            proof.push(range_root(reader, middle, end)?);
            end = middle;
        } else {
            proof.push(range_root(reader, start, middle)?);
            start = middle;
        }
    }
    // Without a left sibling the old root itself comes here, and the verifier has that.
    if start != 0 {
        proof.push(range_root(reader, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root that an inclusion path leads to; `None` if the path has the wrong length or there is no such leaf.
pub fn root_from_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    let mut last = size.checked_sub(1)?;
    let mut at = index;
    let mut root = *leaf;
    if at > last {
        return None;
    }
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = node_hash(sibling, &root);
            skip_missing_siblings(&mut at, &mut last);
        } else {
            root = node_hash(&root, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

/// Whether `path` shows that the leaf is the one at `index` of the tree with this size and root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    root_from_inclusion(leaf, index, size, path).as_ref() == Some(root)
}

/// Whether `proof` shows that the old tree is a prefix of the new one.
pub fn verify_consistency(
    old_size: u64,
    new_size: u64,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> bool {
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    if old_size > new_size {
        return false;
    }
    if old_size == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let (first, rest) = if old_size.is_power_of_two() {
        (*old_root, proof)
    } else {
        match proof.split_first() {
            Some((first, rest)) => (*first, rest),
            None => return false,
        }
    };
    let (mut at, mut last) = (old_size - 1, new_size - 1);
    let shift = at.trailing_ones();
    (at, last) = (at >> shift, last >> shift);
    let (mut old, mut new) = (first, first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            skip_missing_siblings(&mut at, &mut last);
        } else {
            new = node_hash(&new, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old == *old_root && new == *new_root
}

/// On the right edge a node without a right sibling is the same hash on the level above.
fn skip_missing_siblings(at: &mut u64, last: &mut u64) {
    while *at & 1 == 0 && *at != 0 {
        (*at, *last) = (*at >> 1, *last >> 1);
    }
}

/// Root of leaves `start..end`, where `start` is a multiple of the smallest power of two that is not below the length.
fn range_root<R: HashReader>(reader: &R, start: u64, end: u64) -> Result<Hash, R::Error> {
    Ok(fold_right(&complete_subtrees(reader, start, end)?).unwrap_or_else(empty_root))
}

fn complete_subtrees<R: HashReader>(reader: &R, start: u64, end: u64) -> Result<Vec<Hash>, R::Error> {
    let mut roots = Vec::new();
    let mut at = start;
    while at < end {
        let level = (end - at).ilog2();
        roots.push(reader.subtree(level, at >> level)?);
        at += 1 << level;
    }
    Ok(roots)
}

fn fold_right(peaks: &[Hash]) -> Option<Hash> {
    let (last, before) = peaks.split_last()?;
    Some(before.iter().rev().fold(*last, |right, left| node_hash(left, &right)))
}

/// The largest power of two strictly below `length`, which is at least 2.
fn split(length: u64) -> u64 {
    1 << (length - 1).ilog2()
}
