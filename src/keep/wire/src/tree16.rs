//! The tree over a batch's records and verdicts (SPEC.md §Batch tree): SHA-256, arity 16, domain-separated, streamed.

use sha2::{Digest, Sha256};

use crate::batch::Verdict;

/// SHA-256 output.
pub type Hash = [u8; 32];

/// Children of a full node.
pub const ARITY: usize = 16;

/// The leaf of one record: SHA-256(0x00 ‖ "rec" ‖ record ‖ verdict).
pub fn leaf(record: &[u8], verdict: Verdict) -> Hash {
    hash(&[&[0], b"rec", record, &[verdict.byte()]])
}

/// What the receipt and the log name: SHA-256(0x02 ‖ "root" ‖ record count u64 ‖ SHA-256(0x03 ‖ "hdr" ‖ header) ‖ top).
///
/// The header's group table gives the records their meaning, so the root binds it.
pub fn root(records: u64, header: &[u8], top: &Hash) -> Hash {
    let header = hash(&[&[3], b"hdr", header]);
    hash(&[&[2], b"root", &records.to_be_bytes(), &header, top])
}

fn node(children: &[Hash]) -> Hash {
    let mut digest = Sha256::new();
    digest.update([1]);
    digest.update(b"node");
    for child in children {
        digest.update(child);
    }
    digest.finalize().into()
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// Takes leaves one at a time and keeps at most 15 hashes a level.
///
/// Levels are grouped from the left in sixteens; the last group of a level may be short; a level of one hash is the top.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    levels: Vec<Vec<Hash>>,
    leaves: u64,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves so far.
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.leaves += 1;
        self.push_at(0, leaf);
    }

    fn push_at(&mut self, level: usize, hash: Hash) {
        if self.levels.len() <= level {
            self.levels.push(Vec::with_capacity(ARITY));
        }
        let Some(row) = self.levels.get_mut(level) else {
            return;
        };
        row.push(hash);
        if row.len() == ARITY {
            let parent = node(row);
            row.clear();
            self.push_at(level + 1, parent);
        }
    }

    /// The top: the only hash of the highest level, or 32 zero bytes for no leaves.
    pub fn top(&self) -> Hash {
        let mut carry: Option<Hash> = None;
        for (level, row) in self.levels.iter().enumerate() {
            let above =
                self.levels.get(level + 1..).is_some_and(|above| above.iter().any(|row| !row.is_empty()));
            let mut children = row.clone();
            children.extend(carry);
            carry = match children.as_slice() {
                [] => None,
                [only] if !above => Some(*only),
                several => Some(node(several)),
            };
        }
        carry.unwrap_or_default()
    }
}

/// Path from one leaf to the top, for showing a single line: per level, the siblings before and after.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Path {
    levels: Vec<(Vec<Hash>, Vec<Hash>)>,
}

impl Path {
    /// The path of leaf `index` among `leaves`; `None` if there is no such leaf.
    pub fn new(leaves: &[Hash], index: usize) -> Option<Self> {
        leaves.get(index)?;
        let (mut row, mut at, mut levels) = (leaves.to_vec(), index, Vec::new());
        while row.len() > 1 {
            let group = row.chunks(ARITY).nth(at / ARITY)?;
            let (before, rest) = group.split_at(at % ARITY);
            levels.push((before.to_vec(), rest.get(1..)?.to_vec()));
            row = row.chunks(ARITY).map(node).collect();
            at /= ARITY;
        }
        Some(Self { levels })
    }

    /// A path as it was written down; it proves nothing by itself.
    pub fn from_levels(levels: Vec<(Vec<Hash>, Vec<Hash>)>) -> Self {
        Self { levels }
    }

    /// Per level, the siblings before and after.
    pub fn levels(&self) -> &[(Vec<Hash>, Vec<Hash>)] {
        &self.levels
    }

    /// The leaf's place among `leaves` leaves, which the siblings give away; `None` if no leaf of such a tree has a path of
    /// this form.
    pub fn index(&self, leaves: u64) -> Option<u64> {
        let mut row = leaves;
        let mut index = 0_u64;
        for (level, (before, after)) in (0_u32..).zip(&self.levels) {
            let at = u64::try_from(before.len()).ok()?;
            index = index.checked_add(at.checked_mul(16_u64.checked_pow(level)?)?)?;
            if row <= 1 || before.len() + after.len() >= ARITY {
                return None;
            }
            row = row.div_ceil(ARITY as u64);
        }
        (row == 1 && index < leaves && self.fits(index, leaves)).then_some(index)
    }

    /// Every level has as many siblings as the tree has there.
    fn fits(&self, index: u64, leaves: u64) -> bool {
        let (mut at, mut row) = (index, leaves);
        self.levels.iter().all(|(before, after)| {
            let group = at / ARITY as u64 * ARITY as u64;
            let width = (row - group).min(ARITY as u64);
            let fits = (before.len() + after.len() + 1) as u64 == width && before.len() as u64 == at - group;
            (at, row) = (at / ARITY as u64, row.div_ceil(ARITY as u64));
            fits
        })
    }

    /// The top that this path leads to from `leaf`.
    pub fn top(&self, leaf: Hash) -> Hash {
        self.levels.iter().fold(leaf, |hash, (before, after)| {
            let children: Vec<Hash> = before.iter().chain([&hash]).chain(after).copied().collect();
            node(&children)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|at| leaf(&at.to_be_bytes(), Verdict::Ok)).collect()
    }

    /// The definition, level by level, all in memory.
    fn naive(leaves: &[Hash]) -> Hash {
        let mut row = leaves.to_vec();
        while row.len() > 1 {
            row = row.chunks(ARITY).map(node).collect();
        }
        row.first().copied().unwrap_or_default()
    }

    #[test]
    fn streaming_equals_the_definition_and_paths_lead_there() {
        for count in (0..300).chain([4095, 4096, 4097, 4112, 5000]) {
            let leaves = leaves(count);
            let mut tree = Tree::new();
            for leaf in &leaves {
                tree.push(*leaf);
            }
            assert_eq!(tree.top(), naive(&leaves), "{count}");
            assert_eq!(tree.leaves(), count as u64);
            for index in [0, count / 2, count.saturating_sub(1)] {
                if let Some(path) = Path::new(&leaves, index) {
                    assert_eq!(path.top(leaves[index]), tree.top());
                    assert_eq!(path.index(count as u64), Some(index as u64));
                    assert_eq!(path.index(count as u64 * 16 + 1), None);
                    let mut levels = path.levels().to_vec();
                    levels.push((vec![], vec![]));
                    assert_eq!(Path::from_levels(levels).index(count as u64), None);
                    assert_ne!(path.top(leaf(b"another", Verdict::Ok)), tree.top());
                }
            }
        }
    }

    #[test]
    fn count_header_verdict_and_order_are_bound() {
        let top = naive(&leaves(3));
        assert_ne!(root(3, b"h", &top), root(4, b"h", &top));
        assert_ne!(root(3, b"h", &top), root(3, b"g", &top));
        assert_ne!(leaf(b"r", Verdict::Ok), leaf(b"r", Verdict::BadTac));
        let mut swapped = leaves(3);
        swapped.swap(0, 1);
        assert_ne!(naive(&swapped), top);
    }
}
