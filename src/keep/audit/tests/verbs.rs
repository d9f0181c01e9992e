//! Every verb of the program, on logs that the real writer wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../../translog/tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ed25519_dalek::SigningKey;
use serde_json::Value;
use support::{Maker, assertion, ordinary};
use tempfile::TempDir;
use translog::cosign::cosign;
use translog::note::{Checkpoint, WitnessKey};

struct Desk {
    dir: TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{} {}", self.out, self.err))
    }

    fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn with(maker: &Maker) -> Self {
        let desk = Self::new();
        desk.publish("log", maker);
        desk
    }

    fn publish(&self, name: &str, maker: &Maker) {
        fs::create_dir(self.at(name)).unwrap();
        maker.publish(&self.at(name));
        fs::write(self.at("vkey"), format!("{}\n", maker.vkey())).unwrap();
    }

    /// The program in this directory, its words separated by blanks.
    fn audit(&self, words: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_citykeep-audit"));
        command.args(words.split(' ')).current_dir(self.dir.path()).output().unwrap().into()
    }

    /// What the script says that was written from the SPEC alone.
    fn script(&self, words: &str) -> Said {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/verify.py");
        let mut command = Command::new("python3");
        let command = command.arg("-I").arg(script).args(words.split(' '));
        command.current_dir(self.dir.path()).output().unwrap().into()
    }

    fn good(&self, words: &str) -> Said {
        let said = self.audit(words);
        assert_eq!(said.code, 0, "{words}: {} {}", said.out, said.err);
        said
    }

    fn bad(&self, words: &str, code: i32, needle: &str) -> Said {
        let said = self.audit(words);
        assert!(
            said.code == code && said.err.contains(needle),
            "{words}: {} {} {}",
            said.code,
            said.out,
            said.err
        );
        said
    }
}

fn witness(number: u8) -> (SigningKey, WitnessKey) {
    let key = SigningKey::from_bytes(&[number; 32]);
    let public = WitnessKey::new(&format!("w{number}.example/w"), key.verifying_key().to_bytes());
    (key, public)
}

fn cosignature(maker: &Maker, number: u8, time: u64) -> String {
    let head = Checkpoint {
        origin: support::ORIGIN.into(),
        size: maker.frontier.size(),
        root: maker.frontier.root(),
    };
    let (key, public) = witness(number);
    cosign(&head, public.name(), &key, time)
}

/// Two of three witnesses.
fn policy(maker: &Maker) -> String {
    let witnesses: String = [1, 2, 3].map(|n| format!("witness w{n} {}\n", witness(n).1)).concat();
    format!("log {}\n{witnesses}group all 2 w1 w2 w3\nquorum all\n", maker.vkey())
}

#[test]
fn a_verdict_for_people_and_one_for_programs() {
    let desk = Desk::with(&ordinary(300));
    let said = desk.good("verify log --vkey vkey");
    for needle in ["日志有效", "300 entries", "asserted 296", "transit/purse/tac@01  active", "演练"] {
        assert!(said.out.contains(needle), "{needle}: {}", said.out);
    }
    let json = desk.good("verify log --vkey vkey --json").json();
    assert_eq!(
        (json["ok"].as_bool(), json["size"].as_u64(), json["boots"].as_u64()),
        (Some(true), Some(300), Some(2))
    );
    let bundle = desk.at("log/tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let json = desk.bad("verify log --vkey vkey --json", 1, "日志有误").json();
    assert_eq!(
        (json["error"]["file"].as_str(), json["error"]["index"].as_u64()),
        (Some("tile/entries/000"), Some(255))
    );
    desk.bad("verify nowhere --vkey vkey", 2, "no such log");
    desk.bad("verify log --vkey log/checkpoint", 2, "no vkey line");
    // Nothing of a log that is not good is printed, not even what comes before the place where it is not.
    desk.publish("late", &ordinary(300));
    let bundle = desk.at("late/tile/entries/001.p/44");
    let mut bytes = fs::read(&bundle).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&bundle, bytes).unwrap();
    for (log, index) in [("log", "255"), ("late", "299")] {
        assert_eq!(desk.bad(&format!("show {log} --vkey vkey"), 1, index).out, "");
        assert_eq!(desk.bad(&format!("feed {log} --vkey vkey --cursor c --form json"), 1, index).out, "");
        desk.bad(&format!("report {log} --vkey vkey --out r.html"), 1, index);
        assert!(!desk.at("c").exists() && !desk.at("r.html").exists());
    }
}

