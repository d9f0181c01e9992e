//! Yesterday's bytes: every format of this crate as a file that later versions must still read and write.
//!
//! A file changes only together with its format's version. `CITYKEEP_BLESS=1 cargo test -p wire --all-features --test
//! golden` writes files that are not there yet; it never overwrites one.
#![cfg(all(feature = "officers", feature = "json"))]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use wire::batch::{BatchHeader, Group, Profile, Record, Verdict};
use wire::cbor::{Bytes, Cbor};
use wire::command::{
    Action, Approval, Command, ComponentSpec, Floor, Genesis, ImportKey, Member, Quorum, SignedCommand,
    component_commitment, signed_bytes,
};
use wire::frame::{
    CardItem, CardKeys, Collect, Cosigned, KeyForm, KeydRequest, OfficerRequest, Purpose, SealedShare,
    TornTail, share_in_context, to_frame,
};
use wire::key::{
    Algorithm, FactorSource, KeyAttributes, KeyId, KeyVersion, Level, Lineage, SessionRule, Usage,
};
use wire::licence::{KeyBlockHeader, Licence};
use wire::list::{List, ListKind, Range, Single};
use wire::profile::{AppletProfile, MacLayout, ProfileRole};
use wire::seal;
use wire::share::{Share, ShareCertificate, ShareSet, ShareSlot};
use wire::token::{LedgerToken, TokenKey, token_bytes};
use wire::tree16::{self, Tree};
use wire::witness::{GRACE_DEFAULT, Prune, Witness, WitnessSet};

fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden").join(name);
    if !path.exists() && std::env::var_os("CITYKEEP_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(kept == bytes, "{name} is not what this version writes: a format needs a new version");
    kept
}

fn key(byte: u8) -> p256::SecretKey {
    p256::SecretKey::from_slice(&[byte; 32]).unwrap()
}

fn quorum(threshold: u64, first: u8, names: &[&str]) -> Quorum {
    let members = (first..).zip(names);
    let member =
        |(byte, name): (u8, &&str)| Member { name: (*name).to_owned(), key: seal::public_key(&key(byte)) };
    Quorum { threshold, members: members.map(member).collect() }
}

fn sign(action: Action, signers: &[(&str, u8)]) -> Vec<u8> {
    let command = Command {
        version: 1,
        suite: 1,
        instance: [0x11; 16],
        officer_epoch: u64::from(!matches!(action, Action::Genesis(_))),
        id: [0x22; 16],
        not_before: 0,
        not_after: 1000,
        proposed_at: 1_790_000_000,
        proposer: "li".into(),
        action,
    };
    let bytes = command.to_cbor();
    let approvals = signers.iter().map(|(name, byte)| Approval {
        officer: (*name).to_owned(),
        signature: seal::sign(&key(*byte), &signed_bytes(&bytes)),
    });
    SignedCommand { approvals: approvals.collect(), command: Bytes(bytes) }.to_cbor()
}

fn attributes() -> KeyAttributes {
    KeyAttributes {
        lineage: Lineage::parse("transit/purse/tac").unwrap(),
        version: KeyVersion(0x41),
        algorithm: Algorithm::Sm4,
        level: Level::Root,
        levels: vec![FactorSource::ISSUER_ID, FactorSource::ASN_RIGHT8, FactorSource::Literal([9; 8])],
        usage: vec![Usage::VerifyTac],
        kcv: [0xaa, 0xbb, 0xcc],
        session: None,
    }
}

#[test]
fn genesis_command() {
    let genesis = Action::Genesis(Genesis {
        origin: "weihai.example/log-1".into(),
        node: [0x33; 16],
        rehearsal: true,
        officers: quorum(2, 1, &["li", "wang", "zhao"]),
        custodians: quorum(2, 11, &["sun", "qian"]),
        policy: [0x44; 32],
        ca: [0x55; 32],
        identity: seal::public_key(&key(21)),
    });
    let kept = golden("command/genesis-v1.cbor", &sign(genesis, &[("li", 1), ("wang", 2), ("zhao", 3)]));
    let signed = SignedCommand::from_cbor(&kept).unwrap();
    assert!(wire::quorum::check(&signed, None).is_ok());
}

