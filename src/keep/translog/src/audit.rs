//! Verifies a published log directory, offline: every byte of every file, every entry, every approval (SPEC.md §Audit).

mod meaning;
mod snapshot;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::Path;

use wire::command::{Digest, Id};
use wire::key::{KeyId, KeyState};

use crate::fs::reader::Reader;
use crate::fs::{CHECKPOINT, VKEY};
use crate::note::VerifierKey;
use crate::tile::{LEVELS_MAX, TILE_WIDTH, Tile, decode_hashes, hashes_at, subtree_root};
use crate::tree::{Frontier, Hash, leaf_hash};
use meaning::Meaning;
use snapshot::Snapshot;

/// The first thing that is wrong with a log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(clippy::exhaustive_structs)]
pub struct Finding {
    /// The file, relative to the directory.
    pub file: String,
    /// The entry, where one can be named.
    pub index: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "entry {index} ({}): {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

fn finding<T>(
    file: impl fmt::Display,
    index: impl Into<Option<u64>>,
    what: impl Into<String>,
) -> Result<T, Finding> {
    Err(Finding { file: file.to_string(), index: index.into(), what: what.into() })
}

/// What a log says, after everything in it was found good.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Name of the log.
    pub origin: String,
    /// Service id.
    pub instance: Id,
    /// Module id.
    pub node: Id,
    /// A rehearsal instance.
    pub rehearsal: bool,
    /// Entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// Entries by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// State of every key version.
    pub keys: Vec<(KeyId, KeyState)>,
    /// One more at each change of the officers.
    pub officer_epoch: u64,
    /// Boots of the module, the one of genesis among them.
    pub boots: u64,
    /// Approved policy.
    pub policy: Digest,
    /// Approved CA bundle.
    pub ca: Digest,
    /// The module was wiped and has not come back.
    pub zeroised: bool,
    /// Wall clock of the first and last entry, nanoseconds since 1970, as the module had it.
    pub wall_ns: (u64, u64),
}

/// Verifies the log in `dir` against the key that the auditor brought along. `progress` is told entries done and entries
/// in all.
///
/// The log may be published to meanwhile: what is verified is the checkpoint that stood there at the start.
pub fn verify(dir: &Path, vkey: &VerifierKey, mut progress: impl FnMut(u64, u64)) -> Result<Report, Finding> {
    snapshot::check_vkey(dir, vkey)?;
    let snapshot = Snapshot::take(dir, vkey)?;
    let size = snapshot.head.size;
    let mut tree = Tree::new(&snapshot);
    let mut meaning = Meaning::new(vkey);
    for number in 0..size.div_ceil(TILE_WIDTH) {
        let Some(bundle) = Tile::bundle(number, size) else {
            continue;
        };
        let bytes = snapshot.read(bundle)?;
        let entries = tree.bundle(bundle, &bytes)?;
        for (index, entry) in (number * TILE_WIDTH..).zip(entries) {
            meaning.entry(index, entry).or_else(|what| finding(bundle, index, what))?;
        }
        progress((number * TILE_WIDTH + bundle.width).min(size), size);
    }
    tree.finish()?;
    meaning.check_head(&snapshot.head)?;
    meaning.check_heads(&snapshot)?;
    snapshot.check_strays(vkey)?;
    meaning.report(&snapshot.head)
}

/// The hash side: entries against tiles, tiles against each other, all of it against the signed root.
struct Tree<'a> {
    snapshot: &'a Snapshot<'a>,
    frontier: Frontier,
    /// Per level, hashes that wait for their tile to be whole.
    rows: Vec<Vec<Hash>>,
}

impl<'a> Tree<'a> {
    fn new(snapshot: &'a Snapshot<'a>) -> Self {
        Self { snapshot, frontier: Frontier::new(), rows: vec![Vec::new(); usize::from(LEVELS_MAX)] }
    }

