//! An F1 day as it comes in parts: lines across part borders, records and groups out.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};
use wire::batch::{GROUPS_MAX, Group, Profile, RECORD_LEN, Record};
use wire::purse::{F1_LINE_LEN, F1Line};

const PROFILE: Profile = Profile::PurchaseTac;

/// More different (version, issuer) pairs than a group table holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooManyGroups;

/// Splits and parses. Groups are numbered by first appearance.
#[derive(Debug, Default)]
pub(crate) struct F1 {
    line: Line,
    groups: HashMap<Group, u16>,
    /// Most lines have the group of the line before.
    last: Option<(Group, u16)>,
    fresh: Vec<Group>,
    records: BytesMut,
}

/// The part of a line whose end has not come yet.
#[derive(Debug, Default)]
enum Line {
    #[default]
    None,
    /// Not too long yet.
    Short(Vec<u8>),
    /// Too long to be a line: only its hash goes on.
    Long(Sha256),
}

impl F1 {
    /// Takes the next part of the day.
    pub(crate) fn feed(&mut self, mut part: &[u8]) -> Result<(), TooManyGroups> {
        while let Some(end) = part.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = part.split_at(end);
            part = rest.get(1..).unwrap_or_default();
            match std::mem::take(&mut self.line) {
                Line::None => self.push(line)?,
                begun => {
                    let ended = begun.and(line);
                    self.push_line(ended)?;
                }
            }
        }
        if !part.is_empty() {
            self.line = std::mem::take(&mut self.line).and(part);
        }
        Ok(())
    }

    /// The day is over: a last line without LF counts.
    pub(crate) fn finish(&mut self) -> Result<(), TooManyGroups> {
        match std::mem::take(&mut self.line) {
            Line::None => Ok(()),
            line => self.push_line(line),
        }
    }

    /// Whole records that wait.
    pub(crate) fn ready(&self) -> usize {
        self.records.len() / RECORD_LEN
    }

    pub(crate) fn take(&mut self, records: usize) -> Bytes {
        let len = self.records.len().min(records * RECORD_LEN);
        self.records.split_to(len).freeze()
    }

    /// Groups that have appeared since the last call.
    pub(crate) fn fresh_groups(&mut self) -> Vec<Group> {
        std::mem::take(&mut self.fresh)
    }

    fn push_line(&mut self, line: Line) -> Result<(), TooManyGroups> {
        match line {
            Line::None => self.push(b""),
            Line::Short(line) => self.push(&line),
            Line::Long(digest) => {
                let record = Record::malformed_digest(&digest.finalize().into(), PROFILE);
                self.records.put_slice(&record);
                Ok(())
            }
        }
    }

    fn push(&mut self, line: &[u8]) -> Result<(), TooManyGroups> {
        let record = match F1Line::parse(line) {
            Some(line) => {
                let group = self.group(Group { version: line.version, issuer: line.issuer })?;
                line.record(group).to_bytes(PROFILE)
            }
            None => Record::malformed(line, PROFILE),
        };
        self.records.put_slice(&record);
        Ok(())
    }

    fn group(&mut self, group: Group) -> Result<u16, TooManyGroups> {
        if let Some((last, number)) = self.last
            && last == group
        {
            return Ok(number);
        }
        let next = self.groups.len();
        let number = match self.groups.get(&group) {
            Some(number) => *number,
            None if next < GROUPS_MAX => {
                let number = u16::try_from(next).map_err(|_| TooManyGroups)?;
                self.groups.insert(group, number);
                self.fresh.push(group);
                number
            }
            None => return Err(TooManyGroups),
        };
        self.last = Some((group, number));
        Ok(number)
    }
}

