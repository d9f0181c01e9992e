//! Overwrites the stack and the registers that a computation on keys has used.

use core::arch::asm;

/// Bytes below the caller's frame that a bulk call's frames stay within: schedules and planes of 512 lanes.
pub(crate) const BULK: usize = 112 * 1024;
/// The same for one key's work.
pub(crate) const SINGLE: usize = 72 * 1024;

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

#[cfg(test)]
mod tests {
    use core::hint::black_box;
    use core::mem::MaybeUninit;

    use crate::{Backend, MacRule, Plan, ROW, Step};

    /// What the test looks at, below its own frame.
    const DEPTH: usize = 200 * 1024;
    /// Frames between the caller and what `scrubbed` overwrites: arguments, saved registers, no lane data.
    const EDGE: usize = 2048;
    const PAINT: u8 = 0xa5;
    /// Return addresses of what overwrites, below what it overwrites.
    const ADDRESSES: usize = 2 * size_of::<usize>();

    #[expect(clippy::large_stack_arrays, reason = "the stack is what is looked at")]
    #[inline(never)]
    fn paint() {
        black_box(&mut [PAINT; DEPTH]);
    }

    /// Bytes of the dead stack, deepest first, that are neither paint nor zero.
    #[inline(never)]
    fn remains() -> usize {
        let mut frame = MaybeUninit::<[u8; DEPTH]>::uninit();
        let start = black_box(frame.as_mut_ptr()).cast::<u8>();
        // SAFETY: within the frame of this function; the reads are volatile, and what they read is dead. JUSTIFICATION: no
        // safe code sees dead stack, and this is the test that nothing is there.
        (0..DEPTH - EDGE).filter(|at| !matches!(unsafe { start.add(*at).read_volatile() }, 0 | PAINT)).count()
    }

    fn left_by(work: impl Fn()) -> usize {
        paint();
        work();
        remains()
    }

    #[test]
    fn nothing_of_a_call_is_left_on_the_stack() {
        let top = [0x77; 16];
        let rows = [[0x5b; ROW]; 200];
        let picks: [u32; 200] = core::array::from_fn(|i| u32::try_from(i).unwrap());
        for backend in Backend::available() {
            for rule in [MacRule::Sm4, MacRule::DesFolded] {
                let steps = [Step::PerLane, Step::Shared([3; 8])];
                let plan = Plan { rule, top: &top, steps: &steps, message_len: 24 };
                let left = left_by(|| backend.verify(&plan, &rows, &picks, black_box(&mut [0; 4])).unwrap());
                assert!(left <= ADDRESSES, "{} {rule:?}: {left}", backend.name());
                let left = left_by(|| assert_ne!(black_box(backend.mac(rule, &top, &[1; 50])), [0; 4]));
                assert!(left <= ADDRESSES, "{} {rule:?} single: {left}", backend.name());
            }
        }
    }

    /// The red control: the same look finds what nobody overwrote.
    #[test]
    fn what_is_not_overwritten_is_seen() {
        #[inline(never)]
        fn careless() {
            black_box(&mut [0x3c_u8; 16 * 1024]);
        }
        assert!(left_by(careless) > 1024);
    }
}
