//! Loads, scripts, authentications: against the vectors, and against the definitions written out once more.

use proptest::prelude::*;
use wire::key::{Algorithm, SessionRule};

use super::naive::{cbc_mac, des, retail_mac, sm4, sm4_decrypt, tdes, tdes_decrypt};
use super::vector::Vector;
use super::{CIPHERS, card_key};
use crate::card::load_mac1;
use crate::card_key::{LoadRequest, Mac1Wrong, Session};
use crate::script::{Script, ScriptError, WriteStyle, write_key};

const RULES: [SessionRule; 2] = [SessionRule::Padded, SessionRule::Complement];

fn request(vector: &Vector) -> LoadRequest {
    LoadRequest {
        random: vector.input("random"),
        counter: vector.input("online_counter"),
        balance: vector.input("balance_before"),
        amount: vector.input("amount"),
        kind: vector.input::<1>("type")[0],
        terminal: vector.input("terminal"),
        mac1: vector.expected("mac1"),
    }
}

#[test]
fn loads() {
    for (algorithm, name) in CIPHERS {
        let vector = Vector::named(&format!("epurse-{name}-ep-load"));
        let (bytes, request) = (vector.input("dlk_card"), request(&vector));
        let (date, time) = (vector.input("date"), vector.input("time"));
        assert_eq!(load_mac1(algorithm, &bytes, SessionRule::Padded, &request), request.mac1, "{name}");
        let answer = card_key(algorithm, bytes).load(SessionRule::Padded, &request, date, time);
        assert_eq!(answer, Ok(vector.expected("mac2")), "{name}");
    }
    assert_eq!(load_mac1(Algorithm::Aes, &[1; 16], SessionRule::Padded, &EXAMPLE), [0; 4]);
}

/// Sessions of a purchase: their input ends otherwise than a load's, all else is the same.
#[test]
fn published_and_second_profile_sessions() {
    let vector = Vector::named("pboc-3des-purchase-published");
    let key = card_key(Algorithm::Tdes, vector.input("dpk"));
    let session = Session::derive(&key, SessionRule::Padded, vector.expected("session_input"));
    let Session::Des(bytes) = &session else { panic!("3DES has DES sessions") };
    assert_eq!(**bytes, vector.expected("session_key"));
    let data = ["amount", "type", "terminal", "datetime"].map(|field| vector.bytes("inputs", field));
    assert_eq!(session.mac(&data.concat()), vector.expected("mac1"));
    assert_eq!(session.mac(&data[0]), vector.expected("mac2"));

    let vector = Vector::named("epurse-sm4-ep-purchase-profileP2");
    let key = card_key(Algorithm::Sm4, vector.input("dpk_card"));
    let input = vector.input("session_input8");
    let session = Session::derive(&key, SessionRule::Complement, input);
    let Session::Sm4(bytes) = &session else { panic!("SM4 has SM4 sessions") };
    assert_eq!(**bytes, vector.expected("session_key"));
    assert_eq!(session.mac(&vector.bytes("inputs", "mac1_data")), vector.expected("mac1"));

    let vector = Vector::named("epurse-sm4-ep-purchase");
    let session = Session::derive(&key, SessionRule::Padded, vector.expected("session_input8"));
    assert_eq!(session.mac(&vector.bytes("expected", "mac1_data")), vector.expected("mac1"));
}

const EXAMPLE: LoadRequest = LoadRequest {
    random: [1, 2, 3, 4],
    counter: [0, 9],
    balance: [0, 0, 1, 0],
    amount: [0, 0, 0, 100],
    kind: 2,
    terminal: [6; 6],
    mac1: [0; 4],
};

