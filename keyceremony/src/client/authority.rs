//! The authority: its certificate, and the clients' certificates.

use std::path::Path;

use p256::SecretKey;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::elliptic_curve::sec1::ToSec1Point as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use time::{Duration, OffsetDateTime};
use translog::state::LogState;
use wire::purse::to_hex;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, DecodePem as _, Encode as _};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints as Constraints, KeyUsage, SubjectAltName};
use x509_cert::name::Name;

use super::register::Issued;
use super::{DAYS_MAX, Request};
use crate::failure::{Failure, OrFail};
use crate::files;
use crate::keyfile::Key;

const CA_DAYS: i64 = 3650;

/// Clocks differ by less.
pub(super) const CLOCK_SKEW: Duration = Duration::minutes(10);

/// The authority's key as rcgen signs with it. It never leaves the type that wipes it.
struct Signer {
    secret: SecretKey,
    point: Vec<u8>,
}

impl Signer {
    fn new(key: &Key) -> Self {
        let point = key.secret().public_key().to_sec1_point(false).as_bytes().to_vec();
        Self { secret: key.secret().clone(), point }
    }
}

impl rcgen::PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: DerSignature = SigningKey::from(self.secret.clone()).sign(message);
        Ok(signature.as_bytes().to_vec())
    }
}

/// The key of a request, as it goes into a certificate.
struct Asked<'a>(&'a Request);

impl rcgen::PublicKeyData for Asked<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.0.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A self-signed authority for this key, for clients directly below it.
pub(crate) fn new_authority(key: &Key, name: &str, now: OffsetDateTime) -> Result<String, Failure> {
    let mut params = authority(name)?;
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(CA_DAYS);
    let signed = params.self_signed(&Signer::new(key));
    Ok(signed.or_fail("无法签发 CA 证书。", "the authority cannot be signed")?.pem())
}

fn authority(name: &str) -> Result<CertificateParams, Failure> {
    if !(1..=64).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(Failure::new(
            "CA 名称为 1 至 64 个可见字符。",
            "an authority's name has 1 to 64 characters that can be seen; give another --name",
        ));
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// An authority's certificate, checked, without its key.
#[derive(Debug)]
pub(crate) struct Seal {
    pub(crate) der: Vec<u8>,
    pem: String,
    read: Certificate,
    not_after: u64,
}

impl Seal {
    /// Reads the one certificate in a PEM file: an authority for clients directly below it, and for nothing else.
    pub(crate) fn read(path: &Path, now: u64) -> Result<Self, Failure> {
        let pem = files::read_text(path, "the authority's certificate")?;
        Self::parse(pem, now).map_err(|why| {
            let path = path.display();
            Failure::new(
                format!("{path} 不是可用的客户端 CA 证书;请按英文说明更换。"),
                format!(
                    "{path}: {why}; give the certificate of the clients' authority (keyceremony client ca)"
                ),
            )
        })
    }

    fn parse(pem: String, now: u64) -> Result<Self, String> {
        let unread = || "it is no certificate in PEM".to_owned();
        let ders: Vec<_> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| unread())?;
        let [der] = ders.as_slice() else {
            return Err("it holds no certificate, or more than one".to_owned());
        };
        let read = Certificate::from_der(der).map_err(|_| unread())?;
        let body = read.tbs_certificate();
        let constraints = body.get_extension::<Constraints>().ok().flatten().map(|(_, it)| it);
        let usage = body.get_extension::<KeyUsage>().ok().flatten().map(|(_, it)| it);
        if !constraints.is_some_and(|it| it.ca && it.path_len_constraint == Some(0)) {
            return Err("it is no authority's for clients directly below it (CA:TRUE, pathlen:0)".to_owned());
        }
        if !usage.is_some_and(|it| it.key_cert_sign() && it.crl_sign()) {
            return Err("it may not sign certificates and revocation lists".to_owned());
        }
        let [from, not_after] = [body.validity().not_before, body.validity().not_after]
            .map(|time| time.to_unix_duration().as_secs());
        if !(from..=not_after).contains(&now) {
            return Err("it is not valid today".to_owned());
        }
        let der = der.to_vec();
        Ok(Self { der, pem, read, not_after })
    }
}

/// An authority at work.
pub(crate) struct Authority {
    issuer: Issuer<'static, Signer>,
    seal: Seal,
}

impl Authority {
    /// Opens the authority of this certificate with its key.
    pub(crate) fn open(seal: Seal, key: &Key) -> Result<Self, Failure> {
        let signer = Signer::new(key);
        let certified = seal.read.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
        if certified != signer.point.as_slice() {
            return Err(Failure::new(
                format!("CA 证书不属于 {} 的密钥文件。", key.name),
                format!(
                    "the authority's certificate is not of {}'s key; give those that belong together",
                    key.name
                ),
            ));
        }
        let issuer = Issuer::from_ca_cert_pem(&seal.pem, signer);
        let issuer = issuer.or_fail("CA 证书无效。", "the authority's certificate cannot be used")?;
        Ok(Self { issuer, seal })
    }

