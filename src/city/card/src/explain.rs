//! Why a practice record fails: which field cannot be read, or which usual mistake would make its TAC match.
//!
//! Works with practice keys alone, whose components lie in a plain file: no service answers such questions, since they would
//! be an oracle for guessing TACs.

use core::fmt;

use cardcrypto::{card_tac, diversify};
use serde::Serialize;
use wire::batch::Profile;
use wire::key::{Algorithm, FactorSource, KeyVersion};
use wire::purse::{F1_LINE_LEN, F1Line, hex, is_date, is_time};
use zeroize::Zeroizing;

use crate::keys::PracticeKeys;

/// A sentence in both languages.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Sentence {
    /// Chinese.
    pub zh: String,
    /// English.
    pub en: String,
}

impl Sentence {
    fn new(zh: impl Into<String>, en: impl Into<String>) -> Self {
        Self { zh: zh.into(), en: en.into() }
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.zh, self.en)
    }
}

/// What was found of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums)]
pub enum Finding {
    /// The TAC is right.
    Right,
    /// It would be right if one of the reasons held.
    WouldMatch,
    /// A field that cannot be read.
    Malformed,
    /// No usual mistake explains it.
    Unexplained,
}

/// What was found, and the reasons.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Explanation {
    /// What.
    pub finding: Finding,
    /// Why, at least one sentence.
    pub reasons: Vec<Sentence>,
}

/// Explains one line, without its LF.
pub fn explain(keys: &PracticeKeys, line: &[u8]) -> Explanation {
    let Some(record) = F1Line::parse(line) else {
        return Explanation { finding: Finding::Malformed, reasons: unreadable(line) };
    };
    let version = record.version;
    let tac = |variant: &Variant| variant.tac(keys);
    let plain = Variant::of(&record);
    if tac(&plain) == Some(record.tac) {
        let why = Sentence::new(
            format!("密钥版本 {version} 下 TAC 正确"),
            format!("the TAC is right under key version {version}"),
        );
        return Explanation { finding: Finding::Right, reasons: vec![why] };
    }
    let mut found = Vec::new();
    for (variant, what) in variants(keys, &record, line) {
        if tac(&variant) == Some(record.tac) {
            let zh = format!("若如此则 TAC 相符:{}", what.zh);
            found.push(Sentence::new(zh, format!("would match {}", what.en)));
        }
    }
    if !keys.versions().any(|version| version == record.version) {
        found.push(Sentence::new(
            format!("没有密钥版本 {version}"),
            format!("there is no key version {version}"),
        ));
    }
    if found.is_empty() {
        let why = Sentence::new(
            format!("密钥版本 {version} 下 TAC 不符,也不是常见错误:主密钥不同、字段被改或记录系伪造"),
            format!(
                "the TAC is wrong under key version {version}, and no usual mistake explains it: another master, a changed \
                 field, or a forged record"
            ),
        );
        Explanation { finding: Finding::Unexplained, reasons: vec![why] }
    } else {
        Explanation { finding: Finding::WouldMatch, reasons: found }
    }
}

/// Which fields are not what they must be (service-protocol §5).
fn unreadable(line: &[u8]) -> Vec<Sentence> {
    if line.len() != F1_LINE_LEN {
        let len = line.len();
        let mut wrong = vec![Sentence::new(
            format!("行长应为 {F1_LINE_LEN} 字节,此行 {len} 字节"),
            format!("a line has {F1_LINE_LEN} bytes, this one {len}"),
        )];
        if line.ends_with(b"\r") {
            wrong.push(Sentence::new("行尾有 CR,只应有 LF", "it ends with CR: send LF alone"));
        }
        return wrong;
    }
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let is_hex = |text: &[u8]| text.iter().all(u8::is_ascii_hexdigit);
    let field = |from: usize, len: usize| line.get(from..from + len).unwrap_or_default();
    let bcd = |text: &[u8]| wire::purse::bcd::<4>(text);
    let mut wrong = Vec::new();
    let mut need = |holds: bool, zh: &str, en: &str| {
        if !holds {
            wrong.push(Sentence::new(zh, en));
        }
    };
    need(line.is_ascii(), "含非 ASCII 字节", "bytes that are not ASCII");
    need(digits(field(12, 20)), "12: 卡序列号不是数字", "12: the card serial is not digits");
    need(is_hex(field(79, 8)), "79: 金额不是十六进制", "79: the amount is not hex");
    need(
        ["06", "09"].contains(&core::str::from_utf8(field(95, 2)).unwrap_or_default()),
        "95: 类型不是 06 或 09",
        "95: the type is not 06 or 09",
    );
    need(is_hex(field(117, 12)), "117: PSAM 终端号不是十六进制", "117: the PSAM id is not hex");
    need(digits(field(129, 9)), "129: PSAM 流水号不是数字", "129: the PSAM sequence is not digits");
    need(bcd(field(147, 8)).is_some_and(is_date), "147: 日期不存在", "147: the date is none");
    need(wire::purse::bcd(field(155, 6)).is_some_and(is_time), "155: 时间不存在", "155: the time is none");
    need(is_hex(field(161, 8)), "161: TAC 不是十六进制", "161: the TAC is not hex");
    need(is_hex(field(169, 2)), "169: 密钥版本不是十六进制", "169: the key version is not hex");
    need(is_hex(field(177, 16)), "177: 发卡方标识不是十六进制", "177: the issuer id is not hex");
    if wrong.is_empty() {
        let zh = "卡号或发卡方因子全 0 或全 F,此类因子被拒绝";
        wrong.push(Sentence::new(zh, "card or issuer factor of all 0 or all F: such factors are refused"));
    }
    wrong
}

