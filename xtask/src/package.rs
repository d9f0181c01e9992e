//! The Debian package: programs, units, users, directories, a commented configuration, manual, completions, documents.

use std::fmt::Write as _;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, installed};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Also installs it in a Debian root of its own: start, ceremony, day, upgrade under load, removal, purge.
    #[arg(long)]
    test: bool,
}

/// Programs of the package and the section of the manual that each is in. The practice card is what `citykeep sandbox` stands on;
/// it knows practice keys only.
const PROGRAMS: &[(&str, &str)] = &[
    ("citykeep", "1"),
    // After `citykeep`: its pages take the places of those of `citykeep audit`, which is the same.
    ("citykeep-audit", "1"),
    ("citycard", "1"),
    ("keyceremony", "1"),
    ("citykeep-hsm", "8"),
    ("citykeep-keyd", "8"),
];

/// Directories and files that are copied as they are: from the repository, into the package.
const COPIES: &[(&str, &str)] = &[
    ("keyceremony/scripts", "usr/share/citykeep/keyceremony/scripts"),
    ("policies", "usr/share/citykeep/policies"),
    ("tests/verify.py", "usr/share/citykeep/verify.py"),
    ("policies/sample.toml", "etc/citykeep/policy.toml"),
    ("systemd/citykeep.sysusers", "usr/lib/sysusers.d/citykeep.conf"),
    ("systemd/citykeep.tmpfiles", "usr/lib/tmpfiles.d/citykeep.conf"),
    ("README.md", "usr/share/doc/citykeep/README.md"),
    ("ARCHITECTURE.md", "usr/share/doc/citykeep/ARCHITECTURE.md"),
    ("SECURITY.md", "usr/share/doc/citykeep/SECURITY.md"),
    ("systemd/README.md", "usr/share/doc/citykeep/OPERATION.md"),
    ("systemd/citykeep-alerts.yml", "usr/share/doc/citykeep/citykeep-alerts.yml"),
    ("src/keep/keyd/METRICS.md", "usr/share/doc/citykeep/keyd/METRICS.md"),
    ("src/keep/keyd/ERRORS.md", "usr/share/doc/citykeep/keyd/ERRORS.md"),
    ("src/keep/keyd/VERSIONING.md", "usr/share/doc/citykeep/keyd/VERSIONING.md"),
    ("src/keep/keyd/openapi.json", "usr/share/doc/citykeep/keyd/openapi.json"),
    ("src/keep/keyd/samples", "usr/share/doc/citykeep/samples"),
    ("src/keep/keyd/SPEC.md", "usr/share/doc/citykeep/keyd/SPEC.md"),
    ("src/keep/cardcrypto/SPEC.md", "usr/share/doc/citykeep/cardcrypto/SPEC.md"),
    ("src/city/perso/SPEC.md", "usr/share/doc/citykeep/perso/SPEC.md"),
    ("src/keep/wire/SPEC.md", "usr/share/doc/citykeep/wire/SPEC.md"),
    ("src/keep/audit/README.md", "usr/share/doc/citykeep/audit/README.md"),
    ("src/keep/audit/SPEC.md", "usr/share/doc/citykeep/audit/SPEC.md"),
    ("src/keep/translog/SPEC.md", "usr/share/doc/citykeep/translog/SPEC.md"),
];

/// What differs between the sample of the configuration and an installed one. Everything else, comments included, is the
/// same text.
const CONFIGURATION: &[(&str, &str)] = &[
    ("\nlisten = ", "\n# listen = "),
    ("\nstate_dir = \"keyd\"", "\nstate_dir = \"/var/lib/citykeep-keyd\""),
    ("\nlog_dir = \"log\"", "\nlog_dir = \"/var/lib/citykeep-log\""),
    ("\nhsm_socket = \"run/keyd.sock\"", "\nhsm_socket = \"/run/citykeep-hsm/keyd.sock\""),
    ("\npolicy_file = \"rehearsal.toml\"", "\npolicy_file = \"policy.toml\""),
];

