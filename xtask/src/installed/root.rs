//! A Debian root directory, made once and unpacked for each use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::package::said;

/// A root that goes when it is dropped.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) path: PathBuf,
}

/// Whether a root can be made and used here: root's rights, and a mount name space for its /proc.
pub(super) fn possible() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("it needs root");
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "mount", "-t", "tmpfs", "none", "/mnt"]);
    said(&mut command, "a mount in a name space of its own").map(|_| ())
}

/// The archive of a small Debian with systemd, made by debootstrap where the machine itself takes its packages from.
pub(super) fn base(folder: &Path) -> Result<PathBuf> {
    let os = fs::read_to_string("/etc/os-release")?;
    let suite = os
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("no Debian release here")?;
    let archive = folder.join(format!("debian-{suite}.tar"));
    if archive.exists() {
        return Ok(archive);
    }
    let format = "$(RELEASE) $(COMPONENT) $(SITE)";
    let mut command = Command::new("apt-get");
    let targets = said(
        command.args(["indextargets", "--format", format, "Created-By: Packages"]),
        "apt-get indextargets",
    )?;
    let main = format!("{suite} main ");
    let mirror = targets
        .lines()
        .find_map(|line| line.strip_prefix(&main))
        .context("apt has no source for this release")?;
    let root = Root::new()?;
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", "--include=systemd,systemd-sysv", suite]).arg(&root.path).arg(mirror);
    said(&mut command, "debootstrap")?;
    let side = archive.with_extension("part");
    let mut command = Command::new("tar");
    command.arg("--create").arg("--file").arg(&side).arg("--directory").arg(&root.path);
    said(
        command.args([
            "--numeric-owner",
            "--exclude=./proc/*",
            "--exclude=./sys/*",
            "--exclude=./var/cache/apt/archives/*.deb",
            ".",
        ]),
        "tar",
    )?;
    fs::rename(&side, &archive)?;
    Ok(archive)
}

impl Root {
    fn new() -> Result<Self> {
        // Short, because a socket's path in it must fit into 108 bytes.
        let path = said(Command::new("mktemp").args(["--directory", "/tmp/ck-root.XXXXXX"]), "mktemp")?;
        let root = Self { path: PathBuf::from(path.trim()) };
        // Other users must be able to go through it.
        fs::set_permissions(&root.path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(root)
    }

    pub(super) fn unpack(archive: &Path) -> Result<Self> {
        let root = Self::new()?;
        let mut command = Command::new("tar");
        command
            .args(["--extract", "--numeric-owner", "--file"])
            .arg(archive)
            .arg("--directory")
            .arg(&root.path);
        said(&mut command, "tar")?;
        fs::write(root.path.join("etc/hosts"), "127.0.0.1 localhost\n")?;
        Ok(root)
    }

    /// A user's or group's number in this root.
    pub(super) fn id(&self, table: &str, name: &str) -> Result<u32> {
        let text = fs::read_to_string(self.path.join("etc").join(table))?;
        let row = text.lines().find(|line| line.split(':').next() == Some(name));
        row.and_then(|row| row.split(':').nth(2)?.parse().ok())
            .with_context(|| format!("{name} is not in {table}"))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // rm stops at other file systems, should anything still be mounted.
        let _ =
            Command::new("rm").args(["--recursive", "--force", "--one-file-system"]).arg(&self.path).status();
    }
}
