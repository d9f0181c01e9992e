//! `citykeep blacklist check`: lists that are over, and the two names of a signature.

use std::fs;
use std::path::Path;

use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use sha2::Digest as _;
use sm2::dsa::signature::Signer as _;

use crate::{citykeep, text};

const KEY: [u8; 32] = [7; 32];

/// SEQUENCE { INTEGER, INTEGER } of r ‖ s.
fn der(raw: &[u8]) -> Vec<u8> {
    let integers = raw.chunks(32).flat_map(|half| {
        let digits = &half[half.iter().position(|byte| *byte != 0).unwrap()..];
        let sign = (digits[0] >= 0x80).then_some(0);
        let len = u8::try_from(digits.len()).unwrap() + sign.map_or(0, |_| 1);
        [2, len].into_iter().chain(sign).chain(digits.iter().copied()).collect::<Vec<_>>()
    });
    let integers: Vec<u8> = integers.collect();
    [&[0x30, u8::try_from(integers.len()).unwrap()], integers.as_slice()].concat()
}

/// `list.bin` of these days with its two signatures under the names that `name` gives, and the public keys.
fn signed(dir: &Path, from: &str, to: &str, name: impl Fn(&str) -> String) {
    fs::write(dir.join("cards.csv"), "00003101000020000005,1,2\n").unwrap();
    let words = ["blacklist", "build", "--csv", "cards.csv", "--epoch", "3", "--out", "list.body"];
    let dates = ["--valid-from", from, "--valid-to", to];
    assert!(citykeep(dir, &[&words[..], &dates].concat()).status.success());
    let body = fs::read(dir.join("list.body")).unwrap();
    let file = [body.as_slice(), sm3::Sm3::digest(&body).as_slice(), &[0; 20]].concat();
    fs::write(dir.join("list.bin"), &file).unwrap();
    let secret = p256::SecretKey::from_slice(&KEY).unwrap();
    let signature: p256::ecdsa::Signature = p256::ecdsa::SigningKey::from(&secret).sign(&file);
    fs::write(dir.join(name("p256")), der(&signature.to_bytes())).unwrap();
    let pem = secret.public_key().to_public_key_pem(LineEnding::LF).unwrap();
    fs::write(dir.join("p256.pem"), pem).unwrap();
    let secret = sm2::SecretKey::from_slice(&KEY).unwrap();
    let signer = sm2::dsa::SigningKey::new("1234567812345678", &secret).unwrap();
    let signature: sm2::dsa::Signature = signer.sign(&file);
    fs::write(dir.join(name("sm2")), der(&signature.to_bytes())).unwrap();
    let pem = secret.public_key().to_public_key_pem(LineEnding::LF).unwrap();
    fs::write(dir.join("sm2.pem"), pem).unwrap();
}

const CHECK: [&str; 7] = ["blacklist", "check", "list.bin", "--sm2", "sm2.pem", "--p256", "p256.pem"];

/// The name that takes the place of the list's extension.
fn of_the_list(algorithm: &str) -> String {
    format!("list.{algorithm}.sig")
}

/// The name that stands behind the file's.
fn of_the_file(algorithm: &str) -> String {
    format!("list.bin.{algorithm}.sig")
}

#[test]
fn a_list_that_is_over_is_not_loaded() {
    let dir = tempfile::tempdir().unwrap();
    signed(dir.path(), "20200101", "20201231", of_the_list);
    let said = citykeep(dir.path(), &CHECK);
    assert_eq!(said.status.code(), Some(1));
    let words = text(&said.stderr);
    for part in [
        "不得装载此名单",
        "有效期止于 20201231",
        "DO NOT LOAD THIS LIST",
        "it ended on 20201231",
        "fetch the newest",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(said.stdout.is_empty());
    let said = citykeep(dir.path(), &[&CHECK[..], &["--json"]].concat());
    assert_eq!(said.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((&json["ok"], &json["error"]["kind"]), (&false.into(), &"list".into()), "{json}");

    // The same list while it is in force.
    signed(dir.path(), "20200101", "20991231", of_the_list);
    let said = citykeep(dir.path(), &CHECK);
    assert_eq!(said.status.code(), Some(0), "{}", text(&said.stderr));
    assert!(text(&said.stdout).contains("黑名单有效 the list is good"));
}

#[test]
fn a_signature_is_found_under_either_name() {
    for name in [of_the_list, of_the_file] {
        let dir = tempfile::tempdir().unwrap();
        signed(dir.path(), "20200101", "20991231", name);
        let said = citykeep(dir.path(), &CHECK);
        assert_eq!(said.status.code(), Some(0), "{}", text(&said.stderr));
        assert!(text(&said.stdout).contains("signed with sm2, p256"));
        for algorithm in ["sm2", "p256"] {
            let path = dir.path().join(name(algorithm));
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            *bad.last_mut().unwrap() ^= 1;
            fs::write(&path, bad).unwrap();
            let said = citykeep(dir.path(), &CHECK);
            assert_eq!(said.status.code(), Some(1));
            assert!(
                text(&said.stderr).contains(&format!("its {algorithm} signature")),
                "{}",
                text(&said.stderr)
            );
            // Without it nothing is known of the list, good or bad.
            fs::remove_file(&path).unwrap();
            assert_eq!(citykeep(dir.path(), &CHECK).status.code(), Some(2));
            fs::write(&path, good).unwrap();
        }
    }
}
