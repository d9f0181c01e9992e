//! What the log's entries add up to: officers, keys, used commands, budgets. The module makes entries with it, auditors
//! replay it; both run this code, so that an entry that the module makes is one that an auditor accepts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sha2::{Digest as _, Sha256};
use wire::cbor::Cbor;
use wire::command::{Action, Command, Digest, Id, Limits, PublicKey, Quorum, ResetBudget, SignedCommand};
use wire::key::{KeyAttributes, KeyId, KeyState, LEVELS_MAX};

use crate::entry::{BootEvent, CommandEvent, Entry, Event, GenesisEvent, KeyMade, PAIR_LEN, WrongPairs};

/// Failure budgets of every instance (service-protocol rule 6); only a rehearsal may have others.
pub const DEFAULT_LIMITS: Limits = Limits {
    card: 16,
    version: 1 << 20,
};

/// No rehearsal raises a budget above this: the pairs are kept in memory.
pub const LIMITS_MAX: Limits = Limits {
    card: 1 << 16,
    version: 1 << 24,
};

/// Why an entry cannot follow the entries before it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
#[allow(clippy::exhaustive_structs)]
pub struct ReplayError(pub String);

fn bad<T>(why: impl Into<String>) -> Result<T, ReplayError> {
    Err(ReplayError(why.into()))
}

fn ensure(holds: bool, why: &str) -> Result<(), ReplayError> {
    if holds { Ok(()) } else { bad(why) }
}

/// One key version as the log has it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct KeyEntry {
    /// What was made.
    pub made: KeyMade,
    /// State.
    pub state: KeyState,
}

/// What genesis fixed, and what commands changed since.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Instance {
    /// Service.
    pub instance: Id,
    /// This module.
    pub node: Id,
    /// Log origin.
    pub origin: String,
    /// Rehearsal.
    pub rehearsal: bool,
    /// Boot identity pinned at genesis.
    pub identity: PublicKey,
    /// Ed25519 log key.
    pub log_key: [u8; 32],
    /// Share certificate bytes.
    pub certificate: Vec<u8>,
    /// Who decides.
    pub officers: Quorum,
    /// One more at each change of the officers; 1 after genesis.
    pub officer_epoch: u64,
    /// Who holds shares.
    pub custodians: Quorum,
    /// Approved policy.
    pub policy: Digest,
    /// Approved CA bundle.
    pub ca: Digest,
    /// Failure budgets.
    pub limits: Limits,
    /// The module was wiped; only a boot can follow.
    pub zeroised: bool,
}

/// Wrong pairs so far.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    versions: BTreeMap<KeyId, u64>,
    cards: HashMap<[u8; 8], HashSet<[u8; 8]>>,
    /// Pairs of the card that has most, so that the common day need not ask for any card.
    most: u64,
    chain: Digest,
}

impl Failures {
    /// Wrong pairs of a key version.
    pub fn of_version(&self, key: &KeyId) -> u64 {
        self.versions.get(key).copied().unwrap_or_default()
    }

    /// Wrong pairs of a card, by its tag.
    pub fn of_card(&self, tag: &[u8; 8]) -> u64 {
        self.cards.get(tag).map_or(0, |pairs| pairs.len() as u64)
    }

    /// Whether this very pair was wrong before: then it is no new guess.
    pub fn knows(&self, card: &[u8; 8], pair: &[u8; 8]) -> bool {
        self.cards.get(card).is_some_and(|pairs| pairs.contains(pair))
    }

    /// Wrong pairs of the card that has most.
    pub fn most(&self) -> u64 {
        self.most
    }

    fn add(&mut self, wrong: &WrongPairs) {
        for pair in wrong.pairs.chunks_exact(PAIR_LEN) {
            let (card, pair) = pair.split_at(8);
            let (Ok(card), Ok(pair)) = (card.try_into(), pair.try_into()) else {
                continue;
            };
            let pairs = self.cards.entry(card).or_default();
            pairs.insert(pair);
            self.most = self.most.max(pairs.len() as u64);
        }
        *self.versions.entry(wrong.key.clone()).or_default() += (wrong.pairs.len() / PAIR_LEN) as u64;
        self.chain = digest(&[b"add", &self.chain, &wrong.to_cbor()]);
    }

