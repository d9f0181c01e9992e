//! A module that makes entries and signs heads like the real one, with fixed keys, salts and times: the same calls give
//! the same bytes for ever.
#![allow(dead_code, reason = "every test program uses another part")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use p256::SecretKey;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use translog::audit::{Dir, Finding, Report, Verifier};
use translog::entry::{BootEvent, CommandEvent, Entry, Event, GenesisEvent, HeartbeatEvent, KeyMade};
use translog::epoch;
use translog::fs::LogDir;
use translog::note::{Checkpoint, VerifierKey, sign_checkpoint, sign_head};
use translog::policy::Policy;
use translog::state::LogState;
use translog::tree::{Frontier, Hash, HashReader, leaf_hash, node_hash};
use wire::cbor::{Bytes, Cbor};
use wire::command::{
    Action, Approval, Command, ComponentSpec, Floor, Genesis, Id, ImportKey, Member, Quorum, SetKeyState,
    SignedCommand, signed_bytes,
};
use wire::frame::{Assertion, Category};
use wire::key::{Algorithm, FactorSource, KeyAttributes, KeyId, KeyState, KeyVersion, Level, Lineage, Usage};
use wire::seal;

pub(crate) const ORIGIN: &str = "log.weihai.example/rehearsal-1";
pub(crate) const INSTANCE: Id = [0x11; 16];
pub(crate) const NODE: Id = [0x22; 16];
pub(crate) const BOOT: Id = [0x33; 16];
pub(crate) const MODULE: [u8; 32] = [0x44; 32];
const START_NS: u64 = 1_700_000_000_000_000_000;

/// The key of epoch `number`.
pub(crate) fn epoch_key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[0xe0 ^ number; 32])
}

pub(crate) fn officer(number: u8) -> SecretKey {
    SecretKey::from_slice(&[number; 32]).unwrap()
}

pub(crate) fn members(name: &str, first: u8, count: u8) -> Vec<Member> {
    let member = |number: u8| Member {
        name: format!("{name}-{}", number + 1),
        key: seal::public_key(&officer(first + number)),
    };
    (0..count).map(member).collect()
}

/// Officers 1 to 3; two of them decide.
pub(crate) fn officers() -> Quorum {
    Quorum { threshold: 2, members: members("officer", 1, 3) }
}

pub(crate) fn lineage() -> Lineage {
    Lineage::parse("transit/purse/tac").unwrap()
}

pub(crate) fn key_id(version: u8) -> KeyId {
    KeyId { lineage: lineage(), version: KeyVersion(version) }
}

pub(crate) fn attributes(version: u8) -> KeyAttributes {
    KeyAttributes {
        lineage: lineage(),
        version: KeyVersion(version),
        algorithm: Algorithm::Sm4,
        level: Level::Root,
        levels: vec![FactorSource::ISSUER_ID, FactorSource::ASN_RIGHT8],
        usage: vec![Usage::VerifyTac],
        kcv: [version, 2, 3],
        session: None,
    }
}

pub(crate) fn made(version: u8, sequence: u64) -> KeyMade {
    let (digest, fingerprint) = ([version; 32], [version; 16]);
    KeyMade { attributes: attributes(version), sequence, digest, fingerprint, public: None }
}

pub(crate) fn assertion(count: u64) -> Event {
    Event::Asserted(Assertion {
        category: Category::Access,
        code: "tls-accepted".into(),
        client: Some("spiffe://weihai.example/audit/desk-1".into()),
        certificate: None,
        count,
    })
}

pub(crate) fn genesis() -> Genesis {
    Genesis {
        origin: ORIGIN.into(),
        node: NODE,
        rehearsal: true,
        officers: officers(),
        custodians: Quorum { threshold: 3, members: members("custodian", 11, 5) },
        policy: [0x51; 32],
        ca: [0x52; 32],
        identity: seal::public_key(&officer(99)),
    }
}

/// The module.
#[derive(Clone)]
pub(crate) struct Maker {
    pub(crate) key: SigningKey,
    /// Key of the present epoch; none in a log from before epochs.
    pub(crate) epoch: Option<SigningKey>,
    /// What the wall clock is ahead of the entries' own time.
    pub(crate) ahead_ns: u64,
    pub(crate) state: LogState,
    pub(crate) frontier: Frontier,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) boot: Id,
    pub(crate) officer_epoch: u64,
    next_command: u8,
}

impl Maker {
    /// Before genesis.
    pub(crate) fn unborn() -> Self {
        Self {
            key: SigningKey::from_bytes(&[0x77; 32]),
            epoch: None,
            ahead_ns: 0,
            state: LogState::new(),
            frontier: Frontier::new(),
            entries: Vec::new(),
            boot: BOOT,
            officer_epoch: 1,
            next_command: 1,
        }
    }

