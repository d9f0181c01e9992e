//! The certificate signing request: exactly one name, which is a SPIFFE id, and a key of the kind that we certify.

use std::path::Path;

use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, PublicKeyData as _, SanType};
use wire::command::Digest;

use super::digest;
use crate::failure::Failure;
use crate::files;

/// A request that could be certified.
#[derive(Debug)]
pub(crate) struct Request {
    /// SPIFFE id.
    pub(crate) client: String,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub(crate) key: Digest,
    pub(super) inner: CertificateSigningRequestParams,
}

impl Request {
    /// Reads and judges a PEM file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let pem = files::read_text(path, "the signing request")?;
        Self::parse(&pem).map_err(|why| {
            let path = path.display();
            Failure::new(
                format!("签名请求 {path} 不能受理;请按英文说明重新生成。"),
                format!("{path}: {why}; the client makes another one (README, Certificates of clients)"),
            )
        })
    }

    pub(super) fn parse(pem: &str) -> Result<Self, String> {
        // Reads, and checks the request's own signature: whoever asks has the key.
        let inner = CertificateSigningRequestParams::from_pem(pem)
            .map_err(|error| format!("it is no good request ({error})"))?;
        if !inner.public_key.algorithm().eq(&rcgen::PKCS_ECDSA_P256_SHA256) {
            return Err("its key or signature is not P-256 with SHA-256".to_owned());
        }
        if matches!(inner.params.is_ca, IsCa::Ca(_)) {
            return Err("it asks for an authority's certificate".to_owned());
        }
        let usages = &inner.params.extended_key_usages;
        if usages.iter().any(|usage| *usage != ExtendedKeyUsagePurpose::ClientAuth) {
            return Err("it asks for another use than that of a client".to_owned());
        }
        let [SanType::URI(uri)] = inner.params.subject_alt_names.as_slice() else {
            return Err("it does not have exactly one subject alternative name, a SPIFFE URI".to_owned());
        };
        let client = uri.as_str().to_owned();
        if !is_spiffe(&client) {
            return Err(format!(
                "'{client}' is not like spiffe://weihai.example/perso/line-1: lower case, no wildcard"
            ));
        }
        let key = digest(&inner.public_key.subject_public_key_info());
        Ok(Self { client, key, inner })
    }
}

/// `spiffe://domain/path`, each segment of lower-case letters, digits, dots, hyphens.
fn is_spiffe(name: &str) -> bool {
    let Some((domain, path)) = name.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let plain = |text: &str| {
        let good =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        !text.is_empty() && text != "." && text != ".." && text.bytes().all(good)
    };
    name.len() <= 256 && plain(domain) && path.split('/').all(plain)
}
