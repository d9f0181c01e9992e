#![doc = include_str!("../README.md")]
#![expect(
    unsafe_code,
    reason = "vector instructions: one place per register, each with its proof that the CPU has them"
)]
#![expect(
    clippy::inline_always,
    reason = "what calls vector instructions must become part of a function compiled for them"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "planes and rounds have numbers, and arrays of planes a fixed size"
)]
#![expect(clippy::many_single_char_names, reason = "the names of the standards")]

mod backend;
mod bits;
#[cfg(target_arch = "x86_64")]
mod cpu;
mod des;
mod plan;
mod rows;
mod scrub;
mod sm4;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use backend::{Backend, BackendError, select};
pub use plan::{Cipher, MacRule, Plan, ShapeError, Step};
pub use rows::ROW;

use plan::Out;

/// Longest message of a lane in [`diversified_mac`], in bytes: every MAC and TAC input of a purse fits (card-crypto D.2).
pub const MESSAGE_MAX: usize = 32;
/// Most derivation steps between the top key and a card's key (card-crypto A.3).
pub const STEPS_MAX: usize = 3;
/// Lanes per call that suit every backend: a multiple of each one's width. A hint; any count is right.
pub const GROUP: usize = 512;

/// Which backend this process runs, for status pages and logs; see [`Backend::name`].
pub fn backend() -> &'static str {
    Backend::current().name()
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
    Backend::current().diversified_mac(plan, factors, messages, tags)
}

/// Checks the tags of many rows, without copying one: derives each row's card key, MACs its message, and compares.
///
/// A row is factor 8 ‖ message [`Plan::message_len`] ‖ tag 4 ‖ bytes that do not count. Lane `i` is the row at `picks[i]`. Its
/// verdict is bit `i % 64` of `verdicts[i / 64]`: set if the tag is right. Bits beyond the last lane are zero.
///
/// # Errors
/// [`ShapeError`], and then every verdict is zero.
pub fn verify(
    plan: &Plan<'_>,
    rows: &[[u8; ROW]],
    picks: &[u32],
    verdicts: &mut [u64],
) -> Result<(), ShapeError> {
    Backend::current().verify(plan, rows, picks, verdicts)
}

/// One derivation step in place: `key` goes in as the parent and comes out as the child of `factor` X.
///
/// 3DES: `E(X) ‖ E(~X)`, no parity adjustment. SM4: `E(X ‖ ~X)`. (JR/T 0025 key diversification; card-crypto A.1, A.2.)
pub fn diversify(cipher: Cipher, key: &mut [u8; 16], factor: &[u8; 8]) {
    Backend::current().diversify(cipher, key, factor);
}

/// The tag of one message under one card key, without derivation: what each lane of [`diversified_mac`] ends with. The
/// message may have any length.
pub fn mac(rule: MacRule, card_key: &[u8; 16], message: &[u8]) -> [u8; 4] {
    Backend::current().mac(rule, card_key, message)
}

/// Encrypts one SM4 block in place (GB/T 32907-2016).
pub fn sm4_encrypt(key: &[u8; 16], block: &mut [u8; 16]) {
    Backend::current().sm4_encrypt(key, block);
}

/// Encrypts one block in place with two-key 3DES, EDE (ISO/IEC 18033-3). Parity bits are ignored.
pub fn tdes_encrypt(key: &[u8; 16], block: &mut [u8; 8]) {
    Backend::current().tdes_encrypt(key, block);
}

/// Single-DES CBC-MAC with IV zero and `80 00…` padding: ISO/IEC 9797-1 algorithm 1, padding method 2. All 8 bytes;
/// a purse takes the left 4.
pub fn des_cbc_mac(key: &[u8; 8], message: &[u8]) -> [u8; 8] {
    Backend::current().des_cbc_mac(key, message)
}

/// SM4 CBC-MAC with IV zero and `80 00…` padding to 16 (the shape of ISO/IEC 9797-1 algorithm 1, padding method 2). All
/// 16 bytes; a purse takes the left 4.
pub fn sm4_cbc_mac(key: &[u8; 16], message: &[u8]) -> [u8; 16] {
    Backend::current().sm4_cbc_mac(key, message)
}

/// Retail MAC with IV zero: ISO/IEC 9797-1 algorithm 3, padding method 2. DES-CBC under the left half of `key`, the last
/// block decrypted under the right half and encrypted under the left.
pub fn retail_mac(key: &[u8; 16], message: &[u8]) -> [u8; 8] {
    Backend::current().retail_mac(key, message)
}
