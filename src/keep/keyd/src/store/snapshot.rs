//! `records.snapshot`: every record that was ever stored, one after the other, in a form that needs no engine to read
//! (SPEC.md §Snapshot). A store that will not open is rebuilt from it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Record;

const MAGIC: &[u8; 8] = b"CKSNAP\x00\x01";
const DIGEST_LEN: usize = 32;
/// Length of the id, length of the bytes.
const HEAD_LEN: usize = 2 + 4;
/// A sealed record is a few hundred bytes; a length above this is damage.
const RECORD_MAX: usize = 1 << 20;

/// Why the snapshot failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A file operation failed.
    #[error("cannot {what} {path}: {error}", path = path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// Not a snapshot of this format.
    #[error("{path} is not a record snapshot of format 1; move it away and put the right one there", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A record is longer than the format allows.
    #[error("a sealed record is longer than the snapshot format allows")]
    TooLarge,
}

/// The snapshot, open for appending.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    file: File,
}

/// What a snapshot file holds.
#[derive(Debug)]
pub(super) struct Contents {
    /// Records in the order in which they were stored.
    pub(super) records: Vec<Record>,
    /// Whether bytes that are no whole record follow them.
    pub(super) damaged: bool,
}

impl Snapshot {
    /// Opens the snapshot, or makes an empty one durable.
    pub(super) fn open(path: &Path) -> Result<(Self, Contents), SnapshotError> {
        let failed = |what| move |error| io_error(what, path, error);
        if !path.try_exists().map_err(failed("look at"))? {
            write_whole(path, &[])?;
        }
        let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(failed("open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read"))?;
        let body =
            bytes.strip_prefix(MAGIC).ok_or_else(|| SnapshotError::Format { path: path.to_owned() })?;
        let snapshot = Self { path: path.to_owned(), file };
        Ok((snapshot, read_records(body)))
    }

    /// Appends records and makes them durable.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), SnapshotError> {
        let bytes = frames(records)?;
        let path = &self.path;
        let failed = |what| move |error| io_error(what, path, error);
        self.file.write_all(&bytes).map_err(failed("extend"))?;
        self.file.sync_data().map_err(failed("sync"))
    }

    /// Keeps a copy of this file aside and puts a sound one with `records` in its place.
    pub(super) fn replace(&mut self, records: &[Record], aside: &Path) -> Result<(), SnapshotError> {
        std::fs::copy(&self.path, aside).map_err(|error| io_error("copy aside", &self.path, error))?;
        write_whole(&self.path, records)?;
        *self = Self::open(&self.path)?.0;
        Ok(())
    }
}

/// Writes a snapshot beside its place and renames it there.
fn write_whole(path: &Path, records: &[Record]) -> Result<(), SnapshotError> {
    let new = path.with_extension("new");
    let failed = |what| move |error| io_error(what, path, error);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(failed("make"))?;
    file.write_all(MAGIC).map_err(failed("write"))?;
    file.write_all(&frames(records)?).map_err(failed("write"))?;
    file.sync_all().map_err(failed("sync"))?;
    std::fs::rename(&new, path).map_err(failed("put in place"))?;
    super::sled::sync_dir(path.parent().unwrap_or_else(|| Path::new(".")))
        .map_err(failed("sync the directory of"))
}

fn frames(records: &[Record]) -> Result<Vec<u8>, SnapshotError> {
    let mut out = Vec::new();
    for (id, bytes) in records {
        let id_len = u16::try_from(id.len()).map_err(|_| SnapshotError::TooLarge)?;
        let len = u32::try_from(bytes.len()).map_err(|_| SnapshotError::TooLarge)?;
        if bytes.len() > RECORD_MAX {
            return Err(SnapshotError::TooLarge);
        }
        let start = out.len();
        out.extend(id_len.to_be_bytes());
        out.extend(len.to_be_bytes());
        out.extend(id.as_bytes());
        out.extend(bytes);
        let digest = Sha256::digest(out.get(start..).unwrap_or_default());
        out.extend(digest);
    }
    Ok(out)
}

fn read_records(mut body: &[u8]) -> Contents {
    let mut records = Vec::new();
    while !body.is_empty() {
        let Some((record, rest)) = read_record(body) else {
            return Contents { records, damaged: true };
        };
        records.push(record);
        body = rest;
    }
    Contents { records, damaged: false }
}

fn read_record(body: &[u8]) -> Option<(Record, &[u8])> {
    let (id_len, rest) = body.split_first_chunk::<2>()?;
    let (len, _) = rest.split_first_chunk::<4>()?;
    let id_len = usize::from(u16::from_be_bytes(*id_len));
    let len = usize::try_from(u32::from_be_bytes(*len)).ok().filter(|len| *len <= RECORD_MAX)?;
    let (frame, rest) = body.split_at_checked(HEAD_LEN + id_len + len)?;
    let (digest, rest) = rest.split_at_checked(DIGEST_LEN)?;
    if Sha256::digest(frame).as_slice() != digest {
        return None;
    }
    let (id, bytes) = frame.get(HEAD_LEN..)?.split_at_checked(id_len)?;
    let id = std::str::from_utf8(id).ok()?;
    Some(((id.to_owned(), bytes.to_vec()), rest))
}

fn io_error(what: &'static str, path: &Path, error: io::Error) -> SnapshotError {
    SnapshotError::Io { what, path: path.to_owned(), error }
}