/// Builds the package; tests it if asked.
pub(crate) fn run(options: &Options) -> Result<()> {
    // Where the programs are already, if somebody says so, as for the system tests.
    let bin = match std::env::var_os("CITYKEEP_BIN") {
        Some(bin) => PathBuf::from(bin),
        None => cargo::build_programs()?,
    };
    let folder = bin.parent().unwrap_or(&bin).join("package");
    let package = build(&bin, &version()?, &folder)?;
    println!("{}", package.display());
    if options.test { installed::test(&bin, &folder).map(|_| ()) } else { Ok(()) }
}

/// The version of the workspace.
pub(crate) fn version() -> Result<String> {
    let metadata = cargo::metadata()?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("cargo metadata")?;
    let keyd = packages.iter().find(|package| package.get("name").and_then(Value::as_str) == Some("keyd"));
    let version = keyd.and_then(|package| package.get("version")).and_then(Value::as_str);
    version.map(str::to_owned).context("cargo metadata: keyd has no version")
}

/// Builds `folder`/citykeep_VERSION_ARCH.deb from these programs. The same input gives the same bytes.
pub(crate) fn build(bin: &Path, version: &str, folder: &Path) -> Result<PathBuf> {
    let root = folder.join(format!("root-{version}"));
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for (program, _) in PROGRAMS {
        let place = root.join("usr/bin").join(program);
        copy(&bin.join(program), &place)?;
        quiet(Command::new("strip").arg(&place), "strip")?;
        fs::set_permissions(&place, Permissions::from_mode(0o755))?;
    }
    for (from, to) in COPIES {
        copy(&cargo::root().join(from), &root.join(to))?;
    }
    for unit in units()? {
        let name = unit.file_name().context("a unit without a name")?.to_owned();
        copy(&unit, &root.join("usr/lib/systemd/system").join(name))?;
    }
    put(&root.join("etc/citykeep/keyd.toml"), &configuration()?)?;
    fs::create_dir_all(root.join("etc/citykeep/pki"))?;
    manual(&root, folder)?;
    let documents = root.join("usr/share/doc/citykeep");
    put(&documents.join("copyright"), &copyright()?)?;
    copy(&materials().join("changelog"), &documents.join("changelog"))?;
    zip(&documents.join("changelog"))?;
    control(&root, version)?;
    let moment = moment()?;
    settle(&root, SystemTime::UNIX_EPOCH + Duration::from_secs(moment))?;
    let arch = said(Command::new("dpkg").arg("--print-architecture"), "dpkg")?;
    let package = folder.join(format!("citykeep_{version}_{}.deb", arch.trim()));
    let mut command = Command::new("dpkg-deb");
    command.env("SOURCE_DATE_EPOCH", moment.to_string());
    command.args(["--root-owner-group", "-Zxz", "--build"]).arg(&root).arg(&package);
    quiet(&mut command, "dpkg-deb")?;
    Ok(package)
}

/// The units of the package, in the order of their names. The witness's is for an auditor's machine.
pub(crate) fn units() -> Result<Vec<PathBuf>> {
    let mut units = Vec::new();
    for file in fs::read_dir(cargo::root().join("systemd"))? {
        let path = file?.path();
        if path.extension().is_some_and(|kind| kind == "service" || kind == "socket")
            && path.file_name().is_none_or(|name| name != "citykeep-witness.service")
        {
            units.push(path);
        }
    }
    units.sort();
    Ok(units)
}

fn materials() -> PathBuf {
    cargo::root().join("xtask/package")
}

/// The sample with the places of an installed system.
fn configuration() -> Result<String> {
    let mut text = fs::read_to_string(cargo::root().join("policies/keyd.sample.toml"))?;
    for (sample, installed) in CONFIGURATION {
        if text.matches(sample).count() != 1 {
            bail!(
                "policies/keyd.sample.toml: {sample:?} is not there once; mend CONFIGURATION in xtask/src/package.rs"
            );
        }
        text = text.replace(sample, installed);
    }
    Ok(text)
}

