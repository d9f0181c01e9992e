//! A room: officers, custodians, a keyd that stores what it is given, and a module that can be restarted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use cardcrypto::{card_tac, diversify, kcv};
use ed25519_dalek::SigningKey;
use p256::SecretKey;
use securemem::{Arena, Preference};
use translog::cosign::cosign;
use translog::note::Checkpoint;
use translog::tree::{Frontier, leaf_hash};
use wire::batch::{Group, Profile, RECORD_LEN, Record, Verdict};
use wire::cbor::{Bytes, Cbor, Empty};
use wire::command::{
    Action, Approval, Command, ComponentSpec, Floor, Genesis, Id, ImportKey, Member, Quorum, SetKeyState,
    SignedCommand, component_commitment, signed_bytes,
};
use wire::error::{Refusal, Refused};
use wire::frame::*;
use wire::key::{Algorithm, FactorSource, KeyAttributes, KeyId, KeyState, KeyVersion, Level, Lineage, Usage};
use wire::seal;
use wire::share::Share;
use wire::witness::{Witness, WitnessSet};

use crate::answer::Connection;
use crate::log::Safe;
use crate::module::{Module, OFFICER_WAIT};
use crate::random::Random;

pub(super) const ISSUER: [u8; 8] = *b"\x12\x34\0\0\x26\x40\0\0";

/// What keyd has on disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) records: BTreeMap<String, Vec<u8>>,
    pub(super) checkpoint: String,
}

impl Disk {
    pub(super) fn head(&self) -> (u64, [u8; 32]) {
        let mut frontier = Frontier::new();
        self.entries.iter().for_each(|entry| frontier.push(leaf_hash(entry)));
        let root = if self.entries.is_empty() { [0; 32] } else { frontier.root() };
        (frontier.size(), root)
    }

    pub(super) fn take(&mut self, collected: Collected) {
        if collected.entries.is_empty() {
            return;
        }
        assert_eq!(collected.first, self.entries.len() as u64);
        for record in collected.records {
            self.records.insert(record.id, record.bytes.0);
        }
        self.entries.extend(collected.entries.into_iter().map(|entry| entry.0));
        self.checkpoint = collected.checkpoint;
    }
}

pub(super) fn identity() -> SecretKey {
    SecretKey::from_slice(&[0x31; 32]).unwrap()
}

pub(crate) fn arena() -> Arena {
    Arena::reserve(1 << 16, Preference::Auto).unwrap()
}

pub(super) fn new_module() -> Arc<Module> {
    let arena = arena();
    let identity = arena.alloc(32, |bytes| {
        bytes.copy_from_slice(&identity().to_bytes());
        Ok::<(), ()>(())
    });
    Arc::new(Module::new(arena, Random::system().unwrap(), [0x50; 32], identity.unwrap()).unwrap())
}

/// Witnesses that cosign what keyd shows them, each at its own time; `None` for one that is dead.
#[derive(Clone, Debug, Default)]
pub(super) struct Cosigners {
    pub(super) keys: Vec<SigningKey>,
    pub(super) times: Vec<Option<u64>>,
}

impl Cosigners {
    pub(super) fn new(seed: u8, times: &[Option<u64>]) -> Self {
        let key = |at: u8| SigningKey::from_bytes(&[seed + at; 32]);
        Self { keys: (0..).take(times.len()).map(key).collect(), times: times.to_vec() }
    }

    pub(super) fn set(&self, quorum: u64, grace: u64) -> WitnessSet {
        let witness = |(at, key): (usize, &SigningKey)| Witness {
            name: format!("witness.example/w{at}"),
            key: key.verifying_key().to_bytes(),
        };
        WitnessSet { witnesses: self.keys.iter().enumerate().map(witness).collect(), quorum, grace }
    }

    /// The disk's head with the lines of those who are alive.
    pub(super) fn cosign(&self, disk: &Disk) -> Cosigned {
        let (size, root) = disk.head();
        let origin = disk.checkpoint.lines().next().unwrap().to_owned();
        let head = Checkpoint { origin, size, root };
        let mut note = disk.checkpoint.clone();
        for (at, (key, time)) in self.keys.iter().zip(&self.times).enumerate() {
            if let Some(time) = time {
                note += &cosign(&head, &format!("witness.example/w{at}"), key, *time);
            }
        }
        Cosigned { size, note }
    }
}

