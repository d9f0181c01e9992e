//! The log entry: deterministic CBOR, closed schema (SPEC.md §Entry). One entry is one leaf.

mod upkeep;

use wire::batch::Profile;
use wire::cbor::Bytes;
use wire::command::{Digest, Id};
use wire::error::Refusal;
use wire::frame::{Assertion, Counts, KeyForm, VersionCounts};
use wire::key::{KeyAttributes, KeyId, Lineage};
use wire::list::ListKind;

pub use upkeep::{ClosedEvent, EpochEvent, HeartbeatEvent, IntentEvent, TruncatedEvent, WitnessEvent};

/// An entry is at most this long (tlog-tiles: a u16 length).
pub const ENTRY_MAX: usize = 65_535;

/// Wrong pairs that one entry carries at most, so that it stays below [`ENTRY_MAX`] with everything else it holds.
pub const PAIRS_MAX: usize = 2_000;

/// Bytes of one wrong pair: card tag 8, pair tag 8.
pub const PAIR_LEN: usize = 16;

wire::cbor_struct! {
    /// One leaf of the log, made by the module.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Entry {
        /// Format, 1.
        0 => version: u64,
        /// Leaf index.
        1 => seq: u64,
        /// The module that made it.
        2 => node: Id,
        /// Its boot.
        3 => boot: Id,
        /// Epoch of the log key; 0 before epochs existed.
        4 => epoch: u64,
        /// The module's wall clock, nanoseconds since 1970; may go back, nothing is ordered by it.
        5 => wall_ns: u64,
        /// Nanoseconds since this boot; never goes back.
        6 => mono_ns: u64,
        /// Random bytes, so that a leaf hash tells nothing of a guessable entry.
        7 => salt: Id,
        /// [`crate::state::LogState::root`] after this entry.
        8 => state_root: Digest,
        /// What happened.
        9 => event: Event,
    }
}

wire::cbor_union! {
    /// What happened.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum Event {
        /// The instance was made.
        1 => Genesis(GenesisEvent),
        /// The module came back after a restart.
        2 => Boot(BootEvent),
        /// A quorum command was carried out.
        3 => Command(CommandEvent),
        /// A custodian entered a component, or tried to.
        4 => Component(ComponentEvent),
        /// Part of a batch was checked.
        5 => Batch(BatchEvent),
        /// Single checks of one commit window.
        6 => Single(SingleEvent),
        /// Wrong pairs that did not fit into the batch entry that follows.
        7 => Failures(FailuresEvent),
        /// Only keyd saw it: asserted, not known by the module.
        8 => Asserted(Assertion),
        /// The module refused.
        9 => Denied(DeniedEvent),
        /// Card keys were derived under a licence: this entry is their count.
        10 => Issued(IssuedEvent),
        /// A list was signed.
        11 => List(ListEvent),
        /// A load was authorised.
        12 => Load(LoadEvent),
        /// A command or answer for one card was made.
        13 => Script(ScriptEvent),
        /// An epoch ends, and this entry with it.
        14 => Epoch(EpochEvent),
        /// The module is alive.
        15 => Heartbeat(HeartbeatEvent),
        /// The quorum of witnesses was lost, or is there again.
        16 => Witness(WitnessEvent),
        /// A quorum command is about to be carried out.
        17 => Intent(IntentEvent),
        /// It was not.
        18 => Closed(ClosedEvent),
        /// keyd cut a torn tail off its log.
        19 => Truncated(TruncatedEvent),
    }
}

wire::cbor_struct! {
    /// Genesis: the first entry of every log.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct GenesisEvent {
        /// Signed genesis command.
        0 => command: Bytes,
        /// Share certificate bytes.
        1 => certificate: Bytes,
        /// Ed25519 log key.
        2 => log_key: [u8; 32],
        /// SHA-256 of the module's program file.
        3 => module: Digest,
        /// Memory mode.
        4 => memory: String,
        /// Ed25519 key of the first epoch; absent in logs from before epochs.
        5 => epoch_key: Option<[u8; 32]>,
    }
}

