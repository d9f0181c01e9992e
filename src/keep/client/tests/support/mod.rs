//! What the tests stand on: a log of two entries under a test key, and certificates of a test authority.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::receipt::{Pinned, Recount, Totals};
use client::{Client, ClientBuilder, Timeouts, VerifierKey};
use ed25519_dalek::SigningKey;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;
use translog::entry::{BatchEvent, BatchTotal, Entry, Event};
use translog::note::{Checkpoint, sign_checkpoint};
use translog::proof::TlogProof;
use translog::tree::{leaf_hash, node_hash};
use wire::api::Receipt;
use wire::batch::{BatchHeader, Group, Profile, RECORD_LEN, Record, Verdict};
use wire::cbor::Cbor;
use wire::frame::BatchResult;
use wire::key::{KeyVersion, Lineage};

pub const ORIGIN: &str = "keep.example/log";
pub const INSTANCE: [u8; 16] = [7; 16];
pub const BATCH: [u8; 16] = [0xb0; 16];
pub const CLIENT: &str = "spiffe://weihai.example/clearing/engine-1";

pub fn header() -> BatchHeader {
    let group = |version, issuer| Group { version: KeyVersion(version), issuer: [issuer; 8] };
    BatchHeader {
        profile: Profile::PurchaseTac,
        lineage: Lineage::parse("transit/purse/tac").unwrap(),
        groups: vec![group(0x01, 1), group(0x41, 1), group(0x01, 2)],
    }
}

/// Record `number`, and the verdict that the server double gives it.
pub fn record(number: u64) -> ([u8; RECORD_LEN], Verdict) {
    let profile = Profile::PurchaseTac;
    if number % 97 == 5 {
        return (Record::malformed(&number.to_be_bytes(), profile), Verdict::Malformed);
    }
    let mut data = [0; 24];
    data[..8].copy_from_slice(&number.to_be_bytes());
    let group = u16::try_from(number % 3).unwrap();
    let record = Record { card: (number + 1).to_be_bytes(), data, tac: [9; 4], group };
    (record.to_bytes(profile), verdict_of(&record.to_bytes(profile)))
}

/// The double's rule: any will do, if it depends on the record.
pub fn verdict_of(record: &[u8; RECORD_LEN]) -> Verdict {
    match Record::parse(record, Profile::PurchaseTac) {
        None => Verdict::Malformed,
        Some(record) if record.data[7] % 50 == 3 => Verdict::BadTac,
        Some(record) if record.group == 2 => Verdict::UnknownKey,
        Some(_) => Verdict::Ok,
    }
}

pub fn records(count: u64) -> Vec<u8> {
    (0..count).flat_map(|number| record(number).0).collect()
}

pub fn totals(count: u64) -> Totals {
    let header = header();
    let mut recount = Recount::new(&header);
    for (record, verdict) in (0..count).map(record) {
        recount.add(&record, verdict);
    }
    recount.totals()
}

pub fn log_key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

pub fn pinned() -> Pinned {
    Pinned { log: VerifierKey::new(ORIGIN, log_key().verifying_key().to_bytes()), instance: Some(INSTANCE) }
}

/// The closing entry of the batch, as the module makes it.
pub fn entry(header: &BatchHeader, totals: &Totals) -> Entry {
    let parts = totals.records / wire::batch::CHUNK_RECORDS;
    Entry {
        version: 1,
        seq: 1,
        node: [1; 16],
        boot: [2; 16],
        epoch: 0,
        wall_ns: 5,
        mono_ns: 6,
        salt: [3; 16],
        state_root: [4; 32],
        event: Event::Batch(BatchEvent {
            batch: BATCH,
            client: CLIENT.to_owned(),
            profile: header.profile,
            lineage: header.lineage.clone(),
            part: parts,
            records: totals.records % wire::batch::CHUNK_RECORDS,
            top: [5; 32],
            counts: totals.counts,
            versions: totals.versions.clone(),
            wrong: Vec::new(),
            total: Some(BatchTotal {
                records: totals.records,
                root: totals.root,
                counts: totals.counts,
                versions: totals.versions.clone(),
            }),
            aborted: false,
        }),
    }
}

/// What `entry`'s log proves, signed by `key`: the entry is the last one of a log that is just long enough.
pub fn proof(entry: &Entry, index: u64, key: &SigningKey) -> TlogProof {
    let other = leaf_hash(b"an earlier entry");
    let leaf = leaf_hash(&entry.to_cbor());
    let (root, path, size) =
        if index == 0 { (leaf, Vec::new(), 1) } else { (node_hash(&other, &leaf), vec![other], 2) };
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root };
    TlogProof { index, path, checkpoint: sign_checkpoint(&checkpoint, key) }
}

/// The receipt that keyd puts together from such an entry.
pub fn receipt_of(entry: &Entry) -> Receipt {
    let Event::Batch(event) = &entry.event else { panic!("no batch") };
    let total = event.total.clone().unwrap();
    let result = BatchResult {
        batch: event.batch,
        client: event.client.clone(),
        profile: event.profile,
        lineage: event.lineage.clone(),
        records: total.records,
        root: total.root,
        counts: total.counts,
        versions: total.versions,
        // Earlier parts have earlier indices; only the last one is in this log of two.
        indices: if event.part == 0 { vec![1] } else { vec![0, 1] },
    };
    Receipt::new(&result, &INSTANCE, ORIGIN, &entry.to_cbor(), proof(entry, 1, &log_key()).to_text())
}

/// A test authority with the certificates that it issued, in files.
pub struct Pki {
    pub dir: tempfile::TempDir,
    pub acceptor: TlsAcceptor,
}

impl Pki {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        std::fs::write(dir.path().join("ca.pem"), ca_cert.pem()).unwrap();

        let mut leaf = CertificateParams::new(Vec::new()).unwrap();
        leaf.subject_alt_names = vec![SanType::URI(CLIENT.try_into().unwrap())];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        write_pair(dir.path(), "client", &leaf.signed_by(&key, &issuer).unwrap().pem(), &key);
        let stranger = KeyPair::generate().unwrap();
        let mut expired = leaf.clone();
        expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let expired_key = KeyPair::generate().unwrap();
        write_pair(
            dir.path(),
            "expired",
            &expired.signed_by(&expired_key, &issuer).unwrap().pem(),
            &expired_key,
        );
        write_pair(dir.path(), "stranger", &leaf.self_signed(&stranger).unwrap().pem(), &stranger);

        let mut server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = KeyPair::generate().unwrap();
        let server_cert = server.signed_by(&server_key, &issuer).unwrap();

        let mut roots = RootCertStore::empty();
        roots.add(ca_cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![server_cert.der().clone()],
                PrivateKeyDer::try_from(server_key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self { dir, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    pub fn client(&self, port: u16, timeouts: Timeouts) -> Client {
        let key = VerifierKey::new(ORIGIN, log_key().verifying_key().to_bytes());
        self.builder(port, "client").log_key(key).instance(INSTANCE).timeouts(timeouts).build().unwrap()
    }

    pub fn builder(&self, port: u16, name: &str) -> ClientBuilder {
        let at = |name: String| -> PathBuf { self.dir.path().join(name) };
        ClientBuilder::new(
            format!("https://localhost:{port}"),
            at("ca.pem".to_owned()),
            at(format!("{name}.pem")),
            at(format!("{name}.key")),
        )
    }
}

fn write_pair(dir: &Path, name: &str, certificate: &str, key: &KeyPair) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(dir.join(format!("{name}.pem")), certificate).unwrap();
    let path = dir.join(format!("{name}.key"));
    std::fs::write(&path, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
