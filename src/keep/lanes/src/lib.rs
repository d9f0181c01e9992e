#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod scalar;
mod scrub;

use core::{error, fmt};

use scrub::scrubbed;

/// Longest message of a lane in [`diversified_mac`], in bytes: every MAC and TAC input of a purse fits (card-crypto D.2).
pub const MESSAGE_MAX: usize = 32;
/// Most derivation steps between the top key and a card's key (card-crypto A.3).
pub const STEPS_MAX: usize = 3;
/// Lanes per call that suit every backend: a multiple of each one's width. A hint; any count is right.
pub const GROUP: usize = 512;

/// Which backend this process runs, for status pages and logs: `"scalar"`.
pub const fn backend() -> &'static str {
    scalar::NAME
}

/// Derives, for every lane, the card key of its factor, and MACs the lane's message with it.
///
/// Lane `i` reads `factors[i]` and the first [`Plan::message_len`] bytes of `messages[i]`, and writes `tags[i]`: the
/// left 4 bytes of the CBC-MAC with IV zero over the message and its `80 00…` padding. The lanes' keys exist in wiped
/// workspace only. With no [`Step::PerLane`] the factors are not read; their count must fit all the same.
///
/// # Errors
/// [`ShapeError`], and then no tag is written.
pub fn diversified_mac(
    plan: &Plan<'_>,
    factors: &[[u8; 8]],
    messages: &[[u8; MESSAGE_MAX]],
    tags: &mut [[u8; 4]],
) -> Result<(), ShapeError> {
    if factors.len() != tags.len() || messages.len() != tags.len() {
        return Err(ShapeError::Lanes);
    }
    if plan.message_len > MESSAGE_MAX {
        return Err(ShapeError::Message);
    }
    if plan.steps.len() > STEPS_MAX {
        return Err(ShapeError::Steps);
    }
    scrubbed(|| scalar::diversified_mac(plan, factors, messages, tags));
    Ok(())
}

/// One derivation step in place: `key` goes in as the parent and comes out as the child of `factor` X.
///
/// 3DES: `E(X) ‖ E(~X)`, no parity adjustment. SM4: `E(X ‖ ~X)`. (JR/T 0025 key diversification; card-crypto A.1, A.2.)
pub fn diversify(cipher: Cipher, key: &mut [u8; 16], factor: &[u8; 8]) {
    scrubbed(|| scalar::diversify(cipher, key, *factor));
}

/// The tag of one message under one card key, without derivation: what each lane of [`diversified_mac`] ends with. The
/// message may have any length.
pub fn mac(rule: MacRule, card_key: &[u8; 16], message: &[u8]) -> [u8; 4] {
    scrubbed(|| scalar::mac(rule, card_key, message))
}

/// Encrypts one SM4 block in place (GB/T 32907-2016).
pub fn sm4_encrypt(key: &[u8; 16], block: &mut [u8; 16]) {
    scrubbed(|| scalar::sm4_encrypt(key, block));
}

/// Encrypts one block in place with two-key 3DES, EDE (ISO/IEC 18033-3). Parity bits are ignored.
pub fn tdes_encrypt(key: &[u8; 16], block: &mut [u8; 8]) {
    scrubbed(|| scalar::tdes_encrypt(key, block));
}

/// Single-DES CBC-MAC with IV zero and `80 00…` padding: ISO/IEC 9797-1 algorithm 1, padding method 2. All 8 bytes;
/// a purse takes the left 4.
pub fn des_cbc_mac(key: &[u8; 8], message: &[u8]) -> [u8; 8] {
    scrubbed(|| scalar::des_cbc_mac(key, message))
}

/// SM4 CBC-MAC with IV zero and `80 00…` padding to 16 (the shape of ISO/IEC 9797-1 algorithm 1, padding method 2). All
/// 16 bytes; a purse takes the left 4.
pub fn sm4_cbc_mac(key: &[u8; 16], message: &[u8]) -> [u8; 16] {
    scrubbed(|| scalar::sm4_cbc_mac(key, message))
}

/// Retail MAC with IV zero: ISO/IEC 9797-1 algorithm 3, padding method 2. DES-CBC under the left half of `key`, the last
/// block decrypted under the right half and encrypted under the left.
pub fn retail_mac(key: &[u8; 16], message: &[u8]) -> [u8; 8] {
    scrubbed(|| scalar::retail_mac(key, message))
}

/// What all lanes of one [`diversified_mac`] call share.
#[expect(missing_debug_implementations, reason = "it borrows key bytes; nothing may print them")]
#[expect(clippy::exhaustive_structs, reason = "callers build it")]
pub struct Plan<'a> {
    /// Cipher of the derivation, and the MAC.
    pub rule: MacRule,
    /// The key that the steps start from; with no steps it is the card key of every lane.
    pub top: &'a [u8; 16],
    /// Derivation steps, top first, 0 to [`STEPS_MAX`]. Shared steps at the front cost each lane anew: take them out
    /// with [`diversify`].
    pub steps: &'a [Step],
    /// Bytes of each message that count, 0 to [`MESSAGE_MAX`].
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

impl Step {
    /// The step's factor in a lane whose own factor is `own`.
    const fn factor(self, own: [u8; 8]) -> [u8; 8] {
        match self {
            Self::PerLane => own,
            Self::Shared(factor) => factor,
        }
    }
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
    /// [`Plan::message_len`] exceeds [`MESSAGE_MAX`].
    Message,
    /// More than [`STEPS_MAX`] steps.
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
