//! Blacklists that were signed, one directory for all walls (SPEC.md §Blacklists): the newest signed file of each wall for
//! whoever may read it, and the full list in force, on which the module counts what the next list takes off.
//!
//! The module believes none of it: it compares the list in force with the digest in its log.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;
use wire::cbor::{Bytes, Cbor};
use wire::frame::SignedList;
use wire::key::Lineage;
use wire::list::List;

use crate::commit::Permit;
use crate::store::sync_dir;

/// Number of [`SignedFile`]'s format.
const FORMAT: u64 = 1;

wire::cbor_struct! {
    /// A signed list as it is kept.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SignedFile {
        /// Format, 1.
        0 => format: u64,
        /// Log index of the entry that names digest and epoch.
        1 => index: u64,
        /// What the module released.
        2 => list: SignedList,
        /// The body that it is about.
        3 => body: Bytes,
    }
}

impl SignedFile {
    /// A list with its entry.
    pub fn new(permit: &Permit, list: SignedList, body: Vec<u8>) -> Self {
        Self { format: FORMAT, index: permit.index(), list, body: body.into() }
    }

    /// The file that terminals load.
    pub fn bytes(&self) -> Vec<u8> {
        [&*self.body, &*self.list.trailer].concat()
    }
}

/// The directory.
#[derive(Clone, Debug)]
pub struct Blacklists {
    dir: PathBuf,
    turns: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Blacklists {
    /// Opens the directory, or makes it, and removes what a stop left half-written.
    pub fn open(dir: &Path) -> io::Result<Self> {
        if !dir.try_exists()? {
            fs::DirBuilder::new().mode(0o700).create(dir)?;
        }
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "new") {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { dir: dir.to_owned(), turns: Arc::default() })
    }

    /// The right to have a list of this wall signed: one at a time, and nobody learns of other walls by waiting.
    pub(crate) fn turn(&self, wall: &str) -> Option<OwnedMutexGuard<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(wall.to_owned()).or_default()).try_lock_owned().ok()
    }

    /// The newest signed list of a wall.
    pub fn newest(&self, wall: &str) -> io::Result<Option<SignedFile>> {
        let Some(bytes) = self.read(wall, "signed")? else { return Ok(None) };
        match SignedFile::from_cbor(&bytes) {
            Ok(file) if file.format == FORMAT => Ok(Some(file)),
            _ => Err(io::Error::other("a file of signed lists is damaged")),
        }
    }

    /// The full list in force, as far as keyd knows. If a stop came between the two files of [`Self::keep`], the older one
    /// is made up for here. A base that is newer than the signed file was put there by operators: it stays.
    pub fn in_force(&self, wall: &str) -> io::Result<Option<Vec<u8>>> {
        let base = self.read(wall, "base")?;
        let Ok(Some(newest)) = self.newest(wall) else {
            return Ok(base);
        };
        let epoch = base.as_deref().and_then(|base| List::parse(base).ok()).map(|list| list.version);
        if epoch.is_some_and(|epoch| u64::from(epoch) > newest.list.epoch) {
            return Ok(base);
        }
        match effective(base.as_deref(), &newest.body, &newest.list.effective) {
            Some(list) if base.as_ref() == Some(&list) => Ok(base),
            Some(list) => {
                self.write(wall, "base", &list)?;
                Ok(Some(list))
            }
            None => Ok(base),
        }
    }

    /// Keeps a signed list durably; only one whose entry is durable is there to be kept. `false` says that the list in force
    /// could not be worked out: the base that was there stays.
    pub fn keep(&self, file: &SignedFile) -> io::Result<bool> {
        let wall = &file.list.wall;
        let base = self.read(wall, "base")?;
        let next = effective(base.as_deref(), &file.body, &file.list.effective);
        // The signed file first: with it and the old base the new base can be worked out again, not the other way round.
        self.write(wall, "signed", &file.to_cbor())?;
        match &next {
            Some(list) if base.as_ref() != Some(list) => self.write(wall, "base", list)?,
            _ => {}
        }
        Ok(next.is_some())
    }

    fn path(&self, wall: &str, kind: &str) -> io::Result<PathBuf> {
        // A wall is a name; nothing else gets as far as the file system.
        match Lineage::parse(&format!("{wall}/blacklist/any")) {
            Some(_) => Ok(self.dir.join(format!("{wall}.{kind}"))),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn read(&self, wall: &str, kind: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(wall, kind)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn write(&self, wall: &str, kind: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(wall, kind)?;
        let new = self.dir.join(format!("{wall}.{kind}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_dir(&self.dir).map_err(io::Error::other)
    }
}

/// The full list with this digest: the base itself if the list was signed before, the list if it is a full one, or what the
/// list makes of the base.
fn effective(base: Option<&[u8]>, body: &[u8], digest: &[u8; 32]) -> Option<Vec<u8>> {
    let is = |bytes: &[u8]| <[u8; 32]>::from(Sha256::digest(bytes)) == *digest;
    if let Some(base) = base.filter(|base| is(base)) {
        return Some(base.to_vec());
    }
    if is(body) {
        return Some(body.to_vec());
    }
    let current = List::parse(base?).ok()?;
    let next = List::follow(Some(&current), &List::parse(body).ok()?).ok()?.to_bytes();
    is(&next).then_some(next)
}

#[cfg(test)]
mod tests;
