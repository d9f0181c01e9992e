use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wire::error::{Refusal, Refused};
use wire::key::KeyState;

use super::*;
use crate::fake::Fake;

mod later;

const KEYS: &str = r#"{"applet":"transit","key_set":"purse","role":"tac","level":"root",
    "levels":[{"source":"issuer_id","bytes":8},{"source":"asn_right8","bytes":8}],
    "versions":[{"version":"01","algorithm":"3des","kcv":"0B6170","components":[
        {"custodian":1,"hex":"6FA54E8F7AAB7F38EC4E3C0E08355202","kcv":"CC908E"},
        {"custodian":5,"hex":"00364a883786440973fb76db7a7fcf9a","kcv":"A8F373"}]}]}"#;

struct Table {
    dir: tempfile::TempDir,
    module: Fake,
    script: PathBuf,
}

impl Table {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let module = Fake::start(dir.path());
        for (name, text) in [("keys.json", KEYS), ("policy.toml", "format = 1\n"), ("ca.pem", "a CA\n")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/settlement-day.toml");
        Self { dir, module, script }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn play(&self, answers: &str) -> (Result<Summary, Failure>, String) {
        let options = Options {
            script: self.script.clone(),
            state: self.path().to_owned(),
            log: self.path().join("log"),
            socket: self.module.socket.clone(),
            keys: self.path().join("keys.json"),
            masters: None,
            ledger: None,
            policy: self.path().join("policy.toml"),
            ca: self.path().join("ca.pem"),
            agreeing: false,
            patience: Duration::from_millis(300),
        };
        let mut shown = Vec::new();
        let answers = answers.repeat(2000);
        let outcome = run(options, answers.as_bytes(), &mut shown, true);
        (outcome, String::from_utf8(shown).unwrap())
    }

    fn transcript(&self) -> String {
        fs::read_to_string(self.path().join("transcript.txt")).unwrap()
    }

    fn key_state(&self) -> Option<KeyState> {
        let key = crate::propose::key_id("transit/purse/tac@01").unwrap();
        self.module.lock().log().key(&key).map(|entry| entry.state)
    }
}

#[test]
fn the_first_run_makes_an_instance_in_the_order_of_a_ceremony() {
    let table = Table::new();
    let (outcome, shown) = table.play("yes\n");
    let summary = serde_json::to_value(outcome.unwrap()).unwrap();
    let expected = [
        "abort",
        "genesis",
        "prove",
        "prove",
        "prove",
        "prove",
        "prove",
        "genesis-finish",
        "command",
        "component",
        "component",
        "command",
    ];
    // What follows the first key is one command after the other: 52 keys made and activated, three profiles, three licences.
    let asked = table.module.lock().asked.clone();
    let (ceremony, commands) = asked.split_at(expected.len());
    assert_eq!(ceremony, expected);
    assert!(commands.len() == 2 * 52 + 3 + 3 && commands.iter().all(|asked| *asked == "command"));
    assert_eq!(summary["licences"].as_array().unwrap().len(), 3);
    assert_eq!(table.key_state(), Some(KeyState::Active));
    assert_eq!(summary["rehearsal"], true);
    let keys = summary["keys"].as_array().unwrap();
    let tac = keys.iter().find(|key| key["id"] == "transit/purse/tac@01").unwrap();
    assert_eq!(tac["kcv"], "0B6170");
    assert_eq!(summary["head"]["size"], table.module.lock().head().0.size);
    assert_eq!(summary["steps"].as_array().unwrap().len(), 12);
    assert_eq!(shown, table.transcript(), "what was said is what was written");
    // All three sign the genesis, two of three everything else.
    for (officer, times) in [("officer-1", 113), ("officer-2", 113), ("officer-3", 1)] {
        assert_eq!(shown.matches(&format!("{officer}, do you approve?")).count(), times, "{officer}");
    }
    for part in ["REHEARSAL 演练", "[1/12]", "[12/12]", "0B6170", "log head", "vkey"] {
        assert!(shown.contains(part), "{part}");
    }
}

#[test]
fn the_transcript_holds_no_secret_and_secret_files_are_private() {
    let table = Table::new();
    table.play("yes\n").0.unwrap();
    let ceremony = table.path().join("ceremony");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&ceremony), 0o700);
    let passphrases = ceremony.join("passphrases");
    for path in
        [&passphrases, &ceremony.join("officers/officer-1.key"), &ceremony.join("shares/custodian-3.share")]
    {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
    let said = table.transcript().to_uppercase();
    let text = fs::read_to_string(passphrases).unwrap();
    assert!(text.starts_with("# REHEARSAL"));
    for line in text.lines().skip(1) {
        let phrase = line.split_once(": ").unwrap().1.to_uppercase();
        assert!(!said.contains(phrase.trim_start_matches("REHEARSAL-")), "a passphrase");
    }
    for component in ["6FA54E8F7AAB7F38", "00364A8837864409"] {
        assert!(!said.contains(component), "a component");
    }
}

