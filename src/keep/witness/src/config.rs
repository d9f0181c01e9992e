//! The configuration file: closed, typed, checked once at start. `policies/witness.sample.toml` documents every key.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use translog::note::VerifierKey;

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration {path}: {error}; give a readable file with --config / 配置文件无法读取", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not TOML, an unknown key, a missing key.
    #[error("the configuration {path} does not parse: {error}; policies/witness.sample.toml shows every key / 配置文件格式错误", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Why, with the line.
        error: String,
    },
    /// A value that is not allowed.
    #[error("{0}")]
    Value(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    key: PathBuf,
    state_dir: PathBuf,
    listen: SocketAddr,
    tls: Option<TlsFiles>,
    #[serde(default)]
    log: Vec<LogText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogText {
    vkey: String,
    mirror: Option<MirrorConfig>,
}

/// The configuration.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Config {
    /// The key file.
    pub key: PathBuf,
    /// What this witness remembers.
    pub state_dir: PathBuf,
    /// Listener address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Without it only this machine can ask.
    pub tls: Option<TlsFiles>,
    /// What it watches; each origin once.
    pub logs: Vec<LogConfig>,
}

/// Certificate of the listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// One watched log.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct LogConfig {
    /// Its key; the key's name is the origin.
    pub vkey: VerifierKey,
    /// Whether its entries are kept too.
    pub mirror: Option<MirrorConfig>,
}

/// A copy of a log's entries.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct MirrorConfig {
    /// Where the copy is.
    pub folder: PathBuf,
    /// What is copied: an https URL that ends where `checkpoint` and `tile/` begin, or a directory.
    pub source: String,
    /// CA of the source's certificate, PEM; for a URL.
    pub ca: Option<PathBuf>,
    /// Our certificate for the source, PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        let text: Text = toml::from_str(&text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            error: error.to_string().trim_end().to_owned(),
        })?;
        text.check(path.parent().unwrap_or_else(|| Path::new("")))
    }
}

impl Text {
    /// Relative paths start at `base`.
    fn check(self, base: &Path) -> Result<Config, ConfigError> {
        if self.tls.is_none() && !self.listen.ip().is_loopback() {
            return Err(ConfigError::Value(format!(
                "listen = {} is open to other machines; add a [tls] section, or listen on 127.0.0.1 / 非本机地址必须配置 TLS",
                self.listen
            )));
        }
        let mut logs: Vec<LogConfig> = Vec::new();
        for log in self.log {
            let log = log.check(base)?;
            if logs.iter().any(|other| other.vkey.name() == log.vkey.name()) {
                return Err(ConfigError::Value(format!(
                    "the log {} is there twice; a log has one key here / 日志重复",
                    log.vkey.name()
                )));
            }
            logs.push(log);
        }
        if logs.is_empty() {
            return Err(ConfigError::Value(
                "no log is watched; add a [[log]] section with the log's vkey / 没有要见证的日志".to_owned(),
            ));
        }
        let tls =
            self.tls.map(|tls| TlsFiles { certificate: base.join(tls.certificate), key: base.join(tls.key) });
        let (key, state_dir) = (base.join(self.key), base.join(self.state_dir));
        Ok(Config { key, state_dir, listen: self.listen, tls, logs })
    }
}

impl LogText {
    fn check(self, base: &Path) -> Result<LogConfig, ConfigError> {
        let vkey = VerifierKey::parse(&self.vkey)
            .map_err(|error| ConfigError::Value(format!("vkey = {:?}: {error} / 日志公钥无效", self.vkey)))?;
        let mirror = self.mirror.map(|mirror| mirror.check(base)).transpose()?;
        Ok(LogConfig { vkey, mirror })
    }
}

impl MirrorConfig {
    fn check(mut self, base: &Path) -> Result<Self, ConfigError> {
        self.folder = base.join(self.folder);
        let is_url = self.source.starts_with("https://");
        if self.source.contains("://") && !is_url {
            return Err(ConfigError::Value(format!(
                "source = {:?} is neither a directory nor an https URL / source 无效",
                self.source
            )));
        }
        if is_url != self.ca.is_some() || self.certificate.is_some() != self.key.is_some() {
            return Err(ConfigError::Value(
                "a mirror by https needs ca, and certificate and key together if the source asks who comes; a directory needs none of them / 镜像证书配置不完整".to_owned(),
            ));
        }
        if !is_url {
            self.source = base.join(&self.source).to_string_lossy().into_owned();
        }
        for path in [&mut self.ca, &mut self.certificate, &mut self.key].into_iter().flatten() {
            *path = base.join(&*path);
        }
        Ok(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../../policies/witness.sample.toml");

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witness.toml");
        fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn the_sample_and_everything_that_is_commented_out_in_it_is_read() {
        let config = load(SAMPLE).unwrap();
        assert!(config.key.is_absolute() && config.tls.is_none() && config.logs.len() == 1);
        let is_example =
            |line: &str| line.starts_with("# ") && (line.contains(" = ") || line.starts_with("# ["));
        let all: Vec<&str> =
            SAMPLE.lines().map(|line| if is_example(line) { &line[2..] } else { line }).collect();
        let config = load(&all.join("\n")).unwrap();
        assert!(config.tls.is_some());
        let mirror = config.logs[0].mirror.as_ref().unwrap();
        assert!(mirror.ca.as_ref().unwrap().is_absolute() && mirror.source.starts_with("https://"));
    }

    #[test]
    fn refused_files() {
        let value = |text: &str| match load(text) {
            Err(ConfigError::Value(why)) => why,
            other => panic!("{text}: {other:?}"),
        };
        assert!(value(&SAMPLE.replace("127.0.0.1", "0.0.0.0")).contains("[tls]"));
        assert!(value(&SAMPLE.replace("+AQOh", "+BQOh")).contains("vkey"));
        let (head, log) = SAMPLE.split_once("[[log]]").unwrap();
        assert!(value(head).contains("no log"));
        assert!(value(&format!("{SAMPLE}\n[[log]]{log}")).contains("twice"));
        let mirror = |rest: &str| value(&format!("{SAMPLE}\n[log.mirror]\nfolder = \"m\"\n{rest}"));
        assert!(mirror("source = \"https://keyd.example/v1/log\"").contains("needs ca"));
        assert!(mirror("source = \"log\"\nca = \"ca.pem\"").contains("needs none"));
        assert!(mirror("source = \"http://keyd.example\"").contains("neither"));
        assert!(matches!(load(&format!("more = 1\n{SAMPLE}")), Err(ConfigError::Syntax { .. })));
        assert!(matches!(Config::load(Path::new("/none")), Err(ConfigError::Read { .. })));
    }
}
