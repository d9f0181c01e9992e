//! The samples for integrators, each against the same live daemons.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use system_tests::house::{House, fixture, must, program, root, run};

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
        "10 cards, 220 keys unwrapped, check values good",
        "10 cards, 220 keys unwrapped, check values good",
        "10 cards, 220 keys unwrapped, 110 check values good\nNOT CHECKED 未核对: 110 check values of SM4 keys",
        "10 cards, 220 keys unwrapped, check values good",
    ];
    let commands = [("curl", bash), ("Python", python), ("Java", java), ("C", Command::new(built))];
    halves(&house, &licence, &key);
    for (at, ((name, mut command), keys)) in (0_u128..).zip(commands.into_iter().zip(keys)) {
        command.arg(&house.url).arg(&pki).arg(licence["id"].as_str().unwrap());
        command.arg(format!("{:020}", first + 10 * at)).arg(&key);
        command.arg(fixture("day.txt")).arg(places.at("log/vkey")).arg(&out);
        // Python and Java judge the receipt themselves.
        command.env("PATH", if ["curl", "C"].contains(&name) { path.clone() } else { without_citykeep() });
        let said = must(&mut command);
        for part in ["status: operational", keys, "20059 verdicts, the receipt is good"] {
            assert!(said.contains(part), "{name}: {said}");
        }
        let expected = fs::read_to_string(fixture("expected.csv")).unwrap();
        assert_eq!(fs::read_to_string(out.join("verdicts.csv")).unwrap(), expected, "{name}");
        fs::remove_file(out.join("verdicts.csv")).unwrap();
    }
}

/// The PATH without any place that has citykeep.
fn without_citykeep() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap();
    let places: Vec<_> =
        std::env::split_paths(&path).filter(|place| !place.join("citykeep").exists()).collect();
    std::env::join_paths(places).unwrap()
}

/// The Java sample, compiled once.
fn java(into: &Path) -> Command {
    if !into.join("Sample.class").exists() {
        fs::create_dir_all(into).unwrap();
        must(Command::new("javac").arg("-d").arg(into).arg(root().join("src/keep/keyd/samples/Sample.java")));
    }
    let mut java = Command::new("java");
    java.arg("-cp").arg(into).arg("Sample");
    java
}

/// Half a PKCS#12 is refused with a sentence before anything is sent: no card is counted, nothing is written.
fn halves(house: &House, licence: &Value, key: &str) {
    let places = house.places();
    let (pki, out, id) = (places.at("pki"), places.at("out"), licence["id"].as_str().unwrap());
    let ask = || {
        let mut command = java(&places.at("java"));
        command.arg(&house.url).arg(&pki).args([id, licence["first"].as_str().unwrap(), key]);
        run(command.arg(fixture("day.txt")).arg(places.at("log/vkey")).arg(&out))
    };
    let refused = |what: &str, words: [&str; 2]| {
        let said = ask();
        assert!(!said.ok && said.out.is_empty(), "{what}: {}{}", said.out, said.err);
        for part in ["nothing was sent", "export it again", "未发送任何请求"].iter().chain(&words) {
            assert!(said.err.contains(part), "{what}: {part}: {}", said.err);
        }
        assert!(!said.err.contains("Exception in thread"), "{what}: {}", said.err);
    };
    for name in ["line.p12", "clearing.p12", "trust.p12"] {
        let whole = fs::read(pki.join(name)).unwrap();
        for len in [0, 1, 30, whole.len() / 4, whole.len() / 2, whole.len() - 1] {
            fs::write(pki.join(name), &whole[..len]).unwrap();
            refused(&format!("{len} bytes of {name}"), [name, "no whole PKCS#12"]);
        }
        fs::write(pki.join(name), &whole).unwrap();
    }
    // A whole one that has certificates and no key: a TLS client would go on without saying who it is.
    fs::rename(pki.join("line.p12"), pki.join("line.kept")).unwrap();
    fs::copy(pki.join("trust.p12"), pki.join("line.p12")).unwrap();
    refused("a store without a key", ["line.p12", "no private key"]);
    fs::rename(pki.join("line.kept"), pki.join("line.p12")).unwrap();

    // citykeep takes PEM; a PKCS#12, whole or not, is none, and it says what it wants.
    let mut command = program("citykeep");
    command.args(["status", "--url", &house.url]).arg("--ca").arg(pki.join("ca.pem"));
    let said = run(command.arg("--cert").arg(pki.join("line.p12")).arg("--key").arg(pki.join("line.key")));
    assert!(!said.ok && said.err.contains("line.p12") && said.err.contains("PEM"), "{}", said.err);

    let known = places.curl("line", &[&format!("{}/v1/licences/{id}", house.url)]).out;
    assert_eq!(serde_json::from_str::<Value>(&known).unwrap()["issued"], 0, "{known}");
    assert!(!out.join("verdicts.csv").exists() && !out.join("receipt.json").exists());
}

