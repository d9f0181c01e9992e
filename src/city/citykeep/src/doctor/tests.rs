use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use clap::Parser as _;

use super::*;

/// A configuration and its files, without any process.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        // Others may pass, so that each file is judged by its own mode.
        place.mode(".", 0o755);
        fs::write(
            place.at("keyd.toml"),
            "state_dir = \"keyd\"\nlog_dir = \"log\"\nhsm_socket = \"keyd.sock\"\npolicy_file = \"policy.toml\"\n[tls]\n\
             certificate = \"keyd.pem\"\nkey = \"keyd.key\"\nclient_ca = \"ca.pem\"\nclient_crl = \"crl.pem\"\n\
             server_name = \"localhost\"\n",
        )
        .unwrap();
        for (dir, mode) in [("keyd", 0o700), ("log", 0o750)] {
            fs::create_dir(place.at(dir)).unwrap();
            place.mode(dir, mode);
        }
        for (file, mode) in [
            ("policy.toml", 0o644),
            ("keyd.pem", 0o644),
            ("keyd.key", 0o600),
            ("ca.pem", 0o644),
            ("crl.pem", 0o644),
            ("keyd/wal", 0o600),
        ] {
            fs::write(place.at(file), "").unwrap();
            place.mode(file, mode);
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn house(&self) -> House {
        House::read(self.at("keyd.toml"), &mut Vec::new())
    }

    /// State of a check about files.
    fn state(&self, check: &str) -> State {
        files::check(&self.house()).into_iter().find(|finding| finding.check == check).unwrap().state
    }
}

#[test]
fn owners_and_modes() {
    let place = Place::new();
    let _socket = UnixListener::bind(place.at("keyd.sock")).unwrap();
    place.mode("keyd.sock", 0o600);
    for check in ["private-files", "public-files", "log-directory", "sockets"] {
        assert_eq!(place.state(check), State::Good, "{check}");
    }
    for (file, mode, check) in [
        ("keyd.key", 0o640, "private-files"),
        ("keyd.key", 0o604, "private-files"),
        ("keyd/wal", 0o644, "private-files"),
        ("keyd", 0o755, "private-files"),
        ("policy.toml", 0o666, "public-files"),
        ("keyd.toml", 0o646, "public-files"),
        ("log", 0o770, "log-directory"),
        ("keyd.sock", 0o660, "sockets"),
    ] {
        let before = fs::metadata(place.at(file)).unwrap().permissions().mode() & 0o777;
        place.mode(file, mode);
        assert_eq!(place.state(check), State::Bad, "{file} {mode:o}");
        place.mode(file, before);
        assert_eq!(place.state(check), State::Good, "{file} {before:o}");
    }
    place.mode("keyd.sock", 0o755);
    place.mode(".", 0o700);
    assert_eq!(place.state("sockets"), State::Good, "nobody else comes as far");
    fs::remove_file(place.at("keyd.sock")).unwrap();
    assert_eq!(place.state("sockets"), State::Bad);
    fs::remove_file(place.at("keyd.key")).unwrap();
    assert_eq!(place.state("private-files"), State::Bad);
}

#[test]
fn a_key_of_another_user() {
    let place = Place::new();
    let other = rustix::process::geteuid().as_raw() + 1;
    let house = House { user: Some(("keyd-of-old".to_owned(), other)), ..place.house() };
    let text: String = files::check(&house).iter().map(Finding::text).collect();
    assert!(text.contains("keyd works as keyd-of-old") && text.contains("run chown keyd-of-old"), "{text}");
}

#[test]
fn a_daemon_that_does_not_answer() {
    let place = Place::new();
    let [ca, cert, key] = ["ca.pem", "keyd.pem", "keyd.key"].map(|file| place.at(file).display().to_string());
    let words =
        ["citykeep", "doctor", "--url", "https://127.0.0.1:1", "--ca", &ca, "--cert", &cert, "--key", &key];
    let crate::cli::Command::Doctor(arguments) = crate::cli::Cli::parse_from(words).command else { panic!() };
    let findings = examine(&arguments, None, 1);
    let tls = findings.iter().find(|finding| finding.check == "tls").unwrap();
    assert_eq!(tls.state, State::Bad, "{}", tls.text());
    let report = summary(&findings);
    assert_eq!(report.get("ok"), Some(&serde_json::Value::Bool(false)));
    let states = report.get("checks").and_then(|all| all.as_array()).unwrap();
    assert_eq!(states.len(), findings.len());
}