/// One way to compute the TAC.
#[derive(Clone)]
struct Variant {
    version: KeyVersion,
    issuer: [u8; 8],
    card: [u8; 8],
    data: [u8; 24],
    swapped: bool,
    unfolded: bool,
}

impl Variant {
    fn of(record: &F1Line) -> Self {
        let F1Line { card, issuer, version, purchase, .. } = *record;
        Self { version, issuer, card, data: purchase.data(), swapped: false, unfolded: false }
    }

    fn tac(&self, keys: &PracticeKeys) -> Option<[u8; 4]> {
        let (algorithm, master, levels) = keys.master_of(self.version)?;
        let mut key = Zeroizing::new(*master);
        let mut levels = levels.to_vec();
        if self.swapped {
            levels.reverse();
        }
        for level in &levels {
            let factor = match level {
                FactorSource::IssuerId(_) => &self.issuer,
                FactorSource::AsnRight8(_) => &self.card,
                FactorSource::Literal(bytes) => bytes,
                FactorSource::Chip(_) => return None,
            };
            key = diversify(algorithm, &key, factor).ok()?;
        }
        if self.unfolded {
            // The halves are XORed when the TAC is made: a zero right half leaves the left one as it is.
            if algorithm != Algorithm::Tdes {
                return None;
            }
            key.iter_mut().skip(8).for_each(|byte| *byte = 0);
        }
        Some(card_tac(algorithm, &key, Profile::PurchaseTac, &self.data))
    }
}

