//! The first clients, on real daemons: a personalization line, card management, a load terminal, another wall.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use system_tests::house::{House, must, program, root, run};
use translog::entry::Event;

const ISSUER: &str = "2660FFFF00000001";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Python with the packages of other authors that read what we write.
fn python(script: &str) -> Command {
    let python = root().join("target/venv/bin/python");
    assert!(python.exists(), "{} is not there: run cargo xtask test", python.display());
    let mut command = Command::new(python);
    command.arg(root().join("tests").join(script));
    command
}

#[test]
fn a_line_makes_its_cards_and_not_one_more() {
    let house = House::with_masters();
    let places = house.places();
    // 9,999 cards are granted under the 3DES transport key: the last of 10,000 is refused, all others are there.
    let licence = places.licence("transit/perso/line-2@01");
    let (id, first) = (licence["id"].as_str().unwrap(), licence["first"].as_str().unwrap());
    let words = ["perso", "run", "--licence", id, "--first", first, "--count", "10000", "--out", "job"];
    let said = run(&mut places.citykeep(&house.url, "line", &words));
    assert!(!said.ok && said.out.contains("licence-used-up"), "{}{}", said.out, said.err);
    let report = json(&fs::read_to_string(places.at("job/report.json")).unwrap());
    let counts = ["wanted", "done", "issued", "left"].map(|field| report[field].as_u64().unwrap());
    assert_eq!(counts, [10_000, 9_999, 9_999, 0]);
    // The same job again: nothing is asked twice, and the licence does not move.
    let again = run(&mut places.citykeep(&house.url, "line", &["perso", "resume", "job"]));
    assert!(!again.ok);
    assert_eq!(json(&fs::read_to_string(places.at("job/report.json")).unwrap()), report);

    // Files, licence and log agree; a card more in the files is named.
    house.wait_published(report["indices"].as_array().unwrap().last().unwrap().as_u64().unwrap() + 1);
    let reconcile = |dir: &str| {
        let mut command = program("citykeep");
        run(command
            .args(["perso", "report", dir, "--log", "log", "--vkey", "log/vkey"])
            .current_dir(&places.0))
    };
    let agreed = reconcile("job");
    assert!(agreed.ok && agreed.out.contains("9999 cards of this job"), "{}{}", agreed.out, agreed.err);
    forge_last_row(&places.at("job/journal"));
    let forged = reconcile("job");
    assert!(!forged.ok && forged.err.contains("do not agree"), "{}{}", forged.out, forged.err);

    // Another author's programs: derived from the masters, unwrapped with psec, version B here.
    let masters = places.at("masters.json");
    let checked = must(python("keysets.py").arg(&masters).arg(places.at("job")).args([
        "transit/perso/line-2@01",
        ISSUER,
        "100",
    ]));
    assert!(checked.contains("1100 keys of 100 cards"), "{checked}");
    // The red control: one digit of one master.
    let text = fs::read_to_string(&masters).unwrap();
    let hex = json(&text)["keys"][3]["versions"][0]["components"][0]["hex"].as_str().unwrap().to_owned();
    let other = format!("{}{}", &hex[1..], &hex[..1]);
    fs::write(&masters, text.replace(&hex, &other)).unwrap();
    let red = run(python("keysets.py").arg(&masters).arg(places.at("job")).args([
        "transit/perso/line-2@01",
        ISSUER,
        "100",
    ]));
    assert!(!red.ok && red.err.contains("check value"), "{}{}", red.out, red.err);
}

