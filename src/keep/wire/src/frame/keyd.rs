//! What keyd asks of the module, and what it is answered.

use super::{
    Authenticate, CardKeys, Cosigned, LicenceInfo, LicenceQuery, ListBytes, ListSign, LoadAuthorize,
    ModuleStatus, Prepared, Progress, Script, TornTail,
};
use crate::batch::{Group, Profile, RECORD_LEN};
use crate::cbor::{Bytes, Empty};
use crate::command::{Digest, Id};
use crate::error::Refused;
use crate::key::{KeyAttributes, KeyState, KeyVersion, Lineage};

crate::cbor_struct! {
    /// keyd says what is durable and asks for what is new. Waits up to half a second for something new.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Collect {
        /// Entries durable at keyd.
        0 => durable: u64,
        /// Root at that size; 32 zero bytes for size 0.
        1 => root: Digest,
    }
}

crate::cbor_struct! {
    /// A sealed record to store before the entry that names it.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct StoredRecord {
        /// Record id, a key id's text.
        0 => id: String,
        /// Sealed record bytes.
        1 => bytes: Bytes,
    }
}

crate::cbor_struct! {
    /// Entries `first ..`, the records that they need, and a head over all of them. Empty if nothing is new.
    #[derive(Clone, Debug, Default, Eq, PartialEq)]
    pub struct Collected {
        /// Index of the first entry.
        0 => first: u64,
        /// Entries.
        1 => entries: Vec<Bytes>,
        /// Records to store first.
        2 => records: Vec<StoredRecord>,
        /// Checkpoint as a signed note; empty if nothing is new.
        3 => checkpoint: String,
        /// Root of that checkpoint.
        4 => root: Digest,
    }
}

crate::cbor_code! {
    /// What kind of happening keyd asserts.
    pub enum Category {
        /// A connection or login.
        Access = 1, "access";
        /// A refused request.
        Deny = 2, "deny";
        /// Start, stop, reload, disk space.
        Operation = 3, "operation";
    }
}

crate::cbor_struct! {
    /// A happening that only keyd saw. hsm logs it as asserted by keyd.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Assertion {
        /// Kind.
        0 => category: Category,
        /// Stable reason code.
        1 => code: String,
        /// SPIFFE id of the client, if one was proven.
        2 => client: Option<String>,
        /// First 8 bytes of SHA-256 of the certificate's SPKI, if one was shown.
        3 => certificate: Option<[u8; 8]>,
        /// How many of the same within the same second.
        4 => count: u64,
    }
}

crate::cbor_struct! {
    /// Assertions, at most 256.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Assertions {
        /// The happenings.
        0 => items: Vec<Assertion>,
    }
}

crate::cbor_struct! {
    /// Opens this connection's batch.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct BatchOpen {
        /// SPIFFE id of the client, as keyd asserts it.
        0 => client: String,
        /// [`Profile`] of the records.
        1 => profile: Profile,
        /// The key.
        2 => lineage: Lineage,
    }
}

crate::cbor_struct! {
    /// More rows of the open batch's group table, before the records that use them.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct BatchGroups {
        /// Rows to append.
        0 => groups: Vec<Group>,
    }
}

crate::cbor_struct! {
    /// A number.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Ticket {
        /// Log index of the entry that the result waits for.
        0 => ticket: u64,
    }
}

crate::cbor_struct! {
    /// One single check.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct MacItem {
        /// SPIFFE id of the client, as keyd asserts it.
        0 => client: String,
        /// The key.
        1 => lineage: Lineage,
        /// Version and issuer.
        2 => group: Group,
        /// Kind of the record.
        3 => profile: Profile,
        /// The record; its group number is ignored.
        4 => record: [u8; RECORD_LEN],
    }
}

crate::cbor_struct! {
    /// Single checks of one commit window, at most [`super::MAC_ITEMS_MAX`].
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct MacItems {
        /// The checks.
        0 => items: Vec<MacItem>,
    }
}

crate::cbor_struct! {
    /// Verdict bytes of a [`MacItems`], and the entry that covers them.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct MacVerdicts {
        /// One [`crate::batch::Verdict`] byte per item.
        0 => verdicts: Bytes,
        /// Log index: keyd answers when it is durable.
        1 => ticket: u64,
    }
}

crate::cbor_struct! {
    /// Log entries from keyd's copy, in order.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Replay {
        /// Index of the first.
        0 => first: u64,
        /// Entries.
        1 => entries: Vec<Bytes>,
    }
}

crate::cbor_struct! {
    /// Sealed records from keyd's store.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Records {
        /// The records.
        0 => records: Vec<Bytes>,
    }
}

crate::cbor_struct! {
    /// The head that the replayed entries lead to.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ReplayEnd {
        /// Checkpoint as a signed note.
        0 => checkpoint: String,
    }
}

