//! Two copies of one log: is one the beginning of the other, and if not, where do they part?

use super::snapshot::Snapshot;
use super::{Finding, Source};
use crate::policy::Policy;
use crate::tile::{TILE_WIDTH, Tile, decode_bundle};

/// How two copies that were verified compare.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Compared {
    /// Entries of either copy.
    pub sizes: [u64; 2],
    /// The first entry that is not the same in both, and its bytes in either.
    pub parted: Option<(u64, [Vec<u8>; 2])>,
}

/// Compares by tree roots, so that it reads few files. Both copies must have been verified: only then do their tiles say
/// what is in them. On error the copy, 0 or 1, comes with the finding.
pub fn compare(sources: [&dyn Source; 2], policy: &Policy) -> Result<Compared, (usize, Finding)> {
    let [a, b] = sources;
    let a = Snapshot::take(a, policy).map_err(|found| (0, found))?;
    let b = Snapshot::take(b, policy).map_err(|found| (1, found))?;
    let sizes = [a.head.size, b.head.size];
    let same = |size| {
        let root = a.root_at(size).map_err(|found| (0, found))?;
        Ok(root == b.root_at(size).map_err(|found| (1, found))?)
    };
    let (mut good, mut bad) = (0, a.head.size.min(b.head.size));
    if same(bad)? {
        return Ok(Compared { sizes, parted: None });
    }
    // Once parted they never have the same root again.
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if same(middle)? { good = middle } else { bad = middle }
    }
    let entries =
        [entry(&a, good).map_err(|found| (0, found))?, entry(&b, good).map_err(|found| (1, found))?];
    Ok(Compared { sizes, parted: Some((good, entries)) })
}

fn entry(snapshot: &Snapshot<'_>, index: u64) -> Result<Vec<u8>, Finding> {
    let missing = || Finding::new("tile", index, "the entry cannot be read");
    let bundle = Tile::bundle(index / TILE_WIDTH, snapshot.head.size).ok_or_else(missing)?;
    let bytes = snapshot.read(bundle)?;
    let entries = decode_bundle(&bytes, bundle.width).ok_or_else(missing)?;
    let at = usize::try_from(index % TILE_WIDTH).unwrap_or(usize::MAX);
    entries.get(at).map(|entry| entry.to_vec()).ok_or_else(missing)
}
