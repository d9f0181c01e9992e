//! A module for tests: it speaks the officers' protocol over a real socket with real signatures and boxes, keeps the log
//! by the log's own rules, and publishes it as keyd does. It has no keys of any use and checks no check values.

mod birth;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use ed25519_dalek::SigningKey;
use p256::SecretKey;
use translog::entry::{CommandEvent, Entry, Event, KeyMade};
use translog::note::{Checkpoint, VerifierKey, sign_head};
use translog::state::LogState;
use translog::tile::{TILE_WIDTH, Tile, encode_bundle};
use translog::tree::{Frontier, leaf_hash};
use wire::cbor::{Bytes, Cbor, Empty};
use wire::command::{Action, Id, ImportKey, PublicKey, SignedCommand, component_commitment};
use wire::error::{Refusal, Refused};
use wire::frame::*;
use wire::key::KeyAttributes;
use wire::quorum;
use wire::seal;
use wire::share::ShareSet;

use crate::link::Link;

/// A random id for a test.
pub(crate) fn id() -> Id {
    crate::ceremony::fresh_id().unwrap()
}

#[derive(Debug, Default)]
pub(crate) struct Proving {
    command: Vec<u8>,
    certificate: Vec<u8>,
    set: Option<ShareSet>,
    brought: Vec<u64>,
}

pub(crate) struct State {
    pub(crate) identity: SecretKey,
    pub(crate) boot: Id,
    pub(crate) phase: ModuleState,
    /// Requests so far, by name.
    pub(crate) asked: Vec<&'static str>,
    /// The custodian whose component has a wrong check value.
    pub(crate) wrong_component: Option<String>,
    /// What the recovery is refused for.
    pub(crate) trouble: Option<Refused>,
    /// The answer to this request gets lost, once.
    pub(crate) lose: Option<&'static str>,
    /// Its clock.
    pub(crate) wall_ns: u64,
    one_time: BTreeMap<Purpose, SecretKey>,
    proving: Proving,
    import: Option<(Vec<u8>, Id, ImportKey, Vec<String>)>,
    log_key: SigningKey,
    log: LogState,
    tree: Frontier,
    entries: Vec<Vec<u8>>,
    published: PathBuf,
}

/// The module and its socket. It goes when it is dropped.
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    pub(crate) socket: PathBuf,
}

impl Fake {
    /// Listens at `dir/officers.sock` and publishes below `dir/log`.
    pub(crate) fn start(dir: &Path) -> Self {
        let socket = dir.join("officers.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let state = State {
            identity: seal::generate().unwrap(),
            boot: id(),
            phase: ModuleState::Uninitialised,
            asked: Vec::new(),
            wrong_component: None,
            trouble: None,
            lose: None,
            wall_ns: 0,
            one_time: BTreeMap::new(),
            proving: Proving::default(),
            import: None,
            log_key: SigningKey::from_bytes(&[0x31; 32]),
            log: LogState::new(),
            tree: Frontier::new(),
            entries: Vec::new(),
            published: dir.join("log"),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream: UnixStream = stream.unwrap();
                let Ok(request) = read::<OfficerRequest>(&mut stream) else {
                    break;
                };
                let mut state = shared.lock().unwrap();
                let name = name(&request);
                let response = state.answer(request).unwrap_or_else(OfficerResponse::Refused);
                if state.lose == Some(name) {
                    state.lose = None;
                    continue;
                }
                // A test that looks away meanwhile is no fault of the module's.
                let _ = write(&mut stream, &response);
            }
        });
        Self { state, socket }
    }

    pub(crate) fn link(&self) -> Link {
        Link::new(&self.socket)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The module restarts; keyd is attached and has the log.
    pub(crate) fn restart(&self) {
        let mut state = self.lock();
        state.boot = id();
        state.one_time.clear();
        state.proving = Proving::default();
        state.import = None;
        state.asked.clear();
        state.phase = if state.entries.is_empty() { ModuleState::Uninitialised } else { ModuleState::Sealed };
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // A connection that says nothing ends the thread.
        let _ = UnixStream::connect(&self.socket);
    }
}

