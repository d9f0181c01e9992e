//! A batch on its way through one connection: verdicts out as frames come in, a log entry per 65,536 records, the total
//! in the last one (service-protocol §6).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::slice;

use translog::entry::{BatchEvent, BatchTotal, Event, FailuresEvent, SingleEvent, SingleRow};
use wire::batch::{
    BatchError, CHUNK_RECORDS, FRAME_RECORDS, GROUPS_MAX, Group, Profile, RECORD_LEN, Record, Verdict,
};
use wire::command::Id;
use wire::error::{Refusal, Refused};
use wire::frame::{BatchOpen, BatchResult, Counts, MAC_ITEMS_MAX, MacItem, MacVerdicts, VersionCounts};
use wire::key::{KeyVersion, Lineage};
use wire::tree16::{self, Tree};

use crate::check::{self, Keys, Wrong};
use crate::module::{Live, Module};

/// One client's open batch.
#[derive(Debug)]
pub(crate) struct Batch {
    id: Id,
    open: BatchOpen,
    groups: Vec<Group>,
    /// The same rows, to find one that comes twice.
    seen: HashSet<Group>,
    /// Their key versions.
    versions: BTreeSet<KeyVersion>,
    whole: Tally,
    part: Tally,
    parts: u64,
    wrong: Wrong,
    indices: Vec<u64>,
}

#[derive(Debug, Default)]
struct Tally {
    tree: Tree,
    counts: Counts,
    versions: BTreeMap<KeyVersion, Counts>,
}

impl Tally {
    fn add(&mut self, leaf: tree16::Hash, version: Option<KeyVersion>, verdict: Verdict) {
        self.tree.push(leaf);
        self.counts.add(verdict);
        if let Some(version) = version {
            self.versions.entry(version).or_default().add(verdict);
        }
    }

    fn versions(&self) -> Vec<VersionCounts> {
        self.versions
            .iter()
            .map(|(version, counts)| VersionCounts { version: *version, counts: *counts })
            .collect()
    }
}

impl Batch {
    /// Opens a batch for the client that keyd names.
    pub(crate) fn new(id: Id, open: BatchOpen) -> Self {
        let (whole, part) = (Tally::default(), Tally::default());
        Self {
            id,
            open,
            groups: Vec::new(),
            seen: HashSet::new(),
            versions: BTreeSet::new(),
            whole,
            part,
            parts: 0,
            wrong: Wrong::new(),
            indices: Vec::new(),
        }
    }

    /// The batch's id.
    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// Appends rows to the group table.
    pub(crate) fn add_groups(&mut self, groups: Vec<Group>) -> Result<(), Refused> {
        let refused = || Refused::new(Refusal::BatchGroups, BatchError::Groups.to_string());
        for group in groups {
            if self.groups.len() >= GROUPS_MAX || !self.seen.insert(group) {
                return Err(refused());
            }
            self.versions.insert(group.version);
            self.groups.push(group);
        }
        Ok(())
    }

    /// Checks a frame of records and gives a verdict byte for each.
    pub(crate) fn records(&mut self, module: &Module, bytes: &[u8]) -> Result<Vec<u8>, Refused> {
        let (records, rest) = bytes.as_chunks::<RECORD_LEN>();
        if !rest.is_empty() || !(1..=FRAME_RECORDS).contains(&records.len()) {
            return Err(Refused::new(Refusal::TooLarge, "a frame has 1 to 8192 whole records of 40 bytes"));
        }
        let parsed: Vec<Option<Record>> =
            records.iter().map(|bytes| Record::parse(bytes, self.open.profile)).collect();
        let keys = module.live(|live| {
            live.log.room()?;
            live.log.within_grace()?;
            Ok(Keys::of(live.log.state(), &live.keys, &self.open.lineage, &self.versions))
        })?;
        let frame = check::Frame {
            profile: self.open.profile,
            groups: &self.groups,
            keys: &keys,
            rows: records,
            records: &parsed,
        };
        let computed = check::compute(&frame);
        let wrong = &mut self.wrong;
        let verdicts = module.live(|live| {
            let Live { log, root, guard, .. } = live;
            Ok(check::judge(&frame, &computed, log.state(), root, guard, wrong))
        })?;
        for ((bytes, record), verdict) in records.iter().zip(&parsed).zip(&verdicts) {
            let version =
                record.and_then(|record| self.groups.get(usize::from(record.group))).map(|row| row.version);
            let leaf = tree16::leaf(bytes, *verdict);
            self.whole.add(leaf, version, *verdict);
            self.part.add(leaf, version, *verdict);
            if self.part.tree.leaves() == CHUNK_RECORDS {
                self.log_part(module, None, false)?;
            }
        }
        Ok(verdicts.into_iter().map(Verdict::byte).collect())
    }

