//! `citykeep doctor` on the installed system: it finds nothing wrong where nothing is, names each fault that is planted, and calls
//! nothing good that it was not allowed to see.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::System;

const PLAIN: &[&str] = &["citykeep", "doctor", "--json"];

/// What depends on the machine that the test runs on. None of it may be wrong.
const MACHINE: &[&str] = &["clock-sync", "disk-room", "disk-sync", "secret-memory", "swap"];

/// A fault: the check that must turn, into what, how it is planted and taken back. `$HSM` is the module's process.
type Fault = (&'static str, &'static str, &'static str, &'static str);

const FAULTS: &[Fault] = &[
    ("configuration", "bad", "echo 'colour = 1' >> /etc/citykeep/keyd.toml", "put /etc/citykeep/keyd.toml"),
    ("configuration", "bad", "echo nonsense >> /etc/citykeep/policy.toml", "put /etc/citykeep/policy.toml"),
    (
        "approved-files",
        "bad",
        "echo '# one more line' >> /etc/citykeep/policy.toml",
        "put /etc/citykeep/policy.toml",
    ),
    ("private-files", "bad", "chmod 640 /etc/citykeep/pki/keyd.key", "chmod 600 /etc/citykeep/pki/keyd.key"),
    (
        "private-files",
        "bad",
        "chown root /etc/citykeep/pki/keyd.key",
        "chown citykeep-keyd /etc/citykeep/pki/keyd.key",
    ),
    ("private-files", "bad", "chmod 755 /var/lib/citykeep-keyd", "chmod 700 /var/lib/citykeep-keyd"),
    ("public-files", "bad", "chmod o+w /etc/citykeep/pki/ca.pem", "chmod o-w /etc/citykeep/pki/ca.pem"),
    (
        "public-files",
        "bad",
        "chown officer /etc/citykeep/policy.toml",
        "chown root /etc/citykeep/policy.toml",
    ),
    ("log-directory", "bad", "chmod 770 /var/lib/citykeep-log", "chmod 750 /var/lib/citykeep-log"),
    ("sockets", "bad", "chmod 666 /run/citykeep-hsm/keyd.sock", "chmod 600 /run/citykeep-hsm/keyd.sock"),
    (
        "sockets",
        "bad",
        "chgrp citykeep-keyd /run/citykeep-hsm/officers.sock",
        "chgrp citykeep-officers /run/citykeep-hsm/officers.sock",
    ),
    ("sockets-answer", "bad", "kill -STOP $HSM", "kill -CONT $HSM"),
    (
        "identity",
        "bad",
        "chmod 644 /var/lib/citykeep-hsm/identity",
        "chmod 600 /var/lib/citykeep-hsm/identity",
    ),
    (
        "identity",
        "bad",
        "mv /var/lib/citykeep-hsm/identity /var/lib/citykeep-hsm/i",
        "mv /var/lib/citykeep-hsm/i /var/lib/citykeep-hsm/identity",
    ),
    (
        "accounts",
        "bad",
        "usermod -aG citykeep-officers citykeep-keyd",
        "gpasswd --delete citykeep-keyd citykeep-officers",
    ),
    ("crl", "bad", "cp /opt/pki/ca.pem /etc/citykeep/pki/crl.pem", "put /etc/citykeep/pki/crl.pem"),
    (
        "server-name",
        "bad",
        "cp /opt/pki/clearing.pem /etc/citykeep/pki/keyd.pem",
        "put /etc/citykeep/pki/keyd.pem",
    ),
    (
        "log-signature",
        "bad",
        "sed -i '2s/$/x/' /var/lib/citykeep-log/checkpoint",
        "sed -i '2s/x$//' /var/lib/citykeep-log/checkpoint",
    ),
    // As the user itself: root's right to it is not everywhere.
    (
        "locked-memory",
        "bad",
        "setpriv --reuid=citykeep-hsm --regid=citykeep-hsm --clear-groups prlimit --pid $HSM --memlock=65536:",
        "setpriv --reuid=citykeep-hsm --regid=citykeep-hsm --clear-groups prlimit --pid $HSM --memlock=8388608:",
    ),
    (
        "versions",
        "warning",
        "mv /usr/bin/citykeep-keyd /usr/bin/k; printf '#!/bin/sh\\necho citykeep-keyd 0.0.1\\n' > /usr/bin/citykeep-keyd; \
         chmod 755 /usr/bin/citykeep-keyd",
        "mv /usr/bin/k /usr/bin/citykeep-keyd",
    ),
];

/// Where units are in force.
const UNIT_FAULTS: &[Fault] = &[
    (
        "hardening",
        "bad",
        "mkdir /etc/systemd/system/citykeep-keyd.service.d; printf '[Service]\\nNoNewPrivileges=no\\n' > \
         /etc/systemd/system/citykeep-keyd.service.d/x.conf; systemctl daemon-reload",
        "rm -r /etc/systemd/system/citykeep-keyd.service.d; systemctl daemon-reload",
    ),
    (
        "units",
        "warning",
        "systemctl --quiet disable citykeep-keyd.socket",
        "systemctl --quiet enable citykeep-keyd.socket",
    ),
];

