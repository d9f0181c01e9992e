//! The auditor's machine against the live service, over mutual TLS with the auditor's certificate: growth and a restart are
//! good, and a log that was set back, or set back and made anew, is red to whoever has seen more of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use system_tests::house::{House, Said, fixture, must, program, run};
use tempfile::TempDir;

/// No look of a follower takes so long, on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// What an auditor has at home: his certificate, the service's CA bundle, the log's key.
struct Desk {
    dir: TempDir,
    log: String,
}

impl Desk {
    fn new(house: &House) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["pki/ca.pem", "pki/auditor.pem", "pki/auditor.key", "log/vkey"] {
            let from = house.places().at(name);
            fs::copy(&from, dir.path().join(from.file_name().unwrap())).unwrap();
        }
        Self { dir, log: format!("{}/v1/log", house.url) }
    }

    /// `citykeep-audit VERB LOG…` as the auditor.
    fn audit(&self, verb: &str, more: &[&str]) -> Command {
        let mut command = program("citykeep-audit");
        command.arg(verb).args(more).args(["--vkey", "vkey", "--ca", "ca.pem"]);
        command.args(["--cert", "auditor.pem", "--key", "auditor.key"]).current_dir(self.dir.path());
        command
    }

    fn verify(&self) -> Said {
        run(&mut self.audit("verify", &[&self.log, "--json"]))
    }

    fn follow(&self) -> Follower {
        let errors = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap().into_temp_path();
        let mut command = self.audit("follow", &[&self.log, "--every", "1", "--json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(&errors).unwrap());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Follower { child, lines, errors }
    }
}

/// `citykeep-audit follow`, running.
struct Follower {
    child: Child,
    lines: Receiver<String>,
    errors: tempfile::TempPath,
}

impl Follower {
    /// What it says next; `None` when it has ended.
    fn next(&mut self) -> Option<Value> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(serde_json::from_str(&line).unwrap()),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it follows on and has nothing to say"),
        }
    }

    /// Reads on until it has said that the log is good up to here.
    fn sees(&mut self, size: u64) {
        while let Some(said) = self.next() {
            assert_eq!(said["ok"], true, "{said}");
            if said["size"].as_u64().unwrap() >= size {
                return;
            }
        }
        panic!("it ended before {size}: {}", self.error());
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), signal).unwrap();
    }

    /// It ends by itself, with exit code 1, because the log is not good; what it says of it.
    fn ends_red(mut self) -> String {
        let until = Instant::now() + PATIENCE;
        let mut last = None;
        // A log that goes on growing under it must not keep this test waiting.
        while let Some(said) = self.next() {
            assert!(Instant::now() < until, "it still calls the log good: {said}");
            last = Some(said);
        }
        assert_eq!(self.child.wait().unwrap().code(), Some(1), "{}", self.error());
        let said = last.unwrap();
        assert_eq!(
            (&said["ok"], &said["error"]["kind"]),
            (&Value::Bool(false), &Value::from("log")),
            "{said}"
        );
        said["error"]["message"].as_str().unwrap().to_owned()
    }

    fn error(&self) -> String {
        fs::read_to_string(&self.errors).unwrap()
    }

    /// Waits until it has found the service gone once more: from then on it knows what it saw by heart only.
    fn misses_the_service(&self) {
        let missed = || self.error().matches("nothing is known of it").count();
        let (before, until) = (missed(), Instant::now() + PATIENCE);
        while missed() == before {
            assert!(Instant::now() < until, "it does not miss the service: {}", self.error());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    must(Command::new("cp").arg("-a").arg(from.join(".")).arg(to));
}

/// A day is settled and published; how long the log is then.
fn day(house: &House) -> u64 {
    let places = house.places();
    must(&mut places.clear(&house.url, &fixture("day.txt")));
    let receipt: Value =
        serde_json::from_str(&fs::read_to_string(places.at("out/receipt.json")).unwrap()).unwrap();
    house.wait_published(receipt["indices"].as_array().unwrap().last().unwrap().as_u64().unwrap() + 1);
    published(house)
}

fn published(house: &House) -> u64 {
    let text = fs::read_to_string(house.places().at("log/checkpoint")).unwrap();
    text.lines().nth(1).unwrap().parse().unwrap()
}

/// Both programs again on what lies there, as an operator would start them; the configuration stays as it is.
fn start_again(house: &mut House) {
    let places = house.places();
    house.hsm.kill();
    house.keyd.kill();
    house.hsm = places.start_hsm(&[]);
    house.keyd = places.start_keyd();
    let said = places.rehearse(&fixture("keys.json"));
    assert!(said.ok, "{}\n{}\nkeyd: {}", said.out, said.err, house.keyd.said());
    house.url = house.keyd.url();
}

/// A house at a URL that stays the same, and a copy of its whole machine from after the first day.
fn house_with_backup() -> (House, TempDir) {
    let mut house = House::new();
    let places = house.places();
    day(&house);
    assert!(house.keyd.stop(), "{}", house.keyd.said());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = fs::read_to_string(places.at("keyd.toml")).unwrap();
    fs::write(places.at("keyd.toml"), config.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))).unwrap();
    let backup = tempfile::tempdir().unwrap();
    copy(&places.0, backup.path());
    house.keyd = places.start_keyd();
    house.url = house.keyd.url();
    (house, backup)
}

