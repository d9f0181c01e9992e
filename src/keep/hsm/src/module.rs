//! The module: its state, and what it answers. One lock over everything that changes; the cipher runs outside it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use securemem::{Arena, Secret};
use translog::entry::{DeniedEvent, Event, PAIRS_MAX, WrongPairs};
use wire::command::{Digest, Id, PublicKey};
use wire::error::{Refusal, Refused};
use wire::frame::{BatchResult, Collect, Collected, KeyInfo, Keys, ModuleState, Progress, StoredRecord};
use wire::key::KeyId;

use crate::batch;
use crate::calls::PreparedResults;
use crate::check::{self, Guard, Wrong};
use crate::clock::Clock;
use crate::command::Import;
use crate::epoch::EPOCH_HOURS_DEFAULT;
use crate::genesis::Proving;
use crate::held::Held;
use crate::log::{Log, Safe};
use crate::one_time::OneTimeKeys;
use crate::random::Random;
use crate::recovery::{Recovering, Unsealing};
use crate::root::Root;

/// How long a collector waits for news.
const COLLECT_WAIT: Duration = Duration::from_millis(500);

/// How long an officer's command waits for keyd to make it durable, and for the witnesses.
pub(crate) const OFFICER_WAIT: Duration = Duration::from_secs(30);

/// … and one that keyd relays: keyd takes a module that says nothing for 30 seconds for lost.
pub(crate) const KEYD_WAIT: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5_000 });

/// Wrong pairs that an entry carries beside other things; more go into entries of their own before it, so that no
/// mixture of clients, versions and pairs is longer than an entry may be.
const INLINE_PAIRS: usize = 500;

/// Batch results that wait to be fetched.
const RESULTS_MAX: usize = 1024;

/// Different refusals that wait for the log; each is folded with its count.
const DENIED_MAX: usize = 256;

/// What is fixed for a boot.
#[derive(Debug)]
pub struct Module {
    /// Secret memory.
    pub arena: Arena,
    /// Random source.
    pub random: Random,
    /// Fresh random id of this boot.
    pub boot: Id,
    /// SHA-256 of the program file.
    pub program: Digest,
    /// Boot identity, a P-256 scalar.
    pub identity: Secret,
    /// Its public half.
    pub identity_public: PublicKey,
    pub(crate) clock: Clock,
    /// How long an epoch of the log key lasts.
    epoch: Duration,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) phase: Phase,
    pub(crate) one_time: OneTimeKeys,
    /// The newest refusal of an unseal or recovery.
    pub(crate) trouble: Option<Refused>,
    /// Refusals that no entry names yet: (code, socket, request) → count.
    denied: BTreeMap<(Refusal, &'static str, u64), u64>,
}

#[derive(Debug)]
pub(crate) enum Phase {
    Uninitialised(Option<Box<Proving>>),
    Sealed(Unsealing),
    Recovering(Box<Recovering>),
    Operational(Box<Live>),
    Zeroised,
}

/// The Operational module.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) root: Root,
    pub(crate) log: Log,
    pub(crate) keys: BTreeMap<KeyId, Arc<Held>>,
    pub(crate) guard: Guard,
    pub(crate) imports: BTreeMap<Id, Import>,
    results: BTreeMap<u64, BatchResult>,
    pub(crate) prepared: PreparedResults,
}

impl Live {
    pub(crate) fn new(root: Root, log: Log, keys: BTreeMap<KeyId, Arc<Held>>) -> Self {
        let (guard, imports, results) = (Guard::default(), BTreeMap::new(), BTreeMap::new());
        Self { root, log, keys, guard, imports, results, prepared: PreparedResults::default() }
    }

    /// Whether a quorum has wiped this module; what is left waits for its last entry to be durable.
    pub(crate) fn is_zeroised(&self) -> bool {
        self.log.state().instance().is_some_and(|instance| instance.zeroised)
    }

    /// Wipes every key at once, but the log's, which still signs the head over the entry that says so.
    pub(crate) fn wipe(&mut self) {
        self.keys.clear();
        self.prepared = PreparedResults::default();
        self.imports.clear();
        self.results.clear();
        self.guard = Guard::default();
        self.root.wipe();
    }

    /// Makes an entry, and lets the budgets know that its wrong pairs are in the log now.
    pub(crate) fn log_checked(
        &mut self,
        random: &Random,
        event: Event,
        wrong: &[WrongPairs],
    ) -> Result<u64, Refused> {
        let index = self.log.make(random, event, None)?;
        self.guard.logged(wrong);
        Ok(index)
    }

