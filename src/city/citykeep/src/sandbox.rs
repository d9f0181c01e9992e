//! `citykeep sandbox`: the whole service on published test keys, for integrators. Always a rehearsal instance of its own.

mod explain;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use wire::purse::{hex, to_hex};

use self::explain::Rehearsal;
use crate::cli::{SandboxArguments, Service};
use crate::failure::Failure;
use crate::files;
use crate::report::{Report, say};

/// Whoever knows the seed knows the keys: that is what they are for.
const SEED: &str = "citykeep sandbox";

/// What the ceremony of a sandbox reads.
const FILES: [(&str, &str); 5] = [
    ("policies/rehearsal.toml", include_str!("../../../../policies/rehearsal.toml")),
    ("policies/applets/transit.toml", include_str!("../../../../policies/applets/transit.toml")),
    ("policies/applets/health.toml", include_str!("../../../../policies/applets/health.toml")),
    ("policies/applets/campus.toml", include_str!("../../../../policies/applets/campus.toml")),
    (
        "keyceremony/scripts/settlement-day.toml",
        include_str!("../../../../keyceremony/scripts/settlement-day.toml"),
    ),
];

/// A daemon that ends with the sandbox.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// keyd would find it out only after half of a ceremony, which would then fail for a reason that nobody understands.
fn free(port: u16) -> Result<TcpListener, Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
        Failure::untried(
            format!("端口 {port} 不可用,请用 --port 另选。"),
            format!(
                "port {port} cannot be had ({error}): another keyd or sandbox may run; end it, or choose one with --port"
            ),
        )
    })
}

/// Where records are explained: the port behind keyd's.
fn door(port: u16) -> Result<TcpListener, Failure> {
    let next = if port == 0 { Some(0) } else { port.checked_add(1) };
    free(next.ok_or_else(|| {
        Failure::untried(
            "--port 应小于 65535,其后一个端口也要使用。",
            "--port must be below 65535: the port behind it is taken too",
        )
    })?)
}

pub(crate) fn run(arguments: &SandboxArguments) -> Result<Report, Failure> {
    drop(free(arguments.port)?);
    let door = door(arguments.port)?;
    let place = Place::make(&arguments.state)?;
    let (hsm, _) = place.start(
        "citykeep-hsm",
        &[
            "run",
            "--keyd-socket",
            "run/keyd.sock",
            "--officers-socket",
            "run/officers.sock",
            "--identity",
            "hsm/identity",
        ],
        Some("ready"),
    )?;
    place.configure(arguments.port)?;
    let (mut keyd, lines) = place.start("citykeep-keyd", &["run", "--config", "keyd.toml"], None)?;
    place.ceremony()?;
    let url = lines.lines().map_while(Result::ok).find(|line| line.starts_with("ready "));
    let url = url.ok_or_else(|| {
        let log = place.0.join("keyd.log");
        Failure::no_result(
            "sandbox",
            format!("keyd 未能启动,原因见 {}。", log.display()),
            "keyd did not start; its log says why",
        )
    })?;
    let url = url.trim_start_matches("ready ").replace("127.0.0.1", "localhost");
    let explain = place.explain(&url, door)?;
    let lines = place.welcome(&url, &explain)?;
    if arguments.once {
        drop((keyd, hsm));
        return Ok(Report {
            lines,
            json: json!({"ok": true, "url": url, "explain": explain, "state": place.0}),
        });
    }
    for line in &lines {
        say(line);
    }
    // Until Ctrl-C, which ends the daemons too: they are of our process group.
    let _ = keyd.0.wait();
    drop(hsm);
    let zh = "keyd 已停止,原因见沙箱目录中的 keyd.log。";
    Err(Failure::no_result("sandbox", zh, "keyd has stopped; keyd.log in the sandbox's directory says why"))
}

/// The sandbox's directory.
#[derive(Clone)]
struct Place(PathBuf);

