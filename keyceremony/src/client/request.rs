//! The certificate signing request: one SPIFFE name of ours, one P-256 key, and no other wish. What is certified is made
//! here from these two; nothing else of a request reaches a certificate.

use std::path::Path;

use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{DerSignature, VerifyingKey};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use wire::client::client_name;
use wire::command::Digest;
use x509_cert::attr::Attribute;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ID_EC_PUBLIC_KEY, ID_KP_CLIENT_AUTH, SECP_256_R_1,
};
use x509_cert::der::{Decode, Encode as _};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::request::{CertReq, ExtensionReq};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use super::digest;
use crate::failure::Failure;
use crate::files;

/// A client's name stands in log entries and receipts, so it is kept short.
const NAME_MAX: usize = 256;

/// A request is a few hundred bytes; a longer one carries something else.
const REQUEST_MAX: usize = 16 << 10;

/// A P-256 point as certificates have it: SEC 1, uncompressed.
const POINT_LEN: usize = 65;

/// What keytool writes for CERTIFICATE REQUEST.
const OLD_LABEL: &str = "NEW CERTIFICATE REQUEST-----";

/// A request that could be certified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    /// SPIFFE id.
    pub(crate) client: String,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub(crate) key: Digest,
    /// The public key.
    pub(super) point: [u8; POINT_LEN],
}

impl Request {
    /// Reads and judges a file, PEM or DER.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = files::read(path, "the signing request")?;
        Self::parse(&bytes).map_err(|why| {
            let path = path.display();
            Failure::new(
                format!("签名请求 {path} 不能受理;请按英文说明重新生成。"),
                format!("{path}: {why}; the client makes another one (README, Certificates of clients)"),
            )
        })
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > REQUEST_MAX {
            return Err("it is much longer than a request".to_owned());
        }
        let der = match std::str::from_utf8(bytes) {
            Ok(text) if text.contains("-----BEGIN ") => of_pem(text)?,
            _ => bytes.to_vec(),
        };
        let request = CertReq::from_der(&der)
            .map_err(|_| "it is no certificate signing request (PKCS#10) in PEM or DER".to_owned())?;
        let (point, key) = key_of(&request.info.public_key)?;
        if !is_own(&request, &point)? {
            return Err("its own signature does not verify: whoever asks does not show that he has the key"
                .to_owned());
        }
        let client = name_of(&wishes(&request)?)?;
        Ok(Self { client, key, point })
    }
}

fn of_pem(text: &str) -> Result<Vec<u8>, String> {
    let text = text.replace(OLD_LABEL, "CERTIFICATE REQUEST-----");
    if text.matches("-----BEGIN ").count() != 1 {
        return Err("it holds more than one block; a request stands in a file of its own".to_owned());
    }
    let der = CertificateSigningRequestDer::from_pem_slice(text.as_bytes());
    der.map(|der| der.to_vec()).map_err(|_| "it is no CERTIFICATE REQUEST in PEM".to_owned())
}

/// The point of a P-256 key, and the digest by which the log names it.
fn key_of(spki: &SubjectPublicKeyInfoOwned) -> Result<([u8; POINT_LEN], Digest), String> {
    let curve =
        spki.algorithm.parameters.as_ref().and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
    if spki.algorithm.oid != ID_EC_PUBLIC_KEY || curve != Some(SECP_256_R_1) {
        return Err("its key is not on the curve P-256".to_owned());
    }
    let point = spki.subject_public_key.as_bytes().and_then(|bytes| bytes.try_into().ok());
    let point: [u8; POINT_LEN] = point.ok_or("its key is not an uncompressed point of P-256")?;
    if p256::PublicKey::from_sec1_bytes(&point).is_err() {
        return Err("its key is no point of P-256".to_owned());
    }
    let der = spki.to_der().map_err(|_| "its key cannot be written")?;
    Ok((point, digest(&der)))
}

/// Whether the request is signed by the key that it is for.
fn is_own(request: &CertReq, point: &[u8; POINT_LEN]) -> Result<bool, String> {
    if request.algorithm.oid != ECDSA_WITH_SHA_256 || request.algorithm.parameters.is_some() {
        return Err("it is not signed by ECDSA with SHA-256".to_owned());
    }
    let message = request.info.to_der().map_err(|_| "it cannot be written again")?;
    let key = VerifyingKey::from_sec1_bytes(point);
    let signature = request.signature.as_bytes().map(DerSignature::try_from);
    Ok(match (key, signature) {
        (Ok(key), Some(Ok(signature))) => key.verify(&message, &signature).is_ok(),
        _ => false,
    })
}

/// The extensions that it asks for, each once.
fn wishes(request: &CertReq) -> Result<Vec<Extension>, String> {
    let mut wishes = Vec::new();
    let mut asked = false;
    for Attribute { oid, values } in request.info.attributes.iter() {
        if *oid != ExtensionReq::OID {
            return Err(format!("it has an attribute {oid} that no client needs (a challenge password?)"));
        }
        let [value] = values.as_slice() else {
            return Err("it lists its extensions more than once".to_owned());
        };
        if std::mem::replace(&mut asked, true) {
            return Err("it lists its extensions more than once".to_owned());
        }
        let list = value.decode_as::<Vec<Extension>>();
        wishes = list.map_err(|_| "its list of extensions cannot be read")?;
    }
    for (at, wish) in wishes.iter().enumerate() {
        if wishes.iter().skip(at + 1).any(|other| other.extn_id == wish.extn_id) {
            return Err(format!("it asks for the extension {} twice", wish.extn_id));
        }
    }
    Ok(wishes)
}

/// The one name; whatever else is wished for must be what every client gets.
fn name_of(wishes: &[Extension]) -> Result<String, String> {
    let mut names = Vec::new();
    for wish in wishes {
        match wish.extn_id {
            SubjectAltName::OID => names = read::<SubjectAltName>(wish)?.0,
            // Ours is computed from the key.
            SubjectKeyIdentifier::OID => {}
            BasicConstraints::OID if !read::<BasicConstraints>(wish)?.ca => {}
            BasicConstraints::OID => {
                return Err("it asks for an authority's certificate (CA:TRUE)".to_owned());
            }
            KeyUsage::OID if read::<KeyUsage>(wish)?.0 == KeyUsages::DigitalSignature => {}
            KeyUsage::OID => return Err("it asks for another key usage than digitalSignature".to_owned()),
            ExtendedKeyUsage::OID if read::<ExtendedKeyUsage>(wish)?.0 == [ID_KP_CLIENT_AUTH] => {}
            ExtendedKeyUsage::OID => {
                return Err("it asks for another extended key usage than clientAuth".to_owned());
            }
            other => return Err(format!("it asks for an extension {other} that no client needs")),
        }
    }
    let [GeneralName::UniformResourceIdentifier(uri)] = names.as_slice() else {
        return Err("it does not have exactly one subject alternative name, a SPIFFE URI".to_owned());
    };
    let name = uri.as_str();
    if name.len() > NAME_MAX {
        return Err(format!("its name has {} characters; {NAME_MAX} are possible", name.len()));
    }
    if client_name(name).is_none() {
        return Err(format!(
            "'{}' is not like spiffe://weihai.example/perso/line-1: no wildcard, no empty segment, nothing but letters, \
             digits, '.', '-' and '_'",
            name.escape_debug()
        ));
    }
    Ok(name.to_owned())
}

fn read<T: for<'a> Decode<'a>>(wish: &Extension) -> Result<T, String> {
    T::from_der(wish.extn_value.as_bytes())
        .map_err(|_| format!("its extension {} cannot be read", wish.extn_id))
}
