//! The module's hand in the log: it makes every entry, assigns its index, signs every head, and gives results out only
//! when keyd has acknowledged that head as durable (service-protocol rules 2, 3, 7).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime};

use ed25519_dalek::SigningKey;
use securemem::Secret;
use translog::entry::{ENTRY_MAX, Entry, Event};
use translog::note::{Checkpoint, VerifierKey, sign_checkpoint};
use translog::state::LogState;
use translog::tree::{Frontier, Hash, leaf_hash};
use wire::cbor::{Bytes, Cbor};
use wire::command::{Digest, Id};
use wire::error::{Refusal, Refused};
use wire::frame::{Collect, Collected, StoredRecord};

use crate::random::Random;

/// Entries that wait for keyd at most; above it the module refuses work instead of growing.
const PENDING_MAX: usize = 65_536;

/// … or bytes of them.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// Bytes of entries and records in one answer to keyd, well below a frame.
const COLLECT_BYTES: usize = 700 * 1024;

/// Heads that keyd may still acknowledge.
const HEADS_MAX: usize = 1024;

/// The log from the module's side.
#[derive(Debug)]
pub(crate) struct Log {
    state: LogState,
    frontier: Frontier,
    node: Id,
    boot: Id,
    origin: String,
    seed: Secret,
    started: Instant,
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
}

impl Log {
    /// A log at the end of `state`, all of which is durable.
    pub(crate) fn new(
        state: LogState,
        frontier: Frontier,
        origin: String,
        node: Id,
        boot: Id,
        seed: Secret,
        started: Instant,
    ) -> Self {
        let (durable, durable_root) = (frontier.size(), frontier.root());
        let (pending, heads) = (VecDeque::new(), BTreeMap::new());
        Self {
            state,
            frontier,
            node,
            boot,
            origin,
            seed,
            started,
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
        VerifierKey::new(&self.origin, self.signer().verifying_key().to_bytes())
    }

    fn signer(&self) -> SigningKey {
        // The expanded key lives on the caller's stack, which is secret memory, and erases itself.
        self.seed.with(|seed| SigningKey::from_bytes(&seed.first_chunk().copied().unwrap_or_default()))
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
        (wall_ns() / 1_000_000_000).max(self.state.clock())
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
            node: self.node,
            boot: self.boot,
            epoch: 0,
            wall_ns: wall_ns(),
            mono_ns: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
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
        let advanced = self.state.advance(&entry.event, self.boot, self.node, [entry.wall_ns, entry.mono_ns]);
        entry.state_root = advanced.map_err(|error| forbidden(&error))?;
        let bytes = entry.to_cbor();
        self.frontier.push(leaf_hash(&bytes));
        self.pending_bytes += bytes.len();
        self.pending.push_back(Pending { entry: bytes, frontier: self.frontier.clone(), record });
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
        Ok(true)
    }

    /// What keyd has to make durable next, with a signed head over it.
    pub(crate) fn collect(&mut self) -> Collected {
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
        }
        if let Some(head) = head {
            let checkpoint = Checkpoint { origin: self.origin.clone(), size: head.size(), root: head.root() };
            collected.root = checkpoint.root;
            collected.checkpoint = sign_checkpoint(&checkpoint, &self.signer());
            self.heads.insert(checkpoint.size, checkpoint.root);
            while self.heads.len() > HEADS_MAX {
                self.heads.pop_first();
            }
        }
        collected
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

fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