#[test]
fn whoever_has_seen_more_of_a_log_sees_that_it_was_set_back_and_made_anew() {
    let (mut house, backup) = house_with_backup();
    let common = {
        let text = fs::read_to_string(backup.path().join("log/checkpoint")).unwrap();
        text.lines().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let desk = Desk::new(&house);
    let (mut awake, mut asleep) = (desk.follow(), desk.follow());
    // Growth, and a restart of the service that the followers live through.
    awake.sees(day(&house));
    start_again(&mut house);
    let third = [(); 3].map(|()| day(&house))[2];
    awake.sees(third);
    asleep.sees(third);
    asleep.signal(Signal::STOP);
    assert!(desk.verify().ok);
    must(&mut desk.audit("export", &[&desk.log, "--out", "seen.tar"]));
    must(&mut desk.audit("feed", &[&desk.log, "--cursor", "cursor"]));
    // The module has gone on meanwhile: heartbeats.
    let cursor: Value =
        serde_json::from_str(&fs::read_to_string(desk.dir.path().join("cursor")).unwrap()).unwrap();
    let seen = cursor["index"].as_u64().unwrap() + 1;
    let feed = |words: &str| {
        let said = run(&mut desk.audit("feed", &[&desk.log, "--cursor", "cursor"]));
        assert!(!said.ok && said.err.contains(words) && said.out.is_empty(), "{}{}", said.out, said.err);
    };

    // The machine's backup is put back, officers' and custodians' files with it: nobody in the house knows of the rest.
    house.hsm.kill();
    house.keyd.kill();
    for item in fs::read_dir(&house.dir).unwrap() {
        must(Command::new("rm").arg("-r").arg(item.unwrap().path()));
    }
    copy(backup.path(), house.dir.path());
    awake.misses_the_service();
    start_again(&mut house);
    assert!(published(&house) < seen);
    let said = awake.ends_red();
    assert!(said.contains("the log was cut back"), "{said}");
    feed("it was cut back");
    // Without memory and without witnesses there is nothing to see it by: that is what they are for.
    assert!(desk.verify().ok);

    // The house goes on until its log is as long as the one that was seen.
    while day(&house) <= seen {}
    assert!(desk.verify().ok);
    asleep.signal(Signal::CONT);
    asleep.ends_red();
    let diff = run(&mut desk.audit("diff", &["seen.tar", &desk.log, "--json"]));
    let said: Value = serde_json::from_str(&diff.out).unwrap();
    assert!(!diff.ok && said["error"]["kind"] == "fork", "{said}");
    assert_eq!(said["error"]["index"], common, "the first entry after the backup: {said}");
    feed("it forked");
}
