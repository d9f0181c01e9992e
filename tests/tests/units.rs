//! The units as data: what systemd says of their exposure, without a running systemd. Whether a daemon works inside its unit
//! needs a booted systemd and is not shown here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

use system_tests::house::{root, run};

/// The exposure score must be at most this many tenths.
fn exposed(unit: &std::path::Path, tenths: u32) -> bool {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", &format!("--threshold={tenths}")]);
    !run(analyze.arg(unit)).ok
}

#[test]
fn the_module_is_at_most_0_3_the_daemon_at_most_1_0_and_the_witness_at_most_1_5() {
    assert!(!exposed(&root().join("systemd/citykeep-hsm.service"), 3));
    assert!(!exposed(&root().join("systemd/citykeep-keyd.service"), 10));
    // It has a network of its own: the machine is the auditor's, and logs come from elsewhere.
    assert!(!exposed(&root().join("systemd/citykeep-witness.service"), 15));
    // A template is judged by an instance.
    let instances = tempfile::tempdir().unwrap();
    let way = instances.path().join("citykeep-way@auditor.service");
    std::fs::copy(root().join("systemd/citykeep-way@.service"), &way).unwrap();
    assert!(!exposed(&way, 15));
    // The red control: one protection less is noticed.
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join("systemd/citykeep-hsm.service")).unwrap();
    let weaker = text.replace("PrivateNetwork=yes\n", "").replace("NoNewPrivileges=yes\n", "");
    assert_ne!(weaker, text);
    let file = dir.path().join("citykeep-hsm.service");
    std::fs::write(&file, weaker).unwrap();
    assert!(exposed(&file, 3));
}
