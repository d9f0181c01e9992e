//! The configuration file: closed, typed, checked once at start. `policies/keyd.sample.toml` documents every key.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::metrics::Place;

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration {path}: {error}; give a readable file with --config", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not TOML, an unknown key, a missing key.
    #[error("the configuration {path} does not parse: {error}; policies/keyd.sample.toml shows every key", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Why, with the line.
        error: String,
    },
    /// A value outside its range.
    #[error("{0}")]
    Value(&'static str),
}

/// The configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct Config {
    /// Listener address; port 0 takes a free one. None if systemd hands a listener over.
    pub listen: Option<SocketAddr>,
    /// keyd's own directory.
    pub state_dir: PathBuf,
    /// The published log.
    pub log_dir: PathBuf,
    /// keyd's socket of the module.
    pub hsm_socket: PathBuf,
    /// Roles and grants.
    pub policy_file: PathBuf,
    /// Where Prometheus asks; nowhere if left out and systemd hands no listener over.
    pub metrics: Option<Place>,
    /// TLS files.
    pub tls: TlsConfig,
    /// Who cosigns the log's heads; without it nobody does.
    pub witnesses: Option<WitnessesConfig>,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
}

/// Whom keyd asks for cosignatures.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct WitnessesConfig {
    /// The tlog-policy: log, witnesses with URLs, quorum.
    pub policy_file: PathBuf,
    /// CA of witnesses that answer by https, PEM.
    pub ca: Option<PathBuf>,
    /// Folder with a Unix socket NAME.sock for each witness; keyd then opens no connection to the network.
    pub sockets: Option<PathBuf>,
}

/// TLS files and name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct TlsConfig {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PKCS#8 PEM, 0600.
    pub key: PathBuf,
    /// CA bundle of the clients.
    pub client_ca: PathBuf,
    /// Revocation lists.
    pub client_crl: PathBuf,
    /// The one server name.
    pub server_name: String,
}

/// Limits; each has a default.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
#[allow(clippy::exhaustive_structs)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Open connections of one client.
    pub connections_per_client: usize,
    /// Whole TLS handshake.
    pub handshake_timeout_ms: u64,
    /// Request head, from its first byte.
    pub header_timeout_ms: u64,
    /// Next part of a body.
    pub body_timeout_ms: u64,
    /// Next part of an answer taken.
    pub write_timeout_ms: u64,
    /// Connection without a request.
    pub idle_timeout_ms: u64,
    /// Requests under way at a stop.
    pub drain_timeout_ms: u64,
    /// Longest JSON or command body.
    pub json_body_max_bytes: usize,
    /// Settlement batches at the same time.
    pub batch_streams: usize,
    /// Receipts kept.
    pub receipts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_client: 64,
            handshake_timeout_ms: 5_000,
            header_timeout_ms: 5_000,
            body_timeout_ms: 10_000,
            write_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            drain_timeout_ms: 10_000,
            json_body_max_bytes: 1 << 20,
            batch_streams: 4,
            receipts: 10_000,
        }
    }
}

