//! What a package goes through, and what must be true after each step.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{System, doctor, first_day};
use crate::cargo;

const SERVES_WAIT: Duration = Duration::from_secs(40);

/// Lives it.
pub(super) fn live(system: &mut dyn System, old: &Path, new: &Path) -> Result<()> {
    step("installed: users, directories, one boot identity, manual, completions", || install(system, old))?;
    step("started before any ceremony: both ready, both wait", || {
        prepare(system)?;
        system.start()?;
        doctor::says(system, "module", "bad")
    })?;
    step("a ceremony and a day, each process as its own user", || {
        users(system)?;
        first_day::material(system)?;
        ceremony(system)?;
        day(system)
    })?;
    step("cards under a licence, a blacklist, a load; a sandbox beside them", || {
        let ceremony = fs::read(system.root().join("home/officer/ceremony.json"))?;
        first_day::walk(system, &serde_json::from_slice(&ceremony)?)?;
        first_day::sandbox(system)
    })?;
    step("doctor: nothing wrong, each planted fault named, a stranger told nothing", || {
        let good = doctor::healthy(system)?;
        let planted = doctor::faults(system)?;
        doctor::stranger(system)?;
        println!("    {good} checks are good; {planted} planted faults were each found and taken back");
        doctor::healthy(system).map(|_| ())
    })?;
    step("upgraded under load: nothing that was acknowledged is lost", || {
        upgrade(system, new)?;
        doctor::says(system, "running-release", "warning")
    })?;
    step("the module dies: both come back, sealed; a ceremony, a day, the whole log", || {
        system.lose_module()?;
        doctor::says(system, "module", "bad")?;
        ceremony(system)?;
        day(system)?;
        audit(system)?;
        doctor::healthy(system).map(|_| ())
    })?;
    step("removed, then purged: keys, log and certificates stay", || remove(system))
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    work().with_context(|| name.to_owned())?;
    println!("    {name} ({:.1} s)", started.elapsed().as_secs_f64());
    Ok(())
}

fn dpkg(system: &dyn System, package: &Path) -> Result<String> {
    let name = package.file_name().and_then(std::ffi::OsStr::to_str).context("a package without a name")?;
    fs::copy(package, system.root().join("opt").join(name))?;
    system.run(&["dpkg", "--install", &format!("/opt/{name}")])
}

fn install(system: &dyn System, package: &Path) -> Result<()> {
    dpkg(system, package)?;
    let identity = system.root().join("var/lib/citykeep-hsm/identity");
    let made = fs::read(&identity)?;
    let meta = fs::metadata(&identity)?;
    let owner = system.run(&["id", "--user", "citykeep-hsm"])?;
    ensure!(
        meta.mode() & 0o777 == 0o600 && owner.trim() == meta.uid().to_string(),
        "the identity is not its owner's"
    );
    // The configuration is the operator's from now on, and the identity nobody's to change.
    dpkg(system, package)?;
    ensure!(fs::read(&identity)? == made, "installing again has changed the boot identity");
    for file in [
        "usr/share/man/man8/citykeep-hsm.8.gz",
        "usr/share/man/man8/citykeep-keyd.8.gz",
        "usr/share/man/man1/citykeep-audit.1.gz",
        "usr/share/man/man1/citykeep-audit-follow.1.gz",
        "usr/share/man/man1/citykeep-clear-verify.1.gz",
        "usr/share/man/man1/citykeep-doctor.1.gz",
        "usr/share/man/man1/keyceremony-unseal.1.gz",
        "usr/share/bash-completion/completions/citykeep-audit",
        "usr/share/bash-completion/completions/keyceremony",
        "usr/share/zsh/vendor-completions/_citykeep",
        "usr/share/fish/vendor_completions.d/citykeep-keyd.fish",
        "etc/citykeep/keyd.toml",
        "etc/citykeep/policy.toml",
    ] {
        ensure!(system.root().join(file).is_file(), "{file} is missing");
    }
    let broken = system.run(&["dpkg", "--verify", "citykeep"])?;
    ensure!(broken.is_empty(), "installed files differ from the package's: {broken}");
    let state =
        system.run(&["stat", "--format=%a %U %G", "/var/lib/citykeep-hsm", "/var/lib/citykeep-log"])?;
    ensure!(state == "700 citykeep-hsm citykeep-hsm\n750 citykeep-keyd citykeep-officers\n", "{state}");
    Ok(())
}

