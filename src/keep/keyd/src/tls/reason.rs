//! Why a connection was turned away: one stable code each, for the log. The client learns no more than its TLS alert.

use rustls::{CertificateError, Error, PeerIncompatible};

macro_rules! reasons {
    ($( $(#[$meta:meta])* $variant:ident => $code:literal, )*) => {
        /// Stable reason of a refused connection.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[allow(clippy::exhaustive_enums)]
        pub enum Reason { $( $(#[$meta])* $variant, )* }

        impl Reason {
            /// The code in the log.
            pub const fn code(self) -> &'static str {
                match self { $( Self::$variant => $code, )* }
            }
        }
    };
}

reasons! {
    /// No protocol in common with HTTP/1.1.
    Alpn => "tls-alpn",
    /// The certificate or a signature in its chain uses an algorithm that we do not take.
    Algorithm => "tls-algorithm",
    /// A CA certificate shown as a client's.
    CaLeaf => "tls-ca-leaf",
    /// Path length, name constraint, depth, or a path that costs too much to build.
    Chain => "tls-chain",
    /// The client did not accept keyd's certificate, or gave up.
    ClientAlert => "tls-client-alert",
    /// The peer went away inside the handshake.
    Closed => "tls-closed",
    /// The revocation list is older than it says it may be.
    CrlExpired => "tls-crl-expired",
    /// The revocation list is not one of the CA.
    CrlInvalid => "tls-crl-invalid",
    /// Bytes that are not a certificate.
    Encoding => "tls-encoding",
    /// After its last day.
    Expired => "tls-expired",
    /// No cipher or key exchange in common.
    Incompatible => "tls-incompatible",
    /// No extended key usage, or not for clients.
    ClientAuth => "tls-client-auth",
    /// Key usage without digital signature.
    KeyUsage => "tls-key-usage",
    /// The peer does not hold the key of the certificate that it shows.
    KeyProof => "tls-key-proof",
    /// The peer broke the TLS protocol.
    Misbehaved => "tls-misbehaved",
    /// No certificate shown.
    NoCertificate => "tls-no-certificate",
    /// Not TLS at all.
    NotTls => "tls-not-tls",
    /// Before its first day.
    NotYetValid => "tls-not-yet-valid",
    /// On the revocation list.
    Revoked => "tls-revoked",
    /// No revocation list of its CA.
    RevocationUnknown => "tls-revocation-unknown",
    /// No subject alternative name.
    SanMissing => "tls-san-missing",
    /// More than one.
    SanMany => "tls-san-many",
    /// One that is not a URI.
    SanKind => "tls-san-kind",
    /// Another server name than keyd's, or none.
    ServerName => "tls-server-name",
    /// A signature in the chain does not verify.
    Signature => "tls-signature",
    /// The URI is not a SPIFFE id in its one text form.
    Spiffe => "tls-spiffe",
    /// The handshake took too long.
    Timeout => "tls-timeout",
    /// A SPIFFE id of another trust domain.
    TrustDomain => "tls-trust-domain",
    /// Issued by nobody whom we trust.
    UnknownIssuer => "tls-unknown-issuer",
    /// Something that has no name of its own.
    Other => "tls-other",
    /// TLS 1.3 not offered.
    Version => "tls-version",
}

impl Reason {
    /// What webpki says of a client's chain.
    pub(crate) fn of_chain(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::InvalidCertRevocationList(_) => Self::CrlInvalid,
            Error::NoCertificatesPresented => Self::NoCertificate,
            _ => Self::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        use CertificateError as E;
        match error {
            E::BadEncoding => Self::Encoding,
            E::Expired | E::ExpiredContext { .. } => Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Self::NotYetValid,
            E::Revoked => Self::Revoked,
            E::UnknownIssuer => Self::UnknownIssuer,
            E::UnknownRevocationStatus => Self::RevocationUnknown,
            E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => Self::CrlExpired,
            E::BadSignature => Self::Signature,
            E::UnsupportedSignatureAlgorithmContext { .. }
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Self::Algorithm,
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::ClientAuth,
            E::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
                Some(webpki::Error::CaUsedAsEndEntity) => Self::CaLeaf,
                Some(_) => Self::Chain,
                None => Self::Other,
            },
            _ => Self::Chain,
        }
    }

    /// What rustls says of a handshake that failed outside the chain check.
    pub(crate) fn of_handshake(error: &std::io::Error) -> Self {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return Self::Closed;
        };
        match error {
            Error::AlertReceived(_) => Self::ClientAlert,
            Error::InvalidMessage(_) => Self::NotTls,
            Error::NoApplicationProtocol => Self::Alpn,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic,
            ) => Self::Version,
            Error::PeerIncompatible(_) => Self::Incompatible,
            Error::InappropriateHandshakeMessage { .. }
            | Error::InappropriateMessage { .. }
            | Error::PeerMisbehaved(_)
            | Error::DecryptError
            | Error::PeerSentOversizedRecord => Self::Misbehaved,
            _ => Self::Other,
        }
    }
}
