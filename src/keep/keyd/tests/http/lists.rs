//! Blacklists: signed in order, kept, read; and walls that nobody learns of who has no grant.

use sha2::{Digest as _, Sha256};
use wire::api::{ListAnswer, Problem};
use wire::error::{Refusal, Refused};
use wire::licence::{CardSerial, serial_of};
use wire::list::{BODY_MAX, List, ListKind, Single};
use wire::purse::to_hex;

use crate::house::{House, Keyd, Reply, begin, send, whole};

const BYTES: &[(&str, &str)] = &[("content-type", "application/octet-stream")];
const PATH: &str = "/v1/blacklists/transit";

fn serial(number: u128) -> CardSerial {
    serial_of(number).unwrap()
}

fn full(version: u32, cards: std::ops::Range<u128>) -> List {
    List {
        version,
        kind: ListKind::Full,
        base: 0,
        valid_from: [0x20, 0x26, 0x01, 0x31],
        valid_to: [0x20, 0x26, 0x12, 0x31],
        singles: cards.map(|card| Single { serial: serial(card), reason: 1, level: 2 }).collect(),
        ranges: vec![],
        removals: vec![],
    }
}

fn delta(version: u32, cards: std::ops::Range<u128>, removals: &[u128]) -> List {
    let removals = removals.iter().map(|card| serial(*card)).collect();
    List { kind: ListKind::Delta, base: version - 1, removals, ..full(version, cards) }
}

async fn sign(house: &House, keyd: &Keyd, client: &str, path: &str, body: Vec<u8>) -> Reply {
    let mut sender = house.connect(keyd, &house.leaf(client)).await;
    send(&mut sender, "POST", path, BYTES, body).await
}

async fn signed(house: &House, keyd: &Keyd, list: &List) -> ListAnswer {
    let reply = sign(house, keyd, "cards/desk-1", PATH, list.to_bytes()).await;
    assert!(reply.status.is_success(), "{}", String::from_utf8_lossy(&reply.body));
    serde_json::from_slice(&reply.body).unwrap()
}

