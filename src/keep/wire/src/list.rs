//! The blacklist that gates and buses check offline: CCBL (card-crypto F4; SPEC.md §Blacklist).
//!
//! A file is body ‖ trailer. Clients make the body; the module parses it, and signs only bytes that it has built itself.

use crate::command::Digest;
use crate::licence::{CardSerial, serial_number};

/// First bytes of a list.
pub const MAGIC: [u8; 4] = *b"CCBL";

/// Bytes of the header.
pub const HEADER_LEN: usize = 48;

/// SM3 over the body 32 ‖ MAC key id 4 ‖ MAC 16.
pub const TRAILER_LEN: usize = 52;

/// Longest body that the module takes.
pub const BODY_MAX: usize = 16 << 20;

const SINGLE_LEN: usize = 12;
const RANGE_LEN: usize = 22;
const REMOVAL_LEN: usize = 10;

crate::cbor_code! {
    /// What a list is.
    pub enum ListKind {
        /// Everything that is on it.
        Full = 1, "full";
        /// What changes against the list before it.
        Delta = 2, "delta";
    }
}

/// One card.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[allow(clippy::exhaustive_structs)]
pub struct Single {
    /// The card.
    pub serial: CardSerial,
    /// Why, as the terminals' table has it.
    pub reason: u8,
    /// What a terminal does; the higher, the stricter.
    pub level: u8,
}

/// Cards from … to, both included.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[allow(clippy::exhaustive_structs)]
pub struct Range {
    /// First card.
    pub from: CardSerial,
    /// Last card.
    pub to: CardSerial,
    /// Why.
    pub reason: u8,
    /// What a terminal does; the higher, the stricter.
    pub level: u8,
}

/// A list's body.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct List {
    /// Epoch: one more than the list before it.
    pub version: u32,
    /// Full or delta.
    pub kind: ListKind,
    /// For a delta the epoch that it changes; 0 for a full list.
    pub base: u32,
    /// BCD `YYYYMMDD`.
    pub valid_from: [u8; 4],
    /// BCD `YYYYMMDD`.
    pub valid_to: [u8; 4],
    /// Cards, ascending, none twice.
    pub singles: Vec<Single>,
    /// Ranges, ascending, none touching another.
    pub ranges: Vec<Range>,
    /// Cards that leave the list, ascending; in a delta only.
    pub removals: Vec<CardSerial>,
}

/// Why bytes are no list.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
#[allow(clippy::exhaustive_structs)]
pub struct ListError(pub String);

fn bad<T>(why: impl Into<String>) -> Result<T, ListError> {
    Err(ListError(why.into()))
}

/// Reads big-endian fields off the front.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ListError> {
        let (head, rest) =
            self.0.split_first_chunk::<N>().ok_or_else(|| ListError("the list is cut short".into()))?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, ListError> {
        self.take().map(u32::from_be_bytes)
    }
}