    /// With its genesis.
    pub(crate) fn new() -> Self {
        let mut maker = Self::unborn();
        let event = maker.genesis_event(genesis(), &[1, 2, 3]);
        maker.push(event);
        maker
    }

    /// With a genesis that names an epoch key.
    pub(crate) fn with_epochs() -> Self {
        let mut maker = Self::unborn();
        maker.epoch = Some(epoch_key(1));
        let event = maker.genesis_event(genesis(), &[1, 2, 3]);
        maker.push(event);
        maker
    }

    fn public(&self) -> Option<[u8; 32]> {
        self.epoch.as_ref().map(|key| key.verifying_key().to_bytes())
    }

    pub(crate) fn heartbeat(&mut self) -> u64 {
        self.push(Event::Heartbeat(HeartbeatEvent { witnessed: 0, time: 0 }))
    }

    /// The end of the present epoch, after a heartbeat.
    pub(crate) fn turn(&mut self) -> u64 {
        self.heartbeat();
        let number = self.state.epochs().number() + 1;
        let next = epoch_key(u8::try_from(number).unwrap());
        let closing = self.epoch.take().unwrap();
        let head = (self.frontier.size(), self.frontier.root());
        let turn = epoch::turn([&INSTANCE, &NODE], number, &closing, next.verifying_key().to_bytes(), head);
        self.epoch = Some(next);
        self.push(Event::Epoch(turn))
    }

    pub(crate) fn genesis_event(&mut self, genesis: Genesis, signers: &[u8]) -> Event {
        let mut command = self.command(Action::Genesis(genesis));
        command.officer_epoch = 0;
        Event::Genesis(GenesisEvent {
            command: Bytes(sign(&command, signers).to_cbor()),
            certificate: Bytes(b"certificate".to_vec()),
            log_key: self.key.verifying_key().to_bytes(),
            module: MODULE,
            memory: "mlock".into(),
            epoch_key: self.public(),
        })
    }

    pub(crate) fn vkey(&self) -> VerifierKey {
        VerifierKey::new(ORIGIN, self.key.verifying_key().to_bytes())
    }

    /// A fresh command that is possible now.
    pub(crate) fn command(&mut self, action: Action) -> Command {
        let id = [self.next_command; 16];
        self.next_command += 1;
        Command {
            version: 1,
            suite: 1,
            instance: INSTANCE,
            officer_epoch: self.officer_epoch,
            id,
            not_before: 0,
            not_after: 1 << 40,
            proposed_at: 1_700_000_000,
            proposer: "officer-1".into(),
            action,
        }
    }

    pub(crate) fn command_event(&mut self, action: Action, made: Option<KeyMade>) -> Event {
        let command = self.command(action);
        command_event(&command, &[1, 2], made)
    }

    /// The entry that the module would make of `event`; the state advances.
    pub(crate) fn entry(&mut self, event: Event) -> Entry {
        let seq = self.frontier.size();
        let mono_ns = seq * 1_000_000;
        let wall_ns = START_NS + self.ahead_ns + mono_ns;
        let epoch = self.state.epochs().of_event(&event);
        let state_root = self.state.advance(&event, self.boot, NODE, [wall_ns, mono_ns]).unwrap();
        let salt: Hash = Sha256::digest(seq.to_be_bytes()).into();
        Entry {
            version: 1,
            seq,
            node: NODE,
            boot: self.boot,
            epoch,
            wall_ns,
            mono_ns,
            salt: *salt.first_chunk().unwrap(),
            state_root,
            event,
        }
    }

    pub(crate) fn push(&mut self, event: Event) -> u64 {
        let entry = self.entry(event);
        self.push_bytes(entry.to_cbor())
    }

    /// Any bytes as the next leaf.
    pub(crate) fn push_bytes(&mut self, bytes: Vec<u8>) -> u64 {
        self.frontier.push(leaf_hash(&bytes));
        self.entries.push(bytes);
        self.frontier.size() - 1
    }

    pub(crate) fn restart(&mut self, boot: Id) {
        self.boot = boot;
        if self.epoch.is_some() {
            self.epoch = Some(epoch_key(u8::try_from(self.state.epochs().number() + 1).unwrap()));
        }
        let epoch_key = self.public();
        let floor = Floor { boot, size: self.frontier.size(), root: self.frontier.root(), epoch_key };
        let floor = self.command(Action::Floor(floor));
        self.push(boot_event(&floor));
    }

    pub(crate) fn import(&mut self, version: u8) {
        let component = |number: u8| ComponentSpec {
            custodian: format!("custodian-{number}"),
            kcv: [number; 3],
            commitment: [number; 32],
        };
        let import =
            ImportKey { attributes: attributes(version), components: vec![component(1), component(2)] };
        let sequence = self.state.next_sequence();
        let event = self.command_event(Action::ImportKey(import), Some(made(version, sequence)));
        self.push(event);
    }

