//! A writer that loses its machine at any moment, and comes back.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use translog::audit::{Dir, Verifier};
use translog::fs::LogDir;
use translog::policy::Policy;

use crate::base::Files;
use crate::random::Random;
use crate::support::{Maker, assertion};

/// Entries, and the note over each number of them.
pub(crate) struct History {
    entries: Vec<Vec<u8>>,
    notes: Vec<String>,
    policy: Policy,
}

impl History {
    pub(crate) fn make() -> Self {
        let mut maker = Maker::with_epochs();
        let mut notes = vec![String::new(), maker.note()];
        while maker.frontier.size() < 700 {
            match maker.frontier.size() {
                300 => maker.restart([0x34; 16]),
                at => drop(maker.push(assertion(at))),
            }
            notes.push(maker.note());
        }
        Self { entries: maker.entries.clone(), notes, policy: Policy::of_log(maker.vkey()) }
    }
}

/// Where a sync costs nothing, if this machine has such a place: what is tested is what is there after a crash.
fn dir() -> TempDir {
    let fast = Path::new("/dev/shm");
    if fast.is_dir() { tempfile::tempdir_in(fast) } else { tempfile::tempdir() }.unwrap()
}

fn write(files: &Files, dir: &Path) {
    for (name, bytes) in &files.0 {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes.as_slice()).unwrap();
    }
}

/// Appends and publishes, loses what was not synced, opens again; twice in a row.
pub(crate) fn recover(history: &History, random: &mut Random) -> Result<(), String> {
    let dir = dir();
    let (log_dir, wal_dir) = (dir.path().join("log"), dir.path().join("wal"));
    let mut size = 0;
    for _ in 0..2 {
        let mut log =
            LogDir::open(&log_dir, &wal_dir).map_err(|error| format!("cannot be opened: {error}"))?;
        if log.size() < size as u64 {
            return Err(format!("{size} entries were acknowledged, and {} are there", log.size()));
        }
        // A head that was synced and never acknowledged may be there too.
        size = usize::try_from(log.size()).unwrap();
        for _ in 0..1 + random.below(6) {
            append(history, random, &mut log, &mut size)?;
            if random.below(3) == 0 {
                log.publish().map_err(|error| error.to_string())?;
            }
        }
        crash(history, random, log, size, &log_dir, &wal_dir);
    }
    let log = LogDir::open(&log_dir, &wal_dir).map_err(|error| format!("cannot be opened: {error}"))?;
    if log.size() < size as u64 || log.published_size() != log.size() {
        return Err(format!("{size} acknowledged, {} there, {} published", log.size(), log.published_size()));
    }
    drop(log);
    let verified = Verifier::new(history.policy.clone(), 1).advance(&Dir::new(&log_dir), &mut ());
    let report = verified.map_err(|finding| format!("false alarm: {finding}"))?;
    if report.size < size as u64 { Err("acknowledged entries are missing".into()) } else { Ok(()) }
}

fn append(history: &History, random: &mut Random, log: &mut LogDir, size: &mut usize) -> Result<(), String> {
    let end = (*size + 1 + random.below(90)).min(history.entries.len());
    if end > *size {
        log.append(&history.entries[*size..end], &history.notes[end]).map_err(|error| error.to_string())?;
        *size = end;
    }
    Ok(())
}

/// The machine stops within a publication, and within a group that nobody was told about.
fn crash(
    history: &History,
    random: &mut Random,
    mut log: LogDir,
    size: usize,
    log_dir: &Path,
    wal_dir: &Path,
) {
    let before = Files::read(log_dir);
    let publishes = random.below(2) == 0;
    if publishes {
        log.publish().unwrap();
    }
    let wal = last_segment(wal_dir);
    let whole = fs::metadata(&wal).unwrap().len();
    let mut end = size;
    append(history, random, &mut log, &mut end).unwrap();
    drop(log);
    if last_segment(wal_dir) == wal {
        let torn = fs::metadata(&wal).unwrap().len() - whole;
        let left = whole + if torn == 0 { 0 } else { random.next() % torn };
        fs::OpenOptions::new().write(true).open(&wal).unwrap().set_len(left).unwrap();
    }
    if publishes {
        half_published(random, &before, log_dir);
    }
}

fn last_segment(wal_dir: &Path) -> std::path::PathBuf {
    let segments = fs::read_dir(wal_dir).unwrap().map(|item| item.unwrap().path());
    segments.filter(|path| path.extension().is_some_and(|kind| kind == "wal")).max().unwrap()
}

/// Some of the new files, and the old ones still there; the checkpoint only after all of them.
fn half_published(random: &mut Random, before: &Files, log_dir: &Path) {
    let after = Files::read(log_dir);
    let mut left = before.clone();
    let all = random.below(4) == 0;
    for (name, bytes) in &after.0 {
        if name != "checkpoint" && (all || random.below(2) == 0) {
            left.0.insert(name.clone(), bytes.clone());
        }
    }
    if all && random.below(2) == 0 {
        left.put("checkpoint", after.get("checkpoint").to_vec());
    }
    if random.below(2) == 0 {
        left.put(".tmp", before.0.values().next().map_or_else(Vec::new, |bytes| bytes.to_vec()));
    }
    fs::remove_dir_all(log_dir).unwrap();
    write(&left, log_dir);
}
