//! The installation that a configuration file names.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::finding::Finding;

/// What doctor needs of a configuration. keyd itself judges the file (`check-config`).
#[derive(Debug)]
pub(super) struct House {
    pub(super) config: PathBuf,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) log_dir: Option<PathBuf>,
    pub(super) hsm_socket: Option<PathBuf>,
    pub(super) policy: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) client_crl: Option<PathBuf>,
    pub(super) server_name: Option<String>,
    /// Name and number of the user that keyd works as: the package's user if this is its configuration, else the state
    /// directory's owner.
    pub(super) user: Option<(String, u32)>,
}

impl House {
    /// Reads the configuration and has keyd check it.
    pub(super) fn read(config: PathBuf, findings: &mut Vec<Finding>) -> Self {
        let table = match fs::read_to_string(&config) {
            Ok(text) => text.parse::<toml::Table>().unwrap_or_default(),
            Err(_) => toml::Table::new(),
        };
        let tls = table.get("tls").and_then(toml::Value::as_table);
        let text = |table: Option<&toml::Table>, key: &str| {
            table.and_then(|table| table.get(key)?.as_str()).map(str::to_owned)
        };
        let base = config.parent().unwrap_or_else(|| Path::new("")).to_owned();
        let place = |table, key: &str| text(table, key).map(|path| base.join(path));
        let state_dir = place(Some(&table), "state_dir");
        let user = user_of(&config, state_dir.as_deref());
        let house = Self {
            log_dir: place(Some(&table), "log_dir"),
            hsm_socket: place(Some(&table), "hsm_socket"),
            policy: place(Some(&table), "policy_file"),
            certificate: place(tls, "certificate"),
            key: place(tls, "key"),
            client_ca: place(tls, "client_ca"),
            client_crl: place(tls, "client_crl"),
            server_name: text(tls, "server_name"),
            state_dir,
            user,
            config,
        };
        findings.push(check_config(&house.config, house.key.as_deref()));
        house
    }

    /// Whether it is the package's.
    pub(super) fn is_installed(&self) -> bool {
        self.config.starts_with("/etc/citykeep")
    }

    /// The trust domain of the policy.
    pub(super) fn trust_domain(&self) -> Option<String> {
        let policy = fs::read_to_string(self.policy.as_ref()?).ok()?.parse::<toml::Table>().ok()?;
        policy.get("trust_domain")?.as_str().map(str::to_owned)
    }
}

fn user_of(config: &Path, state_dir: Option<&Path>) -> Option<(String, u32)> {
    let named =
        if config.starts_with("/etc/citykeep") { super::files::user_number("citykeep-keyd") } else { None };
    let number = named.or_else(|| fs::metadata(state_dir?).ok().map(|meta| meta.uid()))?;
    Some((super::files::user_name(number), number))
}

/// A program of ours: beside this one, else wherever the shell finds it.
pub(super) fn program(name: &str) -> Command {
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(name)));
    let mut command =
        Command::new(beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(name)));
    command.stdin(Stdio::null());
    command
}

fn check_config(config: &Path, key: Option<&Path>) -> Finding {
    const CHECK: &str = "configuration";
    let path = config.display();
    if let Some(hidden) = [Some(config), key].into_iter().flatten().find(|path| super::files::is_hidden(path))
    {
        let hidden = hidden.display();
        return Finding::unchecked(
            CHECK,
            format!("{hidden} 不可读;请以 root 或 keyd 的用户运行"),
            format!("{hidden} cannot be read; run doctor as root or as keyd's user"),
        );
    }
    match program("citykeep-keyd").arg("check-config").arg("--config").arg(config).output() {
        Ok(output) if output.status.success() => Finding::good(
            CHECK,
            format!("{path} 有效"),
            format!("{path}, its policy and its TLS files are good (citykeep-keyd check-config)"),
        ),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().trim_start_matches("citykeep-keyd: ").to_owned();
            Finding::bad(
                CHECK,
                [format!("{path} 不能使用"), format!("keyd would not start with {path}: {said}")],
                [
                    "按上面的说明修改后重试",
                    "mend what the message names; policies/keyd.sample.toml (in the package /usr/share/citykeep/policies) shows \
                     every key",
                ],
            )
        }
        Err(error) => Finding::unchecked(
            CHECK,
            format!("无法运行 citykeep-keyd({error})"),
            format!("citykeep-keyd cannot be run ({error}); install it beside citykeep"),
        ),
    }
}