impl List {
    /// Reads and judges a body. Whatever [`Self::to_bytes`] would not write in exactly these bytes is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, ListError> {
        let mut input = Cursor(bytes);
        if input.take()? != MAGIC {
            return bad("the list does not start with CCBL");
        }
        let version = input.u32()?;
        let [kind] = input.take()?;
        let kind = ListKind::from_code(u64::from(kind))
            .ok_or_else(|| ListError("the kind is neither 1 nor 2".into()))?;
        let (base, valid_from, valid_to) = (input.u32()?, input.take()?, input.take()?);
        let counts = [input.u32()?, input.u32()?, input.u32()?].map(|count| count as usize);
        if input.take::<15>()? != [0; 15] {
            return bad("reserved bytes of the header are not zero");
        }
        let [singles, ranges, removals] = counts;
        let expected = singles.checked_mul(SINGLE_LEN).and_then(|sum| {
            sum.checked_add(ranges.checked_mul(RANGE_LEN)?)?.checked_add(removals.checked_mul(REMOVAL_LEN)?)
        });
        if expected != Some(input.0.len()) {
            return bad("the counts in the header do not give the length of the list");
        }
        let mut list = Self {
            version,
            kind,
            base,
            valid_from,
            valid_to,
            singles: vec![],
            ranges: vec![],
            removals: vec![],
        };
        for _ in 0..singles {
            let (serial, [reason, level]) = (input.take()?, input.take()?);
            list.singles.push(Single { serial, reason, level });
        }
        for _ in 0..ranges {
            let (from, to, [reason, level]) = (input.take()?, input.take()?, input.take()?);
            list.ranges.push(Range { from, to, reason, level });
        }
        for _ in 0..removals {
            list.removals.push(input.take()?);
        }
        list.check()?;
        Ok(list)
    }

    /// The rules that hold for every list.
    pub fn check(&self) -> Result<(), ListError> {
        if self.version == 0 {
            return bad("the first epoch is 1");
        }
        let full = self.kind == ListKind::Full;
        if full && (self.base != 0 || !self.removals.is_empty()) {
            return bad("a full list has no base and no removals");
        }
        if !full && self.base.checked_add(1) != Some(self.version) {
            return bad("a delta's base is the epoch before it");
        }
        if !is_date(&self.valid_from) || !is_date(&self.valid_to) || self.valid_from > self.valid_to {
            return bad("the validity is not two dates in order");
        }
        let digits = |serial: &CardSerial| serial_number(serial).is_some();
        let serials = self.singles.iter().map(|single| &single.serial).chain(&self.removals);
        let ends = self.ranges.iter().flat_map(|range| [&range.from, &range.to]);
        if !serials.chain(ends).all(digits) {
            return bad("a card number is not 20 decimal digits");
        }
        if !ascending(self.singles.iter().map(|single| single.serial))
            || !ascending(self.removals.iter().copied())
        {
            return bad("cards do not ascend, or one comes twice");
        }
        let bounds = self.ranges.iter().flat_map(|range| [(range.from, 0_u8), (range.to, 1)]);
        if !self.ranges.iter().all(|range| range.from <= range.to) || !ascending(bounds) {
            return bad("ranges do not ascend, or overlap");
        }
        if self.removals.iter().any(|serial| self.lists_single(serial)) {
            return bad("a card is put on the list and removed at once");
        }
        Ok(())
    }

    /// The body's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
        let len = self.singles.len() * SINGLE_LEN
            + self.ranges.len() * RANGE_LEN
            + self.removals.len() * REMOVAL_LEN;
        let mut out = Vec::with_capacity(HEADER_LEN + len);
        out.extend(MAGIC);
        out.extend(self.version.to_be_bytes());
        out.push(u8::try_from(self.kind.code()).unwrap_or_default());
        out.extend(self.base.to_be_bytes());
        out.extend(self.valid_from);
        out.extend(self.valid_to);
        for len in [self.singles.len(), self.ranges.len(), self.removals.len()] {
            out.extend(count(len));
        }
        out.extend([0; 15]);
        for single in &self.singles {
            out.extend(single.serial);
            out.extend([single.reason, single.level]);
        }
        for range in &self.ranges {
            out.extend(range.from);
            out.extend(range.to);
            out.extend([range.reason, range.level]);
        }
        for serial in &self.removals {
            out.extend(serial);
        }
        out
    }

    /// Whether this card stands on the list by its own entry.
    pub fn lists_single(&self, serial: &CardSerial) -> bool {
        self.singles.binary_search_by_key(serial, |single| single.serial).is_ok()
    }

    /// Whether this card is on the list, by its own entry or a range.
    pub fn lists(&self, serial: &CardSerial) -> bool {
        self.lists_single(serial) || self.range_of(serial).is_some()
    }

    /// What is in force once `next` follows `self`, itself the full list in force; `None` stands for no list at all.
    ///
    /// # Errors
    /// A delta to nothing, or one that removes a card that has no entry of its own, or overlaps a range.
    pub fn follow(current: Option<&Self>, next: &Self) -> Result<Self, ListError> {
        if next.kind == ListKind::Full {
            return Ok(next.clone());
        }
        let Some(current) = current else {
            return bad("a delta needs a list that it changes");
        };
        if let Some(serial) = next.removals.iter().find(|serial| !current.lists_single(serial)) {
            return bad(format!("{} is removed and has no entry of its own", crate::purse::to_hex(serial)));
        }
        let kept = current.singles.iter().filter(|single| {
            !next.lists_single(&single.serial) && next.removals.binary_search(&single.serial).is_err()
        });
        let mut singles: Vec<Single> = kept.chain(&next.singles).copied().collect();
        let mut ranges: Vec<Range> = current.ranges.iter().chain(&next.ranges).copied().collect();
        singles.sort_unstable();
        ranges.sort_unstable();
        let list = Self {
            kind: ListKind::Full,
            base: 0,
            singles,
            ranges,
            removals: vec![],
            version: next.version,
            valid_from: next.valid_from,
            valid_to: next.valid_to,
        };
        list.check()?;
        Ok(list)
    }

    /// The level at which a card stands on the list: that of its own entry, which goes before a range's.
    pub fn level(&self, serial: &CardSerial) -> Option<u8> {
        let own = self.singles.binary_search_by_key(serial, |single| single.serial);
        let own = own.ok().and_then(|at| self.singles.get(at)).map(|single| single.level);
        own.or_else(|| self.range_of(serial).map(|range| range.level))
    }

    /// Cards that are on `before`, and not on `self` or at a lower level, counted no further than `limit` + 1. A level that
    /// lets the card through is as good as none, and which one does only the terminals know.
    pub fn removed_since(&self, before: &Self, limit: u64) -> u64 {
        let weaker = |single: &&Single| self.level(&single.serial).is_none_or(|level| level < single.level);
        let mut removed = before.singles.iter().filter(weaker).count() as u128;
        for range in &before.ranges {
            if removed > u128::from(limit) {
                break;
            }
            removed += self.uncovered(range, &before.singles);
        }
        u64::try_from(removed).unwrap_or(u64::MAX).min(limit.saturating_add(1))
    }

    /// Cards of `range` that this list does not hold, or at a lower level. `own` are the entries of the list that the range
    /// stands on: those cards are counted by them.
    fn uncovered(&self, range: &Range, own: &[Single]) -> u128 {
        let number = |serial: &CardSerial| serial_number(serial).unwrap_or_default();
        let (from, to) = (number(&range.from), number(&range.to));
        let mut open = to - from + 1;
        // Both lists are sorted, so only what meets the range is looked at: a list is read in linear time.
        let first = self.ranges.partition_point(|mine| mine.to < range.from);
        let strong = |level: u8| level >= range.level;
        let meeting = self.ranges.iter().skip(first).take_while(|mine| mine.from <= range.to);
        for mine in meeting.filter(|mine| strong(mine.level)) {
            let (low, high) = (number(&mine.from).max(from), number(&mine.to).min(to));
            open -= high - low + 1;
        }
        for single in inside(&self.singles, range) {
            let by_range = self.range_of(&single.serial).is_some_and(|mine| strong(mine.level));
            match (strong(single.level), by_range) {
                (true, false) => open -= 1,
                (false, true) => open += 1,
                _ => {}
            }
        }
        let weak = |single: &&Single| self.level(&single.serial).is_none_or(|level| !strong(level));
        open - inside(own, range).filter(weak).count() as u128
    }

    fn range_of(&self, serial: &CardSerial) -> Option<&Range> {
        let at = self.ranges.partition_point(|range| range.from <= *serial);
        at.checked_sub(1).and_then(|at| self.ranges.get(at)).filter(|range| *serial <= range.to)
    }
}