/// No field that MAC1 covers may change behind it, and no bit of it may be wrong.
#[test]
fn a_wrong_mac1_has_no_mac2() {
    for (algorithm, name) in CIPHERS {
        for rule in RULES {
            let key = card_key(algorithm, [0x5A; 16]);
            let right = LoadRequest { mac1: load_mac1(algorithm, &[0x5A; 16], rule, &EXAMPLE), ..EXAMPLE };
            let load = |request: LoadRequest| key.load(rule, &request, [0x20; 4], [0x10; 3]);
            assert!(load(right).is_ok(), "{name}");
            for bit in 0..32 {
                let mac1 = (u32::from_be_bytes(right.mac1) ^ (1 << bit)).to_be_bytes();
                assert_eq!(load(LoadRequest { mac1, ..right }), Err(Mac1Wrong), "{name} bit {bit}");
            }
            for changed in [
                LoadRequest { random: [1, 2, 3, 5], ..right },
                LoadRequest { counter: [0, 8], ..right },
                LoadRequest { balance: [0, 0, 1, 1], ..right },
                LoadRequest { amount: [0, 0, 0, 101], ..right },
                LoadRequest { kind: 1, ..right },
                LoadRequest { terminal: [6, 6, 6, 6, 6, 7], ..right },
            ] {
                assert_eq!(load(changed), Err(Mac1Wrong), "{name} {changed:?}");
            }
            // An unload's MAC1 has the same shape and the same MAC2 behind it.
            for kind in [0, 3, 4, 7] {
                let other = LoadRequest { kind, ..EXAMPLE };
                let other = LoadRequest { mac1: load_mac1(algorithm, &[0x5A; 16], rule, &other), ..other };
                assert_eq!(load(other), Err(Mac1Wrong), "{name} kind {kind}");
            }
        }
    }
    let mac1 = load_mac1(Algorithm::Sm4, &[0x5A; 16], SessionRule::Padded, &EXAMPLE);
    let key = card_key(Algorithm::Sm4, [0x5A; 16]);
    let other_rule =
        key.load(SessionRule::Complement, &LoadRequest { mac1, ..EXAMPLE }, [0x20; 4], [0x10; 3]);
    assert_eq!(other_rule, Err(Mac1Wrong), "the rule is the key's attribute, not the caller's luck");
}

#[test]
fn scripts() {
    for (algorithm, name) in CIPHERS {
        let vector = Vector::named(&format!("sm-update-binary-{name}"));
        let script = Script::UpdateBinary { sfi: 0x15, offset: 0, data: vector.bytes("inputs", "data") };
        let command =
            card_key(algorithm, vector.input("key_card")).script(vector.input("challenge4"), &script);
        assert_eq!(command, Ok(vector.bytes("expected", "apdu")), "{name}");
    }
}

/// Whoever may choose the challenge has every command of the same length: the challenge and the header meet in one XOR (card-crypto
/// I.1). So `scripts-issue` and `scripts-unblock` part honest desks and nothing else, and a control key may not sign scripts.
#[test]
fn one_script_is_all_scripts_to_whoever_chooses_the_challenge() {
    for algorithm in [Algorithm::Tdes, Algorithm::Sm4] {
        let key = card_key(algorithm, [0x3c; 16]);
        let mac = |challenge, script: &Script| key.script(challenge, script).unwrap().split_off(5);
        let challenge = [0x12, 0x34, 0x56, 0x78];
        let [cla, ins, p1, p2] = challenge;
        for (script, code) in [(Script::UnblockApplication, 0x18), (Script::BlockCard, 0x16)] {
            let chosen = [cla, ins ^ 0x1e ^ code, p1, p2];
            assert_eq!(
                mac(challenge, &Script::BlockApplication),
                mac(chosen, &script),
                "{algorithm} {script:?}"
            );
            assert_ne!(mac(challenge, &Script::BlockApplication), mac(challenge, &script));
        }
        // A file's content that is the cipher of a WRITE KEY is a WRITE KEY.
        let style = WriteStyle { p1: 0x39, p2: 1 };
        let write = write_key(&key, style, &[1, 0, 0x33, 0], &key, challenge).unwrap();
        let (cipher, write_mac) = write[5..].split_at(write.len() - 9);
        let update = Script::UpdateBinary { sfi: 0x15, offset: 0, data: cipher.to_vec() };
        let chosen = [cla ^ 0x84 ^ 0x04, ins ^ 0xd4 ^ 0xd6, p1 ^ 0x39 ^ 0x95, p2 ^ 1];
        let update = key.script(chosen, &update).unwrap();
        assert_eq!(&update[update.len() - 4..], write_mac, "{algorithm}");
    }
}

