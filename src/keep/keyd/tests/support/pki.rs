//! Certificates for tests: one CA, one revocation list, and leaves with every fault that we know.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keyd::config::TlsConfig;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use time::OffsetDateTime;

pub(crate) const CLEARING: &str = "spiffe://weihai.example/clearing/engine-1";
pub(crate) const REVOKED_SERIAL: u64 = 666;

/// A CA with its key.
pub(crate) struct Ca {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) certificate: Certificate,
}

/// Every list is a later one than those before.
pub(crate) fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1000);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// So many hours from now.
pub(crate) fn in_hours(hours: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + time::Duration::hours(hours)
}

pub(crate) fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        Self::of(ca_params(name))
    }

    pub(crate) fn of(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { params, key, certificate }
    }

    pub(crate) fn under(params: CertificateParams, issuer: &Self) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer.issuer()).unwrap();
        Self { params, key, certificate }
    }

    pub(crate) fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A revocation list that is good until 2090 unless `expired`; the next one in number.
    pub(crate) fn crl(&self, revoked: &[u64], expired: bool) -> String {
        self.list(next_number(), revoked, date_time_ymd(if expired { 2024 } else { 2090 }, 2, 1))
    }

    /// A revocation list with this number and end.
    pub(crate) fn list(&self, number: u64, revoked: &[u64], next_update: OffsetDateTime) -> String {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).unwrap().pem().unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "tests make them on the spot")]
    pub(crate) fn leaf(&self, params: CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Leaf { chain: vec![certificate.der().clone()], key }
    }

    pub(crate) fn client(&self, uri: &str) -> Leaf {
        self.leaf(client_params(uri))
    }
}

/// A good client leaf, to be spoilt.
pub(crate) fn client_params(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "a client");
    params.subject_alt_names = vec![san(uri)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params.serial_number = Some(SerialNumber::from(4711_u64));
    params
}

pub(crate) fn san(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

/// A leaf and what it shows beside it.
pub(crate) struct Leaf {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

impl Leaf {
    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }

    pub(crate) fn pem(&self) -> String {
        self.chain.iter().map(|der| block("CERTIFICATE", der)).collect()
    }
}

/// PEM.
pub(crate) fn block(what: &str, der: &[u8]) -> String {
    let text = base64(der);
    let lines = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap());
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.collect::<Vec<_>>().join("\n"))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let word =
            (0..3).fold(0_usize, |word, at| (word << 8) | usize::from(three.get(at).copied().unwrap_or(0)));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) & 63];
            out.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// The files of one keyd.
pub(crate) struct Pki {
    pub(crate) ca: Ca,
    pub(crate) server_ca: Ca,
    pub(crate) dir: PathBuf,
}

impl Pki {
    /// Writes a good set into `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        let (ca, server_ca) = (Ca::new("Weihai clients"), Ca::new("Weihai servers"));
        let pki = Self { ca, server_ca, dir: dir.to_owned() };
        pki.write_server();
        pki.write("ca.pem", &pki.ca.certificate.pem(), 0o644);
        pki.write("crl.pem", &pki.ca.crl(&[REVOKED_SERIAL], false), 0o644);
        pki
    }

    /// A new leaf for keyd, with a new key.
    pub(crate) fn write_server(&self) -> Leaf {
        self.write_server_for(date_time_ymd(2024, 1, 1), date_time_ymd(2090, 1, 1))
    }

    /// The same, good from then to then.
    pub(crate) fn write_server_for(&self, from: OffsetDateTime, to: OffsetDateTime) -> Leaf {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (from, to);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server = self.server_ca.leaf(params);
        self.write("keyd.pem", &server.pem(), 0o644);
        self.write("keyd.key", &server.key.serialize_pem(), 0o600);
        server
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn tls(&self) -> TlsConfig {
        let path = |name| self.dir.join(name);
        TlsConfig {
            certificate: path("keyd.pem"),
            key: path("keyd.key"),
            client_ca: path("ca.pem"),
            client_crl: path("crl.pem"),
            server_name: "localhost".to_owned(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_ca.certificate.der().clone()).unwrap();
        roots
    }

    pub(crate) fn client_config(&self, leaf: Option<&Leaf>) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots());
        let Some(leaf) = leaf else {
            return builder.with_no_client_auth();
        };
        // Not through the checks that rustls makes for honest clients: the key may be another one.
        let key = provider.key_provider.load_private_key(leaf.key_der()).unwrap();
        let shown = CertifiedKey::new(leaf.chain.clone(), key);
        builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)))
    }
}
