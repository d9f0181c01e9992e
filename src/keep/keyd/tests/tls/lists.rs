//! Revocation lists, and the files that keyd starts with.

use keyd::tls::{Reason, Tls, TlsError};
use rcgen::{CertificateParams, KeyPair, KeyUsagePurpose};

use crate::gate::{Gate, domain, reason};
use crate::pki::{CLEARING, Ca, Pki, ca_params};

#[tokio::test(flavor = "multi_thread")]
async fn revocation_lists_are_enforced() {
    let other = Ca::new("Rongcheng clients");
    let same_name = Ca::new("Weihai clients");
    let gate = Gate::with(|pki| pki.write("crl.pem", &pki.ca.crl(&[], true), 0o644)).await;
    assert_eq!(reason(gate.show(&gate.pki.ca.client(CLEARING)).await), Some(Reason::CrlExpired));
    let gate = Gate::with(|pki| pki.write("crl.pem", &other.crl(&[], false), 0o644)).await;
    assert_eq!(reason(gate.show(&gate.pki.ca.client(CLEARING)).await), Some(Reason::RevocationUnknown));
    let gate = Gate::with(|pki| pki.write("crl.pem", &same_name.crl(&[], false), 0o644)).await;
    let found = reason(gate.show(&gate.pki.ca.client(CLEARING)).await);
    assert!(matches!(found, Some(Reason::CrlInvalid | Reason::RevocationUnknown)), "{found:?}");
    let gate = Gate::with(|pki| pki.write("crl.pem", &pki.ca.crl(&[1, 2, 4710, 4712], false), 0o644)).await;
    gate.good_client_is_let_in("a list of other serials").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_what_is_good_and_keeps_what_was() {
    let gate = Gate::new().await;
    gate.good_client_is_let_in("the start").await;
    gate.pki.write("crl.pem", "", 0o644);
    assert!(matches!(gate.reload(), Err(TlsError::File { .. })));
    gate.good_client_is_let_in("a bad reload").await;
    gate.pki.write("crl.pem", &gate.pki.ca.crl(&[4711], false), 0o644);
    assert!(gate.reload().unwrap());
    assert_eq!(reason(gate.show(&gate.pki.ca.client(CLEARING)).await), Some(Reason::Revoked));
    gate.pki.write("crl.pem", &gate.pki.ca.crl(&[], false), 0o644);
    assert!(gate.reload().unwrap());
    gate.good_client_is_let_in("a good reload").await;
    assert!(!gate.reload().unwrap(), "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_bundle_comes_in_force_with_its_approval_and_revocations_without() {
    let other = Ca::new("Rongcheng clients");
    let gate = Gate::new().await;
    let first = gate.tls.ca_digest();
    gate.pki.write("ca.pem", &other.certificate.pem(), 0o644);
    let lists = [gate.pki.ca.crl(&[4711], false), other.crl(&[], false)].concat();
    gate.pki.write("crl.pem", &lists, 0o644);
    assert!(gate.tls.reload(&first).unwrap(), "the list");
    assert_eq!(gate.tls.ca_digest(), first);
    let found = gate.tls.ca_found();
    assert_ne!(found, first, "the other bundle is seen");
    assert_eq!(reason(gate.show(&other.client(CLEARING)).await), Some(Reason::UnknownIssuer));
    assert_eq!(reason(gate.show(&gate.pki.ca.client(CLEARING)).await), Some(Reason::Revoked));
    assert!(!gate.tls.reload(&[0; 32]).unwrap(), "a third one is approved");
    assert_eq!(gate.tls.ca_digest(), first);
    assert!(gate.tls.reload(&found).unwrap());
    assert_eq!((gate.tls.ca_digest(), gate.tls.ca_found()), (found, found));
    let guest = gate.show(&other.client(CLEARING)).await.unwrap();
    assert_eq!(guest.client.as_str(), CLEARING);
    assert_eq!(reason(gate.show(&gate.pki.ca.client(CLEARING)).await), Some(Reason::UnknownIssuer));
}

#[test]
fn files_that_keyd_does_not_start_with() {
    type Spoil = fn(&Pki);
    let cases: [(&str, &str, Spoil); 11] = [
        ("CRL missing", "revocation list", |pki| {
            std::fs::remove_file(pki.dir.join("crl.pem")).unwrap();
        }),
        ("CRL empty", "holds no list", |pki| {
            pki.write("crl.pem", "", 0o644);
        }),
        ("CRL garbage", "revocation list", |pki| {
            pki.write("crl.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", 0o644);
        }),
        ("CA missing", "CA bundle", |pki| {
            std::fs::remove_file(pki.dir.join("ca.pem")).unwrap();
        }),
        ("CA empty", "holds no certificate", |pki| {
            pki.write("ca.pem", "", 0o644);
        }),
        ("a leaf as trust anchor", "not a CA's", |pki| {
            let leaf = pki.ca.client(CLEARING).pem();
            pki.write("ca.pem", &format!("{}{leaf}", pki.ca.certificate.pem()), 0o644);
        }),
        ("a CA that may not sign certificates", "not a CA's", |pki| {
            let mut params = ca_params("Weihai clients");
            params.key_usages = vec![KeyUsagePurpose::CrlSign];
            pki.write("ca.pem", &Ca::of(params).certificate.pem(), 0o644);
        }),
        ("key readable by others", "0600", |pki| {
            let key = std::fs::read_to_string(pki.dir.join("keyd.key")).unwrap();
            pki.write("keyd.key", &key, 0o640);
        }),
        ("key of another certificate", "does not belong", |pki| {
            pki.write("keyd.key", &KeyPair::generate().unwrap().serialize_pem(), 0o600);
        }),
        ("certificate for another name", "not for tls.server_name", |pki| {
            let leaf = pki.server_ca.leaf(CertificateParams::new(vec!["other.example".to_owned()]).unwrap());
            pki.write("keyd.pem", &leaf.pem(), 0o644);
        }),
        ("certificate empty", "holds no certificate", |pki| {
            pki.write("keyd.pem", "", 0o644);
        }),
    ];
    for (what, says, spoil) in cases {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        Tls::load(&pki.tls(), &domain()).unwrap();
        spoil(&pki);
        let error = Tls::load(&pki.tls(), &domain()).unwrap_err().to_string();
        assert!(error.contains(says), "{what}: {error}");
    }
}
