//! A copy of a log's entries on the auditor's own disk. Nothing is stored before it was followed up to a head that the log
//! signed, and the copy is the published form itself: every verifier of a log's directory reads it.

mod tree;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::sleep;
use translog::note::{Checkpoint, VerifierKey, open_checkpoint};
use translog::tile::{
    LEVELS_MAX, TILE_WIDTH, Tile, decode_bundle, encode_bundle, encode_hashes, hashes_at, subtree_root,
};
use translog::tree::{Hash, leaf_hash};

use crate::config::MirrorConfig;
use crate::durable;
use crate::source::Source;
use crate::witness::Witness;

use self::tree::Tree;

const EVERY: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

const CHECKPOINT: &str = "checkpoint";
const VKEY: &str = "vkey";

/// Copies what is new, again and again. What fails is said once and tried again, ever more slowly.
pub async fn keep(config: &MirrorConfig, log: &VerifierKey, witness: &Arc<Witness>) -> Result<Infallible> {
    let mut mirror = Mirror::open(config, log)?;
    let (mut pause, mut said) = (EVERY, String::new());
    loop {
        match mirror.round(Some(witness)).await {
            Ok(copied) => {
                if copied > 0 {
                    tracing::info!(log = log.name(), copied, size = mirror.size(), "entries were mirrored");
                }
                (pause, said) = (EVERY, String::new());
            }
            Err(error) => {
                let sentence = format!("{error:#}");
                if said != sentence {
                    tracing::error!(log = log.name(), "not mirrored: {sentence}");
                    said = sentence;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        sleep(pause).await;
    }
}

/// One log's copy.
#[derive(Debug)]
pub struct Mirror {
    log: VerifierKey,
    folder: PathBuf,
    source: Source,
    /// What is copied whole.
    held: Option<Checkpoint>,
}

impl Mirror {
    /// Opens a copy, or begins one.
    pub fn open(config: &MirrorConfig, log: &VerifierKey) -> Result<Self> {
        let folder = config.folder.clone();
        durable::make_dir(&folder, 0o755).with_context(|| folder.display().to_string())?;
        let held = held(&folder, log)?;
        Ok(Self { log: log.clone(), folder, source: Source::open(config)?, held })
    }

    /// Whether it could be opened; nothing is made.
    pub fn check(config: &MirrorConfig, log: &VerifierKey) -> Result<()> {
        held(&config.folder, log)?;
        Source::open(config).map(drop)
    }

    /// Entries that are copied.
    pub fn size(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.size)
    }

    /// Copies up to the published checkpoint; how many entries were new. The published one must contain what `witness`
    /// has cosigned.
    pub async fn round(&mut self, witness: Option<&Arc<Witness>>) -> Result<u64> {
        let Some(note) = self.source.get(CHECKPOINT).await? else {
            return Ok(0);
        };
        let note = String::from_utf8(note).context("the published checkpoint is not text")?;
        let head =
            open_checkpoint(&note, &self.log).context("the published checkpoint")?.checkpoint().clone();
        let mut known: Vec<Checkpoint> = self.held.iter().cloned().collect();
        if let Some(witness) = witness {
            witness.meet(&self.log, &note).context("the published checkpoint")?;
            known.extend(witness.head(&self.log));
        }
        if self.held.as_ref() == Some(&head) {
            return Ok(0);
        }
        if head.size < self.size() {
            bail!(
                "the published log has {} entries, this copy {}: it was set back; keep this copy, it is evidence",
                head.size,
                self.size()
            );
        }
        let old = self.size();
        self.copy(&head, &known).await?;
        self.finish(&head, &note)?;
        Ok(head.size - old)
    }

    /// Entries and tiles from the first incomplete bundle on.
    async fn copy(&mut self, head: &Checkpoint, known: &[Checkpoint]) -> Result<()> {
        let first = self.size() / TILE_WIDTH;
        let mut tree = Tree::open(&mut self.source, head).await?;
        for known in known.iter().filter(|known| known.size <= head.size) {
            if tree.prefix_root(known.size).await? != known.root {
                bail!(
                    "the published log does not contain the head of {} entries that is known here: it forked; keep this copy, it is evidence / 日志出现分叉,请保留证据",
                    known.size
                );
            }
        }
        let mut files = Files { folder: &self.folder, dirs: BTreeSet::new() };
        for index in first..head.size.div_ceil(TILE_WIDTH) {
            let Some(tile) = Tile::bundle(index, head.size) else {
                continue;
            };
            let bytes = tree.get(&tile.to_string()).await?;
            let entries =
                decode_bundle(&bytes, tile.width).with_context(|| format!("{tile} is no bundle"))?;
            let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
            let true_ones = if tile.is_full() {
                subtree_root(&leaves) == Some(tree.hash(1, index).await?)
            } else {
                leaves == tree.edge(0)
            };
            if !true_ones {
                bail!(
                    "{tile}: these entries are not under the signed head; the source was changed / 条目与签名不符"
                );
            }
            let bundle = encode_bundle(&entries).context("an entry is too long")?;
            files.write(&tile, &bundle)?;
            files.write(&Tile { level: Some(0), ..tile }, &encode_hashes(&leaves))?;
        }
        for (tile, hashes) in tree.fetched.drain(..) {
            files.write(&tile, &encode_hashes(&hashes))?;
        }
        for level in 1..LEVELS_MAX {
            let hashes = tree.edge(level);
            let tile = Tile::of_tree(level, hashes_at(level, head.size) / TILE_WIDTH, head.size);
            if let Some(tile) = tile.filter(|_| !hashes.is_empty()) {
                files.write(&tile, &encode_hashes(hashes))?;
            }
        }
        files.sync()
    }

    /// The checkpoint over what is there now; then the partial tiles of the one before go.
    fn finish(&mut self, head: &Checkpoint, note: &str) -> Result<()> {
        let at = || self.folder.display().to_string();
        if !self.folder.join(VKEY).exists() {
            durable::replace(&self.folder, VKEY, format!("{}\n", self.log).as_bytes()).with_context(at)?;
        }
        durable::replace(&self.folder, CHECKPOINT, note.as_bytes()).with_context(at)?;
        let old = self.size();
        self.held = Some(head.clone());
        for level in (0..LEVELS_MAX).map(Some).chain([None]) {
            let Some(last) = hashes_at(level.unwrap_or(0), old).checked_sub(1).map(|last| last / TILE_WIDTH)
            else {
                continue;
            };
            let tile = match level {
                Some(level) => Tile::of_tree(level, last, old),
                None => Tile::bundle(last, old),
            };
            if let Some(tile) = tile.filter(|tile| !tile.is_full() && !tile.belongs(head.size)) {
                let path = self.folder.join(tile.to_string());
                fs::remove_file(&path).with_context(|| path.display().to_string())?;
                // Fails while other partial tiles are in there, as it should.
                let _ = path.parent().map(fs::remove_dir);
            }
        }
        Ok(())
    }
}

/// The head that a folder is copied to.
fn held(folder: &Path, log: &VerifierKey) -> Result<Option<Checkpoint>> {
    let path = folder.join(CHECKPOINT);
    if !path.exists() {
        return Ok(None);
    }
    let note = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let head = open_checkpoint(&note, log)
        .with_context(|| format!("{}: this folder holds something else", path.display()))?;
    Ok(Some(head.checkpoint().clone()))
}

/// Files of the copy, and the directories whose names are not durable yet.
struct Files<'a> {
    folder: &'a Path,
    dirs: BTreeSet<PathBuf>,
}

impl Files<'_> {
    fn write(&mut self, tile: &Tile, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(tile.to_string());
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            bail!("{tile} has no place");
        };
        durable::make_dir(dir, 0o755)
            .and_then(|()| durable::write_synced(dir, &name.to_string_lossy(), bytes))
            .with_context(|| path.display().to_string())?;
        let inside = dir.ancestors().take_while(|dir| dir.starts_with(self.folder));
        self.dirs.extend(inside.map(Path::to_owned));
        Ok(())
    }

    fn sync(self) -> Result<()> {
        let synced = self.dirs.iter().try_for_each(|dir| durable::sync_dir(dir));
        synced.with_context(|| self.folder.display().to_string())
    }
}