fn kept(house: &House, name: &str) -> Vec<u8> {
    std::fs::read(house.dir.path().join("keyd/blacklists").join(name)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_epoch_after_the_other_is_signed_kept_and_read() {
    let house = House::new();
    let keyd = house.run();
    let reply = house.get(&keyd, "gates/depot-1", PATH).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "no-such-list"), "none was signed yet");
    // Longer than a frame, so that base and list both come in parts.
    let first = full(1, 0..200_000);
    let second = delta(2, 300_000..300_002, &[5]);
    let third = full(3, 0..100_000);
    let mut in_force: Option<List> = None;
    for list in [first, second.clone(), third] {
        let answer = signed(&house, &keyd, &list).await;
        assert_eq!((answer.epoch, answer.kind.clone()), (u64::from(list.version), list.kind.to_string()));
        let next = List::follow(in_force.as_ref(), &list).unwrap();
        assert!(kept(&house, "transit.base") == next.to_bytes(), "the list in force");
        in_force = Some(next);
        let file = house.get(&keyd, "gates/depot-1", PATH).await;
        assert_eq!(file.headers["citykeep-epoch"].to_str().unwrap(), answer.epoch.to_string());
        assert_eq!(to_hex(&Sha256::digest(&file.body)), answer.digest);
        assert!(file.body.starts_with(&list.to_bytes()));
        for (place, name) in ["p256", "sm2"].into_iter().enumerate() {
            let der = house.get(&keyd, "gates/depot-1", &format!("{PATH}?signature={name}")).await;
            assert_eq!(to_hex(&der.body), answer.signatures[place].signature);
            assert_eq!(der.headers["citykeep-key"], answer.signatures[place].key.as_str());
            assert_eq!(der.headers["citykeep-epoch"], file.headers["citykeep-epoch"]);
        }
        let again = signed(&house, &keyd, &list).await;
        assert_eq!(ListAnswer { index: answer.index, ..again }, answer);
    }
    let reply = sign(&house, &keyd, "cards/desk-1", PATH, second.to_bytes()).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (409, "list-epoch"));
    let problem: Problem = serde_json::from_slice(&reply.body).unwrap();
    assert!(problem.detail.starts_with("the next epoch of this list is 4, not 2. "), "{}", problem.detail);
    for (query, status, code) in
        [("signature=sm3", 400, "bad-query"), ("signature=3des", 400, "bad-query"), ("x=1", 400, "bad-query")]
    {
        let reply = house.get(&keyd, "gates/depot-1", &format!("{PATH}?{query}")).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{query}");
    }
    assert_eq!(house.mode("keyd/blacklists"), 0o700);
    assert_eq!(house.mode("keyd/blacklists/transit.signed"), 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_that_is_not_yours_looks_like_one_that_does_not_exist() {
    let house = House::with_policy(|policy| {
        format!(
            "{policy}\n[roles.school]\nclients = ['campus/*']\n[[roles.school.grants]]\noperations = ['blacklists-read', 'blacklists-sign']\nlineages = ['campus/blacklist/*']\n"
        )
    });
    let keyd = house.run();
    let list = full(1, 0..3).to_bytes();
    let reply = sign(&house, &keyd, "campus/desk-1", "/v1/blacklists/campus", list.clone()).await;
    assert!(reply.status.is_success());
    assert!(house.get(&keyd, "campus/desk-1", "/v1/blacklists/campus").await.status.is_success());
    let mut same = Vec::new();
    // Not yours, no such wall, no wall at all, yours without a list: for reading; and the first three for signing.
    for wall in
        ["campus", "health", "nowhere", "..%2fcampus", "../campus", "campus.signed", "", "a/b", "transit"]
    {
        let path = format!("/v1/blacklists/{wall}");
        let reply = house.get(&keyd, "cards/desk-1", &path).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "no-such-list"), "{wall}");
        same.push((reply.headers["content-length"].clone(), reply.body));
        if wall != "transit" {
            for body in [list.clone(), Vec::new()] {
                let reply = sign(&house, &keyd, "cards/desk-1", &path, body).await;
                assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "no-such-list"), "{wall}");
                same.push((reply.headers["content-length"].clone(), reply.body));
            }
        }
    }
    assert!(same.windows(2).all(|pair| pair[0] == pair[1]), "not yours and does not exist look alike");
    // While another wall's list is being uploaded, too.
    let mut campus = house.connect(&keyd, &house.leaf("campus/desk-1")).await;
    let (mut parts, answer) = begin(&mut campus, "/v1/blacklists/campus", BYTES);
    parts.send_data(list.clone().into()).await.unwrap();
    let reply = sign(&house, &keyd, "cards/desk-1", "/v1/blacklists/campus", list.clone()).await;
    assert_eq!(reply.body, same[0].1);
    assert!(sign(&house, &keyd, "cards/desk-1", PATH, list.clone()).await.status.is_success());
    let reply = sign(&house, &keyd, "campus/desk-1", "/v1/blacklists/campus", list).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "busy"), "one list of a wall at a time");
    drop(parts);
    assert!(whole(answer.await.unwrap().unwrap()).await.status.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_sign_and_what_is_no_list() {
    let house = House::new();
    let keyd = house.run();
    let list = full(1, 0..3).to_bytes();
    for client in ["clearing/engine-1", "perso/line-1", "terminals/load-1", "health/perso-1", "gates/depot-1"]
    {
        let reply = sign(&house, &keyd, client, PATH, list.clone()).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (403, "not-permitted"), "{client}");
    }
    assert!(house.fake.lock().calls.order.is_empty());
    let text: &[(&str, &str)] = &[("content-type", "text/plain")];
    let mut sender = house.connect(&keyd, &house.leaf("cards/desk-1")).await;
    let reply = send(&mut sender, "POST", PATH, text, list.clone()).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (415, "media-type"));
    let reply = send(&mut sender, "DELETE", PATH, &[], "").await;
    assert_eq!((reply.status.as_u16(), reply.headers["allow"].to_str().unwrap()), (405, "GET, POST"));
    for body in [Vec::new(), list[..list.len() - 1].to_vec(), vec![0; BODY_MAX]] {
        let reply = sign(&house, &keyd, "cards/desk-1", PATH, body).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (422, "list-format"));
    }
    // By its length, before a byte of it is sent; and without a length.
    let length = (BODY_MAX + 1).to_string();
    let long = [BYTES, &[("content-length", length.as_str())]].concat();
    let mut sender = house.connect(&keyd, &house.leaf("cards/desk-1")).await;
    let (parts, answer) = begin(&mut sender, PATH, &long);
    let reply = whole(answer.await.unwrap().unwrap()).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (413, "too-large"));
    drop(parts);
    let mut sender = house.connect(&keyd, &house.leaf("cards/desk-1")).await;
    let (mut parts, answer) = begin(&mut sender, PATH, BYTES);
    for _ in 0..16 {
        parts.send_data(vec![0; 1 << 20].into()).await.unwrap();
    }
    parts.send_data(vec![0].into()).await.unwrap();
    let reply = whole(answer.await.unwrap().unwrap()).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (413, "too-large"));
    for (code, status) in [(Refusal::ListRemovals, 403), (Refusal::NoSuchKey, 404), (Refusal::KeyState, 409)]
    {
        house.fake.change(|inner| inner.calls.refuse = Some(Refused::new(code, "so it is")));
        let reply = sign(&house, &keyd, "cards/desk-1", PATH, list.clone()).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code.as_str()));
    }
    assert!(!house.dir.path().join("keyd/blacklists/transit.signed").exists());
    assert!(sign(&house, &keyd, "cards/desk-1", PATH, list).await.status.is_success());
}

