//! The log as keyd needs it, so that the commit path can be tried against a log that fails.

use std::ops::Range;

use translog::fs::{LogDir, LogError, Publication};
use translog::note::VerifierKey;
use translog::tree::Hash;

/// Why the log failed. Any failure to write is final.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
#[allow(clippy::exhaustive_structs)]
pub struct LogFailure(pub String);

/// The durable log.
pub trait DurableLog: Send + 'static {
    /// Durable entries.
    fn size(&self) -> u64;
    /// Root over them.
    fn root(&self) -> [u8; 32];
    /// The newest signed head.
    fn last_checkpoint(&self) -> Option<String>;
    /// Makes entries durable with their signed head. After a failure the log refuses everything.
    fn append(&mut self, entries: &[Vec<u8>], checkpoint: &str) -> Result<(), LogFailure>;
    /// Entries by index.
    fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, LogFailure>;
    /// The tlog-proof of an entry under the newest signed head.
    fn proof(&self, index: u64) -> Result<String, LogFailure>;
    /// Proof that the head of the first `new` entries contains that of the first `old` ones.
    fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, LogFailure>;
    /// Takes a head of this log with its witnesses' lines; it is published before any newer one.
    fn cosigned(&mut self, note: &str) -> Result<(), LogFailure>;
    /// What the published log needs to follow the newest cosigned head; nothing if it does.
    fn prepare_cosigned(&self) -> Result<Option<Publication>, LogFailure>;
    /// What the published log needs to follow the durable one; nothing if it does.
    fn prepare(&self) -> Result<Option<Publication>, LogFailure>;
    /// Takes note of a publication that was written.
    fn published(&mut self, done: Publication, written: Result<(), LogError>) -> Result<(), LogFailure>;
    /// Publishes the log's verifier key.
    fn write_vkey(&mut self, vkey: &str) -> Result<(), LogFailure>;
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn failure(error: impl ToString) -> LogFailure {
    LogFailure(error.to_string())
}

impl DurableLog for LogDir {
    fn size(&self) -> u64 {
        Self::size(self)
    }

    fn root(&self) -> [u8; 32] {
        Self::root(self)
    }

    fn last_checkpoint(&self) -> Option<String> {
        Self::last_checkpoint(self)
    }

    fn append(&mut self, entries: &[Vec<u8>], checkpoint: &str) -> Result<(), LogFailure> {
        Self::append(self, entries, checkpoint).map_err(failure)
    }

    fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, LogFailure> {
        Self::entries(self, range).map_err(failure)
    }

    fn proof(&self, index: u64) -> Result<String, LogFailure> {
        Self::proof(self, index, Self::size(self)).map(|proof| proof.to_text()).map_err(failure)
    }

    fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, LogFailure> {
        Self::consistency(self, old, new).map_err(failure)
    }

    fn cosigned(&mut self, note: &str) -> Result<(), LogFailure> {
        Self::cosigned(self, note).map_err(failure)
    }

    fn prepare_cosigned(&self) -> Result<Option<Publication>, LogFailure> {
        Self::prepare_cosigned(self).map_err(failure)
    }

    fn prepare(&self) -> Result<Option<Publication>, LogFailure> {
        Self::prepare(self).map_err(failure)
    }

    fn published(&mut self, done: Publication, written: Result<(), LogError>) -> Result<(), LogFailure> {
        Self::published(self, done, written).map_err(failure)
    }

    fn write_vkey(&mut self, vkey: &str) -> Result<(), LogFailure> {
        Self::write_vkey(self, &VerifierKey::parse(vkey).map_err(failure)?).map_err(failure)
    }
}
