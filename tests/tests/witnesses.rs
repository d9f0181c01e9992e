//! Three witnesses as processes, quorum two: killed, slow, lying, set back; and what is published meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use system_tests::house::{Daemon, House, fixture, must, program, run};
use translog::policy::{Policy, Vouched};

/// A witness's places, and the process when it runs.
struct Stand {
    home: PathBuf,
    name: &'static str,
    vkey: String,
    /// Where keyd asks; the process takes this port again after a restart.
    port: u16,
    daemon: Option<Daemon>,
}

impl Stand {
    fn new(house: &House, name: &'static str) -> Self {
        let home = house.places().at(name);
        fs::create_dir_all(&home).unwrap();
        let key = home.join("witness.key");
        let mut command = program("citykeep-witness");
        let vkey =
            must(command.arg("key").arg("--new").arg(&key).arg("--name").arg(format!("{name}.example/1")));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = fs::read_to_string(house.places().at("log/vkey")).unwrap();
        let mirror =
            if name == "a" { "[log.mirror]\nfolder = \"mirror\"\nsource = \"../log\"\n" } else { "" };
        let config = format!(
            "key = \"witness.key\"\nstate_dir = \"state\"\nlisten = \"127.0.0.1:{port}\"\n[[log]]\nvkey = {:?}\n{mirror}",
            log.trim_end()
        );
        fs::write(home.join("witness.toml"), config).unwrap();
        let mut stand = Self { home, name, vkey: vkey.trim_end().to_owned(), port, daemon: None };
        let lost = stand.command("check-config");
        assert!(!run(&mut { lost }).ok, "before it has begun with the log");
        let origin = log.split('+').next().unwrap().to_owned();
        must(stand.command("begin").arg(origin));
        stand.start();
        stand
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = program("citykeep-witness");
        command.arg(verb).arg("--config").arg(self.home.join("witness.toml"));
        command
    }

    fn start(&mut self) {
        let daemon = Daemon::start(&mut self.command("run"), &self.home.join("witness.log"));
        daemon.ready();
        self.daemon = Some(daemon);
    }

    fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    /// Its newest cosigned note, as a monitor gets it.
    fn state(&self) -> PathBuf {
        let mut names = fs::read_dir(self.home.join("state")).unwrap().map(|item| item.unwrap().path());
        names.find(|path| path.extension().is_some_and(|extension| extension == "checkpoint")).unwrap()
    }

    fn size(&self) -> u64 {
        let note = fs::read_to_string(self.state()).unwrap();
        note.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(0)
    }
}

struct Trial {
    house: House,
    stands: Vec<Stand>,
    policy: Policy,
}

impl Trial {
    /// A house in service, then three witnesses, then keyd again with a policy that names them.
    fn new() -> Self {
        let mut house = House::new();
        let places = house.places();
        let stands: Vec<Stand> = ["a", "b", "c"].into_iter().map(|name| Stand::new(&house, name)).collect();
        let log = fs::read_to_string(places.at("log/vkey")).unwrap();
        let line = |stand: &Stand| {
            format!("witness {} {} http://127.0.0.1:{}\n", stand.name, stand.vkey, stand.port)
        };
        let lines: String = stands.iter().map(line).collect();
        let text = format!("log {log}{lines}group auditors 2 a b c\nquorum auditors\n");
        fs::write(places.at("tlog-policy"), &text).unwrap();
        let config = fs::read_to_string(places.at("keyd.toml")).unwrap();
        fs::write(places.at("keyd.toml"), format!("{config}[witnesses]\npolicy_file = \"tlog-policy\"\n"))
            .unwrap();
        assert!(house.keyd.stop());
        house.keyd = places.start_keyd();
        house.url = house.keyd.url();
        Self { house, stands, policy: Policy::parse(&text).unwrap() }
    }

    fn published(&self) -> Option<Vouched> {
        let text = fs::read_to_string(self.house.places().at("log/checkpoint")).ok()?;
        self.policy.open(&text).ok()
    }

    fn published_size(&self) -> u64 {
        let text = fs::read_to_string(self.house.places().at("log/checkpoint")).unwrap_or_default();
        text.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
    }

    /// A day is settled; the published log then ends behind it and is cosigned by the quorum.
    fn day(&self) -> u64 {
        must(&mut self.house.places().clear(&self.house.url, &fixture("day.txt")));
        let receipt = fs::read_to_string(self.house.places().at("out/receipt.json")).unwrap();
        let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
        let last = receipt["indices"].as_array().unwrap().last().unwrap().as_u64().unwrap();
        let cosigned = || self.published().is_some_and(|vouched| vouched.head.size > last);
        assert!(within(15, cosigned), "not cosigned up to {last}: {}", self.house.keyd.said());
        last
    }