/// The answer that keyd's specification shows is one: another author's TR-31 opens its blocks, and the keys are the masters' children.
#[test]
fn the_specifications_key_set_is_read_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let answer =
        json(&fs::read_to_string(root().join("src/keep/keyd/tests/golden/key-set-tr31.json")).unwrap());
    let head = serde_json::json!({ "roles": answer["roles"] });
    let cards = answer["cards"].as_array().unwrap().iter();
    let lines: Vec<String> = std::iter::once(&head).chain(cards).map(Value::to_string).collect();
    fs::create_dir(dir.path().join("keys")).unwrap();
    fs::write(dir.path().join("keys/1.jsonl"), lines.join("\n")).unwrap();
    let row = |key_set: &str, role: &str, key: &str| {
        let versions =
            [serde_json::json!({"version": "01", "algorithm": "3des", "components": [{"hex": key}]})];
        serde_json::json!({"applet": "transit", "key_set": key_set, "role": role, "versions": versions})
    };
    let load = wire::purse::to_hex(b"load master key!");
    let read = |load: &str| {
        let keys = [
            row("purse", "load", load),
            row("purse", "tac", &wire::purse::to_hex(b"tac master key.!")),
            row("perso", "line-2", "DD7515F2BFC17F85CE48F3CA25CB21F6"),
        ];
        let masters = dir.path().join("masters.json");
        fs::write(&masters, serde_json::json!({ "keys": keys }).to_string()).unwrap();
        run(python("keysets.py").arg(masters).arg(dir.path()).args(["transit/perso/line-2@01", ISSUER]))
    };
    let said = read(&load);
    assert!(
        said.ok && said.out.contains("2 key sets; 4 keys of 2 cards derived"),
        "{}{}",
        said.out,
        said.err
    );
    assert!(!read(&load.replace("6C", "6E")).ok, "another master");
}

/// Moves the journal's last batch to another log entry, with a good check: what somebody with the disk could do.
fn forge_last_row(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let last = lines.pop().unwrap();
    let mut words: Vec<String> = last.split(' ').map(str::to_owned).collect();
    words.pop();
    words[4] = (words[4].parse::<u64>().unwrap() - 1).to_string();
    let body = words.join(" ");
    let check = wire::purse::to_hex(&Sha256::digest(&body)[..4]);
    lines.push(format!("{body} {check}"));
    fs::write(path, lines.join("\n") + "\n").unwrap();
}

