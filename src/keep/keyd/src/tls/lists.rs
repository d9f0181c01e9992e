//! The clients' revocation lists, looked at before they come in force. webpki asks of a list only what one handshake
//! needs; that every CA has its own, and that none goes back, is asked here.

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::Uint;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::CrlNumber;
use x509_cert::name::Name;

use super::verifier::Anchor;
use crate::expiry::{Expiry, What};

/// One file of lists.
#[derive(Debug)]
pub(super) struct Lists {
    lists: Vec<List>,
}

#[derive(Debug)]
struct List {
    der: CertificateRevocationListDer<'static>,
    issuer: Name,
    number: Uint,
    expiry: Expiry,
    read: CertificateList,
}

impl Lists {
    /// Reads a file of lists in PEM, and says what is wrong with it otherwise.
    pub(super) fn read(pem: &[u8]) -> Result<Self, String> {
        let ders = CertificateRevocationListDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let ders = ders.map_err(|_| "is not PEM; give the CA's revocation list in PEM")?;
        if ders.is_empty() {
            return Err("holds no list; without a list of every CA keyd does not start".to_owned());
        }
        let lists = ders.into_iter().map(List::read).collect::<Result<Vec<_>, _>>()?;
        for (at, list) in lists.iter().enumerate() {
            if lists.iter().skip(at + 1).any(|other| other.issuer == list.issuer) {
                // webpki would take the first, which may be the older.
                return Err(format!("holds two lists of '{}'; keep the newer one only", list.issuer));
            }
        }
        Ok(Self { lists })
    }

    /// Every CA of the bundle has its list here, signed by it.
    pub(super) fn cover(&self, anchors: &[Anchor], provider: &CryptoProvider) -> Result<(), String> {
        for anchor in anchors {
            let subject = anchor.subject();
            let own = self.lists.iter().find(|list| list.issuer == *subject);
            let own = own.ok_or_else(|| {
                format!("holds no list of '{subject}', a CA of the bundle; add that CA's list")
            })?;
            if !anchor.signed(&own.read, provider) {
                return Err(format!(
                    "holds a list in the name of '{subject}' that this CA did not sign; get the list from the CA again"
                ));
            }
        }
        Ok(())
    }

    /// No list is older than the one of the same CA that is in force, and none has its number twice.
    pub(super) fn follow(&self, before: &Self) -> Result<(), String> {
        for list in &self.lists {
            let Some(known) = before.lists.iter().find(|known| known.issuer == list.issuer) else {
                continue;
            };
            if list.number < known.number {
                return Err(format!(
                    "holds an older list of '{}' than the one in force; bring the newest, with a higher number",
                    list.issuer
                ));
            }
            if list.number == known.number && list.der != known.der {
                return Err(format!(
                    "holds another list of '{}' with the number of the one in force; the CA must count up",
                    list.issuer
                ));
            }
        }
        Ok(())
    }

    pub(super) fn ders(&self) -> impl Iterator<Item = CertificateRevocationListDer<'static>> {
        self.lists.iter().map(|list| list.der.clone())
    }

    pub(super) fn expiries(&self) -> impl Iterator<Item = Expiry> {
        self.lists.iter().map(|list| list.expiry.clone())
    }
}

impl List {
    fn read(der: CertificateRevocationListDer<'static>) -> Result<Self, String> {
        let read = CertificateList::from_der(&der);
        let read = read.map_err(|_| "holds something that is no revocation list; make the list again")?;
        let body = &read.tbs_cert_list;
        let issuer = body.issuer.clone();
        let number = number_of(&read).ok_or_else(|| {
            format!("holds a list of '{issuer}' without a number; let the CA number its lists")
        })?;
        let next = body.next_update.ok_or_else(|| {
            format!("holds a list of '{issuer}' without an end; let the CA say when the next one comes")
        })?;
        let [this, next] = [body.this_update, next].map(|time| time.to_unix_duration().as_secs());
        let expiry = Expiry::new(What::ClientCrl, issuer.to_string(), this, next);
        Ok(Self { der, issuer, number, expiry, read })
    }
}

fn number_of(list: &CertificateList) -> Option<Uint> {
    use x509_cert::der::oid::AssociatedOid as _;
    let extensions = list.tbs_cert_list.crl_extensions.as_ref()?;
    let found = extensions.iter().find(|extension| extension.extn_id == CrlNumber::OID)?;
    CrlNumber::from_der(found.extn_value.as_bytes()).ok().map(|number| number.0)
}

/// Whether the holder of a key signed a list, by an algorithm that handshakes take too.
pub(super) fn is_signed(
    list: &CertificateList,
    key: &x509_cert::spki::SubjectPublicKeyInfoOwned,
    provider: &CryptoProvider,
) -> bool {
    let (Ok(message), Ok(of_key), Ok(of_signature)) =
        (list.tbs_cert_list.to_der(), inside(&key.algorithm), inside(&list.signature_algorithm))
    else {
        return false;
    };
    list.tbs_cert_list.signature == list.signature_algorithm
        && provider.signature_verification_algorithms.all.iter().any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == of_key
                && algorithm.signature_alg_id().as_ref() == of_signature
                && algorithm
                    .verify_signature(
                        key.subject_public_key.raw_bytes(),
                        &message,
                        list.signature.raw_bytes(),
                    )
                    .is_ok()
        })
}

/// An algorithm's DER without its outer tag and length, as rustls names algorithms.
fn inside(algorithm: &x509_cert::spki::AlgorithmIdentifierOwned) -> x509_cert::der::Result<Vec<u8>> {
    let mut bytes = algorithm.oid.to_der()?;
    if let Some(parameters) = &algorithm.parameters {
        bytes.extend(parameters.to_der()?);
    }
    Ok(bytes)
}
