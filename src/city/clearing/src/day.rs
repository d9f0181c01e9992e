//! From an F1 file to a batch.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use wire::batch::{BatchHeader, GROUPS_MAX, Group, Profile, RECORD_LEN, Record};
use wire::key::Lineage;
use wire::purse::{F1_LINE_LEN, F1Line};

/// Longer lines are not read: whatever this file is, it is no day.
const LINE_MAX: u64 = 16 << 20;
const BUFFER: usize = 1 << 20;

/// Why a file is not a day that can be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DayError {
    /// More groups than a batch's table holds.
    #[error(
        "line {line} brings the 65,536th different pair of key version and issuer, and a batch holds 65,535; split the day \
         at this line and send both parts"
    )]
    Groups {
        /// 1 for the first line.
        line: u64,
    },
    /// A line without end.
    #[error(
        "line {line} is longer than 16 MiB: this is no F1 day file; give the settlement file itself, not an archive"
    )]
    Line {
        /// 1 for the first line.
        line: u64,
    },
    /// The file cannot be read.
    #[error("{}: cannot read the day file ({source}); check the path and its permissions", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A day as a batch: header and records, one record per line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Day {
    header: BatchHeader,
    records: Bytes,
    malformed: u64,
}

impl Day {
    /// Reads a file, to be checked with the key of `lineage`.
    pub fn read(path: &Path, lineage: &Lineage) -> Result<Self, DayError> {
        let failed = |source| DayError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let lines = usize::try_from(size / (F1_LINE_LEN as u64 + 1)).unwrap_or_default();
        Self::from_reader(BufReader::with_capacity(BUFFER, file), lines, lineage).map_err(|error| match error
        {
            DayError::Read { source, .. } => failed(source),
            other => other,
        })
    }

    /// Reads a day from memory.
    pub fn from_bytes(day: &[u8], lineage: &Lineage) -> Result<Self, DayError> {
        Self::from_reader(day, day.len() / (F1_LINE_LEN + 1), lineage)
    }

    fn from_reader(mut input: impl BufRead, lines: usize, lineage: &Lineage) -> Result<Self, DayError> {
        let mut builder = Builder::new(lines, lineage);
        let mut line = Vec::with_capacity(F1_LINE_LEN + 1);
        loop {
            line.clear();
            let read = Read::by_ref(&mut input).take(LINE_MAX).read_until(b'\n', &mut line);
            let read = read.map_err(|source| DayError::Read { path: PathBuf::new(), source })?;
            if read == 0 {
                return Ok(builder.finish());
            }
            match line.strip_suffix(b"\n") {
                Some(body) => builder.add(body)?,
                None if read as u64 == LINE_MAX => {
                    return Err(DayError::Line { line: builder.lines + 1 });
                }
                // The last line counts without its LF too.
                None => builder.add(&line)?,
            }
        }
    }

    /// What the batch is about.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records, 40 bytes each.
    pub fn records(&self) -> Bytes {
        self.records.clone()
    }

    /// Lines, which is records.
    pub fn lines(&self) -> u64 {
        (self.records.len() / RECORD_LEN) as u64
    }

    /// Lines that could not be read.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }
}

struct Builder {
    header: BatchHeader,
    records: Vec<u8>,
    rows: HashMap<Group, u16>,
    /// Neighbouring lines are mostly of the same group.
    last: Option<(Group, u16)>,
    lines: u64,
    malformed: u64,
}

impl Builder {
    fn new(lines: usize, lineage: &Lineage) -> Self {
        Self {
            header: BatchHeader {
                profile: Profile::PurchaseTac,
                lineage: lineage.clone(),
                groups: Vec::new(),
            },
            records: Vec::with_capacity((lines + 1) * RECORD_LEN),
            rows: HashMap::new(),
            last: None,
            lines: 0,
            malformed: 0,
        }
    }

    fn add(&mut self, line: &[u8]) -> Result<(), DayError> {
        self.lines += 1;
        let record = if let Some(read) = F1Line::parse(line) {
            let row = self.row(Group { version: read.version, issuer: read.issuer })?;
            read.record(row).to_bytes(Profile::PurchaseTac)
        } else {
            self.malformed += 1;
            Record::malformed(line, Profile::PurchaseTac)
        };
        self.records.extend_from_slice(&record);
        Ok(())
    }

    fn row(&mut self, group: Group) -> Result<u16, DayError> {
        if let Some((last, row)) = self.last
            && last == group
        {
            return Ok(row);
        }
        let row = if let Some(row) = self.rows.get(&group) {
            *row
        } else {
            let next = self.header.groups.len();
            let full = DayError::Groups { line: self.lines };
            let row = u16::try_from(next).ok().filter(|_| next < GROUPS_MAX).ok_or(full)?;
            self.header.groups.push(group);
            self.rows.insert(group, row);
            row
        };
        self.last = Some((group, row));
        Ok(row)
    }

