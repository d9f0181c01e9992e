//! One group of the write-ahead log: entries and the head over them, all or nothing (SPEC.md §WAL).

use super::crc32c::crc32c;

const MAGIC: &[u8; 4] = b"CKWG";
const FORMAT: u16 = 1;

/// Magic, format, zero, first index, count, body length, CRC.
const HEADER_LEN: usize = 4 + 2 + 2 + 8 + 4 + 4 + 4;
const CRC_LEN: usize = 4;

/// A group's body is at most this long.
const BODY_MAX: usize = 1 << 30;

/// A group as it stands in a segment.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Group<'a> {
    /// Index of the first entry.
    pub(super) first: u64,
    /// Entries.
    pub(super) entries: Vec<&'a [u8]>,
    /// Checkpoint over all entries up to the last of these.
    pub(super) note: &'a str,
    /// Bytes of the whole group.
    pub(super) length: usize,
}

/// What is at a place where a group should be.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Found<'a> {
    /// A good group.
    Good(Group<'a>),
    /// A group that says where it ends, but is not whole or not right.
    Bad { end: usize },
    /// Nothing that can be read.
    Unreadable,
}

/// A group's bytes; `None` if it would be too long.
pub(super) fn encode<T: AsRef<[u8]>>(first: u64, entries: &[T], note: &str) -> Option<Vec<u8>> {
    let parts = entries.iter().map(AsRef::as_ref).chain([note.as_bytes()]);
    let body_len: usize = parts.clone().map(|part| part.len() + 4).sum();
    let mut bytes = Vec::with_capacity(HEADER_LEN + body_len + CRC_LEN);
    bytes.extend(MAGIC);
    bytes.extend(FORMAT.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(first.to_be_bytes());
    bytes.extend(u32::try_from(entries.len()).ok()?.to_be_bytes());
    bytes.extend(u32::try_from(body_len).ok()?.to_be_bytes());
    bytes.extend(crc32c(&bytes).to_be_bytes());
    for part in parts {
        bytes.extend(u32::try_from(part.len()).ok()?.to_be_bytes());
        bytes.extend(part);
    }
    bytes.extend(crc32c(&bytes).to_be_bytes());
    (body_len <= BODY_MAX).then_some(bytes)
}

/// Reads what stands at the start of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Found<'_> {
    let Some((first, count, body_len)) = bytes.get(..HEADER_LEN).and_then(read_header) else {
        return Found::Unreadable;
    };
    let end = HEADER_LEN + body_len + CRC_LEN;
    bytes.get(..end).and_then(|group| read_body(group, first, count)).map_or(Found::Bad { end }, Found::Good)
}

/// Whether a good group stands anywhere in `bytes`.
pub(super) fn any_good(bytes: &[u8]) -> bool {
    let starts = bytes.windows(MAGIC.len()).enumerate();
    starts
        .filter(|(_, window)| window == MAGIC)
        .any(|(at, _)| bytes.get(at..).is_some_and(|rest| matches!(read(rest), Found::Good(_))))
}

fn read_header(header: &[u8]) -> Option<(u64, u32, usize)> {
    let (fields, crc) = header.split_last_chunk::<4>()?;
    let rest = fields.strip_prefix(MAGIC)?.strip_prefix(&FORMAT.to_be_bytes())?;
    let rest = rest.strip_prefix(&[0, 0])?;
    let (first, rest) = rest.split_first_chunk::<8>()?;
    let (count, body_len) = rest.split_first_chunk::<4>()?;
    let body_len = usize::try_from(u32::from_be_bytes(body_len.try_into().ok()?)).ok()?;
    let good = crc32c(fields) == u32::from_be_bytes(*crc) && body_len <= BODY_MAX;
    good.then(|| (u64::from_be_bytes(*first), u32::from_be_bytes(*count), body_len))
}

fn read_body(group: &[u8], first: u64, count: u32) -> Option<Group<'_>> {
    let (covered, crc) = group.split_last_chunk::<CRC_LEN>()?;
    if crc32c(covered) != u32::from_be_bytes(*crc) {
        return None;
    }
    let mut rest = covered.get(HEADER_LEN..)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(take(&mut rest)?);
    }
    let note = core::str::from_utf8(take(&mut rest)?).ok()?;
    (rest.is_empty() && !entries.is_empty()).then_some(Group { first, entries, note, length: group.len() })
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_bytes() {
        let bytes = encode(258, &[b"ab".as_slice(), b""], "n").unwrap();
        let hex = wire::purse::to_hex(&bytes).to_lowercase();
        // The checksums were computed by another program.
        assert_eq!(
            hex,
            "434b574700010000000000000000010200000002\
             0000000fa587f47500000002616200000000000000016e5a34f70d"
        );
    }

    #[test]
    fn every_cut_and_flip_is_seen() {
        let bytes = encode(7, &[b"one".as_slice(), b"three"], "note\n").unwrap();
        let Found::Good(group) = read(&bytes) else {
            panic!("not read back");
        };
        assert_eq!((group.first, group.note, group.length), (7, "note\n", bytes.len()));
        assert_eq!(group.entries, [b"one".as_slice(), b"three"]);
        for len in 0..bytes.len() {
            assert!(!matches!(read(&bytes[..len]), Found::Good(_)), "{len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(read(&bad), Found::Good(_)), "{bit}");
        }
        assert_eq!(read(&bytes[..bytes.len() - 1]), Found::Bad { end: bytes.len() });
    }

    #[test]
    fn a_group_is_found_behind_rubbish() {
        let good = encode(7, &[b"one"], "note").unwrap();
        assert!(any_good(&[b"CKWG rubbish".as_slice(), &good].concat()));
        assert!(!any_good(&[b"CKWG rubbish".as_slice(), &good[..good.len() - 1]].concat()));
        assert!(!any_good(b""));
    }
}