    fn status(&self) -> serde_json::Value {
        let url = format!("{}/v1/status", self.house.url);
        serde_json::from_str(&self.house.places().curl("clearing", &[&url]).out).unwrap()
    }
}

impl Trial {
    /// Officers enrol the three, quorum two; checks go on for so many seconds without them.
    fn enrol(&self, grace: &str) {
        let mut words = vec!["set-witnesses", "--quorum", "2", "--grace", grace];
        self.stands.iter().for_each(|stand| words.extend(["--witness", &stand.vkey]));
        let said = self.house.places().decide("witnesses", &words);
        assert!(said.ok, "{}{}", said.out, said.err);
        let witnessed = || self.status()["witness"] == "witnessed";
        assert!(within(20, witnessed), "{} {}", self.status(), self.house.keyd.said());
    }

    fn clear(&self) -> system_tests::house::Said {
        run(&mut self.house.places().clear(&self.house.url, &fixture("day.txt")))
    }
}

fn within(seconds: u64, holds: impl Fn() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    holds()
}

#[test]
fn a_killed_witness_holds_nothing_up_and_catches_up_two_killed_ones_show() {
    let mut trial = Trial::new();
    let first = trial.day();
    assert!(within(10, || trial.stands.iter().all(|stand| stand.size() > first)), "all three saw it");
    trial.stands[2].kill();
    let second = trial.day();
    assert!(trial.stands[2].size() <= second);
    trial.stands[1].kill();
    // One is no quorum: the log is published without its lines, and says whose they are not.
    must(&mut trial.house.places().clear(&trial.house.url, &fixture("day.txt")));
    let size = trial.published_size();
    assert!(within(15, || trial.published_size() > size && trial.published().is_none()));
    let status = trial.status();
    let troubles: Vec<bool> =
        status["witnesses"].as_array().unwrap().iter().map(|row| row["trouble"].is_null()).collect();
    assert_eq!(troubles, [true, false, false], "{status}");
    trial.stands[1].start();
    trial.stands[2].start();
    assert!(within(45, || trial.published().is_some()), "{}", trial.house.keyd.said());
    let newest = trial.day();
    assert!(
        within(45, || trial.stands.iter().all(|stand| stand.size() > newest)),
        "caught up from where it was"
    );
    // The copy is the published log.
    let mirror = trial.stands[0].home.join("mirror/checkpoint");
    let published = trial.house.places().at("log/checkpoint");
    assert!(within(20, || fs::read(&mirror).ok() == fs::read(&published).ok()), "mirrored");
}

#[test]
fn a_witness_that_was_set_back_stops_and_says_how_to_go_on() {
    let mut trial = Trial::new();
    let first = trial.day();
    assert!(within(10, || trial.stands[2].size() > first));
    trial.stands[2].kill();
    let old = fs::read(trial.stands[2].state()).unwrap();
    trial.stands[2].start();
    let second = trial.day();
    assert!(within(45, || trial.stands[2].size() > second));
    trial.stands[2].kill();
    fs::write(trial.stands[2].state(), old).unwrap();
    trial.stands[2].start();
    // keyd remembers what it was given, and shows it.
    trial.day();
    let evidence = trial.stands[2].state().with_extension("set-back");
    assert!(within(45, || evidence.exists()), "{}", trial.house.keyd.said());
    let held = trial.stands[2].size();
    trial.day();
    assert_eq!(trial.stands[2].size(), held, "it cosigns nothing more");
    trial.stands[2].kill();
    let said = run(&mut trial.stands[2].command("run"));
    assert!(!said.ok && said.err.contains("was set back"), "{}", said.err);
    // What the sentence says.
    fs::rename(&evidence, trial.stands[2].state()).unwrap();
    trial.stands[2].start();
    let third = trial.day();
    assert!(within(60, || trial.stands[2].size() > third), "{}", trial.house.keyd.said());
}

/// Takes the third witness's port and does what it is told with each connection.
fn impostor(port: u16, act: impl Fn(TcpStream) + Send + 'static) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(act));
}