#[test]
fn import_command() {
    let component = [7; 16];
    let parts = ["sun", "qian"].map(|custodian| ComponentSpec {
        custodian: custodian.into(),
        kcv: [1, 2, 3],
        commitment: component_commitment(&[0x11; 16], &attributes().id(), custodian, &component),
    });
    let import = Action::ImportKey(ImportKey { attributes: attributes(), components: parts.to_vec() });
    let kept = golden("command/import-v1.cbor", &sign(import, &[("li", 1), ("zhao", 3)]));
    let signed = SignedCommand::from_cbor(&kept).unwrap();
    let command = wire::quorum::check(&signed, Some(&quorum(2, 1, &["li", "wang", "zhao"]))).unwrap();
    assert!(command.action.in_words().1.contains("transit/purse/tac@41"));
}

fn share() -> Share {
    Share { version: 1, set: [0x66; 16], epoch: 1, index: 2, threshold: 3, value: [0x77; 32] }
}

fn share_set() -> ShareSet {
    let slot = |index: u64, byte: u8| ShareSlot {
        index,
        custodian: format!("custodian-{index}"),
        key: seal::public_key(&key(byte)),
        commitment: Share { index, ..share() }.commitment(),
    };
    ShareSet {
        version: 1,
        suite: 1,
        instance: [0x11; 16],
        set: [0x66; 16],
        epoch: 1,
        threshold: 3,
        slots: vec![slot(1, 11), slot(2, 12), slot(3, 13)],
    }
}

#[test]
fn share_certificate_and_text() {
    golden("share/share-v1.cbor", &share().to_cbor());
    let certificate = ShareCertificate { set: Bytes(share_set().to_cbor()), mac: [0x88; 32] };
    let kept = golden("share/certificate-v1.cbor", &certificate.to_cbor());
    assert_eq!(ShareCertificate::from_cbor(&kept).unwrap().open().unwrap(), share_set());
    let context = wire::frame::share_out_context(&[0x66; 16], 2);
    let sealed = seal::seal(&seal::public_key(&key(12)), &context, &share().to_cbor(), &key(31)).unwrap();
    let kept = golden("share/sealed-v1.txt", wire::share::to_text(&sealed.to_cbor()).as_bytes());
    let sealed = seal::parse(&wire::share::from_text(core::str::from_utf8(&kept).unwrap()).unwrap()).unwrap();
    let mut plain = vec![0; seal::plain_len(&sealed)];
    seal::open(&sealed, &key(12), &context, &mut plain).unwrap();
    assert_eq!(plain, share().to_cbor());
}

#[test]
fn batch_and_its_root() {
    let header = BatchHeader {
        profile: Profile::PurchaseTac,
        lineage: Lineage::parse("transit/purse/tac").unwrap(),
        groups: vec![
            Group { version: KeyVersion(1), issuer: [0x12, 0x34, 0, 0, 0x26, 0x40, 0, 0] },
            Group { version: KeyVersion(0x41), issuer: [0x12, 0x34, 0, 0, 0x26, 0x40, 0, 1] },
        ],
    };
    let mut bytes = header.to_bytes();
    let mut tree = Tree::new();
    for at in 0..40_u8 {
        let mut data = [at; 24];
        data[22..].fill(0);
        let record = Record { card: [at, 1, 2, 3, 4, 5, 6, 7], data, tac: [at; 4], group: u16::from(at % 2) };
        let (record, verdict) = match at {
            5 => (Record::malformed(b"not a line", header.profile), Verdict::Malformed),
            7 => (record.to_bytes(header.profile), Verdict::BadTac),
            _ => (record.to_bytes(header.profile), Verdict::Ok),
        };
        bytes.extend(record);
        tree.push(tree16::leaf(&record, verdict));
    }
    golden("batch/purchase-v1.bin", &bytes);
    golden("batch/purchase-v1.root", &tree16::root(40, &header.to_bytes(), &tree.top()));
}

