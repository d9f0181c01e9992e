//! Open batches: their parts follow each other, and the total is the sum of the parts.

use std::collections::BTreeMap;

use wire::batch::CHUNK_RECORDS;
use wire::command::Id;
use wire::frame::{Counts, VersionCounts};
use wire::key::KeyVersion;

use super::{ReplayError, ensure};
use crate::entry::BatchEvent;

/// Batches that have a part in the log and no last one. Not in the state root: it follows from the entries of this boot.
#[derive(Clone, Debug, Default)]
pub(super) struct Batches {
    open: BTreeMap<Id, Sum>,
}

/// What the parts so far add up to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Sum {
    client: String,
    parts: u64,
    records: u64,
    counts: Counts,
    versions: BTreeMap<KeyVersion, Counts>,
}

impl Batches {
    /// The batches after `event`, if it can come now.
    pub(super) fn with(&self, event: &BatchEvent) -> Result<Self, ReplayError> {
        let fresh = || Sum { client: event.client.clone(), ..Sum::default() };
        let mut sum = self.open.get(&event.batch).cloned().unwrap_or_else(fresh);
        ensure(
            event.part == sum.parts && event.client == sum.client,
            "a part is missing, doubled or of another client's batch",
        )?;
        ensure(
            event.records <= CHUNK_RECORDS && total(&event.counts) == Some(event.records),
            "the counts of a part are not those of its records",
        )?;
        let is_last = event.total.is_some() || event.aborted;
        ensure(is_last || event.records == CHUNK_RECORDS, "a part that is not the last one is not full")?;
        sum.add(event)?;
        if let Some(total) = &event.total {
            let versions: Vec<VersionCounts> = sum.rows().collect();
            let same = !event.aborted
                && (total.records, total.counts) == (sum.records, sum.counts)
                && total.versions == versions;
            ensure(same, "the total of a batch is not the sum of its parts")?;
        }
        let mut open = self.open.clone();
        open.remove(&event.batch);
        if !is_last {
            open.insert(event.batch, sum);
        }
        Ok(Self { open })
    }
}

impl Sum {
    fn add(&mut self, event: &BatchEvent) -> Result<(), ReplayError> {
        let mut known = Counts::default();
        let mut last = None;
        for row in &event.versions {
            ensure(
                last < Some(row.version) && total(&row.counts).is_some_and(|total| total > 0),
                "the versions of a part are not in order, or one has no records",
            )?;
            last = Some(row.version);
            known.merge(&row.counts);
            self.versions.entry(row.version).or_default().merge(&row.counts);
        }
        let both = fields(&known).into_iter().zip(fields(&event.counts));
        ensure(
            both.into_iter().all(|(known, all)| known <= all),
            "the versions of a part count more than its records",
        )?;
        self.parts += 1;
        self.records += event.records;
        self.counts.merge(&event.counts);
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = VersionCounts> {
        self.versions.iter().map(|(version, counts)| VersionCounts { version: *version, counts: *counts })
    }
}

fn fields(counts: &Counts) -> [u64; 5] {
    let Counts { ok, bad_tac, unknown_key, malformed, withheld } = *counts;
    [ok, bad_tac, unknown_key, malformed, withheld]
}

/// The sum of a part's counts; `None` if one of them is more than a part can have, so that no sum ever overflows.
fn total(counts: &Counts) -> Option<u64> {
    let fields = fields(counts);
    let possible = fields.iter().all(|count| *count <= CHUNK_RECORDS);
    possible.then(|| fields.iter().sum())
}