/// What the operator and the officers bring along; here a rehearsal's certificates, policy and keys.
fn prepare(system: &dyn System) -> Result<()> {
    let fixtures = cargo::root().join("tests/fixtures/day1");
    for file in ["day.txt", "expected.csv", "keys.json"] {
        fs::copy(fixtures.join(file), system.root().join("opt").join(file))?;
    }
    let script = "set -e
        cp /usr/share/citykeep/policies/rehearsal.toml /etc/citykeep/policy.toml
        keyceremony pki --out /opt/pki
        for file in keyd.pem keyd.key ca.pem crl.pem; do cp /opt/pki/$file /etc/citykeep/pki/; done
        chown citykeep-keyd /etc/citykeep/pki/keyd.key
        useradd --create-home --groups citykeep-officers officer
        cd /home/officer && ln -s /var/lib/citykeep-log log
        chown -R officer /home/officer
        runuser -u citykeep-keyd -- citykeep-keyd check-config --config /etc/citykeep/keyd.toml";
    system.run(&["sh", "-c", script]).map(|_| ())
}

fn users(system: &dyn System) -> Result<()> {
    for service in ["citykeep-hsm", "citykeep-keyd"] {
        let process = system.process(service)?;
        let status = system.run(&["cat", &format!("/proc/{process}/status")])?;
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
        };
        let user = system.run(&["id", "--user", service])?;
        let all = field("Uid:").split_whitespace().all(|uid| uid == user.trim());
        ensure!(
            all && field("Name:") == service,
            "{service} runs as {}, as {}",
            field("Name:"),
            field("Uid:")
        );
        ensure!(
            field("CapEff:").bytes().all(|digit| digit == b'0'),
            "{service} has rights: {}",
            field("CapEff:")
        );
        ensure!(field("NoNewPrivs:") == "1", "{service} may gain rights");
    }
    Ok(())
}

fn ceremony(system: &dyn System) -> Result<()> {
    system.run(&[
        "runuser",
        "-u",
        "officer",
        "--",
        "keyceremony",
        "rehearse",
        "/usr/share/citykeep/keyceremony/scripts/settlement-day.toml",
        "--state",
        "/home/officer",
        "--officers-socket",
        "/run/citykeep-hsm/officers.sock",
        "--keys",
        "/opt/keys.json",
        "--masters",
        "/opt/masters.json",
        "--ledger",
        "/opt/ledger.pem",
        "--json",
        "/home/officer/ceremony.json",
        "--policy",
        "/etc/citykeep/policy.toml",
        "--ca",
        "/etc/citykeep/pki/ca.pem",
    ])?;
    let until = Instant::now() + SERVES_WAIT;
    while !clear(system, "serves").status.success() {
        ensure!(Instant::now() < until, "keyd does not serve after the ceremony");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// The fixture's day; verdicts and receipt under /opt with this name.
fn clear(system: &dyn System, name: &str) -> std::process::Output {
    let prefix = (system.prefix(), system.url());
    clear_with(&prefix, name)
}

fn clear_with((prefix, url): &(Vec<String>, String), name: &str) -> std::process::Output {
    let mut command = std::process::Command::new(prefix.first().map_or("false", String::as_str));
    command.args(prefix.iter().skip(1)).args([
        "citykeep",
        "clear",
        "verify",
        "--url",
        url,
        "--day",
        "/opt/day.txt",
    ]);
    command.args([
        "--ca",
        "/opt/pki/ca.pem",
        "--cert",
        "/opt/pki/clearing.pem",
        "--key",
        "/opt/pki/clearing.key",
    ]);
    command.args(["--vkey", "/var/lib/citykeep-log/vkey", "--verdicts", &format!("/opt/{name}.csv")]);
    let output = command.args(["--receipt", &format!("/opt/{name}.json")]).output();
    output.unwrap_or_else(|error| std::process::Output {
        status: std::os::unix::process::ExitStatusExt::from_raw(1),
        stdout: Vec::new(),
        stderr: error.to_string().into_bytes(),
    })
}

fn day(system: &dyn System) -> Result<()> {
    let output = clear(system, "day");
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| fs::read(system.root().join("opt").join(name));
    ensure!(read("day.csv")? == read("expected.csv")?, "the verdicts are not those that are expected");
    Ok(())
}

/// Clients come all the time while the package is replaced. Whoever was told "done" must find it in the log.
fn upgrade(system: &mut dyn System, package: &Path) -> Result<()> {
    let (place, stop) = ((system.prefix(), system.url()), AtomicBool::new(false));
    let before = system.run(&["dpkg-query", "--show", "--showformat=${Version}", "citykeep"])?;
    let outcomes = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut outcomes = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                outcomes.push(clear_with(&place, &format!("load-{}", outcomes.len())).status.success());
            }
            outcomes
        });
        let done = (|| {
            std::thread::sleep(Duration::from_secs(1));
            dpkg(system, package)?;
            system.upgraded()?;
            std::thread::sleep(Duration::from_secs(1));
            Ok::<_, anyhow::Error>(())
        })();
        stop.store(true, Ordering::Relaxed);
        let outcomes = load.join().map_err(|_| anyhow::anyhow!("the load failed"));
        done.and(outcomes)
    })?;
    let after = system.run(&["dpkg-query", "--show", "--showformat=${Version}", "citykeep"])?;
    ensure!(after == format!("{before}+next"), "{before} became {after}");
    ensure!(
        outcomes.first() == Some(&true) && outcomes.last() == Some(&true),
        "no day before or none after: {outcomes:?}"
    );
    let mut indexes = Vec::new();
    for (number, good) in outcomes.iter().enumerate() {
        let receipt = system.root().join(format!("opt/load-{number}.json"));
        ensure!(receipt.exists() == *good, "day {number}: a receipt if and only if the client said so");
        if *good {
            let words =
                ["citykeep", "receipt", "verify", "--vkey", "/var/lib/citykeep-log/vkey", "--receipt"];
            system.run(&[&words[..], &[&format!("/opt/load-{number}.json")]].concat())?;
            let receipt: Value = serde_json::from_slice(&fs::read(&receipt)?)?;
            let last = receipt.get("indices").and_then(Value::as_array).and_then(|all| all.last()?.as_u64());
            indexes.push(last.context("a receipt without an index")?);
        }
    }
    ensure!(indexes.is_sorted(), "acknowledged days stand in the order of the log");
    published(system, indexes.last().copied().unwrap_or_default())?;
    let failed = outcomes.iter().filter(|good| !**good).count();
    println!("    {} days were acknowledged meanwhile, {failed} broken off without a receipt", indexes.len());
    audit(system)
}

