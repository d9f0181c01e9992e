//! The tree's hashes: published ones from tiles, the rest from the leaf hashes in memory.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::path::Path;

use super::error::{LogError, at, damaged};
use crate::tile::{TILE_HEIGHT, TILE_WIDTH, Tile, decode_hashes, subtree_root};
use crate::tree::{Hash, HashReader, node_hash};

/// Reads hashes for one proof; a tile is read once.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    root: &'a Path,
    published: u64,
    tail: &'a VecDeque<Hash>,
    tiles: RefCell<HashMap<Tile, Vec<Hash>>>,
}

impl<'a> Reader<'a> {
    /// Tiles below `root` hold the first `published` leaves, `tail` the ones after.
    pub(crate) fn new(root: &'a Path, published: u64, tail: &'a VecDeque<Hash>) -> Self {
        Self { root, published, tail, tiles: RefCell::default() }
    }

    /// All hashes of a tile.
    pub(super) fn tile(&self, tile: Tile) -> Result<Vec<Hash>, LogError> {
        if let Some(hashes) = self.tiles.borrow().get(&tile) {
            return Ok(hashes.clone());
        }
        let path = self.root.join(tile.to_string());
        let bytes = std::fs::read(&path).map_err(at(&path))?;
        let Some(hashes) = decode_hashes(&bytes, tile.width) else {
            return damaged(&path, "this is not a tile of as many hashes as its name says");
        };
        self.tiles.borrow_mut().insert(tile, hashes.clone());
        Ok(hashes)
    }

    fn published_subtree(&self, level: u32, index: u64) -> Result<Hash, LogError> {
        let (tile_level, height) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let first = index << height;
        let tile = u8::try_from(tile_level)
            .ok()
            .and_then(|level| Tile::of_tree(level, first / TILE_WIDTH, self.published));
        let missing = || damaged(self.root, "the published tree has no such subtree");
        let Some(tile) = tile else {
            return missing();
        };
        let hashes = self.tile(tile)?;
        let start = usize::try_from(first % TILE_WIDTH).unwrap_or(usize::MAX);
        let hashes = hashes.get(start..).and_then(|hashes| hashes.get(..1 << height));
        hashes.and_then(subtree_root).map_or_else(missing, Ok)
    }
}

impl HashReader for Reader<'_> {
    type Error = LogError;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, LogError> {
        if (index + 1) << level <= self.published {
            return self.published_subtree(level, index);
        }
        if level == 0 {
            let leaf = index.checked_sub(self.published).and_then(|at| usize::try_from(at).ok());
            return match leaf.and_then(|at| self.tail.get(at)) {
                Some(leaf) => Ok(*leaf),
                None => damaged(self.root, format!("the log has no leaf {index}")),
            };
        }
        let left = self.subtree(level - 1, 2 * index)?;
        Ok(node_hash(&left, &self.subtree(level - 1, 2 * index + 1)?))
    }
}
