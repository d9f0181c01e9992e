//! The main job: a settlement day through the real programs, by our client and by curl, judged by two verifiers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;

use serde_json::Value;
use system_tests::house::{House, Places, fixture, must, program, run};

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
}

fn expected() -> Vec<String> {
    lines(&fs::read_to_string(fixture("expected.csv")).unwrap())
}

fn verify_receipt(places: &Places, day: &str, verdicts: &str) -> system_tests::house::Said {
    let words =
        ["receipt", "--log", "log", "--vkey", "log/vkey", "--receipt", "out/receipt.json", "--day", day];
    places.verify_py(&[words.as_slice(), &["--verdicts", verdicts]].concat())
}

#[test]
fn the_fixture_day_equals_its_expected_verdicts_and_every_judge_agrees() {
    let mut house = House::new();
    let places = house.places();
    let report: Value =
        serde_json::from_str(&must(&mut places.clear(&house.url, &fixture("day.txt")))).unwrap();
    let verdicts = fs::read_to_string(places.at("out/verdicts.csv")).unwrap();
    assert_eq!(lines(&verdicts), expected());

    // The receipt stands offline, by our program and by Python that shares no line with it.
    let index = report["log_index"].as_u64().unwrap();
    house.wait_published(index + 1);
    let audit = places.audit();
    assert!(audit.ok, "{}{}", audit.out, audit.err);
    let said = places.verify_py(&["log", "log", "--vkey", "log/vkey"]);
    assert!(said.ok, "{}{}", said.out, said.err);
    let day = fixture("day.txt").display().to_string();
    let said = verify_receipt(&places, &day, "out/verdicts.csv");
    assert!(said.ok, "{}{}", said.out, said.err);
    let receipt = |verdicts: &str| {
        let mut command = program("citykeep");
        command.args(["receipt", "verify", "--receipt"]).arg(places.at("out/receipt.json"));
        command
            .arg("--vkey")
            .arg(places.at("log/vkey"))
            .args(["--day", &day])
            .arg("--verdicts")
            .arg(places.at(verdicts));
        run(&mut command)
    };
    assert!(receipt("out/verdicts.csv").ok);

    // One flipped verdict, and none of them agrees any more.
    let flipped = verdicts.replacen(",bad_tac", ",ok", 1);
    assert_ne!(flipped, verdicts);
    fs::write(places.at("out/flipped.csv"), flipped).unwrap();
    assert!(!verify_receipt(&places, &day, "out/flipped.csv").ok);
    assert!(!receipt("out/flipped.csv").ok);

    // A restart on the same state goes on, and the log stays one log.
    assert!(house.keyd.stop(), "keyd stops well: {}", house.keyd.said());
    house.restart();
    must(&mut places.clear(&house.url, &fixture("day.txt")));
    assert_eq!(lines(&fs::read_to_string(places.at("out/verdicts.csv")).unwrap()), expected());
    house.wait_published(index + 2);
    assert!(places.audit().ok);
    assert!(places.verify_py(&["log", "log", "--vkey", "log/vkey"]).ok);
}

/// The auditor's program alone: over the service's own URL, and for a third party who gets one line.
#[test]
fn an_auditor_with_his_program_and_a_stranger_with_one_line() {
    let house = House::new();
    let places = house.places();
    must(&mut places.clear(&house.url, &fixture("day.txt")));
    let receipt: Value =
        serde_json::from_str(&fs::read_to_string(places.at("out/receipt.json")).unwrap()).unwrap();
    let index = receipt["indices"].as_array().unwrap().last().unwrap().as_u64().unwrap();
    house.wait_published(index + 1);
    let audit = |words: &[&str]| run(program("citykeep-audit").args(words).current_dir(places.at("")));
    let url = format!("{}/v1/log", house.url);
    let client = ["--ca", "pki/ca.pem", "--cert", "pki/auditor.pem", "--key", "pki/auditor.key"];
    let said = audit(&[&["verify", &url, "--vkey", "log/vkey"], client.as_slice()].concat());
    assert!(said.ok, "{}{}", said.out, said.err);
    // A client whose role reads no log gets none, and the program does not call that a bad log.
    let other = ["--ca", "pki/ca.pem", "--cert", "pki/clearing.pem", "--key", "pki/clearing.key"];
    let said = audit(&[&["verify", &url, "--vkey", "log/vkey"], other.as_slice()].concat());
    assert!(!said.ok && said.err.contains("nothing is known of it"), "{}", said.err);
    assert!(audit(&["report", "log", "--vkey", "log/vkey", "--out", "report.html"]).ok);
    let page = fs::read_to_string(places.at("report.html")).unwrap();
    assert!(page.contains(receipt["client"].as_str().unwrap()) && page.contains("transit/purse/tac@"));

    let day = fixture("day.txt").display().to_string();
    let mut command = program("citykeep");
    command.args(["receipt", "show-line", "17", "--file", &day, "--receipt", "out/receipt.json"]);
    command.args(["--vkey", "log/vkey", "--verdicts", "out/verdicts.csv", "--out", "line.json"]);
    must(command.current_dir(places.at("")));
    let said = audit(&["check-line", "line.json", "--vkey", "log/vkey"]);
    assert!(said.ok, "{}{}", said.out, said.err);
    let seventeenth = lines(&fs::read_to_string(fixture("day.txt")).unwrap()).swap_remove(16);
    let proof = fs::read_to_string(places.at("line.json")).unwrap();
    assert!(proof.contains(seventeenth.trim_end()) && proof.len() < 20_000, "{} bytes", proof.len());
    fs::write(places.at("line.json"), proof.replacen("\"line\":17", "\"line\":18", 1)).unwrap();
    assert!(!audit(&["check-line", "line.json", "--vkey", "log/vkey"]).ok);
}

