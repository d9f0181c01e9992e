//! The bulk path, from the client's side.

use std::time::Duration;

use bytes::Bytes;
use wire::api::{Receipt, Trailer};
use wire::batch::{BatchHeader, Group, Profile, Record};
use wire::key::{KeyVersion, Lineage};

use crate::fake;
use crate::house::{House, Reply, begin, send, whole};

const PATH: &str = "/v1/settlement/verify";
const BINARY: &[(&str, &str)] = &[("content-type", "application/octet-stream")];
const TEXT: &[(&str, &str)] = &[("content-type", "text/plain")];
const CSV_HTML: &[(&str, &str)] = &[("content-type", "text/plain"), ("accept", "text/html")];

/// Headers, path, body; status and code.
type Case = (&'static [(&'static str, &'static str)], String, Vec<u8>, u16, &'static str);

const LINE: &str = "0000000000010000310100001234567800031010000123456783101000012345678001000002710000001F40000251C090000000111223344556611223344556600000029100000012320240131093015D00A87B60101000612345000123450009999999900000007LINE-42             000008150000009920240131060000010202401312200001A1B2C3D4                              ";

fn header(lineage: &str) -> Vec<u8> {
    let group = |issuer| Group { version: KeyVersion(1), issuer: [issuer; 8] };
    BatchHeader {
        profile: Profile::PurchaseTac,
        lineage: Lineage::parse(lineage).unwrap(),
        groups: vec![group(1), group(2)],
    }
    .to_bytes()
}

/// Every seventh TAC is wrong, every eleventh record is malformed.
fn records(count: u32) -> (Vec<u8>, Vec<u8>) {
    let (mut records, mut verdicts) = (Vec::new(), Vec::new());
    for number in 0..count {
        let (wrong, malformed) = (number % 7 == 0, number % 11 == 0);
        let record = Record {
            card: u64::from(number).to_be_bytes(),
            data: [5; 24],
            tac: if wrong { [0; 4] } else { [9; 4] },
            group: 1,
        };
        let malformed_record = Record::malformed(b"x", Profile::PurchaseTac);
        records.extend(if malformed { malformed_record } else { record.to_bytes(Profile::PurchaseTac) });
        verdicts.push(if malformed { 3 } else { u8::from(wrong) });
    }
    (records, verdicts)
}

fn split(reply: &Reply) -> (&[u8], Trailer) {
    let start = reply.body.iter().position(|byte| *byte == b'{').unwrap();
    assert_eq!(reply.body.last(), Some(&b'\n'));
    (&reply.body[..start], serde_json::from_slice(&reply.body[start..]).unwrap())
}

