//! The package on a Debian system of its own: installed, started as its units say, used, upgraded under load, removed, purged.
//!
//! The same life is lived twice: once with the units' commands started by hand in a plain root (their users, sockets,
//! credential, limits; under strace, so that the units' lists of system calls can be compared with what is called), and
//! once under a systemd that was booted in a container, where every line of the units is in force. Where no container can
//! be booted, that second part is reported as not run.

mod booted;
mod doctor;
mod first_day;
mod life;
mod root;
mod started;
pub(crate) mod unit;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use self::booted::Booted;
use self::started::Started;
use crate::package;

/// A system on which the package is installed.
trait System {
    /// The words before a command that is to run inside.
    fn prefix(&self) -> Vec<String>;

    /// Its root directory, from outside.
    fn root(&self) -> &Path;

    /// Where clients inside come.
    fn url(&self) -> String;

    /// What an operator does once the configuration is there; comes back when both are ready for their starter.
    fn start(&mut self) -> Result<()>;

    /// The module ends without warning; comes back when both wait for a ceremony.
    fn lose_module(&mut self) -> Result<()>;

    /// After the package was unpacked over an older one: where no systemd does it, the new keyd takes over.
    fn upgraded(&mut self) -> Result<()>;

    /// Removes the package; both are stopped before, by whoever started them.
    fn remove(&mut self) -> Result<()>;

    /// Whether its own systemd runs.
    fn has_systemd(&self) -> bool;

    /// The process of a service, as a number inside.
    fn process(&self, service: &str) -> Result<u32>;

    /// A command inside.
    fn inside(&self, words: &[&str]) -> Command {
        let prefix = self.prefix();
        let mut command = Command::new(prefix.first().map_or("false", String::as_str));
        command.args(prefix.iter().skip(1)).args(words);
        command
    }

    /// A command inside, to its end; what it says.
    fn run(&self, words: &[&str]) -> Result<String> {
        package::said(&mut self.inside(words), &words.join(" "))
    }
}

/// What every command inside gets for an environment: nothing of ours.
const ENVIRONMENT: &[&str] = &[
    "env",
    "-i",
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
    "DEBIAN_FRONTEND=noninteractive",
];

/// Builds the package twice, as it is and as its own successor, and lives with both. What this machine has no means to run
/// comes back in words: it was not tested, and nobody may count it as passed.
pub(crate) fn test(bin: &Path, folder: &Path) -> Result<Vec<String>> {
    let version = package::version()?;
    let old = package::build(bin, &version, folder)?;
    let bytes = fs::read(&old)?;
    if fs::read(package::build(bin, &version, folder)?)? != bytes {
        bail!("two builds of the package differ");
    }
    println!("  the same input gives the same package, {} KiB", bytes.len() / 1024);
    let new = package::build(bin, &format!("{version}+next"), folder)?;
    if let Err(why) = root::possible() {
        return Ok(not_run(vec![format!("installation and life of the package: {why:#}")]));
    }
    let base = root::base(folder)?;
    println!("  in a plain root, each ExecStart as its own User=:");
    let mut system = Started::new(&base)?;
    life::live(&mut system, &old, &new)?;
    for service in ["citykeep-hsm", "citykeep-keyd"] {
        println!("    {}", system.coverage(service)?);
    }
    drop(system);
    println!("  under a booted systemd:");
    match Booted::new(&base) {
        Ok(mut system) => life::live(&mut system, &old, &new).map(|()| Vec::new()),
        Err(why) => Ok(not_run(vec![format!(
            "the units under a booted systemd, so nothing is known of their sandbox: no container boots ({why:#})"
        )])),
    }
}

fn not_run(what: Vec<String>) -> Vec<String> {
    what.iter().for_each(|what| println!("  not run here: {what}"));
    what
}
