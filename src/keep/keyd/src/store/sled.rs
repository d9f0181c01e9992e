//! The embedded store: sled 0.34, with what it lacks.
//!
//! sled's `flush` ends in `sync_file_range`, which is not power-safe, so its `db` file is synced by us after each flush.
//! A cut while sled makes its files leaves something that it does not open, so the store is made in a side directory and
//! renamed. And a store that sled can't open, or opens with less than was acknowledged, is rebuilt from the snapshot.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::snapshot::Snapshot;
use super::{Record, Store, StoreError};

/// Which of sled's files holds the data; everything else it can make again.
const DB_FILE: &str = "db";
/// Large values lie here, one file each.
const BLOBS_DIR: &str = "blobs";

/// Sealed records in sled, and the snapshot beside it.
pub struct SledStore {
    db: ::sled::Db,
    /// sled's data file, to sync it.
    file: File,
    dir: PathBuf,
    snapshot: Snapshot,
    poisoned: bool,
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl SledStore {
    /// Opens the store under `parent`, or makes it. Whatever state sled is in, every acknowledged record is there after
    /// it; a store that had to be rebuilt is kept aside under a name of its own.
    pub fn open(parent: &Path) -> Result<Self, StoreError> {
        let (snapshot, contents) = Snapshot::open(&parent.join("records.snapshot"))?;
        let truth: BTreeMap<String, Vec<u8>> = contents.records.into_iter().collect();
        let dir = parent.join("store");
        let opening = Opening::begin(parent)?;
        // If the process ended inside sled the last time, not again with the same files.
        let opened = if opening.crashed_before { None } else { try_open(&dir)? };
        let (db, found) = opened.map_or_else(|| rebuild(parent, &dir), Ok)?;
        let file =
            OpenOptions::new().read(true).open(dir.join(DB_FILE)).map_err(io_error("open its data file"))?;
        let mut store = Self { db, file, dir, snapshot, poisoned: false };
        store.reconcile(parent, truth, &found, contents.damaged)?;
        opening.end()?;
        Ok(store)
    }

    /// Makes store and snapshot hold the same. The snapshot is written first, so it wins where both have a record;
    /// unless it is damaged, then it may lack the newest.
    fn reconcile(
        &mut self,
        parent: &Path,
        truth: BTreeMap<String, Vec<u8>>,
        found: &BTreeMap<String, Vec<u8>>,
        damaged: bool,
    ) -> Result<(), StoreError> {
        let only_here: Vec<Record> =
            found.iter().filter(|(id, _)| !truth.contains_key(*id)).map(owned).collect();
        let mut all = found.clone();
        all.extend(truth.into_iter().filter(|(id, _)| !damaged || !found.contains_key(id)));
        let missing: Vec<Record> =
            all.iter().filter(|(id, bytes)| found.get(*id) != Some(*bytes)).map(owned).collect();
        if !missing.is_empty() {
            tracing::warn!(
                records = missing.len(),
                "the store lacked records; they are back from records.snapshot"
            );
            self.put_engine(&missing)?;
        }
        if damaged {
            let aside = free_name(parent, "records.snapshot.damaged")?;
            tracing::warn!(aside = %aside.display(), "the record snapshot had a damaged end; it is written again");
            let all: Vec<Record> = all.into_iter().collect();
            self.snapshot.replace(&all, &aside)?;
        } else if !only_here.is_empty() {
            self.snapshot.append(&only_here)?;
        }
        Ok(())
    }

    fn put_engine(&mut self, records: &[Record]) -> Result<(), StoreError> {
        for (id, bytes) in records {
            self.db.insert(id.as_bytes(), bytes.as_slice()).map_err(engine)?;
        }
        self.db.flush().map_err(engine)?;
        self.file.sync_data().map_err(io_error("sync its data file"))?;
        sync_blobs(&self.dir).map_err(io_error("sync its large values"))
    }
}

impl Store for SledStore {
    fn put(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.poisoned, true) {
            return Err(StoreError::Poisoned);
        }
        self.snapshot.append(records)?;
        self.put_engine(records)?;
        self.poisoned = false;
        Ok(())
    }

    fn all(&self) -> Result<Vec<Record>, StoreError> {
        read_all(&self.db).map(|records| records.into_iter().collect())
    }
}

