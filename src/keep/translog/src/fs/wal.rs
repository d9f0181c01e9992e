//! The write-ahead log: segments of groups (SPEC.md §WAL). What it acknowledged is there after a restart.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::error::{LogError, at, damaged};
use super::files::{PRIVATE_DIR, make_dir, sync_dir};
use super::group::{self, Found, Group};

/// A segment that is this long gets no further group.
pub(super) const SEGMENT_MAX: u64 = 8 << 20;

/// Segments, and where the groups that are not yet published stand in them.
#[derive(Debug)]
pub(super) struct Wal {
    dir: PathBuf,
    /// Holds the exclusive lock.
    _lock: File,
    /// First index of each segment, ascending; the last one is written to.
    segments: VecDeque<u64>,
    file: Option<File>,
    length: u64,
    /// Groups with entries that are not published.
    groups: VecDeque<Place>,
    segment_max: u64,
}

/// Where a group stands.
#[derive(Debug)]
pub(super) struct Place {
    segment: u64,
    offset: u64,
    length: usize,
    /// Index of its first entry.
    pub(super) first: u64,
    /// Index after its last entry.
    pub(super) end: u64,
    /// Checkpoint over everything up to `end`.
    pub(super) note: String,
}

impl Wal {
    /// Locks the directory and reads every group in order. Gives the log and the bytes of the torn tail that was cut.
    pub(super) fn open(
        dir: &Path,
        mut visit: impl FnMut(&Path, &Group<'_>) -> Result<(), LogError>,
    ) -> Result<(Self, u64), LogError> {
        make_dir(dir, PRIVATE_DIR)?;
        let lock = File::open(dir).map_err(at(dir))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LogError::Locked(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(at(dir)(error)),
        }
        let mut wal = Self {
            dir: dir.to_owned(),
            _lock: lock,
            segments: segments(dir)?.into(),
            file: None,
            length: 0,
            groups: VecDeque::new(),
            segment_max: SEGMENT_MAX,
        };
        let mut cut = 0;
        let mut next = None;
        for segment in wal.segments.clone() {
            let is_last = wal.segments.back() == Some(&segment);
            cut = wal.read_segment(segment, is_last, &mut next, &mut visit)?;
        }
        Ok((wal, cut))
    }

    fn read_segment(
        &mut self,
        segment: u64,
        is_last: bool,
        next: &mut Option<u64>,
        visit: &mut impl FnMut(&Path, &Group<'_>) -> Result<(), LogError>,
    ) -> Result<u64, LogError> {
        let path = self.path(segment);
        let bytes = fs::read(&path).map_err(at(&path))?;
        let mut offset = 0;
        let mut rest = bytes.as_slice();
        while let (false, Found::Good(found)) = (rest.is_empty(), group::read(rest)) {
            let expected = next.unwrap_or(segment);
            if found.first != expected || (offset == 0 && found.first != segment) {
                return damaged(
                    &path,
                    format!("entry {expected} should follow, but a group starts at {}", found.first),
                );
            }
            visit(&path, &found)?;
            let end = found.first + found.entries.len() as u64;
            *next = Some(end);
            self.groups.push_back(Place {
                segment,
                offset,
                length: found.length,
                first: found.first,
                end,
                note: found.note.to_owned(),
            });
            offset += found.length as u64;
            rest = rest.get(found.length..).unwrap_or_default();
        }
        if rest.is_empty() {
            self.length = offset;
            return Ok(0);
        }
        // A write that was cut off by a crash is the last thing in the last segment; anything else is damage.
        let torn = match group::read(rest) {
            Found::Bad { end } => end >= rest.len(),
            Found::Unreadable => !group::any_good(rest),
            Found::Good(_) => false,
        };
        if !is_last || !torn {
            return damaged(&path, format!("a group at byte {offset} is damaged and others follow it"));
        }
        let file = OpenOptions::new().write(true).open(&path).map_err(at(&path))?;
        file.set_len(offset).and_then(|()| file.sync_all()).map_err(at(&path))?;
        self.length = offset;
        Ok(rest.len() as u64)
    }

    /// Writes and syncs one group. After an error the state of the file is unknown.
    pub(super) fn append<T: AsRef<[u8]>>(
        &mut self,
        first: u64,
        entries: &[T],
        note: &str,
    ) -> Result<(), LogError> {
        let bytes = group::encode(first, entries, note).ok_or(LogError::Append("the group is too long"))?;
        let segment = self.segment_for(first)?;
        let path = self.path(segment);
        let file = self.file.as_mut().ok_or(LogError::Poisoned)?;
        file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(at(&path))?;
        if self.length == 0 {
            sync_dir(&self.dir)?;
        }
        self.groups.push_back(Place {
            segment,
            offset: self.length,
            length: bytes.len(),
            first,
            end: first + entries.len() as u64,
            note: note.to_owned(),
        });
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// The segment that takes a group from `first` on, open for writing.
    fn segment_for(&mut self, first: u64) -> Result<u64, LogError> {
        let room = |segment: &u64| *segment == first || (self.length > 0 && self.length < self.segment_max);
        let (segment, is_new) = match self.segments.back().copied().filter(room) {
            Some(segment) => (segment, false),
            None => (first, true),
        };
        if is_new || self.file.is_none() {
            let path = self.path(segment);
            let file = OpenOptions::new().append(true).create_new(is_new).open(&path);
            self.file = Some(file.map_err(at(&path))?);
        }
        if is_new {
            self.segments.push_back(segment);
            self.length = 0;
        }
        Ok(segment)
    }

    /// Entries of the groups that reach into `start..end`, one group at a time.
    pub(super) fn entries(&self, start: u64, end: u64, out: &mut Vec<Vec<u8>>) -> Result<(), LogError> {
        for place in self.groups.iter().filter(|place| place.first < end && start < place.end) {
            let path = self.path(place.segment);
            let mut bytes = vec![0; place.length];
            File::open(&path)
                .and_then(|file| file.read_exact_at(&mut bytes, place.offset))
                .map_err(at(&path))?;
            let Found::Good(found) = group::read(&bytes) else {
                return damaged(&path, format!("the group at byte {} was good and is not now", place.offset));
            };
            let wanted = (found.first..).zip(found.entries);
            let wanted = wanted.filter(|(index, _)| (start..end).contains(index));
            out.extend(wanted.map(|(_, entry)| entry.to_vec()));
        }
        Ok(())
    }

    /// The newest group that is not forgotten.
    pub(super) fn last(&self) -> Option<&Place> {
        self.groups.back()
    }

    /// The checkpoint of exactly this size, if its group is not forgotten.
    pub(super) fn note(&self, size: u64) -> Option<&str> {
        let place = self.groups.iter().find(|place| place.end == size)?;
        Some(&place.note)
    }

    /// Forgets the groups that are wholly published.
    pub(super) fn forget(&mut self, published: u64) {
        while self.groups.front().is_some_and(|place| place.end <= published) {
            self.groups.pop_front();
        }
    }

    /// Removes the segments that are wholly published. The last one stays: it shows that a published tree is not older
    /// than it should be.
    pub(super) fn drop_published(&mut self, published: u64) -> Result<(), LogError> {
        while let (Some(first), Some(second)) = (self.segments.front(), self.segments.get(1)) {
            if *second > published {
                break;
            }
            let path = self.path(*first);
            fs::remove_file(&path).map_err(at(&path))?;
            self.segments.pop_front();
            // In order, or a segment that comes back after a crash would leave a gap.
            sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Removes all segments: for a log whose published tree is longer than they are.
    pub(super) fn clear(&mut self) -> Result<(), LogError> {
        for segment in std::mem::take(&mut self.segments) {
            let path = self.path(segment);
            fs::remove_file(&path).map_err(at(&path))?;
        }
        self.groups.clear();
        (self.file, self.length) = (None, 0);
        sync_dir(&self.dir)
    }

    #[cfg(test)]
    pub(super) fn limit_segments(&mut self, bytes: u64) {
        self.segment_max = bytes;
    }

    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = Some(file);
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment:020}.wal"))
    }
}

/// First indices of the segments in a directory, ascending. Other files are not ours and stay.
fn segments(dir: &Path) -> Result<Vec<u64>, LogError> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir).map_err(at(dir))? {
        let name = item.map_err(at(dir))?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".wal"));
        let first = digits.filter(|digits| digits.len() == 20).and_then(|digits| digits.parse::<u64>().ok());
        found.extend(first);
    }
    found.sort_unstable();
    Ok(found)
}