/// The entries whose cards a range holds.
fn inside<'a>(singles: &'a [Single], range: &'a Range) -> impl Iterator<Item = &'a Single> {
    let first = singles.partition_point(|single| single.serial < range.from);
    singles.iter().skip(first).take_while(|single| single.serial <= range.to)
}

fn ascending<T: Ord>(mut values: impl Iterator<Item = T>) -> bool {
    let Some(mut last) = values.next() else {
        return true;
    };
    values.all(|value| {
        let higher = value > last;
        last = value;
        higher
    })
}

/// Whether these are the BCD digits of a day that a calendar has.
fn is_date(bcd: &[u8; 4]) -> bool {
    let digits = bcd.iter().all(|byte| byte >> 4 <= 9 && byte & 15 <= 9);
    digits && crate::purse::is_date(*bcd)
}

crate::cbor_struct! {
    /// A list whose removals are above the module's limit, approved by quorum.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ApprovedList {
        /// Applet, and wall.
        0 => wall: String,
        /// Its epoch.
        1 => epoch: u64,
        /// SHA-256 of its body.
        2 => digest: Digest,
        /// Cards that it takes off, as the officers were told.
        3 => removed: u64,
    }
}

/// Cards that a list may take off without a quorum.
pub const REMOVALS_MAX: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn serial(last: u8) -> CardSerial {
        let mut serial = [0x31; 10];
        serial[9] = last;
        serial
    }

    fn single(last: u8) -> Single {
        Single { serial: serial(last), reason: 1, level: 2 }
    }

    fn range(from: u8, to: u8) -> Range {
        Range { from: serial(from), to: serial(to), reason: 1, level: 2 }
    }

    fn full(singles: &[u8], ranges: &[(u8, u8)]) -> List {
        List {
            version: 7,
            kind: ListKind::Full,
            base: 0,
            valid_from: [0x20, 0x26, 0x01, 0x31],
            valid_to: [0x20, 0x26, 0x12, 0x31],
            singles: singles.iter().map(|last| single(*last)).collect(),
            ranges: ranges.iter().map(|(from, to)| range(*from, *to)).collect(),
            removals: vec![],
        }
    }

    fn delta(singles: &[u8], removals: &[u8]) -> List {
        let removals = removals.iter().map(|last| serial(*last)).collect();
        List { version: 8, kind: ListKind::Delta, base: 7, removals, ..full(singles, &[]) }
    }

    #[test]
    fn bytes_have_one_reading() {
        for list in [full(&[], &[]), full(&[1, 2, 9], &[(0x10, 0x19), (0x20, 0x20)]), delta(&[5], &[1])] {
            let bytes = list.to_bytes();
            assert_eq!(List::parse(&bytes), Ok(list));
            for at in 0..bytes.len() {
                assert!(List::parse(&bytes[..at]).is_err(), "cut at {at}");
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x80;
                // Whatever is still read is written back in the same bytes: nothing is signed that was not read.
                if let Ok(read) = List::parse(&flipped) {
                    assert_eq!(read.to_bytes(), flipped, "byte {at}");
                }
            }
            assert!(List::parse(&[bytes, vec![0]].concat()).is_err());
        }
    }

    #[test]
    fn what_is_refused() {
        let refused = |list: &List, why: &str| {
            let error = List::parse(&list.to_bytes()).unwrap_err().0;
            assert!(error.contains(why), "{error}");
        };
        refused(&full(&[2, 1], &[]), "ascend");
        refused(&full(&[1, 1], &[]), "twice");
        refused(&full(&[], &[(1, 5), (5, 6)]), "overlap");
        refused(&full(&[], &[(6, 5)]), "ranges");
        refused(&full(&[0x0a], &[]), "decimal");
        refused(&List { version: 0, ..full(&[], &[]) }, "epoch");
        refused(&List { base: 6, ..full(&[], &[]) }, "base");
        refused(&List { removals: vec![serial(1)], ..full(&[], &[]) }, "removals");
        refused(&List { base: 6, ..delta(&[], &[]) }, "base");
        refused(&delta(&[1], &[1]), "at once");
        refused(&List { valid_to: [0x20, 0x26, 0x02, 0x30], ..full(&[], &[]) }, "dates");
        refused(&List { valid_to: [0x20, 0x25, 0x12, 0x31], ..full(&[], &[]) }, "order");
        refused(&List { valid_to: [0x20, 0x26, 0x0a, 0x01], ..full(&[], &[]) }, "dates");
    }

    #[test]
    fn what_is_in_force_and_what_left() {
        let current = full(&[1, 2, 3], &[(0x10, 0x19)]);
        let next = List::follow(Some(&current), &delta(&[2, 4], &[1])).unwrap();
        assert_eq!(next.singles.iter().map(|single| single.serial[9]).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!((next.kind, next.version), (ListKind::Full, 8));
        assert_eq!(next.removed_since(&current, 9), 1);
        assert!(List::follow(Some(&current), &delta(&[], &[5])).is_err(), "not on the list");
        assert!(List::follow(Some(&current), &delta(&[], &[0x11])).is_err(), "only inside a range");
        assert!(List::follow(None, &delta(&[1], &[])).is_err());
        assert_eq!(full(&[], &[]).removed_since(&current, 100), 13);
        assert_eq!(full(&[], &[]).removed_since(&current, 5), 6, "no further than the limit and one");
        assert_eq!(full(&[3, 0x15], &[(1, 2), (0x10, 0x12)]).removed_since(&current, 100), 6);
        assert_eq!(full(&[], &[(0, 0x20)]).removed_since(&current, 100), 0);
    }

    #[test]
    fn a_lower_level_is_a_removal() {
        let level = |mut list: List, level: u8| {
            list.singles.iter_mut().for_each(|single| single.level = level);
            list.ranges.iter_mut().for_each(|range| range.level = level);
            list
        };
        let current = full(&[1, 2, 3], &[(0x10, 0x19)]);
        assert_eq!(level(current.clone(), 1).removed_since(&current, 100), 13);
        assert_eq!(level(current.clone(), 3).removed_since(&current, 100), 0);
        let reasons = List {
            singles: current.singles.iter().map(|one| Single { reason: 9, ..*one }).collect(),
            ..current.clone()
        };
        assert_eq!(reasons.removed_since(&current, 100), 0, "reasons have no order");
        // A range at a lower level around them: only who keeps his own entry stays.
        let mut weak = full(&[1], &[(0, 0x20)]);
        weak.ranges[0].level = 1;
        assert_eq!(weak.removed_since(&current, 100), 12);
        // Own entries go before ranges, both ways.
        let mut inside = full(&[1, 2, 3, 0x12, 0x13], &[(0x10, 0x19)]);
        inside.singles[3].level = 1;
        assert_eq!(inside.removed_since(&current, 100), 1);
        assert_eq!(inside.removed_since(&inside, 100), 0, "the same list takes nobody off");
        assert_eq!(
            full(&[], &[]).removed_since(&inside, 100),
            13,
            "a card that stands there twice is one card"
        );
        assert_eq!(full(&[1, 2, 3, 0x13], &[]).removed_since(&inside, 100), 9);
        assert_eq!(
            (inside.level(&serial(0x12)), inside.level(&serial(0x14)), inside.level(&serial(9))),
            (Some(1), Some(2), None)
        );
    }
}
