//! The writer of a log: acknowledged into the write-ahead log, published as C2SP tiles (SPEC.md §WAL, §Publication).
//!
//! It signs nothing and checks no signature: the module does both. It keeps what it was given, in order, for ever.

mod crc32c;
mod error;
pub(crate) mod files;
mod group;
mod publish;
pub(crate) mod reader;
mod wal;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::entry::ENTRY_MAX;
use crate::note::{VerifierKey, unverified};
use crate::proof::TlogProof;
use crate::tile::{TILE_WIDTH, Tile, decode_bundle};
use crate::tree::{Frontier, Hash, consistency_proof, inclusion_path, leaf_hash};

pub use error::LogError;
use error::{at, damaged};
use files::{make_dir, replace, sync_dir};
pub use publish::Publication;
use reader::Reader;
use wal::Wal;

pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const VKEY: &str = "vkey";

/// A log's two directories, opened by their one writer.
///
/// After the first failed write or sync it refuses everything: what is on the disk is then unknown, and only a new
/// [`LogDir::open`] reads it.
#[derive(Debug)]
pub struct LogDir {
    published: PathBuf,
    wal: Wal,
    frontier: Frontier,
    /// Size of the published checkpoint.
    published_size: u64,
    published_note: Option<String>,
    /// The newest head that witnesses cosigned in this run.
    cosigned: Option<(u64, String)>,
    /// Leaf hashes from `published_size` on.
    tail: VecDeque<Hash>,
    cut_bytes: u64,
    poisoned: bool,
}

impl LogDir {
    /// Opens a log, or begins one. A write that a crash cut off is removed ([`LogDir::cut_bytes`]); any other damage
    /// refuses, and so does a second writer.
    pub fn open(published: &Path, wal: &Path) -> Result<Self, LogError> {
        make_dir(published, files::PRIVATE_DIR)?;
        for left in [files::TEMPORARY, files::TEMPORARY_VKEY] {
            files::remove(&published.join(left))?;
        }
        let (published_note, size, frontier) = read_published(published)?;
        let mut tail = Tail { published: size, frontier, leaves: VecDeque::new(), end: None };
        let (mut wal, cut_bytes) = Wal::open(wal, |path, group| tail.take(path, group))?;
        if tail.end.is_some_and(|end| end < size) {
            wal.clear()?;
        }
        wal.forget(size);
        publish::remove_superseded(published, size)?;
        let mut log = Self {
            published: published.to_owned(),
            wal,
            frontier: tail.frontier,
            published_size: size,
            published_note,
            cosigned: None,
            tail: tail.leaves,
            cut_bytes,
            poisoned: false,
        };
        if log.size() > size {
            // A crash may have left tiles beyond the checkpoint; auditors need not wait for the module to see them whole.
            log.publish()?;
        }
        Ok(log)
    }

    /// Entries in the log, all of them durable.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Root over them.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Entries under the published checkpoint.
    pub fn published_size(&self) -> u64 {
        self.published_size
    }