#[test]
fn a_slow_and_a_lying_witness_are_named_and_hold_nothing_up() {
    for lies in [false, true] {
        let mut trial = Trial::new();
        trial.day();
        trial.stands[2].kill();
        let stale = fs::read_to_string(trial.stands[2].state()).unwrap();
        let line = stale.lines().last().unwrap().to_owned();
        impostor(trial.stands[2].port, move |mut stream| {
            if !lies {
                std::thread::sleep(Duration::from_secs(30));
                return;
            }
            let _ = stream.read(&mut [0; 4096]);
            // Its own true signature, of another head.
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}\n", line.len() + 1);
        });
        trial.day();
        let trouble = || trial.status()["witnesses"][2]["trouble"].as_str().unwrap_or_default().to_owned();
        let word = if lies { "no cosignature of this head" } else { "no answer" };
        assert!(within(20, || trouble().contains(word)), "{}", trouble());
        // Without the good two, the liar alone carries nothing.
        trial.stands[1].kill();
        must(&mut trial.house.places().clear(&trial.house.url, &fixture("day.txt")));
        let size = trial.published_size();
        assert!(within(15, || trial.published_size() > size && trial.published().is_none()));
    }
}

#[test]
fn a_log_that_was_set_back_is_cosigned_by_nobody() {
    let mut trial = Trial::new();
    let places = trial.house.places();
    trial.house.hsm.kill();
    trial.house.keyd.kill();
    let copy = places.at("copy");
    must(Command::new("cp").arg("-a").arg(places.at("keyd")).arg(&copy));
    must(Command::new("cp").arg("-a").arg(places.at("log")).arg(places.at("copy-log")));
    // As it lies: `start_again` would write keyd's configuration anew, without witnesses.
    trial.house.hsm = places.start_hsm(&[]);
    trial.house.keyd = places.start_keyd();
    let said = places.rehearse(&fixture("keys.json"));
    assert!(said.ok, "{}{}", said.out, said.err);
    trial.house.url = trial.house.keyd.url();
    let newest = trial.day();
    assert!(within(15, || trial.stands.iter().all(|stand| stand.size() > newest)));
    trial.house.hsm.kill();
    trial.house.keyd.kill();
    for (from, to) in [("copy", "keyd"), ("copy-log", "log")] {
        fs::remove_dir_all(places.at(to)).unwrap();
        fs::rename(places.at(from), places.at(to)).unwrap();
    }
    let hsm = places.start_hsm(&[]);
    let keyd = places.start_keyd();
    assert!(within(20, || keyd.said().contains("this log was set back")), "{}", keyd.said());
    assert!(trial.published().is_none_or(|vouched| vouched.head.size <= newest));
    drop((hsm, keyd));
}

#[test]
fn checks_go_on_for_the_grace_then_stop_and_go_on_with_the_quorum() {
    let mut trial = Trial::new();
    trial.enrol("25");
    trial.day();
    trial.stands[1].kill();
    trial.stands[2].kill();
    assert!(trial.clear().ok, "an auditor's dead machine stops no bus");
    let stops = || !trial.clear().ok;
    assert!(within(60, stops), "{}", trial.status());
    let said = trial.clear();
    assert!(said.err.contains("unwitnessed") || said.out.contains("unwitnessed"), "{}{}", said.out, said.err);
    assert_eq!(trial.status()["witness"], "waiting");
    trial.stands[2].start();
    let goes_on = || trial.clear().ok;
    assert!(within(60, goes_on), "{} {}", trial.status(), trial.house.keyd.said());
}

#[test]
fn after_a_restart_nobody_is_served_before_the_quorum_has_seen_this_boot() {
    let mut trial = Trial::new();
    trial.enrol("86400");
    trial.day();
    trial.stands[1].kill();
    trial.stands[2].kill();
    let places = trial.house.places();
    trial.house.hsm.kill();
    trial.house.keyd.kill();
    trial.house.hsm = places.start_hsm(&[]);
    trial.house.keyd = places.start_keyd();
    // Custodians unseal and officers give the floor; what comes after that in a rehearsal needs the witnesses.
    let _ = places.rehearse(&fixture("keys.json"));
    assert_eq!(
        trial.house.keyd.try_ready(Duration::from_secs(8)),
        None,
        "the grace is for checks, not for starts"
    );
    assert!(trial.house.keyd.said().contains("witnesses' quorum"), "{}", trial.house.keyd.said());
    trial.stands[1].start();
    trial.house.url = trial.house.keyd.url();
    assert_eq!(trial.status()["witness"], "witnessed");
    trial.day();
}
