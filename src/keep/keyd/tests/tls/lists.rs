//! Revocation lists, and the files that keyd starts with.

use keyd::connections::Connections;
use keyd::tls::{Reason, Tls, TlsError};
use rcgen::{CertificateParams, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd};
use rustls::pki_types::pem::PemObject;

use crate::gate::{Gate, domain, reason};
use crate::pki::{CLEARING, Ca, Pki, block, ca_params, client_params, in_hours, next_number};

#[tokio::test(flavor = "multi_thread")]
async fn revocation_lists_are_enforced() {
    let gate = Gate::with(|pki| pki.write("crl.pem", &pki.ca.crl(&[], true), 0o644)).await;
    assert_eq!(reason(gate.show(&gate.pki.ca.client(CLEARING)).await), Some(Reason::CrlExpired));
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
async fn a_list_that_goes_back_does_not_come_in_force() {
    let gate = Gate::new().await;
    let (old, new) = (next_number(), next_number());
    let end = date_time_ymd(2090, 1, 1);
    gate.pki.write("crl.pem", &gate.pki.ca.list(new, &[4711], end), 0o644);
    assert!(gate.reload().unwrap());
    let stranger = Ca::new("Rongcheng clients");
    let thief = Ca::new("Weihai clients");
    for (what, says, list) in [
        ("an older one", "older list", gate.pki.ca.list(old, &[], end)),
        ("the same number, less in it", "the number of the one in force", gate.pki.ca.list(new, &[], end)),
        ("another CA's", "holds no list of", stranger.list(new + 1, &[], end)),
        ("another key's", "did not sign", thief.list(new + 1, &[], end)),
    ] {
        gate.pki.write("crl.pem", &list, 0o644);
        let error = gate.reload().unwrap_err().to_string();
        assert!(error.contains(says), "{what}: {error}");
        assert_eq!(reason(gate.show(&gate.pki.ca.client(CLEARING)).await), Some(Reason::Revoked), "{what}");
    }
    gate.pki.write("crl.pem", &gate.pki.ca.list(next_number(), &[], end), 0o644);
    assert!(gate.reload().unwrap());
    gate.good_client_is_let_in("the next list").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_after_its_last_day_lets_nobody_in() {
    let ends = |hours: i64| {
        let mut params = ca_params("Weihai clients");
        params.not_after = in_hours(hours);
        Ca::of(params)
    };
    for (hours, expected) in [(1, None), (-1, Some(Reason::Expired))] {
        let ca = ends(hours);
        let gate = Gate::with(|pki| {
            pki.write("ca.pem", &ca.certificate.pem(), 0o644);
            pki.write("crl.pem", &ca.crl(&[], false), 0o644);
        });
        assert_eq!(reason(gate.await.show(&ca.client(CLEARING)).await), expected, "{hours} h left");
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_comes_during_a_handshake_judges_it_too() {
    let gate = Gate::new().await;
    let connections = Connections::new(2);
    let numbered = |serial: u64| {
        let mut params = client_params(CLEARING);
        params.serial_number = Some(SerialNumber::from(serial));
        gate.pki.ca.leaf(params)
    };
    let (doomed, good) = (numbered(4712), numbered(4713));
    // Let in by the list before.
    let early = gate.show(&doomed).await.unwrap();
    let late = gate.show(&doomed).await.unwrap();
    let stays = gate.show(&good).await.unwrap();
    let mut early = gate.front.seat(&connections, &early).unwrap();
    gate.pki.write("crl.pem", &gate.pki.ca.crl(&[4712], false), 0o644);
    assert!(gate.reload().unwrap());
    // The reload sees who has a place by then; who takes one afterwards is seen by the list.
    assert_eq!(connections.judge_again(&gate.tls), 1);
    assert_eq!(early.ended().await, Reason::Revoked);
    assert_eq!(gate.front.seat(&connections, &late).err(), Some(Reason::Revoked.code()));
    assert_eq!(connections.open(), 1, "and the place is given back");
    let stays = gate.front.seat(&connections, &stays).unwrap();
    assert_eq!(connections.judge_again(&gate.tls), 1, "the same one");
    drop((early, stays));
    assert_eq!(connections.open(), 0);
}

#[test]
fn files_that_keyd_does_not_start_with() {
    type Spoil = fn(&Pki);
    let cases: [(&str, &str, Spoil); 16] = [
        ("CRL missing", "revocation list", |pki| {
            std::fs::remove_file(pki.dir.join("crl.pem")).unwrap();
        }),
        ("CRL empty", "holds no list", |pki| {
            pki.write("crl.pem", "", 0o644);
        }),
        ("CRL garbage", "revocation list", |pki| {
            pki.write("crl.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", 0o644);
        }),
        ("CRL of another CA", "holds no list of 'CN=Weihai clients'", |pki| {
            pki.write("crl.pem", &Ca::new("Rongcheng clients").crl(&[], false), 0o644);
        }),
        ("CRL in the CA's name by another key", "did not sign", |pki| {
            pki.write("crl.pem", &Ca::new("Weihai clients").crl(&[], false), 0o644);
        }),
        ("a changed CRL", "did not sign", |pki| {
            let list = pki.ca.crl(&[1, 2], false);
            let der =
                rustls::pki_types::CertificateRevocationListDer::from_pem_slice(list.as_bytes()).unwrap();
            let mut der = der.to_vec();
            let at = der.windows(3).position(|three| three == [2, 1, 2]).unwrap();
            der[at + 2] = 3;
            pki.write("crl.pem", &block("X509 CRL", &der), 0o644);
        }),
        ("two CRLs of one CA", "two lists", |pki| {
            let lists = [pki.ca.crl(&[1], false), pki.ca.crl(&[], false)].concat();
            pki.write("crl.pem", &lists, 0o644);
        }),
        ("a CA of the bundle without its CRL", "holds no list of 'CN=Rongcheng clients'", |pki| {
            let other = Ca::new("Rongcheng clients").certificate.pem();
            pki.write("ca.pem", &format!("{}{other}", pki.ca.certificate.pem()), 0o644);
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