impl Place {
    fn make(state: &Path) -> Result<Self, Failure> {
        let failed = |error: &std::io::Error| unmade(state, error);
        for folder in ["", "hsm", "keyd", "run", "out", "keyceremony/scripts", "policies/applets"] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(state.join(folder))
                .map_err(|error| failed(&error))?;
        }
        let place = Self(fs::canonicalize(state).map_err(|error| failed(&error))?);
        for (name, text) in FILES {
            fs::write(place.0.join(name), text).map_err(|error| failed(&error))?;
        }
        let once = |name: &str, program: &str, words: &[&str]| {
            if place.0.join(name).exists() { Ok(()) } else { place.must(program, words) }
        };
        once("hsm/identity", "citykeep-hsm", &["identity", "--new", "hsm/identity"])?;
        once("keys.json", "citycard", &["keys", "--out", "keys.json", "--seed", SEED])?;
        place.published()?;
        once("masters.json", "citycard", &["masters", "--out", "masters.json", "--seed", SEED])?;
        once("ledger.key", "citycard", &["ledger", "--out", "."])?;
        once(
            "day.txt",
            "citycard",
            &["day", "--keys", "keys.json", "--out", "day.txt", "--transactions", "1000", "--seed", SEED],
        )?;
        place.must("keyceremony", &["pki", "--out", "pki"])?;
        Ok(place)
    }

    /// A program that lies beside this one, in the sandbox's directory.
    fn program(&self, name: &str) -> Command {
        let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(name)));
        let mut command =
            Command::new(beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(name)));
        command.current_dir(&self.0).stdin(Stdio::null());
        command
    }

    fn must(&self, name: &str, words: &[&str]) -> Result<(), Failure> {
        let done = self.program(name).args(words).output();
        let done = done.map_err(|error| missing(name, &error))?;
        if done.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        Err(Failure::no_result(
            "sandbox",
            format!("{name} 失败,请按其说明处理后重新执行:"),
            format!("{name}: {why}"),
        ))
    }

    /// Starts a daemon; waits for the line that begins with `ready`, or gives its lines.
    fn start(
        &self,
        name: &str,
        words: &[&str],
        ready: Option<&str>,
    ) -> Result<(Daemon, BufReader<std::process::ChildStdout>), Failure> {
        let failed = |error: &std::io::Error| missing(name, error);
        let log = self.0.join(format!("{}.log", name.trim_start_matches("citykeep-")));
        let log =
            fs::OpenOptions::new().create(true).append(true).open(log).map_err(|error| failed(&error))?;
        let mut command = self.program(name);
        command.args(words).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let stdout = child.stdout.take();
        let daemon = Daemon(child);
        let Some(stdout) = stdout else {
            return Err(missing(name, &std::io::Error::other("it has no output")));
        };
        let mut lines = BufReader::new(stdout);
        if let Some(ready) = ready {
            let mut line = String::new();
            while !line.starts_with(ready) {
                line.clear();
                if lines.read_line(&mut line).unwrap_or(0) == 0 {
                    return Err(Failure::no_result(
                        "sandbox",
                        format!("{name} 未能启动,原因见沙箱目录中的日志。"),
                        format!("{name} did not start; its log in the sandbox's directory says why"),
                    ));
                }
            }
        }
        Ok((daemon, lines))
    }

    fn configure(&self, port: u16) -> Result<(), Failure> {
        let config = format!(
            "# A sandbox: published test keys.\nlisten = \"127.0.0.1:{port}\"\nstate_dir = \"keyd\"\nlog_dir = \"log\"\n\
             hsm_socket = \"run/keyd.sock\"\npolicy_file = \"policies/rehearsal.toml\"\n[tls]\ncertificate = \"pki/keyd.pem\"\n\
             key = \"pki/keyd.key\"\nclient_ca = \"pki/ca.pem\"\nclient_crl = \"pki/crl.pem\"\nserver_name = \"localhost\"\n"
        );
        fs::write(self.0.join("keyd.toml"), config).map_err(|error| unmade(&self.0, &error))
    }

    fn ceremony(&self) -> Result<(), Failure> {
        self.must(
            "keyceremony",
            &[
                "rehearse",
                "keyceremony/scripts/settlement-day.toml",
                "--state",
                ".",
                "--officers-socket",
                "run/officers.sock",
                "--keys",
                "keys.json",
                "--masters",
                "masters.json",
                "--ledger",
                "ledger.pem",
                "--policy",
                "policies/rehearsal.toml",
                "--ca",
                "pki/ca.pem",
                "--json",
                "out/ceremony.json",
            ],
        )
    }

    /// A directory with keys of its own is no sandbox: what is explained here must be everybody's.
    fn published(&self) -> Result<(), Failure> {
        let fresh = "keys.published.json";
        let _ = fs::remove_file(self.0.join(fresh));
        self.must("citycard", &["keys", "--out", fresh, "--seed", SEED])?;
        let read = |name: &str| fs::read(self.0.join(name)).map_err(|error| unmade(&self.0, &error));
        let same = read(fresh)? == read("keys.json")?;
        fs::remove_file(self.0.join(fresh)).map_err(|error| unmade(&self.0, &error))?;
        if same {
            return Ok(());
        }
        Err(Failure::untried(
            format!("{}/keys.json 不是公开的测试密钥,请用 --state 另选空目录。", self.0.display()),
            "its keys are not the published ones, so this is no sandbox; give --state an empty directory",
        ))
    }

    /// Starts to explain, if the service says that it is a rehearsal. The address.
    fn explain(&self, url: &str, door: TcpListener) -> Result<String, Failure> {
        let pki = |name: &str| self.0.join("pki").join(name);
        let service = Service {
            url: url.to_owned(),
            ca: pki("ca.pem"),
            cert: pki("clearing.pem"),
            key: pki("clearing.key"),
        };
        let status = files::run(files::client(&service, None)?.status())?;
        let rehearsal = Rehearsal::of(&status)?;
        let served = door.local_addr().and_then(|address| {
            explain::serve(&rehearsal, door, self.clone())?;
            Ok(format!("http://{address}/explain"))
        });
        served.map_err(|error| {
            let en = format!("records cannot be explained ({error}); check the process limits");
            Failure::no_result("sandbox", "解释服务未能启动,请检查进程数限制。", en)
        })
    }

    fn welcome(&self, url: &str, explain: &str) -> Result<Vec<String>, Failure> {
        let text = fs::read_to_string(self.0.join("out/ceremony.json")).unwrap_or_default();
        let summary: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
            let en = format!("the ceremony left no summary ({error}); give --state an empty directory");
            Failure::no_result("sandbox", "仪式未留下摘要,请用 --state 另选空目录。", en)
        })?;
        let mut lines = vec![
            format!("沙箱就绪 the sandbox is up: {url}"),
            "演练实例,公开的测试密钥,不得用于生产。 A rehearsal instance on published test keys: never for production.".to_owned(),
            format!("目录 directory   {}", self.0.display()),
            format!("证书 certificates {}/pki: clearing, line, cards, terminal, health, auditor", self.0.display()),
        ];
        for licence in summary.get("licences").and_then(|rows| rows.as_array()).into_iter().flatten() {
            let text = |name: &str| licence.get(name).and_then(|value| value.as_str()).unwrap_or_default();
            lines.push(format!(
                "许可 licence      {} {} {} from {}",
                text("id"),
                text("line"),
                text("transport"),
                text("first")
            ));
        }
        lines.push(format!(
            "记录为何失败 why records fail: curl --data-binary @{}/day.txt {explain}",
            self.0.display()
        ));
        lines.push(
            "  加 with -H 'Accept: application/json': JSON; 离线 offline: citycard explain --help".to_owned(),
        );
        lines.push("样例 samples: src/keep/keyd/samples; 接口 interface: GET /v1/openapi.json".to_owned());
        lines.extend(self.sample(url, &summary));
        Ok(lines)
    }

    /// A sample's whole command, with the transport key that a real line would have in its own HSM.
    fn sample(&self, url: &str, summary: &serde_json::Value) -> Option<String> {
        let text = fs::read_to_string(self.0.join("masters.json")).ok()?;
        let masters: serde_json::Value = serde_json::from_str(&text).ok()?;
        let licence = summary.get("licences")?.as_array()?.iter().find(|row| {
            row.get("transport").and_then(serde_json::Value::as_str) == Some("transit/perso/line-1@01")
        })?;
        let (id, first) = (licence.get("id")?.as_str()?, licence.get("first")?.as_str()?);
        let (key, dir) = (transport_key(&masters)?, self.0.display());
        Some(format!(
            "    bash src/keep/keyd/samples/curl.sh {url} {dir}/pki {id} {first} {key} {dir}/day.txt {dir}/log/vkey {dir}/out"
        ))
    }
}

