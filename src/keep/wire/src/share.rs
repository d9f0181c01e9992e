//! Shares of the root, their certificate, and the text in which a custodian keeps one (SPEC.md §Share).

use sha2::Digest as _;

use crate::cbor::{Bytes, Cbor};
use crate::command::{Digest, Id, PublicKey};

/// Bytes of the root key and so of each share's value.
pub const ROOT_LEN: usize = 32;

crate::cbor_struct! {
    /// One share, in plain only inside the module and the custodian's own session.
    pub struct Share {
        /// Format, 1.
        0 => version: u64,
        /// The set that it belongs to.
        1 => set: Id,
        /// Epoch of the set: 1 for genesis, one more at each re-sharing.
        2 => epoch: u64,
        /// x coordinate in GF(256), 1 to 32.
        3 => index: u64,
        /// How many shares open the root.
        4 => threshold: u64,
        /// y coordinates.
        5 => value: [u8; ROOT_LEN],
    }
}

impl core::fmt::Debug for Share {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Share").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Share {
    /// SHA-256("citykeep share v1" ‖ 0 ‖ set ‖ epoch ‖ index ‖ threshold ‖ value), integers as u64 big-endian.
    pub fn commitment(&self) -> Digest {
        let mut digest = sha2::Sha256::new();
        digest.update(b"citykeep share v1\0");
        digest.update(self.set);
        for number in [self.epoch, self.index, self.threshold] {
            digest.update(number.to_be_bytes());
        }
        digest.update(self.value);
        digest.finalize().into()
    }
}

crate::cbor_struct! {
    /// One custodian's place in a share set.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ShareSlot {
        /// x coordinate.
        0 => index: u64,
        /// The custodian's name.
        1 => custodian: String,
        /// The key that the share is encrypted to on its way out.
        2 => key: PublicKey,
        /// [`Share::commitment`].
        3 => commitment: Digest,
    }
}

crate::cbor_struct! {
    /// What is public about a share set.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ShareSet {
        /// Format, 1.
        0 => version: u64,
        /// Suite, 1.
        1 => suite: u64,
        /// The service whose root it is.
        2 => instance: Id,
        /// The set's id.
        3 => set: Id,
        /// The set's epoch.
        4 => epoch: u64,
        /// m.
        5 => threshold: u64,
        /// The n places.
        6 => slots: Vec<ShareSlot>,
    }
}

crate::cbor_struct! {
    /// A share set with its proof: the module recomputes the MAC from the combined root, so that a forged certificate
    /// and a wrong root are found at the same step.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ShareCertificate {
        /// Canonical [`ShareSet`] bytes.
        0 => set: Bytes,
        /// HMAC-SHA-256 over them under a key derived from the root.
        1 => mac: Digest,
    }
}

/// Crockford's base 32, without I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUP: usize = 5;
const GROUPS_PER_LINE: usize = 10;
const CHECKSUM_LEN: usize = 4;
const HEADER: &str = "citykeep share v1";

/// Why a share's text cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareTextError {
    /// The first line is not the header.
    #[error("this is not a citykeep share: the first line must be '{HEADER}'")]
    Header,
    /// A character outside the alphabet.
    #[error("line {line}: '{found}' is not a character of a share; compare that line with the paper")]
    Character {
        /// Line of the text, from 1.
        line: usize,
        /// What stands there.
        found: char,
    },
    /// A line's checksum does not match: something in this very line is wrong.
    #[error(
        "line {line} has a wrong character: its checksum does not match; compare that line with the paper"
    )]
    Line {
        /// Line of the text, from 1.
        line: usize,
    },
    /// The checksum over everything does not match: a line is missing, doubled or out of order.
    #[error("every line reads well but the whole does not: a line is missing, doubled or out of order")]
    Whole,
}

/// The text of a sealed share: a header, then lines of up to ten groups of five characters and, last, the line's own
/// two-character checksum; the last four bytes of the whole are the start of its SHA-256.
pub fn to_text(sealed: &[u8]) -> String {
    let digest = sha2::Sha256::digest(sealed);
    let mut bytes = sealed.to_vec();
    bytes.extend(digest.iter().take(CHECKSUM_LEN));
    let symbols = to_symbols(&bytes);
    let mut text = format!("{HEADER}\n");
    for line in symbols.chunks(GROUP * GROUPS_PER_LINE) {
        for group in line.chunks(GROUP) {
            text.extend(group.iter().map(|symbol| char::from(*symbol)));
            text.push(' ');
        }
        text.extend(line_checksum(line).map(char::from));
        text.push('\n');
    }
    text
}

