//! The module's hand in the log: it makes every entry, assigns its index, signs every head, and gives results out only
//! when keyd has acknowledged that head as durable (service-protocol rules 2, 3, 7).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use securemem::{Arena, Secret};
use translog::entry::{ENTRY_MAX, Entry, EpochEvent, Event, HeartbeatEvent, WitnessEvent};
use translog::note::{Checkpoint, VerifierKey, open_checkpoint, sign_head};
use translog::state::LogState;
use translog::tree::{Frontier, Hash, leaf_hash};
use wire::cbor::{Bytes, Cbor};
use wire::command::{Digest, Id};
use wire::error::{Refusal, Refused};
use wire::frame::{Collect, Collected, Cosigned, StoredRecord, Witnessed};

use crate::clock::Clock;
use crate::epoch::{EpochKey, EpochKeys, ed25519};
use crate::random::Random;
use crate::witness::{Witnessing, quorum_time};

/// Entries that wait for keyd at most; above it the module refuses work instead of growing.
const PENDING_MAX: usize = 65_536;

/// … or bytes of them.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// Bytes of entries and records in one answer to keyd, well below a frame.
const COLLECT_BYTES: usize = 700 * 1024;

/// Heads that keyd may still acknowledge.
const HEADS_MAX: usize = 1024;

/// A log that says nothing for so long says that it is alive: one that was stopped looks different from an idle one.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);

/// What an entry must be for others to rely on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Safe {
    /// On keyd's disk.
    Durable,
    /// … and cosigned by the quorum, where there are witnesses.
    Cosigned,
}

/// Whose log it is.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) origin: String,
    pub(crate) node: Id,
    pub(crate) boot: Id,
}

/// The log from the module's side.
#[derive(Debug)]
pub(crate) struct Log {
    state: LogState,
    frontier: Frontier,
    names: Names,
    seed: Secret,
    epochs: EpochKeys,
    witnessing: Witnessing,
    clock: Clock,
    /// When the newest entry was made.
    last: Duration,
    /// The entry that began this boot.
    first: u64,
    /// Entries from `durable` on.
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    durable: u64,
    durable_root: Hash,
    /// Heads handed out since: size → root.
    heads: BTreeMap<u64, Hash>,
}

#[derive(Debug)]
struct Pending {
    entry: Vec<u8>,
    /// Head after this entry; keyd acknowledges any of them.
    frontier: Frontier,
    record: Option<StoredRecord>,
    /// It ends an epoch: no head goes beyond it before one that ends with it is safe.
    turn: bool,
}

impl Log {
    /// A log at the end of `state`, all of which is durable.
    pub(crate) fn new(
        state: LogState,
        frontier: Frontier,
        names: Names,
        seed: Secret,
        epoch: EpochKey,
        clock: Clock,
    ) -> Self {
        let (durable, durable_root) = (frontier.size(), frontier.root());
        let now = clock.elapsed();
        let (pending, heads) = (VecDeque::new(), BTreeMap::new());
        Self {
            state,
            frontier,
            names,
            seed,
            epochs: EpochKeys::new(epoch, now),
            witnessing: Witnessing::default(),
            clock,
            last: now,
            first: durable,
            pending,
            pending_bytes: 0,
            durable,
            durable_root,
            heads,
        }
    }

    /// What the entries so far add up to.
    pub(crate) fn state(&self) -> &LogState {
        &self.state
    }

    /// Entries made.
    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Root over them.
    pub(crate) fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Entries that keyd has made durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// The key that verifies this log.
    pub(crate) fn verifier(&self) -> VerifierKey {
        VerifierKey::new(&self.names.origin, ed25519(&self.seed).verifying_key().to_bytes())
    }

    /// The key of the present epoch.
    pub(crate) fn epoch_key(&self) -> [u8; 32] {
        self.epochs.present().public()
    }

