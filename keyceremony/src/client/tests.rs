use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};

use super::grants::granted;
use super::*;

const NAME: &str = "spiffe://weihai.example/perso/line-1";

fn request(edit: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(NAME.try_into().unwrap())];
    edit(&mut params);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

#[test]
fn a_request_has_one_name_and_asks_for_nothing_more() {
    let good = Request::parse(&request(|_| ())).unwrap();
    assert_eq!(good.client, NAME);
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let dns = || SanType::DnsName("weihai.example".try_into().unwrap());
    let refused = |edit: &dyn Fn(&mut CertificateParams), why: &str| {
        let error = Request::parse(&request(|params| edit(params))).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    };
    refused(&|params| params.subject_alt_names.clear(), "exactly one");
    refused(&|params| params.subject_alt_names = vec![dns()], "exactly one");
    refused(&|params| params.subject_alt_names.push(dns()), "exactly one");
    refused(&|params| params.subject_alt_names.push(uri("spiffe://weihai.example/b")), "exactly one");
    refused(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "authority");
    refused(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth], "another use");
    for bad in [
        "https://weihai.example/perso/line-1",
        "spiffe://weihai.example",
        "spiffe://weihai.example/",
        "spiffe://weihai.example/perso/*",
        "spiffe://weihai.example/../x",
        "spiffe://Weihai.example/x",
        "spiffe://weihai.example/a//b",
        "spiffe://weihai.example/a b",
    ] {
        refused(&|params| params.subject_alt_names = vec![uri(bad)], "is not like");
    }
    // Another curve, a broken signature, no request at all.
    let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(NAME)];
    let ed25519 = params.serialize_request(&other).unwrap().pem().unwrap();
    assert!(Request::parse(&ed25519).is_err());
    let broken = request(|_| ());
    let lines: Vec<&str> = broken.lines().collect();
    let swapped = format!("{}\n{}\n", lines[..lines.len() - 2].join("\n"), lines[lines.len() - 1]);
    assert!(Request::parse(&swapped).is_err());
    assert!(Request::parse("").is_err());
}

#[test]
fn what_a_policy_grants_is_said_in_words() {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/rehearsal.toml");
    let said = granted(&policy, NAME).unwrap().join("\n");
    assert!(
        said.contains("role        perso") && said.contains("cards-keys") && said.contains("transit/perso/*"),
        "{said}"
    );
    let failure = granted(&policy, "spiffe://weihai.example/nobody/x").unwrap_err().to_string();
    assert!(failure.contains("no role names"), "{failure}");
    assert!(granted(&policy, "spiffe://elsewhere.example/perso/line-1").is_err());
}

#[test]
fn an_enrolment_is_bound_to_name_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let csr = dir.path().join("line.csr");
    std::fs::write(&csr, request(|_| ())).unwrap();
    let enrolled = enrolment(&csr, 30).unwrap();
    assert_eq!((enrolled.client.as_str(), enrolled.key), (NAME, Request::read(&csr).unwrap().key));
    assert!(enrolment(&csr, 0).is_err() && enrolment(&csr, 399).is_err());
    assert!(end(&csr, "lost").is_err(), "a request is no certificate");
}
