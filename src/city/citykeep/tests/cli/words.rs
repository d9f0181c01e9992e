//! What operators see when something fails: Chinese, English, and what to do next.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::{citykeep, text};

/// Has a Chinese sentence and an English one.
fn both(said: &str) -> bool {
    let chinese = said.chars().filter(|one| ('\u{4e00}'..'\u{9fff}').contains(one)).count();
    let english = said
        .split(' ')
        .filter(|word| word.len() > 1 && word.chars().all(|one| one.is_ascii_lowercase()))
        .count();
    chinese >= 6 && english >= 4
}

#[test]
fn every_failure_speaks_both_languages() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (name, bytes) in [
        ("bad.csv", "1,2\n"),
        ("ok.csv", "00003101000020000001,1,1\n"),
        ("bad.json", "{}"),
        ("junk", "junk\n"),
    ] {
        fs::write(at(name), bytes).unwrap();
    }
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(at("c.pem"), made.cert.pem()).unwrap();
    fs::write(at("c.key"), made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(at("c.key"), fs::Permissions::from_mode(0o600)).unwrap();
    // Nobody listens there.
    let service = "--url https://localhost:1 --ca c.pem --cert c.pem --key c.key";
    let vkey = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/golden/log/v1/vkey");
    let build = "blacklist build --epoch 1 --valid-from 20260101 --valid-to 20261231 --out o --csv";
    let perso = "perso run --licence 00112233445566778899AABBCCDDEEFF --first 00003701000040000000 --count 1";
    let (usage, none) = (Some(2), Some(1));
    for (line, code) in [
        ("receipt verify --receipt bad.json --vkey junk".to_owned(), usage),
        (format!("receipt verify --receipt nowhere --vkey {vkey}"), usage),
        (format!("receipt verify --receipt bad.json --vkey {vkey}"), none),
        (format!("{build} nowhere"), usage),
        (format!("{build} bad.csv"), usage),
        (
            "blacklist build --epoch 1 --valid-from 2026 --valid-to 20261231 --out o --csv ok.csv".to_owned(),
            usage,
        ),
        ("blacklist check nowhere --p256 c.pem".to_owned(), usage),
        ("blacklist check junk --p256 c.pem".to_owned(), none),
        (format!("blacklist sign --body junk --out o {service}"), usage),
        (format!("load --request nowhere {service}"), usage),
        (format!("load --request bad.json {service}"), usage),
        (format!("status {service}"), none),
        (format!("keys {service}"), none),
        ("status --url http://localhost --ca c.pem --cert c.pem --key c.key".to_owned(), usage),
        ("status --url https://localhost:1 --ca c.pem --cert junk --key c.key".to_owned(), usage),
        (format!("{perso} --out job {service} --form write-key"), usage),
        (format!("{perso} --out job {service} --chips nowhere"), usage),
        (format!("{perso} --out job {service} --chips bad.csv"), usage),
        (format!("perso resume nowhere {service}"), none),
        (format!("perso report nowhere --log . --vkey {vkey}"), none),
        (format!("clear verify --day nowhere --vkey {vkey} --verdicts v --receipt r {service}"), usage),
        (format!("clear verify --day junk --vkey {vkey} --verdicts v --receipt v {service}"), usage),
        (
            format!("clear verify --day junk --vkey {vkey} --verdicts v --receipt r --lineage x {service}"),
            usage,
        ),
        ("sandbox --port 65535 --state box".to_owned(), usage),
    ] {
        let said = citykeep(dir.path(), &line.split(' ').collect::<Vec<_>>());
        let words = text(&said.stderr);
        assert_eq!(said.status.code(), code, "{line}: {words}");
        assert!(both(&words), "{line}: {words}");
    }
    assert!(!at("job").exists() && !at("box").exists(), "nothing was tried");
}