crate::cbor_union! {
    /// What keyd asks.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum KeydRequest {
        /// → `Status`.
        1 => Status(Empty),
        /// → `Collected`.
        2 => Collect(Collect),
        /// → `Ticket`.
        3 => Assert(Assertions),
        /// → `Keys`.
        4 => Keys(Empty),
        /// → `BatchOpened`.
        5 => BatchOpen(BatchOpen),
        /// → `Done`.
        6 => BatchGroups(BatchGroups),
        /// Record bytes, 1 to 8192 records → `Verdicts`.
        7 => BatchRecords(Bytes),
        /// → `Ticket`.
        8 => BatchClose(Empty),
        /// → `Released`.
        9 => Release(Ticket),
        /// → `MacVerdicts`.
        10 => MacVerify(MacItems),
        /// → `Done`.
        11 => Replay(Replay),
        /// → `Done`.
        12 => Records(Records),
        /// → `Done`.
        13 => ReplayEnd(ReplayEnd),
        /// Signed command → `CommandDone`, once durable as `Release` shows.
        14 => Command(Bytes),
        /// → `Ticket`.
        15 => CardKeys(CardKeys),
        /// → `Licence`.
        16 => Licence(LicenceQuery),
        /// → `Done`.
        17 => ListBytes(ListBytes),
        /// → `Ticket`.
        18 => ListSign(ListSign),
        /// → `Ticket`.
        19 => LoadAuthorize(LoadAuthorize),
        /// → `Ticket`.
        20 => Script(Script),
        /// → `Ticket`.
        21 => Authenticate(Authenticate),
        /// → `Prepared`.
        22 => Fetch(Ticket),
        /// → `Done`.
        23 => Cosigned(Cosigned),
        /// → `Ticket`.
        26 => Truncated(TornTail),
    }
}

impl KeydRequest {
    /// Tag of [`Self::BatchRecords`].
    pub(super) const BATCH_RECORDS: u64 = 7;
}

crate::cbor_struct! {
    /// What a client may know of a key: its attributes and state.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct KeyInfo {
        /// Fixed attributes.
        0 => attributes: KeyAttributes,
        /// State.
        1 => state: KeyState,
        /// Public half of a signing key, SEC 1 uncompressed.
        2 => public: Option<Bytes>,
    }
}

crate::cbor_struct! {
    /// All key versions.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Keys {
        /// In the order of their ids.
        0 => keys: Vec<KeyInfo>,
    }
}

crate::cbor_struct! {
    /// The batch is open on this connection.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct BatchOpened {
        /// Its id.
        0 => batch: Id,
    }
}

crate::cbor_struct! {
    /// Count of one verdict row.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct Counts {
        /// `ok`.
        0 => ok: u64,
        /// `bad_tac`.
        1 => bad_tac: u64,
        /// `unknown_key`.
        2 => unknown_key: u64,
        /// `malformed`.
        3 => malformed: u64,
        /// `withheld`.
        4 => withheld: u64,
    }
}

impl Counts {
    /// Counts one verdict.
    pub fn add(&mut self, verdict: crate::batch::Verdict) {
        use crate::batch::Verdict as V;
        *match verdict {
            V::Ok => &mut self.ok,
            V::BadTac => &mut self.bad_tac,
            V::UnknownKey => &mut self.unknown_key,
            V::Malformed => &mut self.malformed,
            V::Withheld => &mut self.withheld,
        } += 1;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.ok + self.bad_tac + self.unknown_key + self.malformed + self.withheld
    }

    /// Adds another row to this one.
    pub fn merge(&mut self, other: &Self) {
        self.ok += other.ok;
        self.bad_tac += other.bad_tac;
        self.unknown_key += other.unknown_key;
        self.malformed += other.malformed;
        self.withheld += other.withheld;
    }
}

crate::cbor_struct! {
    /// Counts of one key version.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct VersionCounts {
        /// The version.
        0 => version: KeyVersion,
        /// Its counts.
        1 => counts: Counts,
    }
}

crate::cbor_struct! {
    /// The result of a closed batch, released when its last entry is durable.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct BatchResult {
        /// The batch.
        0 => batch: Id,
        /// SPIFFE id of the client, as keyd asserted it.
        1 => client: String,
        /// Kind of the records.
        2 => profile: Profile,
        /// The key.
        3 => lineage: Lineage,
        /// Records.
        4 => records: u64,
        /// Tree root over header, records and verdicts.
        5 => root: Digest,
        /// All counts.
        6 => counts: Counts,
        /// Counts by key version, ascending; malformed records have none.
        7 => versions: Vec<VersionCounts>,
        /// Log indices of the batch's entries, ascending; the last one carries the total.
        8 => indices: Vec<u64>,
    }
}

crate::cbor_struct! {
    /// A quorum command was carried out.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct CommandDone {
        /// Log index of its entry, if it has one already.
        0 => index: Option<u64>,
        /// Key check value, for a generated or imported key.
        1 => kcv: Option<[u8; 3]>,
        /// Components still needed, for an import.
        2 => components: Option<Progress>,
    }
}

crate::cbor_union! {
    /// What the module answers on keyd's socket.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum KeydResponse {
        /// State.
        1 => Status(ModuleStatus),
        /// New entries.
        2 => Collected(Collected),
        /// Nothing to say.
        3 => Done(Empty),
        /// Keys.
        4 => Keys(Keys),
        /// Batch id.
        5 => BatchOpened(BatchOpened),
        /// One verdict byte per record: provisional until the receipt.
        6 => Verdicts(Bytes),
        /// The log index that a result waits for.
        7 => Ticket(Ticket),
        /// The result.
        8 => Released(BatchResult),
        /// Verdicts of single checks.
        9 => MacVerdicts(MacVerdicts),
        /// A command's outcome.
        10 => CommandDone(CommandDone),
        /// A licence.
        11 => Licence(LicenceInfo),
        /// What waited under a ticket.
        12 => Prepared(Prepared),
        /// No.
        15 => Refused(Refused),
    }
}