#[test]
fn a_restart_is_unsealed_floored_and_goes_on() {
    let table = Table::new();
    table.play("yes\n").0.unwrap();
    let before = table.module.lock().head().0;
    table.module.restart();
    let (outcome, shown) = table.play("是\n");
    outcome.unwrap();
    assert_eq!(table.module.lock().asked, ["abort", "unseal", "unseal", "unseal", "floor"]);
    assert!(shown.contains(&format!("{} entries with root", before.size)), "{shown}");
    assert!(shown.contains("in the log already, active"));
    // And once more without a restart: nothing is left to do.
    table.module.lock().asked.clear();
    table.play("yes\n").0.unwrap();
    assert!(table.module.lock().asked.is_empty());
}

#[test]
fn a_wrong_component_names_its_custodian_and_the_next_run_goes_on() {
    let table = Table::new();
    table.module.lock().wrong_component = Some("custodian-5".into());
    let (outcome, shown) = table.play("yes\n");
    let failure = outcome.unwrap_err().to_string();
    assert!(failure.contains("[7/12] import-keys") && failure.contains("custodian-5"), "{failure}");
    assert!(shown.contains("FAILED") && table.transcript().contains("FAILED"));
    assert_eq!(table.module.lock().asked.last(), Some(&"abort"));
    assert_eq!(table.key_state(), None);
    table.module.lock().wrong_component = None;
    table.play("yes\n").0.unwrap();
    assert_eq!(table.key_state(), Some(KeyState::Active));
}

#[test]
fn an_interrupted_genesis_blocks_nothing() {
    let table = Table::new();
    table.module.lock().lose = Some("prove");
    assert!(table.play("yes\n").0.is_err());
    assert!(!table.path().join("ceremony").exists());
    table.play("yes\n").0.unwrap();
    assert!(table.path().join("ceremony/instance.json").exists());
    assert!(!table.path().join("ceremony.new").exists());
}

#[test]
fn a_genesis_that_was_complete_is_adopted() {
    for restarted in [false, true] {
        let table = Table::new();
        // The instance exists, but the answer that says so is lost.
        table.module.lock().lose = Some("genesis-finish");
        assert!(table.play("yes\n").0.is_err());
        if restarted {
            table.module.restart();
        }
        let (outcome, shown) = table.play("yes\n");
        outcome.unwrap();
        assert!(shown.contains("The interrupted genesis was complete"), "{shown}");
        assert_eq!(table.key_state(), Some(KeyState::Active));
        assert_eq!(table.module.lock().asked.contains(&"unseal"), restarted);
    }
}

#[test]
fn nobody_signs_when_somebody_says_no() {
    let table = Table::new();
    let failure = table.play("no\n").0.unwrap_err().to_string();
    assert!(failure.contains("[1/12] greet"), "{failure}");
    assert!(!table.module.lock().asked.contains(&"genesis"));
}

#[test]
fn another_key_under_an_old_version_number_is_refused() {
    let table = Table::new();
    table.play("yes\n").0.unwrap();
    fs::write(table.path().join("keys.json"), KEYS.replace("0B6170", "0B6171")).unwrap();
    let failure = table.play("yes\n").0.unwrap_err().to_string();
    for part in ["import-keys", "tac@01", "0B6170", "0B6171"] {
        assert!(failure.contains(part), "{part}: {failure}");
    }
    fs::write(table.path().join("keys.json"), KEYS.replace("3des", "sm4")).unwrap();
    assert!(table.play("yes\n").0.unwrap_err().to_string().contains("exists as 3des"));
}