fn missing(name: &str, error: &std::io::Error) -> Failure {
    let zh = format!("{name} 无法运行,请安装在 citykeep 旁。");
    Failure::untried(zh, format!("{name} cannot be run ({error}); install it beside citykeep"))
}

fn unmade(path: &Path, error: &std::io::Error) -> Failure {
    let zh = format!("{}: 目录无法使用,请检查权限或用 --state 另选。", path.display());
    Failure::untried(
        zh,
        format!("the directory cannot be used ({error}); check it or choose one with --state"),
    )
}

/// The published AES transport key of the transit line, from its components.
fn transport_key(masters: &serde_json::Value) -> Option<String> {
    let is = |row: &serde_json::Value, name: &str, value: &str| {
        row.get(name).and_then(serde_json::Value::as_str) == Some(value)
    };
    let row = masters.get("keys")?.as_array()?.iter().find(|row| {
        is(row, "applet", "transit") && is(row, "key_set", "perso") && is(row, "role", "line-1")
    })?;
    let mut key = [0; 16];
    for component in row.get("versions")?.get(0)?.get("components")?.as_array()? {
        let part: [u8; 16] = hex(component.get("hex")?.as_str()?.as_bytes())?;
        key.iter_mut().zip(part).for_each(|(to, from)| *to ^= from);
    }
    Some(to_hex(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_said_before_anything_is_made() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(free(taken.local_addr().unwrap().port()).is_err());
        assert!(free(0).is_ok() && door(0).is_ok());
        assert!(door(u16::MAX).is_err());
    }

    #[test]
    fn the_published_transport_key_is_the_sum_of_its_components() {
        let row = |role: &str| {
            json!({"applet": "transit", "key_set": "perso", "role": role, "versions": [{"components": [
                {"hex": "000102030405060708090A0B0C0D0E0F"}, {"hex": "FF000000000000000000000000000000"},
            ]}]})
        };
        let of = |rows: &[serde_json::Value]| transport_key(&json!({"keys": rows}));
        assert_eq!(of(&[row("line-2"), row("line-1")]).unwrap(), "FF0102030405060708090A0B0C0D0E0F");
        assert_eq!(of(&[row("line-2")]), None);
    }
}