fn name(request: &OfficerRequest) -> &'static str {
    match request {
        OfficerRequest::Status(_) => "status",
        OfficerRequest::Hello(_) => "hello",
        OfficerRequest::Genesis(_) => "genesis",
        OfficerRequest::Prove(_) => "prove",
        OfficerRequest::GenesisFinish(_) => "genesis-finish",
        OfficerRequest::Unseal(_) => "unseal",
        OfficerRequest::Floor(_) => "floor",
        OfficerRequest::Command(_) => "command",
        OfficerRequest::Component(_) => "component",
        OfficerRequest::Abort(_) => "abort",
    }
}

fn refuse<T>(code: Refusal, why: &str) -> Result<T, Refused> {
    Err(Refused::new(code, why))
}

impl State {
    pub(crate) fn identity_public(&self) -> PublicKey {
        seal::public_key(&self.identity)
    }

    /// As if nothing had ever been.
    pub(crate) fn forget(&mut self) {
        self.phase = ModuleState::Uninitialised;
        self.log = LogState::new();
        self.tree = Frontier::new();
        self.entries.clear();
        fs::remove_dir_all(&self.published).unwrap();
    }

    pub(crate) fn log(&self) -> &LogState {
        &self.log
    }

    fn answer(&mut self, request: OfficerRequest) -> Result<OfficerResponse, Refused> {
        let name = name(&request);
        if name != "status" && name != "hello" {
            self.asked.push(name);
        }
        match request {
            OfficerRequest::Status(_) => Ok(OfficerResponse::Status(self.status())),
            OfficerRequest::Hello(hello) => Ok(OfficerResponse::OneTimeKey(self.hello(hello.purpose))),
            OfficerRequest::Genesis(bytes) => self.genesis(&bytes).map(OfficerResponse::GenesisShares),
            OfficerRequest::Prove(share) => self.share(Purpose::Prove, &share),
            OfficerRequest::GenesisFinish(_) => self.finish(),
            OfficerRequest::Unseal(share) => self.share(Purpose::Unseal, &share),
            OfficerRequest::Floor(bytes) => self.floor(&bytes),
            OfficerRequest::Command(bytes) => self.command(&bytes).map(OfficerResponse::CommandDone),
            OfficerRequest::Component(part) => self.component(&part).map(OfficerResponse::CommandDone),
            OfficerRequest::Abort(_) => {
                self.import = None;
                self.proving = Proving::default();
                Ok(OfficerResponse::Done(Empty {}))
            }
        }
    }

    fn status(&self) -> ModuleStatus {
        let known = self.log.instance().filter(|_| self.phase == ModuleState::Operational);
        ModuleStatus {
            version: 1,
            state: self.phase,
            boot: self.boot,
            module: [9; 32],
            memory: "mlock".into(),
            backend: "fake".into(),
            identity: self.identity_public(),
            instance: known.map(|known| InstanceStatus {
                instance: known.instance,
                node: known.node,
                origin: known.origin.clone(),
                rehearsal: known.rehearsal,
                size: self.tree.size(),
                root: self.tree.root(),
                durable: self.tree.size(),
                officer_epoch: known.officer_epoch,
                policy: known.policy,
                ca: known.ca,
                vkey: VerifierKey::new(&known.origin, known.log_key).to_string(),
                witness: "unwitnessed".into(),
                epoch: self.log.epochs().number(),
                witnessed: None,
            }),
            shares: None,
            trouble: self.trouble.clone(),
            replayed: None,
            epoch_key: matches!(self.phase, ModuleState::Recovering | ModuleState::Operational)
                .then(|| self.epoch().verifying_key().to_bytes()),
        }
    }

    fn hello(&mut self, purpose: Purpose) -> OneTimeKey {
        let secret = self.one_time.entry(purpose).or_insert_with(|| seal::generate().unwrap());
        let key = seal::public_key(secret);
        let signed = one_time_bytes(purpose, &self.boot, &[9; 32], &key);
        OneTimeKey {
            purpose,
            boot: self.boot,
            module: [9; 32],
            key,
            identity: self.identity_public(),
            signature: seal::sign(&self.identity, &signed),
        }
    }

