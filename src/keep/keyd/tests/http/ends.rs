//! Certificates, lists and policies that change or end while clients are connected.

use std::fs;
use std::time::{Duration, Instant};

use rcgen::{SerialNumber, date_time_ymd};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;
use wire::api::{CertificateBody, StatusBody, Trailer};

use crate::house::{House, Keyd, Parts, begin, send, whole};
use crate::pki::{CLEARING, Leaf, client_params, in_hours, next_number};

const PATH: &str = "/v1/settlement/verify";
/// Lines of F1 in, verdicts and a trailer out.
const LINES: &[(&str, &str)] = &[("content-type", "text/plain"), ("accept", "application/octet-stream")];

/// service-protocol §8.
const REVOKED_WITHIN: Duration = Duration::from_mins(1);

/// A client of clearing with this serial number.
fn numbered(house: &House, serial: u64) -> Leaf {
    let mut params = client_params(CLEARING);
    params.serial_number = Some(SerialNumber::from(serial));
    house.pki.ca.leaf(params)
}

/// Puts a changed policy in place, and lets the officers approve it.
fn approve(house: &House, change: impl FnOnce(&str) -> String) {
    let path = house.dir.path().join("policy.toml");
    let before = fs::read_to_string(&path).unwrap();
    let after = change(&before);
    assert_ne!(before, after, "nothing was changed");
    fs::write(&path, &after).unwrap();
    house.fake.change(|inner| inner.policy = Sha256::digest(after).into());
    house.fake.wait_noted("policy-reloaded", 1);
}

