//! The authority at work, judged by webpki (as keyd) and by OpenSSL.

use std::fs;
use std::path::PathBuf;

use rcgen::{DnType, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use time::Duration;
use translog::entry::{CommandEvent, Event, GenesisEvent};
use translog::state::LogState;
use webpki::{
    ALL_VERIFICATION_ALGS, BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy,
    KeyUsage, RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};
use wire::cbor::{Bytes, Cbor as _};
use wire::command::{Action, Approval, Command as Decision, Genesis, Member, Quorum, SignedCommand};
use wire::purse::to_hex;

use super::super::register::{Issued, List};
use super::*;
use crate::keyfile::{self, Key, Role};
use crate::secret::Passphrase;

const NOW: u64 = 1_790_000_000;

fn moment(seconds: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds.try_into().unwrap()).unwrap()
}

/// An authority, its register, and a log.
struct Room {
    dir: tempfile::TempDir,
    key: Key,
    log: LogState,
    next: u8,
}

impl Room {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = key(&dir.path().join("ca.key"));
        let made = new_authority(&key, "Weihai clients", moment(NOW)).unwrap();
        fs::write(dir.path().join("ca.pem"), made).unwrap();
        let mut room = Self { dir, key, log: LogState::new(), next: 1 };
        let quorum = |first: u8| Quorum {
            threshold: 2,
            members: (0..3).map(|at| Member { name: format!("o{at}"), key: [first + at; 33] }).collect(),
        };
        let genesis = Genesis {
            origin: "log.example/a".into(),
            node: [2; 16],
            rehearsal: true,
            officers: quorum(10),
            custodians: quorum(20),
            policy: [5; 32],
            ca: [6; 32],
            identity: [7; 33],
        };
        let command = room.decision(Action::Genesis(genesis));
        room.take(&Event::Genesis(GenesisEvent {
            command,
            certificate: Bytes(vec![1]),
            log_key: [8; 32],
            module: [9; 32],
            memory: "mlock".into(),
            epoch_key: None,
        }));
        room
    }

    fn decision(&mut self, action: Action) -> Bytes {
        let command = Decision {
            version: 1,
            suite: 1,
            instance: [1; 16],
            officer_epoch: self.log.instance().map_or(0, |instance| instance.officer_epoch),
            id: [self.next; 16],
            not_before: 0,
            not_after: 1000,
            proposed_at: 0,
            proposer: "o0".into(),
            action,
        };
        self.next += 1;
        let approvals = vec![Approval { officer: "o0".into(), signature: [0; 64] }];
        Bytes(SignedCommand { command: Bytes(command.to_cbor()), approvals }.to_cbor())
    }

    fn take(&mut self, event: &Event) {
        self.log.advance(event, [3; 16], [2; 16], [NOW * 1_000_000_000, self.log.size()]).unwrap();
    }

    fn decide(&mut self, action: Action) {
        let command = self.decision(action);
        self.take(&Event::Command(CommandEvent { command, made: None, card: None }));
    }

    fn enrol(&mut self, days: u64) -> Request {
        let request = Request::parse(&request(|_| ())).unwrap();
        let (client, key) = (request.client.clone(), request.key);
        self.decide(Action::EnrolClient(EnrolClient { client, key, not_after: NOW + days * DAY }));
        request
    }

    fn end(&mut self, request: &Request) {
        self.decide(Action::EndClient(EndClient { key: request.key, reason: "遗失 lost".into() }));
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn authority(&self) -> Authority {
        Authority::open(Seal::read(&self.at("ca.pem"), NOW).unwrap(), &self.key).unwrap()
    }

    fn register(&self) -> Register {
        Register::open(&self.at("register"), &Seal::read(&self.at("ca.pem"), NOW).unwrap().der).unwrap()
    }

    /// `client issue`.
    fn issue(&self, request: &Request, days: u64, now: u64) -> Result<Issued, Failure> {
        let mut register = self.register();
        let issued = self.authority().issue(request, &self.log, days, register.time(now)?)?;
        register.add_issued(issued.clone())?;
        Ok(issued)
    }

    /// `client crl`.
    fn list(&self, now: u64, certificates: &[&str], uncertified: &[String]) -> Result<List, Failure> {
        let (authority, mut register) = (self.authority(), self.register());
        let now = register.time(now)?;
        for pem in certificates {
            fs::write(self.at("lost.pem"), pem).unwrap();
            register.add_issued(authority.recover(&self.at("lost.pem"))?)?;
        }
        let lying = authority.lying(&self.at("crl.pem"))?;
        let draft = Draft { register: &register, log: &self.log, lying, uncertified, days: 7, now };
        let (pem, list) = authority.revocations(&draft)?;
        register.add_list(list.clone())?;
        files::replace(&self.at("crl.pem"), pem.as_bytes(), files::PUBLIC)?;
        Ok(list)
    }

    /// Whether a client with this certificate comes in, as webpki says and as OpenSSL says; they agree.
    fn comes_in(&self, issued: &Issued, now: u64) -> bool {
        fs::write(self.at("leaf.pem"), &issued.certificate).unwrap();
        let openssl = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslclient", "-crl_check", "-attime"])
            .args([&now.to_string(), "-CAfile", "ca.pem", "-CRLfile", "crl.pem", "leaf.pem"])
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let webpki = self.webpki(now);
        assert_eq!(webpki.is_ok(), openssl.status.success(), "{webpki:?} {openssl:?}");
        webpki.is_ok()
    }

    fn webpki(&self, now: u64) -> Result<(), webpki::Error> {
        let ca = CertificateDer::from_pem_file(self.at("ca.pem")).unwrap();
        let leaf = CertificateDer::from_pem_file(self.at("leaf.pem")).unwrap();
        let crl = CertificateRevocationListDer::from_pem_file(self.at("crl.pem")).unwrap();
        let crl: CertRevocationList<'_> = BorrowedCertRevocationList::from_der(&crl)?.into();
        let (anchors, lists) = ([anchor_from_trusted_cert(&ca)?], [&crl]);
        let revocation = RevocationOptionsBuilder::new(&lists)
            .unwrap()
            .with_status_policy(UnknownStatusPolicy::Deny)
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build();
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        let usage = KeyUsage::client_auth();
        EndEntityCert::try_from(&leaf)?
            .verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], time, usage, Some(revocation), None)
            .map(|_| ())
    }
}

