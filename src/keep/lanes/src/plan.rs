//! What a bulk call computes: the plan that all its lanes share, and where its results go.

use core::{error, fmt};

/// What all lanes of one [`crate::diversified_mac`] call share.
#[expect(missing_debug_implementations, reason = "it borrows key bytes; nothing may print them")]
#[expect(clippy::exhaustive_structs, reason = "callers build it")]
pub struct Plan<'a> {
    /// Cipher of the derivation, and the MAC.
    pub rule: MacRule,
    /// The key that the steps start from; with no steps it is the card key of every lane.
    pub top: &'a [u8; 16],
    /// Derivation steps, top first, 0 to [`crate::STEPS_MAX`]. Shared steps at the front cost each lane anew: take them out
    /// with [`crate::diversify`].
    pub steps: &'a [Step],
    /// Bytes of each message that count, 0 to [`crate::MESSAGE_MAX`].
    pub message_len: usize,
}

/// Where a derivation step gets its factor from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a backend handles each case")]
pub enum Step {
    /// Each lane its own.
    PerLane,
    /// The same for all lanes.
    Shared([u8; 8]),
}

/// How a lane's card key becomes its tag. The two rules of a purse TAC (card-crypto D.1): cipher and folding go together, so
/// that an SM4 key cannot be folded by mistake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a backend handles each case")]
pub enum MacRule {
    /// 3DES derivation; the card key's halves XORed; single-DES CBC-MAC.
    DesFolded,
    /// SM4 derivation; the card key as it is; SM4 CBC-MAC.
    Sm4,
}

impl MacRule {
    /// The cipher that derives the card keys.
    pub const fn cipher(self) -> Cipher {
        match self {
            Self::DesFolded => Cipher::Tdes,
            Self::Sm4 => Cipher::Sm4,
        }
    }
}

/// A block cipher with 16-byte keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a backend handles each case")]
pub enum Cipher {
    /// SM4: blocks of 16 bytes.
    Sm4,
    /// Two-key 3DES, EDE: blocks of 8 bytes.
    Tdes,
}

/// The arguments of a bulk call do not fit together. A bug of the caller; nothing was computed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ShapeError {
    /// Factors, messages and tags differ in number.
    Lanes,
    /// [`Plan::message_len`] exceeds [`crate::MESSAGE_MAX`].
    Message,
    /// More than [`crate::STEPS_MAX`] steps.
    Steps,
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lanes => "factors, messages and tags of a bulk call differ in number",
            Self::Message => "a bulk call's messages are at most 32 bytes",
            Self::Steps => "a bulk call derives through at most 3 steps",
        })
    }
}

impl error::Error for ShapeError {}

/// Where a bulk call's results go.
pub(crate) enum Out<'a> {
    /// A tag per lane.
    Tags(&'a mut [[u8; 4]]),
    /// A bit per lane, lane 64w + b in bit b of word w, set if the four bytes after the row's message are the lane's tag. The
    /// words come in as zeros; bits beyond the last lane may come out set.
    Verdicts(&'a mut [u64]),
}
