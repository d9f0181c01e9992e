//! Tiles and entry bundles of C2SP tlog-tiles: paths and encodings, no files.

use std::fmt;

use crate::entry::ENTRY_MAX;
use crate::tree::{Hash, node_hash};

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;

/// Levels of subtrees that one tile spans.
pub const TILE_HEIGHT: u32 = 8;

/// Tile levels of the largest tree: 256^8 = 2^64.
pub const LEVELS_MAX: u8 = 8;

/// One file of the published tree below `tile/`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[allow(clippy::exhaustive_structs)]
pub struct Tile {
    /// Tile level, `None` for an entry bundle.
    pub level: Option<u8>,
    /// Number within the level.
    pub index: u64,
    /// Hashes or entries, 1 to 256.
    pub width: u64,
}

impl Tile {
    /// The hash tile `index` of `level`, as wide as the tree of `size` leaves makes it; `None` if that tree has no such
    /// tile.
    pub fn of_tree(level: u8, index: u64, size: u64) -> Option<Self> {
        let first = index.checked_mul(TILE_WIDTH)?;
        let width = hashes_at(level, size).checked_sub(first).filter(|width| *width > 0)?;
        Some(Self { level: Some(level), index, width: width.min(TILE_WIDTH) })
    }

    /// The bundle with the entries of level-0 tile `index`.
    pub fn bundle(index: u64, size: u64) -> Option<Self> {
        Self::of_tree(0, index, size).map(|tile| Self { level: None, ..tile })
    }

    /// Whether it has all 256.
    pub fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// Whether the published tree of `size` leaves has exactly this file: right place, right width.
    pub fn belongs(&self, size: u64) -> bool {
        let expected = match self.level {
            Some(level) => Self::of_tree(level, self.index, size),
            None => Self::bundle(self.index, size),
        };
        expected == Some(*self)
    }

    /// Reads a path like `tile/0/x001/234.p/7` or `tile/entries/000`. Only the one true spelling is read.
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let level = match level {
            "entries" => None,
            digits => Some(digits.parse().ok().filter(|level| *level < 64)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|width| *width < TILE_WIDTH)?),
            None => (rest, TILE_WIDTH),
        };
        let groups = number.split('/').map(|group| {
            let digits = group.strip_prefix('x').unwrap_or(group);
            let value = digits.parse::<u64>().ok()?;
            (digits.len() == 3).then_some(value)
        });
        let index =
            groups.into_iter().try_fold(0_u64, |sum, group| sum.checked_mul(1000)?.checked_add(group?))?;
        let tile = Self { level, index, width };
        (width > 0 && tile.to_string() == path).then_some(tile)
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => write!(f, "tile/{level}/{}", number(self.index))?,
            None => write!(f, "tile/entries/{}", number(self.index))?,
        }
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// Groups of three digits, all but the last behind an `x`.
fn number(index: u64) -> String {
    let mut text = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1000);
        rest /= 1000;
    }
    text
}

/// Hashes at a tile level of a tree with `size` leaves: one per complete 256^level leaves.
pub fn hashes_at(level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(level) * TILE_HEIGHT).unwrap_or(0)
}

/// Root of a complete subtree over `hashes`, whose number is a power of two; `None` if it is not.
pub fn subtree_root(hashes: &[Hash]) -> Option<Hash> {
    if !hashes.len().is_power_of_two() {
        return None;
    }
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(node_hash(left, right)),
                _ => None,
            })
            .collect();
    }
    row.first().copied()
}

/// A hash tile's bytes.
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

/// The hashes of a tile; `None` unless there are exactly `width`.
pub fn decode_hashes(bytes: &[u8], width: u64) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && hashes.len() as u64 == width).then(|| hashes.to_vec())
}

/// A bundle's bytes: per entry a u16 big-endian length and the entry; `None` if an entry is too long.
pub fn encode_bundle<T: AsRef<[u8]>>(entries: &[T]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).ok()?;
        bytes.extend(length.to_be_bytes());
        bytes.extend(entry);
    }
    Some(bytes)
}

/// The entries of a bundle; `None` unless it holds exactly `width` and nothing else.
pub fn decode_bundle(bytes: &[u8], width: u64) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        debug_assert!(length <= ENTRY_MAX, "a u16 is never above it");
        let (entry, after) = after.split_at_checked(length)?;
        entries.push(entry);
        rest = after;
    }
    (rest.is_empty() && entries.len() as u64 == width).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tile_paths() {
        let path = |level, index, width| {
            let tile = Tile { level, index, width };
            let text = tile.to_string();
            assert_eq!(Tile::parse(&text), Some(tile), "{text}");
            text
        };
        assert_eq!(path(Some(0), 0, 256), "tile/0/000");
        assert_eq!(path(Some(0), 1000, 256), "tile/0/x001/000");
        assert_eq!(path(Some(63), 1_234_067, 255), "tile/63/x001/x234/067.p/255");
        assert_eq!(path(None, 5, 1), "tile/entries/005.p/1");
        for bad in [
            "tile/0/0",
            "tile/00/000",
            "tile/64/000",
            "tile/+1/000",
            "tile/0/x000/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000/",
            "/tile/0/000",
            "tile/0/001/000",
            "tile/0/x001",
            "tile/0/../000",
            "tile/data/000",
            "tile/0/000.p/",
            "tile/0",
            "checkpoint",
            "tile/0/+00",
            "",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(Tile::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_tree_of_seventy_thousand_has_these_tiles() {
        let width = |level, index| Tile::of_tree(level, index, 70_000).map(|tile| tile.width);
        assert_eq!([width(0, 272), width(0, 273), width(0, 274)], [Some(256), Some(112), None]);
        assert_eq!([width(1, 0), width(1, 1), width(1, 2)], [Some(256), Some(17), None]);
        assert_eq!([width(2, 0), width(2, 1), width(3, 0)], [Some(1), None, None]);
        assert_eq!((hashes_at(7, u64::MAX), hashes_at(8, u64::MAX)), (255, 0));
        let tile = Tile::bundle(273, 70_000).unwrap();
        assert!(tile.belongs(70_000) && !tile.belongs(70_001) && !tile.belongs(69_999));
    }
}
