//! Known answers, asked before anything else is answered.

use wire::batch::Profile;
use wire::key::{Algorithm, FactorSource};

use crate::diversify::{diversify, kcv};
use crate::tac::{Chain, TacCheck, TacItem, card_tac};

/// GB/T 32907-2016 App. A.1: key and plaintext of its first example.
const KEY: [u8; 16] = 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210_u128.to_be_bytes();
/// Key and ARQC of the published ARPC (vector `emv-arpc1`), which is one 3DES block.
const TDES_KEY: [u8; 16] = 0x29B3_3180_E567_CE38_EA4C_BC9D_753B_0E61_u128.to_be_bytes();
const TDES_BLOCK: [u8; 8] = 0xFA62_4250_B008_B59A_u64.to_be_bytes();
/// From here on the inputs of the vectors `epurse-*-ep-purchase` and `epurse-*-ep-load`.
const MASTER: [u8; 16] = 0x89AB_CDEF_0123_4567_7654_3210_FEDC_BA98_u128.to_be_bytes();
const ISSUER: [u8; 8] = 0x1234_5000_1234_5000_u64.to_be_bytes();
const CARD: [u8; 8] = 0x3101_0000_1234_5678_u64.to_be_bytes();
const PURCHASE: [u8; 24] =
    *b"\x00\x00\x01\xF4\x06\x11\x22\x33\x44\x55\x66\x00\x00\x01\x23\x20\x24\x01\x31\x09\x30\x15\0\0";
const LOAD: [u8; 24] =
    *b"\x00\x00\x27\x74\x00\x03\x00\x00\x27\x10\x02\x11\x22\x33\x44\x55\x66\x20\x24\x01\x31\x09\x30\x15";

/// Computes the known answers of both ciphers through this crate and the running backend of `lanes`.
///
/// Each cipher: block, key check value, derivation over two levels, purchase and load TAC, and the bulk check over one
/// full and one partial group with a wrong TAC planted.
///
/// # Errors
/// The first answer that is wrong. The caller must then answer nothing that rests on keys.
pub fn self_test() -> Result<(), SelfTestError> {
    self_test_with(&KnownAnswers::STANDARD)
}

/// [`self_test`] against other answers, so that tests can see it fail.
#[doc(hidden)]
pub fn self_test_with(answers: &KnownAnswers) -> Result<(), SelfTestError> {
    let mut block = KEY;
    lanes::sm4_encrypt(&KEY, &mut block);
    expect(block == answers.sm4_block, Algorithm::Sm4, "block")?;
    let mut block = TDES_BLOCK;
    lanes::tdes_encrypt(&TDES_KEY, &mut block);
    expect(block == answers.tdes_block, Algorithm::Tdes, "block")?;
    purse(Algorithm::Sm4, &answers.sm4)?;
    purse(Algorithm::Tdes, &answers.tdes)
}

fn purse(algorithm: Algorithm, answers: &PurseAnswers) -> Result<(), SelfTestError> {
    expect(kcv(algorithm, &KEY) == answers.kcv, algorithm, "key check value")?;
    let card_key = diversify(algorithm, &MASTER, &ISSUER)
        .and_then(|issuer_key| diversify(algorithm, &issuer_key, &CARD))
        .map_err(|_| SelfTestError { algorithm, check: "derivation factor" })?;
    expect(*card_key == answers.card_key, algorithm, "derivation")?;
    for (profile, data, tac, check) in [
        (Profile::PurchaseTac, PURCHASE, answers.purchase_tac, "purchase TAC"),
        (Profile::LoadTac, LOAD, answers.load_tac, "load TAC"),
    ] {
        expect(card_tac(algorithm, &card_key, profile, &data) == tac, algorithm, check)?;
        bulk(algorithm, profile, TacItem { card: CARD, data, tac })?;
    }
    Ok(())
}

fn bulk(algorithm: Algorithm, profile: Profile, item: TacItem) -> Result<(), SelfTestError> {
    let check = "bulk check";
    let levels = [FactorSource::ISSUER_ID, FactorSource::ASN_RIGHT8];
    let mut items = vec![item; lanes::GROUP + 2];
    let mut expected = vec![TacCheck::Match; items.len()];
    if let (Some(item), Some(outcome)) = (items.last_mut(), expected.last_mut()) {
        item.tac = item.tac.map(|byte| !byte);
        *outcome = TacCheck::Mismatch;
    }
    let mut checks = vec![TacCheck::RefusedFactor; items.len()];
    Chain { algorithm, top: &MASTER, levels: &levels }
        .verify(profile, ISSUER, &items, &mut checks)
        .map_err(|_| SelfTestError { algorithm, check })?;
    expect(checks == expected, algorithm, check)
}

fn expect(as_known: bool, algorithm: Algorithm, check: &'static str) -> Result<(), SelfTestError> {
    if as_known { Ok(()) } else { Err(SelfTestError { algorithm, check }) }
}

/// A known answer came out wrong. Names no value: the log may carry it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("self-test failed: {} {check}", .algorithm.as_str())]
#[non_exhaustive]
pub struct SelfTestError {
    /// Which cipher.
    pub algorithm: Algorithm,
    /// Which check.
    pub check: &'static str,
}

/// What [`self_test_with`] expects.
#[doc(hidden)]
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "tests build wrong ones")]
pub struct KnownAnswers {
    /// SM4 of the standard's example block.
    pub sm4_block: [u8; 16],
    /// 3DES of the ARQC: the published ARPC.
    pub tdes_block: [u8; 8],
    /// The purse under SM4.
    pub sm4: PurseAnswers,
    /// The purse under 3DES.
    pub tdes: PurseAnswers,
}

/// The answers of one cipher.
#[doc(hidden)]
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "tests build wrong ones")]
pub struct PurseAnswers {
    /// Key check value of the standard's example key.
    pub kcv: [u8; 3],
    /// TAC key of the vectors' card.
    pub card_key: [u8; 16],
    /// Its TAC of the purchase.
    pub purchase_tac: [u8; 4],
    /// Its TAC of the load.
    pub load_tac: [u8; 4],
}

impl KnownAnswers {
    /// The true answers, from `tests/vectors/card-crypto-vectors.json`.
    pub const STANDARD: Self = Self {
        sm4_block: 0x681E_DF34_D206_965E_86B3_E94F_536E_4246_u128.to_be_bytes(),
        tdes_block: 0x45D4_255E_EF10_C920_u64.to_be_bytes(),
        sm4: PurseAnswers {
            kcv: [0x26, 0x77, 0xF4],
            card_key: 0x5B20_585F_0921_FE39_FA2C_CFFB_E2B4_FEB2_u128.to_be_bytes(),
            purchase_tac: 0x00EB_D433_u32.to_be_bytes(),
            load_tac: 0xF566_4E09_u32.to_be_bytes(),
        },
        tdes: PurseAnswers {
            kcv: [0x08, 0xD7, 0xB4],
            card_key: 0x4EAE_80BE_A8AE_8AE0_5C09_6B65_7F94_F4B6_u128.to_be_bytes(),
            purchase_tac: 0x9E41_0734_u32.to_be_bytes(),
            load_tac: 0x301E_5D87_u32.to_be_bytes(),
        },
    };
}
