//! Files against log: every card of a job stands in the published log under its licence, in the entry that the job names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use translog::entry::{Entry, Event};
use translog::note::{VerifierKey, open_checkpoint};
use translog::state::LogState;
use translog::tile::{TILE_WIDTH, Tile, decode_bundle};
use translog::tree::{Frontier, leaf_hash};
use wire::cbor::Cbor;
use wire::licence::CardSerial;
use wire::purse::{hex, to_hex};

use crate::job::{Job, JobError};

/// What the comparison found.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Reconciliation {
    /// Cards in the job's files.
    pub files: u64,
    /// Different cards that the log names under the licence.
    pub log: u64,
    /// The licence's count as the log's entries add up.
    pub counted: u64,
    /// Cards in the files that the log does not name in the entry that the job says.
    pub missing: Vec<String>,
    /// Cards that the log names and no file of this job has; other jobs under the same licence have theirs here.
    pub elsewhere: u64,
}

impl Reconciliation {
    /// Whether files and log agree.
    pub fn agrees(&self) -> bool {
        self.missing.is_empty() && self.log == self.counted && self.files + self.elsewhere == self.log
    }
}

/// Reads the whole published log, checked against `vkey`, and compares.
pub fn reconcile(job: &Job, log: &Path, vkey: &VerifierKey) -> Result<Reconciliation, JobError> {
    let wrong = |why: String| JobError::Answer(format!("the log in {}: {why}", log.display()));
    let licence = hex(job.parameters().licence.as_bytes()).unwrap_or_default();
    let (state, named) = read(log, vkey, &licence).map_err(wrong)?;
    let known = state.licence(&licence).ok_or_else(|| wrong("it knows no such licence".to_owned()))?;
    let mut cards: BTreeMap<CardSerial, BTreeSet<u64>> = BTreeMap::new();
    for (index, offset) in named {
        let serial = known.licence.serial_at(offset).unwrap_or_default();
        cards.entry(serial).or_default().insert(index);
    }
    let (mut files, mut missing, mut found) = (0, Vec::new(), BTreeSet::new());
    for (serial, index) in job.cards() {
        files += 1;
        if cards.get(&serial).is_some_and(|entries| entries.contains(&index)) {
            found.insert(serial);
        } else {
            missing.push(to_hex(&serial));
        }
    }
    let (log, counted) = (cards.len() as u64, known.issued());
    let elsewhere = log - found.len() as u64;
    Ok(Reconciliation { files, log, counted, missing, elsewhere })
}

type Named = Vec<(u64, u64)>;

/// The log's state, and (entry, offset) of every card of the licence.
fn read(dir: &Path, vkey: &VerifierKey, licence: &[u8; 16]) -> Result<(LogState, Named), String> {
    let text = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let note = text(&dir.join("checkpoint"))?;
    let head = open_checkpoint(&note, vkey).map_err(|error| error.to_string())?;
    let head = head.checkpoint();
    let (mut state, mut tree, mut named) = (LogState::new(), Frontier::new(), Vec::new());
    for number in 0..head.size.div_ceil(TILE_WIDTH) {
        let tile = Tile::bundle(number, head.size).ok_or("a bundle is out of place")?;
        let path = dir.join(tile.to_string());
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for bytes in decode_bundle(&bytes, tile.width).ok_or("a bundle cannot be read")? {
            let entry = Entry::from_cbor(bytes).map_err(|error| error.to_string())?;
            state.apply(&entry).map_err(|error| error.to_string())?;
            tree.push(leaf_hash(bytes));
            if let Event::Issued(event) = &entry.event
                && event.licence == *licence
            {
                named.extend(event.cards.iter().map(|card| (entry.seq, card.offset)));
            }
        }
    }
    if tree.root() == head.root {
        Ok((state, named))
    } else {
        Err("its entries do not lead to its head".to_owned())
    }
}
