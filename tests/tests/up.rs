//! The newcomer's command, unattended, as it stands in README.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use system_tests::house::{Said, fixture, root, run};

fn up(state: &Path, keys: &Path, day: &Path) -> Said {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["xtask", "up", "--once", "--state"])
        .arg(state)
        .arg("--keys")
        .arg(keys)
        .arg("--day")
        .arg(day);
    command.arg("--verdicts").arg(state.join("OUT.csv")).arg("--json").arg(state.join("SUMMARY.json"));
    run(command.current_dir(root()))
}

#[test]
fn once_twice_and_with_a_wrong_digit() {
    let dir = tempfile::Builder::new().prefix("ck").tempdir().unwrap();
    let state = dir.path().join("state");
    let said = up(&state, &fixture("keys.json"), &fixture("day.txt"));
    assert!(said.ok, "{}\n{}", said.out, said.err);
    let expected = fs::read_to_string(fixture("expected.csv")).unwrap();
    assert_eq!(fs::read_to_string(state.join("OUT.csv")).unwrap(), expected);
    for file in ["log/checkpoint", "log/vkey", "log/tile", "out/receipt.json", "transcript.txt"] {
        assert!(state.join(file).exists(), "{file}");
    }
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(state.join("SUMMARY.json")).unwrap()).unwrap();
    assert_eq!(summary["instance"].as_str().map(str::len), Some(32), "{summary}");
    assert_eq!(summary["boot"].as_str().map(str::len), Some(32));
    assert_eq!(summary["memory"], "memfd_secret");
    assert_eq!(summary["counts"]["ok"], 19966, "{summary}");
    assert_eq!(summary["counts"]["bad_tac"], 60);
    assert!(summary["versions"].as_array().is_some_and(|rows| rows.len() >= 4), "{summary}");
    assert!(summary["seconds"]["total"].as_f64().is_some());
    let size = summary["log"]["size"].as_u64().unwrap();

    // A second run on the same directory unseals, floors, goes on.
    let said = up(&state, &fixture("keys.json"), &fixture("day.txt"));
    assert!(said.ok, "{}\n{}", said.out, said.err);
    assert_eq!(fs::read_to_string(state.join("OUT.csv")).unwrap(), expected);
    let again: Value =
        serde_json::from_str(&fs::read_to_string(state.join("SUMMARY.json")).unwrap()).unwrap();
    assert_eq!(again["instance"], summary["instance"]);
    assert_ne!(again["boot"], summary["boot"]);
    assert!(again["log"]["size"].as_u64().unwrap() > size);

    // One wrong digit in a component: no verdicts, and the message names the custodian.
    let keys = fs::read_to_string(fixture("keys.json")).unwrap();
    let wrong = keys.replace("B3D5467E5A91D80F6AAC489C15468ED4", "B3D5467E5A91D80F6AAC489C15468EC4");
    assert_ne!(wrong, keys);
    let file = dir.path().join("wrong.json");
    fs::write(&file, wrong).unwrap();
    let fresh = dir.path().join("fresh");
    let said = up(&fresh, &file, &fixture("day.txt"));
    assert!(!said.ok);
    assert!(said.err.contains("custodian-2") && said.err.contains("02"), "{}", said.err);
    assert!(!fresh.join("OUT.csv").exists() && !fresh.join("SUMMARY.json").exists());
    // Mended, the same directory goes on.
    let said = up(&fresh, &fixture("keys.json"), &fixture("day.txt"));
    assert!(said.ok, "{}\n{}", said.out, said.err);
}
