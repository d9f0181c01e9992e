//! TLS at keyd: 1.3 only, one server name, client certificates with a mandatory revocation list, no resumption.

mod lists;
mod reason;
mod verifier;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};

use self::lists::Lists;
pub use self::reason::Reason;
pub use self::verifier::KeyPrefix;
use self::verifier::{Anchor, ClientVerifier, note};
pub(crate) use self::verifier::{SEEN, Seen, key_prefix};
use crate::client_id::{ClientId, TrustDomain};
use crate::config::TlsConfig;
use crate::expiry::{Expiry, What};

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read the {what} {path}: {error}", path = path.display())]
    Read {
        /// Which of the files.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is there, but not what it should be.
    #[error("the {what} {path} {why}", path = path.display())]
    File {
        /// Which of the files.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// rustls refuses the whole.
    #[error("TLS cannot be set up: {0}; check that certificate, key and CA bundle belong together")]
    Setup(String),
}

/// One consistent set of TLS files.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) server: Arc<ServerConfig>,
    verifier: Arc<ClientVerifier>,
    lists: Lists,
    /// When all of this ends.
    expiries: Vec<Expiry>,
    /// The CA bundle in force: a file that officers have not approved does not replace it.
    ca: Vec<u8>,
    /// SHA-256 of the bundle in force; officers approve it.
    ca_digest: [u8; 32],
    /// SHA-256 of the bundle file as it was found, in force or not.
    ca_found: [u8; 32],
    /// SHA-256 over all that is in force: tells whether a reload changes anything.
    files_digest: [u8; 32],
}

impl Setup {
    /// Whether the client of an open connection would still be let in.
    pub(crate) fn still_admits(
        &self,
        chain: &[CertificateDer<'static>],
        client: &ClientId,
    ) -> Result<(), Reason> {
        let (leaf, intermediates) = chain.split_first().ok_or(Reason::NoCertificate)?;
        match self.verifier.identify(leaf, intermediates, UnixTime::now()) {
            Ok(same) if same == *client => Ok(()),
            Ok(_) => Err(Reason::Spiffe),
            Err((reason, _)) => Err(reason),
        }
    }
}

/// The TLS files in force. A reload swaps them for new connections and says whether something changed.
#[derive(Debug)]
pub struct Tls {
    config: TlsConfig,
    domain: TrustDomain,
    current: RwLock<Arc<Setup>>,
}

impl Tls {
    /// Loads the files; a missing or empty revocation list is an error.
    pub fn load(config: &TlsConfig, domain: &TrustDomain) -> Result<Self, TlsError> {
        Ok(Self {
            config: config.clone(),
            domain: domain.clone(),
            current: RwLock::new(Arc::new(load(config, domain, None)?)),
        })
    }

    /// SHA-256 of the CA bundle in force.
    pub fn ca_digest(&self) -> [u8; 32] {
        self.current().ca_digest
    }

    /// SHA-256 of the CA bundle file as the last good load found it. Another than [`Tls::ca_digest`] waits for its
    /// approval.
    pub fn ca_found(&self) -> [u8; 32] {
        self.current().ca_found
    }

    /// When the files in force end.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.current().expiries.clone()
    }

    /// Reads the files again. If they are not good, what was in force stays: its revocation list expires by itself. Of
    /// a CA bundle that is not the approved one only the digest is taken; revocations must not wait for officers.
    pub fn reload(&self, approved_ca: &[u8; 32]) -> Result<bool, TlsError> {
        let kept = self.current();
        let fresh = load(&self.config, &self.domain, Some((&kept, approved_ca)))?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = current.files_digest != fresh.files_digest;
        *current = Arc::new(fresh);
        Ok(changed)
    }

