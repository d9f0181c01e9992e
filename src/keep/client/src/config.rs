//! From files and a URL to a client: everything that can be wrong is found before anything is sent.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use translog::note::VerifierKey;
use zeroize::Zeroizing;

use crate::calls::Client;
use crate::connection::{Endpoint, Link};
use crate::error::Error;
use crate::receipt::Pinned;

/// A PEM file larger than this is not one of ours.
const PEM_MAX: u64 = 1 << 20;

/// How long each kind of wait may take.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Timeouts {
    /// TCP and TLS, all attempts together.
    pub connect: Duration,
    /// A small request from its first byte to the last byte of the answer.
    pub answer: Duration,
    /// Silence in a verdict stream.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            idle: Duration::from_mins(1),
        }
    }
}

/// Puts a [`Client`] together.
#[derive(Debug)]
pub struct ClientBuilder {
    url: String,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    log_key: Option<VerifierKey>,
    instance: Option<[u8; 16]>,
    timeouts: Timeouts,
}

impl ClientBuilder {
    /// `url` is `https://host:port`; the files are PEM: the CA bundle, the client's certificate (chain), its private key.
    pub fn new(
        url: impl Into<String>,
        ca: impl Into<PathBuf>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        Self {
            url: url.into(),
            ca: ca.into(),
            certificate: certificate.into(),
            key: key.into(),
            log_key: None,
            instance: None,
            timeouts: Timeouts::default(),
        }
    }

    /// Pins the log: its origin and key. Batches need it.
    #[must_use]
    pub fn log_key(mut self, key: VerifierKey) -> Self {
        self.log_key = Some(key);
        self
    }

    /// Pins the service's instance id too.
    #[must_use]
    pub fn instance(mut self, instance: [u8; 16]) -> Self {
        self.instance = Some(instance);
        self
    }

    /// Other timeouts than the default ones.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Reads the files. Does not connect yet.
    pub fn build(self) -> Result<Client, Error> {
        let endpoint = endpoint(&self.url)?;
        let tls = tls(&self.ca, &self.certificate, &self.key)?;
        let link = Link::new(endpoint, tls, self.timeouts);
        let pinned = self.log_key.map(|log| Pinned { log, instance: self.instance });
        Ok(Client::new(link, pinned))
    }
}

fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let wrong = |why: &str| Error::Config(format!("{url:?} {why}; give the service as https://HOST:PORT"));
    let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
    if uri.scheme_str() != Some("https") {
        return Err(wrong("does not start with https://"));
    }
    let plain = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
    let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
    if !plain || authority.as_str().contains('@') {
        return Err(wrong("has more than a host and a port"));
    }
    let host = authority.host();
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let server = ServerName::try_from(name.clone()).map_err(|_| wrong("names no host"))?;
    Ok(Endpoint {
        authority: authority.as_str().to_owned(),
        host: name,
        port: authority.port_u16().unwrap_or(443),
        server,
    })
}

fn tls(ca: &Path, certificate: &Path, key: &Path) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for root in certificates(ca, "the CA bundle")? {
        roots.add(root).map_err(|error| {
            Error::Config(format!(
                "{}: a certificate of the CA bundle is unusable ({error}); get the bundle anew from the operator",
                ca.display()
            ))
        })?;
    }
    let chain = certificates(certificate, "the client certificate")?;
    let key_der = private_key(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Error::Config(format!("TLS 1.3 is not available: {error}")))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key_der)
        .map_err(|error| {
            Error::Config(format!(
                "{} and {} do not go together ({error}); give the certificate and the key that was made with it",
                certificate.display(),
                key.display()
            ))
        })?;
    // The service issues no tickets; an early refusal of the certificate must not hide behind a resumed session.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(open(path, what)?, path, what)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(Error::Config(format!(
            "{}: no PEM certificate in it; give {what} as a PEM file",
            path.display()
        ))),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let what = "the private key";
    let file = open(path, what)?;
    // Asked of the open file, so that the file that is judged is the file that is read.
    let mode = file.metadata().map_err(|error| cannot_read(path, what, &error))?.mode();
    if mode & 0o077 != 0 {
        return Err(Error::Config(format!(
            "{}: others than the owner may use this private key (mode {:03o}); run chmod 600 on it, and replace the key \
             if anybody else may have read it",
            path.display(),
            mode & 0o777
        )));
    }
    let pem = read(file, path, what)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        Error::Config(format!(
            "{}: no PEM private key in it; give the key as an unencrypted PKCS#8 PEM file",
            path.display()
        ))
    })
}

