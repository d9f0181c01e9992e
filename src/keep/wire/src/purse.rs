//! The purse's transactions as the TAC covers them (card-crypto D.2), and the F1 settlement line (card-crypto F1).

use crate::batch::Record;
use crate::key::KeyVersion;

/// Transaction types whose TAC a settlement day may carry: purchase and composite purchase.
const F1_TYPES: [u8; 2] = [0x06, 0x09];

/// An F1 line without its LF has exactly this many ASCII bytes.
pub const F1_LINE_LEN: usize = 315;

/// Purchase, withdrawal or composite purchase, in the order in which the TAC covers it (card-crypto D.2, 22 bytes).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct PurchaseTac {
    /// Amount in fen.
    pub amount: u32,
    /// Transaction type byte: 06 purchase, 09 composite.
    pub kind: u8,
    /// PSAM terminal id.
    pub terminal: [u8; 6],
    /// PSAM terminal sequence.
    pub sequence: u32,
    /// BCD date, YYYYMMDD.
    pub date: [u8; 4],
    /// BCD time, HHMMSS.
    pub time: [u8; 3],
}

impl PurchaseTac {
    /// The 22 bytes, and two zero bytes that do not count.
    pub fn data(&self) -> [u8; 24] {
        gather([
            &self.amount.to_be_bytes(),
            &[self.kind],
            &self.terminal,
            &self.sequence.to_be_bytes(),
            &self.date,
            &self.time,
        ])
    }
}

/// A load, in the order in which the TAC covers it (card-crypto D.2, 24 bytes).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct LoadTac {
    /// Balance after the load in fen.
    pub balance_after: u32,
    /// Online counter before it was incremented.
    pub counter: u16,
    /// Amount in fen.
    pub amount: u32,
    /// Transaction type byte: 01 ED load, 02 EP load.
    pub kind: u8,
    /// Terminal id.
    pub terminal: [u8; 6],
    /// BCD date, YYYYMMDD.
    pub date: [u8; 4],
    /// BCD time, HHMMSS.
    pub time: [u8; 3],
}

impl LoadTac {
    /// The 24 bytes.
    pub fn data(&self) -> [u8; 24] {
        gather([
            &self.balance_after.to_be_bytes(),
            &self.counter.to_be_bytes(),
            &self.amount.to_be_bytes(),
            &[self.kind],
            &self.terminal,
            &self.date,
            &self.time,
        ])
    }
}

fn gather<const N: usize>(parts: [&[u8]; N]) -> [u8; 24] {
    let mut data = [0; 24];
    for (to, from) in data.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    data
}

/// What one F1 line says about its TAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct F1Line {
    /// Right 8 bytes of the card's serial.
    pub card: [u8; 8],
    /// Issuer id.
    pub issuer: [u8; 8],
    /// Purchase key version.
    pub version: KeyVersion,
    /// The covered fields.
    pub purchase: PurchaseTac,
    /// The TAC to check.
    pub tac: [u8; 4],
}

impl F1Line {
    /// Reads a line without its LF (service-protocol §5); `None` is the verdict `malformed`.
    ///
    /// A line whose card or issuer factor is all 00 or all FF is malformed too: such a factor is refused by the module
    /// (service-protocol rule 5), and no card has it.
    pub fn parse(line: &[u8]) -> Option<Self> {
        if line.len() != F1_LINE_LEN || !line.is_ascii() {
            return None;
        }
        let serial: [u8; 10] = bcd(line.get(12..32)?)?;
        let card = *serial.last_chunk::<8>()?;
        let amount = u32::from_be_bytes(hex(line.get(79..87)?)?);
        let [kind] = hex(line.get(95..97)?)?;
        let sequence = decimal(line.get(129..138)?)?;
        let (date, time) = (bcd(line.get(147..155)?)?, bcd(line.get(155..161)?)?);
        let [version] = hex(line.get(169..171)?)?;
        let issuer = hex(line.get(177..193)?)?;
        let terminal = hex(line.get(117..129)?)?;
        let possible = F1_TYPES.contains(&kind)
            && is_date(date)
            && is_time(time)
            && [card, issuer].iter().all(|factor| is_factor(*factor));
        possible.then_some(Self {
            card,
            issuer,
            version: KeyVersion(version),
            purchase: PurchaseTac { amount, kind, terminal, sequence, date, time },
            tac: hex(line.get(161..169)?)?,
        })
    }

    /// The batch record, in row `group` of the table.
    pub fn record(&self, group: u16) -> Record {
        Record { card: self.card, data: self.purchase.data(), tac: self.tac, group }
    }
}

/// The lines of a day: split at LF, a last line without LF counts, an empty line counts, nothing after the last LF does
/// not.
pub fn f1_lines(day: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = day.strip_suffix(b"\n").unwrap_or(day);
    body.split(|byte| *byte == b'\n').take(if day.is_empty() { 0 } else { usize::MAX })
}

/// Factors of all 00 or all FF would make a derived key equal to a key check value (service-protocol rule 5).
pub fn is_factor(factor: [u8; 8]) -> bool {
    factor != [0; 8] && factor != [0xff; 8]
}

/// Whether a BCD date names a day of the Gregorian calendar.
pub fn is_date(date: [u8; 4]) -> bool {
    let [century, year, month, day] = date.map(|byte| u32::from(byte >> 4) * 10 + u32::from(byte & 15));
    let year = century * 100 + year;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => 0,
    };
    year > 0 && (1..=days).contains(&day)
}

