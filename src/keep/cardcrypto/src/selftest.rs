//! Known answers, asked before anything else is answered.

use core::convert::Infallible;

use wire::batch::Profile;
use wire::key::{Algorithm, FactorSource, SessionRule};
use zeroize::Zeroizing;

use crate::card::load_mac1;
use crate::card_key::{CardKey, LoadRequest};
use crate::cmac::{aes_cmac, sm4_cmac};
use crate::diversify::{diversify, kcv};
use crate::script::Script;
use crate::sealed::{open_block, seal};
use crate::tac::{Chain, TacCheck, TacItem, card_tac};
use crate::tr31::{BlockHeader, tr31_b, tr31_d};

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

/// Card keys of the vectors `epurse-*-ep-load`, `sm-update-binary-*` and `ext-auth-*`.
struct CardKeys {
    load: [u8; 16],
    maintenance: [u8; 16],
    authentication: [u8; 16],
}
const TDES_CARD: CardKeys = CardKeys {
    load: 0x3BCB_A0F1_8FED_D863_7F61_F5D1_74AD_DAE3_u128.to_be_bytes(),
    maintenance: 0x8D8B_C3C9_4AD9_A923_50F8_3DE8_79FE_194C_u128.to_be_bytes(),
    authentication: 0xFACD_B62A_923A_5366_75A1_67BA_4ECE_1EF4_u128.to_be_bytes(),
};
const SM4_CARD: CardKeys = CardKeys {
    load: 0x506E_F13A_0C50_1E3A_ABE3_3E69_4490_4FC5_u128.to_be_bytes(),
    maintenance: 0x81C3_5039_FA66_878C_C282_BE1C_CED1_9B23_u128.to_be_bytes(),
    authentication: 0x39A1_74B4_CCCA_B225_BE10_9120_B36A_DFA2_u128.to_be_bytes(),
};
const LOAD_FIELDS: LoadRequest = LoadRequest {
    random: [0xA1, 0xB2, 0xC3, 0xD4],
    counter: [0, 3],
    balance: [0, 0, 0, 0x64],
    amount: [0, 0, 0x27, 0x10],
    kind: 2,
    terminal: [0x11, 0x22, 0x33, 0x44, 0x55, 0x66],
    mac1: [0; 4],
};
const DATE: [u8; 4] = [0x20, 0x24, 0x01, 0x31];
const TIME: [u8; 3] = [0x09, 0x30, 0x15];
const CHALLENGE: [u8; 4] = [0xC0, 0xFF, 0xEE, 0x01];
const CONTENT: [u8; 10] = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0x00];

/// Key and message of the vector `aes-cmac-16` (NIST SP 800-38B); the key also wraps the blocks of version D.
const AES_KEY: [u8; 16] = 0x2B7E_1516_28AE_D2A6_ABF7_1588_09CF_4F3C_u128.to_be_bytes();
const AES_BLOCK: [u8; 16] = 0x6BC1_BEE2_2E40_9F96_E93D_7E11_7393_172A_u128.to_be_bytes();
/// Key block protection key of the vector `tr31-B`.
const TDES_KBPK: [u8; 16] = 0xDD75_15F2_BFC1_7F85_CE48_F3CA_25CB_21F6_u128.to_be_bytes();
/// What the known key blocks belong to.
const LABEL: &str = "00003101000012345678/load/0102030405060708090A0B0C0D0E0F10";

/// Computes the known answers of both ciphers through this crate and the running backend of `lanes`.
///
/// Each card cipher: block, key check value, derivation over two levels, purchase and load TAC, the bulk check over one
/// full and one partial group with a wrong TAC planted, a load's MAC2 behind its MAC1 and none behind a wrong one, a script, an
/// external authentication. AES-CMAC and SM4-CMAC, a TR-31 block of each version, a sealed block that opens under its header only.
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
    purse(Algorithm::Tdes, &answers.tdes)?;
    card(Algorithm::Sm4, &SM4_CARD, &answers.sm4)?;
    card(Algorithm::Tdes, &TDES_CARD, &answers.tdes)?;
    expect(aes_cmac(&AES_KEY, &[&AES_BLOCK]) == answers.aes_cmac, Algorithm::Aes, "CMAC")?;
    expect(sm4_cmac(&KEY, &[&KEY, &CONTENT]) == answers.sm4_cmac, Algorithm::Sm4, "CMAC")?;
    blocks(answers)
}

