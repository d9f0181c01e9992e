//! A system whose own systemd runs, in a container.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::root::Root;
use super::{ENVIRONMENT, System};

const BOOT_WAIT: Duration = Duration::from_secs(40);

/// The container.
#[derive(Debug)]
pub(super) struct Booted {
    root: Root,
    nspawn: Child,
    leader: u32,
}

impl Booted {
    pub(super) fn new(base: &Path) -> Result<Self> {
        let root = Root::unpack(base)?;
        let mut command = Command::new("systemd-nspawn");
        command.args([
            "--boot",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--link-journal=no",
        ]);
        // What a container's default list holds back and the module's memory needs.
        command.args([
            "--system-call-filter=@memlock memfd_secret",
            "--resolv-conf=off",
            "--timezone=off",
            "--directory",
        ]);
        let console = fs::File::create(root.path.with_extension("console"))?;
        command.arg(&root.path).stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
        let nspawn = command.spawn().context("systemd-nspawn cannot be started")?;
        let mut system = Self { root, nspawn, leader: 0 };
        let until = Instant::now() + BOOT_WAIT;
        loop {
            if let Some(leader) = child_of(system.nspawn.id()) {
                system.leader = leader;
                let state = system.inside(&["systemctl", "is-system-running"]).output()?;
                if String::from_utf8_lossy(&state.stdout).trim() == "running" {
                    return Ok(system);
                }
            }
            if Instant::now() > until || system.nspawn.try_wait()?.is_some() {
                let said = fs::read_to_string(system.root.path.with_extension("console")).unwrap_or_default();
                bail!("{}", said.lines().last().unwrap_or("it said nothing"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until a service is active again and says this of itself.
    fn wait(&self, service: &str, words: &str) -> Result<()> {
        let until = Instant::now() + BOOT_WAIT;
        loop {
            let status = self.run(&["systemctl", "show", "--property=ActiveState,StatusText", service])?;
            if status.contains("ActiveState=active") && status.contains(words) {
                return Ok(());
            }
            if Instant::now() > until {
                let journal = self.run(&["journalctl", "--no-pager", "--lines=30", "--unit", service])?;
                bail!("{service} does not say {words:?}: {status}\n{journal}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn child_of(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

impl System for Booted {
    fn prefix(&self) -> Vec<String> {
        let leader = self.leader.to_string();
        let words = ["nsenter", "--target", leader.as_str(), "--all", "--"];
        words.iter().chain(ENVIRONMENT).map(|word| (*word).to_owned()).collect()
    }

    fn root(&self) -> &Path {
        &self.root.path
    }

    fn url(&self) -> String {
        "https://localhost:8443".to_owned()
    }

    fn start(&mut self) -> Result<()> {
        self.run(&["systemctl", "enable", "--now", "citykeep-keyd.service"])?;
        self.wait("citykeep-hsm", "uninitialised")?;
        self.wait("citykeep-keyd", "genesis")
    }

    fn lose_module(&mut self) -> Result<()> {
        self.run(&["systemctl", "kill", "--signal=KILL", "citykeep-hsm.service"])?;
        self.wait("citykeep-hsm", "sealed")?;
        self.wait("citykeep-keyd", "shares")
    }

    fn upgraded(&mut self) -> Result<()> {
        self.wait("citykeep-keyd", "serves")
    }

    fn remove(&mut self) -> Result<()> {
        self.run(&["dpkg", "--remove", "citykeep"])?;
        let units = self.run(&["systemctl", "list-units", "--all", "--no-legend", "citykeep*"])?;
        if units.lines().any(|line| line.contains(" running ") || line.contains(" listening ")) {
            bail!("units go on after the package is gone: {units}");
        }
        Ok(())
    }

    fn has_systemd(&self) -> bool {
        true
    }

    fn process(&self, service: &str) -> Result<u32> {
        let said = self.run(&["systemctl", "show", "--property=MainPID", "--value", service])?;
        said.trim().parse().context("MainPID")
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // All of the container ends with its first process; it would outlive systemd-nspawn.
        if let Some(leader) = i32::try_from(self.leader).ok().and_then(Pid::from_raw) {
            let _ = kill_process(leader, Signal::KILL);
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        let _ = fs::remove_file(self.root.path.with_extension("console"));
    }
}
