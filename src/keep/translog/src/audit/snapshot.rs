//! One checkpoint and the files that stand under it, while the log's writer may go on.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{CHECKPOINT, Finding, VKEY, finding};
use crate::fs::files::walk;
use crate::note::{VerifiedCheckpoint, VerifierKey, open_checkpoint};
use crate::tile::{LEVELS_MAX, TILE_WIDTH, Tile, hashes_at};

/// A writer publishes about once a second and is done within a fraction of it; so often we look again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Full tiles never change; the others go when a newer checkpoint comes, and so they are read at once.
pub(super) struct Snapshot<'a> {
    pub(super) dir: &'a Path,
    pub(super) head: VerifiedCheckpoint,
    edge: BTreeMap<Tile, Vec<u8>>,
}

impl<'a> Snapshot<'a> {
    pub(super) fn take(dir: &'a Path, vkey: &VerifierKey) -> Result<Self, Finding> {
        let mut last = None;
        for _ in 0..TRIES {
            let head = read_head(dir, vkey)?;
            if head.size == 0 {
                return finding(CHECKPOINT, None, "the log is empty: it has no genesis");
            }
            match read_edge(dir, head.size) {
                Ok(edge) => return Ok(Self { dir, head, edge }),
                // Under the same checkpoint twice it is not the writer who took the file away.
                Err(found) if last.as_ref() == Some(&head) => return Err(found),
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
            None => read_file(self.dir, &tile.to_string(), first_entry(tile)),
        }
    }

    /// The partial tiles.
    pub(super) fn edge(&self) -> impl Iterator<Item = (&Tile, &Vec<u8>)> {
        self.edge.iter()
    }

    /// Refuses files that are neither of this checkpoint nor of a newer one that is just being published.
    pub(super) fn check_strays(&self, vkey: &VerifierKey) -> Result<(), Finding> {
        let mut strays = self.files_besides(self.head.size)?;
        for _ in 0..TRIES {
            if strays.is_empty() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
            let newer = read_head(self.dir, vkey)?;
            if newer.size < self.head.size {
                return finding(CHECKPOINT, None, "the log became shorter while it was verified");
            }
            // A link that leads nowhere is there all the same.
            strays
                .retain(|path| !belongs(path, newer.size) && self.dir.join(path).symlink_metadata().is_ok());
        }
        strays.first().map_or(Ok(()), |path| {
            finding(
                path.to_string_lossy(),
                None,
                "it does not belong in the published tree of this checkpoint",
            )
        })
    }

    fn files_besides(&self, size: u64) -> Result<Vec<PathBuf>, Finding> {
        let mut strays = Vec::new();
        let walked = walk(self.dir, &mut |path| {
            if !belongs(path, size) {
                strays.push(path.to_owned());
            }
        });
        walked.or_else(|error| finding("tile", None, error.to_string()))?;
        Ok(strays)
    }
}

fn belongs(path: &Path, size: u64) -> bool {
    // A name that is no text is none of ours.
    let Some(path) = path.to_str() else { return false };
    path == CHECKPOINT || path == VKEY || Tile::parse(path).is_some_and(|tile| tile.belongs(size))
}

/// The directory may hold its key; then it is the key that the auditor brought, to the byte.
pub(super) fn check_vkey(dir: &Path, vkey: &VerifierKey) -> Result<(), Finding> {
    match std::fs::read(dir.join(VKEY)) {
        Ok(bytes) if bytes == format!("{vkey}\n").as_bytes() => Ok(()),
        Ok(_) => finding(VKEY, None, "it is not the verifier key that this verification was given"),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => finding(VKEY, None, error.to_string()),
    }
}

fn read_head(dir: &Path, vkey: &VerifierKey) -> Result<VerifiedCheckpoint, Finding> {
    let bytes = read_file(dir, CHECKPOINT, None)?;
    let Ok(note) = String::from_utf8(bytes) else {
        return finding(CHECKPOINT, None, "it is not text");
    };
    open_checkpoint(&note, vkey).or_else(|error| finding(CHECKPOINT, None, error.to_string()))
}

fn read_edge(dir: &Path, size: u64) -> Result<BTreeMap<Tile, Vec<u8>>, Finding> {
    let mut edge = BTreeMap::new();
    let bundle = Tile::bundle(size / TILE_WIDTH, size);
    let tiles =
        (0..LEVELS_MAX).filter_map(|level| Tile::of_tree(level, hashes_at(level, size) / TILE_WIDTH, size));
    for tile in bundle.into_iter().chain(tiles) {
        edge.insert(tile, read_file(dir, &tile.to_string(), first_entry(tile))?);
    }
    Ok(edge)
}

/// A bundle or a level-0 tile that is gone names the entry that cannot be checked without it.
fn first_entry(tile: Tile) -> Option<u64> {
    tile.level.is_none_or(|level| level == 0).then_some(tile.index * TILE_WIDTH)
}

fn read_file(dir: &Path, name: &str, index: Option<u64>) -> Result<Vec<u8>, Finding> {
    std::fs::read(dir.join(name)).or_else(|error| match error.kind() {
        ErrorKind::NotFound => finding(name, index, "the file is missing"),
        _ => finding(name, index, error.to_string()),
    })
}
