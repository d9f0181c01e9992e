//! Bad input at the API: one clear problem, nothing changed, and the refusal is in the log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;

use serde_json::Value;
use system_tests::house::{House, fixture};
use translog::entry::{Entry, Event};
use translog::fs::LogDir;
use wire::batch::{BatchHeader, Group, Profile, Record};
use wire::cbor::Cbor;
use wire::key::{KeyVersion, Lineage};

const GOOD: &str = r#"{"kind":"purchase-tac","version":"01","issuer":"1234500012345000","serial":"00003101000012345678","amount":500,"type":"09","terminal":"112233445566","sequence":291,"date":"20240131","time":"093015","tac":"D00A87B6"}"#;

struct Desk {
    house: House,
}

impl Desk {
    fn ask(&self, client: &str, path: &str, words: &[&str]) -> (u16, String) {
        let url = format!("{}{path}", self.house.url);
        let said =
            self.house.places().curl(client, &[words, &["--write-out", "\n%{http_code}", &url]].concat());
        let (body, status) = said.out.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap(), body.to_owned())
    }

    fn json(&self, client: &str, body: &str) -> (u16, String) {
        let words = ["--header", "content-type: application/json", "--data-binary", body];
        self.ask(client, "/v1/macs/verify", &words)
    }

    fn batch(&self, bytes: &[u8]) -> (u16, String) {
        let path = self.house.places().at("out/batch.bin");
        fs::write(&path, bytes).unwrap();
        let data = format!("@{}", path.display());
        let words = ["--header", "content-type: application/octet-stream", "--data-binary", &data];
        self.ask("clearing", "/v1/settlement/verify", &words)
    }
}

/// An RFC 9457 problem with this status and stable code.
fn problem(answer: &(u16, String), status: u16, code: &str) {
    let body: Value =
        serde_json::from_str(&answer.1).unwrap_or_else(|_| panic!("{answer:?} instead of {code}"));
    assert_eq!((answer.0, body["code"].as_str()), (status, Some(code)), "{body}");
    assert_eq!(body["type"], format!("urn:citykeep:problem:{code}"));
    assert!(body["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{body}");
}

fn items(item: &str) -> String {
    format!("{{\"key\":\"transit/purse/tac\",\"items\":[{item}]}}")
}

fn header(lineage: &str) -> Vec<u8> {
    let groups = vec![Group { version: KeyVersion(1), issuer: [0x12; 8] }];
    BatchHeader { profile: Profile::PurchaseTac, lineage: Lineage::parse(lineage).unwrap(), groups }
        .to_bytes()
}

#[test]
fn one_clear_problem_each() {
    let mut desk = Desk { house: House::new() };
    // Good ones first, so that the refusals below are not refusals of everything.
    let (status, body) = desk.json("clearing", &items(GOOD));
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["results"][0]["verdict"], "bad_tac", "a well-formed item under another key: {body}");
    assert_eq!(desk.ask("clearing", "/v1/status", &[]).0, 200);
    assert_eq!(desk.ask("auditor", "/v1/log/checkpoint", &[]).0, 200);

    // JSON.
    let doubled = items(GOOD).replace("\"key\":", "\"key\":\"a/b/c\",\"key\":");
    problem(&desk.json("clearing", &doubled), 400, "bad-json");
    problem(
        &desk.json("clearing", &items(&GOOD.replace("\"amount\":500", "\"amount\":500,\"amount\":5"))),
        400,
        "bad-json",
    );
    problem(&desk.json("clearing", &items(&GOOD.replace("\"amount\"", "\"betrag\""))), 400, "bad-json");
    problem(&desk.json("clearing", "{"), 400, "bad-json");
    let many = vec![GOOD; 1025].join(",");
    let path = desk.house.places().at("out/many.json");
    fs::write(&path, items(&many)).unwrap();
    let data = format!("@{}", path.display());
    let (status, body) = desk.json("clearing", &data);
    assert!(status == 400 || status == 413, "{status} {body}");

    // One malformed item does not disturb the others.
    let mixed = items(&format!("{GOOD},{},{GOOD}", GOOD.replace("20240131", "20240231")));
    let (status, body) = desk.json("clearing", &mixed);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["results"][1]["verdict"]), (200, &Value::from("malformed")), "{body}");
    assert!(body["results"][1]["detail"].as_str().unwrap().contains("date"));
    let (_, body) = desk.json("clearing", &items(&GOOD.replace("\"01\"", "\"7F\"")));
    assert!(body.contains("unknown_key"), "{body}");

    // Not yours and not there look alike.
    let foreign = desk.json("clearing", &items(GOOD).replace("transit/purse", "health/ddf1"));
    let absent = desk.json("clearing", &items(GOOD).replace("transit/purse", "nowhere/purse"));
    assert_eq!(foreign, absent);
    problem(&foreign, 404, "no-such-key");
    problem(&desk.json("auditor", &items(GOOD)), 403, "not-permitted");
    problem(
        &desk.ask(
            "clearing",
            "/v1/commands",
            &["--data-binary", "x", "--header", "content-type: application/cbor"],
        ),
        403,
        "not-permitted",
    );

    // Batches.
    problem(&desk.batch(b"CKB2"), 400, "bad-batch");
    problem(&desk.batch(&[header("transit/purse/tac").as_slice(), &[0; 41]].concat()), 400, "bad-batch");
    problem(&desk.batch(&header("transit/purse/tac")[..60]), 400, "bad-batch");
    problem(&desk.batch(&header("health/ddf1/stk")), 404, "no-such-key");
    let record = Record { card: [1; 8], data: [0; 24], tac: [0; 4], group: 9 };
    let (status, body) = desk
        .batch(&[header("transit/purse/tac").as_slice(), &record.to_bytes(Profile::PurchaseTac)].concat());
    assert_eq!(
        (status, body.as_bytes().first()),
        (200, Some(&3)),
        "a record outside the group table is malformed"
    );

    // Routes.
    problem(&desk.ask("clearing", "/v1/nothing", &[]), 404, "not-found");
    problem(&desk.ask("clearing", "/v1/settlement/verify", &[]), 405, "method-not-allowed");
    problem(
        &desk.ask(
            "clearing",
            "/v1/macs/verify",
            &["--data-binary", "x", "--header", "content-type: text/html"],
        ),
        415,
        "media-type",
    );

    in_the_log(&mut desk);
}