/// Pages and completions, written by the packaged programs themselves.
fn manual(root: &Path, folder: &Path) -> Result<()> {
    for (program, section) in PROGRAMS {
        let pages = root.join("usr/share/man").join(format!("man{section}"));
        if *program == "citykeep-hsm" {
            copy(&materials().join("citykeep-hsm.8"), &pages.join("citykeep-hsm.8"))?;
            zip(&pages.join("citykeep-hsm.8"))?;
            continue;
        }
        let written = folder.join("pages").join(program);
        if written.exists() {
            fs::remove_dir_all(&written)?;
        }
        let mut command = Command::new(root.join("usr/bin").join(program));
        quiet(command.arg("pages").arg("--out").arg(&written), program)?;
        for file in fs::read_dir(&written)? {
            let path = file?.path();
            let name = path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
            let place = match name.rsplit_once('.') {
                Some((command, "bash")) => root.join("usr/share/bash-completion/completions").join(command),
                Some((_, "fish")) => root.join("usr/share/fish/vendor_completions.d").join(name),
                Some((_, kind)) if kind == *section => pages.join(name),
                _ => root.join("usr/share/zsh/vendor-completions").join(name),
            };
            copy(&path, &place)?;
            if place.starts_with(&pages) {
                zip(&place)?;
            }
        }
    }
    Ok(())
}

/// The crates that are linked in, with their licences.
fn copyright() -> Result<String> {
    let mut text = fs::read_to_string(materials().join("copyright"))?;
    let metadata = cargo::metadata()?;
    let shipped = cargo::shipped()?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("cargo metadata")?;
    let mut lines: Vec<String> = Vec::new();
    for package in packages {
        let field = |key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default();
        if package.get("source") != Some(&Value::Null)
            && shipped.contains(&(field("name").into(), field("version").into()))
        {
            lines.push(format!(" {} {}: {}", field("name"), field("version"), field("license")));
        }
    }
    lines.sort();
    text.push_str(&lines.join("\n"));
    text.push('\n');
    Ok(text)
}

fn control(root: &Path, version: &str) -> Result<()> {
    let folder = root.join("DEBIAN");
    let mut sums = String::new();
    let mut bytes = 0;
    for file in files(root)? {
        bytes += fs::metadata(&file)?.len();
        let name = file.strip_prefix(root)?;
        let sum = said(Command::new("md5sum").arg(name).current_dir(root), "md5sum")?;
        sums.push_str(&sum);
    }
    put(&folder.join("md5sums"), &sums)?;
    put(&folder.join("conffiles"), "/etc/citykeep/keyd.toml\n/etc/citykeep/policy.toml\n")?;
    for script in ["postinst", "prerm", "postrm"] {
        copy(&materials().join(script), &folder.join(script))?;
        fs::set_permissions(folder.join(script), Permissions::from_mode(0o755))?;
    }
    let arch = said(Command::new("dpkg").arg("--print-architecture"), "dpkg")?;
    let mut libc = (0, 0);
    for (program, _) in PROGRAMS {
        libc = libc.max(newest_libc(&fs::read(root.join("usr/bin").join(program))?));
    }
    let mut text = String::new();
    writeln!(text, "Package: citykeep\nVersion: {version}\nArchitecture: {}", arch.trim())?;
    writeln!(
        text,
        "Maintainer: citykeep maintainers <citykeep@localhost>\nSection: admin\nPriority: optional"
    )?;
    writeln!(text, "Installed-Size: {}", bytes.div_ceil(1024))?;
    writeln!(text, "Depends: libc6 (>= {}.{}), libgcc-s1, systemd (>= 250)", libc.0, libc.1)?;
    writeln!(text, "Description: key service of a citizen card 市民卡密钥服务")?;
    writeln!(
        text,
        " A hardened module holds the master keys, checks the transaction codes of a settlement day by the"
    )?;
    writeln!(
        text,
        " million, and writes every act into a log that an auditor verifies with one public key."
    )?;
    writeln!(
        text,
        " .\n It is a software module, not a certified HSM: /usr/share/doc/citykeep/SECURITY.md comes first."
    )?;
    put(&folder.join("control"), &text)
}

