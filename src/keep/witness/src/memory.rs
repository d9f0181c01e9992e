//! What a witness remembers of one log: the newest note that it cosigned, with its own line (SPEC.md §State).
//!
//! The file proves itself: it holds the log's signature and ours. So it can be neither invented nor mixed up; it can be
//! an older one, and against that stands `Memory::notice`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use translog::cosign::cosigned_at;
use translog::note::{Checkpoint, VerifierKey, WitnessKey, open_checkpoint};

use crate::durable;

/// What stands in the file before the first cosignature.
const NOTHING: &str = "nothing cosigned yet\n";

/// Why there is no memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// A file can't be read or written.
    #[error("{path}: {error}; see to the disk, then start again / 状态文件读写失败", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is a file already.
    #[error("{path} is there already: this witness has begun with that log, and beginning again would forget what it saw / 该日志已开始见证", path = .0.display())]
    Begun(PathBuf),
    /// There is no file.
    #[error(
        "{path} is not there. If this witness never watched {origin}, run citykeep-witness begin --config FILE {origin}. If it did, its memory is lost: put the newest checkpoint that carries its cosignature there, under this name / 状态文件缺失",
        path = .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The log.
        origin: String,
    },
    /// Not a note that both the log and this witness signed.
    #[error("{path} is no checkpoint with the log's signature and this witness's; put the newest such checkpoint in its place / 状态文件被改动", path = .0.display())]
    Foreign(PathBuf),
    /// A newer note of our own was met.
    #[error(
        "{evidence} holds a newer checkpoint with this witness's own signature: {path} was set back. Find out by whom; then mv the first onto the second, and start again / 状态文件曾被回滚",
        evidence = .evidence.display(), path = .path.display()
    )]
    SetBack {
        /// The newer note.
        evidence: PathBuf,
        /// The file that is older than it should be.
        path: PathBuf,
    },
}

/// The newest head that was cosigned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    pub(crate) head: Checkpoint,
    /// Time of our newest cosignature, Unix seconds.
    pub(crate) time: u64,
    /// The log's lines and ours.
    pub(crate) note: String,
}

/// One log's file and what is in it.
#[derive(Debug)]
pub(crate) struct Memory {
    dir: PathBuf,
    name: String,
    log: VerifierKey,
    witness: WitnessKey,
    seen: Option<Seen>,
    /// A write failed, or our own newer note was met: what we know is not what we signed.
    broken: bool,
}

/// SHA-256 of the origin in lower-case hex, as the protocol's paths have it.
pub(crate) fn origin_hash(origin: &str) -> String {
    Sha256::digest(origin).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Begins with a log: from now on a missing file is a lost one.
pub fn begin(dir: &Path, log: &VerifierKey) -> Result<(), MemoryError> {
    let (name, path) = file_of(dir, log);
    let at = |error| MemoryError::Io { path: path.clone(), error };
    durable::make_dir(dir, 0o700).map_err(at)?;
    if path.exists() || evidence_of(&path).exists() {
        return Err(MemoryError::Begun(path));
    }
    durable::replace(dir, &name, NOTHING.as_bytes()).map_err(at)
}

fn file_of(dir: &Path, log: &VerifierKey) -> (String, PathBuf) {
    let name = format!("{}.checkpoint", origin_hash(log.name()));
    let path = dir.join(&name);
    (name, path)
}

fn evidence_of(path: &Path) -> PathBuf {
    path.with_extension("set-back")
}

impl Memory {
    /// Reads what is remembered.
    pub(crate) fn open(dir: &Path, log: &VerifierKey, witness: &WitnessKey) -> Result<Self, MemoryError> {
        let (name, path) = file_of(dir, log);
        if evidence_of(&path).exists() {
            return Err(MemoryError::SetBack { evidence: evidence_of(&path), path });
        }
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(MemoryError::Missing { path, origin: log.name().to_owned() });
            }
            Err(error) => return Err(MemoryError::Io { path, error }),
        };
        let mut memory = Self {
            dir: dir.to_owned(),
            name,
            log: log.clone(),
            witness: witness.clone(),
            seen: None,
            broken: false,
        };
        if text != NOTHING {
            memory.seen = Some(memory.own(&text).ok_or(MemoryError::Foreign(path))?);
        }
        Ok(memory)
    }

    /// A note that the log signed and we cosigned; `None` for any other.
    pub(crate) fn own(&self, note: &str) -> Option<Seen> {
        let head = open_checkpoint(note, &self.log).ok()?.checkpoint().clone();
        let time = cosigned_at(note, &self.witness).ok()??;
        Some(Seen { head, time, note: note.to_owned() })
    }

    pub(crate) fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Remembers a cosigned head, durably. After a failure this log is refused until a restart reads what the disk has.
    pub(crate) fn store(&mut self, seen: Seen) -> Result<(), MemoryError> {
        let stored = durable::replace(&self.dir, &self.name, seen.note.as_bytes());
        self.broken |= stored.is_err();
        stored.map_err(|error| MemoryError::Io { path: self.dir.join(&self.name), error })?;
        self.seen = Some(seen);
        Ok(())
    }

    /// Looks whether a note carries a cosignature of ours that is not remembered. Then the file was set back: the note is
    /// kept as evidence, and nothing of this log is cosigned any more, also not after a restart.
    pub(crate) fn notice(&mut self, note: &str) -> Option<MemoryError> {
        let own = self.own(note)?;
        let known =
            self.seen.as_ref().is_some_and(|seen| own.time <= seen.time && own.head.size <= seen.head.size);
        if known {
            return None;
        }
        self.broken = true;
        let path = self.dir.join(&self.name);
        let evidence = evidence_of(&path);
        let name = evidence.file_name()?.to_string_lossy().into_owned();
        match durable::replace(&self.dir, &name, own.note.as_bytes()) {
            Ok(()) => Some(MemoryError::SetBack { evidence, path }),
            Err(error) => Some(MemoryError::Io { path: evidence, error }),
        }
    }
}