    /// Refuses new work while keyd is too far behind.
    pub(crate) fn room(&self) -> Result<(), Refused> {
        if self.pending.len() < PENDING_MAX && self.pending_bytes < PENDING_BYTES_MAX {
            Ok(())
        } else {
            Err(Refused::new(Refusal::Busy, "too many log entries wait to be made durable; try again"))
        }
    }

    /// The module's clock, Unix seconds; never before the log's own latest.
    pub(crate) fn now(&self) -> u64 {
        (self.wall_ns() / 1_000_000_000).max(self.state.clock())
    }

    /// Nanoseconds since 1970. Where there are witnesses it is their time that counts, and before they have spoken in this boot the
    /// log's own: whoever sets the machine's clock moves nothing.
    fn wall_ns(&self) -> u64 {
        if self.state.witnesses().is_none() {
            return system_ns();
        }
        let cosigned = self.witnessing.now_ns(self.clock.elapsed()).unwrap_or_default();
        cosigned.max(self.state.clock().saturating_mul(1_000_000_000))
    }

    /// Makes the next entry. A sealed record, if there is one, is handed out with it and stored first.
    pub(crate) fn make(
        &mut self,
        random: &Random,
        event: Event,
        record: Option<StoredRecord>,
    ) -> Result<u64, Refused> {
        let forbidden = |error: &dyn std::fmt::Display| Refused::new(Refusal::BadCommand, error.to_string());
        let salt = random.array()?;
        // Length first, with a root of the same length: after `advance` there is no way back.
        let mut entry = Entry {
            version: 1,
            seq: self.frontier.size(),
            node: self.names.node,
            boot: self.names.boot,
            epoch: self.state.epochs().of_event(&event),
            wall_ns: self.wall_ns(),
            mono_ns: u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX),
            salt,
            state_root: [0; 32],
            event,
        };
        if entry.to_cbor().len() > ENTRY_MAX {
            return Err(Refused::new(
                Refusal::TooLarge,
                "the log entry of this would be longer than 65535 bytes",
            ));
        }
        let (boot, node, turn) = (self.names.boot, self.names.node, matches!(entry.event, Event::Epoch(_)));
        let advanced = self.state.advance(&entry.event, boot, node, [entry.wall_ns, entry.mono_ns]);
        entry.state_root = advanced.map_err(|error| forbidden(&error))?;
        let bytes = entry.to_cbor();
        self.frontier.push(leaf_hash(&bytes));
        self.pending_bytes += bytes.len();
        self.pending.push_back(Pending { entry: bytes, frontier: self.frontier.clone(), record, turn });
        self.last = self.clock.elapsed();
        Ok(entry.seq)
    }

    /// Takes keyd's acknowledgement; a head that this module did not hand out is refused, and so is going back.
    pub(crate) fn acknowledge(&mut self, ack: &Collect) -> Result<bool, Refused> {
        if (ack.durable, ack.root) == (self.durable, root_or_zero(self.durable, &self.durable_root)) {
            return Ok(false);
        }
        if ack.durable <= self.durable || self.heads.get(&ack.durable) != Some(&ack.root) {
            return Err(Refused::new(
                Refusal::AckForged,
                "keyd acknowledges a head that this module did not hand out: its log is older or another one",
            ));
        }
        while self.durable < ack.durable {
            let taken = self.pending.pop_front().map_or(0, |pending| pending.entry.len());
            self.pending_bytes = self.pending_bytes.saturating_sub(taken);
            self.durable += 1;
        }
        self.durable_root = ack.root;
        self.heads = self.heads.split_off(&(ack.durable + 1));
        // The closed epoch has nothing left to sign once the head that ends it is durable.
        self.epochs.let_go(self.durable);
        Ok(true)
    }

    /// What keyd has to make durable next, with a signed head over it.
    pub(crate) fn collect(&mut self) -> Result<Collected, Refused> {
        let mut collected = Collected { first: self.durable, ..Collected::default() };
        let mut bytes = 0;
        let mut head = None;
        for pending in &self.pending {
            let record = pending.record.as_ref().map_or(0, |record| record.bytes.len() + record.id.len());
            bytes += pending.entry.len() + record + 64;
            if bytes > COLLECT_BYTES && head.is_some() {
                break;
            }
            collected.entries.push(Bytes(pending.entry.clone()));
            collected.records.extend(pending.record.clone());
            head = Some(&pending.frontier);
            if pending.turn {
                break;
            }
        }
        if let Some(head) = head {
            let origin = self.names.origin.clone();
            let checkpoint = Checkpoint { origin, size: head.size(), root: head.root() };
            collected.root = checkpoint.root;
            collected.checkpoint = self.sign(&checkpoint)?;
            self.heads.insert(checkpoint.size, checkpoint.root);
            while self.heads.len() > HEADS_MAX {
                self.heads.pop_first();
            }
        }
        Ok(collected)
    }

    /// Signs a head: by the log key and by the epoch that its last entry belongs to.
    fn sign(&self, head: &Checkpoint) -> Result<String, Refused> {
        let epoch = self.state.epochs().signer(head.size);
        let key = epoch.and_then(|epoch| self.epochs.of(epoch)).ok_or_else(|| {
            Refused::new(Refusal::Fault, "the key of this head's epoch is gone; restart the module")
        })?;
        Ok(sign_head(head, &ed25519(&self.seed), &key.signer()))
    }

    /// Entries that time makes: what became of the witnesses, the end of an epoch, a heartbeat.
    pub(crate) fn upkeep(&mut self, arena: &Arena, random: &Random, epoch: Duration) -> Result<(), Refused> {
        if self.room().is_err() {
            return Ok(());
        }
        let now = self.clock.elapsed();
        if self.state.witnesses().is_some() && self.witnessing.changed(now) {
            self.tell_of_witnesses(random)?;
        }
        if self.epochs.is_due(now, epoch) {
            self.turn(arena, random)?;
        }
        if now.saturating_sub(self.last) >= HEARTBEAT {
            self.heartbeat(random)?;
        }
        Ok(())
    }

    fn heartbeat(&mut self, random: &Random) -> Result<(), Refused> {
        let Witnessed { size: witnessed, time } = self.witnessing.newest().unwrap_or(NONE);
        self.make(random, Event::Heartbeat(HeartbeatEvent { witnessed, time }), None).map(drop)
    }

    fn tell_of_witnesses(&mut self, random: &Random) -> Result<(), Refused> {
        let change = if self.witnessing.is_lost(self.clock.elapsed()) { 1 } else { 2 };
        let Witnessed { size, time } = self.witnessing.newest().unwrap_or(NONE);
        self.make(random, Event::Witness(WitnessEvent { change, size, time }), None).map(drop)
    }

    /// Ends the epoch: its key certifies the next one and the log so far.
    fn turn(&mut self, arena: &Arena, random: &Random) -> Result<(), Refused> {
        let next = match EpochKey::generate(arena, random) {
            Ok(next) => next,
            // No secret memory at this moment: the next look is half a second away.
            Err(refused) if refused.code == Refusal::Busy => return Ok(()),
            Err(refused) => return Err(refused),
        };
        self.heartbeat(random)?;
        let instance = self.state.instance().map(|known| known.instance).unwrap_or_default();
        let turn: EpochEvent = translog::epoch::turn(
            [&instance, &self.names.node],
            self.state.epochs().number() + 1,
            &self.epochs.present().signer(),
            next.public(),
            (self.frontier.size(), self.frontier.root()),
        );
        let seq = self.make(random, Event::Epoch(turn), None)?;
        self.epochs.turn(next, seq + 1, self.clock.elapsed());
        Ok(())
    }

    /// Takes a head of this boot that the witnesses have cosigned. One that is not newer changes nothing.
    pub(crate) fn cosigned(&mut self, cosigned: &Cosigned) -> Result<(), Refused> {
        let Some(set) = self.state.witnesses() else {
            let why = "nobody witnesses this log: officers enrol witnesses first";
            return Err(Refused::new(Refusal::Unwitnessed, why));
        };
        let foreign = || {
            let why = "this is no head that the module handed out in this boot; send the newest one";
            Refused::new(Refusal::AckForged, why)
        };
        let head = open_checkpoint(&cosigned.note, &self.verifier()).map_err(|_| foreign())?;
        // The log key signed heads of other boots too, perhaps of a log that was rolled back since. The keys of this boot's epochs
        // signed nothing else.
        let epoch = self.state.epochs().signer(head.size);
        let own = epoch.is_some_and(|epoch| head.beyond_log(Some(&epoch.key)).is_ok());
        let here = (self.first + 1..=self.frontier.size()).contains(&head.size);
        if !own || !here || head.size != cosigned.size {
            return Err(foreign());
        }
        let time = quorum_time(&cosigned.note, set)?;
        if head.size > self.witnessing.size() {
            self.witnessing.take(head.size, time, self.clock.elapsed());
        }
        Ok(())
    }

    /// The newest cosigned head of this boot.
    pub(crate) const fn witnessed(&self) -> Option<Witnessed> {
        self.witnessing.newest()
    }

    /// Nothing is served before the quorum has cosigned a head that holds the entry of this boot: until then this may be a log that
    /// was rolled back (service-protocol rule 1).
    pub(crate) fn begun(&self) -> Result<(), Refused> {
        if self.state.witnesses().is_none() || self.witnessing.size() > self.first {
            return Ok(());
        }
        let why = "the witnesses' quorum has not cosigned a head of this boot yet: start the witnesses, or look after keyd's \
                   connection to them";
        Err(Refused::new(Refusal::Unwitnessed, why))
    }

    /// Checks go on for a while without witnesses, then they stop.
    pub(crate) fn within_grace(&self) -> Result<(), Refused> {
        let Some(set) = self.state.witnesses() else {
            return Ok(());
        };
        if self.witnessing.age(self.clock.elapsed()).is_some_and(|age| age <= set.grace) {
            return Ok(());
        }
        let why = format!(
            "the witnesses' quorum has cosigned no head for more than {} seconds: start the witnesses",
            set.grace
        );
        Err(Refused::new(Refusal::Unwitnessed, why))
    }

    /// Whether the entry cannot be lost any more.
    pub(crate) fn is_safe(&self, index: u64, safe: Safe) -> Result<(), Refused> {
        if index >= self.durable {
            return Err(Refused::new(Refusal::NotDurable, "its log entry is not durable yet"));
        }
        if safe == Safe::Cosigned && self.state.witnesses().is_some() && index >= self.witnessing.size() {
            let why = "the witnesses' quorum has not cosigned its log entry yet";
            return Err(Refused::new(Refusal::Unwitnessed, why));
        }
        Ok(())
    }

    /// How it stands with the witnesses, in a word of the protocol.
    pub(crate) fn witness_word(&self) -> &'static str {
        if self.state.witnesses().is_none() {
            "unwitnessed"
        } else if self.begun().is_err() || self.within_grace().is_err() {
            "waiting"
        } else if self.witnessing.is_lost(self.clock.elapsed()) {
            "grace"
        } else {
            "witnessed"
        }
    }

    /// Whether there is something to collect.
    pub(crate) fn has_news(&self) -> bool {
        !self.pending.is_empty()
    }
}

/// keyd says 32 zero bytes for an empty log.
fn root_or_zero(size: u64, root: &Hash) -> Digest {
    if size == 0 { [0; 32] } else { *root }
}

const NONE: Witnessed = Witnessed { size: 0, time: 0 };

fn system_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