/// Python and Java agree with each other on a receipt that other code made, and find each change in it.
#[test]
fn samples_judge_receipts_by_themselves() {
    let golden = root().join("tests/golden/log");
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read_to_string(golden.join(name)).unwrap();
    let [receipt, vkey, verdicts] =
        ["receipt-v1/receipt.json", "v1/vkey", "receipt-v1/verdicts.csv"].map(read);
    let day = fs::read(golden.join("receipt-v1/day.txt")).unwrap();
    let judge = |what: &str, receipt: &str, vkey: &str, day: &[u8], verdicts: &str| {
        let at = |name: &str| dir.path().join(name);
        for (name, text) in [
            ("receipt.json", receipt.as_bytes()),
            ("vkey", vkey.as_bytes()),
            ("day.txt", day),
            ("v.csv", verdicts.as_bytes()),
        ] {
            fs::write(at(name), text).unwrap();
        }
        let mut python = Command::new(root().join("target/venv/bin/python"));
        python.arg(root().join("src/keep/keyd/samples/sample.py"));
        let verdicts = [python, java(&dir.path().join("java"))].map(|mut sample| {
            sample.arg("receipt").args(["receipt.json", "vkey", "day.txt", "v.csv"]);
            let said = run(sample.current_dir(dir.path()).env("PATH", without_citykeep()));
            let words = if said.ok { "the receipt is good" } else { "THE RECEIPT IS NOT GOOD" };
            assert!(format!("{}{}", said.out, said.err).contains(words), "{what}: {}{}", said.out, said.err);
            said.ok
        });
        assert_eq!(verdicts[0], verdicts[1], "{what}");
        verdicts[0]
    };
    assert!(judge("as it is", &receipt, &vkey, &day, &verdicts));

    let known: Value = serde_json::from_str(&receipt).unwrap();
    let with = |name: &str, value: Value| {
        let mut other = known.clone();
        other[name] = value;
        other.to_string()
    };
    assert!(judge(
        "written in another way",
        &with("records", known["records"].clone()),
        &vkey,
        &day,
        &verdicts
    ));
    let flipped = |name: &str, at: usize| {
        let mut text = known[name].as_str().unwrap().to_owned();
        let other = if text[at..].starts_with('0') { "1" } else { "0" };
        text.replace_range(at..=at, other);
        with(name, text.into())
    };
    let mut counts = known["counts"].clone();
    counts["ok"] = (counts["ok"].as_u64().unwrap() + 1).into();
    let proof = known["proof"].as_str().unwrap();
    let (entry, size) = (known["entry"].as_str().unwrap().len(), proof.find("\n\n").unwrap());
    for (what, receipt) in [
        ("root", flipped("root", 5)),
        ("batch", flipped("batch", 0)),
        ("client", with("client", "spiffe://weihai.example/clearing/other".into())),
        ("records", with("records", (known["records"].as_u64().unwrap() + 1).into())),
        ("counts", with("counts", counts)),
        ("indices", with("indices", serde_json::json!([0]))),
        ("entry", flipped("entry", entry - 1)),
        // What only the proof covers.
        ("the entry's module", flipped("entry", 24)),
        ("signature", with("proof", tampered(proof).into())),
        ("index", with("proof", proof.replacen("index ", "index 1", 1).into())),
        ("head", with("proof", format!("{}\n\nx{}", &proof[..size], &proof[size + 2..]).into())),
    ] {
        assert!(!judge(what, &receipt, &vkey, &day, &verdicts), "{what}");
    }
    let mut other_day = day.clone();
    other_day[161] = if other_day[161] == b'0' { b'1' } else { b'0' };
    assert!(!judge("a line", &receipt, &vkey, &other_day, &verdicts));
    assert!(!judge("a line more", &receipt, &vkey, &[day.as_slice(), b"x\n"].concat(), &verdicts));
    let other = verdicts.replacen(",ok", ",bad_tac", 1);
    assert!(other != verdicts && !judge("a verdict", &receipt, &vkey, &day, &other));
    // Another log's key, as good a vkey line as any.
    let other = "hsm.example/audit-1+651737db+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4\n";
    assert!(!judge("another key", &receipt, other, &day, &verdicts));
}

/// The proof with one bit of the log key's signature flipped; its base64 stays canonical.
fn tampered(proof: &str) -> String {
    let at = proof.find("\u{2014} ").unwrap();
    let end = at + proof[at..].find('\n').unwrap();
    let from = at + proof[at..end].rfind(' ').unwrap() + 20;
    let other = if proof[from..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &proof[..from], &proof[from + 1..])
}