#[test]
fn headers_and_limits_of_scripts() {
    let key = card_key(Algorithm::Sm4, [7; 16]);
    let made = |script: Script| key.script([1, 2, 3, 4], &script);
    let binary = |sfi, len| made(Script::UpdateBinary { sfi, offset: 0x20, data: vec![9; len] });
    let record = |sfi, record| made(Script::UpdateRecord { sfi, record, data: vec![9] });
    assert_eq!(binary(30, 251).unwrap()[..6], [0x04, 0xd6, 0x9e, 0x20, 0xff, 9]);
    assert_eq!(record(1, 254).unwrap()[..6], [0x04, 0xdc, 0xfe, 0x0c, 0x05, 9]);
    for (script, header) in [
        (Script::BlockApplication, [0x84, 0x1e, 0, 0, 4]),
        (Script::UnblockApplication, [0x84, 0x18, 0, 0, 4]),
        (Script::BlockCard, [0x84, 0x16, 0, 0, 4]),
    ] {
        let command = made(script).unwrap();
        assert_eq!((command.len(), &command[..5]), (9, &header[..]));
    }
    assert_eq!(binary(0, 1), Err(ScriptError::File));
    assert_eq!(binary(31, 1), Err(ScriptError::File));
    assert_eq!(record(31, 1), Err(ScriptError::File));
    assert_eq!(binary(1, 0), Err(ScriptError::Length));
    assert_eq!(binary(1, 252), Err(ScriptError::Length));
    assert_eq!(record(1, 0), Err(ScriptError::Record));
    assert_eq!(record(1, 255), Err(ScriptError::Record));
    for len in [0, 1, 7] {
        assert_eq!(key.reload_pin(&vec![0x12; len]), Err(ScriptError::Pin), "{len}");
    }
    let style = WriteStyle { p1: 0, p2: 0 };
    assert_eq!(write_key(&key, style, &[0; 9], &key, [0; 4]), Err(ScriptError::KeyHeader));
}

#[test]
fn authentications_and_pins() {
    for (algorithm, name) in CIPHERS {
        let vector = Vector::named(&format!("ext-auth-{name}"));
        let key = card_key(algorithm, vector.input("key_card"));
        assert_eq!(key.authenticate(vector.input("challenge8")), vector.expected("answer8"), "{name}");
    }
    let vector = Vector::named("reload-pin-3des");
    let key = card_key(Algorithm::Tdes, vector.input("drpk_card"));
    assert_eq!(key.reload_pin(&vector.bytes("inputs", "pin_bytes")), Ok(vector.bytes("expected", "apdu")));
}

#[test]
fn keys_are_written() {
    let vector = Vector::named("write-key-3des-mohurd");
    let [control, key] =
        ["control_key", "new_key"].map(|field| card_key(Algorithm::Tdes, vector.input(field)));
    let style = WriteStyle { p1: 0x3e, p2: 0x01 };
    let command =
        write_key(&control, style, &vector.bytes("inputs", "key_header"), &key, vector.input("challenge4"));
    assert_eq!(command, Ok(vector.bytes("expected", "apdu")));
    // The vectors have no SM4 one; this command is OpenSSL's.
    let control = card_key(Algorithm::Sm4, Vector::named("sm-update-binary-sm4").input("key_card"));
    let key = card_key(Algorithm::Sm4, Vector::named("div-sm4-l2").expected("level2"));
    let header = [0x01, 0x41, 0x04, 0, 0, 0, 0, 0];
    let command = write_key(&control, WriteStyle { p1: 0, p2: 0 }, &header, &key, [0xc0, 0xff, 0xee, 0x01]);
    let expected = "84D40000246C76F6B85A408D90C74D90DD075014FA133FB541055A82A8B38CC755B4323EC0B950E0B4";
    assert_eq!(wire::purse::to_hex(&command.unwrap()), expected);
}

