//! Epochs of the log's second key: which key must have signed a head beside the log key, and what certifies it
//! (SPEC.md §Epochs). A key lives in the module's memory for one epoch; what it signed outlives it.

use ed25519_dalek::Signer as _;
use ed25519_dalek::SigningKey;
use wire::command::{Digest, Id};

use crate::entry::{Entry, EpochEvent, Event};
use crate::note::VerifierKey;

/// What is signed at the end of an epoch starts with this.
const TURN_DOMAIN: &[u8] = b"citykeep epoch v1\0";

wire::cbor_struct! {
    /// One epoch.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Epoch {
        /// Its number, from 1.
        0 => number: u64,
        /// Its first entry.
        1 => first: u64,
        /// Its Ed25519 key.
        2 => key: [u8; 32],
    }
}

/// The epochs of a log so far.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Epochs {
    pub(crate) all: Vec<Epoch>,
    /// The present one holds a heartbeat.
    pub(crate) alive: bool,
    /// Over numbers and keys, in order; zero until there is an epoch.
    pub(crate) chain: Digest,
}

impl Epochs {
    /// The epoch that the next entry belongs to, unless it begins one.
    pub fn present(&self) -> Option<&Epoch> {
        self.all.last()
    }

    /// Number of the present epoch, 0 in a log from before epochs.
    pub fn number(&self) -> u64 {
        self.present().map_or(0, |epoch| epoch.number)
    }

    /// All of them, in order.
    pub fn all(&self) -> &[Epoch] {
        &self.all
    }

    /// Who must sign a head of `size` entries beside the log key: the epoch that its last entry belongs to. `None` for a
    /// head from before epochs.
    pub fn signer(&self, size: u64) -> Option<&Epoch> {
        let begun = self.all.partition_point(|epoch| epoch.first < size);
        self.all.get(begun.checked_sub(1)?)
    }

    /// The epoch that an entry with this event belongs to.
    pub fn of_event(&self, event: &Event) -> u64 {
        self.number() + u64::from(begins(event).is_some())
    }

    /// Whether `key` can begin an epoch: a sound point that no epoch had before.
    pub(crate) fn is_fresh(&self, key: &[u8; 32]) -> bool {
        VerifierKey::new("epoch", *key).is_sound() && self.all.iter().all(|epoch| epoch.key != *key)
    }

    /// Whether the present epoch's key signed this turn, in a log of this instance and module.
    pub(crate) fn signed_turn(&self, instance: &Id, node: &Id, turn: &EpochEvent) -> bool {
        let bytes = turn_bytes(instance, node, turn.number, &turn.key, turn.size, &turn.root);
        self.present()
            .is_some_and(|epoch| VerifierKey::new("epoch", epoch.key).verifies(&bytes, &turn.signature))
    }

    /// Takes an entry that was checked.
    pub(crate) fn take(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Heartbeat(_) => self.alive = true,
            Event::Epoch(turn) => self.begin(turn.number, entry.seq + 1, turn.key),
            event => {
                if let Some(key) = begins(event) {
                    self.begin(entry.epoch, entry.seq, *key);
                }
            }
        }
    }

    fn begin(&mut self, number: u64, first: u64, key: [u8; 32]) {
        self.chain = crate::state::digest(&[b"epoch", &self.chain, &number.to_be_bytes(), &key]);
        self.all.push(Epoch { number, first, key });
        self.alive = false;
    }
}

/// The key of the epoch that an entry begins and belongs to: genesis and boots have one.
fn begins(event: &Event) -> Option<&[u8; 32]> {
    match event {
        Event::Genesis(event) => event.epoch_key.as_ref(),
        Event::Boot(event) => event.epoch_key.as_ref(),
        _ => None,
    }
}

/// What the closing epoch's key signs: domain ‖ instance ‖ node ‖ u64 number ‖ key ‖ u64 size ‖ root.
pub fn turn_bytes(
    instance: &Id,
    node: &Id,
    number: u64,
    key: &[u8; 32],
    size: u64,
    root: &Digest,
) -> Vec<u8> {
    [TURN_DOMAIN, instance, node, &number.to_be_bytes(), key, &size.to_be_bytes(), root].concat()
}

/// The end of an epoch: `closing` certifies `next` at the present end of the log.
pub fn turn(
    [instance, node]: [&Id; 2],
    number: u64,
    closing: &SigningKey,
    next: [u8; 32],
    (size, root): (u64, Digest),
) -> EpochEvent {
    let bytes = turn_bytes(instance, node, number, &next, size, &root);
    EpochEvent { number, key: next, size, root, signature: closing.sign(&bytes).to_bytes() }
}