/// A part that was refused must not stay behind and get into the next list.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_breaks_off_leaves_nothing_behind() {
    let house = House::new();
    let keyd = house.run();
    signed(&house, &keyd, &full(1, 0..200_000)).await;
    let list = full(2, 0..200_001).to_bytes();
    // Base and list come in three parts each, then the word to sign.
    for part in 0..7 {
        house.fake.change(|inner| {
            inner.calls.refuse_after = part;
            inner.calls.refuse = Some(Refused::new(Refusal::TooLarge, "enough"));
            inner.calls.order.clear();
        });
        let reply = sign(&house, &keyd, "cards/desk-1", PATH, list.clone()).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (413, "too-large"), "part {part}");
        let order = house.fake.lock().calls.order.clone();
        assert_eq!(
            (order.len(), order.contains(&"list")),
            (part + 1, part == 6),
            "nothing follows a refused part"
        );
    }
    signed(&house, &keyd, &full(2, 0..200_001)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_base_is_named_and_can_be_put_back() {
    let house = House::new();
    let keyd = house.run();
    let base = house.dir.path().join("keyd/blacklists/transit.base");
    signed(&house, &keyd, &full(1, 0..50)).await;
    let good = kept(&house, "transit.base");
    // A full list that keyd has signed itself is as good as the base.
    std::fs::write(&base, b"damaged").unwrap();
    signed(&house, &keyd, &delta(2, 60..61, &[5])).await;
    // A delta is not: without the base it follows, nobody can know the list in force.
    std::fs::write(&base, b"damaged").unwrap();
    let next = delta(3, 70..71, &[]);
    let reply = sign(&house, &keyd, "cards/desk-1", PATH, next.to_bytes()).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (409, "list-base"));
    let problem: Problem = serde_json::from_slice(&reply.body).unwrap();
    assert!(problem.detail.contains("state_dir/blacklists/WALL.base"), "{}", problem.detail);
    // The base before the last delta will do, since the last delta is there.
    std::fs::write(&base, &good).unwrap();
    let answer = signed(&house, &keyd, &next).await;
    assert_eq!(answer.epoch, 3);
    assert_eq!(List::parse(&kept(&house, "transit.base")).unwrap().version, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_for_a_client_that_left_is_kept() {
    let house = House::new();
    let keyd = house.run();
    let list = full(1, 0..50);
    house.fake.change(|inner| inner.withhold = true);
    let leaving = sign(&house, &keyd, "cards/desk-1", PATH, list.to_bytes());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(500), leaving).await.is_err());
    // keyd notices that the connection is gone, and only then the entry becomes durable.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    house.fake.change(|inner| inner.withhold = false);
    let path = house.dir.path().join("keyd/blacklists/transit.signed");
    house.fake.wait("the signed file", |_| path.exists());
    assert!(house.get(&keyd, "gates/depot-1", PATH).await.status.is_success());
    let answer = signed(&house, &keyd, &list).await;
    assert_eq!(answer.epoch, 1);
    keyd.signal("TERM");
    assert_eq!(keyd.ended().0, Some(0));
    let keyd = house.run();
    assert!(house.get(&keyd, "gates/depot-1", PATH).await.status.is_success(), "after a restart, too");
    signed(&house, &keyd, &delta(2, 60..61, &[5])).await;
}