/// The usual mistakes, one at a time.
fn variants(keys: &PracticeKeys, record: &F1Line, line: &[u8]) -> Vec<(Variant, Sentence)> {
    let plain = Variant::of(record);
    let mut all = Vec::new();
    for version in keys.versions().filter(|version| *version != record.version) {
        let what = Sentence::new(format!("用密钥版本 {version}"), format!("under key version {version}"));
        all.push((Variant { version, ..plain.clone() }, what));
    }
    let mut add = |variant: Variant, zh: &str, en: &str| all.push((variant, Sentence::new(zh, en)));
    add(
        Variant { unfolded: true, ..plain.clone() },
        "密钥左右半未异或,只用了左半",
        "with halves not folded: the left half used as it is",
    );
    add(
        Variant { swapped: true, ..plain.clone() },
        "分散顺序颠倒,先卡后发卡方",
        "with levels in reverse order: card before issuer",
    );
    let purchase = record.purchase;
    let mut with = |purchase: wire::purse::PurchaseTac, zh: &str, en: &str| {
        add(Variant { data: purchase.data(), ..plain.clone() }, zh, en);
    };
    let kind = if purchase.kind == 6 { 9 } else { 6 };
    with(
        wire::purse::PurchaseTac { kind, ..purchase },
        &format!("交易类型用 {kind:02}"),
        &format!("with type {kind:02} instead"),
    );
    let field = |from: usize, len: usize| line.get(from..from + len).unwrap_or_default();
    if let Some(sequence) = hex(field(130, 8)).map(u32::from_be_bytes) {
        with(
            wire::purse::PurchaseTac { sequence, ..purchase },
            "PSAM 流水号按十六进制读",
            "with the PSAM sequence read as hex instead of decimal",
        );
    }
    if let Some(sequence) = hex(field(139, 8)).map(u32::from_be_bytes) {
        with(
            wire::purse::PurchaseTac { sequence, ..purchase },
            "用了终端流水号(139)",
            "with the terminal sequence (139) instead of the PSAM's (129)",
        );
    }
    if let Some(terminal) = hex(field(105, 12)) {
        with(
            wire::purse::PurchaseTac { terminal, ..purchase },
            "用了 POS 终端号(105)",
            "with the terminal number (105) instead of the PSAM id (117)",
        );
    }
    let amount = purchase.amount.swap_bytes();
    with(
        wire::purse::PurchaseTac { amount, ..purchase },
        "金额字节序颠倒",
        "with the amount in little-endian order",
    );
    if let Some(card) = hex(field(12, 16)) {
        add(
            Variant { card, ..plain.clone() },
            "用了序列号左 8 字节",
            "with the left 8 bytes of the serial instead of the right 8",
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::{Day, PracticeKeys};

    /// A good line whose TAC is that of `variant`.
    fn with_mistake(keys: &PracticeKeys, line: &[u8], variant: &Variant) -> Vec<u8> {
        let mut line = line.to_vec();
        let tac = wire::purse::to_hex(&variant.tac(keys).unwrap());
        line[161..169].copy_from_slice(tac.as_bytes());
        line
    }

    #[test]
    fn every_usual_mistake_is_named() {
        let text = PracticeKeys::generate(&mut Random::from_seed("keys", "explain")).unwrap();
        let keys = PracticeKeys::parse(&text).unwrap();
        let (mut named, mut right) = (std::collections::BTreeSet::new(), 0);
        for day_line in Day::new(&keys, 60, Random::from_seed("day", "explain")) {
            let Some(record) = F1Line::parse(&day_line.bytes) else { continue };
            if Variant::of(&record).tac(&keys) != Some(record.tac) {
                continue;
            }
            assert_eq!(explain(&keys, &day_line.bytes).finding, Finding::Right);
            right += 1;
            for (variant, what) in variants(&keys, &record, &day_line.bytes) {
                let Some(tac) = variant.tac(&keys) else { continue };
                if tac == record.tac {
                    continue;
                }
                let line = with_mistake(&keys, &day_line.bytes, &variant);
                let said = explain(&keys, &line);
                assert_eq!(said.finding, Finding::WouldMatch);
                let (zh, en) = (&what.zh, &what.en);
                let mut reasons = said.reasons.iter();
                assert!(
                    reasons.any(|said| said.en.ends_with(en) && said.zh.ends_with(zh)),
                    "{what}: {said:?}"
                );
                named.insert(what.en);
            }
            let mut forged = day_line.bytes.clone();
            forged[161] = if forged[161].eq_ignore_ascii_case(&b'F') { b'E' } else { b'F' };
            assert_eq!(explain(&keys, &forged).finding, Finding::Unexplained);
        }
        assert!(right > 20 && named.len() >= 10, "{right} {named:?}");
    }

    #[test]
    fn unreadable_fields_are_named() {
        let text = PracticeKeys::generate(&mut Random::from_seed("keys", "explain")).unwrap();
        let keys = PracticeKeys::parse(&text).unwrap();
        let good = Day::new(&keys, 60, Random::from_seed("day", "explain"))
            .map(|line| line.bytes)
            .find(|line| F1Line::parse(line).is_some())
            .unwrap();
        for (at, byte, named) in [
            (12, b'x', "12:"),
            (79, b'x', "79:"),
            (95, b'7', "95:"),
            (117, b'x', "117:"),
            (129, b'x', "129:"),
            (151, b'9', "147:"),
            (155, b'9', "155:"),
            (161, b'x', "161:"),
            (169, b'x', "169:"),
            (177, b'x', "177:"),
        ] {
            let mut line = good.clone();
            line[at] = byte;
            let said = explain(&keys, &line).reasons;
            assert!(said[0].zh.starts_with(named) && said[0].en.starts_with(named), "{at}: {said:?}");
        }
        let said = explain(&keys, &[good.as_slice(), b"\r"].concat()).reasons;
        assert!(said[0].en.contains("316") && said[1].en.contains("CR"), "{said:?}");
    }
}