    /// Certifies a request that officers enrolled, at most until their date.
    pub(crate) fn issue(
        &self,
        request: &Request,
        log: &LogState,
        days: u64,
        now: u64,
    ) -> Result<Issued, Failure> {
        let enrolled = enrolled(request, log)?;
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(Failure::new(
                format!("有效天数为 1 至 {DAYS_MAX}。"),
                format!("a certificate lasts 1 to {DAYS_MAX} days; give --days in that range"),
            ));
        }
        let not_after = (now + days * super::DAY).min(enrolled);
        if not_after <= now {
            return Err(Failure::new(
                "登记已到期;请安全官重新批准。",
                "the enrolment has ended; have officers approve the key again (keyceremony propose client)",
            ));
        }
        if not_after > self.seal.not_after {
            return Err(Failure::new(
                "CA 证书先到期;请缩短有效天数,或建立新的 CA。",
                "the authority would end before this certificate; give fewer --days, or make a new authority",
            ));
        }
        let mut serial = [0; 16];
        getrandom::fill(&mut serial).or_fail("系统随机数不可用。", "the system gives no random bytes")?;
        // A serial number is positive, and this one has all its bytes.
        let [first, ..] = &mut serial;
        *first = *first & 0x3f | 0x40;
        let params = client(request, &serial, now, not_after)?;
        let signed = params.signed_by(&Asked(request), &self.issuer);
        let signed = signed.or_fail("无法签发证书。", "the certificate cannot be signed")?;
        // rcgen wrote the authority's name again; another spelling of it would be another issuer.
        let issuer = Certificate::from_der(signed.der()).ok();
        let issuer = issuer.map(|leaf| leaf.tbs_certificate().issuer().clone());
        if issuer.as_ref() != Some(self.seal.read.tbs_certificate().subject()) {
            return Err(Failure::new(
                "CA 证书的名称写法不受支持;请换一张证书。",
                "the authority's certificate has a name of a form that is not supported; have it made with a plain CN",
            ));
        }
        Ok(Issued {
            serial: to_hex(&serial),
            client: request.client.clone(),
            key: to_hex(&request.key),
            at: now,
            not_after,
            certificate: signed.pem(),
        })
    }

    /// A certificate of this authority that the register lost, from its file.
    pub(crate) fn recover(&self, path: &Path) -> Result<Issued, Failure> {
        let pem = files::read_text(path, "the certificate")?;
        self.recovered(&pem).ok_or_else(|| {
            let path = path.display();
            Failure::new(
                format!("{path} 不是本 CA 签发的客户端证书。"),
                format!(
                    "{path} is no client's certificate of this authority; give the one that the client has"
                ),
            )
        })
    }

    fn recovered(&self, pem: &str) -> Option<Issued> {
        let certificate = Certificate::from_pem(pem).ok()?;
        let body = certificate.tbs_certificate();
        let is_ours = body.issuer() == self.subject()
            && self.signed(&body.to_der().ok()?, certificate.signature().as_bytes()?);
        let (_, names) = body.get_extension::<SubjectAltName>().ok()??;
        let [GeneralName::UniformResourceIdentifier(client)] = names.0.as_slice() else {
            return None;
        };
        let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
        let issued = Issued {
            serial: to_hex(body.serial_number().as_bytes()),
            client: client.as_str().to_owned(),
            key: to_hex(&super::digest(&body.subject_public_key_info().to_der().ok()?)),
            at: seconds(body.validity().not_before),
            not_after: seconds(body.validity().not_after),
            certificate: pem.to_owned(),
        };
        is_ours.then_some(issued)
    }

    pub(super) fn subject(&self) -> &Name {
        self.seal.read.tbs_certificate().subject()
    }

    /// Whether this authority signed the message (DER of an ECDSA signature).
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = VerifyingKey::from_sec1_bytes(&self.issuer.key().point);
        let signature = DerSignature::try_from(signature);
        key.is_ok_and(|key| signature.is_ok_and(|signature| key.verify(message, &signature).is_ok()))
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, impl rcgen::SigningKey + use<>> {
        &self.issuer
    }
}

pub(super) fn damaged() -> Failure {
    Failure::new("证书名录已损坏;请从备份恢复。", "the register is damaged; restore it from its backup")
}

pub(super) fn moment(seconds: u64) -> Result<OffsetDateTime, Failure> {
    let moment =
        i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.ok_or_else(damaged)
}

/// Until when officers let this key be certified under this name.
fn enrolled(request: &Request, log: &LogState) -> Result<u64, Failure> {
    let known = log.client(&request.key).ok_or_else(|| {
        Failure::new(
            "日志中没有登记该公钥;请先由安全官批准(propose client)。",
            "the log has no enrolment of this key; have officers approve it first (keyceremony propose client)",
        )
    })?;
    if known.enrolled.client != request.client {
        return Err(Failure::new(
            "该公钥登记的是另一名称。",
            format!(
                "this key is enrolled as {}, the request says {}; make a request for the enrolled name",
                known.enrolled.client, request.client
            ),
        ));
    }
    if let Some(reason) = &known.ended {
        return Err(Failure::new(
            "该公钥已被吊销。",
            format!("this key was ended ({reason}); the client makes a new one"),
        ));
    }
    Ok(known.enrolled.not_after)
}

fn client(request: &Request, serial: &[u8], now: u64, not_after: u64) -> Result<CertificateParams, Failure> {
    let uri = request.client.as_str().try_into().map(SanType::URI);
    let mut params = CertificateParams::default();
    // The name is the URI and nothing else; a subject would be a second one that nobody checked.
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri.or_fail("客户端名称无效。", "the client's name is no URI")?];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = moment(now)? - CLOCK_SKEW;
    params.not_after = moment(not_after)?;
    Ok(params)
}
