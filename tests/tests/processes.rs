//! The two processes themselves: what they may ask the kernel, what their memory shows, what a kill leaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::Read;
use std::process::Command;
use std::time::Duration;

use system_tests::house::{Daemon, House, Places, fixture, must, program, run};
use system_tests::scan::{forms, scan};
use system_tests::socket::status;
use wire::frame::ModuleState;

/// The key of a version of the fixture, from its components.
fn fixture_key(version: &str) -> [u8; 16] {
    let keys: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(fixture("keys.json")).unwrap()).unwrap();
    let versions = keys["versions"].as_array().unwrap();
    let version = versions.iter().find(|row| row["version"] == version).unwrap();
    let mut key = [0; 16];
    for component in version["components"].as_array().unwrap() {
        let part: [u8; 16] = wire::purse::hex(component["hex"].as_str().unwrap().as_bytes()).unwrap();
        key.iter_mut().zip(part).for_each(|(to, from)| *to ^= from);
    }
    key
}

fn imported() -> Vec<(String, Vec<u8>)> {
    ["01", "02", "41", "42"].iter().flat_map(|version| forms(version, &fixture_key(version))).collect()
}

#[test]
fn no_readable_page_of_either_process_shows_an_imported_key() {
    let house = House::new();
    let places = house.places();
    must(&mut places.clear(&house.url, &fixture("day.txt")));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(
        status(&places.at("run/keyd.sock")).memory,
        "memfd_secret",
        "this machine has it; without it this test says nothing"
    );
    for pid in [house.hsm.id(), house.keyd.id()] {
        let seen = scan(pid, &imported());
        assert!(seen.read > 1 << 20, "the scan read something: {}", seen.read);
        assert!(seen.hits.is_empty(), "{:?}", seen.hits);
    }
    assert!(scan(house.hsm.id(), &imported()).closed >= 10, "the arena and the stacks cannot be read");
}

/// The red control: with mlock, root does find the keys, so the scan above can fail.
#[test]
fn with_mlock_the_same_scan_finds_the_keys() {
    let dir = tempfile::Builder::new().prefix("ck").tempdir().unwrap();
    let places = Places(dir.path().to_owned());
    places.prepare();
    let hsm = places.start_hsm(&["--memory", "mlock"]);
    let keyd = places.start_keyd();
    let said = places.rehearse(&fixture("keys.json"));
    assert!(said.ok, "{}{}", said.out, said.err);
    keyd.ready();
    assert_eq!(status(&places.at("run/keyd.sock")).memory, "mlock");
    let seen = scan(hsm.id(), &imported());
    for version in ["01 raw", "02 raw", "41 raw", "42 raw"] {
        assert!(seen.hits.iter().any(|hit| hit.pattern == version), "{version} {:?}", seen.hits);
    }
    assert!(scan(keyd.id(), &imported()).hits.is_empty(), "keyd never has a key");
}

#[test]
fn the_module_opens_connects_and_executes_nothing_once_it_is_ready() {
    let house = House::new();
    let places = house.places();
    let trace = places.at("out/trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(&trace).args(["-p", &house.hsm.id().to_string()]);
    let mut strace = Daemon::start(&mut strace, &places.at("out/strace.err"));
    std::thread::sleep(Duration::from_millis(800));
    must(&mut places.clear(&house.url, &fixture("day.txt")));
    must(program("keyceremony").arg("status").arg("--officers-socket").arg(places.at("run/officers.sock")));
    strace.stop();
    let text = fs::read_to_string(&trace).unwrap();
    let mut calls = std::collections::BTreeSet::new();
    for line in text.lines() {
        let call = line.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
        if let Some((name, _)) = call.split_once('(') {
            calls.insert(name.to_owned());
        }
    }
    assert!(calls.contains("accept4") && calls.contains("futex"), "strace saw the module at work: {calls:?}");
    let forbidden = [
        "open", "openat", "openat2", "connect", "execve", "execveat", "socket", "ptrace", "clone", "clone3",
        "fork", "mprotect",
    ];
    for name in forbidden {
        assert!(!calls.contains(name), "{name} in {calls:?}");
    }
    assert!(calls.len() <= 30, "{calls:?}");
}

/// 8 MiB of lockable memory are an ordinary user's default; the module must not need more, nor any right of root's.
#[test]
fn the_module_runs_as_an_ordinary_user_within_8_mib_of_locked_memory() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: every other test runs the module as an ordinary user already");
        return;
    }
    let dir = tempfile::Builder::new().prefix("ck").tempdir().unwrap();
    let places = Places(dir.path().to_owned());
    fs::set_permissions(&places.0, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = places.at("citykeep-hsm");
    fs::copy(places.hsm_command().get_program(), &program).unwrap();
    fs::create_dir(places.at("own")).unwrap();
    std::os::unix::fs::chown(places.at("own"), Some(65534), Some(65534)).unwrap();
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
        command.args(["prlimit", "--memlock=8388608:8388608"]).arg(&program);
        command
    };
    must(as_nobody().args(["identity", "--new"]).arg(places.at("own/identity")));
    let mut command = as_nobody();
    command.arg("run").arg("--identity").arg(places.at("own/identity"));
    command.arg("--keyd-socket").arg(places.at("own/keyd.sock"));
    command.arg("--officers-socket").arg(places.at("own/officers.sock"));
    let hsm = Daemon::start(&mut command, &places.at("hsm.err"));
    let ready = hsm.ready();
    assert!(ready.ends_with("memory=memfd_secret"), "{ready}");
    // Root is not the module's user and not in its list: the connection is closed without a word.
    let mut stream = std::os::unix::net::UnixStream::connect(places.at("own/keyd.sock")).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_second_module_and_a_second_keyd_are_refused() {
    let house = House::new();
    let places = house.places();
    let second = run(&mut places.hsm_command());
    assert!(!second.ok && second.err.contains("stop it first"), "{}", second.err);
    let mut second = program("citykeep-keyd");
    let second = run(second.arg("run").arg("--config").arg(places.at("keyd.toml")));
    assert!(!second.ok && second.err.len() > 20, "{}", second.err);
    must(&mut places.clear(&house.url, &fixture("day.txt")));
}

