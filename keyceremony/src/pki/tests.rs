use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use webpki::{
    ALL_VERIFICATION_ALGS, BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy,
    KeyUsage, RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};

use super::*;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
}

fn certificate(dir: &Path, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(dir.join(format!("{name}.pem"))).unwrap()
}

/// Verifies a leaf as keyd does: path, usage, revocation list and its expiry.
fn verify(dir: &Path, name: &str, usage: KeyUsage, at: OffsetDateTime) -> Result<(), webpki::Error> {
    let ca = certificate(dir, "ca");
    let anchors = [anchor_from_trusted_cert(&ca)?];
    let crl = CertificateRevocationListDer::from_pem_file(dir.join("crl.pem")).unwrap();
    let crl: CertRevocationList<'_> = BorrowedCertRevocationList::from_der(&crl)?.into();
    let lists = [&crl];
    let revocation = RevocationOptionsBuilder::new(&lists)
        .unwrap()
        .with_status_policy(UnknownStatusPolicy::Deny)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build();
    let leaf = certificate(dir, name);
    let time =
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.unix_timestamp().try_into().unwrap()));
    EndEntityCert::try_from(&leaf)?
        .verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], time, usage, Some(revocation), None)
        .map(|_| ())
}

#[test]
fn every_leaf_verifies_for_its_own_use_and_time_only() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    make(dir, now()).unwrap();
    for (name, _) in CLIENTS {
        verify(dir, name, KeyUsage::client_auth(), now()).unwrap();
        assert!(verify(dir, name, KeyUsage::server_auth(), now()).is_err(), "{name}");
        assert!(verify(dir, name, KeyUsage::client_auth(), now() + Duration::days(8)).is_err(), "{name}");
    }
    verify(dir, "keyd", KeyUsage::server_auth(), now()).unwrap();
    assert!(verify(dir, "keyd", KeyUsage::client_auth(), now()).is_err());
    make(dir, now() + Duration::days(25)).unwrap();
    verify(dir, "keyd", KeyUsage::server_auth(), now() + Duration::days(31)).unwrap();
}

#[test]
fn a_client_has_exactly_one_name_and_one_use() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), now()).unwrap();
    for (name, id) in CLIENTS {
        let der = certificate(dir.path(), name);
        let leaf = Certificate::from_der(&der).unwrap();
        let (_, names) = leaf.tbs_certificate().get_extension::<SubjectAltName>().unwrap().unwrap();
        let [GeneralName::UniformResourceIdentifier(uri)] = names.0.as_slice() else {
            panic!("{name}: {names:?}")
        };
        assert_eq!(uri.to_string(), id);
        let (_, uses) = leaf.tbs_certificate().get_extension::<ExtendedKeyUsage>().unwrap().unwrap();
        assert_eq!(uses.0.len(), 1, "{name}");
        assert_eq!(uses.0[0].to_string(), "1.3.6.1.5.5.7.3.2", "{name}: clientAuth");
    }
}

#[test]
fn a_renewal_keeps_the_ca_and_the_keys() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    make(dir, now()).unwrap();
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    let (ca, key, leaf, crl) = (read("ca.pem"), read("clearing.key"), read("clearing.pem"), read("crl.pem"));
    make(dir, now() + Duration::days(3)).unwrap();
    assert_eq!((read("ca.pem"), read("clearing.key")), (ca, key), "the digest that officers approved stays");
    assert!(read("clearing.pem") != leaf && read("crl.pem") != crl);
    verify(dir, "clearing", KeyUsage::client_auth(), now() + Duration::days(9)).unwrap();
}

#[test]
fn keys_are_private() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), now()).unwrap();
    for name in ["ca", "keyd", "clearing", "auditor", "officer"] {
        let mode = fs::metadata(dir.path().join(format!("{name}.key"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    fs::set_permissions(dir.path().join("ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(make(dir.path(), now()).is_err(), "a CA key that others may read signs nothing");
}
