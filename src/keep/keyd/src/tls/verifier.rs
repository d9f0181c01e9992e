//! Our client check around webpki's: webpki proves the chain and the revocation, this proves that the leaf is a client
//! of ours and names which one.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use super::lists::is_signed;
use crate::client_id::{ClientId, NotAClient, TrustDomain};
use crate::expiry::{Expiry, What};
use crate::tls::Reason;

const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// First bytes of SHA-256 of a certificate's public key: names a key in the log without a register of keys.
pub type KeyPrefix = [u8; 8];

/// What one handshake showed. rustls gives its verifier no place of its own per connection, so the front lends it this.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) certificate: Option<KeyPrefix>,
    pub(crate) client: Option<ClientId>,
    pub(crate) reason: Option<Reason>,
}

tokio::task_local! {
    /// Lives as long as one handshake; polled on one thread at a time with it.
    pub(crate) static SEEN: RefCell<Seen>;
}

/// Notes something about the handshake under way; outside one there is nothing to note it in.
pub(crate) fn note(change: impl FnOnce(&mut Seen)) {
    let _ = SEEN.try_with(|seen| change(&mut seen.borrow_mut()));
}

/// Checks client certificates.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    anchors: Vec<Anchor>,
    domain: TrustDomain,
}

impl ClientVerifier {
    pub(crate) fn new(chain: Arc<dyn ClientCertVerifier>, anchors: Vec<Anchor>, domain: TrustDomain) -> Self {
        Self { chain, anchors, domain }
    }

    /// When the CAs end.
    pub(crate) fn expiries(&self) -> impl Iterator<Item = Expiry> {
        self.anchors.iter().filter_map(|anchor| Expiry::of_certificate(What::ClientCa, &anchor.der, None))
    }

