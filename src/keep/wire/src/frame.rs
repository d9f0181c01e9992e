//! The frames between keyd and the module, and between officers and the module (SPEC.md §Frames).
//!
//! A frame is a u32 big-endian length and that many bytes: one CBOR union of this module. The length is checked before a
//! byte of the body is read; the body is read once into the reader's own memory.

use std::io::{Read, Write};

use crate::batch::{FRAME_RECORDS, Group, RECORD_LEN};
use crate::cbor::{Bytes, Cbor, CborError, Empty, Encoder};
use crate::command::{Digest, Id, PublicKey, Signature};
use crate::error::Refused;
use crate::key::{KeyAttributes, KeyState, KeyVersion, Lineage};

/// A frame's body is at most this long.
pub const FRAME_MAX: usize = 1 << 20;

/// Records bytes in one frame.
pub const RECORD_BYTES_MAX: usize = FRAME_RECORDS * RECORD_LEN;

/// Items in one [`MacItems`] frame.
pub const MAC_ITEMS_MAX: usize = 1024;

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The socket failed or was closed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// Longer than [`FRAME_MAX`].
    #[error("a frame of {0} bytes is longer than the protocol allows")]
    TooLarge(usize),
    /// Not the CBOR that was expected.
    #[error("a frame is not of the protocol: {0}")]
    Cbor(#[from] CborError),
}

/// Length prefix and body of one message.
pub fn to_frame(message: &impl Cbor) -> Vec<u8> {
    let body = message.to_cbor();
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(body);
    frame
}

/// Everything of a [`KeydRequest::BatchRecords`] frame that stands before the records, so that `len` bytes of records
/// need not be copied behind it.
pub fn records_prefix(len: usize) -> Vec<u8> {
    let mut body = Encoder::new();
    body.array(2);
    body.uint(KeydRequest::BATCH_RECORDS);
    body.bytes_head(len);
    let head = body.into_bytes();
    let mut prefix = Vec::with_capacity(4 + head.len());
    prefix.extend(u32::try_from(head.len() + len).unwrap_or(u32::MAX).to_be_bytes());
    prefix.extend(head);
    prefix
}

/// Checks a length prefix.
pub fn body_len(prefix: [u8; 4]) -> Result<usize, FrameError> {
    let len = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if len > FRAME_MAX { Err(FrameError::TooLarge(len)) } else { Ok(len) }
}

/// Writes one message.
pub fn write(to: &mut impl Write, message: &impl Cbor) -> Result<(), FrameError> {
    to.write_all(&to_frame(message))?;
    Ok(to.flush()?)
}

/// Reads one message.
pub fn read<T: Cbor>(from: &mut impl Read) -> Result<T, FrameError> {
    let mut prefix = [0; 4];
    from.read_exact(&mut prefix)?;
    let mut body = vec![0; body_len(prefix)?];
    from.read_exact(&mut body)?;
    Ok(T::from_cbor(&body)?)
}

crate::cbor_code! {
    /// The module's state.
    pub enum ModuleState {
        /// No instance: waits for genesis.
        Uninitialised = 1, "uninitialised";
        /// Waits for m shares.
        Sealed = 2, "sealed";
        /// Has the root, not yet a log that it may stand on.
        Recovering = 3, "recovering";
        /// Serves.
        Operational = 4, "operational";
        /// Wiped by quorum until the next restart.
        Zeroised = 5, "zeroised";
        /// A self-test or health test failed.
        Fault = 6, "fault";
    }
}

crate::cbor_code! {
    /// What a one-time key of the module is for; a box for one purpose does not open under another.
    pub enum Purpose {
        /// Proving the shares of a new set.
        Prove = 1, "prove";
        /// Bringing shares to unseal.
        Unseal = 2, "unseal";
        /// Bringing key components.
        Component = 3, "component";
    }
}

crate::cbor_struct! {
    /// What anyone on a socket may know of the module.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ModuleStatus {
        /// Protocol, 1.
        0 => version: u64,
        /// State.
        1 => state: ModuleState,
        /// Fresh random id of this boot.
        2 => boot: Id,
        /// SHA-256 of the module's program file.
        3 => module: Digest,
        /// `memfd_secret` or `mlock`.
        4 => memory: String,
        /// Cipher backend.
        5 => backend: String,
        /// Boot identity.
        6 => identity: PublicKey,
        /// From here on only once the log is known (Operational).
        7 => instance: Option<InstanceStatus>,
        /// Shares given and needed, while Sealed or proving.
        8 => shares: Option<Progress>,
        /// The newest refusal during unseal or recovery, for the officer who waits.
        9 => trouble: Option<Refused>,
        /// In Recovering: entries replayed so far, where keyd goes on.
        10 => replayed: Option<u64>,
    }
}

