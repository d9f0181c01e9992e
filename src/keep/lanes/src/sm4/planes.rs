//! The calls on byte planes: rows in, tags or verdicts out; and one key's work on its own.

use super::field::{PRE, PRE_BACK};
use super::kernel::{self, Block, RowPlanes, Schedule};
use crate::cpu::{Avx2Gfni, Avx512};
use crate::rows::Rows;
use crate::x86::{Plane, YmmGfni, Zmm};
use crate::{Out, Plan, Step};

/// Groups of lanes in lock step; see [`kernel::encrypt`].
const GROUPS: usize = 2;

/// The two functions that the time goes into, each compiled once per register width, for that width.
trait Kernel: Plane {
    /// [`kernel::encrypt`].
    fn encrypt(cpu: Self::Cpu, blocks: &mut [Block<Self>; GROUPS], keys: &[&Schedule<Self>; GROUPS]);
    /// [`kernel::schedule`].
    fn schedule(cpu: Self::Cpu, key: &Block<Self>, out: &mut Schedule<Self>);
}

/// Compiles the kernel and the calls for one register.
macro_rules! compile {
    ($plane:ty, $cpu:ty, $features:literal, $module:ident) => {
        pub(crate) mod $module {
            use super::*;

            impl Kernel for $plane {
                #[inline(always)]
                fn encrypt(cpu: $cpu, blocks: &mut [Block<Self>; GROUPS], keys: &[&Schedule<Self>; GROUPS]) {
                    // SAFETY: the token says that the CPU has the features. JUSTIFICATION: see `x86/planes.rs`.
                    unsafe { encrypt(cpu, blocks, keys) }
                }

                #[inline(always)]
                fn schedule(cpu: $cpu, key: &Block<Self>, out: &mut Schedule<Self>) {
                    // SAFETY: the token says that the CPU has the features. JUSTIFICATION: see `x86/planes.rs`.
                    unsafe { schedule(cpu, key, out) }
                }
            }

            #[target_feature(enable = $features)]
            #[inline(never)]
            fn encrypt(cpu: $cpu, blocks: &mut [Block<$plane>; GROUPS], keys: &[&Schedule<$plane>; GROUPS]) {
                kernel::encrypt(cpu, blocks, keys);
            }

            #[target_feature(enable = $features)]
            #[inline(never)]
            fn schedule(cpu: $cpu, key: &Block<$plane>, out: &mut Schedule<$plane>) {
                kernel::schedule(cpu, key, out);
            }

            #[target_feature(enable = $features)]
            #[inline(never)]
            fn bulk_compiled(cpu: $cpu, plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
                run::<$plane>(cpu, plan, rows, out);
            }

            #[target_feature(enable = $features)]
            #[inline(never)]
            fn chain_compiled(cpu: $cpu, key: &[u8; 16], blocks: [&[[u8; 16]]; 2], out: &mut [u8; 16]) {
                chain_of::<$plane>(cpu, key, blocks, out);
            }

            /// The bulk call. Shapes have been checked.
            pub(crate) fn bulk(cpu: $cpu, plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
                // SAFETY: the token says that the CPU has the features. JUSTIFICATION: see `x86/planes.rs`.
                unsafe { bulk_compiled(cpu, plan, rows, out) }
            }

            /// The last block of a CBC encryption that starts from `out`.
            pub(crate) fn chain(cpu: $cpu, key: &[u8; 16], blocks: [&[[u8; 16]]; 2], out: &mut [u8; 16]) {
                // SAFETY: the token says that the CPU has the features. JUSTIFICATION: see `x86/planes.rs`.
                unsafe { chain_compiled(cpu, key, blocks, out) }
            }
        }
    };
}

compile!(Zmm, Avx512, "avx512f,avx512bw,avx512vl,gfni", avx512);
compile!(YmmGfni, Avx2Gfni, "avx2,gfni", avx2_gfni);

#[inline(always)]
fn run<P: Kernel>(cpu: P::Cpu, plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
    let zero = P::splat(cpu, 0);
    let mut top = [[zero; 4]; 33];
    P::schedule(cpu, &shared(cpu, plan.top), &mut top);
    let mut own = [[[zero; 4]; 33]; GROUPS];
    let mut planes = [[zero; 40]; GROUPS];
    let mut first = 0;
    while first < rows.len() {
        for (g, planes) in planes.iter_mut().enumerate() {
            kernel::load(cpu, rows, first + g * P::LANES, planes);
        }
        let mut state = [[[zero; 4]; 4]; GROUPS];
        let mut derived = false;
        for step in plan.steps {
            for (state, planes) in state.iter_mut().zip(&planes) {
                factor(cpu, *step, planes, state);
            }
            P::encrypt(cpu, &mut state, &keys(derived, &top, &own));
            for (state, own) in state.iter().zip(&mut own) {
                P::schedule(cpu, state, own);
            }
            derived = true;
        }
        state = [[[zero; 4]; 4]; GROUPS];
        for at in (0..=plan.message_len).step_by(16) {
            for (state, planes) in state.iter_mut().zip(&planes) {
                absorb(cpu, state, planes, at, plan.message_len);
            }
            P::encrypt(cpu, &mut state, &keys(derived, &top, &own));
        }
        for (g, (state, planes)) in state.iter().zip(&planes).enumerate() {
            finish(cpu, state, planes, first + g * P::LANES, plan.message_len, out);
        }
        first += GROUPS * P::LANES;
    }
}

