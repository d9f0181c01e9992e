//! What keyd and the module say of the log itself: cosignatures, a tail that was cut.

use crate::command::Digest;

crate::cbor_struct! {
    /// A head of this boot with the witnesses' lines.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Cosigned {
        /// Its size.
        0 => size: u64,
        /// The signed note with cosignature lines.
        1 => note: String,
    }
}

crate::cbor_struct! {
    /// Bytes that keyd cut off its write-ahead log when it opened it: they were never acknowledged.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct TornTail {
        /// How many.
        0 => bytes: u64,
        /// SHA-256 of them.
        1 => digest: Digest,
    }
}

crate::cbor_struct! {
    /// A cosigned head.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Witnessed {
        /// Its size.
        0 => size: u64,
        /// When, Unix seconds: k of the witnesses say this or later.
        1 => time: u64,
    }
}