#[test]
fn nothing_red_is_exit_code_zero() {
    let good = summary(&[Finding::good("a", "好", "good"), Finding::unchecked("b", "否", "no")]);
    assert_eq!(good.get("ok"), Some(&serde_json::Value::Bool(true)));
    let bad = summary(&[Finding::bad("a", ["错", "bad"], ["改", "mend"])]);
    assert_eq!(bad.get("ok"), Some(&serde_json::Value::Bool(false)));
    assert!(total(&[Finding::bad("a", ["错", "bad"], ["改", "mend"])]).contains("✗ 1"));
}

/// A published log as it lies in the repository.
fn golden(place: &Place) -> House {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/log/v1");
    let newest = "tile/entries/001.p";
    fs::create_dir_all(place.at("log").join(newest)).unwrap();
    for file in ["checkpoint", "vkey", &format!("{newest}/2")] {
        fs::copy(from.join(file), place.at("log").join(file)).unwrap();
    }
    place.house()
}

fn signed(house: &House, given: Option<&Path>) -> (State, String) {
    let found = log::signature(house, log::key(given, Some(house), None).as_ref()).unwrap();
    (found.state, found.text())
}

#[test]
fn a_log_that_was_not_signed_by_its_key() {
    let place = Place::new();
    assert_eq!(signed(&place.house(), None).0, State::Unchecked, "there is no log yet");
    let house = golden(&place);
    assert_eq!(signed(&house, None).0, State::Good);
    let (checkpoint, vkey) = (place.at("log/checkpoint"), place.at("log/vkey"));
    assert_eq!(signed(&house, Some(&vkey)).0, State::Good);
    assert_eq!(signed(&house, Some(&checkpoint)).0, State::Bad, "no vkey line");
    assert_eq!(signed(&house, Some(&place.at("nothing"))).0, State::Bad, "no such file");
    let good = fs::read_to_string(&checkpoint).unwrap();
    fs::write(&checkpoint, good.replace("\n258\n", "\n257\n")).unwrap();
    let (state, text) = signed(&house, None);
    assert!(state == State::Bad && text.contains("call the auditor"), "{text}");
    fs::write(&checkpoint, "").unwrap();
    assert_eq!(signed(&house, None).0, State::Bad);
    fs::write(&checkpoint, good).unwrap();
    fs::remove_file(&vkey).unwrap();
    assert_eq!(signed(&house, None).0, State::Unchecked, "nothing to check it with");
}

#[test]
fn a_log_from_the_future() {
    let place = Place::new();
    let state = |house: &House, now| clock::against_log(house, now).unwrap().state;
    assert_eq!(state(&place.house(), 1), State::Unchecked);
    let house = golden(&place);
    assert_eq!(state(&house, u64::MAX >> 1), State::Good);
    assert_eq!(state(&house, 1), State::Bad);
}

#[test]
fn a_log_that_is_no_longer_published() {
    let place = Place::new();
    let state = |house: &House, durable, now| log::age(house, durable, now).unwrap().state;
    assert_eq!(state(&place.house(), Some(1), 1), State::Unchecked);
    let house = golden(&place);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(state(&house, Some(258), now + 3600), State::Good);
    assert_eq!(state(&house, Some(259), now), State::Good, "it has a moment");
    assert_eq!(state(&house, Some(259), now + 3600), State::Bad);
    assert_eq!(state(&house, None, now), State::Unchecked);
}

#[test]
fn a_module_that_waits_for_its_witnesses_is_not_well() {
    let says = |state: &str, witness: &str| {
        let body = serde_json::json!({
            "state": state, "boot": "", "memory": "memfd_secret", "backend": "portable", "instance": null,
            "origin": null, "rehearsal": false, "log_size": 9, "witness": witness,
        });
        service::module(Some(&serde_json::from_value(body).unwrap())).state
    };
    assert_eq!(says("operational", "witnessed"), State::Good);
    assert_eq!(says("operational", "unwitnessed"), State::Good);
    assert_eq!(says("operational", "grace"), State::Warn);
    assert_eq!(says("operational", "waiting"), State::Bad);
    assert_eq!(says("sealed", "unwitnessed"), State::Bad);
}