/// A day that keeps coming, above the slowest rate that keyd takes; ends when nobody reads it any more.
async fn keep_sending(mut parts: Parts) {
    let lines = "x\n".repeat(4096);
    while parts.send_data(lines.clone().into()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_goes_on_while_leaf_list_and_policy_change() {
    let house = House::new();
    let keyd = house.run();
    let first = house.stream(&keyd, &house.leaf("clearing/engine-1")).await.unwrap();
    let shown = |stream: &tokio_rustls::client::TlsStream<_>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let mut idle = house.clearing(&keyd).await;
    let mut streaming = house.clearing(&keyd).await;
    let (mut parts, answer) = begin(&mut streaming, PATH, LINES);
    parts.send_data("x\n".repeat(1000).into()).await.unwrap();
    let response = answer.await.unwrap().unwrap();

    let renewed = house.pki.write_server();
    house.pki.write("crl.pem", &house.pki.ca.crl(&[1, 2, 3], false), 0o644);
    keyd.signal("HUP");
    house.fake.wait_noted("tls-reloaded", 1);
    approve(&house, |policy| policy.replace("[roles.gates]", "# 更改\n[roles.gates]"));

    parts.send_data("x\n".repeat(1000).into()).await.unwrap();
    drop(parts);
    let reply = whole(response).await;
    assert!(reply.whole, "the batch was cut off");
    let trailer = reply.body.iter().position(|byte| *byte == b'{').unwrap();
    match serde_json::from_slice(&reply.body[trailer..]).unwrap() {
        Trailer::Receipt(receipt) => assert_eq!(receipt.counts.malformed, 2000),
        Trailer::Problem(problem) => panic!("{problem:?}"),
    }
    let again = send(&mut idle, "GET", "/v1/status", &[], "").await;
    assert!(again.status.is_success(), "an idle connection goes on too");
    let second = house.stream(&keyd, &house.leaf("clearing/engine-1")).await.unwrap();
    assert_ne!(shown(&first), shown(&second));
    assert_eq!(shown(&second), renewed.chain[0].to_vec(), "who comes now sees the new leaf");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_new_file_changes_nothing_and_is_named() {
    let house = House::new();
    let keyd = house.run();
    let mut open = house.clearing(&keyd).await;
    let leaf = house.leaf("clearing/engine-1");
    let first = house.stream(&keyd, &leaf).await.unwrap();
    let shown = |stream: &tokio_rustls::client::TlsStream<_>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let other_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let files = [
        ("keyd.pem", "not a certificate", 0o644, "the certificate "),
        ("keyd.key", other_key.as_str(), 0o600, "the key "),
        ("crl.pem", "not a list", 0o644, "the client revocation list "),
    ];
    for (at, (name, text, mode, _)) in files.iter().enumerate() {
        let path = house.dir.path().join("pki").join(name);
        let good = fs::read_to_string(&path).unwrap();
        house.pki.write(name, text, *mode);
        keyd.signal("HUP");
        house.fake.wait_noted("tls-reload-failed", at as u64 + 1);
        assert!(send(&mut open, "GET", "/v1/status", &[], "").await.status.is_success(), "{name}");
        let now = house.stream(&keyd, &leaf).await.unwrap();
        assert_eq!(shown(&now), shown(&first), "{name}: who comes now sees what was in force");
        house.pki.write(name, &good, *mode);
    }
    let renewed = house.pki.write_server();
    keyd.signal("HUP");
    house.fake.wait_noted("tls-reloaded", 1);
    assert_eq!(shown(&house.stream(&keyd, &leaf).await.unwrap()), renewed.chain[0].to_vec());
    assert!(send(&mut open, "GET", "/v1/status", &[], "").await.status.is_success());
    keyd.signal("TERM");
    let (_, said) = keyd.ended();
    for (name, _, _, what) in files {
        let line = said.lines().find(|line| line.contains(what) && line.contains(name));
        assert!(line.is_some_and(|line| line.contains("stays in force")), "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_closes_idle_and_streaming_connections_within_a_minute_and_without_a_signal() {
    // An idle connection must outlive the wait, or its own timeout would close it.
    let house = House::with_limits("idle_timeout_ms = 300000");
    let keyd = house.run();
    let doomed = numbered(&house, 4712);
    let mut silent = house.stream(&keyd, &doomed).await.unwrap();
    let mut idle = house.connect(&keyd, &doomed).await;
    assert!(send(&mut idle, "GET", "/v1/status", &[], "").await.status.is_success());
    let mut streaming = house.connect(&keyd, &doomed).await;
    let (parts, answer) = begin(&mut streaming, PATH, LINES);
    let sending = tokio::spawn(keep_sending(parts));
    let response = answer.await.unwrap().unwrap();
    let mut good = house.clearing(&keyd).await;

    house.pki.write("crl.pem", &house.pki.ca.crl(&[4712], false), 0o644);
    let started = Instant::now();
    let ends = async {
        let read = silent.read(&mut [0; 1]).await;
        assert!(!matches!(read, Ok(1..)), "{read:?}");
        let reply = whole(response).await;
        assert!(!reply.whole && !reply.body.contains(&b'{'), "neither verdicts to the end nor a receipt");
        sending.await.unwrap();
        while idle.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let closed = tokio::time::timeout(REVOKED_WITHIN, ends).await;
    assert!(closed.is_ok(), "still open after {:?}", started.elapsed());
    house.fake.wait_noted("tls-revoked", 3);
    assert!(send(&mut good, "GET", "/v1/status", &[], "").await.status.is_success(), "the others stay");
    if let Ok(mut stream) = house.stream(&keyd, &doomed).await {
        assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(1..)));
    }
    house.fake.wait_noted("tls-revoked", 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_policy_gets_nothing_more_on_its_open_connection() {
    let house = House::new();
    let keyd = house.run();
    let mut clearing = house.clearing(&keyd).await;
    let mut auditor = house.connect(&keyd, &house.leaf("audit/desk-1")).await;
    for sender in [&mut clearing, &mut auditor] {
        assert!(send(sender, "GET", "/v1/status", &[], "").await.status.is_success());
    }
    approve(&house, |policy| {
        policy.replace(r#"clients = ["clearing/*"]"#, r#"clients = ["clearing/engine-2"]"#)
    });
    let refused = send(&mut clearing, "GET", "/v1/status", &[], "").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "not-permitted"));
    assert!(send(&mut auditor, "GET", "/v1/status", &[], "").await.status.is_success());
    house.fake.wait_noted("policy-no-role", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_goes_back_is_refused_and_the_newest_stays() {
    let house = House::new();
    let keyd = house.run();
    let (old, new) = (next_number(), next_number());
    let end = date_time_ymd(2090, 1, 1);
    house.pki.write("crl.pem", &house.pki.ca.list(new, &[4711], end), 0o644);
    keyd.signal("HUP");
    house.fake.wait_noted("tls-reloaded", 1);
    house.pki.write("crl.pem", &house.pki.ca.list(old, &[], end), 0o644);
    keyd.signal("HUP");
    house.fake.wait_noted("tls-reload-failed", 1);
    // Serial 4711 is what every good client of these tests has.
    if let Ok(mut stream) = house.stream(&keyd, &house.leaf("clearing/engine-1")).await {
        assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(1..)));
    }
    house.fake.wait_noted("tls-revoked", 1);
    keyd.signal("TERM");
    let (_, said) = keyd.ended();
    assert!(said.contains("older list"), "{said}");
}

/// A certificate of this client that is good since 2024, so that its end is in the last third of its life.
fn soon(house: &House, path: &str, hours: i64) -> Leaf {
    let mut params = client_params(&format!("spiffe://weihai.example/{path}"));
    params.not_after = in_hours(hours);
    house.pki.ca.leaf(params)
}

async fn ends(house: &House, keyd: &Keyd, leaf: &Leaf) -> Vec<CertificateBody> {
    let mut sender = house.connect(keyd, leaf).await;
    let reply = send(&mut sender, "GET", "/v1/status", &[], "").await;
    serde_json::from_slice::<StatusBody>(&reply.body).unwrap().certificates
}

fn names(rows: &[CertificateBody]) -> Vec<&str> {
    let clients = rows.iter().filter(|row| row.what == "client-certificate");
    clients.map(|row| row.name.rsplit_once("example/").unwrap().1).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_soon_is_said_in_status_and_log() {
    let house = House::new();
    house.pki.write("crl.pem", &house.pki.ca.list(next_number(), &[], in_hours(24 * 13 - 1)), 0o644);
    let keyd = house.run_with(&["--log", "json"]);
    house.fake.wait_noted("client-crl-expires-30", 1);
    // Each connection is closed when its answer is there: ends are known of clients that have left, too.
    let line = soon(&house, "perso/line-1", 24 * 6 - 1);
    let of_line = ends(&house, &keyd, &line).await;
    let of_health = ends(&house, &keyd, &soon(&house, "health/perso-1", 12)).await;
    let of_audit = ends(&house, &keyd, &house.leaf("audit/desk-1")).await;

    let row = |what: &str| of_line.iter().find(|row| row.what == what).unwrap();
    let brief = |what: &str| (row(what).name.as_str(), row(what).days_left, row(what).warning.as_deref());
    let own = "spiffe://weihai.example/perso/line-1";
    assert_eq!(brief("client-crl"), ("CN=Weihai clients", 12, Some("client-crl-expires-30")));
    assert_eq!(brief("client-certificate"), (own, 5, Some("client-certificate-expires-7")));
    assert_eq!((row("client-ca").warning.as_deref(), row("client-ca").days_left > 365), (None, true));
    assert_eq!(row("server-certificate").name, "localhost");
    assert_eq!(of_line.len(), 4);
    assert_eq!(names(&of_health), ["health/perso-1"], "nobody sees who else is there");
    assert_eq!(
        names(&of_audit),
        ["audit/desk-1", "health/perso-1", "perso/line-1"],
        "but who reads it in the log"
    );

    let codes = ["client-crl-expires-30", "client-certificate-expires-7", "client-certificate-expires-1"];
    keyd.signal("HUP");
    for code in codes {
        house.fake.wait_noted(code, 1);
    }
    for reload in 2..4 {
        let _ = ends(&house, &keyd, &line).await;
        keyd.signal("HUP");
        house.fake.wait_noted("keyd-reload", reload);
    }
    for code in codes {
        assert_eq!(house.fake.noted(code), 1, "{code}: once, however often it connects");
    }
    {
        let inner = house.fake.lock();
        let noted = inner.assertions.iter().find(|row| row.code == "client-certificate-expires-7").unwrap();
        assert_eq!(noted.client.as_deref(), Some(own));
        assert!(noted.certificate.is_some());
    }
    keyd.signal("TERM");
    let (_, said) = keyd.ended();
    let warned = said.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let warned: Vec<_> = warned.filter(|line| line["level"] == "WARN").collect();
    for code in codes {
        assert_eq!(warned.iter().filter(|line| line["fields"]["code"] == code).count(), 1, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_renewed_or_revoked_is_not_warned_about() {
    let house = House::new();
    let keyd = house.run();
    let mut revoked = client_params("spiffe://weihai.example/perso/line-1");
    (revoked.not_after, revoked.serial_number) = (in_hours(24 * 6), Some(SerialNumber::from(4713)));
    let _ = ends(&house, &keyd, &house.pki.ca.leaf(revoked)).await;
    let _ = ends(&house, &keyd, &soon(&house, "health/perso-1", 24 * 6)).await;
    let _ = ends(&house, &keyd, &soon(&house, "health/perso-1", 24 * 300)).await;
    let _ = ends(&house, &keyd, &soon(&house, "cards/desk-1", 24 * 6)).await;
    house.pki.write("crl.pem", &house.pki.ca.crl(&[4713], false), 0o644);
    keyd.signal("HUP");
    house.fake.wait_noted("tls-reloaded", 1);
    house.fake.wait_noted("client-certificate-expires-7", 1);
    let rows = ends(&house, &keyd, &house.leaf("audit/desk-1")).await;
    assert_eq!(names(&rows), ["audit/desk-1", "cards/desk-1", "health/perso-1"]);
    assert!(rows.iter().all(|row| row.name.ends_with("cards/desk-1") == row.warning.is_some()), "{rows:?}");
    assert_eq!(house.fake.noted("client-certificate-expires-7"), 1, "of the one that nobody renewed");
}

#[tokio::test(flavor = "multi_thread")]
async fn keyds_own_leaf_of_a_day_is_warned_about_in_its_last_hours() {
    let house = House::new();
    let leaf = |begun: i64, left: i64| house.pki.write_server_for(in_hours(-begun), in_hours(left));
    leaf(1, 23);
    let keyd = house.run();
    let row = |rows: Vec<CertificateBody>| rows.into_iter().find(|row| row.what == "server-certificate");
    let fresh = row(ends(&house, &keyd, &house.leaf("audit/desk-1")).await).unwrap();
    assert_eq!((fresh.days_left, fresh.warning), (0, None), "its first hour");
    leaf(20, 4);
    keyd.signal("HUP");
    house.fake.wait_noted("server-certificate-expires-1", 1);
    leaf(0, 24 * 90);
    keyd.signal("HUP");
    house.fake.wait_noted("tls-reloaded", 2);
    let renewed = row(ends(&house, &keyd, &house.leaf("audit/desk-1")).await).unwrap();
    assert_eq!(renewed.warning, None);
    assert_eq!(house.fake.noted("server-certificate-expires-1"), 1);
}
