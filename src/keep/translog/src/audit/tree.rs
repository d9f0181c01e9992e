//! The hash side: tiles against each other, all of it against the signed root.

use super::chunk::Chunk;
use super::snapshot::Snapshot;
use super::{CHECKPOINT, Finding, finding};
use crate::tile::{LEVELS_MAX, TILE_WIDTH, Tile, hashes_at};
use crate::tree::{Frontier, Hash};

/// The part of the tree that is verified: per level the hashes whose tile is not whole yet.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    size: u64,
    rows: Vec<Vec<Hash>>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { size: 0, rows: vec![Vec::new(); usize::from(LEVELS_MAX)] }
    }

    /// Entries that are verified.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Root over them.
    pub(super) fn root(&self) -> Hash {
        self.root_with(self.rows.first().map_or(&[], Vec::as_slice))
    }

    /// Root over the verified whole tiles and `leaves` after them, fewer than a tile.
    pub(super) fn root_with(&self, leaves: &[Hash]) -> Hash {
        let above = self.rows.iter().skip(1).rev();
        Frontier::of_rows(above.map(Vec::as_slice).chain([leaves])).root()
    }

    /// Takes the next bundle, or the last one again after it grew.
    pub(super) fn take(&mut self, snapshot: &Snapshot<'_>, chunk: &Chunk) -> Result<(), Finding> {
        let first = chunk.bundle.index * TILE_WIDTH;
        if let Some(row) = self.rows.first_mut() {
            let same = row.iter().zip(&chunk.hashes).take_while(|(old, new)| old == new).count();
            if same < row.len() {
                return finding(
                    chunk.bundle,
                    first + same as u64,
                    "it is not the entry that was there before",
                );
            }
            row.clone_from(&chunk.hashes);
        }
        self.size = first + chunk.bundle.width;
        match chunk.root {
            Some(root) => {
                self.rows.first_mut().into_iter().for_each(Vec::clear);
                self.push(snapshot, 1, chunk.bundle.index, root)
            }
            None => Ok(()),
        }
    }

    /// Hash `index` of `level` is known; if it ends a tile, the tile's file is compared and its root goes up.
    fn push(&mut self, snapshot: &Snapshot<'_>, level: u8, index: u64, hash: Hash) -> Result<(), Finding> {
        let Some(row) = self.rows.get_mut(usize::from(level)) else {
            return Ok(());
        };
        row.push(hash);
        if row.len() as u64 != TILE_WIDTH {
            return Ok(());
        }
        let row = std::mem::take(row);
        let number = index / TILE_WIDTH;
        compare(snapshot, level, number, &row)?;
        match crate::tile::subtree_root(&row) {
            Some(root) => self.push(snapshot, level + 1, number, root),
            None => Ok(()),
        }
    }

    /// The partial tiles of the upper levels, and the root.
    pub(super) fn finish(&self, snapshot: &Snapshot<'_>) -> Result<(), Finding> {
        let head = &snapshot.head;
        for (level, row) in (0..LEVELS_MAX).zip(&self.rows).skip(1) {
            if !row.is_empty() {
                compare(snapshot, level, hashes_at(level, head.size) / TILE_WIDTH, row)?;
            }
        }
        if (self.size, self.root()) != (head.size, head.root) {
            let what = "entries and tiles fit each other but not the signed root: both were changed, or the checkpoint \
                        is of another log";
            return finding(CHECKPOINT, None, what);
        }
        Ok(())
    }
}

/// Compares computed hashes with a tile's file.
fn compare(snapshot: &Snapshot<'_>, level: u8, index: u64, row: &[Hash]) -> Result<(), Finding> {
    let Some(tile) = Tile::of_tree(level, index, snapshot.head.size) else {
        return finding(CHECKPOINT, None, "the tree has no such tile");
    };
    if snapshot.hashes(tile)? != row {
        return finding(tile, None, "its hashes are not those of the tiles below it");
    }
    Ok(())
}

/// An entry and its hash differ. The signed root tells which of the two was changed.
pub(super) fn blame(snapshot: &Snapshot<'_>, bundle: Tile, tile: Tile, index: u64) -> Finding {
    match leaves_root(snapshot) {
        Err(found) => found,
        Ok(root) if root == snapshot.head.root => Finding::new(
            bundle,
            index,
            "the entry is not the one under the signed root: it was changed or moved",
        ),
        Ok(_) => Finding::new(tile, index, "the entry's hash was changed, or the entry and its hash"),
    }
}

fn leaves_root(snapshot: &Snapshot<'_>) -> Result<Hash, Finding> {
    let size = snapshot.head.size;
    let mut frontier = Frontier::new();
    for tile in (0..size.div_ceil(TILE_WIDTH)).filter_map(|number| Tile::of_tree(0, number, size)) {
        snapshot.hashes(tile)?.into_iter().for_each(|hash| frontier.push(hash));
    }
    Ok(frontier.root())
}
