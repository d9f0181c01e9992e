//! The licence (许可): so many card key sets, for this line, inside this range (SPEC.md §Licence).

use crate::command::{Digest, Id};
use crate::key::KeyId;

/// A card's application serial number: 20 decimal digits as 10 BCD bytes.
pub type CardSerial = [u8; 10];

/// Card numbers that one licence's range may span.
pub const RANGE_MAX: u64 = 1 << 24;

/// The number that a serial writes, if all its nibbles are digits.
pub fn serial_number(serial: &CardSerial) -> Option<u128> {
    serial.iter().try_fold(0_u128, |number, byte| {
        let (tens, ones) = (byte >> 4, byte & 0x0f);
        (tens <= 9 && ones <= 9).then(|| number * 100 + u128::from(tens * 10 + ones))
    })
}

/// The serial that writes this number, if it has at most 20 digits.
pub fn serial_of(mut number: u128) -> Option<CardSerial> {
    let mut serial = [0; 10];
    for byte in serial.iter_mut().rev() {
        let pair = u8::try_from(number % 100).ok()?;
        *byte = (pair / 10) << 4 | (pair % 10);
        number /= 100;
    }
    (number == 0).then_some(serial)
}

/// The right 8 bytes of a serial: the card factor (card-crypto A.3).
pub fn card_factor(serial: &CardSerial) -> [u8; 8] {
    let [_, _, factor @ ..] = *serial;
    factor
}

crate::cbor_struct! {
    /// What a quorum grants. The log entries that name its cards are its count.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Licence {
        /// Its id.
        0 => id: Id,
        /// The module that may serve it; licences are granted in slices per module.
        1 => node: Id,
        /// SPIFFE id of the line.
        2 => line: String,
        /// The line's transport key …
        3 => transport: KeyId,
        /// … and its keyed fingerprint as the log has it.
        4 => fingerprint: Id,
        /// Applet, and wall.
        5 => applet: String,
        /// Digest of the applet's profile.
        6 => profile: Digest,
        /// Roles of the profile that leave; at least one.
        7 => roles: Vec<String>,
        /// Issuer id of the cards.
        8 => issuer: [u8; 8],
        /// First card number.
        9 => first: CardSerial,
        /// Last card number.
        10 => last: CardSerial,
        /// Different cards.
        11 => quantity: u64,
        /// Unix seconds from which it counts.
        12 => not_before: u64,
        /// Unix seconds until which it counts.
        13 => not_after: u64,
    }
}

impl Licence {
    /// Card numbers in the range, if the range is one and not too wide.
    pub fn span(&self) -> Option<u64> {
        let (first, last) = (serial_number(&self.first)?, serial_number(&self.last)?);
        let span = u64::try_from(last.checked_sub(first)?).ok()?.checked_add(1)?;
        (span <= RANGE_MAX).then_some(span)
    }

    /// Where a card stands in the range.
    pub fn offset(&self, serial: &CardSerial) -> Option<u64> {
        let offset = serial_number(serial)?.checked_sub(serial_number(&self.first)?)?;
        u64::try_from(offset).ok().filter(|offset| self.span().is_some_and(|span| *offset < span))
    }

    /// The card at this place of the range.
    pub fn serial_at(&self, offset: u64) -> Option<CardSerial> {
        serial_of(serial_number(&self.first)? + u128::from(offset))
    }
}

crate::cbor_struct! {
    /// Cards of a licence that were spoiled on the line: their numbers are dead, and as many others may be made.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Spoilage {
        /// The licence.
        0 => licence: Id,
        /// The cards, 1 to 1024.
        1 => cards: Vec<CardSerial>,
    }
}

/// Cards in one [`Spoilage`].
pub const SPOILAGE_MAX: usize = 1024;

crate::cbor_struct! {
    /// What a sealed card key is bound to: associated data of its block (SPEC.md §Card key block).
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct KeyBlockHeader {
        /// Format, 1.
        0 => format: u64,
        /// Service.
        1 => instance: Id,
        /// The licence that it left under.
        2 => licence: Id,
        /// Transport key.
        3 => transport: KeyId,
        /// The card.
        4 => serial: CardSerial,
        /// Role in the applet's profile.
        5 => role: String,
        /// Master.
        6 => key: KeyId,
        /// Algorithm of the card key.
        7 => algorithm: crate::key::Algorithm,
        /// Key index on the card.
        8 => index: u64,
        /// Check value of the card key.
        9 => kcv: [u8; 3],
    }
}

crate::cbor_struct! {
    /// A sealed card key.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SealedKeyBlock {
        /// Canonical [`KeyBlockHeader`] bytes.
        0 => header: crate::cbor::Bytes,
        /// salt 32 ‖ ciphertext 16 ‖ tag 16.
        1 => sealed: crate::cbor::Bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_decimal() {
        let serial = [0x31, 0x01, 0x00, 0x00, 0x12, 0x34, 0x56, 0x78, 0x90, 0x09];
        let number = serial_number(&serial).unwrap();
        assert_eq!(number, 31_010_000_123_456_789_009);
        assert_eq!(serial_of(number), Some(serial));
        assert_eq!(serial_of(number + 1).unwrap()[9], 0x10, "a carry is decimal");
        assert_eq!(serial_of(99_999_999_999_999_999_999 + 1), None);
        assert_eq!(serial_number(&[0x0a; 10]), None);
        assert_eq!(card_factor(&serial), [0x00, 0x00, 0x12, 0x34, 0x56, 0x78, 0x90, 0x09]);
    }
}
