//! Nothing that the daemons say or write shows a secret (reliability.md A-5): a whole day with keys that the test knows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use system_tests::house::{House, Places, fixture, must, program, root, run};
use system_tests::secrets::{Secrets, files};

const ISSUER: &str = "2660FFFF00000001";
const LINE: &str = "transit/perso/line-2@01";

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len() / 2).map(|at| digit(at * 2)).collect()
}

/// Components and the key that they make, of each version in a file of keys.
fn add_versions(secrets: &mut Secrets, name: &str, versions: &Value) {
    for version in versions.as_array().unwrap() {
        let name = format!("{name}@{}", version["version"].as_str().unwrap());
        let mut key = [0; 16];
        for component in version["components"].as_array().unwrap() {
            let part = unhex(component["hex"].as_str().unwrap());
            key.iter_mut().zip(&part).for_each(|(to, from)| *to ^= from);
            secrets.add(&format!("component {} of {name}", component["custodian"]), &part);
        }
        secrets.add(&name, &key);
    }
}

/// What people and files of this house know and daemons must not tell.
fn secrets(places: &Places) -> Secrets {
    let mut secrets = Secrets::default();
    add_versions(&mut secrets, "tac", &read(&fixture("keys.json"))["versions"]);
    for row in read(&places.at("masters.json"))["keys"].as_array().unwrap() {
        let name = format!("{}/{}/{}", row["applet"], row["key_set"], row["role"]);
        add_versions(&mut secrets, &name, &row["versions"]);
    }
    for (at, key) in fs::read_to_string(places.at("derived")).unwrap().lines().enumerate() {
        secrets.add(&format!("card key {at}"), &unhex(key));
    }
    let passphrases = fs::read_to_string(places.at("ceremony/passphrases")).unwrap();
    for (name, phrase) in passphrases.lines().filter_map(|line| line.split_once(": ")) {
        secrets.add(&format!("passphrase of {name}"), phrase.as_bytes());
    }
    for name in ["keyd.key", "ca.key"] {
        let pem = fs::read_to_string(places.at("pki").join(name)).unwrap();
        for line in pem.lines().filter(|line| !line.starts_with('-') && line.len() >= 16) {
            secrets.add(&format!("a line of {name}"), line.as_bytes());
        }
    }
    secrets.add("the module's boot identity", &fs::read(places.at("hsm/identity")).unwrap());
    secrets
}

/// A day: a personalization job, settlement, a load, refusals of every kind, a reload, a restart with its unseal.
fn live(house: &mut House) -> Vec<(String, Vec<u8>)> {
    let places = house.places();
    let licence = places.licence(LINE);
    let (id, first) = (licence["id"].as_str().unwrap(), licence["first"].as_str().unwrap());
    let words = ["perso", "run", "--licence", id, "--first", first, "--count", "200", "--out", "job"];
    must(&mut places.citykeep(&house.url, "line", &words));
    let python = root().join("target/venv/bin/python");
    assert!(python.exists(), "{} is not there: run cargo xtask test", python.display());
    let mut derive = Command::new(python);
    derive.arg(root().join("tests/keysets.py")).arg(places.at("masters.json")).arg(places.at("job"));
    must(derive.args([LINE, ISSUER, "20"]).arg(places.at("derived")));
    must(&mut places.clear(&house.url, &fixture("day.txt")));
    let instance = read(&places.at("out/ceremony.json"))["instance"].as_str().unwrap().to_owned();
    let mut load = program("citycard");
    load.args(["load", "--masters", "masters.json", "--ledger", "ledger.key", "--amount", "5000"]);
    load.args(["--serial", "00003101000020000001", "--counter", "7", "--instance", &instance]);
    let load = must(load.current_dir(&places.0));
    fs::write(places.at("load.json"), &load).unwrap();
    must(&mut places.citykeep(&house.url, "terminal", &["load", "--request", "load.json"]));
    let mut said = Vec::new();
    let mut ask = |client: &str, path: &str, words: &[&str]| {
        let url = format!("{}{path}", house.url);
        let answer = places.curl(client, &[&[url.as_str()], words].concat());
        said.push((format!("{client} {path}"), [answer.out, answer.err].concat().into_bytes()));
    };
    ask("clearing", "/v1/status", &[]);
    ask("clearing", "/v1/keys", &[]);
    ask("clearing", "/v1/loads/authorize", &["--json", &load]);
    ask("terminal", "/v1/loads/authorize", &["--json", &load.replace("5000", "5001")]);
    ask("terminal", "/v1/loads/authorize", &["--json", &load.replace("mac1", "mac3")]);
    ask("clearing", "/v1/macs/verify", &["--json", "{\"key\":\"transit/purse/tac\",\"items\":[{}]}"]);
    ask("auditor", "/v1/status", &[]);
    fs::write(places.at("pki/crl.pem"), "no list").unwrap();
    house.keyd.reload();
    std::thread::sleep(std::time::Duration::from_secs(1));
    said.push(("metrics".to_owned(), places.metrics().into_bytes()));
    for (name, id) in [("hsm", house.hsm.id()), ("keyd", house.keyd.id())] {
        for file in ["cmdline", "environ"] {
            said.push((format!("{file} of {name}"), fs::read(format!("/proc/{id}/{file}")).unwrap()));
        }
    }
    house.restart();
    said.push(("metrics again".to_owned(), places.metrics().into_bytes()));
    assert!(house.keyd.stop(), "{}", house.keyd.said());
    house.hsm.kill();
    said
}