#[test]
fn frames() {
    let collect = KeydRequest::Collect(Collect { durable: 300, root: [0x99; 32] });
    golden("frame/keyd-collect-v1.bin", &to_frame(&collect));
    let context = share_in_context(Purpose::Unseal, &[0xab; 16], &[0x66; 16], 2);
    let sealed = seal::seal(&seal::public_key(&key(41)), &context, &share().to_cbor(), &key(42)).unwrap();
    let unseal = OfficerRequest::Unseal(SealedShare {
        certificate: Bytes(vec![1, 2, 3]),
        index: 2,
        sealed: Bytes(sealed.to_cbor()),
    });
    golden("frame/officers-unseal-v1.bin", &to_frame(&unseal));
}

fn profile() -> AppletProfile {
    let role = |name: &str, session, header: &[u8], mac| ProfileRole {
        role: name.into(),
        key: KeyId::parse(&format!("transit/purse/{name}@41")).unwrap(),
        algorithm: Algorithm::Sm4,
        levels: vec![FactorSource::ISSUER_ID, FactorSource::CHIP],
        index: 0x41,
        p1: 0,
        p2: 1,
        header: Bytes(header.to_vec()),
        block_usage: "13".into(),
        block_mode: "N".into(),
        session,
        mac,
    };
    AppletProfile {
        format: 1,
        applet: "transit".into(),
        version: 3,
        roles: vec![
            role("control", None, &[1, 0, 0x33, 0], MacLayout::LineProtection),
            role("load", Some(SessionRule::Complement), &[], MacLayout::Load),
        ],
        control: Some("control".into()),
    }
}

#[test]
fn grants() {
    let officers = [("li", 1), ("zhao", 3)];
    let kept = golden("command/profile-v1.cbor", &sign(Action::SetProfile(profile()), &officers));
    assert!(profile().is_sound() && profile().needs_chip());
    assert!(SignedCommand::from_cbor(&kept).unwrap().open().unwrap().action.in_words().0.contains("第 3 版"));
    let licence = Licence {
        id: [0x99; 16],
        node: [0x33; 16],
        line: "spiffe://weihai.example/perso/line-1".into(),
        transport: KeyId::parse("transit/perso/line-1@01").unwrap(),
        fingerprint: [0xaa; 16],
        applet: "transit".into(),
        profile: profile().digest(),
        roles: vec!["load".into()],
        issuer: [0x26, 0x60, 0xff, 0xff, 0, 0, 0, 1],
        first: [0, 0, 0x31, 1, 0, 0, 0x20, 0, 0, 0],
        last: [0, 0, 0x31, 1, 0, 0, 0x20, 0x99, 0x99, 0x99],
        quantity: 120_000,
        not_before: 1_790_000_000,
        not_after: 1_800_000_000,
    };
    assert_eq!(licence.span(), Some(1_000_000));
    golden("command/licence-v1.cbor", &sign(Action::GrantLicence(licence), &officers));
    let token_key = TokenKey {
        name: "bank-1".into(),
        key: seal::public_key(&key(51)),
        wall: "transit".into(),
        daily: 100_000_000,
        not_after: 1_800_000_000,
    };
    golden("command/token-key-v1.cbor", &sign(Action::EnrolToken(token_key), &officers));
    let token = LedgerToken {
        format: 1,
        instance: [0x11; 16],
        commit: [0x52; 16],
        issuer: [0x26, 0x60, 0xff, 0xff, 0, 0, 0, 1],
        serial: [0, 0, 0x31, 1, 0, 0, 0x20, 0, 0, 1],
        purse: 2,
        counter: 7,
        amount: 5000,
        terminal: [0x11, 0x22, 0x33, 0x44, 0x55, 0x66],
        date: [0x20, 0x26, 0x11, 0x24],
        time: [9, 0x30, 0x15],
        replaces: None,
    };
    let replacing = LedgerToken { commit: [0x53; 16], replaces: Some(70_000), ..token.clone() };
    let kept = golden("token/ledger-replaces-v1.cbor", &replacing.to_cbor());
    assert_eq!(LedgerToken::from_cbor(&kept), Ok(replacing));
    let kept = golden("token/ledger-v1.cbor", &token.to_cbor());
    assert_eq!(LedgerToken::from_cbor(&kept), Ok(token));
    let signature = seal::sign(&key(51), &token_bytes(&kept));
    golden("token/ledger-v1.sig", &signature);
    assert!(seal::verify(&seal::public_key(&key(51)), &token_bytes(&kept), &signature));
}