    /// Whose certificate it is; or why it is nobody's, with the error that makes the right alert.
    pub(crate) fn identify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientId, (Reason, Error)> {
        self.chain
            .verify_client_cert(leaf, intermediates, now)
            .map_err(|error| (Reason::of_chain(&error), error))?;
        if !anchor_permits(&self.anchors, leaf, intermediates) {
            return Err((Reason::Chain, CertificateError::ApplicationVerificationFailure.into()));
        }
        if anchor_is_over(&self.anchors, leaf, intermediates, now) {
            return Err((Reason::Expired, CertificateError::Expired.into()));
        }
        client_of(leaf, &self.domain).map_err(|reason| {
            let error = match reason {
                Reason::ClientAuth => CertificateError::InvalidPurpose,
                Reason::Encoding => CertificateError::BadEncoding,
                _ => CertificateError::ApplicationVerificationFailure,
            };
            (reason, error.into())
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        note(|seen| seen.certificate = key_prefix(end_entity));
        match self.identify(end_entity, intermediates, now) {
            Ok(client) => {
                note(|seen| seen.client = Some(client));
                Ok(ClientCertVerified::assertion())
            }
            Err((reason, error)) => {
                note(|seen| seen.reason = Some(reason));
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let proof = self.chain.verify_tls13_signature(message, cert, dss);
        if proof.is_err() {
            note(|seen| seen.reason = Some(Reason::KeyProof));
        }
        proof
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Reads the client from a leaf whose chain is proven.
fn client_of(leaf: &CertificateDer<'_>, domain: &TrustDomain) -> Result<ClientId, Reason> {
    let certificate = Certificate::from_der(leaf).map_err(|_| Reason::Encoding)?;
    if extension::<BasicConstraints>(&certificate)?.is_some_and(|constraints| constraints.ca) {
        return Err(Reason::CaLeaf);
    }
    let purposes = extension::<ExtendedKeyUsage>(&certificate)?.ok_or(Reason::ClientAuth)?;
    if !purposes.0.contains(&CLIENT_AUTH) {
        return Err(Reason::ClientAuth);
    }
    if extension::<KeyUsage>(&certificate)?.is_some_and(|usage| !usage.digital_signature()) {
        return Err(Reason::KeyUsage);
    }
    let names = extension::<SubjectAltName>(&certificate)?.ok_or(Reason::SanMissing)?;
    match names.0.as_slice() {
        [] => Err(Reason::SanMissing),
        [GeneralName::UniformResourceIdentifier(uri)] => {
            ClientId::parse(uri.as_str(), domain).map_err(|why| match why {
                NotAClient::Form => Reason::Spiffe,
                NotAClient::TrustDomain => Reason::TrustDomain,
            })
        }
        [_] => Err(Reason::SanKind),
        _ => Err(Reason::SanMany),
    }
}

/// The extension, which must not stand there twice.
fn extension<'a, T>(certificate: &'a Certificate) -> Result<Option<T>, Reason>
where
    T: Decode<'a> + AssociatedOid,
{
    certificate
        .tbs_certificate()
        .get_extension::<T>()
        .map(|found| found.map(|(_, value)| value))
        .map_err(|_| Reason::Encoding)
}

/// A CA of the bundle, with what webpki forgets of an anchor: its constraint and its end.
#[derive(Debug)]
pub(crate) struct Anchor {
    der: CertificateDer<'static>,
    subject: Name,
    key: SubjectPublicKeyInfoOwned,
    path_len: Option<u8>,
    not_after: u64,
}

impl Anchor {
    /// Reads a certificate of the bundle; `None` unless it is a CA that may sign certificates. webpki would take any
    /// certificate as an anchor.
    pub(crate) fn read(der: &CertificateDer<'static>) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let constraints = extension::<BasicConstraints>(&certificate).ok()??;
        let signs = extension::<KeyUsage>(&certificate).ok()?.is_none_or(|usage| usage.key_cert_sign());
        let body = certificate.tbs_certificate();
        (constraints.ca && signs).then(|| Self {
            der: der.clone(),
            subject: body.subject().clone(),
            key: body.subject_public_key_info().clone(),
            path_len: constraints.path_len_constraint,
            not_after: body.validity().not_after.to_unix_duration().as_secs(),
        })
    }

    pub(crate) fn subject(&self) -> &Name {
        &self.subject
    }

    /// Whether this CA signed the list.
    pub(crate) fn signed(&self, list: &CertificateList, provider: &CryptoProvider) -> bool {
        is_signed(list, &self.key, provider)
    }
}

/// Whether no anchor that issued something shown forbids so many certificates between itself and the leaf.
fn anchor_permits(
    anchors: &[Anchor],
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> bool {
    let is_anchor = |shown: &&CertificateDer<'_>| anchors.iter().any(|anchor| anchor.der == **shown);
    let between = intermediates.iter().filter(|shown| !is_anchor(shown)).count();
    let narrow = |anchor: &&Anchor| anchor.path_len.is_some_and(|most| between > usize::from(most));
    let narrow: Vec<&Name> = anchors.iter().filter(narrow).map(|anchor| &anchor.subject).collect();
    if narrow.is_empty() {
        return true;
    }
    let issued = |shown: &CertificateDer<'_>| {
        let certificate = Certificate::from_der(shown);
        certificate.map_or(true, |certificate| narrow.contains(&certificate.tbs_certificate().issuer()))
    };
    !intermediates.iter().chain([leaf]).any(issued)
}

/// Whether a CA that issued something shown has ended, and no other of its name goes on.
fn anchor_is_over(
    anchors: &[Anchor],
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> bool {
    let issued_by_ended = |shown: &CertificateDer<'_>| {
        let Ok(certificate) = Certificate::from_der(shown) else {
            return true;
        };
        let issuer = certificate.tbs_certificate().issuer();
        let mut named = anchors.iter().filter(|anchor| anchor.subject == *issuer).peekable();
        named.peek().is_some() && named.all(|anchor| anchor.not_after < now.as_secs())
    };
    intermediates.iter().chain([leaf]).any(issued_by_ended)
}

/// [`KeyPrefix`] of a certificate, if it parses.
pub(crate) fn key_prefix(certificate: &CertificateDer<'_>) -> Option<KeyPrefix> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let key = certificate.tbs_certificate().subject_public_key_info().to_der().ok()?;
    Sha256::digest(key).first_chunk().copied()
}