wire::cbor_struct! {
    /// The module came back: unsealed by shares, floored by officers, replayed to its own head.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct BootEvent {
        /// Signed floor command.
        0 => floor: Bytes,
        /// SHA-256 of the module's program file.
        1 => module: Digest,
        /// Memory mode.
        2 => memory: String,
        /// Ed25519 key of the epoch that this entry begins; the floor certifies it.
        3 => epoch_key: Option<[u8; 32]>,
    }
}

wire::cbor_struct! {
    /// A key that a command made.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct KeyMade {
        /// Attributes with the true check value.
        0 => attributes: KeyAttributes,
        /// Sequence number of the sealed record.
        1 => sequence: u64,
        /// SHA-256 of the sealed record.
        2 => digest: Digest,
        /// Keyed fingerprint of the key bytes: the same bytes are refused under another name.
        3 => fingerprint: Id,
        /// Public half of a signing key, SEC 1 uncompressed.
        4 => public: Option<Bytes>,
    }
}

wire::cbor_struct! {
    /// A command and what came of it.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct CommandEvent {
        /// Signed command.
        0 => command: Bytes,
        /// For generate and import.
        1 => made: Option<KeyMade>,
        /// For the reset of a card's budget: the card's tag.
        2 => card: Option<[u8; 8]>,
    }
}

wire::cbor_struct! {
    /// A component of a pending import.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ComponentEvent {
        /// The import command.
        0 => command: Id,
        /// Who.
        1 => custodian: String,
        /// Why it was refused; absent when it was accepted.
        2 => refused: Option<Refusal>,
    }
}

wire::cbor_struct! {
    /// New wrong pairs of one key version.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct WrongPairs {
        /// The key version.
        0 => key: KeyId,
        /// Card tag 8 ‖ pair tag 8, each.
        1 => pairs: Bytes,
    }
}

wire::cbor_struct! {
    /// A whole batch, in its last entry.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct BatchTotal {
        /// Records.
        0 => records: u64,
        /// Tree root over header, records and verdicts.
        1 => root: Digest,
        /// All counts.
        2 => counts: Counts,
        /// Counts by key version.
        3 => versions: Vec<VersionCounts>,
    }
}

wire::cbor_struct! {
    /// At most 65,536 records of a batch.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct BatchEvent {
        /// The batch.
        0 => batch: Id,
        /// Client, as keyd asserted it.
        1 => client: String,
        /// Kind of the records.
        2 => profile: Profile,
        /// The key.
        3 => lineage: Lineage,
        /// Number of this part, from 0.
        4 => part: u64,
        /// Records in this part.
        5 => records: u64,
        /// Top of the tree over this part's leaves.
        6 => top: Digest,
        /// Counts of this part.
        7 => counts: Counts,
        /// Counts of this part by key version.
        8 => versions: Vec<VersionCounts>,
        /// New wrong pairs.
        9 => wrong: Vec<WrongPairs>,
        /// The whole batch; absent in all parts but the last, and in a batch that was cut off.
        10 => total: Option<BatchTotal>,
        /// The connection ended before the batch was closed.
        11 => aborted: bool,
    }
}

wire::cbor_struct! {
    /// One client's single checks with one key version.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SingleRow {
        /// Client, as keyd asserted it.
        0 => client: String,
        /// The key.
        1 => lineage: Lineage,
        /// Counts by version.
        2 => versions: Vec<VersionCounts>,
    }
}

wire::cbor_struct! {
    /// Single checks of one commit window.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SingleEvent {
        /// Top of the batch tree over the window's records and verdicts, in order.
        0 => top: Digest,
        /// A row per client and key.
        1 => rows: Vec<SingleRow>,
        /// New wrong pairs.
        2 => wrong: Vec<WrongPairs>,
    }
}

wire::cbor_struct! {
    /// Wrong pairs on their own.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct FailuresEvent {
        /// The pairs.
        0 => wrong: Vec<WrongPairs>,
    }
}

wire::cbor_struct! {
    /// The module refused something.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct DeniedEvent {
        /// Why.
        0 => code: Refusal,
        /// `keyd` or `officers`: the socket.
        1 => socket: String,
        /// Tag of the request, 0 if it could not be read.
        2 => request: u64,
        /// How many of the same in a row.
        3 => count: u64,
    }
}

wire::cbor_struct! {
    /// One card that keys were derived for.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct IssuedCard {
        /// Its place in the licence's range.
        0 => offset: u64,
        /// The factor that its chip gave, if the profile has such a step.
        1 => chip: Option<[u8; 8]>,
    }
}

