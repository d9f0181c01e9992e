//! Certificates that prove nothing.

use std::time::{Duration, Instant};

use keyd::tls::Reason;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
    SerialNumber, date_time_ymd,
};

use crate::gate::{Gate, reason};
use crate::pki::{CLEARING, Ca, Leaf, Pki, REVOKED_SERIAL, ca_params, client_params, san};

fn spoilt(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = client_params(CLEARING);
    change(&mut params);
    params
}

/// Leaves of the trusted CA, each with one fault in dates, uses or kinds of names.
fn certificate_faults() -> Vec<(&'static str, CertificateParams, Reason)> {
    let uris = |uris: &[&str]| {
        let names: Vec<SanType> = uris.iter().map(|uri| san(uri)).collect();
        spoilt(|params| params.subject_alt_names = names)
    };
    let dns = || SanType::DnsName("engine-1.weihai.example".try_into().unwrap());
    let usages =
        |usages: &[ExtendedKeyUsagePurpose]| spoilt(|params| params.extended_key_usages = usages.to_vec());
    let two = "spiffe://weihai.example/audit/desk-1";
    vec![
        ("expired", spoilt(|params| params.not_after = date_time_ymd(2024, 1, 1)), Reason::Expired),
        (
            "not yet valid",
            spoilt(|params| params.not_before = date_time_ymd(2080, 1, 1)),
            Reason::NotYetValid,
        ),
        (
            "revoked",
            spoilt(|params| params.serial_number = Some(SerialNumber::from(REVOKED_SERIAL))),
            Reason::Revoked,
        ),
        ("two SANs in two roles", uris(&[CLEARING, two]), Reason::SanMany),
        ("the same SAN twice", uris(&[CLEARING, CLEARING]), Reason::SanMany),
        ("URI and DNS SAN", spoilt(|params| params.subject_alt_names.push(dns())), Reason::SanMany),
        ("DNS SAN", spoilt(|params| params.subject_alt_names = vec![dns()]), Reason::SanKind),
        ("no SAN, CN only", spoilt(|params| params.subject_alt_names.clear()), Reason::SanMissing),
        ("no EKU", usages(&[]), Reason::ClientAuth),
        ("serverAuth only", usages(&[ExtendedKeyUsagePurpose::ServerAuth]), Reason::ClientAuth),
        ("any purpose only", usages(&[ExtendedKeyUsagePurpose::Any]), Reason::ClientAuth),
        (
            "CA:TRUE leaf",
            spoilt(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            Reason::CaLeaf,
        ),
        (
            "keyUsage without digitalSignature",
            spoilt(|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
            Reason::KeyUsage,
        ),
    ]
}

/// Leaves of the trusted CA whose one name is not a client's.
fn name_faults() -> Vec<(&'static str, CertificateParams, Reason)> {
    let uris = |uris: &[&str]| {
        let names: Vec<SanType> = uris.iter().map(|uri| san(uri)).collect();
        spoilt(|params| params.subject_alt_names = names)
    };
    vec![
        ("wrong trust domain", uris(&["spiffe://rongcheng.example/clearing/engine-1"]), Reason::TrustDomain),
        (
            "trust domain as a prefix",
            uris(&["spiffe://weihai.example.com/clearing/engine-1"]),
            Reason::TrustDomain,
        ),
        ("wildcard", uris(&["spiffe://weihai.example/clearing/*"]), Reason::Spiffe),
        ("mixed case domain", uris(&["spiffe://Weihai.example/clearing/engine-1"]), Reason::Spiffe),
        ("NUL", uris(&["spiffe://weihai.example/clearing/engine-1\0"]), Reason::Spiffe),
        ("percent encoding", uris(&["spiffe://weihai.example/clearing/engine%2d1"]), Reason::Spiffe),
        (
            "punycode is another domain",
            uris(&["spiffe://xn--weihai-abc.example/clearing/engine-1"]),
            Reason::TrustDomain,
        ),
        ("empty segment", uris(&["spiffe://weihai.example//engine-1"]), Reason::Spiffe),
        ("no path", uris(&["spiffe://weihai.example"]), Reason::Spiffe),
        ("https URI", uris(&["https://weihai.example/clearing/engine-1"]), Reason::Spiffe),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_of_the_trusted_ca_with_one_fault_each() {
    let gate = Gate::new().await;
    for (what, params, expected) in certificate_faults().into_iter().chain(name_faults()) {
        let outcome = gate.show(&gate.pki.ca.leaf(params)).await;
        let turned = outcome.err().unwrap_or_else(|| panic!("{what} was let in"));
        assert_eq!(turned.reason, expected, "{what}");
        assert!(turned.certificate.is_some(), "{what}: the log names the key");
        gate.good_client_is_let_in(what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_of_others() {
    let gate = Gate::new().await;
    let foreign = Ca::new("Rongcheng clients");
    let impostor = Ca::new("Weihai clients");
    let trusted_leaf = Ca::under(client_params(CLEARING), &gate.pki.ca);
    let mut under_leaf = trusted_leaf.client(CLEARING);
    under_leaf.chain.push(trusted_leaf.certificate.der().clone());
    let own_key = KeyPair::generate().unwrap();
    let mut own = client_params(CLEARING);
    own.distinguished_name = ca_params("Weihai clients").distinguished_name;
    let self_signed = Leaf { chain: vec![own.self_signed(&own_key).unwrap().der().clone()], key: own_key };
    let stolen = Leaf { chain: gate.pki.ca.client(CLEARING).chain, key: KeyPair::generate().unwrap() };
    let garbage = Leaf { chain: vec![vec![0x30, 0x03, 1, 2, 3].into()], key: KeyPair::generate().unwrap() };
    for (what, leaf, expected) in [
        ("a foreign CA", foreign.client(CLEARING), &[Reason::UnknownIssuer][..]),
        (
            "a CA with the same name and another key",
            impostor.client(CLEARING),
            &[Reason::Signature, Reason::UnknownIssuer],
        ),
        ("self-signed under the CA's name", self_signed, &[Reason::Signature, Reason::UnknownIssuer]),
        ("issued by a trusted leaf", under_leaf, &[Reason::Chain, Reason::UnknownIssuer]),
        ("a certificate without its key", stolen, &[Reason::KeyProof]),
        ("bytes that are no certificate", garbage, &[Reason::Encoding]),
    ] {
        let found = reason(gate.show(&leaf).await).unwrap_or_else(|| panic!("{what} was let in"));
        assert!(expected.contains(&found), "{what}: {found:?}");
        gate.good_client_is_let_in(what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_that_are_too_long_or_too_dear() {
    let narrow = |pki: &Pki| {
        let mut params = ca_params("Weihai clients");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let narrow = params.self_signed(&pki.ca.key).unwrap();
        pki.write("ca.pem", &narrow.pem(), 0o644);
    };
    for (gate, expected) in [(Gate::with(narrow).await, Some(Reason::Chain)), (Gate::new().await, None)] {
        let between = Ca::under(ca_params("between"), &gate.pki.ca);
        let mut leaf = between.client(CLEARING);
        leaf.chain.push(between.certificate.der().clone());
        let lists = [&gate.pki.ca, &between].map(|ca| ca.crl(&[], false)).concat();
        gate.pki.write("crl.pem", &lists, 0o644);
        gate.reload().unwrap();
        assert_eq!(reason(gate.show(&leaf).await), expected, "path length");
    }

    let gate = Gate::new().await;
    let mut cas = vec![Ca::under(ca_params("ca 0"), &gate.pki.ca)];
    for number in 1..10 {
        cas.push(Ca::under(ca_params(&format!("ca {number}")), &cas[number - 1]));
    }
    let lists: String = cas.iter().chain([&gate.pki.ca]).map(|ca| ca.crl(&[], false)).collect();
    gate.pki.write("crl.pem", &lists, 0o644);
    gate.reload().unwrap();
    let mut deep = cas[9].client(CLEARING);
    deep.chain.extend(cas.iter().rev().map(|ca| ca.certificate.der().clone()));
    assert_eq!(reason(gate.show(&deep).await), Some(Reason::Chain), "ten levels");
    // Many CAs of one name that could each be the issuer of each other: path building must give up soon.
    let mut twins: Vec<Ca> = vec![Ca::new("twin")];
    for _ in 0..60 {
        twins.push(Ca::under(ca_params("twin"), twins.last().unwrap()));
    }
    let mut costly = twins.last().unwrap().client(CLEARING);
    costly.chain.extend(twins.iter().map(|ca| ca.certificate.der().clone()));
    let started = Instant::now();
    assert!(reason(gate.show(&costly).await).is_some(), "sixty twins");
    assert!(started.elapsed() < Duration::from_millis(700), "{:?}", started.elapsed());
    gate.good_client_is_let_in("dear chains").await;
}