    fn reset(&mut self, reset: &ResetBudget, card: Option<[u8; 8]>) {
        if let Some(key) = &reset.key {
            self.versions.remove(key);
        }
        if let Some(card) = card {
            self.cards.remove(&card);
            self.most = self
                .cards
                .values()
                .map(|pairs| pairs.len() as u64)
                .max()
                .unwrap_or_default();
        }
        self.chain = digest(&[b"reset", &self.chain, &reset.to_cbor(), &card.unwrap_or_default()]);
    }
}

/// Everything that the entries so far add up to.
#[derive(Clone, Debug, Default)]
pub struct LogState {
    size: u64,
    boot: Id,
    mono_ns: u64,
    instance: Option<Instance>,
    keys: BTreeMap<KeyId, KeyEntry>,
    fingerprints: BTreeSet<Id>,
    used: BTreeSet<Id>,
    used_chain: Digest,
    sequence: u64,
    failures: Failures,
    /// Root over `keys`, kept because it is the dear part and seldom changes.
    keys_root: Digest,
}

impl LogState {
    /// Before the first entry.
    pub fn new() -> Self {
        let mut state = Self::default();
        state.keys_root = state.fresh_keys_root();
        state
    }

    /// Checks that `entry` can come next, and takes it. After an error the state is of no more use: the log is bad.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        ensure(entry.version == 1, "the entry's format is not 1")?;
        ensure(
            entry.seq == self.size,
            "the entry's seq is not its place in the log",
        )?;
        let starts = matches!(entry.event, Event::Genesis(_) | Event::Boot(_));
        if starts {
            ensure(
                entry.boot != self.boot,
                "a boot id comes twice: the module was cloned or the log spliced",
            )?;
        } else {
            ensure(
                entry.boot == self.boot,
                "the entry is of another boot than the entries before it",
            )?;
            ensure(
                entry.mono_ns >= self.mono_ns,
                "the module's own clock went back within a boot",
            )?;
        }
        self.event(entry)?;
        let root = self.root_with(entry.boot);
        ensure(
            root == entry.state_root,
            "the entry's state root is not what the entries add up to",
        )?;
        self.size += 1;
        self.boot = entry.boot;
        self.mono_ns = entry.mono_ns;
        Ok(())
    }

    /// For the module that makes the entry: takes `event` and gives the state root for the entry. On error nothing has
    /// changed.
    pub fn advance(
        &mut self,
        event: &Event,
        boot: Id,
        node: Id,
        mono_ns: u64,
    ) -> Result<Digest, ReplayError> {
        let entry = Entry {
            version: 1,
            seq: self.size,
            node,
            boot,
            epoch: 0,
            wall_ns: 0,
            mono_ns,
            salt: [0; 16],
            state_root: [0; 32],
            event: event.clone(),
        };
        self.event(&entry)?;
        self.size += 1;
        self.boot = boot;
        self.mono_ns = mono_ns;
        Ok(self.root_with(boot))
    }

    /// Entries so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The instance, once there is one.
    pub fn instance(&self) -> Option<&Instance> {
        self.instance.as_ref()
    }

    /// All key versions in the order of their ids.
    pub fn keys(&self) -> impl Iterator<Item = (&KeyId, &KeyEntry)> {
        self.keys.iter()
    }

    /// One key version.
    pub fn key(&self, id: &KeyId) -> Option<&KeyEntry> {
        self.keys.get(id)
    }

    /// Whether these key bytes are in use already.
    pub fn has_fingerprint(&self, fingerprint: &Id) -> bool {
        self.fingerprints.contains(fingerprint)
    }

    /// Whether this command was carried out already.
    pub fn is_used(&self, command: &Id) -> bool {
        self.used.contains(command)
    }

    /// Sequence number that the next sealed record gets.
    pub fn next_sequence(&self) -> u64 {
        self.sequence
    }

    /// Wrong pairs so far.
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Root over everything that entries change: SHA-256 over "state" ‖ boot ‖ instance part ‖ keys ‖ used commands ‖
    /// record sequence ‖ failure chain (SPEC.md §State root).
    pub fn root(&self) -> Digest {
        self.root_with(self.boot)
    }

    fn root_with(&self, boot: Id) -> Digest {
        let instance = self.instance.as_ref().map(Instance::digest).unwrap_or_default();
        let versions = self.failures.versions.iter();
        let versions: Vec<u8> = versions
            .flat_map(|(key, count)| [key.to_cbor(), count.to_cbor()].concat())
            .collect();
        digest(&[
            b"state",
            &boot,
            &instance,
            &self.keys_root,
            &self.used_chain,
            &self.sequence.to_be_bytes(),
            &digest(&[b"versions", &versions]),
            &self.failures.chain,
        ])
    }

    fn fresh_keys_root(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"citykeep keys");
        for key in self.keys.values() {
            hash.update(key.made.to_cbor());
            hash.update(key.state.to_cbor());
        }
        hash.finalize().into()
    }

    fn use_command(&mut self, id: Id) {
        self.used.insert(id);
        self.used_chain = digest(&[b"used", &self.used_chain, &id]);
    }

    /// Checks everything about a command but its signatures: instance, officer epoch, window, used once, and whether its
    /// action is possible now.
    pub fn check_command(&self, command: &Command) -> Result<(), wire::error::Refused> {
        use wire::error::{Refusal, Refused};
        let refuse = |code, why: &str| Err(Refused::new(code, why));
        let Some(instance) = &self.instance else {
            return refuse(
                Refusal::WrongState,
                "there is no instance yet; run a genesis ceremony first",
            );
        };
        if command.instance != instance.instance {
            return refuse(Refusal::WrongInstance, "the command is for another instance");
        }
        if command.officer_epoch != instance.officer_epoch {
            return refuse(
                Refusal::OfficerEpoch,
                "the officer set has changed since; propose the command again",
            );
        }
        if self.used.contains(&command.id) {
            return refuse(
                Refusal::CommandUsed,
                "this command was carried out before; propose a new one",
            );
        }
        if !(command.not_before..=command.not_after).contains(&self.size) {
            return refuse(
                Refusal::CommandWindow,
                "the log is outside the command's window; propose the command again",
            );
        }
        self.check_action(instance, &command.action)
    }

    fn check_action(&self, instance: &Instance, action: &Action) -> Result<(), wire::error::Refused> {
        use wire::error::{Refusal, Refused};
        let refuse = |code, why: &str| Err(Refused::new(code, why));
        match action {
            Action::Genesis(_) => refuse(Refusal::WrongState, "the instance exists; genesis comes once"),
            Action::GenerateKey(key) => self.check_new_key(key),
            Action::ImportKey(import) => {
                let mut names: Vec<&str> = import
                    .components
                    .iter()
                    .map(|part| part.custodian.as_str())
                    .collect();
                names.sort_unstable();
                names.dedup();
                if names.len() != import.components.len() || !(2..=32).contains(&names.len()) {
                    return refuse(
                        Refusal::BadSet,
                        "an import needs 2 to 32 components, each of another custodian",
                    );
                }
                self.check_new_key(&import.attributes)
            }
            Action::SetKeyState(change) => match self.keys.get(&change.key) {
                None => refuse(Refusal::NoSuchKey, "there is no such key version"),
                Some(key) if !may_become(key.state, change.state) => {
                    let why = format!("a key that is {} cannot become {}", key.state, change.state);
                    refuse(Refusal::KeyState, &why)
                }
                Some(_) => Ok(()),
            },
            Action::SetOfficers(set) if !set.is_sound() => refuse(
                Refusal::BadSet,
                "an officer set needs 2 ≤ m ≤ n ≤ 32 and no name or key twice",
            ),
            Action::SetLimits(limits) => {
                let within = limits.card <= LIMITS_MAX.card && limits.version <= LIMITS_MAX.version;
                if instance.rehearsal && within {
                    Ok(())
                } else {
                    refuse(
                        Refusal::Limits,
                        "budgets change in a rehearsal instance only, up to 65536 and 2^24",
                    )
                }
            }
            Action::ResetBudget(reset) if reset.key.is_none() && reset.card.is_none() => refuse(
                Refusal::BadCommand,
                "the reset names neither a key version nor a card",
            ),
            Action::SetOfficers(_)
            | Action::ResetBudget(_)
            | Action::SetPolicy(_)
            | Action::SetCa(_)
            | Action::Floor(_)
            | Action::Zeroise(_) => Ok(()),
        }
    }

    fn check_new_key(&self, key: &KeyAttributes) -> Result<(), wire::error::Refused> {
        use wire::error::{Refusal, Refused};
        if !(1..=LEVELS_MAX).contains(&key.levels.len()) || key.usage.is_empty() {
            return Err(Refused::new(
                Refusal::KeyAttributes,
                "a key has 1 to 3 derivation levels and at least one use",
            ));
        }
        if self.keys.contains_key(&key.id()) {
            let why = format!(
                "{} exists already; a version number is never used again",
                key.id()
            );
            return Err(Refused::new(Refusal::KeyExists, why));
        }
        Ok(())
    }
}