    pub(crate) fn set_state(&mut self, version: u8, state: KeyState) {
        let key = key_id(version);
        let event = self.command_event(Action::SetKeyState(SetKeyState { key, state }), None);
        self.push(event);
    }

    pub(crate) fn note(&self) -> String {
        let head =
            Checkpoint { origin: ORIGIN.into(), size: self.frontier.size(), root: self.frontier.root() };
        let belongs = self.state.epochs().signer(head.size).map(|epoch| epoch.number);
        match belongs {
            Some(number) => sign_head(&head, &self.key, &epoch_key(u8::try_from(number).unwrap())),
            None => sign_checkpoint(&head, &self.key),
        }
    }

    /// Writes the log with the real writer.
    pub(crate) fn publish(&self, dir: &Path) {
        let wal = tempfile::tempdir().unwrap();
        let mut log = LogDir::open(dir, wal.path()).unwrap();
        log.append(&self.entries, &self.note()).unwrap();
        log.publish().unwrap();
        log.write_vkey(&self.vkey()).unwrap();
    }
}

pub(crate) fn sign(command: &Command, signers: &[u8]) -> SignedCommand {
    let bytes = command.to_cbor();
    let approvals = signers.iter().map(|number| Approval {
        officer: format!("officer-{number}"),
        signature: seal::sign(&officer(*number), &signed_bytes(&bytes)),
    });
    SignedCommand { approvals: approvals.collect(), command: Bytes(bytes) }
}

pub(crate) fn command_event(command: &Command, signers: &[u8], made: Option<KeyMade>) -> Event {
    Event::Command(CommandEvent { command: Bytes(sign(command, signers).to_cbor()), made, card: None })
}

pub(crate) fn boot_event(floor: &Command) -> Event {
    let Action::Floor(Floor { epoch_key, .. }) = &floor.action else { panic!("no floor") };
    Event::Boot(BootEvent {
        floor: Bytes(sign(floor, &[1, 2]).to_cbor()),
        module: MODULE,
        memory: "mlock".into(),
        epoch_key: *epoch_key,
    })
}

/// Genesis, a key that was activated, a restart, and assertions up to `size` entries.
pub(crate) fn ordinary(size: u64) -> Maker {
    let mut maker = Maker::new();
    maker.import(1);
    maker.set_state(1, KeyState::Active);
    maker.push(assertion(1));
    maker.restart([0x34; 16]);
    while maker.frontier.size() < size {
        maker.push(assertion(maker.frontier.size()));
    }
    maker
}

/// A published log in a directory of its own.
pub(crate) struct Log {
    pub(crate) dir: TempDir,
    pub(crate) vkey: VerifierKey,
}

impl Log {
    pub(crate) fn of(maker: &Maker) -> Self {
        let dir = tempfile::tempdir().unwrap();
        maker.publish(dir.path());
        Self { dir, vkey: maker.vkey() }
    }

    /// On this thread alone: a test of many small logs is not faster with workers.
    pub(crate) fn verify(&self) -> Result<Report, Finding> {
        Verifier::new(Policy::of_log(self.vkey.clone()), 1).advance(&Dir::new(self.dir.path()), &mut ())
    }

    pub(crate) fn finding(&self) -> Finding {
        self.verify().unwrap_err()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }
}

/// Leaf hashes in memory.
pub(crate) struct Leaves(pub(crate) Vec<Hash>);

impl HashReader for Leaves {
    type Error = Infallible;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
        if level == 0 {
            return Ok(self.0[usize::try_from(index).unwrap()]);
        }
        let left = self.subtree(level - 1, 2 * index)?;
        Ok(node_hash(&left, &self.subtree(level - 1, 2 * index + 1)?))
    }
}

/// A golden file or directory of logs.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/log").join(name)
}

/// What the present code writes into these parts is what lies there, to the byte. `TRANSLOG_WRITE_GOLDEN` writes parts that are missing.
pub(crate) fn assert_golden(parts: &[&str], write: impl Fn(&Path)) {
    if std::env::var_os("TRANSLOG_WRITE_GOLDEN").is_some() && parts.iter().all(|part| !golden(part).exists())
    {
        write(&golden(""));
    }
    let files = |root: &Path| {
        let mut found = BTreeMap::new();
        parts.iter().for_each(|part| tree(root, part, &mut found));
        found
    };
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let (today, golden) = (files(dir.path()), files(&golden("")));
    assert_eq!(today.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
    for (name, bytes) in &today {
        assert!(golden[name] == *bytes, "{name} differs from the golden file");
    }
}

fn tree(root: &Path, below: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for item in fs::read_dir(root.join(below)).unwrap() {
        let item = item.unwrap();
        let name = format!("{below}/{}", item.file_name().to_str().unwrap());
        if item.file_type().unwrap().is_dir() {
            tree(root, &name, found);
        } else {
            found.insert(name.clone(), fs::read(root.join(name)).unwrap());
        }
    }
}
