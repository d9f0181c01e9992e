use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls_pki_types::pem::PemObject as _;

use super::grants::granted;
use super::*;

mod desk;

const NAME: &str = "spiffe://weihai.example/perso/line-1";

fn request(edit: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(NAME.try_into().unwrap())];
    edit(&mut params);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap().into_bytes()
}

/// A request as OpenSSL makes it, PEM, with these extensions and this kind of key.
fn openssl(key: &[&str], digest: &str, extensions: &[&str], config: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("[req]\ndistinguished_name=dn\nprompt=no\n{config}\n[dn]\nCN=a client\n");
    std::fs::write(dir.path().join("cnf"), text).unwrap();
    let mut make = Command::new("openssl");
    make.args(["req", "-new", "-nodes", digest, "-config", "cnf", "-keyout", "key", "-newkey"]).args(key);
    extensions.iter().for_each(|extension| {
        make.args(["-addext", extension]);
    });
    let made = make.current_dir(dir.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

const EC: [&str; 3] = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const SAN: &str = "subjectAltName=URI:spiffe://weihai.example/perso/line-1";

fn why(request: &[u8]) -> String {
    Request::parse(request).unwrap_err()
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
    refused(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth], "clientAuth");
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
    let long = format!("spiffe://weihai.example/{}", "a".repeat(256));
    refused(&|params| params.subject_alt_names = vec![uri(&long)], "256 are possible");
}

#[test]
fn what_openssl_makes_is_read_and_its_other_wishes_are_refused() {
    let good = openssl(&EC, "-sha256", &[SAN], "");
    let usual = ["basicConstraints=CA:FALSE", "keyUsage=digitalSignature", "extendedKeyUsage=clientAuth"];
    let full = openssl(&EC, "-sha256", &[[SAN].as_slice(), &usual].concat(), "");
    assert_eq!(
        (Request::parse(&good).unwrap().client, Request::parse(&full).unwrap().client),
        (NAME.into(), NAME.into())
    );
    for (wish, sentence) in [
        ("basicConstraints=CA:TRUE", "authority's certificate"),
        ("keyUsage=digitalSignature,keyCertSign", "another key usage"),
        ("keyUsage=keyAgreement", "another key usage"),
        ("extendedKeyUsage=serverAuth", "another extended key usage"),
        ("extendedKeyUsage=clientAuth,serverAuth", "another extended key usage"),
        ("certificatePolicies=1.2.3.4", "an extension 2.5.29.32"),
        ("tlsfeature=status_request", "an extension 1.3.6.1.5.5.7.1.24"),
    ] {
        let error = why(&openssl(&EC, "-sha256", &[SAN, wish], ""));
        assert!(error.contains(sentence), "{wish}: {error}");
    }
    let none = why(&openssl(&EC, "-sha256", &[], ""));
    assert!(none.contains("exactly one"), "{none}");
    let password = "attributes=asked\n[asked]\nchallengePassword=secret\n";
    let error = why(&openssl(&EC, "-sha256", &[SAN], password));
    assert!(error.contains("challenge password"), "{error}");
    for (key, digest, sentence) in [
        (&["rsa:2048"][..], "-sha256", "not on the curve"),
        (&["ec", "-pkeyopt", "ec_paramgen_curve:P-384"], "-sha256", "not on the curve"),
        (&["ec", "-pkeyopt", "ec_paramgen_curve:P-384"], "-sha384", "not on the curve"),
        (&["ed25519"], "-sha256", "not on the curve"),
        (&EC, "-sha384", "ECDSA with SHA-256"),
    ] {
        let error = why(&openssl(key, digest, &[SAN], ""));
        assert!(error.contains(sentence), "{key:?} {digest}: {error}");
    }
}

#[test]
fn half_a_request_two_of_them_or_one_that_was_changed_is_refused() {
    let pem = openssl(&EC, "-sha256", &[SAN], "");
    let text = String::from_utf8(pem.clone()).unwrap();
    let old = text.replace("BEGIN CERT", "BEGIN NEW CERT").replace("END CERT", "END NEW CERT");
    assert_eq!(Request::parse(old.as_bytes()), Request::parse(&pem), "keytool's label");
    let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(&pem).unwrap().to_vec();
    assert_eq!(Request::parse(&der), Request::parse(&pem));
    for length in 0..der.len() {
        assert!(Request::parse(&der[..length]).is_err(), "the first {length} bytes");
    }
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed[at] ^= 1;
        assert!(Request::parse(&changed).is_err(), "byte {at}");
    }
    assert!(Request::parse(&[der.as_slice(), &[0]].concat()).is_err(), "a byte more");
    assert!(why(format!("{text}{text}").as_bytes()).contains("more than one block"));
    assert!(why(&text.as_bytes()[..text.len() / 2]).contains("no CERTIFICATE REQUEST"));
    assert!(why(&vec![b'x'; 20_000]).contains("much longer"));
    assert!(Request::parse(b"").is_err());
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
    let enrolled = enrolment(&csr, 30, None).unwrap();
    assert_eq!((enrolled.client.as_str(), enrolled.key), (NAME, Request::read(&csr).unwrap().key));
    assert!(enrolment(&csr, 0, None).is_err() && enrolment(&csr, 399, None).is_err());
    // Under a policy: its trust domain, and one of its roles.
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/rehearsal.toml");
    assert!(enrolment(&csr, 30, Some(&policy)).is_ok());
    for (name, sentence) in [
        ("spiffe://elsewhere.example/perso/line-1", "another trust domain"),
        ("spiffe://weihai.example/nobody/x", "no role names"),
    ] {
        let bytes = request(|params| params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())]);
        std::fs::write(&csr, bytes).unwrap();
        assert!(enrolment(&csr, 30, None).is_ok());
        let failure = enrolment(&csr, 30, Some(&policy)).unwrap_err().to_string();
        assert!(failure.contains(sentence), "{name}: {failure}");
    }
    std::fs::write(&csr, request(|_| ())).unwrap();
    assert!(end(&csr, "lost").is_err(), "a request is no certificate");
}
