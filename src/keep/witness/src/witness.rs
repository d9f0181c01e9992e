//! The decisions: which head is cosigned, and that it is remembered before anybody hears of it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use translog::cosign::{AddCheckpoint, Refusal, judge};
use translog::note::{Checkpoint, VerifierKey, open_checkpoint};

use crate::durable;
use crate::key::Signer;
use crate::memory::{Memory, MemoryError, origin_hash};

/// A clock this far behind our last cosignature is a wrong clock, not a small correction.
const CLOCK_SLACK: u64 = 60;

/// Why a head is not cosigned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotCosigned {
    /// The protocol's own refusals.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Our memory fails or was set back.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Something happened to this log's memory before.
    #[error(
        "this witness's memory of the log is not to be trusted; its operator finds the reason in its messages"
    )]
    Broken,
    /// The clock.
    #[error("this witness's clock is behind its own last cosignature; its operator must set it right")]
    Clock,
}

impl NotCosigned {
    /// HTTP status: the protocol's, or 500 for what only the witness's operator can mend.
    pub fn status(&self) -> u16 {
        match self {
            Self::Refused(refusal) => refusal.status(),
            _ => 500,
        }
    }
}

/// A witness of some logs.
#[derive(Debug)]
pub struct Witness {
    signer: Signer,
    logs: Vec<Watched>,
    _lock: File,
}

#[derive(Debug)]
struct Watched {
    vkey: VerifierKey,
    hash: String,
    memory: Mutex<Memory>,
}

impl Watched {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness {
    /// Opens the memory of every log. One witness per directory.
    pub fn open(dir: &Path, signer: Signer, logs: &[VerifierKey]) -> Result<Self, MemoryError> {
        let lock = lock(dir)?;
        let watched = logs.iter().map(|vkey| {
            let memory = Mutex::new(Memory::open(dir, vkey, signer.public())?);
            Ok(Watched { vkey: vkey.clone(), hash: origin_hash(vkey.name()), memory })
        });
        let logs = watched.collect::<Result<_, MemoryError>>()?;
        Ok(Self { signer, logs, _lock: lock })
    }

    /// Whether it could be opened, also beside one that runs; nothing is made or locked.
    pub fn check(dir: &Path, signer: &Signer, logs: &[VerifierKey]) -> Result<(), MemoryError> {
        logs.iter().try_for_each(|vkey| Memory::open(dir, vkey, signer.public()).map(drop))
    }

    /// Judges the body of an `add-checkpoint` at this time (Unix seconds): our signature line, durable already.
    pub fn add_checkpoint(&self, body: &str, now: u64) -> Result<String, NotCosigned> {
        let request = AddCheckpoint::parse(body).ok_or(Refusal::Malformed)?;
        let origin = request.checkpoint.split('\n').next().unwrap_or_default();
        let log = self.logs.iter().find(|log| log.vkey.name() == origin).ok_or(Refusal::UnknownOrigin)?;
        let mut memory = log.memory();
        if memory.is_broken() {
            return Err(NotCosigned::Broken);
        }
        if let Some(error) = memory.notice(&request.checkpoint) {
            tracing::error!("{error}");
            return Err(error.into());
        }
        let seen = memory.seen();
        let head = judge(&request, &log.vkey, seen.map(|seen| &seen.head))?;
        let last = seen.map_or(0, |seen| seen.time);
        if now + CLOCK_SLACK < last {
            tracing::error!(%last, %now, "the clock is behind this witness's own last cosignature; set it right");
            return Err(NotCosigned::Clock);
        }
        let time = now.max(last);
        let line = self.signer.cosign(&head, time);
        // Anybody may send us a true checkpoint with lines of his own: what we could not read again is not cosigned.
        let seen = memory.own(&(head.log_note() + &line)).ok_or(Refusal::Malformed)?;
        let size = seen.head.size;
        if let Err(error) = memory.store(seen) {
            tracing::error!("{error}");
            return Err(error.into());
        }
        tracing::info!(%origin, size, time, "cosigned");
        Ok(line)
    }

    /// The newest cosigned note of the log whose origin has this hash; `None` without one.
    pub fn checkpoint(&self, hash: &str) -> Option<String> {
        let log = self.logs.iter().find(|log| log.hash == hash)?;
        log.memory().seen().map(|seen| seen.note.clone())
    }

    /// The newest cosigned head of a log.
    pub fn head(&self, log: &VerifierKey) -> Option<Checkpoint> {
        let log = self.logs.iter().find(|watched| watched.vkey == *log)?;
        log.memory().seen().map(|seen| seen.head.clone())
    }

    /// A note of the log that was met elsewhere, for example where the log is published: it may carry a cosignature of
    /// ours that we do not remember, or be a head that contradicts the one that we do.
    pub fn meet(&self, log: &VerifierKey, note: &str) -> Result<(), NotCosigned> {
        let Some(watched) = self.logs.iter().find(|watched| watched.vkey == *log) else {
            return Ok(());
        };
        let mut memory = watched.memory();
        if memory.is_broken() {
            return Err(NotCosigned::Broken);
        }
        if let Some(error) = memory.notice(note) {
            return Err(error.into());
        }
        let met = open_checkpoint(note, log).map_err(|_| Refusal::Unsigned)?;
        match memory.seen() {
            Some(seen) if seen.head.size == met.size && seen.head.root != met.root => {
                Err(Refusal::Inconsistent.into())
            }
            _ => Ok(()),
        }
    }
}

fn lock(dir: &Path) -> Result<File, MemoryError> {
    let path = dir.join("lock");
    let at = |error| MemoryError::Io { path: path.clone(), error };
    durable::make_dir(dir, 0o700).map_err(at)?;
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(at)?;
    let taken = |_| std::io::Error::other("another citykeep-witness runs on this directory; stop it first");
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(taken).map_err(at)?;
    Ok(file)
}