#[test]
fn a_whole_day_shows_no_secret_anywhere() {
    let mut house = House::with_masters();
    let places = house.places();
    let mut texts = live(&mut house);
    for log in ["hsm.log", "keyd.log"] {
        texts.push((log.to_owned(), fs::read(places.at(log)).unwrap()));
    }
    texts.extend([places.at("keyd"), places.at("log")].iter().flat_map(|dir| files(dir)));

    let secrets = secrets(&places);
    assert!(secrets.patterns().len() > 2000, "{}", secrets.patterns().len());
    for (name, text) in &texts {
        let found = secrets.found_in(text);
        assert!(found.is_empty(), "{name} shows {found:?}");
    }
    // What was searched is what it should be.
    let text = |name: &str| {
        let (_, text) = texts.iter().find(|(found, _)| found == name).unwrap();
        String::from_utf8_lossy(text).into_owned()
    };
    assert!(text("clearing /v1/status").contains("operational"));
    assert!(
        text("metrics").contains("citykeep_serving 1\n")
            && text("metrics again").contains("citykeep_serving 1\n")
    );
    assert!(text("terminal /v1/loads/authorize").contains("token-mismatch"), "refusals too");
    let log = text("keyd.log");
    assert!(log.contains("not in force") || log.contains("stays in force"), "the bad list: {log}");
    assert!(
        log.lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"].is_string()))
    );
    assert!(texts.iter().filter(|(name, _)| name.contains("/log/")).count() > 3);

    // The red control: each form of each secret, in a line such as the daemons write, is found by the same search.
    for (name, secret) in secrets.patterns() {
        let line =
            [log.as_bytes(), b"{\"level\":\"INFO\",\"fields\":{\"message\":\"", secret, b"\"}}\n"].concat();
        let tail = &line[log.len().saturating_sub(200)..];
        assert!(secrets.found_in(tail).contains(&name.as_str()), "{name} was planted and is not found");
    }
    fs::write(places.at("keyd/planted"), &secrets.patterns()[0].1).unwrap();
    let planted =
        files(&places.at("keyd")).into_iter().filter(|(_, text)| !secrets.found_in(text).is_empty());
    assert_eq!(planted.count(), 1, "a planted file is found");
    let none = run(program("citykeep")
        .args(["audit", "verify", "--json"])
        .arg(places.at("log"))
        .arg("--vkey")
        .arg(places.at("log/vkey")));
    assert!(none.ok, "the day was a whole one: {}{}", none.out, none.err);
}