#[test]
fn lists() {
    let serial = |last: u8| [0, 0, 0x31, 1, 0, 0, 0x20, 0, 0, last];
    let single = |last| Single { serial: serial(last), reason: 1, level: 2 };
    let full = List {
        version: 7,
        kind: ListKind::Full,
        base: 0,
        valid_from: [0x20, 0x26, 0x11, 0x24],
        valid_to: [0x20, 0x27, 0x11, 0x24],
        singles: vec![single(1), single(9)],
        ranges: vec![Range { from: serial(0x20), to: serial(0x29), reason: 5, level: 1 }],
        removals: vec![],
    };
    let delta = List {
        version: 8,
        kind: ListKind::Delta,
        base: 7,
        singles: vec![single(3)],
        ranges: vec![],
        removals: vec![serial(9)],
        ..full.clone()
    };
    assert_eq!(List::parse(&golden("list/full-v1.body", &full.to_bytes())), Ok(full.clone()));
    assert_eq!(List::parse(&golden("list/delta-v1.body", &delta.to_bytes())), Ok(delta.clone()));
    let next = List::follow(Some(&full), &delta).unwrap();
    golden("list/in-force-v1.body", &next.to_bytes());
}

#[test]
fn prepared_calls() {
    let keys = KeydRequest::CardKeys(CardKeys {
        client: "spiffe://weihai.example/perso/line-1".into(),
        licence: [0x99; 16],
        form: KeyForm::Tr31,
        roles: vec![],
        cards: vec![CardItem { serial: [0x31; 10], chip: Some([1; 8]), challenge: None }],
    });
    golden("frame/keyd-card-keys-v1.bin", &to_frame(&keys));
    let header = KeyBlockHeader {
        format: 1,
        instance: [0x11; 16],
        licence: [0x99; 16],
        transport: KeyId::parse("transit/perso/line-1@01").unwrap(),
        serial: [0x31; 10],
        role: "load".into(),
        key: KeyId::parse("transit/purse/load@41").unwrap(),
        algorithm: Algorithm::Sm4,
        index: 0x41,
        kcv: [1, 2, 3],
    };
    golden("keyblock/header-v1.cbor", &header.to_cbor());
}

#[test]
fn witnesses_epochs_and_retention() {
    let officers = [("li", 1), ("zhao", 3)];
    let witness = |at: u8| Witness { name: format!("witness.example/w{at}"), key: [at; 32] };
    let set =
        WitnessSet { witnesses: vec![witness(1), witness(2), witness(3)], quorum: 2, grace: GRACE_DEFAULT };
    assert!(set.is_sound());
    let kept = golden("command/witnesses-v1.cbor", &sign(Action::SetWitnesses(set), &officers));
    let words = SignedCommand::from_cbor(&kept).unwrap().open().unwrap().action.in_words();
    assert!(words.0.contains("2/3") && words.1.contains("2 of 3") && words.1.contains("witness.example/w3"));
    let kept = golden("command/prune-v1.cbor", &sign(Action::Prune(Prune { below: 65_536 }), &officers));
    let words = SignedCommand::from_cbor(&kept).unwrap().open().unwrap().action.in_words();
    assert!(words.0.contains("65536") && words.1.contains("below 65536"));
    for (name, epoch_key) in [("floor-v1", None), ("floor-v2", Some([0xe1; 32]))] {
        let floor = Floor { boot: [0xab; 16], size: 300, root: [0x99; 32], epoch_key };
        golden(&format!("command/{name}.cbor"), &sign(Action::Floor(floor), &officers));
    }
    let cosigned = KeydRequest::Cosigned(Cosigned { size: 300, note: "a note\n".into() });
    golden("frame/keyd-cosigned-v1.bin", &to_frame(&cosigned));
    let torn = KeydRequest::Truncated(TornTail { bytes: 77, digest: [0x99; 32] });
    golden("frame/keyd-truncated-v1.bin", &to_frame(&torn));
}