crate::cbor_struct! {
    /// What the log says of the instance.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct InstanceStatus {
        /// Service.
        0 => instance: Id,
        /// This module.
        1 => node: Id,
        /// Log origin.
        2 => origin: String,
        /// Rehearsal instance.
        3 => rehearsal: bool,
        /// Entries that the module has made.
        4 => size: u64,
        /// Root at that size.
        5 => root: Digest,
        /// Entries that keyd has acknowledged as durable.
        6 => durable: u64,
        /// Officer-set epoch.
        7 => officer_epoch: u64,
        /// Approved policy.
        8 => policy: Digest,
        /// Approved CA bundle.
        9 => ca: Digest,
        /// Log verifier key (signed-note vkey line without LF).
        10 => vkey: String,
        /// `unwitnessed` until there are witnesses.
        11 => witness: String,
        /// Epoch of the log key, 0 until epochs exist.
        12 => epoch: u64,
    }
}

crate::cbor_struct! {
    /// How many of how many.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Progress {
        /// There.
        0 => have: u64,
        /// Needed.
        1 => need: u64,
    }
}

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
        /// [`crate::batch::Profile`] of the records.
        1 => profile: crate::batch::Profile,
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
        3 => profile: crate::batch::Profile,
        /// The record; its group number is ignored.
        4 => record: [u8; RECORD_LEN],
    }
}

crate::cbor_struct! {
    /// Single checks of one commit window, at most [`MAC_ITEMS_MAX`].
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
    }
}

impl KeydRequest {
    /// Tag of [`Self::BatchRecords`].
    const BATCH_RECORDS: u64 = 7;
}

crate::cbor_struct! {
    /// What a client may know of a key: its attributes and state.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct KeyInfo {
        /// Fixed attributes.
        0 => attributes: KeyAttributes,
        /// State.
        1 => state: KeyState,
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
        2 => profile: crate::batch::Profile,
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
        /// No.
        15 => Refused(Refused),
    }
}

crate::cbor_struct! {
    /// Asks for the module's one-time key of a purpose.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Hello {
        /// What for.
        0 => purpose: Purpose,
    }
}

crate::cbor_struct! {
    /// A one-time key, signed by the boot identity.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct OneTimeKey {
        /// What it is for.
        0 => purpose: Purpose,
        /// This boot.
        1 => boot: Id,
        /// SHA-256 of the module's program file.
        2 => module: Digest,
        /// The key.
        3 => key: PublicKey,
        /// The boot identity that signs.
        4 => identity: PublicKey,
        /// ECDSA P-256 over SHA-256([`one_time_bytes`]).
        5 => signature: Signature,
    }
}

/// What the boot identity signs: "citykeep one-time key v1" ‖ 0 ‖ purpose ‖ boot ‖ module ‖ key.
pub fn one_time_bytes(purpose: Purpose, boot: &Id, module: &Digest, key: &PublicKey) -> Vec<u8> {
    let domain: &[u8] = b"citykeep one-time key v1\0";
    [domain, &[purpose as u8], boot, module, key].concat()
}

crate::cbor_struct! {
    /// A sealed box and whose it is.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SealedShare {
        /// The share set's certificate (canonical bytes); the same at every share.
        0 => certificate: Bytes,
        /// x coordinate.
        1 => index: u64,
        /// Sealed box of the share's canonical bytes, context [`share_in_context`].
        2 => sealed: Bytes,
    }
}

crate::cbor_struct! {
    /// One component of a pending import.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SealedComponent {
        /// The import command's id.
        0 => command: Id,
        /// Who enters it.
        1 => custodian: String,
        /// Sealed box of the 16 component bytes, context [`component_context`].
        2 => sealed: Bytes,
    }
}

/// Context of a share's box on its way out: "share-out" ‖ 0 ‖ set ‖ index.
pub fn share_out_context(set: &Id, index: u64) -> Vec<u8> {
    [b"share-out\0".as_slice(), set, &index.to_be_bytes()].concat()
}