#[test]
fn the_quorum_of_the_policy_or_none() {
    let maker = ordinary(20);
    let desk = Desk::with(&maker);
    fs::write(desk.at("policy"), policy(&maker)).unwrap();
    let note = fs::read_to_string(desk.at("log/checkpoint")).unwrap();
    let publish =
        |lines: &[String]| fs::write(desk.at("log/checkpoint"), note.clone() + &lines.concat()).unwrap();
    let line = |number, time| cosignature(&maker, number, time);
    let verify = "verify log --policy policy";
    let bad = |needle| {
        desk.bad(verify, 1, needle);
        let said = desk.script("log log --policy policy");
        assert_eq!((said.code, said.err.lines().count()), (1, 1), "{} {}", said.out, said.err);
    };
    bad("0 of 3 witnesses did (none)");
    publish(&[line(2, 1_700_000_100)]);
    bad("1 of 3 witnesses did (w2)");
    publish(&[line(2, 1_700_000_100), line(3, 1_700_000_200)]);
    let said = desk.script("log log --policy policy");
    assert_eq!(said.code, 0, "{}", said.err);
    let said = desk.good(verify);
    assert!(said.out.contains("w2 2023-11-14T22:15:00Z, w3 2023-11-14T22:16:40Z"), "{}", said.out);
    // What a policy does not name may not be there, and nobody counts twice.
    desk.bad("verify log --vkey vkey", 1, "not given");
    publish(&[line(2, 1), line(2, 2)]);
    bad("1 of 3 witnesses did (w2)");
    publish(&[line(2, 1), line(3, 2), line(2, 2)]);
    bad("two by one key");
    let (_, ours) = note.split_once("\n\n").unwrap();
    publish(&[line(2, 1), ours.to_owned(), line(3, 2)]);
    bad("two by one key");
    publish(&[line(1, 1), line(2, 2), line(4, 3)]);
    bad("not given");
    publish(&[line(1, 1), line(2, 2).replace(' ', "  ")]);
    bad("not a signed note");
    let mut other = ordinary(20);
    other.push(assertion(1));
    publish(&[line(1, 1), cosignature(&other, 2, 2)]);
    bad("checkpoint");
    publish(&[line(1, 1)]);
    let json = desk.good("follow log --policy policy --times 1 --json").lines();
    assert_eq!((json[0]["cosigned"].as_bool(), json[0]["tail"].as_u64()), (Some(false), Some(20)));
    // The key alone asks nobody, so nothing is said of a quorum.
    publish(&[]);
    for words in ["follow log --vkey vkey --times 1 --json", "verify log --vkey vkey --json"] {
        let json = desk.good(words).lines();
        assert!(json[0]["cosigned"].is_null() && json[0]["tail"].is_null(), "{words}: {}", json[0]);
    }
}