/// What a user without any rights must not hear called good.
const HIDDEN: &[&str] = &[
    "clock",
    "configuration",
    "identity",
    "log-signature",
    "module",
    "private-files",
    "running-release",
    "server-pair",
    "sockets-answer",
];

/// What doctor finds, told by `words`. The exit code must be what the findings say.
fn doctor(system: &dyn System, words: &[&str]) -> Result<Vec<Value>> {
    let output = system.inside(words).output().context("citykeep doctor")?;
    let said =
        || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).with_context(said)?;
    let ok = report.get("ok").and_then(Value::as_bool).with_context(said)?;
    ensure!(output.status.code() == Some(i32::from(!ok)), "exit code {:?} of {}", output.status, said());
    ensure!(!said().contains("PRIVATE"), "a secret in {}", said());
    report.get("checks").and_then(Value::as_array).cloned().with_context(said)
}

/// As root with the officers' group beside it, who sees everything.
fn all(system: &dyn System, further: &[&str]) -> Result<Vec<Value>> {
    doctor(system, &[&["setpriv", "--groups", "citykeep-officers"], PLAIN, further].concat())
}

fn field<'a>(finding: &'a Value, name: &str) -> &'a str {
    finding.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// State of a check; the worst where several lines are about it.
fn state<'a>(findings: &'a [Value], check: &str) -> &'a str {
    let mut of =
        findings.iter().filter(|finding| field(finding, "check") == check).map(|of| field(of, "state"));
    let states: Vec<&str> = of.by_ref().collect();
    ["bad", "warning", "not-checked", "good"]
        .into_iter()
        .find(|state| states.contains(state))
        .unwrap_or("missing")
}

/// An installation that works: every line good, but for what is the machine's or has no systemd here.
pub(super) fn healthy(system: &dyn System) -> Result<usize> {
    let url = system.url();
    let mut client = vec![
        "--config",
        "/etc/citykeep/keyd.toml",
        "--url",
        url.as_str(),
        "--vkey",
        "/var/lib/citykeep-log/vkey",
    ];
    client.extend([
        "--ca",
        "/opt/pki/ca.pem",
        "--cert",
        "/opt/pki/auditor.pem",
        "--key",
        "/opt/pki/auditor.key",
    ]);
    let findings = all(system, &client)?;
    let mut good = 0;
    for finding in &findings {
        let (check, state) = (field(finding, "check"), field(finding, "state"));
        let excused = MACHINE.contains(&check) || (check == "units" && !system.has_systemd());
        ensure!(
            state == "good" || (excused && state != "bad"),
            "of a good installation doctor says {finding}"
        );
        good += usize::from(state == "good");
    }
    // What was planted below must have been looked at above.
    let units: &[Fault] = if system.has_systemd() { UNIT_FAULTS } else { &[] };
    for (check, ..) in FAULTS.iter().chain(units) {
        ensure!(state(&findings, check) == "good", "{check} is not among what doctor found good");
    }
    Ok(good)
}

/// Plants every fault, and takes it back.
pub(super) fn faults(system: &dyn System) -> Result<usize> {
    let hsm = system.process("citykeep-hsm")?;
    let shell = |script: &str| {
        let put = "set -e; put() { cp -p /opt/saved/$(basename $1) $1; }";
        system.run(&["sh", "-c", &format!("{put}; HSM={hsm}; {script}")])
    };
    shell("mkdir -p /opt/saved; cp -p /etc/citykeep/*.toml /etc/citykeep/pki/*.pem /opt/saved")?;
    let units: &[Fault] = if system.has_systemd() { UNIT_FAULTS } else { &[] };
    let mut planted = 0;
    for (check, wanted, plant, take_back) in FAULTS.iter().chain(units) {
        shell(plant)?;
        let found = all(system, &[]);
        shell(take_back)?;
        let found = found?;
        ensure!(state(&found, check) == *wanted, "after `{plant}` {check} is {}", state(&found, check));
        let next = found.iter().find(|of| field(of, "check") == *check && field(of, "state") == *wanted);
        let next = next.and_then(|of| of.get("next"));
        ensure!(next.is_some_and(Value::is_object), "{check} does not say what to do next");
        let after = all(system, &[])?;
        ensure!(state(&after, check) == "good", "after `{take_back}` {check} is {}", state(&after, check));
        planted += 1;
    }
    Ok(planted)
}

/// A stranger learns little, is told so, and hears nothing called wrong that he only may not see.
pub(super) fn stranger(system: &dyn System) -> Result<()> {
    let findings = doctor(system, &[&["runuser", "-u", "nobody", "--"], PLAIN].concat())?;
    for finding in &findings {
        ensure!(field(finding, "state") != "bad", "a stranger is told {finding}");
    }
    for check in HIDDEN {
        ensure!(
            state(&findings, check) == "not-checked",
            "a stranger is told that {check} is {}",
            state(&findings, check)
        );
    }
    Ok(())
}

/// What doctor says of one check now.
pub(super) fn says(system: &dyn System, check: &str, wanted: &str) -> Result<()> {
    let findings = all(system, &[])?;
    ensure!(state(&findings, check) == wanted, "{check} is {}, not {wanted}", state(&findings, check));
    Ok(())
}