    /// Checks a bundle against its level-0 tile and everything above that it completes; gives its entries.
    fn bundle<'b>(&mut self, bundle: Tile, bytes: &'b [u8]) -> Result<Vec<&'b [u8]>, Finding> {
        let tile = Tile { level: Some(0), ..bundle };
        let hashes = self.hashes(tile)?;
        let first = bundle.index * TILE_WIDTH;
        let mut entries = Vec::with_capacity(hashes.len());
        let mut rest = bytes;
        for (index, hash) in (first..).zip(&hashes) {
            let entry = take_entry(&mut rest);
            let Some(entry) = entry.filter(|entry| leaf_hash(entry) == *hash) else {
                return self.blame(bundle, tile, index);
            };
            entries.push(entry);
            self.frontier.push(*hash);
        }
        if !rest.is_empty() {
            return finding(bundle, None, "bytes follow the bundle's last entry");
        }
        self.complete(0, tile, &hashes)?;
        Ok(entries)
    }

    /// An entry and its hash differ. The signed root tells which of the two was changed.
    fn blame<T>(&self, bundle: Tile, tile: Tile, index: u64) -> Result<T, Finding> {
        let size = self.snapshot.head.size;
        let mut frontier = Frontier::new();
        for number in 0..size.div_ceil(TILE_WIDTH) {
            if let Some(tile) = Tile::of_tree(0, number, size) {
                self.hashes(tile)?.into_iter().for_each(|hash| frontier.push(hash));
            }
        }
        if frontier.root() == self.snapshot.head.root {
            finding(bundle, index, "the entry is not the one under the signed root: it was changed or moved")
        } else {
            finding(tile, index, "the entry's hash was changed, or the entry and its hash")
        }
    }

    /// A tile is right; if it is full, its root is the next hash of the level above.
    fn complete(&mut self, level: u8, tile: Tile, hashes: &[Hash]) -> Result<(), Finding> {
        let root = tile.is_full().then(|| subtree_root(hashes)).flatten();
        let Some(root) = root else {
            return Ok(());
        };
        let above = level + 1;
        let Some(row) = self.rows.get_mut(usize::from(above)) else {
            return Ok(());
        };
        row.push(root);
        if row.len() as u64 == TILE_WIDTH {
            let row = std::mem::take(row);
            self.above(above, tile.index / TILE_WIDTH, &row)?;
        }
        Ok(())
    }

    /// Compares a computed tile with its file.
    fn above(&mut self, level: u8, index: u64, row: &[Hash]) -> Result<(), Finding> {
        let Some(tile) = Tile::of_tree(level, index, self.snapshot.head.size) else {
            return finding(CHECKPOINT, None, "the tree has no such tile");
        };
        if self.hashes(tile)? != row {
            return finding(tile, None, "its hashes are not those of the tiles below it");
        }
        self.complete(level, tile, row)
    }

    fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, Finding> {
        let bytes = self.snapshot.read(tile)?;
        let Some(hashes) = decode_hashes(&bytes, tile.width) else {
            return finding(tile, None, format!("it is not {} hashes of 32 bytes", tile.width));
        };
        Ok(hashes)
    }

    /// The partial tiles of the upper levels, and the root.
    fn finish(&mut self) -> Result<(), Finding> {
        let head = &self.snapshot.head;
        for level in 1..LEVELS_MAX {
            let row = self.rows.get_mut(usize::from(level)).map(std::mem::take).unwrap_or_default();
            if !row.is_empty() {
                self.above(level, hashes_at(level, head.size) / TILE_WIDTH, &row)?;
            }
        }
        if (self.frontier.size(), self.frontier.root()) != (head.size, head.root) {
            return finding(
                CHECKPOINT,
                None,
                "entries and tiles fit each other but not the signed root: both were changed, or the checkpoint is of \
                 another log",
            );
        }
        Ok(())
    }
}

fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = after;
    Some(entry)
}

/// Root of the first `size` leaves of a tree whose tiles were all found good.
fn root_at(snapshot: &Snapshot<'_>, size: u64) -> Result<Hash, Finding> {
    let empty = VecDeque::new();
    let reader = Reader::new(snapshot.dir, snapshot.head.size, &empty);
    for (tile, bytes) in snapshot.edge() {
        if let Some(hashes) = decode_hashes(bytes, tile.width).filter(|_| tile.level.is_some()) {
            reader.preload(*tile, hashes);
        }
    }
    Frontier::read(&reader, size)
        .map(|frontier| frontier.root())
        .or_else(|error| finding(CHECKPOINT, None, error.to_string()))
}
