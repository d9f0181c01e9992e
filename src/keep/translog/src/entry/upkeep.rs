//! Entries that the log makes about itself and about what is under way.

use wire::command::{Digest, Id};

wire::cbor_struct! {
    /// The end of an epoch of the log key. The closing key signs the next one, and the tree up to here, so that a closed
    /// epoch is locked by a key that no longer exists.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct EpochEvent {
        /// The epoch that begins after this entry.
        0 => number: u64,
        /// Its Ed25519 key.
        1 => key: [u8; 32],
        /// Entries before this one: its index.
        2 => size: u64,
        /// Root over them.
        3 => root: Digest,
        /// By the closing epoch's key over [`crate::epoch::turn_bytes`].
        4 => signature: [u8; 64],
    }
}

wire::cbor_struct! {
    /// Nothing else happened for a while, or an epoch is about to end.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct HeartbeatEvent {
        /// Size of the newest head of this boot that the witnesses' quorum cosigned; 0 for none.
        0 => witnessed: u64,
        /// When, Unix seconds; 0 for none.
        1 => time: u64,
    }
}

wire::cbor_struct! {
    /// The quorum of witnesses is lost or there again.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct WitnessEvent {
        /// 1 lost, 2 regained.
        0 => change: u64,
        /// Size of the newest cosigned head.
        1 => size: u64,
        /// When it was cosigned, Unix seconds.
        2 => time: u64,
    }
}

wire::cbor_struct! {
    /// An approved command, before anything is done about it.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct IntentEvent {
        /// The command's id.
        0 => command: Id,
        /// SHA-256 of the signed command.
        1 => digest: Digest,
        /// Tag of its action.
        2 => action: u64,
    }
}

wire::cbor_struct! {
    /// An intent that came to nothing.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct ClosedEvent {
        /// Index of the intent's entry.
        0 => intent: u64,
        /// Refusal code, or 0: the boot that it was made in is over.
        1 => reason: u64,
    }
}

wire::cbor_struct! {
    /// Bytes that keyd cut off its write-ahead log: they were never acknowledged. Asserted by keyd.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct TruncatedEvent {
        /// How many.
        0 => bytes: u64,
        /// SHA-256 of them.
        1 => digest: Digest,
    }
}
