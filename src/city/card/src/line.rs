//! One F1 line, field by field (card-crypto F1).

use core::fmt::Write;

use wire::key::KeyVersion;
use wire::purse::{F1_LINE_LEN, PurchaseTac, to_hex};

/// Everything of a line that changes from line to line.
pub(crate) struct Fields<'a> {
    pub(crate) number: u64,
    /// 16 digits.
    pub(crate) card: &'a str,
    pub(crate) card_kind: u64,
    pub(crate) balance_before: u32,
    pub(crate) purchase: PurchaseTac,
    pub(crate) tac: [u8; 4],
    pub(crate) version: KeyVersion,
    pub(crate) counter: u16,
    pub(crate) issuer: [u8; 8],
    pub(crate) route: u64,
    pub(crate) vehicle: u64,
    pub(crate) driver: u64,
    pub(crate) random: [u8; 4],
}

impl Fields<'_> {
    /// The line without its LF.
    pub(crate) fn render(&self) -> Vec<u8> {
        let mut text = String::with_capacity(F1_LINE_LEN + 1);
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text.into_bytes()
    }

    fn write(&self, out: &mut String) -> core::fmt::Result {
        let Self { card, purchase, .. } = self;
        let PurchaseTac { amount, kind, terminal, sequence, date, time } = purchase;
        let (terminal, date) = (to_hex(terminal), to_hex(date));
        write!(
            out,
            "{:012}0000{card}310{card}{card}{:03}0",
            self.number % 1_000_000_000_000,
            self.card_kind
        )?;
        write!(
            out,
            "{:08X}{amount:08X}{:08X}",
            self.balance_before,
            self.balance_before.saturating_sub(*amount)
        )?;
        write!(out, "{kind:02X}00000011{terminal}{terminal}{sequence:09}1{sequence:08X}")?;
        write!(out, "{date}{}{}{}01{:04X}", to_hex(time), to_hex(&self.tac), self.version, self.counter)?;
        write!(out, "{}2640264000000007", to_hex(&self.issuer))?;
        write!(out, "{:<20}{:08}{:08}", format!("LINE-{:03}", self.route), self.vehicle, self.driver)?;
        write!(out, "{date}060000010{date}2200000{}{:30}", to_hex(&self.random), "")
    }
}

#[cfg(test)]
mod tests {
    use wire::purse::F1Line;

    use super::*;

    #[test]
    fn the_fixture_s_first_line_from_its_fields() {
        let fixture = include_bytes!("../../../../tests/fixtures/day1/day.txt");
        let first = fixture.split(|byte| *byte == b'\n').next().unwrap();
        let read = F1Line::parse(first).unwrap();
        let line = Fields {
            number: 0,
            card: "2649170810870619",
            card_kind: 1,
            balance_before: 0x1082D,
            purchase: read.purchase,
            tac: read.tac,
            version: read.version,
            counter: 0xB1C5,
            issuer: read.issuer,
            route: 105,
            vehicle: 1263,
            driver: 11_734_153,
            random: [0x7A, 0x4E, 0x39, 0x00],
        };
        assert_eq!(String::from_utf8(line.render()).unwrap().as_bytes(), first);
    }
}
