//! Cargo and the tree that it works on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// `cargo` with these words, in the root. Fails if cargo fails.
pub(crate) fn cargo(words: &[&str]) -> Result<()> {
    run(Command::new(program()).args(words).current_dir(root()), &format!("cargo {}", words.join(" ")))
}

/// Runs a command whose output goes to ours.
pub(crate) fn run(command: &mut Command, name: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("{name}: cannot be started"))?;
    if !status.success() {
        bail!("{name}: failed ({status})");
    }
    Ok(())
}

fn program() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// `cargo metadata` of the whole tree.
pub(crate) fn metadata() -> Result<Value> {
    let words = ["metadata", "--format-version", "1", "--all-features", "--locked"];
    let output =
        Command::new(program()).args(words).current_dir(root()).output().context("cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata")
}

/// Names of all packages below `package`, over normal and build dependencies, all its features, every target.
pub(crate) fn tree(package: &str) -> Result<Vec<String>> {
    let packages = packages(&["-p", package])?;
    let mut names: Vec<String> = packages.into_iter().map(|(name, _)| name).collect();
    names.dedup();
    Ok(names)
}

/// Name and version of every package that is built into something other than a test, on any target.
pub(crate) fn shipped() -> Result<BTreeSet<(String, String)>> {
    packages(&["--workspace"])
}

fn packages(which: &[&str]) -> Result<BTreeSet<(String, String)>> {
    let output = Command::new(program())
        .args(["tree", "--locked", "-e", "normal,build", "--all-features", "--target", "all"])
        .args(["--prefix", "none", "--format", "{p}"])
        .args(which)
        .current_dir(root())
        .output()
        .context("cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree {}: {}", which.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("cargo tree")?;
    let package = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.trim_start_matches('v').to_owned()))
    };
    Ok(text.lines().filter_map(package).collect())
}

/// Builds the programs in release form. The module is built on its own: together with others it would get their
/// features of the shared crates.
pub(crate) fn build_programs() -> Result<PathBuf> {
    cargo(&["build", "--release", "--locked", "--quiet", "-p", "hsm"])?;
    cargo(&[
        "build",
        "--release",
        "--locked",
        "--quiet",
        "-p",
        "keyd",
        "-p",
        "keyceremony",
        "-p",
        "citykeep",
        "-p",
        "card",
        "-p",
        "witness",
    ])?;
    let metadata = metadata()?;
    let target = metadata
        .get("target_directory")
        .and_then(Value::as_str)
        .context("cargo metadata: no target directory")?;
    let release = Path::new(target).join("release");
    build_static(&release)?;
    Ok(release)
}

/// The auditor's program runs on any Linux of this processor: it needs no library there, its C library included.
fn build_static(release: &Path) -> Result<()> {
    let output = Command::new("rustc").args(["--print", "host-tuple"]).output().context("rustc")?;
    let host = String::from_utf8(output.stdout).context("rustc")?;
    let host = host.trim();
    let flags = format!("target.{host}.rustflags=[\"-C\",\"target-feature=+crt-static\"]");
    cargo(&[
        "build",
        "--release",
        "--locked",
        "--quiet",
        "-p",
        "audit",
        "--target",
        host,
        "--config",
        &flags,
    ])?;
    let name = "citykeep-audit";
    let made = release.parent().unwrap_or(release).join(host).join("release").join(name);
    std::fs::copy(&made, release.join(name)).with_context(|| format!("{}", made.display()))?;
    Ok(())
}