fn key(path: &Path) -> Key {
    let passphrase = Passphrase::new(b"the unrelated words of the authority").unwrap();
    keyfile::create(path, "client-ca", Role::Authority, true, &passphrase).unwrap()
}

fn says<T>(outcome: Result<T, Failure>, sentence: &str) {
    let failure = outcome.err().unwrap_or_else(|| panic!("not refused: {sentence}")).to_string();
    assert!(failure.contains(sentence), "'{sentence}' is not in '{failure}'");
}

fn revoked(list: &List) -> Vec<&str> {
    list.revoked.iter().map(|row| row.serial.as_str()).collect()
}

#[test]
fn what_is_certified_comes_in_until_its_key_is_ended() {
    let mut room = Room::new();
    let (first, second) = (room.enrol(100), room.enrol(100));
    let (one, two) = (room.issue(&first, 30, NOW).unwrap(), room.issue(&second, 30, NOW).unwrap());
    assert_eq!(room.list(NOW, &[], &[]).unwrap().revoked, []);
    assert!(room.comes_in(&one, NOW + 60) && room.comes_in(&two, NOW + 60));
    assert!(!room.comes_in(&one, NOW + 8 * DAY), "the list has run out");
    room.end(&first);
    assert_eq!(revoked(&room.list(NOW + 60, &[], &[]).unwrap()), [one.serial.as_str()]);
    assert!(!room.comes_in(&one, NOW + 120) && room.comes_in(&two, NOW + 120));
    // It stays on the list until its own end, and no longer.
    assert_eq!(room.list(one.not_after, &[], &[]).unwrap().revoked.len(), 1);
    assert_eq!(room.list(one.not_after + 1, &[], &[]).unwrap().revoked.len(), 0);
    says(room.issue(&first, 30, one.not_after + 1), "was ended");
}