#[test]
fn a_new_policy_file_is_approved_by_the_officers() {
    let table = Table::new();
    table.play("yes\n").0.unwrap();
    fs::write(table.path().join("policy.toml"), "format = 1 # newer\n").unwrap();
    table.play("yes\n").0.unwrap();
    let expected: Digest = Sha256::digest(b"format = 1 # newer\n").into();
    assert_eq!(table.module.lock().log().instance().unwrap().policy, expected);
}

#[test]
fn a_refused_recovery_ends_with_the_modules_sentence() {
    let table = Table::new();
    table.play("yes\n").0.unwrap();
    table.module.restart();
    table.module.lock().trouble =
        Some(Refused::new(Refusal::RecordOld, "the record of x is older than the log"));
    let failure = table.play("yes\n").0.unwrap_err().to_string();
    assert!(failure.contains("recover") && failure.contains("older than the log"), "{failure}");
}

#[test]
fn a_transcript_with_a_forged_head_gives_no_floor() {
    let table = Table::new();
    table.play("yes\n").0.unwrap();
    table.module.restart();
    let text = table.transcript();
    let size = table.module.lock().head().0.size;
    let forged = text.replace(&format!("\n| {size}\n"), "\n| 2\n");
    assert!(forged != text, "the forgery hit");
    fs::write(table.path().join("transcript.txt"), forged).unwrap();
    let failure = table.play("yes\n").0.unwrap_err().to_string();
    assert!(failure.contains("floor") && failure.contains("not signed"), "{failure}");
    assert!(!table.module.lock().asked.contains(&"floor"));
}

#[test]
fn an_impostor_gets_no_share() {
    let table = Table::new();
    table.play("yes\n").0.unwrap();
    table.module.restart();
    table.module.lock().identity = wire::seal::generate().unwrap();
    let failure = table.play("yes\n").0.unwrap_err().to_string();
    assert!(failure.contains("pinned at genesis"), "{failure}");
    assert!(!table.module.lock().asked.contains(&"unseal"));
}

#[test]
fn a_module_with_an_instance_of_somebody_else_is_left_alone() {
    let table = Table::new();
    table.play("yes\n").0.unwrap();
    fs::remove_dir_all(table.path().join("ceremony")).unwrap();
    table.module.lock().asked.clear();
    let failure = table.play("yes\n").0.unwrap_err().to_string();
    assert!(failure.contains("--state"), "{failure}");
    assert!(table.module.lock().asked.is_empty(), "not even an abort");
}

#[test]
fn a_restart_before_keyd_is_attached_costs_no_share() {
    let table = Table::new();
    table.module.lock().lose = Some("genesis-finish");
    assert!(table.play("yes\n").0.is_err());
    table.module.restart();
    table.module.lock().phase = ModuleState::Uninitialised;
    // The log is there, so the genesis is adopted; that keyd does not attach is said, and nothing is made anew.
    let failure = table.play("yes\n").0.unwrap_err().to_string();
    assert!(failure.contains("keyd is not attached"), "{failure}");
    assert!(table.module.lock().asked.is_empty());
    table.module.lock().phase = ModuleState::Sealed;
    table.play("yes\n").0.unwrap();
}

#[test]
fn shares_of_a_genesis_that_may_exist_are_put_aside() {
    let table = Table::new();
    table.module.lock().lose = Some("genesis-finish");
    assert!(table.play("yes\n").0.is_err());
    // Neither module nor log remember it.
    table.module.lock().forget();
    table.play("yes\n").0.unwrap();
    let aside = fs::read_dir(table.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("ceremony.abandoned-")
    });
    assert_eq!(aside.count(), 1);
}

#[test]
fn a_log_without_its_ceremony_is_left_alone() {
    let table = Table::new();
    table.play("yes\n").0.unwrap();
    fs::remove_dir_all(table.path().join("ceremony")).unwrap();
    table.module.restart();
    table.module.lock().phase = ModuleState::Uninitialised;
    let failure = table.play("yes\n").0.unwrap_err().to_string();
    assert!(failure.contains("restore the ceremony directory"), "{failure}");
    assert!(table.module.lock().asked.is_empty());
}

#[test]
fn without_any_head_the_genesis_itself_is_the_floor() {
    let table = Table::new();
    table.play("yes\n").0.unwrap();
    table.module.restart();
    fs::remove_file(table.path().join("transcript.txt")).unwrap();
    let (outcome, shown) = table.play("yes\n");
    outcome.unwrap();
    assert!(shown.contains("newest head 1 entries"), "{shown}");
}
