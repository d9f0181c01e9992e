//! Card keys, transport keys, list keys: what makes them, what they refuse, what they do not show.

use proptest::prelude::*;
use securemem::{Arena, Preference};
use wire::key::{Algorithm, FactorSource, SessionRule};

use super::unwrap::sm4_cmac;
use super::vector::Vector;
use super::{ARENA, CIPHERS, card_key, secret};
use crate::card_key::{CardKey, CardKeyError, Factors, LoadRequest, Mac1Wrong};
use crate::diversify::{FactorError, diversify, kcv};
use crate::master::{MasterKey, MasterKeyError};
use crate::transport::{BlockError, ListMac, TransportKey};

/// Does not compile if the type has the trait: the method's type parameter would be ambiguous.
macro_rules! assert_not_impl {
    ($type:ty: $($bound:path),+) => {$(
        const _: fn() = || {
            trait Ambiguous<A> {
                fn here() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            #[allow(dead_code)]
            struct Has;
            impl<T: ?Sized + $bound> Ambiguous<Has> for T {}
            let _ = <$type as Ambiguous<_>>::here;
        };
    )+};
}

assert_not_impl!(CardKey: Clone, Copy, PartialEq, PartialOrd, std::hash::Hash, std::fmt::Display);
assert_not_impl!(CardKey: AsRef<[u8]>, std::borrow::Borrow<[u8]>, std::ops::Deref, Into<Vec<u8>>);
assert_not_impl!(CardKey: wire::cbor::Cbor, std::fmt::LowerHex);
assert_not_impl!(TransportKey: Clone, Copy, PartialEq, PartialOrd, std::hash::Hash, std::fmt::Display);
assert_not_impl!(TransportKey: AsRef<[u8]>, std::borrow::Borrow<[u8]>, std::ops::Deref, Into<Vec<u8>>);
assert_not_impl!(ListMac: Clone, Copy, PartialEq, PartialOrd, std::hash::Hash, std::fmt::Display);
assert_not_impl!(ListMac: AsRef<[u8]>, std::borrow::Borrow<[u8]>, std::ops::Deref, Into<Vec<u8>>);

const KEY: [u8; 16] = *b"\xA7\xB8\xC9\xDA\xEB\xFC\x0D\x1E\x2F\x30\x41\x52\x63\x74\x85\x96";
const ISSUER: FactorSource = FactorSource::ISSUER_ID;
const CARD: FactorSource = FactorSource::ASN_RIGHT8;
const CHIP: FactorSource = FactorSource::CHIP;
const FACTORS: Factors = Factors { issuer: [1; 8], card: [2; 8], chip: Some([3; 8]) };

fn master(algorithm: Algorithm, levels: &[FactorSource]) -> MasterKey {
    MasterKey::new(secret(&ARENA, &KEY), algorithm, levels.to_vec()).unwrap()
}

#[test]
fn a_card_key_is_derived_level_by_level() {
    for (algorithm, name) in CIPHERS {
        let vector = Vector::named(&format!("div-{name}-l2"));
        let top = secret(&ARENA, &vector.input::<16>("master"));
        let master = MasterKey::new(top, algorithm, vec![ISSUER, CARD]).unwrap();
        let factors = Factors {
            issuer: vector.input("X_level1_issuer"),
            card: vector.input("X_level2_card"),
            chip: None,
        };
        let key = master.card_key(&factors).unwrap();
        assert_eq!(key.bytes(), &vector.expected::<16>("level2"), "{name}");
        assert_eq!(key.kcv(), kcv(algorithm, &vector.expected("level2")));
        assert_eq!(key.algorithm(), algorithm);
    }
}

#[test]
fn every_kind_of_level_has_its_factor() {
    let [issuer, card, literal, chip] = [[1; 8], [2; 8], [9; 8], [3; 8]];
    for (algorithm, name) in CIPHERS {
        for (levels, path) in [
            (vec![CARD], vec![card]),
            (vec![CHIP], vec![chip]),
            (vec![FactorSource::Literal(literal), ISSUER, CARD], vec![literal, issuer, card]),
            (vec![ISSUER, CARD, CHIP], vec![issuer, card, chip]),
            (vec![CARD, CARD], vec![card, card]),
        ] {
            let expected = path.iter().fold(KEY, |key, factor| *diversify(algorithm, &key, factor).unwrap());
            let key = master(algorithm, &levels).card_key(&FACTORS).unwrap();
            assert_eq!(key.bytes(), &expected, "{name} {levels:?}");
        }
    }
}

#[test]
fn keys_that_are_no_card_s() {
    for (algorithm, name) in CIPHERS {
        let error =
            |levels: &[FactorSource], factors: &Factors| master(algorithm, levels).card_key(factors).err();
        let shared = Some(CardKeyError::Shared);
        assert_eq!(error(&[ISSUER], &FACTORS), shared, "{name}");
        assert_eq!(error(&[FactorSource::Literal([9; 8])], &FACTORS), shared);
        assert_eq!(error(&[ISSUER, FactorSource::Literal([9; 8])], &FACTORS), shared);

        let no_chip = Factors { chip: None, ..FACTORS };
        assert_eq!(error(&[ISSUER, CHIP], &no_chip), Some(CardKeyError::Chip));
        assert_eq!(error(&[ISSUER, CARD], &no_chip), None, "nobody asks for it");

        for (byte, why) in [(0x00, FactorError::AllZeros), (0xff, FactorError::AllOnes)] {
            let bad = [byte; 8];
            let refused = Some(CardKeyError::Factor(why));
            assert_eq!(error(&[ISSUER, CARD], &Factors { issuer: bad, ..FACTORS }), refused);
            assert_eq!(error(&[ISSUER, CARD], &Factors { card: bad, ..FACTORS }), refused);
            assert_eq!(error(&[ISSUER, CHIP], &Factors { chip: Some(bad), ..FACTORS }), refused);
            assert_eq!(error(&[CARD], &Factors { issuer: bad, ..FACTORS }), None, "it is no factor here");
        }
    }
}

/// A wiped key reads zero, and everybody knows what a zero key derives, wraps and MACs.
#[test]
fn wiped_keys_do_nothing() {
    let arena = Arena::reserve(4096, Preference::Auto).unwrap();
    let master = MasterKey::new(secret(&arena, &KEY), Algorithm::Sm4, vec![CARD]).unwrap();
    let transports = [Algorithm::Tdes, Algorithm::Aes]
        .map(|algorithm| TransportKey::new(secret(&arena, &KEY), algorithm).unwrap());
    let list = ListMac::new(secret(&arena, &KEY), Algorithm::Sm4).unwrap();
    assert!(list.mac(&[b"list"]).is_ok());
    arena.zeroise();
    assert_eq!(master.card_key(&FACTORS).err(), Some(CardKeyError::Wiped));
    assert_eq!(list.mac(&[b"list"]), Err(MasterKeyError::Zeros));
    let mut random = |_: &mut [u8]| Ok::<(), Mac1Wrong>(());
    for transport in transports {
        let key = card_key(Algorithm::Sm4, [9; 16]);
        let header = crate::BlockHeader { usage: *b"13", mode: b'N', version: 1, label: "card".to_owned() };
        assert_eq!(transport.tr31(&header, &key, &mut random), Err(BlockError::Wiped));
        assert_eq!(transport.sealed_block(b"h", &key, &mut random), Err(BlockError::Wiped));
    }
}

#[test]
fn each_kind_of_key_has_its_algorithms() {
    let made = |bytes: &[u8], algorithm| {
        let (transport, list) = (secret(&ARENA, bytes), secret(&ARENA, bytes));
        let levels = vec![CARD];
        let master = MasterKey::new(secret(&ARENA, bytes), algorithm, levels);
        (
            master.map(|_| ()).err(),
            TransportKey::new(transport, algorithm).map(|_| ()).err(),
            ListMac::new(list, algorithm).map(|_| ()).err(),
        )
    };
    let no = Some(MasterKeyError::Algorithm);
    assert_eq!(made(&KEY, Algorithm::Tdes), (None, None, no));
    assert_eq!(made(&KEY, Algorithm::Sm4), (None, no, None));
    assert_eq!(made(&KEY, Algorithm::Aes), (no, None, no));
    assert_eq!(made(&KEY, Algorithm::P256), (no, no, no));
    assert_eq!(made(&KEY, Algorithm::Sm2), (no, no, no));
    for (bytes, why) in [
        (&KEY[..15], MasterKeyError::Length),
        (&[1; 17], MasterKeyError::Length),
        (&[0; 16], MasterKeyError::Zeros),
    ] {
        let why = Some(why);
        assert_eq!(made(bytes, Algorithm::Tdes), (why, why, no));
        assert_eq!(made(bytes, Algorithm::Sm4), (why, no, why));
    }
}

/// X9.143 for AES: the CMAC of a zero block, not its encryption (7DF76B for this key, NIST SP 800-38B D.1). Value by OpenSSL.
#[test]
fn check_values() {
    let key = Vector::named("aes-cmac-16").input("key");
    let transport = TransportKey::new(secret(&ARENA, &key), Algorithm::Aes).unwrap();
    assert_eq!(transport.kcv(), [0x7a, 0xd3, 0x86]);
    assert_eq!(kcv(Algorithm::Aes, &key), transport.kcv());
    let transport = TransportKey::new(secret(&ARENA, &KEY), Algorithm::Tdes).unwrap();
    assert_eq!(transport.kcv(), kcv(Algorithm::Tdes, &KEY));
    let list = ListMac::new(secret(&ARENA, &KEY), Algorithm::Sm4).unwrap();
    assert_eq!(list.kcv(), kcv(Algorithm::Sm4, &KEY));
    assert_eq!(kcv(Algorithm::P256, &KEY), [0; 3]);
}

#[test]
fn debug_shows_no_key_byte() {
    let card = master(Algorithm::Sm4, &[CARD]).card_key(&FACTORS).unwrap();
    assert_eq!(format!("{card:?}"), "CardKey { algorithm: Sm4, .. }");
    let transport = TransportKey::new(secret(&ARENA, &KEY), Algorithm::Aes).unwrap();
    assert_eq!(format!("{transport:?}"), "TransportKey { algorithm: Aes, .. }");
    let list = ListMac::new(secret(&ARENA, &KEY), Algorithm::Sm4).unwrap();
    assert_eq!(format!("{list:?}"), "ListMac { .. }");
}

#[test]
fn a_list_is_macced_whatever_its_parts() {
    let list = ListMac::new(secret(&ARENA, &KEY), Algorithm::Sm4).unwrap();
    assert_eq!(list.mac(&[b"body", b"", b"trailer"]), list.mac(&[b"bodytrailer"]));
    assert_ne!(list.mac(&[b"bodytrailer"]), list.mac(&[b"bodytrailes"]));
}

proptest! {
    #[test]
    fn list_macs_are_the_standard_s(key: [u8; 16], message in prop::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index) {
        prop_assume!(key != [0; 16]);
        let list = ListMac::new(secret(&ARENA, &key), Algorithm::Sm4).unwrap();
        let (first, second) = message.split_at(at.index(message.len() + 1));
        prop_assert_eq!(list.mac(&[first, second]).unwrap().to_vec(), sm4_cmac(&key, &message));
    }

    /// From master to MAC2 as the module does it, with a card that holds its own key.
    #[test]
    fn a_card_and_its_host_agree(
        algorithm in prop::sample::select(&[Algorithm::Tdes, Algorithm::Sm4][..]),
        (issuer, card, random) in any::<([u8; 8], [u8; 8], [u8; 4])>(),
        (amount, balance, terminal) in any::<([u8; 4], [u8; 4], [u8; 6])>(),
    ) {
        let factors = Factors { issuer, card, chip: None };
        let Ok(host) = master(algorithm, &[ISSUER, CARD]).card_key(&factors) else { return Ok(()) };
        let own = diversify(algorithm, &diversify(algorithm, &KEY, &issuer).unwrap(), &card).unwrap();
        let fields = LoadRequest { random, counter: [0, 1], balance, amount, kind: 1, terminal, mac1: [0; 4] };
        let rule = SessionRule::Padded;
        let mac1 = crate::card::load_mac1(algorithm, &own, rule, &fields);
        let answer = host.load(rule, &LoadRequest { mac1, ..fields }, [0x20; 4], [0x10; 3]);
        prop_assert!(answer.is_ok());
    }
}
