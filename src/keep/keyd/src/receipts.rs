//! Receipts, kept for a day for the client whose they are (SPEC.md §Receipts).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use wire::api::Receipt;
use wire::frame::BatchResult;

use crate::client_id::ClientId;
use crate::commit::Permit;
use crate::store::sync_dir;

/// Service-protocol §6.
const KEPT: Duration = Duration::from_hours(24);
/// A batch id in hex.
const ID_LEN: usize = 32;

/// The directory of receipts.
#[derive(Clone, Debug)]
pub struct Receipts {
    dir: PathBuf,
    count: Arc<AtomicUsize>,
    max: usize,
}

impl Receipts {
    /// Opens the directory, or makes it, and removes what is too old.
    pub fn open(dir: &Path, max: usize) -> io::Result<Self> {
        if !dir.try_exists()? {
            fs::DirBuilder::new().mode(0o700).create(dir)?;
        }
        let receipts = Self { dir: dir.to_owned(), count: Arc::default(), max };
        receipts.sweep()?;
        Ok(receipts)
    }

    /// Whether one more has room.
    pub fn has_room(&self) -> bool {
        self.count.load(Ordering::Relaxed) < self.max
    }

    /// Puts a receipt together and keeps it. Only a batch whose entry is durable has one.
    pub(crate) fn issue(&self, _permit: &Permit, made: &Made<'_>) -> io::Result<Receipt> {
        let receipt =
            Receipt::new(made.result, made.instance, made.origin, made.entry, made.proof.to_owned());
        let bytes = serde_json::to_vec(&receipt)?;
        let new = self.dir.join(format!("{}.new", receipt.batch));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.dir.join(format!("{}.json", receipt.batch)))?;
        sync_dir(&self.dir)?;
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(receipt)
    }

    /// The receipt of a batch, for its own client only; another client's looks like none.
    pub fn find(&self, id: &str, client: &ClientId) -> io::Result<Option<Receipt>> {
        let is_id = id.len() == ID_LEN && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Ok(None);
        }
        let path = self.dir.join(format!("{}.json", id.to_ascii_uppercase()));
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        if is_old(&path, SystemTime::now())? {
            return Ok(None);
        }
        let receipt: Receipt = serde_json::from_slice(&bytes)?;
        Ok((receipt.client == client.as_str()).then_some(receipt))
    }

    /// Removes receipts older than a day, and halves of receipts that a stop left.
    pub fn sweep(&self) -> io::Result<()> {
        let (now, mut kept) = (SystemTime::now(), 0);
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            match is_old(&path, now) {
                Ok(true) => fs::remove_file(&path)?,
                Ok(false) => kept += usize::from(path.extension().is_some_and(|kind| kind == "json")),
                // Renamed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.count.store(kept, Ordering::Relaxed);
        Ok(())
    }
}

fn is_old(path: &Path, now: SystemTime) -> io::Result<bool> {
    let made = fs::metadata(path)?.modified()?;
    // A file from the future, after the clock went back, is kept.
    Ok(now.duration_since(made).is_ok_and(|age| age > KEPT))
}

/// What a receipt is made from.
#[derive(Debug)]
pub(crate) struct Made<'a> {
    pub(crate) result: &'a BatchResult,
    pub(crate) instance: &'a [u8; 16],
    pub(crate) origin: &'a str,
    pub(crate) entry: &'a [u8],
    pub(crate) proof: &'a str,
}