/// Waits until the published log has the entry with this index.
fn published(system: &dyn System, index: u64) -> Result<()> {
    let checkpoint = system.root().join("var/lib/citykeep-log/checkpoint");
    for _ in 0..100 {
        let text = fs::read_to_string(&checkpoint).unwrap_or_default();
        if text.lines().nth(1).and_then(|size| size.parse::<u64>().ok()).is_some_and(|size| size > index) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("entry {index} was acknowledged and is not in the published log")
}

fn audit(system: &dyn System) -> Result<()> {
    let words = ["verify", "/var/lib/citykeep-log", "--vkey", "/var/lib/citykeep-log/vkey"];
    // An officer's right is enough to read what is published; the auditor's own program says the same of it.
    for program in [&["citykeep", "audit"][..], &["citykeep-audit"]] {
        let said = system.run(&[&["runuser", "-u", "officer", "--"], program, &words[..]].concat())?;
        ensure!(said.contains("the log is good"), "{said}");
    }
    Ok(())
}

fn remove(system: &mut dyn System) -> Result<()> {
    let kept = [
        "var/lib/citykeep-hsm/identity",
        "var/lib/citykeep-keyd/wal",
        "var/lib/citykeep-log/checkpoint",
        "etc/citykeep/pki/keyd.key",
    ];
    let root = system.root().to_owned();
    let all_kept = || -> Result<()> {
        for path in kept {
            ensure!(root.join(path).exists(), "{path} is gone");
        }
        Ok(())
    };
    system.remove()?;
    all_kept()?;
    ensure!(!root.join("usr/bin/citykeep-hsm").exists(), "the programs are still there");
    ensure!(root.join("etc/citykeep/keyd.toml").exists(), "a removal keeps the configuration");
    let said = system.run(&["dpkg", "--purge", "citykeep"])?;
    all_kept()?;
    ensure!(!root.join("etc/citykeep/keyd.toml").exists(), "a purge removes the configuration");
    ensure!(
        said.contains("kept: /var/lib/citykeep-hsm") && said.contains("kept: /var/lib/citykeep-log"),
        "{said}"
    );
    Ok(())
}