fn card(algorithm: Algorithm, keys: &CardKeys, answers: &PurseAnswers) -> Result<(), SelfTestError> {
    let key = |bytes: &[u8; 16]| CardKey::new(algorithm, Zeroizing::new(*bytes));
    let rule = SessionRule::Padded;
    let mac1 = load_mac1(algorithm, &keys.load, rule, &LOAD_FIELDS);
    let right = LoadRequest { mac1, ..LOAD_FIELDS };
    let wrong = LoadRequest { mac1: mac1.map(|byte| !byte), ..LOAD_FIELDS };
    let answer = |request| key(&keys.load).load(rule, &request, DATE, TIME);
    expect(answer(right) == Ok(answers.load_mac2), algorithm, "load MAC2")?;
    expect(answer(wrong).is_err(), algorithm, "load MAC1")?;
    let script = Script::UpdateBinary { sfi: 21, offset: 0, data: CONTENT.to_vec() };
    let command = key(&keys.maintenance).script(CHALLENGE, &script).unwrap_or_default();
    expect(command.ends_with(&answers.script_mac), algorithm, "script MAC")?;
    let answer = key(&keys.authentication).authenticate([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(answer == answers.authentication, algorithm, "external authentication")
}

fn blocks(answers: &KnownAnswers) -> Result<(), SelfTestError> {
    let header = |version| BlockHeader { usage: *b"13", mode: b'N', version, label: LABEL.to_owned() };
    let mut counting = |bytes: &mut [u8]| {
        bytes.iter_mut().zip(0..).for_each(|(to, from)| *to = from);
        Ok::<(), Infallible>(())
    };
    let key = CardKey::new(Algorithm::Tdes, Zeroizing::new(TDES_CARD.load));
    let block = tr31_b(&TDES_KBPK, &header(0x01), &key, &mut counting);
    expect(block.as_deref() == Ok(answers.tr31_b), Algorithm::Tdes, "TR-31 version B")?;
    let key = CardKey::new(Algorithm::Sm4, Zeroizing::new(SM4_CARD.load));
    let block = tr31_d(&AES_KEY, &header(0x41), &key, &mut counting);
    expect(block.as_deref() == Ok(answers.tr31_d), Algorithm::Aes, "TR-31 version D")?;
    let block = seal(&AES_KEY, LABEL.as_bytes(), &key, &mut counting).unwrap_or_default();
    expect(block == answers.sealed, Algorithm::Aes, "sealed block")?;
    let opened = open_block(&AES_KEY, LABEL.as_bytes(), &block);
    expect(opened.is_some_and(|opened| *opened == SM4_CARD.load), Algorithm::Aes, "opened block")?;
    expect(open_block(&AES_KEY, b"", &block).is_none(), Algorithm::Aes, "block of another header")
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
    /// AES-CMAC of the published block.
    pub aes_cmac: [u8; 16],
    /// SM4-CMAC of the standard's key and a partial block.
    pub sm4_cmac: [u8; 16],
    /// A 3DES key under a 3DES transport key.
    pub tr31_b: &'static str,
    /// An SM4 key under an AES one.
    pub tr31_d: &'static str,
    /// The same key in our own block.
    pub sealed: [u8; 64],
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
    /// MAC2 of the load.
    pub load_mac2: [u8; 4],
    /// MAC of the UPDATE BINARY.
    pub script_mac: [u8; 4],
    /// Answer to the challenge 01 … 08.
    pub authentication: [u8; 8],
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
            load_mac2: 0x08DB_67C3_u32.to_be_bytes(),
            script_mac: 0xD47A_6DC8_u32.to_be_bytes(),
            authentication: 0x668B_FBF6_6B2A_3813_u64.to_be_bytes(),
        },
        tdes: PurseAnswers {
            kcv: [0x08, 0xD7, 0xB4],
            card_key: 0x4EAE_80BE_A8AE_8AE0_5C09_6B65_7F94_F4B6_u128.to_be_bytes(),
            purchase_tac: 0x9E41_0734_u32.to_be_bytes(),
            load_tac: 0x301E_5D87_u32.to_be_bytes(),
            load_mac2: 0x37D7_BE28_u32.to_be_bytes(),
            script_mac: 0xADC0_693D_u32.to_be_bytes(),
            authentication: 0x0749_240C_8E78_FF08_u64.to_be_bytes(),
        },
        aes_cmac: 0x070A_16B4_6B4D_4144_F79B_DD9D_D04A_287C_u128.to_be_bytes(),
        sm4_cmac: 0x0479_ACCC_1996_4D97_0E47_3425_B9AB_C273_u128.to_be_bytes(),
        tr31_b: "B015213TN01N0200LB3E00003101000012345678/load/0102030405060708090A0B0C0D0E0F10PB0A000000\
            D580ED09AE3D8D9559131A71AD49CF0E8FDC5AEA223BCEBBEB16589E965ABCBF",
        tr31_d: "D0192134N41N0200LB3E00003101000012345678/load/0102030405060708090A0B0C0D0E0F10PB12000000\
            000000006CD0105AA79A5AD8ED2F79F9C9FD16038C478C4044C36B6317A308244359DC8A4E6C7BCB7CB6CB06\
            87CAE0A9BD94CFAB",
        sealed: [
            0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F,
            0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F,
            0x40, 0xF6, 0x83, 0x3A, 0xF3, 0x48, 0xA5, 0x34, 0x5F, 0x18, 0x3C, 0x36, 0x51, 0x34, 0x8E, 0xAC,
            0x17, 0xAD, 0x08, 0x8B, 0xE2, 0x39, 0xDE, 0xD8, 0x13, 0x8A, 0x96, 0x85, 0x22, 0x20, 0xE1, 0xF4,
        ],
    };
}