#[test]
fn walls_are_blank() {
    let house = House::with_masters();
    let places = house.places();
    let health = places.licence("health/perso/line-1@01")["id"].as_str().unwrap().to_owned();
    let ask = |id: &str| {
        let body =
            format!(r#"{{"licence":"{id}","form":"tr31","cards":[{{"serial":"00003701000040000000"}}]}}"#);
        let answers = [
            places.curl("line", &["--json", &body, &format!("{}/v1/cards/keys", house.url)]),
            places.curl("line", &[&format!("{}/v1/licences/{id}", house.url)]),
        ];
        answers.map(|said| said.out)
    };
    // What is another's and what does not exist look alike, to the byte.
    assert_eq!(ask(&health), ask("00000000000000000000000000000000"));
    assert!(ask(&health)[0].contains("no-such-licence"));
    let keys = json(&places.curl("line", &[&format!("{}/v1/keys", house.url)]).out);
    let lineages: Vec<&str> =
        keys["keys"].as_array().unwrap().iter().map(|key| key["lineage"].as_str().unwrap()).collect();
    assert!(
        !lineages.is_empty() && lineages.iter().all(|lineage| lineage.starts_with("transit/")),
        "{lineages:?}"
    );
    // The log tells of every wall, so that none of the clients reads it.
    for client in ["line", "health", "clearing", "cards", "terminal"] {
        for path in ["checkpoint", "proof?index=0", "tile/entries/000.p/1", "tile/0/000.p/1"] {
            let said = json(&places.curl(client, &[&format!("{}/v1/log/{path}", house.url)]).out);
            assert_eq!(said["code"], "not-permitted", "{client} {path}: {said}");
        }
    }
    // Its own line has it, chip factor and all.
    let body = format!(
        r#"{{"licence":"{health}","form":"sealed","cards":[{{"serial":"00003701000040000000","chip":"0102030405060708"}}]}}"#
    );
    let made = json(&places.curl("health", &["--json", &body, &format!("{}/v1/cards/keys", house.url)]).out);
    assert_eq!((made["issued"].as_u64(), made["roles"].as_array().unwrap().len()), (Some(1), 16), "{made}");
}

/// Health cards derive with a factor of their chip: the job takes a table of them, whole or not at all.
#[test]
fn health_cards_come_with_their_chips() {
    let house = House::with_masters();
    let places = house.places();
    let licence = places.licence("health/perso/line-1@01");
    let (id, first) = (licence["id"].as_str().unwrap(), licence["first"].as_str().unwrap());
    let issued = || {
        let known = places.curl("health", &[&format!("{}/v1/licences/{id}", house.url)]).out;
        json(&known)["issued"].as_u64().unwrap()
    };
    let serial = |at: u128| format!("{:020}", first.parse::<u128>().unwrap() + at);
    let chip = |at: u128| format!("{:016X}", 0x0102_0304_0506_0000 + at);
    let rows: Vec<String> = (0..300).map(|at| format!("{},{}", serial(at), chip(at))).collect();
    let ask = |client: &str, id: &str, first: &str, out: &str, more: &[&str]| {
        let words = ["perso", "run", "--licence", id, "--first", first, "--count", "300", "--out", out];
        run(&mut places.citykeep(&house.url, client, &[&words[..], more].concat()))
    };
    let table = |rows: &[String]| fs::write(places.at("chips.csv"), rows.join("\n")).unwrap();
    let with = ["--chips", "chips.csv"];

    // What is wrong is named before a card is counted.
    table(&rows[..299]);
    let short = ask("health", id, first, "job", &with);
    assert!(!short.ok && short.err.contains(&format!("no row for card {}", serial(299))), "{}", short.err);
    let mut bad = rows.clone();
    bad[200] = bad[200].replace(',', ";");
    table(&bad);
    let malformed = ask("health", id, first, "job", &with);
    assert!(!malformed.ok && malformed.err.contains("line 201 of the chip factors"), "{}", malformed.err);
    assert!(malformed.err.contains("芯片因子表第 201 行"), "{}", malformed.err);
    // Without any, the service asks for them; and transit cards have none.
    let without = ask("health", id, first, "bare", &[]);
    assert!(
        !without.ok && without.err.contains("card-chip") && without.err.contains("--chips"),
        "{}",
        without.err
    );
    let transit = places.licence("transit/perso/line-1@01");
    let transit_first: u128 = transit["first"].as_str().unwrap().parse().unwrap();
    let moved: Vec<String> = (0..300).map(|at| format!("{:020},{}", transit_first + at, chip(at))).collect();
    table(&moved);
    let wrong = ask("line", transit["id"].as_str().unwrap(), transit["first"].as_str().unwrap(), "no", &with);
    assert!(!wrong.ok && wrong.err.contains("card-chip"), "{}", wrong.err);
    assert_eq!(issued(), 0);

    table(&rows);
    let made = ask("health", id, first, "job", &with);
    assert!(made.ok, "{}{}", made.out, made.err);
    assert_eq!(issued(), 300);
    // Broken off after its first batch, the job goes on from its own copy, and nothing is counted twice.
    fs::remove_file(places.at("chips.csv")).unwrap();
    let journal = fs::read_to_string(places.at("job/journal")).unwrap();
    fs::write(places.at("job/journal"), journal.split_inclusive('\n').next().unwrap()).unwrap();
    let again = run(&mut places.citykeep(&house.url, "health", &["perso", "resume", "job"]));
    assert!(again.ok, "{}{}", again.out, again.err);
    assert_eq!((json(&again.out)["made"].as_u64(), issued()), (Some(172), 300));

    // Each card got the factor of its own chip: asked for alone, it has the same check values.
    let file = fs::read_to_string(places.at("job/keys/000003.jsonl")).unwrap();
    let card = json(file.lines().nth(8).unwrap());
    let (at, serial) = (256 + 7, card["serial"].as_str().unwrap());
    let body = format!(
        r#"{{"licence":"{id}","form":"tr31","cards":[{{"serial":"{serial}","chip":"{}"}}]}}"#,
        chip(at)
    );
    let alone = json(&places.curl("health", &["--json", &body, &format!("{}/v1/cards/keys", house.url)]).out);
    let kcvs = |card: &Value| -> Vec<String> {
        card["keys"].as_array().unwrap().iter().map(|key| key["kcv"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((kcvs(&alone["cards"][0]), kcvs(&card).len()), (kcvs(&card), 16), "{alone}");
}

#[test]
fn a_list_is_signed_and_openssl_agrees() {
    let house = House::new();
    let places = house.places();
    fs::write(places.at("cards.csv"), "00003101000020000001,1,2\n00003101000020000005,2,2\n").unwrap();
    let build = |epoch: &str, csv: &str| {
        let mut command = program("citykeep");
        command.args(["blacklist", "build", "--csv", csv, "--epoch", epoch, "--out", "body"]);
        must(command.args(["--valid-from", "20260101", "--valid-to", "20361231"]).current_dir(&places.0));
    };
    let sign = || {
        let words = ["blacklist", "sign", "--body", "body", "--out", "out"];
        run(&mut places.citykeep(&house.url, "cards", &words))
    };
    build("2", "cards.csv");
    let early = sign();
    assert!(!early.ok && early.out.contains("list-epoch"), "{}", early.out);
    build("1", "cards.csv");
    let signed = sign();
    assert!(signed.ok, "{}{}", signed.out, signed.err);

    let openssl = |words: &[&str]| run(Command::new("openssl").args(words).current_dir(places.at("out")));
    let both = |list: &str| {
        let id = "distid:1234567812345678";
        [
            openssl(&[
                "pkeyutl",
                "-verify",
                "-rawin",
                "-digest",
                "sm3",
                "-pkeyopt",
                id,
                "-pubin",
                "-inkey",
                "sm2.pem",
                "-sigfile",
                "blacklist.bin.sm2.sig",
                "-in",
                list,
            ]),
            openssl(&[
                "dgst",
                "-sha256",
                "-verify",
                "p256.pem",
                "-signature",
                "blacklist.bin.p256.sig",
                list,
            ]),
        ]
    };
    assert!(both("blacklist.bin").iter().all(|said| said.ok), "{:?}", both("blacklist.bin"));
    let good = fs::read(places.at("out/blacklist.bin")).unwrap();
    for name in ["sm2", "p256"] {
        let signature = |list: &str| fs::read(places.at(&format!("out/{list}.{name}.sig"))).unwrap();
        assert_eq!(signature("blacklist"), signature("blacklist.bin"), "one signature under two names");
    }
    for at in [4, 40, 60, good.len() - 1] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        fs::write(places.at("out/changed.bin"), changed).unwrap();
        assert!(both("changed.bin").iter().all(|said| !said.ok), "byte {at}");
    }
    let check = |words: &[&str]| {
        let mut command = program("citykeep");
        command.args([
            "blacklist",
            "check",
            "out/blacklist.bin",
            "--sm2",
            "out/sm2.pem",
            "--p256",
            "out/p256.pem",
        ]);
        run(command.args(words).current_dir(&places.0))
    };
    let listed = check(&["--card", "00003101000020000005", "--last-epoch", "0"]);
    assert!(listed.ok && listed.out.contains("ON THE LIST"), "{}", listed.out);
    assert!(check(&["--card", "00003101000020000006"]).out.contains("not on the list"));
    assert!(!check(&["--last-epoch", "1"]).ok, "an old list");

    // Epoch and digest stand in the log, and a restart forgets neither.
    let mut house = house;
    house.restart();
    let (places, url) = (house.places(), house.url.clone());
    let words = ["blacklist", "sign", "--body", "body", "--out", "out"];
    let again = run(&mut places.citykeep(&url, "cards", &words));
    assert!(again.ok, "the same list again is the same list: {}", again.out);
    assert_eq!(fs::read(places.at("out/blacklist.bin")).unwrap(), good);
    house.wait_published(json(&again.out)["index"].as_u64().unwrap() + 1);
    // Killed it may leave a tile that the next checkpoint replaces, which an auditor names until it starts again.
    assert!(house.keyd.stop(), "{}", house.keyd.said());
    let said = places.audit();
    assert!(said.ok, "{}{}", said.out, said.err);
    let said = places.verify_py(&["log", "log", "--vkey", "log/vkey"]);
    assert!(said.ok, "{}{}", said.out, said.err);
    let digest = <[u8; 32]>::from(Sha256::digest(&good));
    let lists = places.entries().into_iter().filter_map(|entry| match entry.event {
        Event::List(list) => Some((list.epoch, list.digest, list.again)),
        _ => None,
    });
    assert_eq!(lists.collect::<Vec<_>>(), [(1, digest, false), (1, digest, true)]);
}

#[test]
fn a_load_needs_its_token() {
    let house = House::with_masters();
    let places = house.places();
    let instance = json(&fs::read_to_string(places.at("out/ceremony.json")).unwrap())["instance"].clone();
    let load_with = |counter: &str, more: &[&str]| {
        let mut command = program("citycard");
        command.args(["load", "--masters", "masters.json", "--ledger", "ledger.key", "--amount", "5000"]);
        command.args(["--serial", "00003101000020000001", "--counter", counter]);
        command.args(["--instance", instance.as_str().unwrap()]).args(more);
        json(&must(command.current_dir(&places.0)))
    };
    let load = |counter: &str| load_with(counter, &[]);
    let ask = |request: &Value| {
        fs::write(places.at("load.json"), request.to_string()).unwrap();
        let said = run(&mut places.citykeep(&house.url, "terminal", &["load", "--request", "load.json"]));
        json(&said.out)
    };
    let first = load("7");
    let answer = ask(&first);
    assert_eq!((&answer["ok"], &answer["answer"]["again"]), (&true.into(), &false.into()), "{answer}");
    let again = ask(&first);
    assert_eq!(
        (&again["answer"]["mac2"], &again["answer"]["again"]),
        (&answer["answer"]["mac2"], &true.into())
    );
    for (field, value, code) in [
        ("amount", Value::from(5001), "token-mismatch"),
        ("counter", Value::from(8), "token-mismatch"),
        ("serial", "00003101000020000002".into(), "token-mismatch"),
        ("signer", "bank-2".into(), "no-such-token"),
        ("token", "A0".into(), "bad-token"),
    ] {
        let mut request = load("8");
        request[field] = if field == "counter" { Value::from(9) } else { value };
        let refused = ask(&request);
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(code), "{field}: {refused}");
    }
    let other = load("7");
    let message = ask(&other)["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("token-used"), "another session at the same counter: {message}");
    let lost = again["answer"]["index"].to_string();
    assert!(message.contains(&format!("replaces entry {lost}")), "{message}");
    let replaced = ask(&load_with("7", &["--replaces", &lost]));
    assert_eq!((&replaced["ok"], &replaced["answer"]["again"]), (&true.into(), &false.into()), "{replaced}");
    let mut wrong = load("8");
    wrong["mac1"] = "00000000".into();
    let message = ask(&wrong)["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("mac-wrong"), "{message}");
    assert_eq!(ask(&load("8"))["ok"], true);
    // A clearing client has no business here.
    let said = run(&mut places.citykeep(&house.url, "clearing", &["load", "--request", "load.json"]));
    assert!(said.out.contains("not-permitted"), "{}", said.out);
}