#[test]
fn a_module_that_dies_in_the_middle_of_a_day_leaves_no_verdict_and_no_receipt() {
    let mut house = House::new();
    let places = house.places();
    let day = fs::read(fixture("day.txt")).unwrap();
    let long = places.at("out/long.txt");
    fs::write(&long, day.repeat(60)).unwrap();
    fs::write(places.at("out/verdicts.csv"), "line,verdict\n1,ok\n").unwrap();
    let mut client = Daemon::start(&mut places.clear(&house.url, &long), &places.at("out/client.err"));
    std::thread::sleep(Duration::from_millis(400));
    assert!(client.wait(Duration::ZERO).is_none(), "the day is still under way");
    house.hsm.kill();
    assert_eq!(client.wait(Duration::from_secs(30)), Some(false), "{}", client.said());
    assert!(!places.at("out/verdicts.csv").exists(), "an old file would be taken for a result");
    assert!(!places.at("out/receipt.json").exists());
    assert_eq!(house.keyd.wait(Duration::from_secs(20)), Some(false), "keyd stops with its module");
    assert!(house.keyd.said().contains("module"), "{}", house.keyd.said());
    house.start_again();
    must(&mut places.clear(&house.url, &fixture("day.txt")));
    assert!(places.audit().ok);
}

#[test]
fn kill_9_at_any_moment_loses_nothing_that_was_acknowledged() {
    let mut house = House::new();
    let places = house.places();
    let mut acknowledged = 0;
    for round in 0..6 {
        // keyd dies under load, the module lives; then both die.
        let mut client =
            Daemon::start(&mut places.clear(&house.url, &fixture("day.txt")), &places.at("out/client.err"));
        std::thread::sleep(Duration::from_millis(40 + 90 * round));
        house.keyd.kill();
        let finished = client.wait(Duration::from_mins(1)).unwrap_or(false);
        let receipt = places.at("out/receipt.json");
        assert_eq!(finished, receipt.exists(), "a receipt if and only if the client said so");
        if finished {
            let receipt: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(&receipt).unwrap()).unwrap();
            acknowledged = receipt["indices"].as_array().unwrap().last().unwrap().as_u64().unwrap();
            fs::copy(places.at("out/receipt.json"), places.at("out/kept.json")).unwrap();
        }
        let _ = fs::remove_file(&receipt);
        if round % 2 == 0 {
            house.keyd = places.start_keyd();
            house.url = house.keyd.url();
            assert_eq!(status(&places.at("run/keyd.sock")).state, ModuleState::Operational);
        } else {
            house.hsm.kill();
            house.start_again();
        }
        house.wait_published(acknowledged + 1);
        let audit = places.audit();
        assert!(audit.ok, "round {round}: {}{}", audit.out, audit.err);
    }
    must(&mut places.clear(&house.url, &fixture("day.txt")));
    if places.at("out/kept.json").exists() {
        let mut command = program("citykeep");
        command.args(["receipt", "verify", "--receipt"]).arg(places.at("out/kept.json"));
        must(command.arg("--vkey").arg(places.at("log/vkey")));
    }
}

#[test]
fn kill_9_around_key_creation_leaves_whole_keys_or_none() {
    let dir = tempfile::Builder::new().prefix("ck").tempdir().unwrap();
    let places = Places(dir.path().to_owned());
    places.prepare();
    let mut survived = 0;
    for round in 0..5 {
        let mut hsm = places.start_hsm(&[]);
        let mut keyd = places.start_keyd();
        let mut rehearsal = program("keyceremony");
        rehearsal
            .arg("rehearse")
            .arg(system_tests::house::root().join("keyceremony/scripts/settlement-day.toml"));
        rehearsal.arg("--state").arg(&places.0).arg("--officers-socket").arg(places.at("run/officers.sock"));
        rehearsal.arg("--keys").arg(fixture("keys.json"));
        rehearsal.arg("--policy").arg(system_tests::house::root().join("policies/rehearsal.toml"));
        rehearsal.arg("--ca").arg(places.at("pki/ca.pem"));
        let mut rehearsal = Daemon::start(&mut rehearsal, &places.at("rehearsal.err"));
        // Before genesis, in genesis, between imports.
        let finished = rehearsal.wait(Duration::from_millis(150 + 350 * round));
        if finished == Some(true) {
            survived += 1;
        }
        keyd.kill();
        hsm.kill();
        rehearsal.kill();
    }
    let house_hsm = places.start_hsm(&[]);
    let keyd = places.start_keyd();
    let said = places.rehearse(&fixture("keys.json"));
    assert!(said.ok, "after {survived} whole rounds: {}\n{}\nkeyd: {}", said.out, said.err, keyd.said());
    let url = keyd.url();
    must(&mut places.clear(&url, &fixture("day.txt")));
    let expected = fs::read_to_string(fixture("expected.csv")).unwrap();
    assert_eq!(fs::read_to_string(places.at("out/verdicts.csv")).unwrap(), expected);
    assert!(house_hsm.id() > 0);
}