/// A keyd that collects for ever, on a thread.
pub(super) struct Keyd {
    pub(super) disk: Arc<Mutex<Disk>>,
    pub(super) witnesses: Arc<Mutex<Cosigners>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keyd {
    pub(super) fn start(module: &Arc<Module>, disk: Disk) -> Self {
        let (disk, stop) = (Arc::new(Mutex::new(disk)), Arc::new(AtomicBool::new(false)));
        let witnesses = Arc::new(Mutex::new(Cosigners::default()));
        let cosigners = Arc::clone(&witnesses);
        let (module, shared, stopped) = (Arc::clone(module), Arc::clone(&disk), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut connection = Connection::default();
            while !stopped.load(Ordering::SeqCst) {
                let (durable, root) = shared.lock().unwrap().head();
                match module.keyd(&mut connection, KeydRequest::Collect(Collect { durable, root })) {
                    KeydResponse::Collected(collected) => {
                        shared.lock().unwrap().take(collected);
                        let cosigners = cosigners.lock().unwrap().clone();
                        let enrolled = |known: InstanceStatus| known.witness != "unwitnessed";
                        if !cosigners.keys.is_empty() && module.status().instance.is_some_and(enrolled) {
                            let cosigned = cosigners.cosign(&shared.lock().unwrap());
                            // What fewer than the quorum signed is refused, and the next head tried.
                            module.keyd(&mut connection, KeydRequest::Cosigned(cosigned));
                        }
                    }
                    KeydResponse::Refused(refused) if refused.code == Refusal::WrongState => break,
                    other => panic!("{other:?}"),
                }
            }
        });
        Self { disk, witnesses, stop, thread: Some(thread) }
    }

    pub(super) fn stop(mut self) -> Disk {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        self.disk.lock().unwrap().clone()
    }
}

/// Officers and custodians, with what they keep.
#[derive(Clone)]
pub(super) struct People {
    pub(super) officers: Vec<SecretKey>,
    pub(super) custodians: Vec<SecretKey>,
    pub(super) officer_set: Quorum,
    pub(super) custodian_set: Quorum,
    pub(super) instance: Id,
    pub(super) officer_epoch: u64,
    pub(super) certificate: Vec<u8>,
    /// Shares as they came out of the module, sealed to their custodians.
    pub(super) shares: Vec<Vec<u8>>,
}

impl People {
    pub(super) fn new() -> Self {
        let keys = |count: usize| (0..count).map(|_| seal::generate().unwrap()).collect::<Vec<_>>();
        let set = |threshold, prefix: &str, keys: &[SecretKey]| Quorum {
            threshold,
            members: (1..)
                .zip(keys)
                .map(|(at, key)| Member { name: format!("{prefix}-{at}"), key: seal::public_key(key) })
                .collect(),
        };
        let (officers, custodians) = (keys(3), keys(5));
        Self {
            officer_set: set(2, "officer", &officers),
            custodian_set: set(3, "custodian", &custodians),
            officers,
            custodians,
            instance: [0x77; 16],
            officer_epoch: 1,
            certificate: Vec::new(),
            shares: Vec::new(),
        }
    }

    pub(super) fn command(&self, action: Action) -> Command {
        let id = Random::system().unwrap().array().unwrap();
        let officer_epoch = if matches!(action, Action::Genesis(_)) { 0 } else { self.officer_epoch };
        Command {
            version: 1,
            suite: 1,
            instance: self.instance,
            officer_epoch,
            id,
            not_before: 0,
            not_after: 1 << 40,
            proposed_at: 1_790_000_000,
            proposer: "officer-1".into(),
            action,
        }
    }

