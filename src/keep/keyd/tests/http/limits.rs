//! Limits, from outside.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::cbor::{Bytes, Cbor as _};
use wire::command::SignedCommand;

use crate::house::{House, begin, send};

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_head_is_cut_off_and_an_idle_client_is_not() {
    let house = House::with_limits("header_timeout_ms = 600\nidle_timeout_ms = 3000");
    let keyd = house.run();
    let mut idle = house.clearing(&keyd).await;
    let mut slow = house.stream(&keyd, &house.leaf("clearing/engine-1")).await.unwrap();
    let started = Instant::now();
    for byte in b"GET /v1/sta" {
        if slow.write_all(&[*byte]).await.is_err() || slow.flush().await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(read_all(&mut slow).await, "");
    assert!(started.elapsed() < Duration::from_millis(2500));
    house.fake.wait_noted("http-header-timeout", 1);
    // Longer than the header timeout without a byte, then as good as ever; and slow heads do not add up.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for _ in 0..3 {
        assert!(send(&mut idle, "GET", "/v1/status", &[], "").await.status.is_success());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert!(idle.is_closed(), "idle for too long");
    assert_eq!(house.fake.noted("http-header-timeout"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_or_no_heads() {
    let house = House::new();
    let keyd = house.run();
    let many: String = (0..100).map(|number| format!("x-{number}: 1\r\n")).collect::<Vec<_>>().concat();
    let long = format!("x: {}\r\n", "y".repeat(1 << 20));
    for (what, text, status) in [
        ("100 headers", format!("GET /v1/status HTTP/1.1\r\nhost: a\r\n{many}\r\n"), "431"),
        ("a header of 1 MiB", format!("GET /v1/status HTTP/1.1\r\nhost: a\r\n{long}\r\n"), "431"),
        ("no HTTP", "NONSENSE\r\n\r\n".to_owned(), "400"),
        ("a space before the colon", "GET /v1/status HTTP/1.1\r\nhost : a\r\n\r\n".to_owned(), "400"),
        (
            "two lengths",
            "POST /v1/macs/verify HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"
                .to_owned(),
            "400",
        ),
    ] {
        let mut stream = house.stream(&keyd, &house.leaf("clearing/engine-1")).await.unwrap();
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.flush().await;
        let answer = read_all(&mut stream).await;
        let found = answer.split(' ').nth(1).unwrap_or_default();
        // A client that is still writing a megabyte may see the connection go before the answer.
        assert!(found == status || (what == "a header of 1 MiB" && answer.is_empty()), "{what}: {answer}");
    }
    house.fake.wait("refused heads", |inner| {
        let rows =
            inner.assertions.iter().filter(|row| row.code == "http-parse" || row.code == "http-too-large");
        rows.map(|row| row.count).sum::<u64>() == 5
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn length_and_chunks_at_once_are_one_request() {
    let house = House::new();
    let keyd = house.run();
    let mut stream = house.stream(&keyd, &house.leaf("clearing/engine-1")).await.unwrap();
    let hidden = "GET /v1/status HTTP/1.1\r\nhost: a\r\n\r\n";
    let text = format!(
        "POST /v1/macs/verify HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_so_many_connections_and_all_together_so_many() {
    let house = House::with_limits("connections = 5\nconnections_per_client = 2");
    let keyd = house.run();
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut sender = house.clearing(&keyd).await;
        assert!(send(&mut sender, "GET", "/v1/status", &[], "").await.status.is_success());
        held.push(sender);
    }
    let mut third = house.stream(&keyd, &house.leaf("clearing/engine-1")).await.unwrap();
    let _ = third.write_all(b"GET /v1/status HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(read_all(&mut third).await, "");
    house.fake.wait_noted("client-connections", 1);
    drop(third);
    for client in ["audit/a", "audit/b", "audit/c"] {
        let mut sender = house.connect(&keyd, &house.leaf(client)).await;
        assert!(send(&mut sender, "GET", "/v1/status", &[], "").await.status.is_success(), "another client");
        held.push(sender);
    }
    assert!(house.stream(&keyd, &house.leaf("audit/d")).await.is_err());
    house.fake.wait_noted("connections-full", 1);
    held.clear();
    house.fake.wait("room again", |_| true);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(house.get(&keyd, "audit/d", "/v1/status").await.status.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fifth_batch_waits_outside() {
    let house = House::new();
    let keyd = house.run();
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut sender = house.clearing(&keyd).await;
        let (mut parts, answer) =
            begin(&mut sender, "/v1/settlement/verify", &[("content-type", "text/plain")]);
        parts.send_data("x\n".into()).await.unwrap();
        let response = answer.await.unwrap().unwrap();
        held.push((sender, parts, response));
    }
    let mut sender = house.clearing(&keyd).await;
    let reply =
        send(&mut sender, "POST", "/v1/settlement/verify", &[("content-type", "text/plain")], "x\n").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "busy"));
    assert_eq!(reply.headers["retry-after"], "1");
    // All of the module's connections are in use now, and there is one for every other work.
    let mut relay = house.connect(&keyd, &house.leaf("officers/relay-1")).await;
    let command = SignedCommand { command: Bytes(vec![7]), approvals: Vec::new() }.to_cbor();
    let cbor = [("content-type", "application/cbor")];
    assert!(send(&mut relay, "POST", "/v1/commands", &cbor, command).await.status.is_success());
    for (_, parts, _) in held {
        parts.abort(std::io::ErrorKind::BrokenPipe.into());
    }
    house.fake.wait("cut batches", |inner| {
        inner.entries.iter().filter(|entry| entry.ends_with(b"batch cut off")).count() == 4
    });
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        let reply =
            send(&mut sender, "POST", "/v1/settlement/verify", &[("content-type", "text/plain")], "x\n")
                .await;
        if reply.status.is_success() {
            break;
        }
        assert!(Instant::now() < until, "the streams are not given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_in_the_log_even_if_nobody_waits_for_it() {
    let house = House::new();
    let keyd = house.run();
    let officer = house.leaf("officers/relay-1");
    for _ in 0..10 {
        let mut stream = house.stream(&keyd, &officer).await.unwrap();
        stream.write_all(b"GET /v1/keys HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        drop(stream);
    }
    let mut foreign = crate::pki::Ca::new("Rongcheng").client(crate::pki::CLEARING);
    foreign.chain.truncate(1);
    let _ = house.stream(&keyd, &foreign).await;
    house.fake.wait_noted("tls-unknown-issuer", 1);
    house.fake.wait_noted("policy-not-granted", 10);
    let rows = house.fake.lock().assertions.iter().filter(|row| row.code == "policy-not-granted").count();
    assert!(rows <= 3, "{rows} rows for ten of the same");
}