/// MAC1 and MAC2 as card-crypto C and D.2 say.
fn naive_load(
    algorithm: Algorithm,
    rule: SessionRule,
    key: &[u8; 16],
    request: &LoadRequest,
    stamp: &[u8; 7],
) -> ([u8; 4], [u8; 4]) {
    let [a, b, c, d] = request.random;
    let input = [a, b, c, d, request.counter[0], request.counter[1], 0x80, 0];
    let mut block = [0; 16];
    block[..8].copy_from_slice(&input);
    block[8] = 0x80;
    if rule == SessionRule::Complement {
        block[8..].copy_from_slice(&input.map(|byte| !byte));
    }
    let mac = |data: &[&[u8]]| {
        let data = data.concat();
        let mac = match algorithm {
            Algorithm::Tdes => cbc_mac(|block| des(tdes(key, input), block), [0; 8], &data).to_vec(),
            _ => cbc_mac(|state| sm4(&sm4(key, block), state), [0; 16], &data).to_vec(),
        };
        mac[..4].try_into().unwrap()
    };
    let LoadRequest { balance, amount, kind, terminal, .. } = request;
    (mac(&[balance, amount, &[*kind], terminal]), mac(&[amount, &[*kind], terminal, stamp]))
}

fn naive_protected(algorithm: Algorithm, key: &[u8; 16], challenge: [u8; 4], message: &[u8]) -> Vec<u8> {
    let mut iv = [0; 16];
    iv[..4].copy_from_slice(&challenge);
    let mac = match algorithm {
        Algorithm::Tdes => retail_mac(key, iv[..8].try_into().unwrap(), message).to_vec(),
        _ => cbc_mac(|block| sm4(key, block), iv, message).to_vec(),
    };
    [message, &mac[..4]].concat()
}

fn algorithms() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(&[Algorithm::Tdes, Algorithm::Sm4][..])
}