    pub(super) fn sign(&self, command: &Command, who: &[usize]) -> Vec<u8> {
        let bytes = command.to_cbor();
        let approvals = who.iter().map(|at| Approval {
            officer: format!("officer-{}", at + 1),
            signature: seal::sign(&self.officers[*at], &signed_bytes(&bytes)),
        });
        SignedCommand { approvals: approvals.collect(), command: Bytes(bytes) }.to_cbor()
    }

    pub(super) fn signed(&self, action: Action) -> Vec<u8> {
        self.sign(&self.command(action), &[0, 1])
    }

    /// What custodian `at` keeps, opened with his key.
    pub(super) fn share(&self, at: usize) -> Share {
        let certificate = wire::share::ShareCertificate::from_cbor(&self.certificate).unwrap();
        let set = certificate.open().unwrap();
        let sealed = seal::parse(&self.shares[at]).unwrap();
        let mut plain = vec![0; seal::plain_len(&sealed)];
        seal::open(&sealed, &self.custodians[at], &share_out_context(&set.set, at as u64 + 1), &mut plain)
            .unwrap();
        Share::from_cbor(&plain).unwrap()
    }

    pub(super) fn seal_share(&self, module: &Module, purpose: Purpose, share: &Share) -> SealedShare {
        let certificate = wire::share::ShareCertificate::from_cbor(&self.certificate).unwrap();
        let set = certificate.open().unwrap();
        let key = one_time_key(module, purpose);
        let context = share_in_context(purpose, &key.boot, &set.set, share.index);
        let sealed = seal::seal(&key.key, &context, &share.to_cbor(), &seal::generate().unwrap()).unwrap();
        SealedShare {
            certificate: Bytes(self.certificate.clone()),
            index: share.index,
            sealed: Bytes(sealed.to_cbor()),
        }
    }
}

pub(super) fn one_time_key(module: &Module, purpose: Purpose) -> OneTimeKey {
    let OfficerResponse::OneTimeKey(key) = module.officers(OfficerRequest::Hello(Hello { purpose })) else {
        panic!("no one-time key")
    };
    let bytes = one_time_bytes(key.purpose, &key.boot, &key.module, &key.key);
    assert!(seal::verify(&key.identity, &bytes, &key.signature));
    key
}

pub(super) fn genesis_action(people: &People, rehearsal: bool) -> Action {
    Action::Genesis(Genesis {
        origin: "citykeep.test/log-1".into(),
        node: [0x0d; 16],
        rehearsal,
        officers: people.officer_set.clone(),
        custodians: people.custodian_set.clone(),
        policy: [1; 32],
        ca: [2; 32],
        identity: seal::public_key(&identity()),
    })
}

/// The whole genesis.
pub(super) fn genesis(module: &Module, people: &mut People) -> GenesisDone {
    let command = people.command(genesis_action(people, true));
    let signed = people.sign(&command, &[0, 1, 2]);
    let OfficerResponse::GenesisShares(shares) = module.officers(OfficerRequest::Genesis(Bytes(signed)))
    else {
        panic!("no shares")
    };
    people.certificate = shares.certificate.0;
    people.shares = shares.shares.into_iter().map(|share| share.0).collect();
    for at in 0..people.custodians.len() {
        let sealed = people.seal_share(module, Purpose::Prove, &people.share(at));
        let OfficerResponse::Progress(progress) = module.officers(OfficerRequest::Prove(sealed)) else {
            panic!("{at}")
        };
        assert_eq!(progress.have, at as u64 + 1);
    }
    match module.officers(OfficerRequest::GenesisFinish(Empty {})) {
        OfficerResponse::GenesisDone(done) => done,
        other => panic!("{other:?}"),
    }
}

pub(super) fn attributes(version: u8, algorithm: Algorithm, key: &[u8; 16]) -> KeyAttributes {
    KeyAttributes {
        lineage: Lineage::parse("transit/purse/tac").unwrap(),
        version: KeyVersion(version),
        algorithm,
        level: Level::Root,
        levels: vec![FactorSource::ISSUER_ID, FactorSource::ASN_RIGHT8],
        usage: vec![Usage::VerifyTac],
        kcv: kcv(algorithm, key),
        session: None,
    }
}