#[test]
fn curl_sends_the_day_and_fetches_the_receipt() {
    let house = House::new();
    let places = house.places();
    let day = format!("@{}", fixture("day.txt").display());
    let url = format!("{}/v1/settlement/verify", house.url);
    let head = places.at("out/head").display().to_string();
    let words = ["--header", "content-type: text/plain", "--data-binary", &day, "--dump-header", &head, &url];
    let said = places.curl("clearing", &words);
    assert!(said.ok, "{}", said.err);
    assert_eq!(lines(&said.out), expected());
    let head = fs::read_to_string(head).unwrap().to_lowercase();
    let batch =
        head.lines().find_map(|line| line.strip_prefix("citykeep-batch: ")).unwrap().trim().to_owned();
    let receipt = places.curl("clearing", &[&format!("{}/v1/receipts/{batch}", house.url)]);
    fs::write(places.at("out/receipt.json"), &receipt.out).unwrap();
    fs::write(places.at("out/curl.csv"), &said.out).unwrap();
    let parsed: Value = serde_json::from_str(&receipt.out).unwrap();
    house.wait_published(parsed["indices"].as_array().unwrap().last().unwrap().as_u64().unwrap() + 1);
    let said = verify_receipt(&places, &fixture("day.txt").display().to_string(), "out/curl.csv");
    assert!(said.ok, "{}{}", said.out, said.err);
    // Another client's receipt does not exist.
    let foreign = places
        .curl("auditor", &["--write-out", "%{http_code}", &format!("{}/v1/receipts/{batch}", house.url)]);
    assert!(foreign.out.ends_with("404") || foreign.out.ends_with("403"), "{}", foreign.out);
}

#[test]
fn odd_days_keep_their_positions() {
    let house = House::new();
    let places = house.places();
    let day = fs::read(fixture("day.txt")).unwrap();
    let line = |at: usize| day.split(|byte| *byte == b'\n').nth(at).unwrap().to_vec();
    let check = |name: &str, bytes: &[u8], verdicts: &[&str]| {
        let path = places.at(&format!("out/{name}.txt"));
        fs::write(&path, bytes).unwrap();
        must(&mut places.clear(&house.url, &path));
        let text = fs::read_to_string(places.at("out/verdicts.csv")).unwrap();
        let found: Vec<&str> = text.lines().skip(1).map(|row| row.split_once(',').unwrap().1).collect();
        assert_eq!(found, verdicts, "{name}");
    };
    check("empty", b"", &[]);
    check("one-empty-line", b"\n", &["malformed"]);
    check("no-last-lf", &line(0), &["ok"]);
    let mut crlf = line(0);
    crlf.extend(b"\r\n");
    crlf.extend(line(1));
    check("cr", &crlf, &["malformed", "ok"]);
    let long = vec![b'7'; 300_000];
    let mixed = [long.as_slice(), b"\n\n", &line(2), b"\n", b"\xff\xfe", b"\n"].concat();
    check("mixed", &mixed, &["malformed", "malformed", "ok", "malformed"]);
    let twice = [line(3), line(3)].join(&b'\n');
    check("duplicate", &twice, &["ok", "ok"]);
}