    /// Logs what does not fit into one entry, and gives the rest.
    pub(crate) fn spill(&mut self, random: &Random, wrong: &mut Wrong) -> Result<Vec<WrongPairs>, Refused> {
        while wrong.values().map(Vec::len).sum::<usize>() > INLINE_PAIRS {
            let pairs = check::take_pairs(wrong, PAIRS_MAX);
            self.log_checked(random, batch::failures(pairs.clone()), &pairs)?;
        }
        Ok(check::take_pairs(wrong, INLINE_PAIRS))
    }

    /// Keeps a batch's result until it is released.
    pub(crate) fn keep(&mut self, index: u64, result: BatchResult) {
        if self.results.len() >= RESULTS_MAX {
            // The oldest was durable long ago and nobody came for it.
            self.results.pop_first();
        }
        self.results.insert(index, result);
    }

    pub(crate) fn release(&mut self, ticket: u64) -> Result<BatchResult, Refused> {
        if !self.results.contains_key(&ticket) {
            return Err(Refused::new(Refusal::UnknownTicket, "no result waits under this ticket"));
        }
        self.log.within_grace()?;
        if ticket >= self.log.durable() {
            return Err(Refused::new(Refusal::NotDurable, "the log entry of this result is not durable yet"));
        }
        self.results.remove(&ticket).ok_or_else(|| Refused::new(Refusal::UnknownTicket, "no such result"))
    }

    pub(crate) fn list_keys(&self) -> Keys {
        let keys = self.log.state().keys();
        let info = keys.map(|(_, key)| KeyInfo {
            attributes: key.made.attributes.clone(),
            state: key.state,
            public: key.made.public.clone(),
        });
        Keys { keys: info.collect() }
    }
}

impl Module {
    /// A module that has passed its self-tests.
    pub fn new(arena: Arena, random: Random, program: Digest, identity: Secret) -> Result<Self, Refused> {
        let secret = crate::one_time::p256_secret(&identity)?;
        let identity_public = wire::seal::public_key(&secret);
        let inner = Inner {
            phase: Phase::Uninitialised(None),
            one_time: OneTimeKeys::default(),
            trouble: None,
            denied: BTreeMap::new(),
        };
        Ok(Self {
            boot: random.array()?,
            arena,
            random,
            program,
            identity,
            identity_public,
            clock: Clock::start(),
            epoch: Duration::from_secs(EPOCH_HOURS_DEFAULT * 3600),
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        })
    }