fn open(path: &Path, what: &str) -> Result<File, Error> {
    File::open(path).map_err(|error| cannot_read(path, what, &error))
}

fn read(mut file: File, path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Filled without growing, so that no copy of a key is left behind in freed memory.
    let size = file.metadata().map_err(|error| cannot_read(path, what, &error))?.len();
    if size > PEM_MAX {
        return Err(Error::Config(format!("{}: too large for {what}", path.display())));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1));
    Read::by_ref(&mut file)
        .take(PEM_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| cannot_read(path, what, &error))?;
    Ok(bytes)
}

fn cannot_read(path: &Path, what: &str, error: &std::io::Error) -> Error {
    Error::Config(format!(
        "{}: cannot read {what} ({error}); check the path and its permissions",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Files {
        dir: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            let files = Self { dir };
            files.write("ca.pem", &made.cert.pem(), 0o644);
            files.write("c.pem", &made.cert.pem(), 0o644);
            files.write("c.key", &made.signing_key.serialize_pem(), 0o600);
            files
        }

        fn write(&self, name: &str, text: &str, mode: u32) {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }

        fn build(&self, url: &str) -> Result<Client, Error> {
            let at = |name: &str| self.dir.path().join(name);
            ClientBuilder::new(url, at("ca.pem"), at("c.pem"), at("c.key")).build()
        }

        fn refusal(&self, url: &str) -> String {
            match self.build(url) {
                Err(Error::Config(text)) => text,
                other => panic!("{other:?}"),
            }
        }
    }

    const URL: &str = "https://localhost:8443";

    #[test]
    fn good_files_and_urls() {
        let files = Files::new();
        for url in [URL, "https://localhost", "https://127.0.0.1:1/", "https://[::1]:8443"] {
            assert!(files.build(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn urls_that_are_not_a_service() {
        let files = Files::new();
        for url in [
            "",
            "localhost:8443",
            "http://localhost:8443",
            "https://localhost:8443/v1",
            "https://u@localhost:1",
            "https://localhost/?a",
            "https://:1",
        ] {
            assert!(files.refusal(url).contains("https://HOST:PORT"), "{url}");
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let files = Files::new();
        let key = std::fs::read_to_string(files.dir.path().join("c.key")).unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620] {
            files.write("c.key", &key, mode);
            let text = files.refusal(URL);
            assert!(text.contains("chmod 600") && text.contains(&format!("{mode:03o}")), "{text}");
        }
        files.write("c.key", &key, 0o400);
        assert!(files.build(URL).is_ok());
    }

    #[test]
    fn files_that_are_missing_empty_or_of_another_pair() {
        let files = Files::new();
        files.write("c.key", "", 0o600);
        assert!(files.refusal(URL).contains("no PEM private key"));
        files.write("c.key", &rcgen::KeyPair::generate().unwrap().serialize_pem(), 0o600);
        assert!(files.refusal(URL).contains("do not go together"));
        files.write("c.pem", "not a certificate", 0o644);
        assert!(files.refusal(URL).contains("no PEM certificate"));
        std::fs::remove_file(files.dir.path().join("ca.pem")).unwrap();
        assert!(files.refusal(URL).contains("cannot read the CA bundle"));
    }
}