impl Limits {
    /// As a [`Duration`].
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    /// As a [`Duration`].
    pub fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    /// As a [`Duration`].
    pub fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    /// As a [`Duration`].
    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    /// As a [`Duration`].
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// As a [`Duration`].
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let timeouts = [
            self.handshake_timeout_ms,
            self.header_timeout_ms,
            self.body_timeout_ms,
            self.write_timeout_ms,
            self.idle_timeout_ms,
            self.drain_timeout_ms,
        ];
        let rules = [
            (
                timeouts.iter().all(|ms| (100..=3_600_000).contains(ms)),
                "every timeout in [limits] must be 100 to 3600000 milliseconds; without one, slow clients hold keyd up",
            ),
            (
                self.connections > 0 && (1..=self.connections).contains(&self.connections_per_client),
                "limits.connections_per_client must be at least 1 and at most limits.connections",
            ),
            (
                (4096..=16 << 20).contains(&self.json_body_max_bytes),
                "limits.json_body_max_bytes must be 4096 to 16777216",
            ),
            (
                (1..=4).contains(&self.batch_streams),
                "limits.batch_streams must be 1 to 4: the module serves four batches at a time",
            ),
            (self.receipts > 0, "limits.receipts must be at least 1"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, message)) => Err(ConfigError::Value(message)),
            None => Ok(()),
        }
    }
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            error: error.to_string().trim_end().to_owned(),
        })?;
        config.limits.check()?;
        if config.tls.server_name.is_empty() || config.tls.server_name.contains('*') {
            return Err(ConfigError::Value(
                "tls.server_name must be one DNS name without wildcard: the name in keyd's certificate",
            ));
        }
        config.resolve(path.parent().unwrap_or_else(|| Path::new("")));
        Ok(config)
    }

    fn resolve(&mut self, base: &Path) {
        for path in [
            &mut self.state_dir,
            &mut self.log_dir,
            &mut self.hsm_socket,
            &mut self.policy_file,
            &mut self.tls.certificate,
            &mut self.tls.key,
            &mut self.tls.client_ca,
            &mut self.tls.client_crl,
        ] {
            *path = base.join(&*path);
        }
        if let Some(Place::Socket(path)) = &mut self.metrics {
            *path = base.join(&*path);
        }
        if let Some(witnesses) = &mut self.witnesses {
            witnesses.policy_file = base.join(&witnesses.policy_file);
            for path in [&mut witnesses.ca, &mut witnesses.sockets].into_iter().flatten() {
                *path = base.join(&*path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../../policies/keyd.sample.toml");

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyd.toml");
        fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn the_sample_shows_every_key_with_its_default() {
        assert_eq!(load(SAMPLE).unwrap().limits, Limits::default());
        let (head, limits) = SAMPLE.split_once("[limits]").unwrap();
        let is_key = |line: &&str| line.starts_with("# ") && line.contains(" = ");
        let keys: Vec<&str> = limits.lines().filter(is_key).collect();
        assert_eq!(keys.len(), 11, "one line for each limit");
        let keys: Vec<&str> = keys.iter().map(|line| &line[2..]).collect();
        let head = head.replace("\n# metrics = ", "\nmetrics = ");
        let config = load(&format!("{head}[limits]\n{}", keys.join("\n"))).unwrap();
        assert_eq!(config.limits, Limits::default());
        assert!(matches!(config.metrics, Some(Place::Loopback(_))));
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let (head, _) = SAMPLE.split_once("[limits]").unwrap();
        let section = head.split_once("# [witnesses]").unwrap().1;
        let is_key = |line: &&str| line.starts_with("# ") && line.contains(" = ");
        let keys: Vec<&str> = section.lines().filter(is_key).map(|line| &line[2..]).collect();
        assert_eq!(keys.len(), 3, "every key of the section");
        let witnesses = load(&format!("{head}[witnesses]\n{}", keys.join("\n"))).unwrap().witnesses.unwrap();
        let all =
            [&witnesses.policy_file, witnesses.ca.as_ref().unwrap(), witnesses.sockets.as_ref().unwrap()];
        assert!(all.iter().all(|path| path.is_absolute()));
        let config = load(SAMPLE).unwrap();
        assert!(config.witnesses.is_none());
        assert!(config.tls.key.is_absolute() && config.tls.key.ends_with("pki/keyd.key"));
    }

    #[test]
    fn refused_files() {
        let with = |limits: &str| load(&SAMPLE.replace("[limits]", &format!("[limits]\n{limits}")));
        assert!(matches!(with("more = 1"), Err(ConfigError::Syntax { .. })));
        assert!(matches!(load(&SAMPLE.replace("[tls]", "[tls]\nmore = 1")), Err(ConfigError::Syntax { .. })));
        assert!(matches!(load(&format!("more = 1\n{SAMPLE}")), Err(ConfigError::Syntax { .. })));
        assert!(matches!(
            load(&SAMPLE.replace("client_crl", "# client_crl")),
            Err(ConfigError::Syntax { .. })
        ));
        for limit in [
            "body_timeout_ms = 0",
            "idle_timeout_ms = 9999999999",
            "connections = 0",
            "connections_per_client = 0",
            "connections_per_client = 2000",
            "batch_streams = 0",
            "batch_streams = 5",
            "json_body_max_bytes = 1",
            "receipts = 0",
        ] {
            assert!(matches!(with(limit), Err(ConfigError::Value(_))), "{limit}");
        }
        let open = SAMPLE.replace("\n# metrics = \"127.0.0.1", "\nmetrics = \"0.0.0.0");
        let said = load(&open).unwrap_err().to_string();
        assert!(said.contains("not a loopback address"), "{said}");
        let star = SAMPLE.replace("\"localhost\"", "\"*.example\"");
        assert!(matches!(load(&star), Err(ConfigError::Value(_))));
    }
}
