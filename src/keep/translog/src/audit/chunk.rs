//! One bundle with its level-0 tile: everything about it that needs nothing of what comes before. Many at a time.

use wire::cbor::Cbor;

use super::Finding;
use super::snapshot::Snapshot;
use crate::entry::Entry;
use crate::tile::{Tile, subtree_root};
use crate::tree::{Hash, leaf_hash};

/// A bundle whose entries are those of its tile.
pub(super) struct Chunk {
    pub(super) bundle: Tile,
    /// Leaf hashes.
    pub(super) hashes: Vec<Hash>,
    /// Root over them, if the bundle is full.
    pub(super) root: Option<Hash>,
    /// The entries, up to the first one that is none.
    pub(super) entries: Vec<Entry>,
    /// Why the entry after those is none.
    pub(super) bad: Option<String>,
    /// Bytes of the bundle's file.
    pub(super) bytes: usize,
}

/// Why a bundle is not good on its own.
pub(super) enum Broken {
    /// Known where.
    Found(Finding),
    /// An entry and its hash differ; which of the two was changed, the signed root tells.
    Differs { bundle: Tile, tile: Tile, index: u64 },
}

impl From<Finding> for Broken {
    fn from(found: Finding) -> Self {
        Self::Found(found)
    }
}

impl Chunk {
    /// Reads bundle `number`.
    pub(super) fn read(snapshot: &Snapshot<'_>, number: u64) -> Result<Self, Broken> {
        let size = snapshot.head.size;
        let (Some(bundle), Some(tile)) = (Tile::bundle(number, size), Tile::of_tree(0, number, size)) else {
            return Err(Finding::new("tile", None, "the tree has no such tile").into());
        };
        let bytes = snapshot.read(bundle)?;
        let hashes = snapshot.hashes(tile)?;
        let first = number * crate::tile::TILE_WIDTH;
        let mut rest = bytes.as_slice();
        let (mut entries, mut bad) = (Vec::with_capacity(hashes.len()), None);
        for (index, hash) in (first..).zip(&hashes) {
            let entry = take_entry(&mut rest).filter(|entry| leaf_hash(entry) == *hash);
            let Some(entry) = entry else {
                return Err(Broken::Differs { bundle, tile, index });
            };
            if bad.is_none() {
                match read_entry(entry) {
                    Ok(entry) => entries.push(entry),
                    Err(what) => bad = Some(what),
                }
            }
        }
        if !rest.is_empty() {
            return Err(Finding::new(bundle, None, "bytes follow the bundle's last entry").into());
        }
        let root = tile.is_full().then(|| subtree_root(&hashes)).flatten();
        Ok(Self { bundle, hashes, root, entries, bad, bytes: bytes.len() })
    }
}

fn read_entry(bytes: &[u8]) -> Result<Entry, String> {
    let entry = Entry::from_cbor(bytes).map_err(|error| format!("it is not an entry: {error}"))?;
    if entry.to_cbor() == bytes { Ok(entry) } else { Err("it is not in canonical form".into()) }
}

fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = after;
    Some(entry)
}
