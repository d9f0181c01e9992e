//! Key blocks: opened by a second implementation, kept as golden files, refused with any bit of them turned.

use std::path::PathBuf;

use proptest::prelude::*;
use wire::cbor::{Bytes, Cbor};
use wire::key::{Algorithm, FactorSource, KeyId};
use wire::licence::{KeyBlockHeader, SealedKeyBlock};
use zeroize::Zeroizing;

use super::unwrap::{Opened, unwrap};
use super::vector::Vector;
use super::{ARENA, CIPHERS, card_key, secret};
use crate::card_key::{CardKey, Factors};
use crate::master::MasterKey;
use crate::sealed::open_block;
use crate::selftest::KnownAnswers;
use crate::tr31::{BlockHeader, bind_b};
use crate::transport::{BlockError, TransportKey};

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no entropy")]
struct Broken;

/// Random bytes 00, 01, 02, ….
#[expect(clippy::unnecessary_wraps, reason = "it stands for a source that may fail")]
fn counting(bytes: &mut [u8]) -> Result<(), Broken> {
    bytes.iter_mut().zip(0..).for_each(|(to, from)| *to = from);
    Ok(())
}

fn transport(algorithm: Algorithm, key: &[u8; 16]) -> TransportKey {
    TransportKey::new(secret(&ARENA, key), algorithm).unwrap()
}

fn header(label: &str) -> BlockHeader {
    BlockHeader { usage: *b"13", mode: b'N', version: 0x41, label: label.to_owned() }
}

const LABEL: &str = "00003101000012345678/load/0102030405060708090A0B0C0D0E0F10";
const TRANSPORTS: [(Algorithm, char); 2] = [(Algorithm::Tdes, 'B'), (Algorithm::Aes, 'D')];

#[test]
fn published_blocks_open() {
    for name in ["tr31-B", "tr31-D"] {
        let vector = Vector::named(name);
        let kbpk = vector.bytes("inputs", "kbpk");
        let block = vector.text("inputs", "block_ascii");
        let opened = unwrap(&kbpk, block.as_bytes()).unwrap();
        assert_eq!(opened.key(), Some(&*vector.bytes("expected", "key")), "{name}");
        if name == "tr31-B" {
            let Opened { header, body } = opened;
            let kbpk = kbpk.try_into().unwrap();
            assert_eq!(bind_b(&kbpk, header, Zeroizing::new(body)), block, "and is made again");
        }
    }
}

/// Checks a golden file, or writes it if it is not there and `CITYKEEP_BLESS=1`; never overwrites one.
fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/keyblock").join(name);
    if !path.exists() && std::env::var_os("CITYKEEP_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(kept == bytes, "{name} is not what this version writes: a format needs a new version");
}

/// The inputs are in SPEC.md. Given the same padding and salt, `psec` 1.3.0 and Python's `cryptography` make the same bytes.
#[test]
fn golden_blocks() {
    let kbpk = |algorithm| match algorithm {
        Algorithm::Tdes => Vector::named("tr31-B").input("kbpk"),
        _ => Vector::named("aes-cmac-16").input("key"),
    };
    let load_key = |name: &str| Vector::named(&format!("epurse-{name}-ep-load")).input("dlk_card");
    for (outer, letter) in TRANSPORTS {
        for (inner, name) in CIPHERS {
            let version = if inner == Algorithm::Tdes { 0x01 } else { 0x41 };
            let header = BlockHeader { version, ..header(LABEL) };
            let key = card_key(inner, load_key(name));
            let block = transport(outer, &kbpk(outer)).tr31(&header, &key, &mut counting).unwrap();
            golden(&format!("tr31-{}-{name}-v1.txt", letter.to_ascii_lowercase()), block.as_bytes());
            assert_eq!(unwrap(&kbpk(outer), block.as_bytes()).unwrap().key(), Some(&load_key(name)[..]));
            match (letter, inner) {
                ('B', Algorithm::Tdes) => assert_eq!(block, KnownAnswers::STANDARD.tr31_b),
                ('D', Algorithm::Sm4) => assert_eq!(block, KnownAnswers::STANDARD.tr31_d),
                _ => {}
            }
        }
    }
    let key = card_key(Algorithm::Sm4, load_key("sm4"));
    let header = KeyBlockHeader {
        format: 1,
        instance: [0x11; 16],
        licence: [0x22; 16],
        transport: KeyId::parse("transit/perso/line-1@01").unwrap(),
        serial: Vector::named("div-sm4-l2").input("asn10"),
        role: "load-41".to_owned(),
        key: KeyId::parse("transit/purse/load@41").unwrap(),
        algorithm: Algorithm::Sm4,
        index: 0x41,
        kcv: key.kcv(),
    };
    let header = header.to_cbor();
    let sealed = transport(Algorithm::Aes, &kbpk(Algorithm::Aes)).sealed_block(&header, &key, &mut counting);
    let block = SealedKeyBlock { header: Bytes(header), sealed: Bytes(sealed.unwrap()) };
    golden("sealed-v1.cbor", &block.to_cbor());
    let opened = open_block(&kbpk(Algorithm::Aes), &block.header, &block.sealed).unwrap();
    assert_eq!(*opened, load_key("sm4"));
}