pub(super) fn import_spec(people: &People, attributes: &KeyAttributes, parts: &[[u8; 16]]) -> ImportKey {
    let components = (1..).zip(parts).map(|(at, part)| {
        let custodian = format!("custodian-{at}");
        let commitment = component_commitment(&people.instance, &attributes.id(), &custodian, part);
        ComponentSpec { custodian, kcv: kcv(attributes.algorithm, part), commitment }
    });
    ImportKey { attributes: attributes.clone(), components: components.collect() }
}

pub(super) fn send_component(
    module: &Module,
    command: Id,
    custodian: &str,
    part: &[u8; 16],
) -> Result<CommandDone, Refused> {
    let key = one_time_key(module, Purpose::Component);
    let context = component_context(&key.boot, &command, custodian);
    let sealed = seal::seal(&key.key, &context, part, &seal::generate().unwrap()).unwrap();
    let component = SealedComponent { command, custodian: custodian.into(), sealed: Bytes(sealed.to_cbor()) };
    match module.officers(OfficerRequest::Component(component)) {
        OfficerResponse::CommandDone(done) => Ok(done),
        OfficerResponse::Refused(refused) => Err(refused),
        other => panic!("{other:?}"),
    }
}

pub(super) fn command(module: &Module, signed: Vec<u8>) -> Result<CommandDone, Refused> {
    match module.officers(OfficerRequest::Command(Bytes(signed))) {
        OfficerResponse::CommandDone(done) => Ok(done),
        OfficerResponse::Refused(refused) => Err(refused),
        other => panic!("{other:?}"),
    }
}

/// Imports `key` from three components and activates it.
pub(super) fn import(
    module: &Module,
    people: &People,
    version: u8,
    algorithm: Algorithm,
    key: &[u8; 16],
) -> Result<(), Refused> {
    let (one, two) = ([0x5a; 16], [version; 16].map(|byte| byte ^ 0x21));
    let mut three = *key;
    three.iter_mut().zip(one.iter().zip(&two)).for_each(|(to, (one, two))| *to ^= one ^ two);
    let attributes = attributes(version, algorithm, key);
    let proposal = people.command(Action::ImportKey(import_spec(people, &attributes, &[one, two, three])));
    command(module, people.sign(&proposal, &[0, 1]))?;
    for (at, part) in [one, two, three].iter().enumerate() {
        send_component(module, proposal.id, &format!("custodian-{}", at + 1), part)?;
    }
    set_state(module, people, version, KeyState::Active)
}

pub(super) fn set_state(
    module: &Module,
    people: &People,
    version: u8,
    state: KeyState,
) -> Result<(), Refused> {
    let key = key_id(version);
    command(module, people.signed(Action::SetKeyState(SetKeyState { key, state }))).map(|_| ())
}

pub(super) fn key_id(version: u8) -> KeyId {
    KeyId { lineage: Lineage::parse("transit/purse/tac").unwrap(), version: KeyVersion(version) }
}

/// A purchase record of card number `card`, true or with the TAC `off` by that much.
pub(super) fn record(algorithm: Algorithm, key: &[u8; 16], card: u64, amount: u8, off: u32) -> Record {
    let card = (0x3101_0000_0000_0000 | card).to_be_bytes();
    let mut data = [amount; 24];
    data[22..].fill(0);
    let issuer_key = diversify(algorithm, key, &ISSUER).unwrap();
    let card_key = diversify(algorithm, &issuer_key, &card).unwrap();
    let tac = card_tac(algorithm, &card_key, Profile::PurchaseTac, &data);
    Record { card, data, tac: (u32::from_be_bytes(tac) ^ off).to_be_bytes(), group: 0 }
}

