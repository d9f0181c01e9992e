//! The certificates of a REHEARSAL: a CA of its own, its revocation list, keyd's leaf and the clients' leaves.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::failure::{Failure, OrFail};
use crate::files::{self, PRIVATE, PUBLIC};

const CA_DAYS: i64 = 3650;
const CRL_DAYS: i64 = 30;

/// A rehearsal's leaves live a week, so that a demonstration need not be set up anew every day. Production: 24 hours.
const LEAF_DAYS: i64 = 7;

/// Clocks of the machines in the room differ by less.
const CLOCK_SKEW: Duration = Duration::minutes(10);

/// The clients of a rehearsal: file name and SPIFFE id.
const CLIENTS: [(&str, &str); 7] = [
    ("clearing", "spiffe://weihai.example/clearing/engine-1"),
    ("auditor", "spiffe://weihai.example/audit/desk-1"),
    ("officer", "spiffe://weihai.example/officers/relay-1"),
    ("line", "spiffe://weihai.example/perso/line-1"),
    ("cards", "spiffe://weihai.example/cards/desk-1"),
    ("terminal", "spiffe://weihai.example/terminals/load-1"),
    ("health", "spiffe://weihai.example/health/perso-1"),
];

/// What was made, in a line each.
pub(crate) type Made = Vec<String>;

/// Makes the CA unless it is there, and renews everything below it: the CA bundle, whose digest officers approve, stays.
pub(crate) fn make(dir: &Path, now: OffsetDateTime) -> Result<Made, Failure> {
    files::private_dir(dir)?;
    let mut made = vec!["演练用证书,不得用于生产。 REHEARSAL certificates: never for production.".to_owned()];
    let issuer = authority(dir, now, &mut made)?;
    let crl = CertificateRevocationListParams {
        this_update: now - CLOCK_SKEW,
        next_update: now + Duration::days(CRL_DAYS),
        crl_number: number(now),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let crl = crl.signed_by(&issuer).and_then(|crl| crl.pem());
    let crl = crl.or_fail("无法签发吊销列表。", "the revocation list cannot be signed")?;
    files::replace(&dir.join("crl.pem"), crl.as_bytes(), PUBLIC)?;
    made.push(format!("crl.pem       valid {CRL_DAYS} days 有效 {CRL_DAYS} 天"));
    let server = "localhost".try_into().map(SanType::DnsName);
    let server = server.or_fail("服务器名无效。", "the server's name is no DNS name")?;
    leaf(dir, "keyd", vec![server], ExtendedKeyUsagePurpose::ServerAuth, &issuer, now)?;
    made.push(format!("keyd.pem      server localhost, valid {LEAF_DAYS} days 有效 {LEAF_DAYS} 天"));
    for (name, id) in CLIENTS {
        let uri = id.try_into().map(SanType::URI);
        let uri = uri.or_fail("客户标识无效。", "a client id is no URI")?;
        leaf(dir, name, vec![uri], ExtendedKeyUsagePurpose::ClientAuth, &issuer, now)?;
        made.push(format!("{:<13} {id}, valid {LEAF_DAYS} days", format!("{name}.pem")));
    }
    Ok(made)
}

fn authority(dir: &Path, now: OffsetDateTime, made: &mut Made) -> Result<Issuer<'static, KeyPair>, Failure> {
    let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    // The certificate is written last: with it, everything of the CA is there.
    if certificate.exists() {
        let key = read_key(&key)?;
        made.push("ca.pem        kept 沿用".to_owned());
        return Ok(Issuer::new(authority_params(now), key));
    }
    let pair = new_key()?;
    let params = authority_params(now);
    let signed = params.self_signed(&pair).or_fail("无法签发 CA。", "the CA cannot be signed")?;
    files::replace(&key, pair.serialize_pem().as_bytes(), PRIVATE)?;
    files::replace(&certificate, signed.pem().as_bytes(), PUBLIC)?;
    made.push(format!("ca.pem        new rehearsal CA, valid {CA_DAYS} days 新建"));
    Ok(Issuer::new(params, pair))
}

fn authority_params(now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("citykeep REHEARSAL CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(CA_DAYS);
    params
}

fn leaf(
    dir: &Path,
    file: &str,
    names: Vec<SanType>,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let key_path = dir.join(format!("{file}.key"));
    // The key stays at a renewal, so that at no moment a certificate lies beside another certificate's key.
    let key = if key_path.exists() {
        read_key(&key_path)?
    } else {
        let key = new_key()?;
        files::write_new(&key_path, key.serialize_pem().as_bytes(), PRIVATE)?;
        key
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("REHEARSAL {file}"));
    params.subject_alt_names = names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(LEAF_DAYS);
    let signed = params.signed_by(&key, issuer);
    let signed = signed.or_fail("无法签发证书。", &format!("the certificate of {file} cannot be signed"))?;
    files::replace(&dir.join(format!("{file}.pem")), signed.pem().as_bytes(), PUBLIC)
}

fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).or_fail("无法生成密钥。", "no key can be made")
}

fn read_key(path: &Path) -> Result<KeyPair, Failure> {
    let pem = files::read_private(path, "the key")?;
    let key = KeyPair::from_pem(std::str::from_utf8(&pem).unwrap_or_default());
    key.map_err(|error| {
        let path = path.display();
        Failure::new(
            format!("{path} 不是私钥;删除演练目录 pki 后重试。"),
            format!(
                "{path} is no private key ({error}); remove the rehearsal's pki directory and run it again"
            ),
        )
    })
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "weihai.example");
    name.push(DnType::CommonName, common);
    name
}

/// CRL numbers ascend with time.
pub(crate) fn number(now: OffsetDateTime) -> SerialNumber {
    let nanos = u64::try_from(now.unix_timestamp_nanos()).unwrap_or(u64::MAX);
    SerialNumber::from(nanos)
}

#[cfg(test)]
mod tests;