#[inline(always)]
fn chain_of<P: Kernel>(cpu: P::Cpu, key: &[u8; 16], blocks: [&[[u8; 16]]; 2], out: &mut [u8; 16]) {
    let mut schedule = [[P::splat(cpu, 0); 4]; 33];
    P::schedule(cpu, &shared(cpu, key), &mut schedule);
    let mut state: [Block<P>; GROUPS] = [shared(cpu, out); GROUPS];
    for block in blocks.into_iter().flatten() {
        let block: Block<P> = shared(cpu, block);
        for (to, from) in state[0].as_flattened_mut().iter_mut().zip(block.as_flattened()) {
            *to = to.xor(*from);
        }
        P::encrypt(cpu, &mut state, &[&schedule; GROUPS]);
    }
    let back = P::operand(cpu, const { PRE_BACK.operand() });
    for (to, plane) in out.iter_mut().zip(state[0].as_flattened()) {
        *to = plane.map(back).bytes()[0];
    }
}

/// The lanes' own schedules once there are any, before that the top key's.
#[inline(always)]
fn keys<'a, P>(
    derived: bool,
    top: &'a Schedule<P>,
    own: &'a [Schedule<P>; GROUPS],
) -> [&'a Schedule<P>; GROUPS] {
    if derived { own.each_ref() } else { [top; GROUPS] }
}

/// A block that all lanes share, in the kernel's basis.
#[inline(always)]
fn shared<P: Plane>(cpu: P::Cpu, bytes: &[u8; 16]) -> Block<P> {
    let pre = P::operand(cpu, const { PRE.operand() });
    let mut block = [[pre; 4]; 4];
    for (plane, byte) in block.as_flattened_mut().iter_mut().zip(bytes) {
        *plane = P::splat(cpu, *byte).map(pre);
    }
    block
}

/// X ‖ ~X.
#[inline(always)]
fn factor<P: Plane>(cpu: P::Cpu, step: Step, planes: &RowPlanes<P>, out: &mut Block<P>) {
    let pre = P::operand(cpu, const { PRE.operand() });
    let not = P::splat(cpu, const { PRE.of(0xff) });
    let out = out.as_flattened_mut();
    for i in 0..8 {
        let x = match step {
            Step::PerLane => planes[i],
            Step::Shared(factor) => P::splat(cpu, factor[i]),
        };
        out[i] = x.map(pre);
        out[i + 8] = out[i].xor(not);
    }
}

/// Adds the sixteen message bytes at `at` to the state, with the padding if they reach the end.
#[inline(always)]
fn absorb<P: Plane>(cpu: P::Cpu, state: &mut Block<P>, planes: &RowPlanes<P>, at: usize, message_len: usize) {
    let pre = P::operand(cpu, const { PRE.operand() });
    let count = message_len - at;
    let state = state.as_flattened_mut();
    for (to, plane) in state.iter_mut().zip(&planes[8 + at..]).take(count) {
        *to = to.xor(plane.map(pre));
    }
    if let Some(to) = state.get_mut(count) {
        *to = to.xor(P::splat(cpu, const { PRE.of(0x80) }));
    }
}

/// Gives a group's tags out, or compares them with those in the rows.
#[inline(always)]
fn finish<P: Plane>(
    cpu: P::Cpu,
    state: &Block<P>,
    planes: &RowPlanes<P>,
    first: usize,
    message_len: usize,
    out: &mut Out<'_>,
) {
    match out {
        Out::Tags(tags) => {
            let back = P::operand(cpu, const { PRE_BACK.operand() });
            for (j, plane) in state[0].iter().enumerate() {
                let bytes = plane.map(back).bytes();
                for (tag, byte) in tags.iter_mut().skip(first).zip(bytes).take(P::LANES) {
                    tag[j] = byte;
                }
            }
        }
        Out::Verdicts(bits) => {
            // What the row says is taken into the kernel's basis, not the tag out of it.
            let pre = P::operand(cpu, const { PRE.operand() });
            let tag = &planes[8 + message_len..];
            let mut wrong = P::splat(cpu, 0);
            for j in 0..4 {
                wrong = wrong.or(state[0][j].xor(tag[j].map(pre)));
            }
            if let Some(word) = bits.get_mut(first / 64) {
                *word |= wrong.zeros() << (first % 64);
            }
        }
    }
}
