//! Start, stop, loss, recovery.

use std::fs;
use std::time::{Duration, Instant};

use keyd::assertions::{Recorder, Who};
use keyd::fatal::Fatal;
use keyd::module::{Control, Module};
use sha2::Digest as _;
use tokio::io::AsyncReadExt;
use wire::cbor::Bytes;
use wire::frame::{ModuleState, StoredRecord};

use crate::fake::Fake;
use crate::house::{House, Keyd, begin, send};
use crate::pki::{Ca, REVOKED_SERIAL};

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_finishes_what_is_under_way() {
    let house = House::new();
    let keyd = house.run();
    house.fake.wait_noted("keyd-start", 1);
    let mut sender = house.clearing(&keyd).await;
    let (mut parts, answer) = begin(&mut sender, "/v1/settlement/verify", &[("content-type", "text/plain")]);
    parts.send_data("x\n".into()).await.unwrap();
    let response = answer.await.unwrap().unwrap();
    let _ = house.get(&keyd, "officers/relay-1", "/v1/keys").await;
    keyd.signal("TERM");
    tokio::time::sleep(Duration::from_millis(300)).await;
    parts.send_data("y\n".into()).await.unwrap();
    drop(parts);
    let reply = crate::house::whole(response).await;
    assert!(reply.whole, "the batch under way was let finish");
    let (code, said) = keyd.ended();
    assert_eq!(code, Some(0), "{said}");
    house.fake.wait_noted("keyd-stop", 1);
    house.fake.wait_noted("policy-not-granted", 1);
    let inner = house.fake.lock();
    assert_eq!(inner.durable, inner.entries.len() as u64, "the last entry is durable");
    let checkpoint = fs::read_to_string(house.dir.path().join("log/checkpoint")).unwrap();
    assert_eq!(checkpoint.lines().nth(1), Some(inner.entries.len().to_string().as_str()), "and published");
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_that_are_being_handed_over_survive_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("hsm.sock");
    let fake = Fake::start(&socket, [0; 32], [0; 32]);
    fake.change(|inner| inner.slow = Duration::from_millis(200));
    let link = Module::new(&socket).connect().await.unwrap();
    let control = Control::new(link, Fatal::default());
    let recorder = Recorder::default();
    for number in 0_u64..600 {
        let who = Who { client: None, certificate: Some(number.to_be_bytes()) };
        let _ = recorder.deny("tls-revoked", who);
    }
    let (stop, told) = tokio::sync::oneshot::channel();
    let notes = tokio::spawn(recorder.clone().run(control.clone(), told));
    fake.wait("the first frame", |inner| !inner.assertions.is_empty());
    assert!(fake.noted("tls-revoked") < 600, "the rest is under way");
    drop(stop);
    notes.await.unwrap();
    recorder.operation("keyd-stop");
    assert!(recorder.flush(&control).await.unwrap().is_some());
    assert_eq!((fake.noted("tls-revoked"), fake.noted("keyd-stop")), (600, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_bundle_waits_for_its_approval() {
    let house = House::new();
    let keyd = house.run();
    let other = Ca::new("Rongcheng clients");
    let lists = [&house.pki.ca, &other].map(|ca| ca.crl(&[], false)).concat();
    house.pki.write("crl.pem", &lists, 0o644);
    house.pki.write("ca.pem", &other.certificate.pem(), 0o644);
    keyd.signal("HUP");
    house.fake.wait_noted("approval-gone", 1);
    let reply = house.get(&keyd, "clearing/engine-1", "/v1/status").await;
    assert_eq!(reply.code(), "not-approved", "who was let in before still is");
    let bundle = fs::read(house.pki.dir.join("ca.pem")).unwrap();
    house.fake.change(|inner| inner.ca = sha2::Sha256::digest(bundle).into());
    house.fake.wait_noted("approval-given", 1);
    let old = house.pki.ca.client(crate::pki::CLEARING);
    if let Ok(mut stream) = house.stream(&keyd, &old).await {
        let read = stream.read(&mut [0; 1]).await;
        assert!(!matches!(read, Ok(1)));
    }
    house.fake.wait_noted("tls-unknown-issuer", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_module_ends_keyd_and_open_streams_have_no_receipt() {
    let house = House::new();
    let keyd = house.run();
    let mut sender = house.clearing(&keyd).await;
    let (mut parts, answer) = begin(&mut sender, "/v1/settlement/verify", &[("content-type", "text/plain")]);
    parts.send_data("x\n".into()).await.unwrap();
    let response = answer.await.unwrap().unwrap();
    house.fake.die();
    let reply = crate::house::whole(response).await;
    assert!(!reply.whole);
    let (code, said) = keyd.ended();
    assert_eq!(code, Some(1));
    assert!(said.contains("the module is gone; start it, unseal, start keyd"), "{said}");
}

#[test]
fn a_second_keyd_is_refused() {
    let house = House::new();
    let first = house.run();
    let mut second = house.spawn();
    let (status, said) = Keyd::finish(&mut second);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("another keyd runs on"), "{said}");
    drop(first);
    let third = house.run();
    drop(third);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_replays_log_and_records() {
    let house = House::new();
    let keyd = house.run();
    house.fake.change(|inner| {
        inner
            .records
            .push(StoredRecord { id: "transit/purse/tac@01".to_owned(), bytes: Bytes(b"sealed".to_vec()) });
    });
    for _ in 0..3 {
        let _ = house.get(&keyd, "audit/desk-1", "/v1/nothing").await;
    }
    house.fake.wait_noted("not-found", 3);
    keyd.signal("INT");
    assert_eq!(keyd.ended().0, Some(0));
    for (name, mode) in
        [("keyd", 0o700), ("keyd/store", 0o700), ("keyd/records.snapshot", 0o600), ("keyd/lock", 0o600)]
    {
        assert_eq!(house.mode(name), mode, "{name}");
    }
    let before = house.fake.lock().entries.clone();
    // Another boot of the module, which knows nothing.
    fs::remove_file(house.dir.path().join("hsm.sock")).unwrap();
    let (policy, ca) = house.fake.change(|inner| (inner.policy, inner.ca));
    let fake = Fake::start(&house.dir.path().join("hsm.sock"), policy, ca);
    fake.change(|inner| inner.state = ModuleState::Sealed);
    let mut child = house.spawn();
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it waits for the shares");
    fake.change(|inner| {
        inner.state = ModuleState::Recovering;
        inner.floor = true;
    });
    fake.wait("operational", |inner| inner.state == ModuleState::Operational);
    fake.wait("boot entry durable", |inner| inner.durable > before.len() as u64);
    let inner = fake.lock();
    assert_eq!(inner.replayed, before);
    assert_eq!(inner.restored, [b"sealed".to_vec()]);
    drop(inner);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_refused_recovery_waits_for_another_floor() {
    let house = House::new();
    let keyd = house.run();
    house.fake.change(|inner| {
        inner
            .records
            .push(StoredRecord { id: "transit/purse/tac@01".to_owned(), bytes: Bytes(b"old".to_vec()) });
    });
    house.fake.wait_noted("keyd-start", 1);
    house.fake.wait("durable", |inner| inner.durable > 0);
    keyd.signal("TERM");
    keyd.ended();
    house.fake.change(|inner| {
        inner.state = ModuleState::Recovering;
        inner.floor = true;
    });
    let mut child = house.spawn();
    house.fake.wait("the refusal", |inner| !inner.floor);
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it keeps running for the officers");
    child.kill().unwrap();
    let (_, said) = Keyd::finish(&mut child);
    assert!(said.contains("record-old") && said.contains("Ask the officers"), "{said}");
}

#[test]
fn nothing_is_served_under_an_unapproved_policy() {
    let house = House::new();
    let approved = house.fake.change(|inner| std::mem::take(&mut inner.policy));
    let child = house.spawn();
    std::thread::sleep(Duration::from_millis(800));
    let mut child = child;
    assert!(child.try_wait().unwrap().is_none());
    house.fake.change(|inner| inner.policy = approved);
    house.fake.wait_noted("keyd-start", 1);
    child.kill().unwrap();
    let (_, said) = Keyd::finish(&mut child);
    assert!(said.contains("officers have approved another policy file"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_goes_away_stops_the_service() {
    let house = House::new();
    let keyd = house.run();
    let approved = house.fake.change(|inner| std::mem::take(&mut inner.policy));
    house.fake.wait_noted("approval-gone", 1);
    let reply = house.get(&keyd, "clearing/engine-1", "/v1/status").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "not-approved"));
    house.fake.change(|inner| inner.policy = approved);
    house.fake.wait_noted("approval-given", 1);
    assert!(house.get(&keyd, "clearing/engine-1", "/v1/status").await.status.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_open_connections() {
    let house = House::new();
    let keyd = house.run();
    let mut bad = crate::pki::client_params(crate::pki::CLEARING);
    bad.serial_number = Some(rcgen::SerialNumber::from(REVOKED_SERIAL + 1));
    let bad = house.pki.ca.leaf(bad);
    let mut doomed = house.stream(&keyd, &bad).await.unwrap();
    let mut good = house.clearing(&keyd).await;
    assert!(send(&mut good, "GET", "/v1/status", &[], "").await.status.is_success());
    let list = house.pki.ca.crl(&[REVOKED_SERIAL, REVOKED_SERIAL + 1], false);
    house.pki.write("crl.pem", &list, 0o644);
    let started = Instant::now();
    keyd.signal("HUP");
    let closed = tokio::time::timeout(Duration::from_secs(5), doomed.read(&mut [0; 1])).await;
    assert!(closed.is_ok(), "still open after {:?}", started.elapsed());
    house.fake.wait_noted("tls-revoked", 1);
    assert!(send(&mut good, "GET", "/v1/status", &[], "").await.status.is_success());
    assert!(
        house.stream(&keyd, &bad).await.is_err() || {
            house.fake.wait_noted("tls-revoked", 2);
            true
        }
    );
}

#[test]
fn check_says_what_is_wrong() {
    let house = House::new();
    let check = || {
        let config = house.dir.path().join("keyd.toml");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_citykeep-keyd"))
            .args(["check", "--config"])
            .arg(config)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(check().0);
    house.pki.write("crl.pem", "", 0o644);
    let (good, said) = check();
    assert!(!good && said.contains("holds no list"), "{said}");
}

#[test]
fn in_json_the_last_sentence_is_json_too() {
    let house = House::new();
    let keyd = house.run_with(&["--log", "json"]);
    house.fake.die();
    let (code, said) = keyd.ended();
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let last = lines.last().unwrap();
    assert_eq!((code, last["level"].as_str()), (Some(1), Some("ERROR")), "{said}");
    assert!(last["fields"]["message"].as_str().unwrap().contains("the module is gone"), "{said}");
}
