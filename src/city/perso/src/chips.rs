//! What the chips of a job give, card by card (SPEC.md §Chip factors).

use std::collections::BTreeMap;

use wire::licence::serial_of;
use wire::purse::{hex, to_hex};

use crate::job::{JobError, number};

/// One factor, 8 bytes, per card of a job, in the order of the cards.
#[derive(Debug)]
pub(crate) struct Chips(Vec<[u8; 8]>);

impl Chips {
    /// Reads a table of `serial,factor` rows: every card of the job once and no other, in any order. What is wrong is named with
    /// its line or its card, in both languages.
    pub(crate) fn read(text: &str, first: u128, count: u64) -> Result<Self, JobError> {
        let mut cards: BTreeMap<u128, [u8; 8]> = BTreeMap::new();
        let mut lines: BTreeMap<[u8; 8], usize> = BTreeMap::new();
        for (line, row) in (1..).zip(text.lines()) {
            let row = row.trim();
            if row.is_empty() || row.starts_with('#') {
                continue;
            }
            let wrong = |zh: &str, en: &str| {
                Err(JobError::Chips(
                    format!("芯片因子表第 {line} 行:{zh}"),
                    format!("line {line} of the chip factors: {en}"),
                ))
            };
            let Some((serial, factor)) = row.split_once(',') else {
                return wrong("格式为 卡号,因子。", "write serial,factor");
            };
            let Some(card) = number(serial.trim()) else {
                return wrong("卡号应为 20 位数字。", "a card number has 20 digits");
            };
            let Some(factor) = hex::<8>(factor.trim().as_bytes()) else {
                return wrong("因子应为 16 位十六进制。", "a factor has 16 hex digits");
            };
            if [[0; 8], [0xff; 8]].contains(&factor) {
                return wrong(
                    "因子不得全 0 或全 F。",
                    "a factor of all 0 or all F is none: read the chip again",
                );
            }
            if card < first || card - first >= u128::from(count) {
                return wrong("此卡不在本任务内。", "this card is not of the job; take the row out");
            }
            if cards.insert(card, factor).is_some() {
                return wrong("此卡重复,请只保留一行。", "this card again; keep one row");
            }
            if let Some(other) = lines.insert(factor, line) {
                return wrong(
                    &format!("因子与第 {other} 行相同,两张卡会得到相同的密钥;请重新读取芯片。"),
                    &format!(
                        "the factor of line {other} again: both cards would get the same keys; read the chips again"
                    ),
                );
            }
        }
        let missing = (0..count).map(|at| first + u128::from(at)).find(|card| !cards.contains_key(card));
        if let Some(card) = missing {
            let serial = serial_of(card).map(|serial| to_hex(&serial)).unwrap_or_default();
            return Err(JobError::Chips(
                format!("芯片因子表缺少卡 {serial},请补齐后重新执行。"),
                format!("the chip factors have no row for card {serial}; add it and run again"),
            ));
        }
        Ok(Self(cards.into_values().collect()))
    }

    /// The one text of this table, as it lies in the job's directory.
    pub(crate) fn text(&self, first: u128) -> String {
        let rows = (0..).zip(&self.0).map(|(at, factor)| {
            let serial = serial_of(first + at).map(|serial| to_hex(&serial)).unwrap_or_default();
            format!("{serial},{}\n", to_hex(factor))
        });
        rows.collect()
    }

    /// Factor of the job's card at this place.
    pub(crate) fn at(&self, place: u64) -> Option<String> {
        let place = usize::try_from(place).ok()?;
        self.0.get(place).map(|factor| to_hex(factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u128 = 3_701_000_040_000_000;
    const GOOD: &str =
        "# 芯片\n00003701000040000001, 0102030405060709\n\n00003701000040000000,010203040506070a\n";

    #[test]
    fn a_table_has_one_text() {
        let chips = Chips::read(GOOD, FIRST, 2).unwrap();
        let golden = "00003701000040000000,010203040506070A\n00003701000040000001,0102030405060709\n";
        assert_eq!(chips.text(FIRST), golden);
        assert_eq!(Chips::read(golden, FIRST, 2).unwrap().text(FIRST), golden);
        assert_eq!((chips.at(0).as_deref(), chips.at(2)), (Some("010203040506070A"), None));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let more = |row: &str| format!("{GOOD}{row}\n");
        for (text, count, named) in [
            (GOOD.to_owned(), 3, "no row for card 00003701000040000002"),
            (String::new(), 1, "no row for card 00003701000040000000"),
            (more("00003701000040000002"), 3, "line 5 of the chip factors: write"),
            (more("0003701000040000002,0102030405060708"), 3, "line 5 of the chip factors: a card number"),
            (more("00003701000040000002,01020304050607"), 3, "line 5 of the chip factors: a factor"),
            (more("00003701000040000002,010203040506070G"), 3, "line 5 of the chip factors: a factor"),
            (
                more("00003701000040000002,0000000000000000"),
                3,
                "line 5 of the chip factors: a factor of all 0",
            ),
            (
                more("00003701000040000002,FFFFFFFFFFFFFFFF"),
                3,
                "line 5 of the chip factors: a factor of all 0",
            ),
            (
                more("00003701000040000002,0102030405060708"),
                2,
                "line 5 of the chip factors: this card is not",
            ),
            (
                more("00003701000039999999,0102030405060708"),
                2,
                "line 5 of the chip factors: this card is not",
            ),
            (more("00003701000040000001,0102030405060708"), 2, "line 5 of the chip factors: this card again"),
            (
                more("00003701000040000002,0102030405060709"),
                3,
                "line 5 of the chip factors: the factor of line 2",
            ),
        ] {
            let Err(JobError::Chips(zh, en)) = Chips::read(&text, FIRST, count) else { panic!("{named}") };
            assert!(en.contains(named) && zh.contains("芯片因子表"), "{zh} {en}");
        }
    }
}