/// The newest `GLIBC_x.y` that a program asks for.
fn newest_libc(program: &[u8]) -> (u32, u32) {
    let mark = b"GLIBC_";
    let versions =
        program.windows(mark.len()).enumerate().filter(|(_, window)| window == mark).filter_map(|(at, _)| {
            let rest = program.get(at + mark.len()..)?;
            let end = rest.iter().position(|byte| *byte == 0)?;
            let (major, minor) = std::str::from_utf8(rest.get(..end)?).ok()?.split_once('.')?;
            Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
        });
    versions.max().unwrap_or_default()
}

/// When the tree was last changed, in seconds; every file in the package has this time.
fn moment() -> Result<u64> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return given.parse().context("SOURCE_DATE_EPOCH");
    }
    let mut command = Command::new("git");
    let commit = said(command.args(["log", "-1", "--format=%ct"]).current_dir(cargo::root()), "git log")?;
    commit.trim().parse().context("git log")
}

/// Every file below a directory, in the order of the names.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for item in fs::read_dir(root)? {
        let path = item?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Gives everything its time, and modes that do not depend on whose checkout it is.
fn settle(root: &Path, time: SystemTime) -> Result<()> {
    for item in fs::read_dir(root)? {
        let path = item?.path();
        if path.is_dir() {
            settle(&path, time)?;
        } else {
            let run = fs::metadata(&path)?.permissions().mode() & 0o100 != 0;
            fs::set_permissions(&path, Permissions::from_mode(if run { 0o755 } else { 0o644 }))?;
            File::options().write(true).open(&path)?.set_times(FileTimes::new().set_modified(time))?;
        }
    }
    fs::set_permissions(root, Permissions::from_mode(0o755))?;
    File::open(root)?.set_times(FileTimes::new().set_modified(time))?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        for item in fs::read_dir(from)? {
            let path = item?.path();
            let name = path.file_name().context("a file without a name")?.to_owned();
            copy(&path, &to.join(name))?;
        }
        return Ok(());
    }
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).with_context(|| format!("{} into {}", from.display(), to.display()))?;
    Ok(())
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn zip(path: &Path) -> Result<()> {
    quiet(Command::new("gzip").args(["-9", "--no-name", "--force"]).arg(path), "gzip")
}

fn quiet(command: &mut Command, name: &str) -> Result<()> {
    said(command, name).map(|_| ())
}

/// What a program says; its error if it fails.
pub(crate) fn said(command: &mut Command, name: &str) -> Result<String> {
    let output = command.output().with_context(|| format!("{name} cannot be started"))?;
    if !output.status.success() {
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{name} failed ({}): {}{}", output.status, out.trim(), error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_libc_is_found() {
        assert_eq!(newest_libc(b"..GLIBC_2.9\0x GLIBC_2.34\0 GLIBC_2.2.5\0GLIBC_PRIVATE\0GLIBC_3"), (2, 34));
        assert_eq!(newest_libc(b"nothing"), (0, 0));
    }

    #[test]
    fn the_installed_configuration_is_the_sample_with_other_places() {
        let text = configuration().unwrap();
        let installed: toml::Table = text.parse().unwrap();
        assert_eq!(installed.get("log_dir").and_then(toml::Value::as_str), Some("/var/lib/citykeep-log"));
        assert!(!installed.contains_key("listen"), "the socket unit says where clients come");
    }
}