/// Context of a share's box on its way in: "share-in" ‖ 0 ‖ purpose ‖ boot ‖ set ‖ index.
pub fn share_in_context(purpose: Purpose, boot: &Id, set: &Id, index: u64) -> Vec<u8> {
    [b"share-in\0".as_slice(), &[purpose as u8], boot, set, &index.to_be_bytes()].concat()
}

/// Context of a component's box: "component" ‖ 0 ‖ boot ‖ command id ‖ custodian.
pub fn component_context(boot: &Id, command: &Id, custodian: &str) -> Vec<u8> {
    [b"component\0".as_slice(), boot, command, custodian.as_bytes()].concat()
}

crate::cbor_union! {
    /// What officers and custodians ask.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum OfficerRequest {
        /// → `Status`.
        1 => Status(Empty),
        /// → `OneTimeKey`.
        2 => Hello(Hello),
        /// Signed genesis command → `GenesisShares`.
        3 => Genesis(Bytes),
        /// A share of the new set comes back → `Progress`.
        4 => Prove(SealedShare),
        /// All shares proved: the instance exists from here on → `GenesisDone`, once durable.
        5 => GenesisFinish(Empty),
        /// → `Progress`.
        6 => Unseal(SealedShare),
        /// Signed floor command → `Done`.
        7 => Floor(Bytes),
        /// Signed command → `CommandDone`, once durable.
        8 => Command(Bytes),
        /// → `CommandDone`; with the last component once durable.
        9 => Component(SealedComponent),
        /// Gives up the genesis or import in progress → `Done`.
        10 => Abort(Empty),
    }
}

crate::cbor_struct! {
    /// The new root's shares, each for its custodian only.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct GenesisShares {
        /// [`crate::share::ShareCertificate`] bytes.
        0 => certificate: Bytes,
        /// Sealed boxes in the order of the slots, context [`share_out_context`].
        1 => shares: Vec<Bytes>,
    }
}

crate::cbor_struct! {
    /// The instance exists.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct GenesisDone {
        /// Log verifier key line.
        0 => vkey: String,
        /// Index of the genesis entry, 0.
        1 => index: u64,
        /// How many share sets of m were combined and found equal.
        2 => combinations: u64,
    }
}

crate::cbor_union! {
    /// What the module answers on the officers' socket.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum OfficerResponse {
        /// State.
        1 => Status(ModuleStatus),
        /// One-time key.
        2 => OneTimeKey(OneTimeKey),
        /// Nothing to say.
        3 => Done(Empty),
        /// Shares of the new root.
        4 => GenesisShares(GenesisShares),
        /// How far.
        5 => Progress(Progress),
        /// The instance exists.
        6 => GenesisDone(GenesisDone),
        /// A command's outcome.
        7 => CommandDone(CommandDone),
        /// No.
        15 => Refused(Refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip_and_are_bounded() {
        let message = KeydRequest::Collect(Collect { durable: 7, root: [3; 32] });
        let mut frame = to_frame(&message);
        assert_eq!(read::<KeydRequest>(&mut frame.as_slice()).unwrap(), message);
        frame.truncate(frame.len() - 1);
        assert!(matches!(read::<KeydRequest>(&mut frame.as_slice()), Err(FrameError::Io(_))));
        let huge = [0xff, 0xff, 0xff, 0xff];
        assert!(matches!(read::<KeydRequest>(&mut huge.as_slice()), Err(FrameError::TooLarge(_))));
        let unknown = [0, 0, 0, 3, 0x82, 0x18, 0x63];
        assert!(matches!(read::<KeydRequest>(&mut unknown.as_slice()), Err(FrameError::Cbor(_))));
    }

    #[test]
    fn a_records_frame_can_be_sent_in_two_parts() {
        for len in [0, 40, 920, 65_560, RECORD_BYTES_MAX] {
            let records = vec![7; len];
            let parts = [records_prefix(len), records.clone()].concat();
            assert_eq!(parts, to_frame(&KeydRequest::BatchRecords(Bytes(records))), "{len}");
        }
    }

    #[test]
    fn a_full_records_frame_fits() {
        let message = KeydRequest::BatchRecords(Bytes(vec![0; RECORD_BYTES_MAX]));
        assert!(to_frame(&message).len() <= FRAME_MAX);
    }
}