    /// Bytes of an unacknowledged write that [`LogDir::open`] found cut off and removed; 0 after an orderly stop.
    pub fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }

    /// The checkpoint over the whole log, as it was appended.
    pub fn last_checkpoint(&self) -> Option<String> {
        let newest = self.wal.last().map(|place| place.note.as_str());
        newest.or(self.published_note.as_deref()).map(str::to_owned)
    }

    /// Makes entries and the signed head over them durable. When this returns `Ok` they are there after any restart.
    pub fn append(&mut self, entries: &[impl AsRef<[u8]>], checkpoint_note: &str) -> Result<(), LogError> {
        self.sound()?;
        if entries.is_empty() || entries.iter().any(|entry| entry.as_ref().len() > ENTRY_MAX) {
            return Err(LogError::Append("a group has entries, each of at most 65535 bytes"));
        }
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry.as_ref())).collect();
        let mut frontier = self.frontier.clone();
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        let head =
            unverified(checkpoint_note).ok_or(LogError::Append("the checkpoint is not a signed note"))?;
        if (head.size, head.root) != (frontier.size(), frontier.root()) {
            return Err(LogError::Append("the checkpoint is not the head of the log with these entries"));
        }
        let written = self.wal.append(self.frontier.size(), entries, checkpoint_note);
        self.guard(written)?;
        self.frontier = frontier;
        self.tail.extend(leaves);
        Ok(())
    }

    /// Entries by index.
    pub fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, LogError> {
        self.sound()?;
        let size = self.size();
        if range.end > size {
            let index = range.start.max(size);
            return Err(LogError::Range { index, size });
        }
        let mut out = Vec::new();
        let published = range.start..range.end.min(self.published_size);
        if !published.is_empty() {
            self.bundles(published, &mut out)?;
        }
        self.wal.entries(range.start.max(self.published_size), range.end, &mut out)?;
        if out.len() as u64 == range.end.saturating_sub(range.start) {
            Ok(out)
        } else {
            damaged(&self.published, "bundles and write-ahead log do not give all entries")
        }
    }

    fn bundles(&self, range: Range<u64>, out: &mut Vec<Vec<u8>>) -> Result<(), LogError> {
        for index in range.start / TILE_WIDTH..range.end.div_ceil(TILE_WIDTH) {
            let Some(tile) = Tile::bundle(index, self.published_size) else {
                continue;
            };
            let path = self.published.join(tile.to_string());
            let bytes = std::fs::read(&path).map_err(at(&path))?;
            let Some(entries) = decode_bundle(&bytes, tile.width) else {
                return damaged(&path, "this is not a bundle of as many entries as its name says");
            };
            let wanted = (index * TILE_WIDTH..).zip(entries);
            let wanted = wanted.filter(|(index, _)| range.contains(index));
            out.extend(wanted.map(|(_, entry)| entry.to_vec()));
        }
        Ok(())
    }

    /// Proof of the entry at `index` under the head of `size`: the newest, the published one, or one in between that was
    /// appended with a group.
    pub fn proof(&self, index: u64, size: u64) -> Result<TlogProof, LogError> {
        self.sound()?;
        if index >= size || size > self.size() {
            let size = size.min(self.size());
            return Err(LogError::Range { index, size });
        }
        let published = self.published_note.as_deref().filter(|_| size == self.published_size);
        let checkpoint = published.or_else(|| self.wal.note(size));
        Ok(TlogProof {
            index,
            checkpoint: checkpoint.ok_or(LogError::NoCheckpoint(size))?.to_owned(),
            path: inclusion_path(&self.reader(), index, size)?,
        })
    }

    /// Proof that the head of the first `new` entries contains that of the first `old` ones.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, LogError> {
        self.sound()?;
        if new > self.size() || old > new {
            return Err(LogError::Range { index: old.max(new), size: self.size() });
        }
        consistency_proof(&self.reader(), old, new)
    }

    /// Takes a head of this log with its witnesses' lines, to be published as it is ([`LogDir::prepare_cosigned`]). One that is
    /// older than what is published says nothing any more.
    pub fn cosigned(&mut self, note: &str) -> Result<(), LogError> {
        self.sound()?;
        let head =
            unverified(note).ok_or(LogError::Append("the cosigned checkpoint is not a signed note"))?;
        let same_head = |own: &str| note.starts_with(own);
        let published = self.published_note.as_deref().filter(|_| head.size == self.published_size);
        let is_ours = match self.wal.note(head.size) {
            Some(own) => same_head(own),
            None => {
                head.size < self.published_size
                    || published.and_then(unverified).is_some_and(|published| published == head)
            }
        };
        if !is_ours {
            return Err(LogError::Append("the cosigned checkpoint is not a head of this log"));
        }
        if self.cosigned.as_ref().is_none_or(|(size, _)| *size <= head.size) {
            self.cosigned = Some((head.size, note.to_owned()));
        }
        Ok(())
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new(&self.published, self.published_size, &self.tail)
    }

    /// Puts the log's verifier key beside the checkpoint, for people who fetch the directory. Another key is refused.
    pub fn write_vkey(&mut self, key: &VerifierKey) -> Result<(), LogError> {
        self.sound()?;
        let path = self.published.join(VKEY);
        let line = format!("{key}\n");
        match files::read(&path)? {
            Some(there) if there == line.as_bytes() => Ok(()),
            Some(_) => Err(LogError::VerifierKey(path)),
            None => {
                let vkey = Path::new(VKEY);
                let written = replace(&self.published, vkey, files::TEMPORARY_VKEY, line.as_bytes());
                let written = written.and_then(|()| sync_dir(&self.published));
                self.guard(written)
            }
        }
    }

    fn sound(&self) -> Result<(), LogError> {
        if self.poisoned { Err(LogError::Poisoned) } else { Ok(()) }
    }

    /// After a failed write or sync nothing is known any more.
    fn guard(&mut self, written: Result<(), LogError>) -> Result<(), LogError> {
        self.poisoned |= written.is_err();
        written
    }
}

fn read_published(published: &Path) -> Result<(Option<String>, u64, Frontier), LogError> {
    let path = published.join(CHECKPOINT);
    let Some(bytes) = files::read(&path)? else {
        return Ok((None, 0, Frontier::new()));
    };
    let note = String::from_utf8(bytes).ok();
    let Some((note, head)) = note.and_then(|note| unverified(&note).map(|head| (note, head))) else {
        return damaged(&path, "this is not a checkpoint");
    };
    let frontier = Frontier::read(&Reader::new(published, head.size, &VecDeque::new()), head.size)?;
    if frontier.root() != head.root {
        return damaged(&path, "the published tiles do not lead to its root");
    }
    Ok((Some(note), head.size, frontier))
}

/// What the write-ahead log adds to the published tree.
struct Tail {
    published: u64,
    frontier: Frontier,
    leaves: VecDeque<Hash>,
    end: Option<u64>,
}

impl Tail {
    fn take(&mut self, path: &Path, group: &group::Group<'_>) -> Result<(), LogError> {
        if self.end.is_none() && group.first > self.published {
            let (size, first) = (self.published, group.first);
            return damaged(path, format!("the published tree ends at {size} and this begins at {first}"));
        }
        for (index, entry) in (group.first..).zip(&group.entries) {
            if index >= self.published {
                let leaf = leaf_hash(entry);
                self.frontier.push(leaf);
                self.leaves.push_back(leaf);
            }
        }
        let end = group.first + group.entries.len() as u64;
        self.end = Some(end);
        let head = unverified(group.note);
        let leads = |size, root| head.is_some_and(|head| (head.size, head.root) == (size, root));
        if end >= self.published && !leads(end, self.frontier.root()) {
            return damaged(
                path,
                format!("the entries up to {end} do not lead to the head that was appended with them"),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
