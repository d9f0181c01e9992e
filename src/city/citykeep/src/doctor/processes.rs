//! The two processes of this installation, by `/proc`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::house::{House, program};

const MODULE: &str = "citykeep-hsm";
const DAEMON: &str = "citykeep-keyd";
const VERSIONS: &str = "versions";

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: &'static str,
    place: PathBuf,
    uid: u32,
    words: Vec<String>,
}

impl Process {
    /// Its limits; `None` unless it is ours or we are root.
    pub(super) fn limits(&self) -> Option<String> {
        fs::read_to_string(self.place.join("limits")).ok().filter(|text| !text.is_empty())
    }

    /// Whether its program was replaced after it started.
    fn outdated(&self) -> Option<bool> {
        let link = fs::read_link(self.place.join("exe")).ok()?;
        Some(link.to_string_lossy().ends_with(" (deleted)"))
    }

    /// Whether this word of its command line is that file of ours. Unseen directories count as no.
    fn says(&self, option: &str, file: &Path) -> Option<bool> {
        let at = self.words.iter().position(|word| word == option)?;
        let word = PathBuf::from(self.words.get(at + 1)?);
        let path = match word.strip_prefix("/") {
            Ok(below) => self.place.join("root").join(below),
            Err(_) => self.place.join("cwd").join(word),
        };
        let same = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        Some(same(&path).is_some() && same(&path) == same(file))
    }

    /// Whether systemd runs it as the package's service.
    fn is_of_unit(&self) -> bool {
        let groups = fs::read_to_string(self.place.join("cgroup")).unwrap_or_default();
        groups.lines().any(|line| line.ends_with(&format!("/{}.service", self.name)))
    }

    fn of_this_root(&self) -> bool {
        let same = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        // The unit gives the module an empty root of its own, so there its unit tells.
        same(&self.place.join("root")) == same(Path::new("/")) || self.is_of_unit()
    }
}

fn all(name: &'static str) -> Vec<Process> {
    let mut found = Vec::new();
    for item in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let place = item.path();
        let comm = fs::read_to_string(place.join("comm")).unwrap_or_default();
        if comm.trim() != name {
            continue;
        }
        let status = fs::read_to_string(place.join("status")).unwrap_or_default();
        let uid = status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
        let words = fs::read(place.join("cmdline")).unwrap_or_default();
        let words = words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        if let Some(uid) = uid {
            found.push(Process { name, place, uid, words: words.collect() });
        }
    }
    found
}

/// keyd of this configuration. Without the rights to tell, the only one there is.
pub(super) fn daemon(house: &House) -> Option<Process> {
    choose(all(DAEMON), "--config", &house.config)
}

/// The module behind this configuration's socket. One that systemd gave its socket names none.
pub(super) fn module(house: &House) -> Option<Process> {
    let socket = house.hsm_socket.as_deref()?;
    choose(all(MODULE), "--keyd-socket", socket)
}

fn choose(mut processes: Vec<Process>, option: &str, file: &Path) -> Option<Process> {
    if let Some(at) = processes.iter().position(|process| process.says(option, file) == Some(true)) {
        return Some(processes.swap_remove(at));
    }
    // Those that name nothing, or whose places we may not see.
    processes.retain(|process| match process.says(option, file) {
        None => process.of_this_root(),
        Some(_) => fs::read_link(process.place.join("root")).is_err(),
    });
    if processes.len() == 1 { processes.pop() } else { None }
}

pub(super) fn check(house: &House) -> Vec<Finding> {
    vec![versions(), running(house), replaced(house)]
}