/// Days since 1970-01-01 of a BCD date (Gregorian; Howard Hinnant's counting from 1 March).
pub fn days(date: [u8; 4]) -> i64 {
    let [century, year, month, day] = date.map(|byte| i64::from(byte >> 4) * 10 + i64::from(byte & 15));
    let (year, month) = (century * 100 + year, month);
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Whether a BCD time is one of a day.
pub fn is_time(time: [u8; 3]) -> bool {
    let [hour, minute, second] = time;
    hour < 0x24 && minute < 0x60 && second < 0x60
}

/// Hex text of either case, two digits a byte, exactly `N` bytes.
pub fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    digits(text, 16)
}

/// Decimal digits as BCD, two a byte, exactly `N` bytes.
pub fn bcd<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    digits(text, 10)
}

fn digits<const N: usize>(text: &[u8], radix: u32) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(radix)?;
            *byte = (*byte << 4) | u8::try_from(value).ok()?;
        }
    }
    Some(bytes)
}

/// Decimal text; more than 2^32 − 1 does not fit the terminal sequence.
fn decimal(text: &[u8]) -> Option<u32> {
    text.iter()
        .try_fold(0_u32, |sum, digit| sum.checked_mul(10)?.checked_add(char::from(*digit).to_digit(10)?))
}

/// Upper-case hex text.
pub fn to_hex(bytes: &[u8]) -> String {
    use core::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vector `clearing-line-ascii` of card-crypto.
    const LINE: &str = "0000000000010000310100001234567800031010000123456783101000012345678001000002710000001F40000251C090000000111223344556611223344556600000029100000012320240131093015D00A87B60101000612345000123450009999999900000007LINE-42             000008150000009920240131060000010202401312200001A1B2C3D4                              ";

    #[test]
    fn dates_are_days() {
        for (date, day) in [
            ([0x19, 0x70, 0x01, 0x01], 0),
            ([0x20, 0x00, 0x02, 0x29], 11_016),
            ([0x20, 0x00, 0x03, 0x01], 11_017),
            ([0x20, 0x26, 0x11, 0x24], 20_781),
        ] {
            assert_eq!(days(date), day, "{date:02x?}");
        }
    }

    #[test]
    fn the_published_line() {
        let line = F1Line::parse(LINE.as_bytes()).unwrap();
        assert_eq!(to_hex(&line.card), "3101000012345678");
        assert_eq!(to_hex(&line.issuer), "1234500012345000");
        assert_eq!(to_hex(&line.purchase.data()[..22]), "000001F4091122334455660000012320240131093015");
        assert_eq!(to_hex(&line.tac), "D00A87B6");
        assert_eq!(line.version, KeyVersion(1));
    }

    fn with(at: usize, text: &str) -> Option<F1Line> {
        let mut line = LINE.as_bytes().to_vec();
        line.splice(at..at + text.len(), text.bytes());
        F1Line::parse(&line)
    }

    #[test]
    fn every_judged_field_is_judged_and_no_other() {
        for (at, len) in [(79, 8), (117, 12), (161, 8), (177, 16), (169, 2)] {
            for place in at..at + len {
                assert!(with(place, "G").is_none(), "hex {place}");
                assert!(with(place, "+").is_none(), "hex {place}");
                assert!(with(place, "a").is_some(), "hex {place}");
            }
        }
        for (at, len) in [(12, 20), (129, 9), (147, 8), (155, 6)] {
            for place in at..at + len {
                assert!(with(place, "A").is_none(), "digit {place}");
                assert!(with(place, " ").is_none(), "digit {place}");
            }
        }
        let judged = [79..87, 117..129, 161..171, 177..193, 12..32, 129..138, 147..161, 95..97];
        for place in (0..F1_LINE_LEN).filter(|place| !judged.iter().any(|field| field.contains(place))) {
            assert!(with(place, "~").is_some(), "{place}");
            assert!(
                F1Line::parse(&{
                    let mut l = LINE.as_bytes().to_vec();
                    l[place] = 0x80;
                    l
                })
                .is_none()
            );
        }
    }

    #[test]
    fn dates_times_types_lengths() {
        for (date, good) in [
            ("20240229", true),
            ("20230229", false),
            ("21000229", false),
            ("20000229", true),
            ("20240431", false),
            ("20241301", false),
            ("20240100", false),
            ("00000101", false),
            ("20240001", false),
        ] {
            assert_eq!(with(147, date).is_some(), good, "{date}");
        }
        for (time, good) in [("235959", true), ("240000", false), ("006000", false), ("000060", false)] {
            assert_eq!(with(155, time).is_some(), good, "{time}");
        }
        for (kind, good) in [("06", true), ("09", true), ("05", false), ("6 ", false), ("90", false)] {
            assert_eq!(with(95, kind).is_some(), good, "{kind}");
        }
        assert!(with(129, "999999999").is_some());
        assert!(F1Line::parse(&LINE.as_bytes()[1..]).is_none());
        assert!(F1Line::parse(format!("{LINE}\r").as_bytes()).is_none());
        assert!(F1Line::parse(b"").is_none());
    }

    #[test]
    fn refused_factors_are_malformed() {
        assert!(with(177, "FFFFFFFFFFFFFFFF").is_none());
        assert!(with(177, "0000000000000000").is_none());
        assert!(with(16, "0000000000000000").is_none());
    }

    #[test]
    fn lines_of_a_day() {
        let count = |day: &str| f1_lines(day.as_bytes()).count();
        assert_eq!(
            [count(""), count("\n"), count("a"), count("a\n"), count("a\n\nb"), count("\n\n")],
            [0, 1, 1, 1, 3, 2]
        );
    }
}
