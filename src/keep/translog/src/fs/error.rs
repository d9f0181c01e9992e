//! Why the log directory refuses.

use std::io;
use std::path::{Path, PathBuf};

use crate::note::NoteError;

/// Why a log directory could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// What was to be appended is not the log's next group.
    #[error("the entries were not appended: {0}")]
    Append(&'static str),
    /// The files contradict each other or were damaged before their end.
    #[error(
        "{path}: {what}; do not delete anything: keep a copy of the log directories and restore them from a backup \
         that was made after this log's newest receipt"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file operation failed.
    #[error("{path}: {source}; see to the disk, then start again")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the log.
    #[error("{0} is in use by another process: a log has one writer; stop the other one first")]
    Locked(PathBuf),
    /// No signed head of this size is kept.
    #[error("no checkpoint of size {0} is kept; ask for the newest one")]
    NoCheckpoint(u64),
    /// An earlier write failed.
    #[error(
        "an earlier write to the log failed, and what is on the disk is unknown; start again to read it anew"
    )]
    Poisoned,
    /// Entries that the log does not have.
    #[error("the log has {size} entries and none at {index}; ask for an index below its size")]
    Range {
        /// The first one missing.
        index: u64,
        /// Entries in the log.
        size: u64,
    },
    /// The directory has another verifier key.
    #[error("{0} holds another verifier key; this directory belongs to another log")]
    VerifierKey(PathBuf),
    /// The checkpoint is not one.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// Names the file in an I/O error.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io { path: path.to_owned(), source }
}

pub(super) fn damaged<T>(path: &Path, what: impl Into<String>) -> Result<T, LogError> {
    Err(LogError::Damaged { path: path.to_owned(), what: what.into() })
}
