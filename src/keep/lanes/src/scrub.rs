//! Overwrites the stack and the registers that a computation on keys has used.

use core::arch::asm;

/// Bytes below the caller's frame that a bulk call's frames stay within: schedules and planes of 512 lanes.
pub(crate) const BULK: usize = 112 * 1024;
/// The same for one key's work.
pub(crate) const SINGLE: usize = 40 * 1024;

/// Runs `work` in frames of its own and overwrites the `DEPTH` bytes of stack in which they lay.
///
/// Schedules, planes and whatever the compiler put beside them all lie there: nothing in this crate is on the heap.
pub(crate) fn scrubbed<R, const DEPTH: usize>(work: impl FnOnce() -> R) -> R {
    let result = apart(work);
    overwrite::<DEPTH>();
    result
}

// Inlined, the computation's frames would lie in the caller's, above what `overwrite` reaches.
#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[inline(never)]
fn overwrite<const DEPTH: usize>() {
    let mut dead = [0_u8; DEPTH];
    // SAFETY: no instruction at all. JUSTIFICATION: an address that leaves the compiler's sight makes it write the zeros,
    // and in one piece; writing them one by one takes longer than the ciphers of a small group.
    unsafe { asm!("/* {0} */", in(reg) dead.as_mut_ptr(), options(nostack, preserves_flags)) }
}