    /// With epochs of so many hours.
    #[must_use]
    pub fn with_epochs_of(mut self, hours: u64) -> Self {
        self.epoch = Duration::from_secs(hours * 3600);
        self
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic aborts the process, so a poisoned lock is never met; in tests the data behind it is as good as it was.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Works on the Operational module, and wakes the collector. Refuses before the witnesses have seen this boot.
    pub(crate) fn live<T>(&self, work: impl FnOnce(&mut Live) -> Result<T, Refused>) -> Result<T, Refused> {
        self.live_unseen(|live| {
            live.log.begun()?;
            work(live)
        })
    }

    /// The same for what is done before the witnesses have seen this boot, too: it gives nothing out.
    pub(crate) fn live_unseen<T>(
        &self,
        work: impl FnOnce(&mut Live) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let mut inner = self.lock();
        let state = inner.state(&self.random);
        let Phase::Operational(live) = &mut inner.phase else {
            return Err(wrong_state(state));
        };
        if live.is_zeroised() {
            return Err(wrong_state(ModuleState::Zeroised));
        }
        let done = work(live);
        drop(inner);
        self.notify();
        done
    }

    /// A request that could not even be read.
    pub fn unreadable(&self, socket: &'static str, refused: &Refused) {
        self.deny(socket, 0, refused);
    }

    pub(crate) fn deny(&self, socket: &'static str, request: u64, refused: &Refused) {
        let mut inner = self.lock();
        let key = (refused.code, socket, request);
        // Beyond the bound refusals are still counted, under the frame that could not be read.
        let full = inner.denied.len() >= DENIED_MAX && !inner.denied.contains_key(&key);
        let key = if full { (Refusal::BadFrame, socket, 0) } else { key };
        *inner.denied.entry(key).or_default() += 1;
        drop(inner);
        self.notify();
    }

    pub(crate) fn collect(&self, ack: &Collect) -> Result<Collected, Refused> {
        let mut inner = self.lock();
        if matches!(inner.phase, Phase::Uninitialised(None)) && ack.durable > 0 {
            // keyd has a log: this instance exists and waits for its shares.
            inner.phase = Phase::Sealed(Unsealing::default());
        }
        if let Phase::Operational(live) = &mut inner.phase
            && live.log.acknowledge(ack)?
        {
            if live.is_zeroised() && live.log.durable() == live.log.size() {
                // Nothing is left to hand out: now the log key goes too.
                inner.phase = Phase::Zeroised;
                inner.one_time = OneTimeKeys::default();
            }
            self.notify();
        }
        let deadline = Instant::now() + COLLECT_WAIT;
        loop {
            inner.log_denied(&self.random)?;
            self.upkeep(&mut inner)?;
            if let Phase::Operational(live) = &mut inner.phase
                && live.log.has_news()
            {
                return live.log.collect();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Collected { first: ack.durable, ..Collected::default() });
            }
            let waited = self.changed.wait_timeout(inner, left);
            inner = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(inner, _)| inner);
        }
    }

    /// Entries that time makes.
    fn upkeep(&self, inner: &mut Inner) -> Result<(), Refused> {
        match &mut inner.phase {
            Phase::Operational(live) if !live.is_zeroised() => {
                live.log.upkeep(&self.arena, &self.random, self.epoch)
            }
            _ => Ok(()),
        }
    }

    /// Waits until a command's entry is safe.
    pub(crate) fn settle(
        &self,
        done: wire::frame::CommandDone,
        deadline: Instant,
    ) -> Result<wire::frame::CommandDone, Refused> {
        if let Some(index) = done.index {
            self.wait(index, Safe::Cosigned, deadline).map_err(|refused| Refused {
                message: format!("it is done, but {}: look after keyd and the witnesses", refused.message),
                ..refused
            })?;
        }
        Ok(done)
    }

    /// Waits until an entry is safe.
    pub(crate) fn wait(&self, index: u64, safe: Safe, deadline: Instant) -> Result<(), Refused> {
        let mut inner = self.lock();
        loop {
            let outcome = match &inner.phase {
                Phase::Operational(live) => live.log.is_safe(index, safe),
                // A wiped module has had its last entry made durable.
                Phase::Zeroised => Ok(()),
                _ => return Err(wrong_state(inner.state(&self.random))),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if outcome.is_ok() || left.is_zero() {
                return outcome;
            }
            let waited = self.changed.wait_timeout(inner, left);
            inner = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(inner, _)| inner);
        }
    }

    pub(crate) fn abort(&self) {
        let mut inner = self.lock();
        match &mut inner.phase {
            Phase::Uninitialised(proving) => *proving = None,
            Phase::Sealed(unsealing) => *unsealing = Unsealing::default(),
            Phase::Operational(live) => live.imports.clear(),
            Phase::Recovering(_) => inner.phase = Phase::Sealed(Unsealing::default()),
            Phase::Zeroised => {}
        }
        inner.one_time = OneTimeKeys::default();
    }
}

impl Inner {
    pub(crate) fn state(&self, random: &Random) -> ModuleState {
        if random.has_failed() {
            return ModuleState::Fault;
        }
        match &self.phase {
            Phase::Uninitialised(_) => ModuleState::Uninitialised,
            Phase::Sealed(_) => ModuleState::Sealed,
            Phase::Recovering(_) => ModuleState::Recovering,
            Phase::Operational(_) => ModuleState::Operational,
            Phase::Zeroised => ModuleState::Zeroised,
        }
    }

    /// Moves waiting refusals into the log, as far as there is room.
    fn log_denied(&mut self, random: &Random) -> Result<(), Refused> {
        let Phase::Operational(live) = &mut self.phase else {
            return Ok(());
        };
        if live.is_zeroised() {
            return Ok(());
        }
        while live.log.room().is_ok() {
            let Some(first) = self.denied.first_entry() else {
                break;
            };
            let ((code, socket, request), count) = (*first.key(), *first.get());
            let event = DeniedEvent { code, socket: socket.to_owned(), request, count };
            live.log.make(random, Event::Denied(event), None)?;
            first.remove();
        }
        Ok(())
    }
}

/// Wraps a sealed record for keyd.
pub(crate) fn stored(id: &KeyId, bytes: Vec<u8>) -> StoredRecord {
    StoredRecord { id: id.to_string(), bytes: bytes.into() }
}

pub(crate) fn wrong_state(state: ModuleState) -> Refused {
    let next = match state {
        ModuleState::Uninitialised => "run a genesis ceremony, or start keyd on the instance's log",
        ModuleState::Sealed => "unseal it with the custodians' shares first",
        ModuleState::Recovering => "the officers' floor and keyd's log are still awaited",
        ModuleState::Operational => "it is in service already",
        ModuleState::Zeroised => "it was wiped; restart it and unseal",
        ModuleState::Fault => {
            "a self-test or health test failed; restart it, and examine the machine if it fails again"
        }
    };
    let code = if state == ModuleState::Fault { Refusal::Fault } else { Refusal::WrongState };
    Refused::new(code, format!("the module is {state}: {next}"))
}

pub(crate) const fn progress(have: usize, need: u64) -> Progress {
    Progress { have: have as u64, need }
}