/// A mark that stands on disk while sled opens. In a release build a panic of sled ends the process, so the mark is how
/// the next start knows.
struct Opening {
    mark: PathBuf,
    crashed_before: bool,
}

impl Opening {
    fn begin(parent: &Path) -> Result<Self, StoreError> {
        let mark = parent.join("store.opening");
        let crashed_before = mark.try_exists().map_err(io_error("look for its opening mark"))?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&mark)
            .and_then(|file| file.sync_all())
            .and_then(|()| sync_dir(parent))
            .map_err(io_error("set its opening mark"))?;
        Ok(Self { mark, crashed_before })
    }

    fn end(self) -> Result<(), StoreError> {
        fs::remove_file(&self.mark).map_err(io_error("remove its opening mark"))
    }
}

type Opened = (::sled::Db, BTreeMap<String, Vec<u8>>);

/// Opens what is there and reads all of it; `None` if there is nothing or sled does not get through it.
fn try_open(dir: &Path) -> Result<Option<Opened>, StoreError> {
    if !dir.try_exists().map_err(io_error("look for its directory"))? {
        return Ok(None);
    }
    // sled panics on some damage instead of returning an error.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let db = open_engine(dir)?;
        read_all(&db).map(|records| (db, records))
    }));
    match opened {
        Ok(Ok(opened)) => Ok(Some(opened)),
        Ok(Err(error)) => {
            tracing::error!(%error, "the store does not open");
            Ok(None)
        }
        Err(_) => {
            tracing::error!("the store engine gave up on its files");
            Ok(None)
        }
    }
}

/// Moves what is there aside and puts an empty store in its place.
fn rebuild(parent: &Path, dir: &Path) -> Result<Opened, StoreError> {
    if dir.try_exists().map_err(io_error("look for its directory"))? {
        let aside = free_name(parent, "store.damaged")?;
        tracing::warn!(aside = %aside.display(), "the store is rebuilt from records.snapshot; the old one is kept aside");
        fs::rename(dir, &aside).map_err(io_error("move the damaged store aside"))?;
    }
    let side = parent.join("store.new");
    if side.try_exists().map_err(io_error("look for its side directory"))? {
        // Left by a cut before the rename: it was never the store.
        fs::remove_dir_all(&side).map_err(io_error("clear its side directory"))?;
    }
    fs::DirBuilder::new().mode(0o700).create(&side).map_err(io_error("make its side directory"))?;
    let db = open_engine(&side)?;
    db.flush().map_err(engine)?;
    drop(db);
    sync_tree(&side).map_err(io_error("sync its side directory"))?;
    fs::rename(&side, dir).map_err(io_error("put it in place"))?;
    sync_dir(parent).map_err(io_error("sync its parent directory"))?;
    Ok((open_engine(dir)?, BTreeMap::new()))
}

fn open_engine(dir: &Path) -> Result<::sled::Db, StoreError> {
    // No background flusher: every flush is ours, followed by our sync.
    ::sled::Config::new().path(dir).flush_every_ms(None).open().map_err(engine)
}

fn read_all(db: &::sled::Db) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
    db.iter()
        .map(|pair| {
            let (id, bytes) = pair.map_err(engine)?;
            let id = String::from_utf8(id.to_vec())
                .map_err(|_| StoreError::Engine("a record's id is not text".to_owned()))?;
            Ok((id, bytes.to_vec()))
        })
        .collect()
}

fn owned((id, bytes): (&String, &Vec<u8>)) -> Record {
    (id.clone(), bytes.clone())
}

/// A name that nothing has yet: what is moved aside is never overwritten.
fn free_name(parent: &Path, stem: &str) -> Result<PathBuf, StoreError> {
    let mut number = 1_u32;
    loop {
        let path = parent.join(format!("{stem}.{number}"));
        if !path.try_exists().map_err(io_error("look for a free name"))? {
            return Ok(path);
        }
        number += 1;
    }
}

fn sync_blobs(dir: &Path) -> io::Result<()> {
    let blobs = dir.join(BLOBS_DIR);
    if blobs.try_exists()? { sync_tree(&blobs) } else { Ok(()) }
}

fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(dir)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn engine(error: ::sled::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}

fn io_error(what: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |error| StoreError::Io { what, error }
}