#[test]
fn a_certificate_ends_with_its_days_its_enrolment_and_before_its_authority() {
    let mut room = Room::new();
    let request = room.enrol(100);
    assert_eq!(room.issue(&request, 30, NOW).unwrap().not_after, NOW + 30 * DAY);
    assert_eq!(room.issue(&request, 398, NOW).unwrap().not_after, NOW + 100 * DAY);
    for days in [0, 399, u64::MAX] {
        says(room.issue(&request, days, NOW), "1 to 398 days");
    }
    says(room.issue(&request, 30, NOW + 100 * DAY), "enrolment has ended");
    let foreign = Request::parse(&super::request(|_| ())).unwrap();
    says(room.issue(&foreign, 30, NOW), "no enrolment");
    let renamed = Request { client: "spiffe://weihai.example/perso/line-2".into(), ..request };
    says(room.issue(&renamed, 30, NOW), "is enrolled as");
    let late = room.enrol(3700);
    says(room.issue(&late, 30, NOW + 3640 * DAY), "authority would end before");
    assert!(room.issue(&late, 9, NOW + 3640 * DAY).is_ok());
    for days in [0, 91, u64::MAX] {
        let (authority, register) = (room.authority(), room.register());
        let draft =
            Draft { register: &register, log: &room.log, lying: None, uncertified: &[], days, now: NOW };
        says(authority.revocations(&draft).map(|_| ()), "1 to 90 days");
    }
}

#[test]
fn only_the_authority_of_the_clients_opens() {
    let room = Room::new();
    let path = room.at("other.pem");
    let read = |pem: &str, now: u64| {
        fs::write(&path, pem).unwrap();
        Seal::read(&path, now)
    };
    let own = fs::read_to_string(room.at("ca.pem")).unwrap();
    assert!(read(&own, NOW).is_ok() && read(&own, NOW + 3650 * DAY).is_ok());
    says(read(&own, NOW + 3650 * DAY + 1), "not valid today");
    says(read(&own, NOW - DAY), "not valid today");
    says(read(&format!("{own}{own}"), NOW), "more than one");
    says(read("", NOW), "no certificate");
    let made = |edit: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Weihai clients");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = moment(NOW) - Duration::days(1);
        params.not_after = moment(NOW) + Duration::days(1);
        edit(&mut params);
        params.self_signed(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()).unwrap().pem()
    };
    says(read(&made(&|params| params.is_ca = IsCa::ExplicitNoCa), NOW), "directly below it");
    let chain = |length| IsCa::Ca(BasicConstraints::Constrained(length));
    says(read(&made(&|params| params.is_ca = chain(1)), NOW), "directly below it");
    says(read(&made(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), NOW), "directly");
    says(read(&made(&|params| params.key_usages.truncate(1)), NOW), "may not sign");
    says(read(&made(&|params| params.key_usages.clear()), NOW), "may not sign");
    let foreign = read(&made(&|_| ()), NOW).unwrap();
    says(Authority::open(foreign, &room.key).map(|_| ()), "is not of client-ca's key");
    let other = key(&room.at("other.key"));
    let seal = Seal::read(&room.at("ca.pem"), NOW).unwrap();
    says(Authority::open(seal, &other).map(|_| ()), "is not of client-ca's key");
}

#[test]
fn no_clock_and_no_lost_file_makes_a_list_look_older() {
    let mut room = Room::new();
    let request = room.enrol(100);
    let first = room.list(NOW, &[], &[]).unwrap();
    let second = room.list(NOW, &[], &[]).unwrap();
    assert_eq!((first.number, second.number), (NOW * 1_000_000_000, NOW * 1_000_000_000 + 1));
    says(room.list(NOW - 1, &[], &[]), "clock");
    says(room.issue(&request, 30, NOW - 1), "clock");
    // Without its register, and a minute back: above the list that lies there.
    fs::remove_file(room.at("register")).unwrap();
    assert_eq!(room.list(NOW - 60, &[], &[]).unwrap().number, second.number + 1);
    // Without either, later: above every list that a clock made.
    fs::remove_file(room.at("register")).unwrap();
    fs::remove_file(room.at("crl.pem")).unwrap();
    assert!(room.list(NOW + 1, &[], &[]).unwrap().number > second.number + 1);
}