impl Line {
    fn and(self, more: &[u8]) -> Self {
        match self {
            Self::None => Self::Short(Vec::new()).and(more),
            Self::Short(mut line) if line.len() + more.len() <= F1_LINE_LEN => {
                line.extend_from_slice(more);
                Self::Short(line)
            }
            Self::Short(line) => Self::Long(Sha256::new().chain_update(line).chain_update(more)),
            Self::Long(digest) => Self::Long(digest.chain_update(more)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::purse::f1_lines;

    /// Vector `clearing-line-ascii` of card-crypto.
    const LINE: &str = "0000000000010000310100001234567800031010000123456783101000012345678001000002710000001F40000251C090000000111223344556611223344556600000029100000012320240131093015D00A87B60101000612345000123450009999999900000007LINE-42             000008150000009920240131060000010202401312200001A1B2C3D4                              ";

    fn with(at: usize, text: &str) -> String {
        let mut line = LINE.to_owned();
        line.replace_range(at..at + text.len(), text);
        line
    }

    fn day() -> String {
        let lines = [
            LINE.to_owned(),
            with(169, "41"),
            String::new(),
            with(177, "1234500012345001"),
            LINE[1..].to_owned(),
            format!("{LINE}\r"),
            "x".repeat(70_000),
            with(169, "41"),
            "字".repeat(105),
            LINE.to_owned(),
        ];
        lines.join("\n")
    }

    fn split(day: &[u8], step: usize) -> (Vec<u8>, Vec<Group>) {
        let (mut f1, mut records, mut groups) = (F1::default(), Vec::new(), Vec::new());
        for part in day.chunks(step) {
            f1.feed(part).unwrap();
            groups.extend(f1.fresh_groups());
            let ready = f1.ready();
            records.extend(f1.take(ready));
        }
        f1.finish().unwrap();
        groups.extend(f1.fresh_groups());
        records.extend(f1.take(usize::MAX / RECORD_LEN));
        (records, groups)
    }

    /// The whole day at once, by another way.
    fn whole(day: &[u8]) -> (Vec<u8>, Vec<Group>) {
        let mut groups: Vec<Group> = Vec::new();
        let mut records = Vec::new();
        for line in f1_lines(day) {
            let record = F1Line::parse(line).map_or_else(
                || Record::malformed(line, PROFILE),
                |line| {
                    let group = Group { version: line.version, issuer: line.issuer };
                    let number = groups.iter().position(|known| *known == group).unwrap_or_else(|| {
                        groups.push(group);
                        groups.len() - 1
                    });
                    line.record(u16::try_from(number).unwrap()).to_bytes(PROFILE)
                },
            );
            records.extend(record);
        }
        (records, groups)
    }

    #[test]
    fn parts_of_every_size_equal_the_whole() {
        let day = day();
        for end in ["", "\n", "\n\n"] {
            let day = format!("{day}{end}").into_bytes();
            let expected = whole(&day);
            assert_eq!(expected.1.len(), 3);
            for step in (1..700).chain([1000, 4096, 65_536, day.len()]) {
                assert_eq!(split(&day, step), expected, "{step}");
            }
        }
    }

    #[test]
    fn short_days() {
        for day in ["", "\n", "a", "a\n", "\n\n", "a\n\nb"] {
            for step in 1..5 {
                assert_eq!(split(day.as_bytes(), step), whole(day.as_bytes()), "{day:?} {step}");
            }
        }
    }

    #[test]
    fn a_long_line_is_not_kept() {
        let mut f1 = F1::default();
        for _ in 0..1000 {
            f1.feed(&[b'x'; 4096]).unwrap();
        }
        assert!(matches!(f1.line, Line::Long(_)) && f1.records.is_empty());
    }

    #[test]
    fn the_group_table_is_bounded() {
        let mut f1 = F1::default();
        for number in 1..=65_535_u32 {
            f1.feed(format!("{}\n", with(177, &format!("{number:016X}"))).as_bytes()).unwrap();
            f1.take(1);
        }
        assert_eq!(f1.fresh_groups().len(), 65_535);
        let refused = f1.feed(format!("{}\n", with(177, "0000000000ABCDEF")).as_bytes());
        assert_eq!(refused, Err(TooManyGroups));
    }
}
