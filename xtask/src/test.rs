//! Every check and every test, in the order fast to slow.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{arrows, bans, cargo, installed, tamper};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only the checks: format, arrows, bans, clippy, documents.
    #[arg(long)]
    checks_only: bool,
}

/// Programs that tests call, and the Debian packages that bring them.
const PROGRAMS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("strace", "strace"),
    ("jq", "jq"),
    ("xxd", "xxd"),
    ("javac", "openjdk-17-jdk-headless"),
    ("cc", "gcc"),
    ("curl-config", "libcurl4-openssl-dev"),
    ("systemd-analyze", "systemd"),
    ("systemd-nspawn", "systemd-container"),
    ("debootstrap", "debootstrap"),
    ("strip", "binutils"),
    ("objdump", "binutils"),
    ("valgrind", "valgrind"),
];

/// Runs everything; stops at the first failure.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    stage("programs that the tests call", install)?;
    stage("format", || cargo::cargo(&["fmt", "--all", "--check"]))?;
    stage("arrows", arrows::check)?;
    stage("bans and licences", bans::check)?;
    stage("clippy", || {
        cargo::cargo(&[
            "clippy",
            "--locked",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ])?;
        // On its own, as it is shipped: without the features that others turn on.
        cargo::cargo(&["clippy", "--locked", "--quiet", "-p", "hsm", "--", "-D", "warnings"])
    })?;
    stage("documents", documents)?;
    if options.checks_only {
        return Ok(());
    }
    stage("tests of the crates", || {
        cargo::cargo(&["test", "--locked", "--workspace", "--all-features", "--exclude", "system-tests"])
    })?;
    stage("tamper campaign (release)", || tamper::run(&tamper::Options::of_every_run()))?;
    let bin = std::cell::OnceCell::new();
    stage("release programs", || {
        let _ = bin.set(cargo::build_programs()?);
        Ok(())
    })?;
    let Some(bin) = bin.get() else { bail!("the release programs are not there") };
    stage("Python packages that read what we write", venv)?;
    stage("tests of the daemons (release)", || system_tests(bin))?;
    let mut not_run = Vec::new();
    stage("the package on systems of its own", || {
        not_run = installed::test(bin, &bin.parent().unwrap_or(bin).join("package"))?;
        Ok(())
    })?;
    not_run.extend(backends_not_run(&std::fs::read_to_string("/proc/cpuinfo")?));
    let seconds = started.elapsed().as_secs_f64();
    if not_run.is_empty() {
        println!("\nall checks and tests passed in {seconds:.0} s");
    } else {
        println!("\nall checks and tests that can run here passed in {seconds:.0} s");
        not_run.iter().for_each(|what| println!("NOT RUN HERE: {what}"));
    }
    Ok(())
}

/// Backends of `lanes` that this CPU has not: their tests are run on those that are there, and say nothing of the others.
fn backends_not_run(cpuinfo: &str) -> Vec<String> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag: &&str| flags.split_whitespace().any(|word| word == *flag);
    let backends: [(&str, &[&str]); 3] = [
        ("avx512", &["avx512f", "avx512bw", "avx512vl", "gfni"]),
        ("avx2-gfni", &["avx2", "gfni"]),
        ("avx2", &["avx2"]),
    ];
    let missing = backends.iter().filter(|(_, needs)| !needs.iter().all(has));
    missing.map(|(name, _)| format!("the backend {name} of lanes: this CPU cannot")).collect()
}

fn stage(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("── {name}");
    let started = Instant::now();
    work()?;
    println!("── {name}: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn install() -> Result<()> {
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let root = rustix::process::geteuid().is_root();
    let apt = |words: &[&str]| {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.arg("apt-get");
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(words);
        cargo::run(&mut command, &format!("apt-get {}", words.join(" ")))
    };
    apt(&["update", "-q"])?;
    let mut words = vec!["install", "-y", "-q", "--no-install-recommends"];
    words.extend(missing);
    apt(&words)
}

/// Programs of other authors that tests call: TR-31 by psec, HTTP by requests. Kept under target.
fn venv() -> Result<()> {
    let venv = cargo::root().join("target/venv");
    if venv.join("ready").exists() {
        return Ok(());
    }
    let mut make = Command::new("python3");
    cargo::run(make.args(["-m", "venv", "--clear"]).arg(&venv), "python3 -m venv")?;
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "psec==1.3.0", "requests==2.34.2"]);
    cargo::run(&mut pip, "pip install psec requests")?;
    Ok(std::fs::write(venv.join("ready"), "")?)
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn documents() -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([
        "doc",
        "--locked",
        "--quiet",
        "--workspace",
        "--no-deps",
        "--all-features",
        "--document-private-items",
    ]);
    command.env("RUSTDOCFLAGS", "-D warnings").current_dir(cargo::root()).stdin(Stdio::null());
    cargo::run(&mut command, "cargo doc")
}

fn system_tests(bin: &Path) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["test", "--locked", "-p", "system-tests"])
        .env("CITYKEEP_BIN", bin)
        .current_dir(cargo::root());
    cargo::run(&mut command, "cargo test -p system-tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_that_a_cpu_has_not_are_named() {
        let names = |flags: &str| {
            backends_not_run(&format!("processor : 0\nflags\t\t: {flags}\nbugs : avx2\n")).join("\n")
        };
        assert_eq!(names("fpu avx2 gfni avx512f avx512bw avx512vl"), "");
        assert_eq!(names("fpu avx2 gfni avx512f"), "the backend avx512 of lanes: this CPU cannot");
        assert_eq!(names("fpu avx512fp16").lines().count(), 3);
    }
}