/// Sends a batch of one group and gives the verdicts and the ticket.
pub(super) fn batch(
    module: &Module,
    version: u8,
    records: &[Record],
) -> Result<(Vec<Verdict>, u64), Refused> {
    let mut connection = Connection::default();
    let mut ask = |request| match module.keyd(&mut connection, request) {
        KeydResponse::Refused(refused) => Err(refused),
        other => Ok(other),
    };
    ask(KeydRequest::BatchOpen(BatchOpen {
        client: "spiffe://weihai.example/clearing/engine-1".into(),
        profile: Profile::PurchaseTac,
        lineage: Lineage::parse("transit/purse/tac").unwrap(),
    }))?;
    let groups = vec![Group { version: KeyVersion(version), issuer: ISSUER }];
    ask(KeydRequest::BatchGroups(BatchGroups { groups }))?;
    let mut verdicts = Vec::new();
    for frame in records.chunks(wire::batch::FRAME_RECORDS) {
        let bytes: Vec<u8> = frame.iter().flat_map(|record| record.to_bytes(Profile::PurchaseTac)).collect();
        assert_eq!(bytes.len(), frame.len() * RECORD_LEN);
        let KeydResponse::Verdicts(bytes) = ask(KeydRequest::BatchRecords(Bytes(bytes)))? else { panic!() };
        verdicts.extend(bytes.iter().map(|byte| Verdict::from_byte(*byte).unwrap()));
    }
    let KeydResponse::Ticket(ticket) = ask(KeydRequest::BatchClose(Empty {}))? else { panic!() };
    Ok((verdicts, ticket.ticket))
}

/// Unseals with the shares of these custodians.
pub(super) fn unseal(module: &Module, people: &People, who: &[usize]) -> Result<Progress, Refused> {
    let mut last = Progress { have: 0, need: 0 };
    for at in who {
        let sealed = people.seal_share(module, Purpose::Unseal, &people.share(*at));
        last = match module.officers(OfficerRequest::Unseal(sealed)) {
            OfficerResponse::Progress(progress) => progress,
            OfficerResponse::Refused(refused) => return Err(refused),
            other => panic!("{other:?}"),
        };
    }
    Ok(last)
}

pub(super) fn floor(module: &Module, people: &People, size: u64, root: [u8; 32]) -> Result<(), Refused> {
    let epoch_key = module.status().epoch_key;
    let signed = people.signed(Action::Floor(Floor { boot: module.boot, size, root, epoch_key }));
    match module.officers(OfficerRequest::Floor(Bytes(signed))) {
        OfficerResponse::Done(_) => Ok(()),
        OfficerResponse::Refused(refused) => Err(refused),
        other => panic!("{other:?}"),
    }
}

/// Waits until keyd has made an entry durable.
pub(super) fn durable(module: &Module, ticket: u64) -> Result<(), Refused> {
    module.wait(ticket, Safe::Durable, Instant::now() + OFFICER_WAIT)
}

/// keyd's part of a recovery.
pub(super) fn replay(module: &Module, disk: &Disk) -> Result<(), Refused> {
    let mut connection = Connection::default();
    let mut ask = |request| match module.keyd(&mut connection, request) {
        KeydResponse::Done(_) => Ok(()),
        KeydResponse::Refused(refused) => Err(refused),
        other => panic!("{other:?}"),
    };
    for (at, chunk) in disk.entries.chunks(7).enumerate() {
        let entries = chunk.iter().map(|entry| Bytes(entry.clone())).collect();
        ask(KeydRequest::Replay(Replay { first: at as u64 * 7, entries }))?;
    }
    let records = disk.records.values().map(|record| Bytes(record.clone())).collect();
    ask(KeydRequest::Records(Records { records }))?;
    ask(KeydRequest::ReplayEnd(ReplayEnd { checkpoint: disk.checkpoint.clone() }))
}

/// keyd attaches with a log: an uninitialised module becomes sealed.
pub(super) fn attach(module: &Module, disk: &Disk) {
    let (durable, root) = disk.head();
    let collect = KeydRequest::Collect(Collect { durable, root });
    assert!(matches!(module.keyd(&mut Connection::default(), collect), KeydResponse::Collected(_)));
}

/// A restarted module, back in service.
pub(super) fn restart(people: &People, disk: &Disk) -> Result<Arc<Module>, Refused> {
    let module = new_module();
    attach(&module, disk);
    unseal(&module, people, &[0, 2, 4])?;
    let (size, root) = disk.head();
    floor(&module, people, size, root)?;
    replay(&module, disk)?;
    Ok(module)
}