/// Every code above stands in the log as asserted by keyd.
fn in_the_log(desk: &mut Desk) {
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert!(desk.house.keyd.stop(), "{}", desk.house.keyd.said());
    let places = desk.house.places();
    let log = LogDir::open(&places.at("log"), &places.at("keyd/wal")).unwrap();
    let mut codes = std::collections::BTreeMap::new();
    for entry in log.entries(0..log.size()).unwrap() {
        if let Event::Asserted(asserted) = Entry::from_cbor(&entry).unwrap().event {
            *codes.entry(asserted.code).or_insert(0) += asserted.count;
        }
    }
    for (code, least) in [
        ("bad-json", 4),
        ("no-such-key", 3),
        ("policy-not-granted", 2),
        ("bad-batch", 3),
        ("not-found", 1),
        ("media-type", 1),
    ] {
        let found: u64 = codes.iter().filter(|(known, _)| known.contains(code)).map(|(_, count)| count).sum();
        assert!(found >= least, "{code}: {found} of {least} in {codes:?}");
    }
    assert!(places.audit().ok);
}

#[test]
fn strangers_are_refused_before_http() {
    let house = House::new();
    let places = house.places();
    let url = format!("{}/v1/status", house.url);
    let other = tempfile::tempdir().unwrap();
    let foreign = system_tests::house::Places(other.path().to_owned());
    foreign.prepare();
    let ca = places.at("pki/ca.pem").display().to_string();
    let bare = |words: &[&str]| {
        let mut command = std::process::Command::new("curl");
        system_tests::house::run(
            command
                .args(["--silent", "--show-error", "--max-time", "20", "--cacert", &ca])
                .args(words)
                .arg(&url),
        )
    };
    assert!(!bare(&[]).ok, "no certificate");
    let cert = foreign.at("pki/clearing.pem").display().to_string();
    let key = foreign.at("pki/clearing.key").display().to_string();
    assert!(!bare(&["--cert", &cert, "--key", &key]).ok, "another CA of the same name");
    assert!(places.curl("clearing", &[&url]).ok);
    assert!(fixture("keys.json").exists());
}