impl Instance {
    fn digest(&self) -> Digest {
        digest(&[
            b"instance",
            &self.instance,
            &self.node,
            self.origin.as_bytes(),
            &[u8::from(self.rehearsal), u8::from(self.zeroised)],
            &self.identity,
            &self.log_key,
            &digest(&[&self.certificate]),
            &self.officers.to_cbor(),
            &self.officer_epoch.to_be_bytes(),
            &self.custodians.to_cbor(),
            &self.policy,
            &self.ca,
            &self.limits.to_cbor(),
        ])
    }
}

/// Which state a key version may go to; anything not listed is refused.
pub fn may_become(from: KeyState, to: KeyState) -> bool {
    use KeyState as S;
    matches!(
        (from, to),
        (S::PreActive | S::Suspended, S::Active)
            | (S::Active | S::VerifyOnly, S::Suspended)
            | (S::Active | S::Suspended, S::VerifyOnly)
    )
}

/// Length-prefixed parts under one hash, so that no two lists of parts give the same bytes.
fn digest(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Taking an entry: every check comes before the first change.
impl LogState {
    fn event(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        match &entry.event {
            Event::Genesis(event) => return self.genesis(entry, event),
            Event::Boot(event) => return self.boot(entry, event),
            _ => {}
        }
        let Some(instance) = &self.instance else {
            return bad("the first entry of a log is its genesis");
        };
        ensure(instance.node == entry.node, "the entry is of another module")?;
        ensure(
            !instance.zeroised,
            "nothing but a boot follows the wiping of the module",
        )?;
        match &entry.event {
            Event::Command(event) => self.command(entry, event),
            Event::Batch(event) => self.wrong(&event.wrong),
            Event::Single(event) => self.wrong(&event.wrong),
            Event::Failures(event) => self.wrong(&event.wrong),
            Event::Component(_)
            | Event::Asserted(_)
            | Event::Denied(_)
            | Event::Genesis(_)
            | Event::Boot(_) => Ok(()),
        }
    }

    fn genesis(&mut self, entry: &Entry, event: &GenesisEvent) -> Result<(), ReplayError> {
        ensure(self.size == 0, "a second genesis")?;
        let command = open(&event.command)?;
        let Action::Genesis(genesis) = command.action else {
            return bad("the genesis command is of another kind");
        };
        ensure(genesis.node == entry.node, "the genesis names another module")?;
        ensure(
            genesis.officers.is_sound() && genesis.custodians.is_sound(),
            "an unsound officer or custodian set",
        )?;
        let state = self;
        state.instance = Some(Instance {
            instance: command.instance,
            node: genesis.node,
            origin: genesis.origin,
            rehearsal: genesis.rehearsal,
            identity: genesis.identity,
            log_key: event.log_key,
            certificate: event.certificate.0.clone(),
            officers: genesis.officers,
            officer_epoch: 1,
            custodians: genesis.custodians,
            policy: genesis.policy,
            ca: genesis.ca,
            limits: DEFAULT_LIMITS,
            zeroised: false,
        });
        state.use_command(command.id);
        Ok(())
    }

    fn boot(&mut self, entry: &Entry, event: &BootEvent) -> Result<(), ReplayError> {
        let command = open(&event.floor)?;
        let Action::Floor(floor) = &command.action else {
            return bad("a boot stands on a command that is no floor");
        };
        self.check_command(&command)
            .map_err(|refused| ReplayError(refused.message))?;
        ensure(floor.boot == entry.boot, "the floor is for another boot")?;
        ensure(floor.size <= entry.seq, "the log is shorter than its floor")?;
        let state = self;
        ensure(
            state
                .instance
                .as_ref()
                .is_some_and(|known| known.node == entry.node),
            "a boot of another module",
        )?;
        if let Some(instance) = &mut state.instance {
            instance.zeroised = false;
        }
        state.use_command(command.id);
        Ok(())
    }

    fn command(&mut self, _: &Entry, event: &CommandEvent) -> Result<(), ReplayError> {
        let command = open(&event.command)?;
        self.check_command(&command)
            .map_err(|refused| ReplayError(refused.message))?;
        check_made(self, &command.action, event)?;
        let state = self;
        state.use_command(command.id);
        if let Some(made) = &event.made {
            state.sequence += 1;
            state.fingerprints.insert(made.fingerprint);
            let key = KeyEntry {
                made: made.clone(),
                state: KeyState::PreActive,
            };
            state.keys.insert(made.attributes.id(), key);
            state.keys_root = state.fresh_keys_root();
        }
        state.carry_out(command.action, event.card);
        Ok(())
    }

    fn wrong(&mut self, wrong: &[WrongPairs]) -> Result<(), ReplayError> {
        for pairs in wrong {
            ensure(
                pairs.pairs.len() % PAIR_LEN == 0,
                "a list of wrong pairs is cut short",
            )?;
            ensure(
                self.keys.contains_key(&pairs.key),
                "wrong pairs of a key that does not exist",
            )?;
        }
        for pairs in wrong {
            self.failures.add(pairs);
        }
        Ok(())
    }
}

fn open(bytes: &[u8]) -> Result<Command, ReplayError> {
    let signed =
        SignedCommand::from_cbor(bytes).map_err(|error| ReplayError(format!("signed command: {error}")))?;
    signed
        .open()
        .map_err(|error| ReplayError(format!("command: {error}")))
}

/// A key is made by exactly the commands that make keys, and it is the key that the command names.
fn check_made(state: &LogState, action: &Action, event: &CommandEvent) -> Result<(), ReplayError> {
    let asked = match action {
        Action::GenerateKey(key) => Some((key, false)),
        Action::ImportKey(import) => Some((&import.attributes, true)),
        _ => None,
    };
    match (asked, &event.made) {
        (None, None) => {}
        (Some((asked, with_kcv)), Some(made)) => {
            let mut named = asked.clone();
            if !with_kcv {
                named.kcv = made.attributes.kcv;
            }
            ensure(
                named == made.attributes,
                "the key is not the one that the command names",
            )?;
            ensure(
                made.sequence == state.sequence,
                "a record's sequence number is not the next one",
            )?;
            ensure(
                !state.fingerprints.contains(&made.fingerprint),
                "the same key bytes under another name",
            )?;
        }
        _ => return bad("a command made a key that it does not name, or did not make the one it names"),
    }
    let names_card = matches!(action, Action::ResetBudget(reset) if reset.card.is_some());
    ensure(names_card == event.card.is_some(), "a card tag without a card")
}

impl LogState {
    fn carry_out(&mut self, action: Action, card: Option<[u8; 8]>) {
        if let Action::SetKeyState(change) = action {
            if let Some(key) = self.keys.get_mut(&change.key) {
                key.state = change.state;
            }
            self.keys_root = self.fresh_keys_root();
            return;
        }
        if let Action::ResetBudget(reset) = &action {
            self.failures.reset(reset, card);
        }
        let Some(instance) = &mut self.instance else {
            return;
        };
        match action {
            Action::SetOfficers(set) => {
                instance.officers = set;
                instance.officer_epoch += 1;
            }
            Action::SetPolicy(policy) => instance.policy = policy.digest,
            Action::SetCa(ca) => instance.ca = ca.digest,
            Action::SetLimits(limits) => instance.limits = limits,
            Action::Zeroise(_) => instance.zeroised = true,
            _ => {}
        }
    }
}
