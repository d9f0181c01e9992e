//! One checkpoint and the files that stand under it, while the log's writer may go on.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::head::Head;
use super::source::Source;
use super::{CHECKPOINT, Finding, VKEY, finding, unreadable};
use crate::policy::Policy;
use crate::tile::{LEVELS_MAX, TILE_HEIGHT, TILE_WIDTH, Tile, decode_hashes, hashes_at, subtree_root};
use crate::tree::{Frontier, Hash, HashReader};

/// A writer publishes about once a second and is done within a fraction of it; so often we look again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Full tiles never change; the others go when a newer checkpoint comes, and so they are read at once.
pub(super) struct Snapshot<'a> {
    source: &'a dyn Source,
    pub(super) head: Head,
    edge: BTreeMap<Tile, Vec<u8>>,
}

impl<'a> Snapshot<'a> {
    pub(super) fn take(source: &'a dyn Source, policy: &Policy) -> Result<Self, Finding> {
        let mut last = None;
        for _ in 0..TRIES {
            let head = read_head(source, policy)?;
            if head.size == 0 {
                return finding(CHECKPOINT, None, "the log is empty: it has no genesis");
            }
            match read_edge(source, head.size) {
                Ok(edge) => return Ok(Self { source, head, edge }),
                // Under the same checkpoint twice it is not the writer who took the file away.
                Err(found) if !source.is_live() || last.as_ref() == Some(&head) => return Err(found),
                Err(_) => {}
            }
            last = Some(head);
        }
        finding(CHECKPOINT, None, "the log grows faster than it can be read; verify a copy of the directory")
    }

    /// A file's bytes.
    pub(super) fn read(&self, tile: Tile) -> Result<Vec<u8>, Finding> {
        match self.edge.get(&tile) {
            Some(bytes) => Ok(bytes.clone()),
            None => read_file(self.source, &tile.to_string(), first_entry(tile)),
        }
    }

    /// The hashes of a tile.
    pub(super) fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, Finding> {
        let bytes = self.read(tile)?;
        let Some(hashes) = decode_hashes(&bytes, tile.width) else {
            return finding(tile, None, format!("it is not {} hashes of 32 bytes", tile.width));
        };
        Ok(hashes)
    }

    /// Root of the first `size` leaves, from the tiles.
    pub(super) fn root_at(&self, size: u64) -> Result<Hash, Finding> {
        let tiles = Tiles { snapshot: self, read: RefCell::default() };
        Frontier::read(&tiles, size).map(|frontier| frontier.root())
    }

    /// Refuses files that are neither of this checkpoint nor of a newer one that is just being published.
    pub(super) fn check_strays(&self, policy: &Policy) -> Result<(), Finding> {
        let mut strays = self.besides(&[self.head.size])?;
        for _ in 0..TRIES {
            if strays.is_empty() || !self.source.is_live() {
                break;
            }
            std::thread::sleep(PAUSE);
            let newer = read_head(self.source, policy)?;
            if newer.size < self.head.size {
                return finding(CHECKPOINT, None, "the log became shorter while it was verified");
            }
            let there = self.besides(&[self.head.size, newer.size])?;
            strays.retain(|name| there.contains(name));
        }
        strays.first().map_or(Ok(()), |name| {
            finding(name, None, "it does not belong in the published tree of this checkpoint")
        })
    }

    fn besides(&self, sizes: &[u64]) -> Result<Vec<String>, Finding> {
        let names = self.source.names().or_else(|error| unreadable("tile", None, &error))?;
        let mut names = names.unwrap_or_default();
        names.retain(|name| !sizes.iter().any(|size| belongs(name, *size)));
        Ok(names)
    }
}

/// Hashes of complete subtrees, read from tiles.
struct Tiles<'a> {
    snapshot: &'a Snapshot<'a>,
    read: RefCell<HashMap<Tile, Vec<Hash>>>,
}

impl HashReader for Tiles<'_> {
    type Error = Finding;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Finding> {
        let (tile_level, height) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let first = index << height;
        let tile = u8::try_from(tile_level).ok();
        let tile = tile.and_then(|level| Tile::of_tree(level, first / TILE_WIDTH, self.snapshot.head.size));
        let missing = || finding(CHECKPOINT, None, "the published tree has no such subtree");
        let Some(tile) = tile else {
            return missing();
        };
        let mut read = self.read.borrow_mut();
        let hashes = match read.entry(tile) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(self.snapshot.hashes(tile)?),
        };
        let start = usize::try_from(first % TILE_WIDTH).unwrap_or(usize::MAX);
        let hashes = hashes.get(start..).and_then(|hashes| hashes.get(..1 << height));
        hashes.and_then(subtree_root).map_or_else(missing, Ok)
    }
}

fn belongs(name: &str, size: u64) -> bool {
    name == CHECKPOINT || name == VKEY || Tile::parse(name).is_some_and(|tile| tile.belongs(size))
}

/// The source may hold the log's key; then it is the one that signed the head and that the auditor brought, to the byte.
pub(super) fn check_vkey(source: &dyn Source, head: &Head) -> Result<(), Finding> {
    match source.read(VKEY) {
        Ok(Some(bytes)) if bytes == format!("{}\n", head.log).as_bytes() => Ok(()),
        Ok(Some(_)) => finding(VKEY, None, "it is not the verifier key that this verification was given"),
        Ok(None) => Ok(()),
        Err(error) => unreadable(VKEY, None, &error),
    }
}

fn read_head(source: &dyn Source, policy: &Policy) -> Result<Head, Finding> {
    let bytes = read_file(source, CHECKPOINT, None)?;
    let Ok(note) = String::from_utf8(bytes) else {
        return finding(CHECKPOINT, None, "it is not text");
    };
    Head::open(&note, policy)
}

fn read_edge(source: &dyn Source, size: u64) -> Result<BTreeMap<Tile, Vec<u8>>, Finding> {
    let mut edge = BTreeMap::new();
    let bundle = Tile::bundle(size / TILE_WIDTH, size);
    let tiles =
        (0..LEVELS_MAX).filter_map(|level| Tile::of_tree(level, hashes_at(level, size) / TILE_WIDTH, size));
    for tile in bundle.into_iter().chain(tiles) {
        edge.insert(tile, read_file(source, &tile.to_string(), first_entry(tile))?);
    }
    Ok(edge)
}

/// A bundle or a level-0 tile that is gone names the entry that cannot be checked without it.
fn first_entry(tile: Tile) -> Option<u64> {
    tile.level.is_none_or(|level| level == 0).then_some(tile.index * TILE_WIDTH)
}

fn read_file(source: &dyn Source, name: &str, index: Option<u64>) -> Result<Vec<u8>, Finding> {
    match source.read(name) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => finding(name, index, "the file is missing"),
        Err(error) => unreadable(name, index, &error),
    }
}