wire::cbor_struct! {
    /// Card keys under a licence. A card that the licence has named before is not counted again.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct IssuedEvent {
        /// The licence.
        0 => licence: Id,
        /// The line, as keyd asserted it; it is the licence's.
        1 => client: String,
        /// How the keys left.
        2 => form: KeyForm,
        /// The roles.
        3 => roles: Vec<String>,
        /// The cards, in the order of the request.
        4 => cards: Vec<IssuedCard>,
        /// Different cards under the licence after this entry.
        5 => issued: u64,
        /// SHA-256 over serial ‖ KCVs, card by card.
        6 => digest: Digest,
    }
}

wire::cbor_struct! {
    /// A list was signed.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ListEvent {
        /// Client, as keyd asserted it.
        0 => client: String,
        /// Wall.
        1 => wall: String,
        /// Epoch.
        2 => epoch: u64,
        /// Full or delta.
        3 => kind: ListKind,
        /// SHA-256 of the body as the client sent it.
        4 => body: Digest,
        /// SHA-256 of the whole signed file.
        5 => digest: Digest,
        /// SHA-256 of the body of the full list now in force.
        6 => effective: Digest,
        /// Cards by their own entries, in force.
        7 => singles: u64,
        /// Ranges in force.
        8 => ranges: u64,
        /// Cards that left the list, counted up to one above the limit.
        9 => removed: u64,
        /// The keys that signed.
        10 => keys: Vec<KeyId>,
        /// Signed again: the same body at the same epoch.
        11 => again: bool,
    }
}

wire::cbor_struct! {
    /// A load was authorised.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct LoadEvent {
        /// Client, as keyd asserted it.
        0 => client: String,
        /// The load master.
        1 => key: KeyId,
        /// Tag of the card in its wall.
        2 => card: [u8; 8],
        /// The card's online counter.
        3 => counter: u64,
        /// Fen.
        4 => amount: u64,
        /// The ledger's token key.
        5 => signer: String,
        /// First 16 bytes of SHA-256 over everything that was asked: only the same question has the same answer.
        6 => question: Id,
        /// The same answer as before.
        7 => again: bool,
        /// The entry of the load at this counter that the ledger has resolved as not credited, and that this one stands for.
        8 => replaces: Option<u64>,
    }
}

wire::cbor_code! {
    /// What was made for a card.
    pub enum ScriptKind {
        /// UPDATE BINARY.
        UpdateBinary = 1, "update-binary";
        /// UPDATE RECORD.
        UpdateRecord = 2, "update-record";
        /// APPLICATION BLOCK.
        BlockApplication = 3, "block-application";
        /// APPLICATION UNBLOCK.
        UnblockApplication = 4, "unblock-application";
        /// CARD BLOCK.
        BlockCard = 5, "block-card";
        /// RELOAD PIN.
        ReloadPin = 6, "reload-pin";
        /// EXTERNAL AUTHENTICATE.
        Authenticate = 7, "authenticate";
    }
}

wire::cbor_struct! {
    /// A command or answer for one card was made.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ScriptEvent {
        /// Client, as keyd asserted it.
        0 => client: String,
        /// The master.
        1 => key: KeyId,
        /// Tag of the card in its wall.
        2 => card: [u8; 8],
        /// What.
        3 => kind: ScriptKind,
    }
}

impl Event {
    /// The kind's name, for people and filters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Genesis(_) => "genesis",
            Self::Boot(_) => "boot",
            Self::Command(_) => "command",
            Self::Component(_) => "component",
            Self::Batch(_) => "batch",
            Self::Single(_) => "single",
            Self::Failures(_) => "failures",
            Self::Asserted(_) => "asserted",
            Self::Denied(_) => "denied",
            Self::Issued(_) => "issued",
            Self::List(_) => "list",
            Self::Load(_) => "load",
            Self::Script(_) => "script",
            Self::Epoch(_) => "epoch",
            Self::Heartbeat(_) => "heartbeat",
            Self::Witness(_) => "witness",
            Self::Intent(_) => "intent",
            Self::Closed(_) => "closed",
            Self::Truncated(_) => "truncated",
        }
    }
}
