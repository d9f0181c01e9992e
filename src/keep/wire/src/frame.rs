//! The frames between keyd and the module, and between officers and the module (SPEC.md §Frames).
//!
//! A frame is a u32 big-endian length and that many bytes: one CBOR union of this module. The length is checked before a
//! byte of the body is read; the body is read once into the reader's own memory.

mod calls;
mod keyd;
mod log;
mod officers;

use std::io::{Read, Write};

use crate::batch::{FRAME_RECORDS, RECORD_LEN};
use crate::cbor::{Cbor, CborError, Encoder};
use crate::command::{Digest, Id, PublicKey};
use crate::error::Refused;

pub use calls::*;
pub use keyd::*;
pub use log::*;
pub use officers::*;

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
        /// In Recovering and Operational: Ed25519 key of the log's present epoch, which officers certify with their floor.
        11 => epoch_key: Option<[u8; 32]>,
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
        /// `unwitnessed`: there are no witnesses; `witnessed`: the quorum keeps up; `waiting`: no head of this boot is
        /// cosigned yet, or the grace is over; `grace`: the newest cosigned head is old, and checks go on until the grace is over.
        11 => witness: String,
        /// Epoch of the log key; 0 in a log from before epochs.
        12 => epoch: u64,
        /// The newest head of this boot that the quorum cosigned.
        13 => witnessed: Option<Witnessed>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::Bytes;

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
