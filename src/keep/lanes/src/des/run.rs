//! The calls: rows in, tags or verdicts out; and one key's work.

use super::kernel::{self, State, pass};
use super::tables::Choice;
use crate::bits::{self, Bits, CHUNKS, Chunk};
use crate::rows::Rows;
use crate::{Out, Plan, Step};

/// A round, compiled once per register: the code of one stays in the instruction cache where that of sixteen would not.
pub(crate) trait Round: Bits {
    /// [`kernel::round`].
    fn round(left: &mut [Self; 32], right: &[Self; 32], key: &Chunk<Self>, choice: &Choice);
}

/// A two-key 3DES key of every lane.
struct Key<V> {
    left: Chunk<V>,
    right: Chunk<V>,
}

impl<V: Round> Key<V> {
    /// The same for all lanes.
    #[inline(always)]
    fn shared(cpu: V::Cpu, key: &[u8; 16]) -> Self {
        let [left, right] = key.as_chunks().0 else { unreachable!("16 bytes are two halves") };
        Self { left: bits::shared(cpu, *left), right: bits::shared(cpu, *right) }
    }

    /// 3DES, encrypting: E, D, E.
    #[inline(always)]
    fn encrypt(&self, state: &mut State<V>) {
        pass::<V, false>(state, &self.left, V::round);
        pass::<V, true>(state, &self.right, V::round);
        pass::<V, false>(state, &self.left, V::round);
    }

    /// E(X) ‖ E(~X) for every lane.
    #[inline(always)]
    fn derive(&self, cpu: V::Cpu, factor: &Chunk<V>, child: &mut Self) {
        let mut state = State::zero(cpu);
        state.add(factor, 64);
        self.encrypt(&mut state);
        state.to(&mut child.left);
        state = State::zero(cpu);
        state.add(factor, 64);
        state.complement();
        self.encrypt(&mut state);
        state.to(&mut child.right);
    }

    /// The halves' sum, in the left.
    #[inline(always)]
    fn fold(&mut self) {
        for (left, right) in self.left.iter_mut().zip(&self.right) {
            *left = left.xor(*right);
        }
    }
}

#[inline(always)]
fn run<V: Round>(cpu: V::Cpu, plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
    let top = Key::<V>::shared(cpu, plan.top);
    let zero = [V::splat(cpu, 0); 64];
    let mut keys = [Key { left: zero, right: zero }, Key { left: zero, right: zero }];
    let mut chunks = [zero; CHUNKS];
    for first in (0..rows.len()).step_by(64 * V::WORDS) {
        bits::load(cpu, rows, first, &mut chunks);
        let [parent, child] = &mut keys;
        let (mut parent, mut child) = (parent, child);
        for (level, step) in plan.steps.iter().enumerate() {
            let key = if level == 0 { &top } else { &*parent };
            match step {
                Step::PerLane => key.derive(cpu, &chunks[0], child),
                Step::Shared(factor) => key.derive(cpu, &bits::shared(cpu, *factor), child),
            }
            core::mem::swap(&mut parent, &mut child);
        }
        if plan.steps.is_empty() {
            (parent.left, parent.right) = (top.left, top.right);
        }
        parent.fold();
        let mut state = State::zero(cpu);
        for at in (0..=plan.message_len).step_by(8) {
            let planes = 8 * (plan.message_len - at);
            if let Some(chunk) = chunks.get(1 + at / 8) {
                state.add(chunk, planes);
            }
            if planes < 64 {
                state.flip(planes + 7);
            }
            pass::<V, false>(&mut state, &parent.left, V::round);
        }
        let mut block = zero;
        state.to(&mut block);
        let [tag, _] = block.as_chunks().0 else { unreachable!("64 planes are two halves") };
        bits::finish(cpu, tag, &chunks, first, plan.message_len, out);
    }
}

/// 3DES of two blocks under one key: two lanes.
#[inline(always)]
fn two_of<V: Round>(cpu: V::Cpu, key: &[u8; 16], blocks: &mut [[u8; 8]; 2]) {
    let [one, two] = blocks.map(u64::from_le_bytes);
    let mut planes = [V::splat(cpu, 0); 64];
    for (i, plane) in planes.iter_mut().enumerate() {
        *plane = V::splat(cpu, one >> i & 1 | (two >> i & 1) << 1);
    }
    let mut state = State::zero(cpu);
    state.add(&planes, 64);
    Key::<V>::shared(cpu, key).encrypt(&mut state);
    state.to(&mut planes);
    *blocks = [lane(&planes, 0), lane(&planes, 1)];
}