    pub(crate) fn current(&self) -> Arc<Setup> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The one place that chooses the TLS provider.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads all files. A reload gives what is in force, and the digest with which another bundle may take its place.
fn load(
    config: &TlsConfig,
    domain: &TrustDomain,
    reload: Option<(&Setup, &[u8; 32])>,
) -> Result<Setup, TlsError> {
    let certificate = read("certificate", &config.certificate)?;
    let key = read_secret("key", &config.key)?;
    let found = read("client CA bundle", &config.client_ca)?;
    let ca_found: [u8; 32] = Sha256::digest(&found).into();
    let ca = match reload {
        Some((kept, approved)) if ca_found != *approved => kept.ca.clone(),
        _ => found,
    };
    let crl = read("client revocation list", &config.client_crl)?;
    let bad_crl = |why: String| file_error("client revocation list", &config.client_crl, &why);
    let lists = Lists::read(&crl).map_err(bad_crl)?;
    if let Some((kept, _)) = reload {
        lists.follow(&kept.lists).map_err(bad_crl)?;
    }
    let files_digest = [&certificate, &key, &ca, &crl]
        .into_iter()
        .fold(Sha256::new(), |digest, file| digest.chain_update(Sha256::digest(file)))
        .finalize()
        .into();
    let verifier = Arc::new(client_verifier(config, &ca, &lists, domain)?);
    let own = CertificateDer::from_pem_slice(&certificate).ok();
    let own = own.and_then(|leaf| Expiry::of_certificate(What::Server, &leaf, Some(&config.server_name)));
    let expiries = own.into_iter().chain(verifier.expiries()).chain(lists.expiries()).collect();
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| TlsError::Setup(error.to_string()))?
        .with_client_cert_verifier(Arc::clone(&verifier) as _)
        .with_cert_resolver(Arc::new(OneName::build(config, &certificate, &key)?));
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A ticket would outlive a revocation.
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Setup {
        server: Arc::new(server),
        verifier,
        lists,
        expiries,
        ca_digest: Sha256::digest(&ca).into(),
        ca,
        ca_found,
        files_digest,
    })
}

fn client_verifier(
    config: &TlsConfig,
    ca: &[u8],
    lists: &Lists,
    domain: &TrustDomain,
) -> Result<ClientVerifier, TlsError> {
    let bad_ca = |why: &str| file_error("client CA bundle", &config.client_ca, why);
    let (mut roots, mut anchors) = (RootCertStore::empty(), Vec::new());
    for anchor in CertificateDer::pem_slice_iter(ca) {
        let anchor = anchor.map_err(|_| bad_ca("is not PEM; give the CA certificates in PEM"))?;
        anchors.push(Anchor::read(&anchor).ok_or_else(|| {
            bad_ca("holds a certificate that is not a CA's; only CA:TRUE certificates with certificate signing may be there")
        })?);
        roots
            .add(anchor)
            .map_err(|_| bad_ca("holds a certificate that cannot be read; make the bundle again"))?;
    }
    if roots.is_empty() {
        return Err(bad_ca("holds no certificate; put the clients' CA into it"));
    }
    let bad_crl = |why: String| file_error("client revocation list", &config.client_crl, &why);
    lists.cover(&anchors, &provider()).map_err(bad_crl)?;
    // Unknown revocation status is a refusal by default; an expired list must be one too.
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls(lists.ders())
        .enforce_revocation_expiration()
        .build()
        .map_err(|error| bad_crl(format!("cannot be used: {error}; make the list again")))?;
    Ok(ClientVerifier::new(chain, anchors, domain.clone()))
}

/// Answers to one server name and to nothing else.
#[derive(Debug)]
struct OneName {
    name: String,
    key: Arc<CertifiedKey>,
}

impl OneName {
    fn build(config: &TlsConfig, certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let bad = |why: &str| file_error("certificate", &config.certificate, why);
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| bad("is not PEM; give keyd's certificate chain in PEM, leaf first"))?;
        let leaf = chain.first().ok_or_else(|| bad("holds no certificate"))?;
        let name = config.tls_name()?;
        webpki::EndEntityCert::try_from(leaf)
            .and_then(|leaf| leaf.verify_is_valid_for_subject_name(&name))
            .map_err(|_| bad("is not for tls.server_name; make one whose DNS name is that name"))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| file_error("key", &config.key, "is not a PEM private key; give it in PKCS#8 PEM"))?;
        let key = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|_| file_error("key", &config.key, "does not belong to tls.certificate"))?;
        Ok(Self { name: config.server_name.to_ascii_lowercase(), key: Arc::new(key) })
    }
}

impl TlsConfig {
    fn tls_name(&self) -> Result<ServerName<'static>, TlsError> {
        match ServerName::try_from(self.server_name.clone()) {
            Ok(name @ ServerName::DnsName(_)) => Ok(name),
            _ => Err(TlsError::Setup("tls.server_name is not a DNS name".to_owned())),
        }
    }
}

impl ResolvesServerCert for OneName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.server_name() == Some(self.name.as_str()) {
            return Some(Arc::clone(&self.key));
        }
        note(|seen| seen.reason = Some(Reason::ServerName));
        None
    }
}

fn file_error(what: &'static str, path: &Path, why: &str) -> TlsError {
    TlsError::File { what, path: path.to_owned(), why: why.to_owned() }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read { what, path: path.to_owned(), error })
}

/// Reads a file that nobody else may read; the mode is checked on the file that is read.
fn read_secret(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::Read { what, path: path.to_owned(), error };
    let mut file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(file_error(
            what,
            path,
            "can be read by others; set its mode to 0600 and replace the key",
        ));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
