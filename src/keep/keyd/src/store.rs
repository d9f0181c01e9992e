//! Where sealed records lie. keyd can't read them; the module checks the set against the log.

mod memory;
mod sled;
mod snapshot;

pub use self::memory::MemoryStore;
pub use self::sled::SledStore;
pub(crate) use self::sled::sync_dir;
pub use self::snapshot::{Snapshot, SnapshotError};

/// A record: its id and its sealed bytes.
pub type Record = (String, Vec<u8>);

/// Why the store failed. A failed write is final.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file operation failed.
    #[error("the store of sealed records cannot {what}: {error}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        error: std::io::Error,
    },
    /// The engine failed.
    #[error("the store of sealed records failed: {0}")]
    Engine(String),
    /// The snapshot beside it failed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// An earlier write failed.
    #[error("an earlier write to the store of sealed records failed; nothing is written after it")]
    Poisoned,
}

/// A store of sealed records. The suite in `store/tests.rs` is what every backend must hold.
pub trait Store: Send {
    /// Makes the records durable: when this returns, a power cut does not lose them. A later record with the same id
    /// replaces an earlier one. After a failure every later write is refused.
    fn put(&mut self, records: &[Record]) -> Result<(), StoreError>;

    /// All records, in the order of their ids.
    fn all(&self) -> Result<Vec<Record>, StoreError>;
}

#[cfg(test)]
mod tests;
