//! What the log's entries add up to: officers, keys, used commands, budgets. The module makes entries with it, auditors
//! replay it; both run this code, so that an entry that the module makes is one that an auditor accepts.

mod batches;
mod failures;
mod grants;
mod instance;
mod rules;
mod take;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use wire::cbor::Cbor;
use wire::command::{Digest, Id, Limits};
use wire::key::{KeyId, KeyState};

use crate::entry::{Entry, Event, KeyMade};
use crate::epoch::Epochs;

use batches::Batches;
pub use failures::Failures;
use grants::Grants;
pub use grants::{CardMark, ClientState, LicenceState, ListState, TokenState};
pub use instance::Instance;
pub use rules::may_become;
use upkeep::Days;
pub use upkeep::{KEEP_DAYS, OpenIntent};

/// Failure budgets of every instance (service-protocol rule 6); only a rehearsal may have others.
pub const DEFAULT_LIMITS: Limits = Limits { card: 16, version: 1 << 20 };

/// No rehearsal raises a budget above this: the pairs are kept in memory.
pub const LIMITS_MAX: Limits = Limits { card: 1 << 16, version: 1 << 24 };

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

/// Everything that the entries so far add up to.
#[derive(Clone, Debug, Default)]
pub struct LogState {
    size: u64,
    boot: Id,
    boots: BTreeSet<Id>,
    mono_ns: u64,
    instance: Option<Instance>,
    keys: BTreeMap<KeyId, KeyEntry>,
    fingerprints: BTreeSet<Id>,
    used: BTreeSet<Id>,
    used_chain: Digest,
    sequence: u64,
    failures: Failures,
    batches: Batches,
    grants: Grants,
    epochs: Epochs,
    intents: BTreeMap<u64, OpenIntent>,
    days: Days,
    /// Root over `keys`, kept because it is the dear part and seldom changes.
    keys_root: Digest,
    /// The same of the instance and of the counts of wrong pairs.
    instance_root: Digest,
    versions_root: Digest,
}

impl LogState {
    /// Before the first entry.
    pub fn new() -> Self {
        let mut state = Self::default();
        state.keys_root = state.fresh_keys_root();
        state.versions_root = state.fresh_versions_root();
        state
    }

    /// Checks that `entry` can come next, and takes it. After an error the state is of no more use: the log is bad.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        ensure(entry.version == 1, "the entry's format is not 1")?;
        ensure(entry.seq == self.size, "the entry's seq is not its place in the log")?;
        self.take(entry)?;
        ensure(self.root() == entry.state_root, "the entry's state root is not what the entries add up to")
    }

    /// For the module that makes the entry: takes `event` and gives the state root for the entry. On error nothing has
    /// changed.
    pub fn advance(
        &mut self,
        event: &Event,
        boot: Id,
        node: Id,
        [wall_ns, mono_ns]: [u64; 2],
    ) -> Result<Digest, ReplayError> {
        self.take(&Entry {
            version: 1,
            seq: self.size,
            node,
            boot,
            epoch: self.epochs.of_event(event),
            wall_ns,
            mono_ns,
            salt: [0; 16],
            state_root: [0; 32],
            event: event.clone(),
        })?;
        Ok(self.root())
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

    /// Epochs of the log key.
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Intents without an outcome, by the index of their entry.
    pub fn intents(&self) -> impl Iterator<Item = (u64, &OpenIntent)> {
        self.intents.iter().map(|(index, intent)| (*index, intent))
    }

    /// Boots so far, the one of genesis among them.
    pub fn boots(&self) -> u64 {
        self.boots.len() as u64
    }

    /// Root over everything that entries change: SHA-256 over "state" ‖ boot ‖ instance part ‖ keys ‖ used commands ‖
    /// record sequence ‖ failures, and ‖ grants, ‖ epochs once there are any (SPEC.md §State root).
    pub fn root(&self) -> Digest {
        let sequence = self.sequence.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![
            b"state",
            &self.boot,
            &self.instance_root,
            &self.keys_root,
            &self.used_chain,
            &sequence,
            &self.versions_root,
            &self.failures.chain,
        ];
        let has_epochs = self.epochs.chain != [0; 32];
        if has_epochs || self.grants.chain != [0; 32] {
            parts.push(&self.grants.chain);
        }
        if has_epochs {
            parts.push(&self.epochs.chain);
        }
        digest(&parts)
    }

    /// An entry of this kind was taken: what it can have changed is hashed anew.
    fn refresh_roots(&mut self, event: &Event) {
        if matches!(event, Event::Genesis(_) | Event::Boot(_) | Event::Command(_)) {
            self.instance_root = self.instance.as_ref().map(Instance::digest).unwrap_or_default();
        }
        if matches!(event, Event::Command(_) | Event::Batch(_) | Event::Single(_) | Event::Failures(_)) {
            self.versions_root = self.fresh_versions_root();
        }
    }

    fn fresh_versions_root(&self) -> Digest {
        let versions = self.failures.versions.iter();
        let versions: Vec<u8> =
            versions.flat_map(|(key, count)| [key.to_cbor(), count.to_cbor()].concat()).collect();
        digest(&[b"versions", &versions])
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
}

/// Length-prefixed parts under one hash, so that no two lists of parts give the same bytes.
pub(crate) fn digest(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