/// A line's key set under a 3DES transport key: `serial role kcv block` in each line (SPEC.md §Golden files). keyd's golden answer has these
/// blocks, and psec reads them there.
#[test]
fn golden_key_set() {
    let kbpk = Vector::named("tr31-B").input("kbpk");
    let licence = "5A".repeat(16);
    let mut rows = Vec::new();
    for end in [0x78, 0x79] {
        let serial = [0x00, 0x00, 0x31, 0x01, 0x00, 0x00, 0x12, 0x34, 0x56, end];
        let [_, _, card @ ..] = serial;
        let factors = Factors { issuer: [0x26, 0x60, 0xff, 0xff, 0, 0, 0, 1], card, chip: None };
        let serial = wire::purse::to_hex(&serial);
        for (role, usage, master) in
            [("load", *b"13", b"load master key!"), ("tac", *b"16", b"tac master key.!")]
        {
            let levels = vec![FactorSource::ISSUER_ID, FactorSource::ASN_RIGHT8];
            let master = MasterKey::new(secret(&ARENA, master), Algorithm::Tdes, levels).unwrap();
            let key = master.card_key(&factors).unwrap();
            let label = format!("{serial}/{role}/{licence}");
            let header = BlockHeader { usage, mode: b'N', version: 1, label };
            let block = transport(Algorithm::Tdes, &kbpk).tr31(&header, &key, &mut counting).unwrap();
            assert_eq!(unwrap(&kbpk, block.as_bytes()).unwrap().key(), Some(&key.bytes()[..]));
            let kcv = wire::purse::to_hex(&key.kcv());
            rows.push(format!("{serial} {role} {kcv} {block}\n"));
        }
    }
    golden("key-set-b-3des-v1.txt", rows.concat().as_bytes());
}

#[test]
fn no_bit_of_a_tr31_block_may_turn() {
    for (algorithm, letter) in TRANSPORTS {
        let transport = transport(algorithm, &[3; 16]);
        let block = transport.tr31(&header("card/load"), &card_key(Algorithm::Sm4, [9; 16]), &mut counting);
        let block = block.unwrap().into_bytes();
        assert!(unwrap(&[3; 16], &block).is_some());
        assert!(unwrap(&[5; 16], &block).is_none(), "another transport key");
        for bit in 0..block.len() * 8 {
            let mut turned = block.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert!(unwrap(&[3; 16], &turned).is_none(), "{letter} bit {bit}");
        }
        for len in 0..block.len() {
            assert!(unwrap(&[3; 16], &block[..len]).is_none(), "{letter} cut to {len}");
        }
        assert!(unwrap(&[3; 16], &[block.as_slice(), b"00"].concat()).is_none());
    }
}

#[test]
fn no_bit_of_a_sealed_block_may_turn() {
    let header = b"a header";
    let key = card_key(Algorithm::Tdes, [9; 16]);
    let sealed = transport(Algorithm::Tdes, &[3; 16]).sealed_block(header, &key, &mut counting).unwrap();
    assert_eq!(sealed.len(), 64);
    assert_eq!(*open_block(&[3; 16], header, &sealed).unwrap(), [9; 16]);
    let turned = |bytes: &[u8], bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    };
    for bit in 0..sealed.len() * 8 {
        assert!(open_block(&[3; 16], header, &turned(&sealed, bit)).is_none(), "bit {bit}");
    }
    for bit in 0..header.len() * 8 {
        assert!(open_block(&[3; 16], &turned(header, bit), &sealed).is_none(), "header bit {bit}");
    }
    for bit in 0..128 {
        let other = turned(&[3; 16], bit).try_into().unwrap();
        assert!(open_block(&other, header, &sealed).is_none(), "transport bit {bit}");
    }
    for len in 0..sealed.len() {
        assert!(open_block(&[3; 16], header, &sealed[..len]).is_none(), "cut to {len}");
    }
    assert!(open_block(&[3; 16], header, &[sealed.as_slice(), &[0]].concat()).is_none());
    assert!(open_block(&[3; 16], b"", &sealed).is_none());
}

/// Options fill whole cipher blocks, a pad is never empty, and every label comes back.
#[test]
fn every_label_length_fits() {
    for (algorithm, letter) in TRANSPORTS {
        let transport = transport(algorithm, &[3; 16]);
        for len in 1..=200 {
            let label = "L".repeat(len);
            let block = transport.tr31(&header(&label), &card_key(Algorithm::Sm4, [9; 16]), &mut counting);
            let opened = unwrap(&[3; 16], block.unwrap().as_bytes()).unwrap();
            assert_eq!(opened.option("LB"), Some(label.as_str()), "{letter} {len}");
            assert_ne!(opened.option("PB"), Some(""), "{letter} {len}");
        }
    }
}

