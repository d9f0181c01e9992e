//! What the published log says: read from its directory, checked against the pinned log key. Which keys exist is asked
//! here and nowhere else, since a key exists if and only if the log says so.

use std::path::Path;
use std::time::{Duration, Instant};

use translog::entry::{Entry, Event, GenesisEvent};
use translog::note::{Checkpoint, VerifierKey, open_checkpoint};
use translog::state::LogState;
use translog::tile::{TILE_WIDTH, Tile, decode_bundle};
use translog::tree::{Frontier, Hash, leaf_hash};
use wire::cbor::Cbor;

use crate::failure::Failure;
use crate::files;

/// Publication may lag behind the commits by a second.
const PUBLICATION_WAIT: Duration = Duration::from_secs(15);

const POLL: Duration = Duration::from_millis(100);

/// A published head, its note, and what its entries add up to.
#[derive(Debug)]
pub(crate) struct Logbook {
    pub(crate) head: Checkpoint,
    pub(crate) note: String,
    pub(crate) state: LogState,
}

/// The published head of at least `size` entries, once it is there.
pub(crate) fn head(dir: &Path, vkey: &VerifierKey, size: u64) -> Result<(Checkpoint, String), Failure> {
    let deadline = Instant::now() + PUBLICATION_WAIT;
    loop {
        let found = read_head(dir, vkey);
        match &found {
            Ok((head, _)) if head.size >= size => return found,
            _ if Instant::now() < deadline => std::thread::sleep(POLL),
            Ok((head, _)) => {
                let (at, dir) = (head.size, dir.display());
                return Err(Failure::new(
                    format!("日志目录 {dir} 只发布到第 {at} 条,应有 {size} 条;请检查 keyd。"),
                    format!("the log in {dir} is published up to {at} entries, not {size}; look after keyd"),
                ));
            }
            Err(_) => return found,
        }
    }
}

fn read_head(dir: &Path, vkey: &VerifierKey) -> Result<(Checkpoint, String), Failure> {
    let note = files::read_text(&dir.join("checkpoint"), "the log's head")?;
    match open_checkpoint(&note, vkey) {
        Ok(verified) => Ok((verified.checkpoint().clone(), note)),
        Err(error) => {
            let dir = dir.display();
            Err(Failure::new(
                format!("{dir} 的日志头与登记的日志公钥不符;请停止并通知审计员。"),
                format!(
                    "the head in {dir} is not of this instance's log ({error}); stop and call the auditor"
                ),
            ))
        }
    }
}

/// Reads the published log of at least `size` entries.
pub(crate) fn read(dir: &Path, vkey: &VerifierKey, size: u64) -> Result<Logbook, Failure> {
    let deadline = Instant::now() + PUBLICATION_WAIT;
    loop {
        let (head, note) = head(dir, vkey, size)?;
        match replay(dir, &head) {
            Ok(state) => return Ok(Logbook { head, note, state }),
            // keyd has published a longer log meanwhile and removed the partial tiles of this one.
            Err(_) if Instant::now() < deadline && read_head(dir, vkey)?.0.size > head.size => {}
            Err(failure) => return Err(failure),
        }
    }
}

fn replay(dir: &Path, head: &Checkpoint) -> Result<LogState, Failure> {
    let (mut state, mut tree) = (LogState::new(), Frontier::new());
    for number in 0..head.size.div_ceil(TILE_WIDTH) {
        let tile = Tile::bundle(number, head.size).ok_or_else(|| damaged(dir, "a bundle is out of place"))?;
        let bytes = files::read(&dir.join(tile.to_string()), "the log's bundle")?;
        let entries =
            decode_bundle(&bytes, tile.width).ok_or_else(|| damaged(dir, "a bundle cannot be read"))?;
        for bytes in entries {
            let entry = Entry::from_cbor(bytes).map_err(|error| damaged(dir, &error.to_string()))?;
            state.apply(&entry).map_err(|error| damaged(dir, &error.to_string()))?;
            tree.push(leaf_hash(bytes));
        }
    }
    if tree.root() == head.root {
        Ok(state)
    } else {
        Err(damaged(dir, "its entries do not lead to the signed head"))
    }
}

/// The first entry of a log and its hash, which is the root over it alone. Whoever reads it here believes nothing that he
/// cannot compare with the genesis command that he keeps.
pub(crate) fn genesis(dir: &Path) -> Option<(GenesisEvent, Hash)> {
    let note = files::read_text(&dir.join("checkpoint"), "the log's head").ok()?;
    let size: u64 = note.lines().nth(1)?.parse().ok()?;
    let tile = Tile::bundle(0, size)?;
    let bytes = files::read(&dir.join(tile.to_string()), "the log's bundle").ok()?;
    let entries = decode_bundle(&bytes, tile.width)?;
    let first = entries.first()?;
    match Entry::from_cbor(first).ok()?.event {
        Event::Genesis(event) => Some((event, leaf_hash(first))),
        _ => None,
    }
}

fn damaged(dir: &Path, why: &str) -> Failure {
    let dir = dir.display();
    Failure::new(
        format!("日志 {dir} 不完整或被改动;请停止并通知审计员。"),
        format!("the log in {dir} is damaged ({why}); stop, and have the auditor verify it"),
    )
}

#[cfg(test)]
mod tests;