fn receipt(reply: &Reply) -> Receipt {
    match split(reply).1 {
        Trailer::Receipt(receipt) => *receipt,
        Trailer::Problem(problem) => panic!("{problem:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_parts_of_any_size_ends_with_a_receipt() {
    let house = House::new();
    let keyd = house.run();
    let mut sender = house.clearing(&keyd).await;
    let (records, verdicts) = records(30_000);
    let body: Bytes = [header("transit/purse/tac"), records].concat().into();
    for size in [7, 1000, 16_384, 1 << 20, body.len()] {
        let shown = if size == 7 { body.slice(..4144) } else { body.clone() };
        let expected = &verdicts[..(shown.len() - 144) / 40];
        sender.ready().await.unwrap();
        let (mut parts, answer) = begin(&mut sender, PATH, BINARY);
        let part_sender = tokio::spawn(async move {
            for at in (0..shown.len()).step_by(size) {
                parts.send_data(shown.slice(at..shown.len().min(at + size))).await.unwrap();
            }
        });
        let reply = whole(answer.await.unwrap().unwrap()).await;
        part_sender.await.unwrap();
        assert!(reply.whole && reply.status.is_success());
        assert_eq!(split(&reply).0, expected, "parts of {size}");
        let receipt = receipt(&reply);
        assert_eq!(receipt.records, expected.len() as u64);
        assert_eq!(reply.headers["citykeep-batch"], receipt.batch.as_str());
        let proof = translog::proof::TlogProof::parse(&receipt.proof).unwrap();
        let entry = house.fake.lock().entries[usize::try_from(receipt.indices[0]).unwrap()].clone();
        proof.verify(&fake::vkey(), &entry).unwrap();
        let path = format!("/v1/receipts/{}", receipt.batch);
        let again = send(&mut sender, "GET", &path, &[], "").await;
        assert_eq!(serde_json::from_slice::<Receipt>(&again.body).unwrap(), receipt);
        let other = house.get(&keyd, "clearing/engine-2", &path).await;
        assert_eq!((other.status.as_u16(), other.code().as_str()), (404, "not-found"));
    }
    assert!(house.fake.lock().frames.iter().all(|count| *count <= 8192));
    assert_eq!(house.mode("keyd/receipts"), 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_as_text_gives_rows() {
    let house = House::new();
    let keyd = house.run();
    let mut sender = house.clearing(&keyd).await;
    let wrong = LINE.replace("D00A87B6", "00000000");
    let long = "x".repeat(70_000);
    let day = [LINE, &wrong, "", &long, LINE].join("\n");
    let reply = send(&mut sender, "POST", PATH, TEXT, day.clone()).await;
    assert_eq!(reply.headers["content-type"], "text/csv");
    let text = String::from_utf8(reply.body).unwrap();
    assert_eq!(text, "line,verdict\n1,ok\n2,bad_tac\n3,malformed\n4,malformed\n5,ok\n");
    let path = format!("/v1/receipts/{}", reply.headers["citykeep-batch"].to_str().unwrap());
    let kept = send(&mut sender, "GET", &path, &[], "").await;
    assert_eq!(serde_json::from_slice::<Receipt>(&kept.body).unwrap().records, 5);
    let binary = [TEXT, &[("accept", "application/octet-stream")]].concat();
    let query = format!("{PATH}?key=transit%2Fpurse%2Ftac");
    let reply = send(&mut sender, "POST", &query, &binary, day).await;
    assert_eq!(split(&reply).0, [0, 1, 3, 3, 0]);
    for empty in ["", "\n"] {
        let reply = send(&mut sender, "POST", PATH, TEXT, empty).await;
        let rows = String::from_utf8(reply.body).unwrap().lines().count();
        assert_eq!((rows, reply.whole), (1 + empty.len(), true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_before_the_first_verdict_is_a_plain_problem() {
    let house = House::new();
    let keyd = house.run();
    let good = header("transit/purse/tac");
    let mut twice = good.clone();
    twice.copy_within(112..128, 128);
    let odd = [good.clone(), vec![0; 41]].concat();
    let long_key = "k".repeat(3000);
    let form: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];
    let cases: Vec<Case> = vec![
        (BINARY, PATH.into(), odd, 400, "bad-batch"),
        (BINARY, PATH.into(), good[..100].to_vec(), 400, "bad-batch"),
        (BINARY, PATH.into(), b"CKB2garbage, more than a header".repeat(9), 400, "bad-batch"),
        (BINARY, PATH.into(), twice, 400, "bad-batch"),
        (BINARY, PATH.into(), Vec::new(), 400, "bad-batch"),
        (BINARY, PATH.into(), header("transit/purse/load"), 404, "no-such-key"),
        (BINARY, PATH.into(), header("campus/purse/tac"), 404, "no-such-key"),
        (BINARY, format!("{PATH}?key=transit/purse/tac"), good, 400, "bad-query"),
        (TEXT, format!("{PATH}?key=campus/purse/tac"), Vec::new(), 404, "no-such-key"),
        (TEXT, format!("{PATH}?key={long_key}"), Vec::new(), 404, "no-such-key"),
        (TEXT, format!("{PATH}?k=1"), Vec::new(), 400, "bad-query"),
        (CSV_HTML, PATH.into(), Vec::new(), 406, "not-acceptable"),
        (form, PATH.into(), Vec::new(), 415, "media-type"),
    ];
    for (headers, path, body, status, code) in cases {
        let mut sender = house.clearing(&keyd).await;
        let reply = send(&mut sender, "POST", &path, headers, body).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{path} {headers:?}");
    }
    assert!(house.fake.lock().frames.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_after_the_first_verdict_cuts_the_answer_off() {
    let house = House::with_limits("body_timeout_ms = 800");
    let keyd = house.run();
    let (records, _) = records(9000);
    for (headers, ends, code) in
        [(BINARY, true, "bad-batch"), (BINARY, false, "body-timeout"), (TEXT, false, "body-timeout")]
    {
        let mut sender = house.clearing(&keyd).await;
        let (mut parts, answer) = begin(&mut sender, PATH, headers);
        let start = if headers == BINARY {
            [header("transit/purse/tac"), records.clone(), vec![0]].concat()
        } else {
            format!("{LINE}\n").repeat(9000).into_bytes()
        };
        parts.send_data(start.into()).await.unwrap();
        let response = answer.await.unwrap().unwrap();
        assert!(response.status().is_success());
        let kept = (!ends).then_some(parts);
        let reply = whole(response).await;
        drop(kept);
        assert!(!reply.whole, "{code}: the body must not look whole");
        if headers == BINARY {
            match split(&reply).1 {
                Trailer::Problem(problem) => assert_eq!(problem.code, code),
                Trailer::Receipt(receipt) => panic!("{receipt:?}"),
            }
        } else {
            assert!(reply.body.ends_with(format!("error,{code}\n").as_bytes()));
        }
    }
    house.fake.wait_noted("bad-batch", 1);
    house.fake.wait_noted("body-timeout", 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_gets_no_receipt_and_the_module_hears_of_it() {
    let house = House::new();
    let keyd = house.run();
    let (records, _) = records(9000);
    let mut sender = house.clearing(&keyd).await;
    let (mut parts, answer) = begin(&mut sender, PATH, BINARY);
    parts.send_data([header("transit/purse/tac"), records].concat().into()).await.unwrap();
    drop(answer.await.unwrap().unwrap());
    parts.abort(std::io::ErrorKind::BrokenPipe.into());
    house
        .fake
        .wait("the cut batch", |inner| inner.entries.iter().any(|entry| entry.ends_with(b"batch cut off")));
    let kept = std::fs::read_dir(house.dir.path().join("keyd/receipts")).unwrap().count();
    assert_eq!(kept, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_come_while_records_still_go() {
    let house = House::new();
    let keyd = house.run();
    let (records, verdicts) = records(10);
    let mut sender = house.clearing(&keyd).await;
    let (mut parts, answer) = begin(&mut sender, PATH, BINARY);
    parts.send_data([header("transit/purse/tac"), records.clone()].concat().into()).await.unwrap();
    let mut response = tokio::time::timeout(Duration::from_secs(2), answer).await.unwrap().unwrap().unwrap();
    let first = http_body_util::BodyExt::frame(response.body_mut()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), verdicts[..10].to_vec());
    parts.send_data(records.into()).await.unwrap();
    drop(parts);
    let reply = whole(response).await;
    assert_eq!(receipt(&reply).records, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_the_module_down() {
    let house = House::new();
    let keyd = house.run();
    let mut sender = house.clearing(&keyd).await;
    let (mut parts, answer) = begin(&mut sender, PATH, TEXT);
    let day: Bytes = format!("{LINE}\n").repeat(400).into();
    parts.send_data(day.clone()).await.unwrap();
    let response = answer.await.unwrap().unwrap();
    // Nobody reads; the sending side must come to a stand long before the day is over.
    let sent = tokio::spawn(async move {
        let mut sent = 1;
        while sent < 20_000 {
            match tokio::time::timeout(Duration::from_secs(2), parts.send_data(day.clone())).await {
                Ok(Ok(())) => sent += 1,
                _ => break,
            }
        }
        sent
    });
    let sent = sent.await.unwrap();
    assert!(sent < 20_000, "all of it was taken");
    drop(response);
}
