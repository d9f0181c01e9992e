//! The samples for integrators, each against the same live daemons.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use system_tests::house::{House, fixture, must, root};

const TRANSPORT: &str = "transit/perso/line-1@01";

/// The practice transport key, from its components.
fn transport_key(masters: &Path) -> String {
    let masters: Value = serde_json::from_str(&fs::read_to_string(masters).unwrap()).unwrap();
    let rows = masters["keys"].as_array().unwrap();
    let row = rows.iter().find(|row| row["applet"] == "transit" && row["role"] == "line-1").unwrap();
    let mut key = [0; 16];
    for component in row["versions"][0]["components"].as_array().unwrap() {
        let part: [u8; 16] = wire::purse::hex(component["hex"].as_str().unwrap().as_bytes()).unwrap();
        key.iter_mut().zip(part).for_each(|(to, from)| *to ^= from);
    }
    wire::purse::to_hex(&key)
}

/// PKCS#12 for Java, as the head of its sample says.
fn stores(pki: &Path) {
    for client in ["line", "clearing"] {
        let files = [format!("{client}.pem"), format!("{client}.key"), format!("{client}.p12")];
        let [cert, key, store] = &files;
        must(
            Command::new("openssl")
                .args(["pkcs12", "-export", "-in", cert, "-inkey", key, "-name", client])
                .args(["-passout", "pass:practice", "-out", store])
                .current_dir(pki),
        );
    }
    must(
        Command::new("keytool")
            .args(["-importcert", "-noprompt", "-alias", "ca", "-file", "ca.pem", "-storetype", "PKCS12"])
            .args(["-storepass", "practice", "-keystore", "trust.p12"])
            .current_dir(pki),
    );
}

#[test]
fn every_sample_does_the_four_things() {
    let house = House::with_masters();
    let places = house.places();
    let samples = root().join("src/keep/keyd/samples");
    let (pki, out) = (places.at("pki"), places.at("out"));
    stores(&pki);
    let licence = places.licence(TRANSPORT);
    let key = transport_key(&places.at("masters.json"));
    let built = places.at("sample");
    must(
        Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&built)
            .arg(samples.join("sample.c"))
            .args(["-lcurl", "-lcrypto"]),
    );
    let bin = std::env::var_os("CITYKEEP_BIN").map_or_else(|| root().join("target/release"), PathBuf::from);
    let path = std::env::join_paths(
        std::iter::once(bin).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();
    let first: u128 = licence["first"].as_str().unwrap().parse().unwrap();
    let mut bash = Command::new("bash");
    bash.arg(samples.join("curl.sh"));
    let mut python = Command::new(root().join("target/venv/bin/python"));
    python.arg(samples.join("sample.py"));
    let mut java = Command::new("java");
    java.arg(samples.join("Sample.java"));
    let keys = [
        "22 keys of the first unwrapped",
        "220 keys unwrapped",
        "110 3DES keys unwrapped",
        "220 keys unwrapped",
    ];
    let commands = [("curl", bash), ("Python", python), ("Java", java), ("C", Command::new(built))];
    for (at, ((name, mut command), keys)) in (0_u128..).zip(commands.into_iter().zip(keys)) {
        command.arg(&house.url).arg(&pki).arg(licence["id"].as_str().unwrap());
        command.arg(format!("{:020}", first + 10 * at)).arg(&key);
        command.arg(fixture("day.txt")).arg(places.at("log/vkey")).arg(&out).env("PATH", &path);
        let said = must(&mut command);
        for part in ["status: operational", keys, "20059 verdicts, the receipt is good"] {
            assert!(said.contains(part), "{name}: {said}");
        }
        let expected = fs::read_to_string(fixture("expected.csv")).unwrap();
        assert_eq!(fs::read_to_string(out.join("verdicts.csv")).unwrap(), expected, "{name}");
        fs::remove_file(out.join("verdicts.csv")).unwrap();
    }
}

/// The integrator's own service, twice on the same directory, and the reasons of a day's bad records.
#[test]
fn a_sandbox_is_up_and_explains() {
    let dir = tempfile::Builder::new().prefix("ck").tempdir().unwrap();
    let state = dir.path().join("sandbox");
    for _ in 0..2 {
        let mut sandbox = system_tests::house::program("citykeep");
        sandbox.args(["sandbox", "--once", "--json", "--port", "0", "--state"]).arg(&state);
        let up: Value = serde_json::from_str(&must(&mut sandbox)).unwrap();
        assert!(up["url"].as_str().unwrap().starts_with("https://localhost:"), "{up}");
    }
    let expected = fs::read_to_string(state.join("expected.csv")).unwrap();
    let bad = expected
        .lines()
        .find(|row| row.ends_with(",malformed"))
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .to_owned();
    let explain = |line: &str| {
        let mut citycard = system_tests::house::program("citycard");
        must(
            citycard
                .args(["explain", "--keys", "keys.json", "--day", "day.txt", "--line", line])
                .current_dir(&state),
        )
    };
    let good =
        expected.lines().find(|row| row.ends_with(",ok")).unwrap().split(',').next().unwrap().to_owned();
    assert!(explain(&good).contains("is right"));
    assert!(!explain(&bad).contains("is right"));
    // Everybody's sandbox has the same keys: that is what makes them unusable for anything real.
    let again = tempfile::tempdir().unwrap();
    let copy = again.path().join("keys.json");
    must(
        system_tests::house::program("citycard")
            .args(["keys", "--seed", "citykeep sandbox", "--out"])
            .arg(&copy),
    );
    assert_eq!(fs::read(copy).unwrap(), fs::read(state.join("keys.json")).unwrap());
}
