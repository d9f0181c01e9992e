//! Overwrites the stack that a computation on keys has used.

use zeroize::Zeroize;

/// Words overwritten below the caller's frame: 4 KiB, well above what the deepest chain of calls in here uses.
const WORDS: usize = 512;

/// Runs `work` in frames of its own and overwrites them afterwards.
///
/// Whoever owns key bytes wipes them on drop, but the compiler may have copied them while moving a schedule to its
/// place, and such copies have no owner. Best effort: what the frames of `work` spilled lies in the 4 KiB below ours.
pub(crate) fn scrubbed<R>(work: impl FnOnce() -> R) -> R {
    let result = apart(work);
    overwrite();
    result
}

// Inlined, the computation's copies would lie in the caller's frame, above what `overwrite` reaches.
#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[inline(never)]
fn overwrite() {
    let mut dead = [0_u64; WORDS];
    dead.zeroize();
}