#[test]
fn headers_that_cannot_be() {
    let transport = transport(Algorithm::Aes, &[3; 16]);
    let made =
        |header: BlockHeader| transport.tr31(&header, &card_key(Algorithm::Sm4, [9; 16]), &mut counting);
    assert!(made(header(" ~")).is_ok());
    for label in ["", "\u{1f}", "\u{7f}", "卡", &"L".repeat(201)] {
        assert_eq!(made(header(label)), Err(BlockError::Header), "{label:?}");
    }
    for wrong in [b'a', b' ', b'-', 0, 0xff] {
        assert_eq!(made(BlockHeader { mode: wrong, ..header("L") }), Err(BlockError::Header));
        assert_eq!(made(BlockHeader { usage: [wrong, b'0'], ..header("L") }), Err(BlockError::Header));
        assert_eq!(made(BlockHeader { usage: [b'0', wrong], ..header("L") }), Err(BlockError::Header));
    }
}

#[test]
fn without_random_bytes_there_is_no_block() {
    for (algorithm, _) in TRANSPORTS {
        let transport = transport(algorithm, &[3; 16]);
        let key = card_key(Algorithm::Sm4, [9; 16]);
        let mut broken = |_: &mut [u8]| Err(Broken);
        assert_eq!(transport.tr31(&header("L"), &key, &mut broken), Err(BlockError::Random(Broken)));
        assert_eq!(transport.sealed_block(b"h", &key, &mut broken), Err(BlockError::Random(Broken)));
    }
}

/// The same key twice does not look the same.
#[test]
fn random_bytes_are_used() {
    for (algorithm, _) in TRANSPORTS {
        let transport = transport(algorithm, &[3; 16]);
        let key = card_key(Algorithm::Sm4, [9; 16]);
        let mut zeros = |bytes: &mut [u8]| {
            bytes.fill(0);
            Ok::<(), Broken>(())
        };
        let blocks = [
            transport.tr31(&header("L"), &key, &mut counting).unwrap(),
            transport.tr31(&header("L"), &key, &mut zeros).unwrap(),
        ];
        assert_ne!(blocks[0], blocks[1]);
        let [counted, zeroed] = blocks.map(|block| unwrap(&[3; 16], block.as_bytes()).unwrap().body);
        let padding: Vec<u8> = (0..).take(counted.len() - 18).collect();
        assert_eq!((&counted[18..], &counted[..18]), (&padding[..], &zeroed[..18]));
        let sealed = [
            transport.sealed_block(b"h", &key, &mut counting).unwrap(),
            transport.sealed_block(b"h", &key, &mut zeros).unwrap(),
        ];
        assert_ne!(sealed[0][32..48], sealed[1][32..48], "each salt has its own key");
    }
}

fn keys() -> impl Strategy<Value = (Algorithm, CardKey, [u8; 16])> {
    let algorithm = prop::sample::select(&[Algorithm::Tdes, Algorithm::Sm4][..]);
    (algorithm, any::<[u8; 16]>()).prop_map(|(algorithm, key)| (algorithm, card_key(algorithm, key), key))
}

proptest! {
    #[test]
    fn what_is_wrapped_is_unwrapped(
        (inner, key, bytes) in keys(),
        outer in prop::sample::select(&TRANSPORTS[..]),
        kbpk: [u8; 16],
        (label, usage, mode, version) in ("[ -~]{1,200}", "[A-Z0-9]{2}", "[A-Z0-9]", any::<u8>()),
        (position, bit) in (any::<prop::sample::Index>(), 0_u8..8),
        header in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        prop_assume!(kbpk != [0; 16]);
        let transport = transport(outer.0, &kbpk);
        let (usage, mode) = (usage.into_bytes().try_into().unwrap(), mode.as_bytes()[0]);
        let fields = BlockHeader { usage, mode, version, label };
        let block = transport.tr31(&fields, &key, &mut counting).unwrap();
        let opened = unwrap(&kbpk, block.as_bytes()).unwrap();
        prop_assert_eq!(opened.key(), Some(&bytes[..]));
        prop_assert_eq!(opened.option("LB"), Some(fields.label.as_str()));
        let kind = if inner == Algorithm::Tdes { 'T' } else { '4' };
        let [first, second, mode] = [usage[0], usage[1], mode].map(char::from);
        let start = format!("{}{:04}{first}{second}{kind}{mode}{version:02X}N", outer.1, block.len());
        prop_assert!(block.starts_with(&start), "{} {}", block, start);

        let mut turned = block.into_bytes();
        let at = position.index(turned.len());
        turned[at] ^= 1 << bit;
        prop_assert!(unwrap(&kbpk, &turned).is_none());

        let mut sealed = transport.sealed_block(&header, &key, &mut counting).unwrap();
        prop_assert_eq!(open_block(&kbpk, &header, &sealed).map(|key| *key), Some(bytes));
        sealed[position.index(64)] ^= 1 << bit;
        prop_assert!(open_block(&kbpk, &header, &sealed).is_none());
    }
}
