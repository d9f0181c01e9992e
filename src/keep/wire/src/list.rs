//! The blacklist that gates and buses check offline: CCBL (card-crypto F4; SPEC.md §Blacklist).
//!
//! A file is body ‖ trailer. Clients make the body; the module parses it, and signs only bytes that it has built itself.

use crate::command::Digest;
use crate::licence::{CardSerial, serial_number};
use crate::purse::days;

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

    /// Cards of `before`, the full list in force, that get through sooner once `next` is signed: `self` is what is in force after
    /// it. Besides those that [`Self::removed_since`] counts these are all of them if `next` ends before `before`, has ended at
    /// `today` (days since 1970), or leaves a gap before it begins.
    pub fn leaving(&self, before: &Self, next: &Self, today: u64, limit: u64) -> u64 {
        let today = i64::try_from(today).unwrap_or(i64::MAX);
        let gap = next.valid_from > before.valid_from && days(next.valid_from) > today.saturating_add(1);
        if !gap && next.valid_to >= before.valid_to && days(next.valid_to) >= today {
            return self.removed_since(before, limit);
        }
        let nobody = Self { singles: vec![], ranges: vec![], ..self.clone() };
        nobody.removed_since(before, limit)
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
        /// Cards that it takes off, as the officers were told; [`ApprovedList::UNKNOWN`] if nobody can say.
        3 => removed: u64,
    }
}

impl ApprovedList {
    /// The list in force is lost, so that nobody can say who leaves: everybody may.
    pub const UNKNOWN: u64 = u64::MAX;
}

/// Cards that a list may take off without a quorum.
pub const REMOVALS_MAX: u64 = 1_000;

#[cfg(test)]
mod tests;
