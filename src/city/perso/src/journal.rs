//! The journal of a job: what is finished, line by line (SPEC.md §Journal line).

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use wire::purse::{hex, to_hex};

use crate::job::JobError;

/// A finished batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Row {
    /// From 1.
    pub(crate) number: u64,
    /// First card number, 20 digits.
    pub(crate) first: String,
    pub(crate) cards: u64,
    /// Log entry.
    pub(crate) index: u64,
    /// The licence's count after it.
    pub(crate) issued: u64,
    /// The service's digest over serials and check values.
    pub(crate) digest: [u8; 32],
    /// SHA-256 of the batch's file.
    pub(crate) file: [u8; 32],
}

impl Row {
    fn text(&self) -> String {
        let Self { number, first, cards, index, issued, digest, file } = self;
        let body =
            format!("batch {number} {first} {cards} {index} {issued} {} {}", to_hex(digest), to_hex(file));
        let check = check(&body);
        format!("{body} {check}\n")
    }

    fn read(line: &str) -> Option<Self> {
        let (body, checked) = line.rsplit_once(' ')?;
        if check(body) != checked {
            return None;
        }
        let words: Vec<&str> = body.split(' ').collect();
        let ["batch", number, first, cards, index, issued, digest, file] = words.as_slice() else {
            return None;
        };
        Some(Self {
            number: number.parse().ok()?,
            first: (*first).to_owned(),
            cards: cards.parse().ok()?,
            index: index.parse().ok()?,
            issued: issued.parse().ok()?,
            digest: hex(digest.as_bytes())?,
            file: hex(file.as_bytes())?,
        })
    }
}

fn check(body: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(body).into();
    to_hex(digest.first_chunk::<4>().unwrap_or(&[0; 4]))
}

/// The open journal; one process has it at a time.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    rows: Vec<Row>,
}

impl Journal {
    /// Opens or makes the journal, locks it, and cuts off a line that was not finished.
    pub(crate) fn open(path: &Path) -> Result<Self, JobError> {
        let failed = |error: std::io::Error| JobError::file(path, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        file.try_lock().map_err(|_| JobError::Busy(path.to_owned()))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let (rows, good) = read(&text).ok_or_else(|| JobError::Journal(path.to_owned()))?;
        if good < text.len() {
            file.set_len(good as u64).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { file, rows })
    }

    /// The finished batches.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Enters a finished batch; it is durable when this returns.
    pub(crate) fn add(&mut self, row: Row) -> std::io::Result<()> {
        self.file.write_all(row.text().as_bytes())?;
        self.file.sync_data()?;
        self.rows.push(row);
        Ok(())
    }
}

/// The rows, and how many bytes of them are good. Only the last line may be unfinished.
fn read(text: &str) -> Option<(Vec<Row>, usize)> {
    let (mut rows, mut good) = (Vec::new(), 0);
    for line in text.split_inclusive('\n') {
        let whole = line.strip_suffix('\n').and_then(Row::read);
        match whole {
            Some(row) if row.number == rows.len() as u64 + 1 => {
                good += line.len();
                rows.push(row);
            }
            _ if good + line.len() == text.len() => break,
            _ => return None,
        }
    }
    Some((rows, good))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u64) -> Row {
        Row {
            number,
            first: "00003101000020000000".into(),
            cards: 128,
            index: 40 + number,
            issued: 128 * number,
            digest: [0xab; 32],
            file: [0xcd; 32],
        }
    }

    #[test]
    fn a_line_has_one_text() {
        let text = row(7).text();
        let golden = format!(
            "batch 7 00003101000020000000 128 47 896 {} {} 2BF107A8\n",
            "AB".repeat(32),
            "CD".repeat(32)
        );
        assert_eq!(text, golden);
        assert_eq!(Row::read(text.trim_end()), Some(row(7)));
        for at in 0..text.len() - 1 {
            let mut flipped = text.clone().into_bytes();
            flipped[at] ^= 1;
            let flipped = String::from_utf8(flipped).unwrap();
            assert_eq!(Row::read(flipped.trim_end()), None, "{flipped}");
        }
    }

    #[test]
    fn only_the_last_line_may_be_unfinished() {
        let text: String = (1..=3).map(|number| row(number).text()).collect();
        for cut in 0..=text.len() {
            let (rows, good) = read(&text[..cut]).unwrap();
            assert_eq!(rows.len(), text[..cut].matches('\n').count());
            assert!(good <= cut && (text[..good].ends_with('\n') || good == 0));
        }
        assert!(read(&text.replacen("128 41", "128 42", 1)).is_none(), "a finished line that was changed");
        let out_of_order: String = [1, 3, 2].map(|number| row(number).text()).concat();
        assert!(read(&out_of_order).is_none());
    }

    #[test]
    fn one_process_at_a_time_and_a_torn_tail_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.add(row(1)).unwrap();
        assert!(matches!(Journal::open(&path), Err(JobError::Busy(_))));
        drop(journal);
        let torn = row(2).text();
        let mut bytes = std::fs::read(&path).unwrap();
        let whole = bytes.len();
        bytes.extend(&torn.as_bytes()[..20]);
        std::fs::write(&path, &bytes).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.rows(), [row(1)]);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole as u64);
        journal.add(row(2)).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().rows().len(), 2);
    }
}