    fn log_part(
        &mut self,
        module: &Module,
        total: Option<BatchTotal>,
        aborted: bool,
    ) -> Result<u64, Refused> {
        let part = std::mem::take(&mut self.part);
        let mut wrong = std::mem::take(&mut self.wrong);
        let event = BatchEvent {
            batch: self.id,
            client: self.open.client.clone(),
            profile: self.open.profile,
            lineage: self.open.lineage.clone(),
            part: self.parts,
            records: part.tree.leaves(),
            top: part.tree.top(),
            counts: part.counts,
            versions: part.versions(),
            wrong: Vec::new(),
            total,
            aborted,
        };
        // What was checked is logged, whatever the witnesses do.
        let index = module.live_unseen(|live| {
            let wrong = live.spill(&module.random, &mut wrong)?;
            live.log_checked(
                &module.random,
                Event::Batch(BatchEvent { wrong: wrong.clone(), ..event }),
                &wrong,
            )
        })?;
        self.parts += 1;
        self.indices.push(index);
        Ok(index)
    }

    /// Closes the batch: the last entry carries the total; the result waits under its index until that is durable.
    pub(crate) fn close(mut self, module: &Module) -> Result<u64, Refused> {
        let header = wire::batch::BatchHeader {
            profile: self.open.profile,
            lineage: self.open.lineage.clone(),
            groups: std::mem::take(&mut self.groups),
        };
        let records = self.whole.tree.leaves();
        let total = BatchTotal {
            records,
            root: tree16::root(records, &header.to_bytes(), &self.whole.tree.top()),
            counts: self.whole.counts,
            versions: self.whole.versions(),
        };
        let result = BatchResult {
            batch: self.id,
            client: self.open.client.clone(),
            profile: self.open.profile,
            lineage: self.open.lineage.clone(),
            records,
            root: total.root,
            counts: total.counts,
            versions: total.versions.clone(),
            indices: Vec::new(),
        };
        let index = self.log_part(module, Some(total), false)?;
        let indices = self.indices;
        module.live_unseen(|live| {
            live.keep(index, BatchResult { indices, ..result });
            Ok(())
        })?;
        Ok(index)
    }

    /// The connection ended: what was checked is in the log all the same.
    pub(crate) fn abort(mut self, module: &Module) {
        // A module that left the Operational state meanwhile has nothing to log with.
        let _ = self.log_part(module, None, true);
    }
}

/// Clients and keys that one entry names at most, so that it stays below the length of an entry.
const SINGLE_ROWS_MAX: usize = 64;

/// Single checks of one commit window: one frame, and one entry for as many clients as fit into it.
pub(crate) fn singles(module: &Module, items: &[MacItem]) -> Result<MacVerdicts, Refused> {
    if !(1..=MAC_ITEMS_MAX).contains(&items.len()) {
        return Err(Refused::new(Refusal::TooLarge, "a frame has 1 to 1024 single checks"));
    }
    let mut verdicts = Vec::with_capacity(items.len());
    let mut window = Window::default();
    for item in items {
        if window.rows.len() == SINGLE_ROWS_MAX {
            std::mem::take(&mut window).log(module)?;
        }
        let verdict = single(module, item, &mut window.wrong)?;
        window.tree.push(tree16::leaf(&item.record, verdict));
        let row = window.rows.entry((item.client.clone(), item.lineage.clone())).or_default();
        row.entry(item.group.version).or_default().add(verdict);
        verdicts.push(verdict.byte());
    }
    // Entries are durable in order: the last one stands for all.
    let ticket = window.log(module)?;
    Ok(MacVerdicts { verdicts: verdicts.into(), ticket })
}

/// What goes into one entry of single checks.
#[derive(Default)]
struct Window {
    tree: Tree,
    rows: BTreeMap<(String, Lineage), BTreeMap<KeyVersion, Counts>>,
    wrong: Wrong,
}

impl Window {
    fn log(mut self, module: &Module) -> Result<u64, Refused> {
        let rows = self.rows.into_iter().map(|((client, lineage), versions)| {
            let versions = versions.into_iter().map(|(version, counts)| VersionCounts { version, counts });
            SingleRow { client, lineage, versions: versions.collect() }
        });
        let event = SingleEvent { top: self.tree.top(), rows: rows.collect(), wrong: Vec::new() };
        module.live_unseen(|live| {
            let wrong = live.spill(&module.random, &mut self.wrong)?;
            live.log_checked(
                &module.random,
                Event::Single(SingleEvent { wrong: wrong.clone(), ..event }),
                &wrong,
            )
        })
    }
}

fn single(module: &Module, item: &MacItem, wrong: &mut Wrong) -> Result<Verdict, Refused> {
    let groups = [item.group];
    let records = [Record::parse(&item.record, item.profile).map(|record| Record { group: 0, ..record })];
    let profile: Profile = item.profile;
    let keys = module.live(|live| {
        live.log.room()?;
        live.log.within_grace()?;
        let versions = BTreeSet::from([item.group.version]);
        Ok(Keys::of(live.log.state(), &live.keys, &item.lineage, &versions))
    })?;
    let rows = slice::from_ref(&item.record);
    let frame = check::Frame { profile, groups: &groups, keys: &keys, rows, records: &records };
    let computed = check::compute(&frame);
    let verdicts = module.live(|live| {
        let Live { log, root, guard, .. } = live;
        Ok(check::judge(&frame, &computed, log.state(), root, guard, wrong))
    })?;
    Ok(verdicts.first().copied().unwrap_or(Verdict::Malformed))
}

/// An entry that carries nothing but wrong pairs.
pub(crate) fn failures(wrong: Vec<translog::entry::WrongPairs>) -> Event {
    Event::Failures(FailuresEvent { wrong })
}