/// DES-CBC-MAC of the blocks of both slices under the key's left half; `retail`: D under the right and E under the left follow.
#[inline(always)]
fn mac_of<V: Round>(cpu: V::Cpu, key: &[u8; 16], blocks: [&[[u8; 8]]; 2], retail: bool) -> [u8; 8] {
    let key = Key::<V>::shared(cpu, key);
    let mut state = State::zero(cpu);
    for block in blocks.into_iter().flatten() {
        state.add(&bits::shared(cpu, *block), 64);
        pass::<V, false>(&mut state, &key.left, V::round);
    }
    if retail {
        pass::<V, true>(&mut state, &key.right, V::round);
        pass::<V, false>(&mut state, &key.left, V::round);
    }
    let mut planes = [V::splat(cpu, 0); 64];
    state.to(&mut planes);
    lane(&planes, 0)
}

/// A lane's chunk.
#[inline(always)]
fn lane<V: Bits>(planes: &Chunk<V>, lane: u32) -> [u8; 8] {
    let mut word = 0;
    for plane in planes.iter().rev() {
        word = word << 1 | plane.words()[0] >> lane & 1;
    }
    word.to_le_bytes()
}

/// A module with the calls for one register: the bulk call (shapes have been checked), [`two_of`], and [`mac_of`].
macro_rules! compile {
    ($bits:ty, $cpu:ty, $module:ident) => {
        pub(crate) mod $module {
            use super::*;

            impl Round for $bits {
                #[inline(never)]
                fn round(left: &mut [Self; 32], right: &[Self; 32], key: &Chunk<Self>, choice: &Choice) {
                    kernel::round(left, right, key, choice);
                }
            }

            /// The bulk call.
            #[inline(never)]
            pub(crate) fn bulk(cpu: $cpu, plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
                run::<$bits>(cpu, plan, rows, out);
            }

            /// Two blocks.
            #[inline(never)]
            pub(crate) fn two(cpu: $cpu, key: &[u8; 16], blocks: &mut [[u8; 8]; 2]) {
                two_of::<$bits>(cpu, key, blocks);
            }

            /// One MAC.
            #[inline(never)]
            pub(crate) fn mac(cpu: $cpu, key: &[u8; 16], blocks: [&[[u8; 8]]; 2], retail: bool) -> [u8; 8] {
                mac_of::<$bits>(cpu, key, blocks, retail)
            }
        }
    };
    ($bits:ty, $cpu:ty, $module:ident, $features:literal) => {
        pub(crate) mod $module {
            use super::*;

            impl Round for $bits {
                #[inline(always)]
                fn round(left: &mut [Self; 32], right: &[Self; 32], key: &Chunk<Self>, choice: &Choice) {
                    // SAFETY: registers of this type exist only where the CPU has the features. JUSTIFICATION: code of
                    // other instructions than the rest of the program's can only be called this way.
                    unsafe { round_compiled(left, right, key, choice) }
                }
            }

            #[target_feature(enable = $features)]
            #[inline(never)]
            fn round_compiled(
                left: &mut [$bits; 32],
                right: &[$bits; 32],
                key: &Chunk<$bits>,
                choice: &Choice,
            ) {
                kernel::round(left, right, key, choice);
            }

            #[target_feature(enable = $features)]
            #[inline(never)]
            fn bulk_compiled(cpu: $cpu, plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
                run::<$bits>(cpu, plan, rows, out);
            }

            #[target_feature(enable = $features)]
            #[inline(never)]
            fn two_compiled(cpu: $cpu, key: &[u8; 16], blocks: &mut [[u8; 8]; 2]) {
                two_of::<$bits>(cpu, key, blocks);
            }

            #[target_feature(enable = $features)]
            #[inline(never)]
            fn mac_compiled(cpu: $cpu, key: &[u8; 16], blocks: [&[[u8; 8]]; 2], retail: bool) -> [u8; 8] {
                mac_of::<$bits>(cpu, key, blocks, retail)
            }

            /// The bulk call.
            pub(crate) fn bulk(cpu: $cpu, plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
                // SAFETY: the token says that the CPU has the features. JUSTIFICATION: as above.
                unsafe { bulk_compiled(cpu, plan, rows, out) }
            }

            /// Two blocks.
            pub(crate) fn two(cpu: $cpu, key: &[u8; 16], blocks: &mut [[u8; 8]; 2]) {
                // SAFETY: the token. JUSTIFICATION: as above.
                unsafe { two_compiled(cpu, key, blocks) }
            }

            /// One MAC.
            pub(crate) fn mac(cpu: $cpu, key: &[u8; 16], blocks: [&[[u8; 8]]; 2], retail: bool) -> [u8; 8] {
                // SAFETY: the token. JUSTIFICATION: as above.
                unsafe { mac_compiled(cpu, key, blocks, retail) }
            }
        }
    };
}

compile!(u64, (), portable);
#[cfg(target_arch = "x86_64")]
compile!(crate::x86::Ymm, crate::cpu::Avx2, avx2, "avx2");
#[cfg(target_arch = "x86_64")]
compile!(crate::x86::Zmm, crate::cpu::Avx512, avx512, "avx512f,avx512bw,avx512vl,gfni");