proptest! {
    #[test]
    fn loads_are_naive(
        algorithm in algorithms(),
        rule in prop::sample::select(&RULES[..]),
        key: [u8; 16],
        (random, counter, balance) in any::<([u8; 4], [u8; 2], [u8; 4])>(),
        (amount, terminal, stamp) in any::<([u8; 4], [u8; 6], [u8; 7])>(),
        kind in 1_u8..=2,
    ) {
        let request = LoadRequest { random, counter, balance, amount, kind, terminal, mac1: [0; 4] };
        let (mac1, mac2) = naive_load(algorithm, rule, &key, &request, &stamp);
        prop_assert_eq!(load_mac1(algorithm, &key, rule, &request), mac1);
        let (date, time) = stamp.split_at(4);
        let answer = card_key(algorithm, key).load(
            rule,
            &LoadRequest { mac1, ..request },
            date.try_into().unwrap(),
            time.try_into().unwrap(),
        );
        prop_assert_eq!(answer, Ok(mac2));
    }

    #[test]
    fn scripts_are_naive(
        algorithm in algorithms(),
        key: [u8; 16],
        challenge: [u8; 4],
        (sfi, at) in (1_u8..=30, 1_u8..=254),
        data in prop::collection::vec(any::<u8>(), 1..=251),
    ) {
        let lc = u8::try_from(data.len() + 4).unwrap();
        let made = |script: Script| card_key(algorithm, key).script(challenge, &script).unwrap();
        let expected = |header: [u8; 5], data: &[u8]| {
            naive_protected(algorithm, &key, challenge, &[&header, data].concat())
        };
        let update = made(Script::UpdateBinary { sfi, offset: at, data: data.clone() });
        prop_assert_eq!(update, expected([0x04, 0xd6, 0x80 | sfi, at, lc], &data));
        let update = made(Script::UpdateRecord { sfi, record: at, data: data.clone() });
        prop_assert_eq!(update, expected([0x04, 0xdc, at, sfi << 3 | 4, lc], &data));
        prop_assert_eq!(made(Script::BlockApplication), expected([0x84, 0x1e, 0, 0, 4], &[]));
        prop_assert_eq!(made(Script::UnblockApplication), expected([0x84, 0x18, 0, 0, 4], &[]));
        prop_assert_eq!(made(Script::BlockCard), expected([0x84, 0x16, 0, 0, 4], &[]));
    }

    #[test]
    fn answers_are_naive(key: [u8; 16], challenge: [u8; 8], pin in prop::collection::vec(any::<u8>(), 2..=6)) {
        prop_assert_eq!(card_key(Algorithm::Tdes, key).authenticate(challenge), tdes(&key, challenge));
        let mut block = [0; 16];
        block[..8].copy_from_slice(&challenge);
        let block = sm4(&key, block);
        let folded: [u8; 8] = core::array::from_fn(|i| block[i] ^ block[i + 8]);
        prop_assert_eq!(card_key(Algorithm::Sm4, key).authenticate(challenge), folded);

        let header = [0x80, 0x5e, 0, 0, u8::try_from(pin.len() + 4).unwrap()];
        let half: [u8; 8] = core::array::from_fn(|i| key[i] ^ key[i + 8]);
        let mac = &cbc_mac(|block| des(half, block), [0; 8], &pin)[..4];
        let command = card_key(Algorithm::Tdes, key).reload_pin(&pin).unwrap();
        prop_assert_eq!(command, [&header, pin.as_slice(), mac].concat());
        let mac = &cbc_mac(|block| sm4(&key, block), [0; 16], &pin)[..4];
        let command = card_key(Algorithm::Sm4, key).reload_pin(&pin).unwrap();
        prop_assert_eq!(command, [&header, pin.as_slice(), mac].concat());
    }

    /// What a card does with WRITE KEY: check the MAC, decipher, unpad.
    #[test]
    fn keys_are_written_naively(
        (outer, inner) in (algorithms(), algorithms()),
        (control, key) in any::<([u8; 16], [u8; 16])>(),
        (p1, p2, challenge) in any::<(u8, u8, [u8; 4])>(),
        header in prop::collection::vec(any::<u8>(), 0..=8),
    ) {
        let new = card_key(inner, key);
        let style = WriteStyle { p1, p2 };
        let command = write_key(&card_key(outer, control), style, &header, &new, challenge).unwrap();
        let (message, _) = command.split_at(command.len() - 4);
        prop_assert_eq!(&command, &naive_protected(outer, &control, challenge, message));
        let (front, cipher) = message.split_at(5);
        prop_assert_eq!(front, [0x84, 0xd4, p1, p2, u8::try_from(cipher.len() + 4).unwrap()]);
        let plain: Vec<u8> = match outer {
            Algorithm::Tdes => cipher.chunks(8).flat_map(|b| tdes_decrypt(&control, b.try_into().unwrap())).collect(),
            _ => cipher.chunks(16).flat_map(|b| sm4_decrypt(&control, b.try_into().unwrap())).collect(),
        };
        let block = if outer == Algorithm::Tdes { 8 } else { 16 };
        let mut expected = [&[u8::try_from(header.len() + 16).unwrap()], header.as_slice(), &key].concat();
        if !expected.len().is_multiple_of(block) {
            expected.push(0x80);
            expected.resize(expected.len().next_multiple_of(block), 0);
        }
        prop_assert_eq!(plain, expected);
    }
}