/// Both programs and this one are of one release.
fn versions() -> Finding {
    const CHECK: &str = VERSIONS;
    let ours = env!("CARGO_PKG_VERSION");
    let mut said = Vec::new();
    for name in [MODULE, DAEMON] {
        let output = program(name).arg("--version").output().ok().filter(|output| output.status.success());
        let Some(output) = output else {
            return Finding::unchecked(
                CHECK,
                format!("无法运行 {name}"),
                format!("{name} cannot be run; install it beside citykeep"),
            );
        };
        said.push(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    judge_versions(ours, &said)
}

fn judge_versions(ours: &str, said: &[String]) -> Finding {
    const CHECK: &str = VERSIONS;
    let text = format!("citykeep {ours}, {}", said.join(", "));
    if said.iter().all(|line| line.split_whitespace().last() == Some(ours)) {
        return Finding::good(CHECK, "版本一致", text);
    }
    Finding::warn(
        CHECK,
        ["版本不一致".to_owned(), format!("they are of different releases: {text}")],
        [
            "安装同一发布的软件包",
            "install one release of the package; what still runs is judged by the line after the next",
        ],
    )
}

/// Both run, each as a user of its own.
fn running(house: &House) -> Finding {
    const CHECK: &str = "processes";
    let (module, daemon) = (module(house), daemon(house));
    // Where several run, or what they hold may not be seen, this user cannot tell which is which.
    let unsure = |name| !rustix::process::geteuid().is_root() && !all(name).is_empty();
    if (module.is_none() && unsure(MODULE)) || (daemon.is_none() && unsure(DAEMON)) {
        return Finding::unchecked(
            CHECK,
            "需要 root 才能辨认进程",
            "telling which of the processes here are this installation's takes root",
        );
    }
    let Some(daemon) = daemon else {
        return Finding::bad(
            CHECK,
            [
                "citykeep-keyd 没有运行".to_owned(),
                format!("no citykeep-keyd runs with {}", house.config.display()),
            ],
            [
                "systemctl start citykeep-keyd.service,再看 systemctl status",
                "start it (systemctl start citykeep-keyd.service); systemctl status and the journal say why it does not",
            ],
        );
    };
    let Some(module) = module else {
        return Finding::bad(
            CHECK,
            ["citykeep-hsm 没有运行", "keyd runs, and no citykeep-hsm that could be its module"],
            [
                "systemctl start citykeep-hsm.service,然后由保管人解封",
                "start it (systemctl start citykeep-hsm.service); then custodians and officers unseal it",
            ],
        );
    };
    let users = [&module, &daemon].map(|process| super::files::user_name(process.uid));
    let [of_module, of_daemon] = &users;
    if module.uid == daemon.uid {
        return Finding::warn(
            CHECK,
            [
                format!("两个进程同属用户 {of_module}"),
                format!("both processes are {of_module}'s: a taken-over keyd could stop the module"),
            ],
            [
                "只可用于演练;生产环境请用安装包的单元",
                "good for a rehearsal only; the package's units give each its own user",
            ],
        );
    }
    Finding::good(
        CHECK,
        format!("密码模块属 {of_module},keyd 属 {of_daemon}"),
        format!("the module runs as {of_module}, keyd as {of_daemon}"),
    )
}

/// Whether what runs is what is installed.
fn replaced(house: &House) -> Finding {
    const CHECK: &str = "running-release";
    let processes: Vec<_> = [module(house), daemon(house)].into_iter().flatten().collect();
    if processes.is_empty() {
        return Finding::unchecked(CHECK, "没有进程在运行", "neither process runs here");
    }
    for process in processes {
        match process.outdated() {
            Some(false) => {}
            Some(true) => {
                let name = process.name;
                let when = if name == MODULE {
                    "; a restarted module is sealed, so do it when the custodians are there"
                } else {
                    ""
                };
                return Finding::warn(
                    CHECK,
                    [
                        format!("{name} 仍在运行升级前的程序"),
                        format!("{name} runs on with the program of before an upgrade"),
                    ],
                    [
                        format!("systemctl restart {name}.service"),
                        format!("systemctl restart {name}.service{when}"),
                    ],
                );
            }
            None => {
                return Finding::unchecked(
                    CHECK,
                    "查看进程的程序文件需要 root",
                    "the program of a process takes root to look at",
                );
            }
        }
    }
    Finding::good(CHECK, "运行的就是已安装的程序", "what runs is what is installed")
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn programs_of_two_releases() {
        let state = |said: [&str; 2]| judge_versions("0.2.0", &said.map(str::to_owned)).state;
        assert_eq!(state(["citykeep-hsm 0.2.0", "citykeep-keyd 0.2.0"]), State::Good);
        assert_eq!(state(["citykeep-hsm 0.1.0", "citykeep-keyd 0.2.0"]), State::Warn);
        assert_eq!(state(["citykeep-hsm 0.2.0", ""]), State::Warn);
    }

    /// A process as `/proc` shows one, in a directory.
    #[test]
    fn a_process_is_known_by_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["proc", "cwd"] {
            fs::create_dir(at(name)).unwrap();
        }
        std::os::unix::fs::symlink(at("cwd"), at("proc/cwd")).unwrap();
        std::os::unix::fs::symlink("/usr/bin/citykeep-keyd (deleted)", at("proc/exe")).unwrap();
        fs::write(at("cwd/a.toml"), "").unwrap();
        fs::write(at("cwd/b.toml"), "").unwrap();
        fs::write(at("proc/limits"), "").unwrap();
        let words = ["citykeep-keyd", "run", "--config", "a.toml"].map(str::to_owned).to_vec();
        let process = Process { name: DAEMON, place: at("proc"), uid: 1, words };
        assert_eq!(process.says("--config", &at("cwd/a.toml")), Some(true));
        assert_eq!(process.says("--config", &at("cwd/b.toml")), Some(false));
        assert_eq!(process.says("--keyd-socket", &at("cwd/a.toml")), None);
        assert_eq!(process.outdated(), Some(true));
        assert_eq!(process.limits(), None, "a process that may not be looked at");
        assert!(!process.is_of_unit());
        fs::write(at("proc/cgroup"), "0::/system.slice/citykeep-hsm.service\n").unwrap();
        assert!(!process.is_of_unit());
        fs::write(at("proc/cgroup"), "0::/system.slice/citykeep-keyd.service\n").unwrap();
        assert!(process.is_of_unit());
        fs::remove_file(at("proc/exe")).unwrap();
        assert_eq!(process.outdated(), None);
    }
}
