//! The built command, as an officer uses it without a module: exit codes, files, questions.

#![allow(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "this file is a test")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const INSTANCE: &str = r#"{
  "format": "citykeep instance v1",
  "rehearsal": true,
  "instance": "F5B973602136D7C49581A3175D8698BC",
  "node": "F5D93EABA988D3380079A8F24174A6B2",
  "origin": "weihai.example/citykeep",
  "vkey": "weihai.example/citykeep+d242a5c3+AVKByM77o9tkaDUFqsRwIgTayXVOgbR9OVMteGOlexiE",
  "identity": "036E45295E81C13D5CD007A74DC9CF9D9F75C6E3E21F5E71CC7C59253ECEA7E347",
  "certificate": "04604B7B729B350794048AEE1D369362E20152A04E040803FC1E1551068F5484",
  "officer_epoch": 1
}
"#;

fn run(dir: &Path, arguments: &[&str], answers: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_keyceremony"))
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that asks nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn secret(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn officer(dir: &Path, name: &str) {
    secret(dir, &format!("{name}.phrase"), &format!("the unrelated words of {name}\n"));
    let (key, phrase) = (format!("{name}.key"), format!("{name}.phrase"));
    let made = run(
        dir,
        &[
            "keygen",
            "--rehearsal",
            "--role",
            "officer",
            "--name",
            name,
            "--out",
            &key,
            "--passphrase-file",
            &phrase,
        ],
        "",
    );
    assert_eq!(code(&made), 0, "{}", shown(&made));
}

fn approve(dir: &Path, name: &str, answers: &str) -> Output {
    let (key, phrase) = (format!("{name}.key"), format!("{name}.phrase"));
    run(dir, &["approve", "stop.cmd", "--key", &key, "--passphrase-file", &phrase], answers)
}

#[test]
fn a_command_goes_from_hand_to_hand() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("instance.json"), INSTANCE).unwrap();
    officer(dir, "li");
    officer(dir, "wang");
    let propose = [
        "propose",
        "--instance",
        "instance.json",
        "--proposer",
        "li",
        "--at-size",
        "41",
        "--out",
        "stop.cmd",
        "suspend",
        "transit/purse/tac@02",
    ];
    assert_eq!(code(&run(dir, &propose, "")), 0);
    assert_eq!(code(&run(dir, &propose, "")), 1, "a command file is never overwritten");

    let refused = approve(dir, "li", "no\n");
    assert_eq!(code(&refused), 1);
    assert!(shown(&refused).contains("nothing was signed"), "{}", shown(&refused));
    let silent = approve(dir, "li", "");
    assert_eq!(code(&silent), 1);

    for name in ["li", "wang"] {
        let approved = approve(dir, name, "是\n");
        assert_eq!(code(&approved), 0, "{}", shown(&approved));
        assert_eq!(shown(&approved).matches("do you approve?").count(), 1);
    }
    assert_eq!(code(&approve(dir, "li", "yes\n")), 1, "twice the same");

    let what = shown(&run(dir, &["show", "stop.cmd"], ""));
    for part in [
        "set key transit/purse/tac@02 to suspended",
        "entries 41 to",
        "signed      li",
        "signed      wang",
        "转为",
    ] {
        assert!(what.contains(part), "{part}: {what}");
    }
}

#[test]
fn refusals_and_wrong_usage_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(code(&run(dir, &["--help"], "")), 0);
    assert_eq!(code(&run(dir, &["keygen", "--passphrase", "x"], "")), 2);
    let absent = run(dir, &["status", "--officers-socket", "nowhere.sock"], "");
    assert_eq!(code(&absent), 1);
    assert!(
        shown(&absent).contains("citykeep-hsm") && shown(&absent).contains("请确认"),
        "{}",
        shown(&absent)
    );
    secret(dir, "li.phrase", "the unrelated words of li\n");
    fs::set_permissions(dir.join("li.phrase"), fs::Permissions::from_mode(0o640)).unwrap();
    let open = run(
        dir,
        &["keygen", "--role", "officer", "--name", "li", "--out", "li.key", "--passphrase-file", "li.phrase"],
        "",
    );
    assert_eq!(code(&open), 1);
    assert!(shown(&open).contains("chmod 600") && !dir.join("li.key").exists(), "{}", shown(&open));
}
