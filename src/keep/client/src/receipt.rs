//! What makes a receipt good. Nothing in a receipt is believed for standing there: the caller's own records and the verdicts
//! give the root, the root stands in a log entry, and the entry is in a tree whose head the pinned log key signed.

use translog::entry::{BatchTotal, Entry, Event};
use translog::note::VerifierKey;
use translog::proof::TlogProof;
use wire::api::Receipt;
use wire::batch::{BatchHeader, RECORD_LEN, Record, Verdict};
use wire::cbor::Cbor;
use wire::frame::{Counts, VersionCounts};
use wire::key::KeyVersion;
use wire::purse::{hex, to_hex};
use wire::tree16::{self, Hash, Tree};

/// What the caller trusts beforehand.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Pinned {
    /// Origin and key of the log.
    pub log: VerifierKey,
    /// The service's instance id, if known.
    pub instance: Option<[u8; 16]>,
}

/// Why a receipt is not good.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The module says that the batch was cut off.
    #[error("its log entry says that the batch was aborted")]
    Aborted,
    /// Receipt and log entry differ.
    #[error("its {0} is not what its log entry says")]
    Entry(&'static str),
    /// A format or suite that this program does not know.
    #[error("its format is not version 1, suite 1")]
    Format,
    /// The log entry is not the closing one of a batch.
    #[error("its log entry does not close a batch")]
    NotBatch,
    /// Receipt and the caller's own records differ.
    #[error("its {0} is not that of the records sent and the verdicts received")]
    Own(&'static str),
    /// Receipt and what the caller pinned differ.
    #[error("its {0} is not the pinned one")]
    Pinned(&'static str),
    /// The proof does not lead from the entry to a signed head of the pinned log.
    #[error("its log entry is not proved to be in the pinned log: {0}")]
    Proof(String),
    /// A field that cannot be read.
    #[error("its {0} cannot be read")]
    Unreadable(&'static str),
}

/// What records and verdicts add up to.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Totals {
    /// Records.
    pub records: u64,
    /// Tree root over header, records and verdicts.
    pub root: Hash,
    /// By verdict.
    pub counts: Counts,
    /// By key version, ascending; records without a readable group have none.
    pub versions: Vec<VersionCounts>,
}

/// Adds records and verdicts up, one at a time, in memory that does not grow.
#[derive(Debug)]
pub struct Recount<'a> {
    header: &'a BatchHeader,
    tree: Tree,
    counts: Counts,
    versions: Vec<Counts>,
}

impl<'a> Recount<'a> {
    /// Before the first record.
    pub fn new(header: &'a BatchHeader) -> Self {
        Self { header, tree: Tree::new(), counts: Counts::default(), versions: vec![Counts::default(); 256] }
    }

    /// The next record and its verdict.
    pub fn add(&mut self, record: &[u8; RECORD_LEN], verdict: Verdict) {
        self.tree.push(tree16::leaf(record, verdict));
        self.counts.add(verdict);
        let group = Record::parse(record, self.header.profile)
            .and_then(|record| self.header.groups.get(usize::from(record.group)));
        if let Some(counts) = group.and_then(|group| self.versions.get_mut(usize::from(group.version.0))) {
            counts.add(verdict);
        }
    }

    /// All of it.
    pub fn totals(&self) -> Totals {
        let records = self.tree.leaves();
        let rows = (0..=u8::MAX).zip(&self.versions);
        Totals {
            records,
            root: tree16::root(records, &self.header.to_bytes(), &self.tree.top()),
            counts: self.counts,
            versions: rows
                .filter(|(_, counts)| counts.total() > 0)
                .map(|(version, counts)| VersionCounts { version: KeyVersion(version), counts: *counts })
                .collect(),
        }
    }
}

/// Checks a receipt against the caller's own records and verdicts, and against the log.
pub fn check(
    receipt: &Receipt,
    header: &BatchHeader,
    own: &Totals,
    pinned: &Pinned,
) -> Result<(), ReceiptError> {
    let entered = check_log(receipt, pinned)?;
    let same = [
        ("profile", receipt.profile == header.profile.to_string()),
        ("lineage", receipt.lineage == header.lineage.as_str()),
        ("number of records", entered.records == own.records),
        ("counts", entered.counts == own.counts),
        ("counts by key version", entered.versions == own.versions),
        ("root", entered.root == own.root),
    ];
    first_false(same).map_or(Ok(()), |field| Err(ReceiptError::Own(field)))
}

/// Checks that everything in a receipt is what its log entry says, and that the pinned log has this entry. Without the
/// records this shows that *some* batch had this root and these counts.
pub fn check_log(receipt: &Receipt, pinned: &Pinned) -> Result<BatchTotal, ReceiptError> {
    if (receipt.version, receipt.suite) != (1, 1) {
        return Err(ReceiptError::Format);
    }
    check_pinned(receipt, pinned)?;
    let proof = TlogProof::parse(&receipt.proof).map_err(|error| ReceiptError::Proof(error.to_string()))?;
    let bytes = unhex(&receipt.entry).ok_or(ReceiptError::Unreadable("log entry"))?;
    proof.verify(&pinned.log, &bytes).map_err(|error| ReceiptError::Proof(error.to_string()))?;
    let entry = Entry::from_cbor(&bytes).map_err(|_| ReceiptError::Unreadable("log entry"))?;
    check_entry(receipt, &entry, proof.index)
}

fn check_pinned(receipt: &Receipt, pinned: &Pinned) -> Result<(), ReceiptError> {
    let instance = hex(receipt.instance.as_bytes()).ok_or(ReceiptError::Unreadable("instance"))?;
    if receipt.origin != pinned.log.name() {
        return Err(ReceiptError::Pinned("origin"));
    }
    if pinned.instance.is_some_and(|pinned| pinned != instance) {
        return Err(ReceiptError::Pinned("instance"));
    }
    Ok(())
}

fn check_entry(receipt: &Receipt, entry: &Entry, index: u64) -> Result<BatchTotal, ReceiptError> {
    let Event::Batch(event) = &entry.event else {
        return Err(ReceiptError::NotBatch);
    };
    if event.aborted {
        return Err(ReceiptError::Aborted);
    }
    let total = event.total.as_ref().ok_or(ReceiptError::NotBatch)?;
    let counts: Counts = receipt.counts.into();
    let ascending = receipt.indices.is_sorted_by(|a, b| a < b);
    let same = [
        ("format", entry.version == 1),
        ("place in the log", entry.seq == index),
        ("last index", receipt.indices.last() == Some(&index) && ascending),
        ("number of parts", event.part.checked_add(1) == Some(receipt.indices.len() as u64)),
        ("batch id", receipt.batch == to_hex(&event.batch)),
        ("client", receipt.client == event.client),
        ("profile", receipt.profile == event.profile.to_string()),
        ("lineage", receipt.lineage == event.lineage.as_str()),
        ("root", receipt.root == to_hex(&total.root)),
        ("number of records", receipt.records == total.records && total.records == total.counts.total()),
        ("counts", counts == total.counts),
        ("counts by key version", same_versions(receipt, &total.versions)),
    ];
    match first_false(same) {
        Some(field) => Err(ReceiptError::Entry(field)),
        None => Ok(total.clone()),
    }
}

fn same_versions(receipt: &Receipt, versions: &[VersionCounts]) -> bool {
    receipt.versions.len() == versions.len()
        && receipt.versions.iter().zip(versions).all(|(row, other)| {
            row.version == other.version.to_string() && Counts::from(row.counts) == other.counts
        })
}

fn first_false<const N: usize>(checks: [(&'static str, bool); N]) -> Option<&'static str> {
    checks.into_iter().find(|(_, holds)| !holds).map(|(field, _)| field)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| hex(pair).map(|[byte]: [u8; 1]| byte)).collect()
}
