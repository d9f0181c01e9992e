//! Rules of the entries that the log makes about itself: epochs, heartbeats, witnesses, intents, a tail that was cut, and how
//! far old entries may go.

use wire::command::{Command, Digest, Id};
use wire::error::{Refusal, Refused};
use wire::witness::{Prune, WitnessSet};

use super::grants::refuse;
use super::{LogState, ReplayError, bad, ensure};
use crate::entry::{
    BootEvent, ClosedEvent, CommandEvent, Entry, EpochEvent, Event, HeartbeatEvent, IntentEvent, WitnessEvent,
};

/// Entries are kept for at least so many days (Cybersecurity Law art. 21: six months).
pub const KEEP_DAYS: u64 = 183;

const DAY: u64 = 86_400;

wire::cbor_struct! {
    /// A command that is under way.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct OpenIntent {
        /// The command's id.
        0 => command: Id,
        /// SHA-256 of the signed command.
        1 => digest: Digest,
        /// The boot that it was made in is over.
        2 => orphan: bool,
    }
}

/// Where each day of the log's clock begins: (day since 1970, first entry), ascending. Says how old an index is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Days(Vec<(u64, u64)>);

impl Days {
    fn take(&mut self, clock: u64, seq: u64) {
        let day = clock / DAY;
        if self.0.last().is_none_or(|(last, _)| *last < day) {
            self.0.push((day, seq));
        }
    }

    /// Entries below this are older than [`KEEP_DAYS`].
    fn old_below(&self, clock: u64) -> u64 {
        let old = self.0.partition_point(|(day, _)| (day + KEEP_DAYS) * DAY <= clock);
        old.checked_sub(1).and_then(|at| self.0.get(at)).map_or(0, |(_, first)| *first)
    }
}

impl LogState {
    /// Who witnesses the log, once officers said so.
    pub fn witnesses(&self) -> Option<&WitnessSet> {
        self.grants.witnesses.as_ref().filter(|set| !set.witnesses.is_empty())
    }

    /// Entries below this may be gone.
    pub fn pruned(&self) -> u64 {
        self.grants.pruned
    }

    /// The first index that may not go now: what lies below it is older than [`KEEP_DAYS`] by the log's clock.
    pub fn prunable(&self) -> u64 {
        self.days.old_below(self.clock())
    }

    pub(super) fn check_prune(&self, prune: &Prune) -> Result<(), Refused> {
        let limit = self.prunable();
        if prune.below > limit {
            let why = format!(
                "entries are kept for {KEEP_DAYS} days: at present at most those below {limit} may go"
            );
            return refuse(Refusal::Retention, why);
        }
        if prune.below <= self.grants.pruned {
            let why = format!("entries below {} were let go before; name a higher index", self.grants.pruned);
            return refuse(Refusal::Retention, why);
        }
        Ok(())
    }

    /// The epoch that the entry names is the one that it belongs to.
    pub(super) fn check_epoch(&self, entry: &Entry) -> Result<(), ReplayError> {
        if let Event::Genesis(_) | Event::Boot(_) = &entry.event {
            let key = match &entry.event {
                Event::Genesis(event) => event.epoch_key,
                Event::Boot(event) => event.epoch_key,
                _ => None,
            };
            ensure(
                key.is_some() || self.epochs.number() == 0,
                "a boot without an epoch key in a log that has epochs",
            )?;
            ensure(
                key.is_none_or(|key| self.epochs.is_fresh(&key)),
                "an epoch's key is no key, or had an epoch before",
            )?;
        }
        ensure(
            entry.epoch == self.epochs.of_event(&entry.event),
            "the entry names another epoch than its own",
        )
    }

    pub(super) fn check_certified(event: &BootEvent, certified: Option<[u8; 32]>) -> Result<(), ReplayError> {
        ensure(event.epoch_key == certified, "the floor certifies another epoch key than the boot's")
    }

    pub(super) fn check_turn(&self, entry: &Entry, turn: &EpochEvent) -> Result<(), ReplayError> {
        let number = self.epochs.number();
        ensure(number > 0, "an epoch ends before any began")?;
        ensure(turn.number == number + 1, "an epoch is missing or comes twice")?;
        ensure(turn.size == entry.seq, "the end of an epoch names another place than its own")?;
        ensure(self.epochs.is_fresh(&turn.key), "an epoch's key is no key, or had an epoch before")?;
        ensure(self.epochs.alive, "an epoch ends without a heartbeat")?;
        let instance = self.instance().map(|known| known.instance).unwrap_or_default();
        ensure(
            self.epochs.signed_turn(&instance, &entry.node, turn),
            "the next epoch's key is not certified by the key of the epoch that ends",
        )
    }

    pub(super) fn check_heartbeat(&self, entry: &Entry, beat: HeartbeatEvent) -> Result<(), ReplayError> {
        ensure(self.epochs.number() > 0, "a heartbeat in a log without epochs")?;
        ensure(beat.witnessed <= entry.seq, "a heartbeat names a head that is not there yet")?;
        ensure(
            (beat.witnessed == 0) == (beat.time == 0),
            "a heartbeat names a head without a time, or a time without one",
        )
    }

    pub(super) fn check_witness(entry: &Entry, event: WitnessEvent) -> Result<(), ReplayError> {
        ensure(matches!(event.change, 1 | 2), "the witnesses' quorum is neither lost nor regained")?;
        ensure(event.size <= entry.seq, "the witnesses' entry names a head that is not there yet")
    }

    pub(super) fn intent(&mut self, entry: &Entry, event: IntentEvent) -> Result<(), ReplayError> {
        ensure(!self.used.contains(&event.command), "an intent of a command that was carried out before")?;
        ensure(
            self.intents.values().all(|open| open.orphan || open.command != event.command),
            "a second intent of one command",
        )?;
        let IntentEvent { command, digest, .. } = event;
        self.intents.insert(entry.seq, OpenIntent { command, digest, orphan: false });
        Ok(())
    }

    pub(super) fn closed(&mut self, event: ClosedEvent) -> Result<(), ReplayError> {
        let Some(open) = self.intents.get(&event.intent) else {
            return bad("an intent is closed that is not open");
        };
        ensure(
            (event.reason == 0) == open.orphan,
            "an intent of this boot is closed as an orphan, or an orphan for a reason",
        )?;
        self.intents.remove(&event.intent);
        Ok(())
    }

    /// A command that was announced is the one that was announced.
    pub(super) fn check_announced(&self, command: &Command, event: &CommandEvent) -> Result<(), ReplayError> {
        use sha2::Digest as _;
        let announced = self.intents.values().find(|open| !open.orphan && open.command == command.id);
        let digest: Digest = sha2::Sha256::digest(&*event.command).into();
        ensure(
            announced.is_none_or(|open| open.digest == digest),
            "the command is not the one that its intent announced",
        )
    }

    pub(super) fn carried_out(&mut self, command: &Id) {
        self.intents.retain(|_, open| open.orphan || open.command != *command);
    }

    /// At a boot: nobody carries out what an earlier one announced.
    pub(super) fn orphan_intents(&mut self) {
        self.intents.values_mut().for_each(|open| open.orphan = true);
    }

    /// After every entry: epochs and days.
    pub(super) fn turn_pages(&mut self, entry: &Entry) {
        self.epochs.take(entry);
        self.days.take(self.grants.clock, entry.seq);
    }
}