    fn finish(self) -> Day {
        Day { header: self.header, records: self.records.into(), malformed: self.malformed }
    }
}

#[cfg(test)]
mod tests {
    use wire::key::KeyVersion;
    use wire::purse::f1_lines;

    use super::*;

    const FIXTURE: &[u8] = include_bytes!("../../../../tests/fixtures/day1/day.txt");

    fn lineage() -> Lineage {
        Lineage::parse("transit/purse/tac").unwrap()
    }

    fn day(bytes: &[u8]) -> Day {
        Day::from_bytes(bytes, &lineage()).unwrap()
    }

    fn record(day: &Day, line: usize) -> Option<Record> {
        let bytes: [u8; RECORD_LEN] =
            day.records()[line * RECORD_LEN..(line + 1) * RECORD_LEN].try_into().unwrap();
        Record::parse(&bytes, Profile::PurchaseTac)
    }

    fn first_line() -> Vec<u8> {
        f1_lines(FIXTURE).next().unwrap().to_vec()
    }

    #[test]
    fn the_fixture_line_by_line() {
        let day = day(FIXTURE);
        assert_eq!((day.lines(), day.malformed()), (20_059, 12));
        let versions: Vec<u8> = day.header().groups.iter().map(|group| group.version.0).collect();
        assert_eq!(versions.len(), 13, "{versions:?}");
        assert_eq!(versions[0], 0x41, "numbered by first appearance");
        for (at, line) in f1_lines(FIXTURE).enumerate() {
            let found = record(&day, at);
            let expected = F1Line::parse(line);
            assert_eq!(found.map(|record| record.tac), expected.map(|line| line.tac), "line {at}");
            if let (Some(found), Some(expected)) = (found, expected) {
                let group = day.header().groups[usize::from(found.group)];
                assert_eq!((group.version, group.issuer), (expected.version, expected.issuer));
            }
        }
    }

    #[test]
    fn reading_a_file_is_reading_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("day.txt");
        std::fs::write(&path, FIXTURE).unwrap();
        assert_eq!(Day::read(&path, &lineage()).unwrap(), day(FIXTURE));
        let missing = Day::read(&dir.path().join("none"), &lineage()).unwrap_err();
        assert!(missing.to_string().contains("none: cannot read the day file"), "{missing}");
    }

    #[test]
    fn ends_and_empty_lines_and_cr() {
        let good = first_line();
        let lines = |bytes: &[u8]| {
            let day = day(bytes);
            (day.lines(), day.malformed())
        };
        assert_eq!(lines(b""), (0, 0));
        assert_eq!(lines(b"\n"), (1, 1));
        assert_eq!(lines(&good), (1, 0));
        assert_eq!(lines(&[&good[..], b"\n"].concat()), (1, 0));
        assert_eq!(lines(&[&good[..], b"\n\n", &good].concat()), (3, 1));
        assert_eq!(lines(&[&good[..], b"\r\n", &good].concat()), (2, 1));
        assert_eq!(lines(b"\n\n"), (2, 2));
    }

    #[test]
    fn positions_do_not_shift_and_malformed_lines_are_bound() {
        let good = first_line();
        let day = day(&[b"short\n", &good[..], b"\nother\n"].concat());
        assert_eq!((record(&day, 0), record(&day, 2)), (None, None));
        assert!(record(&day, 1).is_some());
        let records = day.records();
        assert_ne!(records[..RECORD_LEN], records[2 * RECORD_LEN..], "each carries its own line's digest");
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let long = vec![b'0'; usize::try_from(LINE_MAX).unwrap() + 1];
        let bytes = [b"\n", &long[..]].concat();
        assert!(matches!(Day::from_bytes(&bytes, &lineage()), Err(DayError::Line { line: 2 })));
    }

    #[test]
    fn the_last_group_that_fits_and_the_first_that_does_not() {
        let with = |group: u32| {
            let mut line = first_line();
            line.splice(177..185, format!("{:08X}", group + 1).into_bytes());
            line.push(b'\n');
            line
        };
        let mut bytes: Vec<u8> = (0..65_535).flat_map(with).collect();
        bytes.extend(with(7));
        let full = day(&bytes);
        assert_eq!((full.header().groups.len(), full.lines()), (65_535, 65_536));
        assert_eq!(record(&full, 65_535).unwrap().group, 7);
        assert_eq!(full.header().groups[7].version, KeyVersion(0x41));
        assert!(BatchHeader::parse(&full.header().to_bytes()).is_ok());
        bytes.extend(with(65_535));
        let refused = Day::from_bytes(&bytes, &lineage()).unwrap_err();
        assert!(matches!(refused, DayError::Groups { line: 65_537 }));
        assert!(refused.to_string().contains("split the day"));
    }
}
