//! What each route answers to whom.

use std::time::Duration;

use translog::proof::TlogProof;
use wire::api::{KeysBody, MacsVerified, StatusBody};
use wire::cbor::{Bytes, Cbor};
use wire::command::SignedCommand;

use crate::fake;
use crate::house::{House, send};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn item(tac: &str, date: &str) -> String {
    format!(
        r#"{{"kind":"purchase-tac","version":"01","issuer":"1234500012345000","serial":"00003101000012345678","amount":500,"type":"09","terminal":"112233445566","sequence":291,"date":"{date}","time":"093015","tac":"{tac}"}}"#
    )
}

fn items(items: &[String]) -> String {
    format!(r#"{{"key":"transit/purse/tac","items":[{}]}}"#, items.join(","))
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_for_those_who_have_them() {
    let house = House::new();
    let keyd = house.run();
    let status = house.get(&keyd, "officers/relay-1", "/v1/status").await;
    let body: StatusBody = serde_json::from_slice(&status.body).unwrap();
    assert_eq!((body.state.as_str(), body.witness.as_deref()), ("operational", Some("unwitnessed")));
    let keys = house.get(&keyd, "clearing/engine-1", "/v1/keys").await;
    let body: KeysBody = serde_json::from_slice(&keys.body).unwrap();
    let names: Vec<_> = body.keys.iter().map(|key| key.lineage.as_str()).collect();
    assert_eq!(names, ["transit/purse/tac"], "the others look as if they were not there");
    for (client, path, status, code) in [
        ("officers/relay-1", "/v1/keys", 403, "not-permitted"),
        ("nobody/at-all", "/v1/status", 403, "not-permitted"),
        ("audit/desk-1", "/v1/receipts/00000000000000000000000000000000", 403, "not-permitted"),
        ("clearing/engine-1", "/v1/receipts/00000000000000000000000000000000", 404, "not-found"),
        ("clearing/engine-1", "/v1/receipts/..%2f..%2fkeyd.toml", 404, "not-found"),
        ("clearing/engine-1", "/v1/nothing", 404, "not-found"),
        ("clearing/engine-1", "/v1/macs/verify", 405, "method-not-allowed"),
        ("clearing/engine-1", "/v1/status?more=1", 400, "bad-query"),
        ("audit/desk-1", "/v1/log/tile/../../keyd/keyd.toml", 404, "not-found"),
        ("audit/desk-1", "/v1/log/tile/0/000.p/256", 404, "not-found"),
        ("audit/desk-1", "/v1/log/proof?index=99999", 404, "not-found"),
        ("audit/desk-1", "/v1/log/proof?index=01", 400, "bad-query"),
    ] {
        let reply = house.get(&keyd, client, path).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{client} {path}");
    }
    house.fake.wait_noted("policy-not-granted", 2);
    house.fake.wait_noted("policy-no-role", 1);
    house.fake.wait_noted("not-found", 6);
    let by = house.fake.lock().assertions.iter().find(|row| row.code == "policy-no-role").unwrap().clone();
    assert_eq!(by.client.as_deref(), Some("spiffe://weihai.example/nobody/at-all"));
    assert!(by.certificate.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_for_every_client_with_a_role() {
    let house = House::new();
    let keyd = house.run();
    for client in ["clearing/engine-1", "officers/relay-1", "perso/line-1", "gates/depot-1", "health/perso-1"]
    {
        let reply = house.get(&keyd, client, "/v1/openapi.json").await;
        assert_eq!(
            (reply.status.as_u16(), reply.headers["content-type"].as_bytes()),
            (200, &b"application/json"[..]),
            "{client}"
        );
        assert!(reply.body == include_bytes!("../../openapi.json"), "{client}");
    }
    let reply = house.get(&keyd, "nobody/at-all", "/v1/openapi.json").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (403, "not-permitted"));
    let reply = house.get(&keyd, "perso/line-1", "/v1/openapi.json?v=1").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "bad-query"));
    house.fake.wait_noted("policy-no-role", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_published_and_proved() {
    let house = House::new();
    let keyd = house.run();
    house.fake.wait_noted("keyd-start", 1);
    let proof = house.get(&keyd, "audit/desk-1", "/v1/log/proof?index=0").await;
    let proof = TlogProof::parse(std::str::from_utf8(&proof.body).unwrap()).unwrap();
    let entry = house.fake.lock().entries[0].clone();
    proof.verify(&fake::vkey(), &entry).unwrap();
    // A partial bundle is there until the next checkpoint replaces it; a reader who comes in between asks again.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(500));
        let checkpoint = house.get(&keyd, "audit/desk-1", "/v1/log/checkpoint").await;
        let text = String::from_utf8(checkpoint.body).unwrap();
        let size: u64 = text.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or_default();
        let path = format!("/v1/log/tile/entries/000.p/{}", size.min(255));
        let bundle = house.get(&keyd, "audit/desk-1", &path).await;
        if bundle.status.is_success() {
            assert!(bundle.body.windows(7).any(|part| part == b"entry 0"));
            return;
        }
    }
    panic!("no bundle was published");
}

#[tokio::test(flavor = "multi_thread")]
async fn single_checks_answer_each_item_once_durable() {
    let house = House::new();
    let keyd = house.run();
    let mut sender = house.clearing(&keyd).await;
    let body =
        items(&[item("D00A87B6", "20240131"), item("00000000", "20240131"), item("D00A87B6", "20240231")]);
    let reply = send(&mut sender, "POST", "/v1/macs/verify", JSON, body.clone()).await;
    let verified: MacsVerified = serde_json::from_slice(&reply.body).unwrap();
    let verdicts: Vec<_> = verified.results.iter().map(|result| result.verdict.as_str()).collect();
    assert_eq!(verdicts, ["ok", "bad_tac", "malformed"]);
    assert_eq!(verified.results[2].detail.as_deref(), Some("date must be a day, YYYYMMDD"));
    assert!(house.fake.lock().entries[usize::try_from(verified.index).unwrap()].ends_with(b"singles"));

    house.fake.change(|inner| inner.withhold = true);
    let waiting = send(&mut sender, "POST", "/v1/macs/verify", JSON, body);
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(400), &mut waiting).await;
    assert!(early.is_err(), "answered before the entry was durable");
    house.fake.change(|inner| inner.withhold = false);
    assert!(waiting.await.status.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn single_checks_of_many_requests_share_frames() {
    let house = House::new();
    let keyd = house.run();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let mut sender = house.clearing(&keyd).await;
        tasks.spawn(async move {
            for _ in 0..20 {
                let body = items(&[item("D00A87B6", "20240131"), item("00000000", "20240131")]);
                let reply = send(&mut sender, "POST", "/v1/macs/verify", JSON, body).await;
                let verified: MacsVerified = serde_json::from_slice(&reply.body).unwrap();
                let verdicts: Vec<_> =
                    verified.results.iter().map(|result| result.verdict.as_str()).collect();
                assert_eq!(verdicts, ["ok", "bad_tac"]);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let singles = house.fake.lock().singles.clone();
    assert_eq!(singles.iter().sum::<usize>(), 32 * 20 * 2);
    assert!(singles.len() < 32 * 20, "{} frames for {} requests", singles.len(), 32 * 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn single_checks_are_strict() {
    let house = House::new();
    let keyd = house.run();
    let good = item("D00A87B6", "20240131");
    let one = items(std::slice::from_ref(&good));
    let text: &[(&str, &str)] = &[("content-type", "text/plain")];
    let cases = [
        (JSON, one.replace("\"key\"", "\"more\":1,\"key\""), 400, "bad-json"),
        (JSON, one.replace("{\"key\"", "{\"key\":\"transit/purse/tac\",\"key\""), 400, "bad-json"),
        (JSON, one.replace("\"amount\":500", "\"amount\":500,\"amount\":5"), 400, "bad-json"),
        (JSON, one.replace("\"amount\":500", "\"amount\":\"500\""), 400, "bad-json"),
        (JSON, format!("{one}x"), 400, "bad-json"),
        (JSON, "[".repeat(100_000), 400, "bad-json"),
        (JSON, items(&[]), 400, "bad-json"),
        (JSON, items(&vec![good; 1025]), 413, "too-large"),
        (JSON, " ".repeat((1 << 20) + 1), 413, "too-large"),
        (text, one.clone(), 415, "media-type"),
        (&[], one.clone(), 415, "media-type"),
        (JSON, one.replace("transit/purse/tac", "transit/purse/load"), 404, "no-such-key"),
        (JSON, one.replace("transit/purse/tac", "no/such/key"), 404, "no-such-key"),
        (JSON, one.replace("transit/purse/tac", "NO"), 404, "no-such-key"),
    ];
    let mut same = Vec::new();
    for (headers, body, status, code) in cases {
        let mut sender = house.clearing(&keyd).await;
        let start: String = body.chars().take(90).collect();
        let reply = send(&mut sender, "POST", "/v1/macs/verify", headers, body).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{start}");
        if code == "no-such-key" {
            same.push(reply.body);
        }
    }
    assert!(same.windows(2).all(|pair| pair[0] == pair[1]), "not yours and does not exist look alike");
    assert!(house.fake.lock().singles.is_empty(), "nothing of it reached the module");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_relayed_and_answered_once_durable() {
    let house = House::new();
    let keyd = house.run();
    let mut sender = house.connect(&keyd, &house.leaf("officers/relay-1")).await;
    let cbor: &[(&str, &str)] = &[("content-type", "application/cbor")];
    let signed = |command: u8| {
        let command = Bytes(vec![command]);
        SignedCommand { command, approvals: Vec::new() }.to_cbor()
    };
    let reply = send(&mut sender, "POST", "/v1/commands", cbor, signed(7)).await;
    assert!(reply.status.is_success(), "{reply:?}");
    let body: wire::api::CommandBody = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body.kcv.as_deref(), Some("010203"));
    let index = body.index.unwrap();
    assert!(house.fake.lock().entries[usize::try_from(index).unwrap()].ends_with(b"command"));
    let reply = send(&mut sender, "POST", "/v1/commands", cbor, "not a command").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "bad-command"));
    let reply = send(&mut sender, "POST", "/v1/commands", JSON, signed(7)).await;
    assert_eq!(reply.status.as_u16(), 415);
}