    fn command(&mut self, bytes: &[u8]) -> Result<CommandDone, Refused> {
        let Some(known) = self.log.instance().filter(|_| self.phase == ModuleState::Operational) else {
            return refuse(Refusal::WrongState, "not in service");
        };
        let command = quorum::check(&SignedCommand::from_cbor(bytes).unwrap(), Some(&known.officers))?;
        self.log.check_command(&command)?;
        if let Action::ImportKey(spec) = command.action {
            let need = spec.components.len() as u64;
            self.import = Some((bytes.to_vec(), command.id, spec, Vec::new()));
            return Ok(CommandDone { index: None, kcv: None, components: Some(Progress { have: 0, need }) });
        }
        let made = match command.action {
            Action::GenerateKey(attributes) => Some(KeyMade {
                attributes: KeyAttributes { kcv: [1, 2, 3], ..attributes },
                sequence: self.log.next_sequence(),
                digest: [1; 32],
                fingerprint: id(),
                public: None,
            }),
            _ => None,
        };
        Ok(self.carried_out(bytes, made))
    }

    fn carried_out(&mut self, bytes: &[u8], made: Option<KeyMade>) -> CommandDone {
        let node = self.log.instance().unwrap().node;
        let kcv = made.as_ref().map(|made| made.attributes.kcv);
        let event = CommandEvent { command: Bytes(bytes.to_vec()), made, card: None };
        CommandDone { index: Some(self.make(Event::Command(event), node)), kcv, components: None }
    }

    fn component(&mut self, part: &SealedComponent) -> Result<CommandDone, Refused> {
        let Some((bytes, command, spec, mut entered)) = self.import.take() else {
            return refuse(Refusal::ComponentForeign, "no import waits");
        };
        let mut plain = [0; 16];
        let context = component_context(&self.boot, &part.command, &part.custodian);
        let secret = self.one_time.get(&Purpose::Component).unwrap();
        seal::open(&seal::parse(&part.sealed).unwrap(), secret, &context, &mut plain).unwrap();
        let instance = self.log.instance().unwrap().instance;
        let row = spec.components.iter().find(|row| row.custodian == part.custodian).unwrap();
        assert_eq!(command, part.command);
        assert_eq!(
            row.commitment,
            component_commitment(&instance, &spec.attributes.id(), &part.custodian, &plain)
        );
        if self.wrong_component.as_ref() == Some(&part.custodian) {
            let why = format!("{}'s component has not its check value; read it again", part.custodian);
            self.import = Some((bytes, command, spec, entered));
            return refuse(Refusal::ComponentKcv, &why);
        }
        entered.push(part.custodian.clone());
        let (have, need) = (entered.len() as u64, spec.components.len() as u64);
        if have < need {
            self.import = Some((bytes, command, spec, entered));
            return Ok(CommandDone { index: None, kcv: None, components: Some(Progress { have, need }) });
        }
        let made = KeyMade {
            attributes: spec.attributes,
            sequence: self.log.next_sequence(),
            digest: [1; 32],
            fingerprint: id(),
            public: None,
        };
        Ok(self.carried_out(&bytes, Some(made)))
    }

    /// Adds an entry and publishes.
    pub(crate) fn make(&mut self, event: Event, node: Id) -> u64 {
        let (seq, mono_ns) = (self.tree.size(), self.tree.size() + 1);
        let epoch = self.log.epochs().of_event(&event);
        let state_root = self.log.advance(&event, self.boot, node, [self.wall_ns, mono_ns]).unwrap();
        let entry = Entry {
            version: 1,
            seq,
            node,
            boot: self.boot,
            epoch,
            wall_ns: self.wall_ns,
            mono_ns,
            salt: id(),
            state_root,
            event,
        };
        let bytes = entry.to_cbor();
        self.tree.push(leaf_hash(&bytes));
        self.entries.push(bytes);
        self.publish();
        seq
    }

    /// Key of this boot's epoch.
    fn epoch(&self) -> SigningKey {
        SigningKey::from_bytes(&[self.boot, self.boot].concat().try_into().unwrap())
    }

    pub(crate) fn head(&self) -> (Checkpoint, String) {
        let origin = self.log.instance().unwrap().origin.clone();
        let head = Checkpoint { origin, size: self.tree.size(), root: self.tree.root() };
        let note = sign_head(&head, &self.log_key, &self.epoch());
        (head, note)
    }

    /// Bundles and checkpoint; the hash tiles are for auditors.
    fn publish(&self) {
        let size = self.tree.size();
        for (number, entries) in (0..).zip(self.entries.chunks(usize::try_from(TILE_WIDTH).unwrap())) {
            let path = self.published.join(Tile::bundle(number, size).unwrap().to_string());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, encode_bundle(entries).unwrap()).unwrap();
        }
        fs::write(self.published.join("checkpoint"), self.head().1).unwrap();
    }
}
