//! A chain to a CA bundle. That an authority is over is not seen here: webpki takes of an anchor its name and key only.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};

/// Who shows it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Server,
    Client,
}

/// Why it is not good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Why {
    Issuer,
    Revoked,
    Expired,
    Early,
    List,
    Purpose,
    Other,
}

impl Why {
    pub(super) fn words(self) -> [&'static str; 2] {
        match self {
            Self::Issuer => ["签发者不在 CA 文件中", "nobody in the CA bundle has issued it"],
            Self::Revoked => ["已被吊销", "it is revoked"],
            Self::Expired => ["其中有证书已过期", "a certificate of it has expired"],
            Self::Early => ["其中有证书尚未生效", "a certificate of it is not valid yet"],
            Self::List => [
                "没有可用的吊销列表",
                "there is no revocation list that is in its time and says anything of it",
            ],
            Self::Purpose => ["用途不符", "it is for another use"],
            Self::Other => ["签名或格式不对", "a signature or the form of a certificate is wrong"],
        }
    }
}

impl From<webpki::Error> for Why {
    fn from(error: webpki::Error) -> Self {
        use webpki::Error as E;
        match error {
            E::UnknownIssuer => Self::Issuer,
            E::CertRevoked => Self::Revoked,
            E::CertExpired { .. } => Self::Expired,
            E::CertNotValidYet { .. } => Self::Early,
            E::CrlExpired { .. } | E::UnknownRevocationStatus | E::IssuerNotCrlSigner => Self::List,
            E::RequiredEkuNotFoundContext(_) => Self::Purpose,
            _ => Self::Other,
        }
    }
}

/// Verifies `chain`, leaf first, at `now` in seconds since 1970. Without lists nothing is asked about revocation.
pub(super) fn verify(
    chain: &[CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
    lists: &[CertificateRevocationListDer<'_>],
    purpose: Purpose,
    now: u64,
) -> Result<(), Why> {
    let (leaf, between) = chain.split_first().ok_or(Why::Other)?;
    let anchors: Vec<TrustAnchor<'_>> =
        anchors.iter().filter_map(|anchor| anchor_from_trusted_cert(anchor).ok()).collect();
    let lists: Vec<CertRevocationList<'_>> = lists
        .iter()
        .filter_map(|list| OwnedCertRevocationList::from_der(list).ok().map(CertRevocationList::from))
        .collect();
    let lists: Vec<&CertRevocationList<'_>> = lists.iter().collect();
    let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
        options
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Deny)
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build()
    });
    let usage = match purpose {
        Purpose::Server => KeyUsage::server_auth(),
        Purpose::Client => KeyUsage::client_auth(),
    };
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let leaf = EndEntityCert::try_from(leaf)?;
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, between, time, usage, revocation, None)?;
    Ok(())
}
