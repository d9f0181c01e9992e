//! From the write-ahead log to the published tree: bundles and tiles first, then the checkpoint, then what is superseded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::LogError;
use super::files::{self, TEMPORARY, make_dir, replace, sync_dir};
use super::{CHECKPOINT, LogDir};
use crate::tile::{LEVELS_MAX, TILE_WIDTH, Tile, encode_bundle, encode_hashes, hashes_at, subtree_root};
use crate::tree::Hash;

/// What the published tree needs to follow the log, worked out in memory: writing it takes no part of the log, so that
/// nobody who appends waits for it.
#[derive(Debug)]
pub struct Publication {
    root: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
    note: String,
    size: u64,
}

impl Publication {
    /// Entries under its checkpoint.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes bundles and tiles, then the checkpoint over them.
    pub fn write(&self) -> Result<(), LogError> {
        let mut dirs = BTreeSet::new();
        for (name, bytes) in &self.files {
            if let Some(dir) = self.root.join(name).parent()
                && dirs.insert(dir.to_owned())
            {
                make_dir(dir, files::PUBLISHED_DIR)?;
            }
            replace(&self.root, name, TEMPORARY, bytes)?;
        }
        // The names must be there before the checkpoint that promises them.
        for dir in &dirs {
            sync_dir(dir)?;
        }
        replace(&self.root, Path::new(CHECKPOINT), TEMPORARY, self.note.as_bytes())?;
        sync_dir(&self.root)
    }
}

impl LogDir {
    /// Publishes everything that is durable. Does nothing if nothing is new.
    pub fn publish(&mut self) -> Result<(), LogError> {
        match self.prepare()? {
            None => Ok(()),
            Some(publication) => {
                let written = publication.write();
                self.published(publication, written)
            }
        }
    }

    /// The first of three steps of [`LogDir::publish`], for a writer that others wait for: prepare, then
    /// [`Publication::write`] without the log, then [`LogDir::published`]. One publication at a time.
    pub fn prepare(&self) -> Result<Option<Publication>, LogError> {
        self.sound()?;
        let size = self.size();
        let Some(note) = self.last_checkpoint().filter(|_| size > self.published_size) else {
            return Ok(None);
        };
        self.publication(size, note).map(Some)
    }

    /// The same up to the newest cosigned head, whose lines are published with it. Nothing where that is published already, or
    /// more than it.
    pub fn prepare_cosigned(&self) -> Result<Option<Publication>, LogError> {
        self.sound()?;
        let newer = |(size, note): &&(u64, String)| {
            *size > self.published_size
                || (*size == self.published_size && self.published_note.as_ref() != Some(note))
        };
        match self.cosigned.as_ref().filter(newer) {
            Some((size, note)) => self.publication(*size, note.clone()).map(Some),
            None => Ok(None),
        }
    }

    fn publication(&self, size: u64, note: String) -> Result<Publication, LogError> {
        let mut files = Vec::new();
        if size > self.published_size {
            self.add_bundles(size, &mut files)?;
            self.add_tiles(size, &mut files)?;
        }
        Ok(Publication { root: self.published.clone(), files, note, size })
    }

    /// Takes note of a publication, and removes what it replaced. After a failed one the log refuses everything.
    pub fn published(&mut self, done: Publication, written: Result<(), LogError>) -> Result<(), LogError> {
        self.sound()?;
        let written = written.and_then(|()| self.drop_superseded(done.size));
        self.guard(written)?;
        let new = usize::try_from(done.size - self.published_size).unwrap_or(usize::MAX);
        self.tail.drain(..new.min(self.tail.len()));
        self.published_size = done.size;
        self.published_note = Some(done.note);
        self.wal.forget(self.published_size);
        let dropped = self.wal.drop_published(self.published_size);
        self.guard(dropped)
    }

    fn add_bundles(&self, new: u64, files: &mut Vec<(PathBuf, Vec<u8>)>) -> Result<(), LogError> {
        let old = self.published_size;
        for index in old / TILE_WIDTH..new.div_ceil(TILE_WIDTH) {
            let Some(tile) = Tile::bundle(index, new) else {
                continue;
            };
            let first = index * TILE_WIDTH;
            let entries = self.entries(first..first + tile.width)?;
            let bytes = encode_bundle(&entries).ok_or(LogError::Append("an entry is too long"))?;
            files.push((PathBuf::from(tile.to_string()), bytes));
        }
        Ok(())
    }

    fn add_tiles(&self, new: u64, files: &mut Vec<(PathBuf, Vec<u8>)>) -> Result<(), LogError> {
        let old = self.published_size;
        let leaves = usize::try_from(new - old).unwrap_or(usize::MAX);
        let mut hashes: Vec<Hash> = self.tail.iter().take(leaves).copied().collect();
        for level in 0..LEVELS_MAX {
            if hashes.is_empty() {
                break;
            }
            let index = hashes_at(level, old) / TILE_WIDTH;
            let mut row = match Tile::of_tree(level, index, old) {
                Some(partial) => self.reader().tile(partial)?,
                None => Vec::new(),
            };
            row.append(&mut hashes);
            for (index, chunk) in (index..).zip(row.chunks(256)) {
                if let Some(tile) = Tile::of_tree(level, index, new) {
                    files.push((PathBuf::from(tile.to_string()), encode_hashes(chunk)));
                }
                if chunk.len() as u64 == TILE_WIDTH {
                    hashes.extend(subtree_root(chunk));
                }
            }
        }
        Ok(())
    }

    /// The partial tiles of the checkpoint that was replaced.
    fn drop_superseded(&self, new: u64) -> Result<(), LogError> {
        let old = self.published_size;
        let levels = (0..LEVELS_MAX).map(Some).chain([None]);
        for tile in levels.filter_map(|level| edge(level, old)) {
            if !tile.is_full() && !tile.belongs(new) {
                remove_partial(&self.published, &tile.to_string())?;
            }
        }
        Ok(())
    }
}

/// The last file of a level of hash tiles, or of the bundles.
fn edge(level: Option<u8>, size: u64) -> Option<Tile> {
    let last = hashes_at(level.unwrap_or(0), size).checked_sub(1)? / TILE_WIDTH;
    match level {
        Some(level) => Tile::of_tree(level, last, size),
        None => Tile::bundle(last, size),
    }
}

/// Removes partial tiles that a crash left behind, before or after a checkpoint was replaced. Full tiles stay: they are
/// right for every later checkpoint.
pub(super) fn remove_superseded(root: &Path, size: u64) -> Result<(), LogError> {
    let mut stale = Vec::new();
    files::walk(root, &mut |path| {
        let tile = path.to_str().and_then(Tile::parse);
        if tile.is_some_and(|tile| !tile.is_full() && !tile.belongs(size)) {
            stale.extend(path.to_str().map(str::to_owned));
        }
    })?;
    stale.iter().try_for_each(|path| remove_partial(root, path))
}

fn remove_partial(root: &Path, path: &str) -> Result<(), LogError> {
    let path = root.join(path);
    files::remove(&path)?;
    // Other partial tiles of the same number may still be in there; then this fails, as it should.
    path.parent().map_or(Ok(()), |dir| std::fs::remove_dir(dir).or(Ok(())))
}
