//! The authority: its certificate, leaves, and the revocation list.

use std::path::Path;

use p256::pkcs8::EncodePrivateKey as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SanType, SerialNumber,
};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use translog::state::LogState;
use wire::purse::to_hex;

use super::Request;
use crate::failure::{Failure, OrFail};
use crate::files;
use crate::keyfile::Key;
use crate::words::hex_bytes;

const CA_DAYS: i64 = 3650;
const CLOCK_SKEW: Duration = Duration::minutes(10);

/// A certificate that was issued: a line of the register beside the authority.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issued {
    /// Serial number, hex.
    pub(crate) serial: String,
    /// SPIFFE id.
    pub(crate) client: String,
    /// SHA-256 of its key, hex, as the log names it.
    pub(crate) key: String,
    /// Unix seconds.
    pub(crate) not_after: i64,
}

/// A self-signed authority for this key, for clients directly below it.
pub(crate) fn new_authority(key: &Key, name: &str) -> Result<String, Failure> {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(CA_DAYS);
    let signed =
        params.self_signed(&pair(key)?).or_fail("无法签发 CA 证书。", "the authority cannot be signed")?;
    Ok(signed.pem())
}

fn pair(key: &Key) -> Result<KeyPair, Failure> {
    let der =
        key.secret().to_pkcs8_der().or_fail("CA 密钥无效。", "the authority's key has no PKCS#8 form")?;
    KeyPair::try_from(der.as_bytes()).or_fail("CA 密钥无效。", "the authority's key cannot sign certificates")
}

/// An authority at work.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens the authority of this certificate with its key.
    pub(crate) fn open(certificate: &Path, key: &Key) -> Result<Self, Failure> {
        let pem = files::read_text(certificate, "the authority's certificate")?;
        let issuer = Issuer::from_ca_cert_pem(&pem, pair(key)?);
        let issuer =
            issuer.or_fail("CA 证书无效。", &format!("{} is no authority", certificate.display()))?;
        Ok(Self { issuer })
    }

    /// Certifies a request that officers enrolled, at most until their date.
    pub(crate) fn issue(
        &self,
        request: &Request,
        log: &LogState,
        days: i64,
    ) -> Result<(String, Issued), Failure> {
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
        let now = OffsetDateTime::now_utc();
        let enrolled = i64::try_from(known.enrolled.not_after).unwrap_or(i64::MAX);
        let not_after = (now + Duration::days(days)).unix_timestamp().min(enrolled);
        if not_after <= now.unix_timestamp() {
            return Err(Failure::new(
                "登记已到期;请安全官重新批准。",
                "the enrolment has ended; have officers approve the key again",
            ));
        }
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).or_fail("系统随机数不可用。", "the system gives no random bytes")?;
        // A serial number is positive.
        bytes[0] = bytes[0] & 0x7f | 0x40;
        let uri = request.client.as_str().try_into().map(SanType::URI);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri.or_fail("客户端名称无效。", "the client's name is no URI")?];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&bytes));
        params.not_before = now - CLOCK_SKEW;
        params.not_after = OffsetDateTime::from_unix_timestamp(not_after).unwrap_or(now);
        let signed = params.signed_by(&request.inner.public_key, &self.issuer);
        let signed = signed.or_fail("无法签发证书。", "the certificate cannot be signed")?;
        let (client, key, serial) = (request.client.clone(), to_hex(&request.key), to_hex(&bytes));
        Ok((signed.pem(), Issued { serial, client, key, not_after }))
    }

    /// A list of every certificate whose key officers ended and which has not run out by itself.
    pub(crate) fn revocations(
        &self,
        register: &[Issued],
        log: &LogState,
        days: i64,
    ) -> Result<(String, usize), Failure> {
        let now = OffsetDateTime::now_utc();
        let ended = |row: &&Issued| {
            let key = hex_bytes(&row.key).and_then(|key| key.try_into().ok());
            let ended = key.and_then(|key| log.client(&key)).is_some_and(|known| known.ended.is_some());
            ended && row.not_after > now.unix_timestamp()
        };
        let revoked: Vec<RevokedCertParams> = register
            .iter()
            .filter(ended)
            .filter_map(|row| {
                Some(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&hex_bytes(&row.serial)?),
                    revocation_time: now,
                    reason_code: Some(RevocationReason::Unspecified),
                    invalidity_date: None,
                })
            })
            .collect();
        let count = revoked.len();
        let params = CertificateRevocationListParams {
            this_update: now - CLOCK_SKEW,
            next_update: now + Duration::days(days),
            crl_number: crate::pki::number(now),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = params.signed_by(&self.issuer).and_then(|list| list.pem());
        Ok((pem.or_fail("无法签发吊销列表。", "the revocation list cannot be signed")?, count))
    }
}