/// Reads that text: case, spaces and dashes do not matter; O reads as 0, I and L as 1.
pub fn from_text(text: &str) -> Result<Vec<u8>, ShareTextError> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    if lines.next().is_none_or(|(_, line)| line.trim() != HEADER) {
        return Err(ShareTextError::Header);
    }
    let mut symbols = Vec::new();
    for (at, line) in lines {
        let row = line_symbols(at + 1, line)?;
        let (data, check) =
            row.split_at_checked(row.len().saturating_sub(2)).ok_or(ShareTextError::Line { line: at + 1 })?;
        if check != line_checksum(data) {
            return Err(ShareTextError::Line { line: at + 1 });
        }
        symbols.extend(data);
    }
    let mut bytes = from_symbols(&symbols).ok_or(ShareTextError::Whole)?;
    let checksum = bytes.split_off(bytes.len().saturating_sub(CHECKSUM_LEN));
    if checksum.len() == CHECKSUM_LEN && sha2::Sha256::digest(&bytes).starts_with(&checksum) {
        Ok(bytes)
    } else {
        Err(ShareTextError::Whole)
    }
}

fn line_symbols(number: usize, line: &str) -> Result<Vec<u8>, ShareTextError> {
    let mut row = Vec::with_capacity(line.len());
    for found in line.chars().filter(|character| !character.is_whitespace() && *character != '-') {
        let upper = match found.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        match u8::try_from(upper).ok().filter(|byte| ALPHABET.contains(byte)) {
            Some(symbol) => row.push(symbol),
            None => return Err(ShareTextError::Character { line: number, found }),
        }
    }
    Ok(row)
}

/// Ten bits of SHA-256 over the line's symbols: a wrong character is named by its line in 1023 of 1024 cases, and the
/// checksum of the whole catches the rest.
fn line_checksum(symbols: &[u8]) -> [u8; 2] {
    let digest = sha2::Sha256::digest([b"line".as_slice(), symbols].concat());
    let symbol = |at: usize| {
        let byte = digest.get(at).copied().unwrap_or_default();
        ALPHABET.get(usize::from(byte & 31)).copied().unwrap_or_default()
    };
    [symbol(0), symbol(1)]
}

fn to_symbols(bytes: &[u8]) -> Vec<u8> {
    let (mut symbols, mut window, mut bits) = (Vec::new(), 0_u32, 0);
    for byte in bytes {
        window = (window << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            symbols.push((window >> bits) & 31);
            window &= (1 << bits) - 1;
        }
    }
    if bits > 0 {
        symbols.push((window << (5 - bits)) & 31);
    }
    symbols.into_iter().filter_map(|value| ALPHABET.get(value as usize).copied()).collect()
}

fn from_symbols(symbols: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut window, mut bits) = (Vec::new(), 0_u32, 0);
    for symbol in symbols {
        let value = ALPHABET.iter().position(|known| known == symbol)?;
        window = (window << 5) | u32::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(window >> bits).ok()?);
            window &= (1 << bits) - 1;
        }
    }
    // The filling bits of the last symbol are zero, so that one share has one text.
    (window == 0 && bits < 5).then_some(bytes)
}

impl ShareCertificate {
    /// The share set inside.
    pub fn open(&self) -> Result<ShareSet, crate::cbor::CborError> {
        ShareSet::from_cbor(&self.set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_wrong_character_is_found_and_its_line_named() {
        let sealed: Vec<u8> = (0..150_u8).collect();
        let text = to_text(&sealed);
        assert_eq!(from_text(&text), Ok(sealed.clone()));
        assert_eq!(
            from_text(&text.to_lowercase().replace("citykeep share v1", HEADER).replace('0', "o")),
            Ok(sealed)
        );
        let mut named = 0;
        let mut tried = 0;
        for (at, old) in text.char_indices().skip(HEADER.len() + 1).filter(|(_, old)| !old.is_whitespace()) {
            let new = if old == '7' { 'X' } else { '7' };
            let mut bad = text.clone();
            bad.replace_range(at..=at, &new.to_string());
            let line = text[..at].lines().count();
            let error = from_text(&bad).unwrap_err();
            tried += 1;
            if error == (ShareTextError::Line { line }) {
                named += 1;
            }
        }
        assert!(named * 100 >= tried * 98, "{named} of {tried}");
    }

    #[test]
    fn missing_doubled_and_swapped_lines_are_refused() {
        let text = to_text(&[7; 100]);
        let lines: Vec<&str> = text.lines().collect();
        let join = |order: &[usize]| order.iter().map(|at| lines[*at]).collect::<Vec<_>>().join("\n");
        assert!(from_text(&join(&[0, 1, 2, 3])).is_ok() || lines.len() != 4);
        for order in [vec![0, 1, 2], vec![0, 2, 1, 3], vec![0, 1, 1, 2, 3], vec![1, 2, 3]] {
            assert!(from_text(&join(&order)).is_err(), "{order:?}");
        }
        assert_eq!(from_text(""), Err(ShareTextError::Header));
        assert!(matches!(
            from_text("citykeep share v1\nABCU!"),
            Err(ShareTextError::Character { line: 2, found: 'U' })
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(from_text(&to_text(&bytes)), Ok(bytes));
        }
    }
}