#[test]
fn a_lost_register_forgets_no_revocation() {
    let mut room = Room::new();
    let (certified, never) = (room.enrol(100), room.enrol(100));
    let issued = room.issue(&certified, 30, NOW).unwrap();
    let backup = fs::read(room.at("register")).unwrap();
    room.end(&certified);
    room.list(NOW, &[], &[]).unwrap();
    let lying = fs::read_to_string(room.at("crl.pem")).unwrap();
    // Lost altogether: the log knows that a certificate is missing, with the old list there and without it.
    fs::remove_file(room.at("register")).unwrap();
    says(room.list(NOW, &[], &[]), "no certificate of it");
    let key = to_hex(&certified.key);
    says(room.list(NOW, &[], std::slice::from_ref(&key)), &format!("revokes {}", issued.serial));
    fs::remove_file(room.at("crl.pem")).unwrap();
    says(room.list(NOW, &[], &[]), "no certificate of it");
    assert!(!room.at("crl.pem").exists(), "nothing is signed that forgets");
    // Its certificate brings it back; no other does.
    fs::write(room.at("crl.pem"), &lying).unwrap();
    let foreign = Room::new();
    let own = fs::read_to_string(room.at("ca.pem")).unwrap();
    let mut other = Room::new();
    let request = other.enrol(100);
    let elsewhere = other.issue(&request, 30, NOW).unwrap().certificate;
    for bad in [elsewhere.as_str(), &own, &fs::read_to_string(foreign.at("ca.pem")).unwrap(), ""] {
        says(room.list(NOW, &[bad], &[]), "no client's certificate of this authority");
    }
    let list = room.list(NOW, &[&issued.certificate], &[]).unwrap();
    assert_eq!(revoked(&list), [issued.serial.as_str()]);
    assert!(!room.comes_in(&issued, NOW + 60));
    // From a backup nothing is missing; a key that was never certified is declared once.
    fs::write(room.at("register"), backup).unwrap();
    assert_eq!(revoked(&room.list(NOW, &[], &[]).unwrap()), [issued.serial.as_str()]);
    room.end(&never);
    says(room.list(NOW, &[], &[]), &to_hex(&never.key));
    room.list(NOW, &[], &[to_hex(&never.key)]).unwrap();
    assert_eq!(room.list(NOW, &[], &[]).unwrap().uncertified, [to_hex(&never.key)]);
}

#[test]
fn a_file_that_is_no_list_of_ours_is_not_overwritten() {
    let room = Room::new();
    room.list(NOW, &[], &[]).unwrap();
    let own = fs::read_to_string(room.at("crl.pem")).unwrap();
    // Another authority of the same name.
    let other = Room::new();
    other.list(NOW, &[], &[]).unwrap();
    let foreign = fs::read_to_string(other.at("crl.pem")).unwrap();
    for bad in [foreign.as_str(), "", &own[..own.len() / 2], &format!("{own}{foreign}")] {
        fs::write(room.at("crl.pem"), bad).unwrap();
        says(room.list(NOW, &[], &[]), "is not overwritten");
        assert_eq!(fs::read_to_string(room.at("crl.pem")).unwrap(), bad);
    }
}

#[test]
fn a_register_from_before_is_read_and_goes_on() {
    let mut room = Room::new();
    let request = room.enrol(100);
    let issued = room.issue(&request, 30, NOW).unwrap();
    // As it was written then: no head, no time, no certificate, no lists.
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clients/register-v0");
    let golden = fs::read_to_string(golden).unwrap();
    let (serial, key) = ("7A26CC44CB00000000000000000000AA", "5A".repeat(32));
    let old = golden.replace(serial, &issued.serial).replace(&key, &issued.key);
    assert_ne!(old, golden);
    fs::write(room.at("register"), &old).unwrap();
    assert_eq!(room.register().issued().count(), 2);
    room.end(&request);
    let list = room.list(NOW, &[], &[]).unwrap();
    assert_eq!(revoked(&list), [issued.serial.as_str()]);
    assert!(!room.comes_in(&issued, NOW + 60));
    let now = fs::read_to_string(room.at("register")).unwrap();
    assert!(now.starts_with("{\"authority\"") && room.register().issued().count() == 2, "{now}");
    for bad in [old.trim_end(), &old[..old.len() - 3], &old.replacen(':', ": ", 1), &format!("{old}\n")] {
        fs::write(room.at("register"), bad).unwrap();
        let seal = Seal::read(&room.at("ca.pem"), NOW).unwrap();
        says(Register::open(&room.at("register"), &seal.der), "damaged");
    }
}