#[test]
fn who_did_what_with_which_key() {
    let desk = Desk::with(&ordinary(300));
    let shown = |more: &str| desk.good(format!("show log --vkey vkey --form json {more}").trim_end()).lines();
    assert_eq!(shown("").len(), 300);
    let kinds = shown("--kind command,boot");
    let indices: Vec<_> = kinds.iter().map(|row| row["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [1, 2, 4]);
    assert_eq!(kinds[0]["event"]["action"], "import-key");
    assert_eq!(kinds[0]["event"]["made"]["key"], "transit/purse/tac@01");
    assert_eq!(kinds[1]["actors"], serde_json::json!(["officer-1", "officer-2"]));
    assert_eq!(shown("--of-key purse/tac@01 --actor officer-2").len(), 2);
    assert_eq!(shown("--actor nobody").len(), 0);
    assert_eq!(shown("--actor desk-1").len(), 296);
    // The log's clock begins at 2023-11-14T22:13:20Z and goes a millisecond an entry.
    assert_eq!(shown("--from 2023-11-14T22:13:20.100Z --until 2023-11-14T22:13:20.200Z").len(), 100);
    for (form, needle) in [
        ("table", "import key"),
        ("ocsf", "\"class_uid\":3004"),
        ("cef", "CEF:0|citykeep|"),
        ("syslog", "citykeep@32473"),
    ] {
        let said = desk.good(&format!("show log --vkey vkey --kind command --form {form}"));
        assert_eq!((said.out.lines().count(), said.out.contains(needle)), (2, true), "{form}: {}", said.out);
    }
}

#[test]
fn the_state_of_every_key_at_any_entry() {
    let desk = Desk::with(&ordinary(20));
    let state = |at: &str| {
        let json = desk.good(&format!("keys log --vkey vkey --json{at}")).json();
        let key = json["keys"].get(0).cloned();
        key.map(|key| {
            (key["state"].as_str().unwrap().to_owned(), key["made"].as_u64(), key["changed"].as_u64())
        })
    };
    assert_eq!(state(" --at 0"), None);
    assert_eq!(state(" --at 1"), Some(("pre-active".into(), Some(1), Some(1))));
    assert_eq!(state(" --at 2"), Some(("active".into(), Some(1), Some(2))));
    assert_eq!(state(""), state(" --at 19"));
    desk.bad("keys log --vkey vkey --at 20", 2, "no entry 20");
}

#[test]
fn a_fork_is_named_at_its_first_differing_entry() {
    let desk = Desk::with(&ordinary(700));
    let longer = ordinary(1000);
    desk.publish("longer", &longer);
    let said = desk.good("diff log longer --vkey vkey");
    assert!(said.out.contains("300 entries more in B"), "{}", said.out);
    desk.good("diff log log --vkey vkey");
    for parts in [5_u64, 6, 255, 256, 257, 600, 699] {
        let mut fork = ordinary(parts);
        fork.push(assertion(99_999));
        while fork.frontier.size() < 800 {
            fork.push(assertion(fork.frontier.size()));
        }
        let name = format!("fork{parts}");
        desk.publish(&name, &fork);
        let json = desk.bad(&format!("diff log {name} --vkey vkey --json"), 1, "99999 times").json();
        assert_eq!(
            (json["error"]["kind"].as_str(), json["error"]["index"].as_u64()),
            (Some("fork"), Some(parts))
        );
    }
}

#[test]
fn follow_sees_growth_and_a_log_that_was_rewritten() {
    let desk = Desk::with(&ordinary(300));
    let mut command = Command::new(env!("CARGO_BIN_EXE_citykeep-audit"));
    command.args("follow log --vkey vkey --every 1 --json".split(' ')).current_dir(desk.dir.path());
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next =
        || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()["size"].as_u64();
    let replace = |maker: &Maker, name: &str| {
        desk.publish(name, maker);
        fs::rename(desk.at("log"), desk.at(&format!("{name}-old"))).unwrap();
        fs::rename(desk.at(name), desk.at("log")).unwrap();
    };
    assert_eq!(next(), Some(300));
    replace(&ordinary(600), "longer");
    assert_eq!(next(), Some(600));
    // The same log up to entry 400, and another one from there.
    let mut fork = ordinary(400);
    while fork.frontier.size() < 900 {
        fork.push(assertion(7));
    }
    replace(&fork, "fork");
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.code() == Some(1) && said.contains("日志有误"), "{said}");
}

#[test]
fn an_export_is_the_same_log_and_can_stand_in_for_what_was_pruned() {
    let maker = ordinary(600);
    let desk = Desk::with(&maker);
    let json = desk.good("export log --vkey vkey --out one.tar --json").json();
    desk.good("export log --vkey vkey --out two.tar");
    assert_eq!(fs::read(desk.at("one.tar")).unwrap(), fs::read(desk.at("two.tar")).unwrap());
    assert_eq!(json["sha256"].as_str().unwrap().len(), 64);
    desk.bad("export log --vkey vkey --out one.tar", 2, "overwrites nothing");
    let size = |log: &str| desk.good(&format!("verify {log} --vkey vkey --json")).json()["size"].as_u64();
    assert_eq!(size("one.tar"), Some(600));
    desk.good("diff log one.tar --vkey vkey");
    fs::remove_file(desk.at("log/tile/entries/000")).unwrap();
    fs::remove_file(desk.at("log/tile/0/000")).unwrap();
    desk.bad("verify log --vkey vkey", 1, "tile/entries/000): the file is missing");
    desk.good("verify log --vkey vkey --archive one.tar");
    // An export of something that is not good leaves no file.
    desk.bad("export log --vkey vkey --out three.tar", 1, "missing");
    assert!(!desk.at("three.tar").exists());
    let mut bytes = fs::read(desk.at("one.tar")).unwrap();
    let at = bytes.len() - 1024 - 40;
    bytes[at] ^= 1;
    fs::write(desk.at("bad.tar"), bytes).unwrap();
    assert_ne!(desk.audit("verify bad.tar --vkey vkey").code, 0);
}

#[test]
fn a_feed_goes_on_where_it_ended_and_never_in_another_log() {
    let desk = Desk::with(&ordinary(300));
    let fed = |log: &str| -> Vec<u64> {
        let lines = desk.good(&format!("feed {log} --vkey vkey --cursor c --form json")).lines();
        lines.iter().map(|row| row["index"].as_u64().unwrap()).collect()
    };
    assert_eq!(fed("log"), (0..300).collect::<Vec<_>>());
    assert_eq!(fed("log"), Vec::<u64>::new());
    desk.publish("longer", &ordinary(310));
    assert_eq!(fed("longer"), (300..310).collect::<Vec<_>>());
    let mut fork = ordinary(305);
    while fork.frontier.size() < 320 {
        fork.push(assertion(7));
    }
    desk.publish("fork", &fork);
    let said = desk.bad("feed fork --vkey vkey --cursor c", 1, "another log, or it forked");
    assert_eq!(said.out, "");
    // Cut back behind the cursor, by one entry and by many.
    for size in [309, 20] {
        desk.publish(&format!("cut-{size}"), &ordinary(size));
        let said = desk.bad(&format!("feed cut-{size} --vkey vkey --cursor c"), 1, "it was cut back");
        assert_eq!(said.out, "");
    }
    fs::write(desk.at("c"), "{}").unwrap();
    desk.bad("feed log --vkey vkey --cursor c", 2, "no cursor");
}

#[test]
fn the_report_says_what_happened_and_to_whom() {
    let mut maker = ordinary(12);
    let mut late = maker.entry(assertion(3));
    late.wall_ns += 5_000_000_000;
    maker.push_bytes(wire::cbor::Cbor::to_cbor(&late));
    let desk = Desk::with(&maker);
    let json = desk.good("report log --vkey vkey --out report.html --json").json();
    assert_eq!(
        (json["privileged"].as_u64(), json["gaps"].as_u64(), json["clock_steps"].as_u64()),
        (Some(4), Some(1), Some(1))
    );
    let page = fs::read_to_string(desk.at("report.html")).unwrap();
    for needle in [
        "<!DOCTYPE html>",
        "密钥服务审计报告",
        "officer-1, officer-2",
        "transit/purse/tac@01",
        "KCV <code>010203</code>",
        "+5000",
        "模块停机后重启",
        "<svg",
        "What no log can show",
    ] {
        assert!(page.contains(needle), "{needle}");
    }
    // It needs nothing else: no script, no link, no image from anywhere.
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
}

/// Serves files of `root` until it is dropped with the test.
fn serve(root: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/log", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let root = root.clone();
            std::thread::spawn(move || answer(stream, &root));
        }
    });
    url
}

fn answer(mut stream: std::net::TcpStream, root: &Path) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    loop {
        let first = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        let name = first.split(' ').nth(1)?.strip_prefix("/v1/log/")?;
        let (status, body) =
            fs::read(root.join(name)).map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n").ok()?;
        stream.write_all(&body).ok()?;
    }
}

#[test]
fn a_log_behind_a_url() {
    let desk = Desk::with(&ordinary(600));
    let url = serve(desk.at("log"));
    assert_eq!(desk.good(&format!("verify {url} --vkey vkey --json")).json()["size"].as_u64(), Some(600));
    desk.good(&format!("export {url} --vkey vkey --out o.tar"));
    desk.good(&format!("diff {url} o.tar --vkey vkey"));
    let said = desk.bad("verify http://127.0.0.1:1/v1/log --vkey vkey", 1, "nothing is known of it");
    assert!(!said.err.contains("日志有误"), "{}", said.err);
    fs::write(desk.at("log/tile/0/001"), [0; 8192]).unwrap();
    desk.bad(&format!("verify {url} --vkey vkey"), 1, "tile/0/001");
}
