use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose as Use, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SanType, SerialNumber,
};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::super::finding::State;
use super::*;

const NOW: u64 = 1_800_000_000;
const SPIFFE: &str = "spiffe://weihai.example/clearing/engine-1";

fn at(hours: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(NOW).unwrap()).unwrap() + Duration::hours(hours)
}

/// A CA, its list and one leaf of each kind, good unless a test changes something.
struct Pki {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        Self::named("test CA")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (at(-1000), at(100_000));
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        let pki = Self { dir: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key) };
        pki.write("ca.pem", &ca.pem(), 0o644);
        pki.list(-1, 100, None);
        pki.leaf(
            "server",
            vec![SanType::DnsName("localhost".try_into().unwrap())],
            Use::ServerAuth,
            [-1, 100],
        );
        pki.leaf("client", vec![uri(SPIFFE)], Use::ClientAuth, [-1, 100]);
        pki.write("policy.toml", "trust_domain = \"weihai.example\"\n", 0o644);
        pki
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.at(name), text).unwrap();
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn leaf(&self, name: &str, names: Vec<SanType>, usage: Use, [from, to]: [i64; 2]) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        params.serial_number = Some(SerialNumber::from(7_u64));
        (params.not_before, params.not_after) = (at(from), at(to));
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{name}.pem"), &signed.pem(), 0o644);
        self.write(&format!("{name}.key"), &key.serialize_pem(), 0o600);
    }

    fn list(&self, from: i64, to: i64, revoked: Option<u64>) {
        let list = CertificateRevocationListParams {
            this_update: at(from),
            next_update: at(to),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(serial),
                    revocation_time: at(from),
                    reason_code: Some(RevocationReason::KeyCompromise),
                    invalidity_date: None,
                })
                .into_iter()
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write("crl.pem", &list.signed_by(&self.issuer).unwrap().pem().unwrap(), 0o644);
    }

    fn house(&self) -> House {
        House {
            config: self.at("keyd.toml"),
            state_dir: None,
            log_dir: None,
            hsm_socket: None,
            policy: Some(self.at("policy.toml")),
            certificate: Some(self.at("server.pem")),
            key: Some(self.at("server.key")),
            client_ca: Some(self.at("ca.pem")),
            client_crl: Some(self.at("crl.pem")),
            server_name: Some("localhost".to_owned()),
            user: None,
        }
    }

    fn service(&self) -> Service {
        Service {
            url: "https://localhost:1".to_owned(),
            ca: self.at("ca.pem"),
            cert: self.at("client.pem"),
            key: self.at("client.key"),
        }
    }

    fn all(&self, now: u64) -> Vec<Finding> {
        let mut found = server(&self.house(), now);
        found.extend(client(&self.service(), Some(&self.house()), now));
        found
    }

    /// The checks that are not good, in their order.
    fn wrong(&self, now: u64) -> Vec<(&'static str, State)> {
        let found = self.all(now);
        for finding in &found {
            assert!(!finding.text().contains("PRIVATE"), "{}", finding.text());
        }
        let wrong = found.iter().filter(|finding| finding.state != State::Good);
        wrong.map(|finding| (finding.check, finding.state)).collect()
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn good_files_are_all_green() {
    let pki = Pki::new();
    assert_eq!(pki.wrong(NOW), []);
    assert_eq!(pki.all(NOW).len(), 2 + 5 + 5);
}

#[test]
fn time_turns_the_right_lines() {
    let pki = Pki::new();
    assert_eq!(
        pki.wrong(NOW + 80 * HOUR),
        [("crl", State::Warn), ("server-expiry", State::Warn), ("client-expiry", State::Warn)]
    );
    let late = [
        ("crl", State::Bad),
        ("server-chain", State::Bad),
        ("server-expiry", State::Bad),
        ("client-chain", State::Bad),
        ("client-expiry", State::Bad),
    ];
    assert_eq!(pki.wrong(NOW + 101 * HOUR), late);
    // A clock that was set back: everything begins later than now.
    assert_eq!(pki.wrong(NOW - 2 * HOUR), late);
    let text: Vec<String> = pki.all(NOW - 2 * HOUR).iter().map(Finding::text).collect();
    assert_eq!(text.iter().filter(|text| text.contains("the clock was set back")).count(), 3, "{text:#?}");
}

#[test]
fn an_expired_certificate_a_stale_list_a_revoked_client() {
    let pki = Pki::new();
    pki.leaf("client", vec![uri(SPIFFE)], Use::ClientAuth, [-10, -1]);
    assert_eq!(pki.wrong(NOW), [("client-chain", State::Bad), ("client-expiry", State::Bad)]);
    let pki = Pki::new();
    pki.list(-10, -1, None);
    assert_eq!(pki.wrong(NOW), [("crl", State::Bad), ("client-chain", State::Bad)]);
    pki.list(-1, 100, Some(7));
    assert_eq!(pki.wrong(NOW), [("client-chain", State::Bad)]);
    pki.list(-1, 100, Some(8));
    assert_eq!(pki.wrong(NOW), []);
    pki.write("crl.pem", "", 0o644);
    assert_eq!(pki.wrong(NOW), [("crl", State::Bad)]);
}

#[test]
fn an_authority_that_is_over() {
    let pki = Pki::new();
    pki.leaf(
        "server",
        vec![SanType::DnsName("localhost".try_into().unwrap())],
        Use::ServerAuth,
        [-1, 200_000],
    );
    pki.leaf("client", vec![uri(SPIFFE)], Use::ClientAuth, [-1, 200_000]);
    pki.list(-1, 200_000, None);
    assert_eq!(pki.wrong(NOW + 99_900 * HOUR), [("client-ca", State::Warn)]);
    assert_eq!(pki.wrong(NOW + 100_001 * HOUR), [("client-ca", State::Bad)]);
}

#[test]
fn names_and_uses() {
    let pki = Pki::new();
    for names in [
        vec![],
        vec![uri("spiffe://rongcheng.example/clearing/engine-1")],
        vec![uri("spiffe://weihai.example/clearing/../x")],
        vec![uri("spiffe://weihai.example")],
        vec![uri("https://weihai.example/clearing")],
        vec![uri(SPIFFE), uri("spiffe://weihai.example/clearing/engine-2")],
        vec![SanType::DnsName("engine-1".try_into().unwrap())],
    ] {
        let said = format!("{names:?}");
        pki.leaf("client", names, Use::ClientAuth, [-1, 100]);
        assert_eq!(pki.wrong(NOW), [("client-name", State::Bad)], "{said}");
    }
    pki.leaf("client", vec![uri(SPIFFE)], Use::ServerAuth, [-1, 100]);
    assert_eq!(pki.wrong(NOW), [("client-chain", State::Bad), ("client-usage", State::Bad)]);
    let pki = Pki::new();
    pki.leaf("server", vec![SanType::DnsName("other".try_into().unwrap())], Use::ServerAuth, [-1, 100]);
    assert_eq!(pki.wrong(NOW), [("server-name", State::Bad)]);
}

#[test]
fn keys_of_others_and_for_others() {
    let pki = Pki::new();
    let good = fs::read_to_string(pki.at("server.key")).unwrap();
    pki.write("client.key", &good, 0o600);
    assert_eq!(pki.wrong(NOW), [("client-pair", State::Bad)]);
    pki.write("client.key", "no key", 0o600);
    assert_eq!(pki.wrong(NOW), [("client-pair", State::Bad)]);
    let pki = Pki::new();
    pki.write("server.key", &good, 0o640);
    let found = pki.all(NOW);
    let pair = found.iter().find(|finding| finding.check == "server-pair").unwrap();
    assert!(pair.text().contains("chmod 600") && pair.state == State::Bad, "{}", pair.text());
    fs::remove_file(pki.at("server.key")).unwrap();
    assert_eq!(pki.wrong(NOW), [("server-pair", State::Unchecked)]);
}

#[test]
fn another_issuer() {
    let pki = Pki::new();
    let ca = |of: &Pki| fs::read_to_string(of.at("ca.pem")).unwrap();
    // Of the same name: the list seems to be its own, and the signatures are not.
    pki.write("ca.pem", &ca(&Pki::new()), 0o644);
    assert_eq!(pki.wrong(NOW), [("server-chain", State::Bad), ("client-chain", State::Bad)]);
    pki.write("ca.pem", &ca(&Pki::named("other CA")), 0o644);
    assert_eq!(
        pki.wrong(NOW),
        [("crl", State::Bad), ("server-chain", State::Unchecked), ("client-chain", State::Bad)]
    );
    // A client that has no list to look into says less.
    let found = client(&pki.service(), None, NOW);
    assert!(found.iter().any(|finding| finding.check == "client-chain" && finding.state == State::Unchecked));
    pki.write("client.pem", "nothing", 0o644);
    let [only] = client(&pki.service(), None, NOW).try_into().unwrap();
    assert_eq!((only.check, only.state), ("client-cert", State::Bad));
}
