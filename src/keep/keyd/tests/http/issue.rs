//! Card keys, licences, loads, scripts, authentications: who gets what, once it is durable, and what a refusal looks like.

use std::time::Duration;

use wire::api::{AuthenticateAnswer, CardKeysAnswer, LicenceBody, LoadBodyAnswer, Problem, ScriptAnswer};
use wire::error::{Refusal, Refused};

use crate::calls::{LICENCE, QUANTITY};
use crate::house::{House, Keyd, Reply, send};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const TEXT: &[(&str, &str)] = &[("content-type", "text/plain")];

const KEYS: &str = "/v1/cards/keys";
const LOADS: &str = "/v1/loads/authorize";
const SCRIPTS: &str = "/v1/scripts/issue";
const AUTHENTICATE: &str = "/v1/cards/authenticate";

/// Client, path, body, and what the module says with what status.
type Call = (&'static str, &'static str, String, &'static [(Refusal, u16)]);

fn cards(from: u32, count: u32) -> String {
    let cards = (from..from + count).map(|number| format!(r#"{{"serial":"{number:020}"}}"#));
    let licence = wire::purse::to_hex(&LICENCE);
    format!(r#"{{"licence":"{licence}","form":"tr31","cards":[{}]}}"#, cards.collect::<Vec<_>>().join(","))
}

pub(crate) fn load() -> String {
    let target = target("transit/purse/load");
    let signature = "5A".repeat(64);
    format!(
        r#"{{{target},"purse":2,"random":"01020304","counter":7,"balance":100,"amount":5000,"terminal":"112233445566","mac1":"0A0B0C0D","signer":"ledger","token":"A0","signature":"{signature}"}}"#
    )
}

fn target(key: &str) -> String {
    format!(r#""key":"{key}","version":"01","issuer":"1234500012345000","serial":"00003101000012345678""#)
}

fn script(kind: &str) -> String {
    format!(r#"{{{},"challenge":"01020304","script":{{{kind}}}}}"#, target("transit/purse/control"))
}

fn authenticate() -> String {
    format!(r#"{{{},"challenge":"0102030405060708"}}"#, target("transit/purse/external"))
}

async fn post(house: &House, keyd: &Keyd, client: &str, path: &str, body: impl Into<String>) -> Reply {
    let mut sender = house.connect(keyd, &house.leaf(client)).await;
    send(&mut sender, "POST", path, JSON, body.into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_gets_its_cards_and_the_same_again() {
    let house = House::new();
    let keyd = house.run();
    let licence = format!("/v1/licences/{}", wire::purse::to_hex(&LICENCE));
    let reply = post(&house, &keyd, "perso/line-1", KEYS, cards(0, 128)).await;
    let answer: CardKeysAnswer = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((answer.cards.len(), answer.issued, answer.form.as_str()), (128, 128, "tr31"));
    assert_eq!(answer.roles.iter().map(|role| role.role.as_str()).collect::<Vec<_>>(), ["load", "tac"]);
    assert_eq!(
        (answer.cards[7].serial.as_str(), answer.cards[7].keys[1].block.as_str()),
        ("00000000000000000007", "tac")
    );
    let entry = house.fake.lock().entries[usize::try_from(answer.index).unwrap()].clone();
    assert!(entry.ends_with(b"cards"));

    let reply = post(&house, &keyd, "perso/line-1", KEYS, cards(0, 128)).await;
    let again: CardKeysAnswer = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(CardKeysAnswer { index: answer.index, ..again }, answer, "no second count");

    let reply = house.get(&keyd, "perso/line-1", &licence).await;
    let body: LicenceBody = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((body.quantity, body.issued, body.left), (QUANTITY, 128, QUANTITY - 128));
    // Another line's and none, also by its very id, and what is no id.
    let mut same = Vec::new();
    for (client, path) in [
        ("perso/line-2", licence.as_str()),
        ("perso/line-1", "/v1/licences/22222222222222222222222222222222"),
        ("perso/line-1", "/v1/licences/x"),
        ("health/perso-1", licence.as_str()),
    ] {
        let reply = house.get(&keyd, client, path).await;
        assert_eq!(
            (reply.status.as_u16(), reply.code().as_str()),
            (404, "no-such-licence"),
            "{client} {path}"
        );
        same.push(reply.body);
    }
    house.fake.change(|inner| inner.calls.lax = true);
    same.push(house.get(&keyd, "perso/line-2", &licence).await.body);
    for client in ["perso/line-2", "health/perso-1"] {
        same.push(post(&house, &keyd, client, KEYS, cards(0, 1)).await.body);
    }
    assert!(same.windows(2).all(|pair| pair[0] == pair[1]), "not yours and does not exist look alike");
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_with_a_reader_get_their_answers() {
    let house = House::new();
    let keyd = house.run();
    let reply = post(&house, &keyd, "terminals/load-1", LOADS, load()).await;
    let answer: LoadBodyAnswer = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((answer.mac2.as_str(), answer.date.as_str(), answer.again), ("01020304", "20260102", false));
    let reply = post(&house, &keyd, "cards/desk-1", AUTHENTICATE, authenticate()).await;
    let answer: AuthenticateAnswer = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer.answer, "0707070707070707");
    let mut index = answer.index;
    for (client, kind) in [
        ("cards/desk-1", r#""kind":"update-binary","sfi":21,"offset":0,"data":"0102""#),
        ("cards/desk-1", r#""kind":"update-record","sfi":21,"record":1,"data":"0102""#),
        ("cards/desk-1", r#""kind":"block-application""#),
        ("cards/desk-1", r#""kind":"block-card""#),
        ("unblock/desk-1", r#""kind":"unblock-application""#),
        ("unblock/desk-1", r#""kind":"reload-pin","pin":"123456""#),
    ] {
        let reply = post(&house, &keyd, client, SCRIPTS, script(kind)).await;
        let answer: ScriptAnswer = serde_json::from_slice(&reply.body).unwrap();
        assert!(answer.apdu == "841E" && answer.index > index, "{answer:?}");
        index = answer.index;
        // Whoever may block may not unblock, and the other way round.
        let other = if client == "cards/desk-1" { "unblock/desk-1" } else { "cards/desk-1" };
        let reply = post(&house, &keyd, other, SCRIPTS, script(kind)).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (403, "not-permitted"), "{other} {kind}");
    }
    house.fake.wait_noted("policy-not-granted", 6);
}

/// Every route with everybody who has no grant for it, and with bodies that are none.
#[tokio::test(flavor = "multi_thread")]
async fn everything_else_is_refused_before_the_module() {
    let house = House::new();
    let keyd = house.run();
    let block = script(r#""kind":"block-card""#);
    let clients = [
        "clearing/engine-1",
        "audit/desk-1",
        "officers/relay-1",
        "perso/line-1",
        "cards/desk-1",
        "terminals/load-1",
        "gates/depot-1",
        "health/perso-1",
        "nobody/at-all",
    ];
    let routes: [(&str, String, &[&str]); 4] = [
        (KEYS, cards(0, 1), &["perso/line-1", "health/perso-1"]),
        (LOADS, load(), &["terminals/load-1"]),
        (SCRIPTS, block.clone(), &["cards/desk-1"]),
        (AUTHENTICATE, authenticate(), &["cards/desk-1"]),
    ];
    for (path, body, may) in &routes {
        for client in clients.iter().filter(|client| !may.contains(client)) {
            let reply = post(&house, &keyd, client, path, body.clone()).await;
            assert_eq!(
                (reply.status.as_u16(), reply.code().as_str()),
                (403, "not-permitted"),
                "{client} {path}"
            );
        }
        let mut sender = house.connect(&keyd, &house.leaf(may[0])).await;
        for (headers, body, status, code) in [
            (TEXT, body.clone(), 415, "media-type"),
            (JSON, String::new(), 400, "bad-json"),
            (JSON, format!("{body}x"), 400, "bad-json"),
            (JSON, body.replacen('{', "{\"more\":1,", 1), 400, "bad-json"),
            (JSON, " ".repeat((1 << 20) + 1), 413, "too-large"),
        ] {
            let start: String = body.chars().take(60).collect();
            let reply = send(&mut sender, "POST", path, headers, body).await;
            assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{path} {start}");
            sender = house.connect(&keyd, &house.leaf(may[0])).await;
        }
        let reply = send(&mut sender, "POST", &format!("{path}?x=1"), JSON, body.clone()).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "bad-query"), "{path}");
        let reply = send(&mut sender, "GET", path, &[], "").await;
        assert_eq!((reply.status.as_u16(), reply.headers["allow"].as_bytes()), (405, &b"POST"[..]), "{path}");
    }
    assert!(house.fake.lock().calls.order.is_empty(), "nothing of it reached the module");
}

/// Client, path, body, status, code: what no request may hold, and keys that are not the client's.
fn strict_cases() -> Vec<(&'static str, &'static str, String, u16, &'static str)> {
    let block = script(r#""kind":"block-card""#);
    vec![
        ("perso/line-1", KEYS, cards(0, 0), 400, "bad-json"),
        ("perso/line-1", KEYS, cards(0, 129), 413, "too-large"),
        ("perso/line-1", KEYS, cards(0, 1).replace("\"tr31\"", "\"plain\""), 400, "bad-field"),
        ("perso/line-1", KEYS, cards(0, 1).replace("0000\"}", "000\"}"), 400, "bad-field"),
        (
            "perso/line-1",
            KEYS,
            cards(0, 1).replace("\"tr31\"", "\"tr31\",\"form\":\"tr31\""),
            400,
            "bad-json",
        ),
        ("terminals/load-1", LOADS, load().replace("\"purse\":2", "\"purse\":3"), 400, "bad-field"),
        ("terminals/load-1", LOADS, load().replace("\"counter\":7", "\"counter\":65536"), 400, "bad-json"),
        (
            "terminals/load-1",
            LOADS,
            load().replace("\"counter\":7", "\"counter\":7,\"counter\":8"),
            400,
            "bad-json",
        ),
        ("cards/desk-1", SCRIPTS, block.replace("block-card", "unblock-card"), 400, "bad-json"),
        (
            "cards/desk-1",
            SCRIPTS,
            block.replace("block-card\"", "block-card\",\"data\":\"00\""),
            400,
            "bad-json",
        ),
        (
            "cards/desk-1",
            SCRIPTS,
            script(r#""kind":"block-card","kind":"unblock-application""#),
            400,
            "bad-json",
        ),
        (
            "cards/desk-1",
            SCRIPTS,
            script(r#""kind":"update-binary","sfi":1,"sfi":2,"offset":0,"data":"00""#),
            400,
            "bad-json",
        ),
        ("cards/desk-1", AUTHENTICATE, authenticate().replace("0708\"", "07\""), 400, "bad-field"),
        (
            "terminals/load-1",
            LOADS,
            load().replace("transit/purse/load", "transit/purse/tac"),
            404,
            "no-such-key",
        ),
        (
            "terminals/load-1",
            LOADS,
            load().replace("transit/purse/load", "campus/purse/load"),
            404,
            "no-such-key",
        ),
        ("terminals/load-1", LOADS, load().replace("transit/purse/load", "NO"), 404, "no-such-key"),
        ("cards/desk-1", SCRIPTS, block.replace("transit", "health"), 404, "no-such-key"),
        ("cards/desk-1", AUTHENTICATE, authenticate().replace("transit", "no"), 404, "no-such-key"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_strict_and_other_walls_look_absent() {
    let house = House::new();
    let keyd = house.run();
    let mut same = Vec::new();
    for (client, path, body, status, code) in strict_cases() {
        let reply = post(&house, &keyd, client, path, body.clone()).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{path} {body}");
        if code == "no-such-key" {
            same.push(reply.body);
        }
    }
    assert!(house.fake.lock().calls.order.is_empty(), "nothing of it reached the module");
    // What the module says is not there looks the same as what is not granted.
    let gone = Refused::new(Refusal::NoSuchKey, "there is no active key of this name for this use");
    house.fake.change(|inner| inner.calls.refuse = Some(gone));
    same.push(post(&house, &keyd, "terminals/load-1", LOADS, load()).await.body);
    assert!(same.windows(2).all(|pair| pair[0] == pair[1]), "not yours and does not exist look alike");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_module_refuses_is_told_with_its_code() {
    let house = House::new();
    let keyd = house.run();
    let rows: [Call; 4] = [
        (
            "perso/line-1",
            KEYS,
            cards(0, 1),
            &[
                (Refusal::LicenceExpired, 403),
                (Refusal::LicenceUsedUp, 403),
                (Refusal::CardRange, 422),
                (Refusal::CardSpoiled, 409),
                (Refusal::ProfileChanged, 409),
                (Refusal::TransportKey, 409),
                (Refusal::WeakTransport, 409),
                (Refusal::CardChip, 409),
                (Refusal::BadLicence, 422),
                (Refusal::Busy, 503),
                (Refusal::TooLarge, 413),
            ],
        ),
        (
            "terminals/load-1",
            LOADS,
            load(),
            &[
                (Refusal::NoSuchToken, 404),
                (Refusal::BadToken, 422),
                (Refusal::TokenMismatch, 422),
                (Refusal::TokenUsed, 409),
                (Refusal::LoadCounter, 409),
                (Refusal::MacWrong, 422),
                (Refusal::ValueCeiling, 403),
                (Refusal::TokenDate, 422),
                (Refusal::Withheld, 403),
                (Refusal::KeyState, 409),
            ],
        ),
        ("cards/desk-1", SCRIPTS, script(r#""kind":"block-card""#), &[(Refusal::BadScript, 422)]),
        ("cards/desk-1", AUTHENTICATE, authenticate(), &[(Refusal::Withheld, 403)]),
    ];
    for (client, path, body, refusals) in rows {
        for (code, status) in refusals {
            house.fake.change(|inner| inner.calls.refuse = Some(Refused::new(*code, "why it is so")));
            let reply = post(&house, &keyd, client, path, body.clone()).await;
            assert_eq!((reply.status.as_u16(), reply.code().as_str()), (*status, code.as_str()), "{path}");
            let problem: Problem = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(
                problem.detail.starts_with("why it is so. "),
                !matches!(status, 404 | 503),
                "{problem:?}"
            );
        }
        assert!(
            post(&house, &keyd, client, path, body).await.status.is_success(),
            "the next one is answered"
        );
    }
    // keyd's own mistake is not the client's business.
    house.fake.change(|inner| inner.calls.refuse = Some(Refused::new(Refusal::BadFrame, "what")));
    let reply = post(&house, &keyd, "terminals/load-1", LOADS, load()).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (500, "internal"));
    house.fake.wait_noted("bad-frame", 1);
    house.fake.wait_noted("mac-wrong", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_before_its_entry_is_durable_and_a_lost_answer_is_asked_for_again() {
    let house = House::new();
    let keyd = house.run();
    for (client, path, body) in [
        ("perso/line-1", KEYS, cards(0, 3)),
        ("terminals/load-1", LOADS, load()),
        ("cards/desk-1", SCRIPTS, script(r#""kind":"block-card""#)),
        ("cards/desk-1", AUTHENTICATE, authenticate()),
    ] {
        house.fake.change(|inner| inner.withhold = true);
        let waiting = post(&house, &keyd, client, path, body.clone());
        tokio::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
        assert!(early.is_err(), "{path} is answered before its entry is durable");
        house.fake.change(|inner| inner.withhold = false);
        assert!(waiting.await.status.is_success(), "{path}");
        // The module has dropped the result; the same request makes it again.
        house.fake.change(|inner| inner.calls.forget = true);
        let reply = post(&house, &keyd, client, path, body.clone()).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "result-gone"));
        assert_eq!(reply.headers["retry-after"], "1");
        assert!(post(&house, &keyd, client, path, body).await.status.is_success(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_disturbs_nobody() {
    let house = House::new();
    let keyd = house.run();
    house.fake.change(|inner| inner.calls.slow = Duration::from_millis(100));
    for number in 0..5 {
        let leaving = post(&house, &keyd, "perso/line-1", KEYS, cards(number * 10, 10));
        let left = tokio::time::timeout(Duration::from_millis(60), leaving).await;
        assert!(left.is_err(), "it was faster than the module");
    }
    house.fake.wait("five requests", |inner| inner.calls.order.len() == 5);
    house.fake.change(|inner| inner.calls.slow = Duration::ZERO);
    let reply = post(&house, &keyd, "perso/line-1", KEYS, cards(0, 50)).await;
    let answer: CardKeysAnswer = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer.issued, 50, "what was named for those who left is not counted again");
    assert!(post(&house, &keyd, "terminals/load-1", LOADS, load()).await.status.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_overtakes_a_personalization_run() {
    let house = House::new();
    let keyd = house.run();
    house.fake.change(|inner| inner.calls.slow = Duration::from_millis(100));
    let mut lines = tokio::task::JoinSet::new();
    for number in 0..20 {
        let mut sender = house.connect(&keyd, &house.leaf("perso/line-1")).await;
        let body = cards(number * 10, 10);
        lines.spawn(async move { send(&mut sender, "POST", KEYS, JSON, body).await });
    }
    house.fake.wait("a run that is under way", |inner| inner.calls.order.len() >= 2);
    assert!(post(&house, &keyd, "terminals/load-1", LOADS, load()).await.status.is_success());
    let order = house.fake.lock().calls.order.clone();
    let load = order.iter().position(|name| *name == "load").unwrap();
    assert!(load <= 12, "the load came behind the run: {order:?}");
    while let Some(reply) = lines.join_next().await {
        assert!(reply.unwrap().status.is_success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_of_card_keys_counts_cards() {
    let house = House::with_policy(|policy| {
        policy.replace(
            "\"cards-keys\", \"licences-read\"]",
            "\"cards-keys\", \"licences-read\"]\nitems_per_second = 100",
        )
    });
    let keyd = house.run();
    let mut codes = Vec::new();
    for number in 0..3 {
        let reply = post(&house, &keyd, "perso/line-1", KEYS, cards(number * 45, 45)).await;
        codes.push(reply.status.as_u16());
        if reply.status.as_u16() == 429 {
            assert_eq!(
                (reply.code().as_str(), reply.headers["retry-after"].as_bytes()),
                ("quota", &b"1"[..])
            );
        }
    }
    assert_eq!(codes, [200, 200, 429]);
}

/// Readers have quotas too. What is asked at once is more than one in a second, however slow the machine.
#[tokio::test(flavor = "multi_thread")]
async fn readers_have_quotas() {
    let house = House::with_policy(|policy| {
        format!(
            "{policy}\n[roles.readers]\nclients = ['readers/*']\n[[roles.readers.grants]]\n\
             operations = ['keys-read', 'blacklists-read']\nlineages = ['transit/blacklist/*']\nitems_per_second = 1\n"
        )
    });
    let keyd = house.run();
    for (path, answer) in [("/v1/keys", 200), ("/v1/blacklists/transit", 404)] {
        let leaf = house.leaf("readers/one");
        let mut senders = Vec::new();
        for _ in 0..6 {
            senders.push(house.connect(&keyd, &leaf).await);
        }
        let mut asked = tokio::task::JoinSet::new();
        for mut sender in senders {
            asked.spawn(async move { send(&mut sender, "GET", path, &[], "").await });
        }
        let replies = asked.join_all().await;
        let with =
            |status: u16| replies.iter().filter(|reply| reply.status.as_u16() == status).collect::<Vec<_>>();
        let (answered, refused) = (with(answer), with(429));
        assert!(!answered.is_empty() && !refused.is_empty(), "{path}: {} {}", answered.len(), refused.len());
        assert_eq!(answered.len() + refused.len(), replies.len(), "{path}");
        for reply in refused {
            assert_eq!(
                (reply.code().as_str(), reply.headers["retry-after"].as_bytes()),
                ("quota", &b"1"[..]),
                "{path}"
            );
        }
        // The other's operation has a quota of its own, and so has another reader.
        let other = house.get(&keyd, "readers/two", path).await;
        assert_eq!(other.status.as_u16(), answer, "{path}");
    }
}
