//! SM4 on bit slices, for processors that cannot invert bytes: 64 lanes in ordinary registers, 256 in AVX2.
//!
//! A word of a block is 32 planes, plane i its bit i (1 << i of the big-endian word), so that rotations are names.

use super::field::{C, CK, FK};
use super::tower::{C_IN, IN, LAMBDA_SQUARE, NIBBLE_INVERSE, OUT, SQUARE};
use crate::bits::{self, Bits, CHUNKS, Chunk};
use crate::rows::Rows;
use crate::{Out, Plan, Step};

/// 32 planes.
type Word<V> = [V; 32];
/// A block, or a key, of every lane.
type Block<V> = [Word<V>; 4];
/// The round keys of every lane.
type Schedule<V> = [Word<V>; 32];

/// Encrypts a block of every lane in place.
#[inline(always)]
fn encrypt<V: Bits>(block: &mut Block<V>, keys: &Schedule<V>) {
    for round in 0..32 {
        let mut sum = sum_of(block, round, &keys[round]);
        s_boxes(&mut sum);
        let to = &mut block[round % 4];
        for i in 0..32 {
            let b = |by: usize| sum[(i + 32 - by) % 32];
            to[i] = to[i].xor(b(0)).xor(b(2)).xor(b(10)).xor(b(18)).xor(b(24));
        }
    }
    block.reverse();
}

/// The schedule of every lane's own key.
#[inline(always)]
fn schedule<V: Bits>(cpu: V::Cpu, key: &Block<V>, out: &mut Schedule<V>) {
    let mut k = *key;
    for (word, fk) in k.iter_mut().zip(FK.as_chunks().0) {
        for (plane, fk) in word.iter_mut().zip(constant(cpu, u32::from_be_bytes(*fk))) {
            *plane = plane.xor(fk);
        }
    }
    for round in 0..32 {
        let mut sum = sum_of(&k, round, &constant(cpu, CK[round]));
        s_boxes(&mut sum);
        let to = &mut k[round % 4];
        for i in 0..32 {
            let b = |by: usize| sum[(i + 32 - by) % 32];
            to[i] = to[i].xor(b(0)).xor(b(13)).xor(b(23));
        }
        out[round] = *to;
    }
}

/// What goes into a round's S-boxes: the three other words and a key.
#[inline(always)]
fn sum_of<V: Bits>(block: &Block<V>, round: usize, key: &Word<V>) -> Word<V> {
    let mut sum = *key;
    for other in 1..4 {
        for (sum, plane) in sum.iter_mut().zip(&block[(round + other) % 4]) {
            *sum = sum.xor(*plane);
        }
    }
    sum
}

/// A word that all lanes share.
#[inline(always)]
fn constant<V: Bits>(cpu: V::Cpu, word: u32) -> Word<V> {
    let mut planes = [V::splat(cpu, 0); 32];
    for (i, plane) in planes.iter_mut().enumerate() {
        *plane = V::splat(cpu, u64::from(word >> i & 1).wrapping_neg());
    }
    planes
}

#[inline(always)]
fn s_boxes<V: Bits>(word: &mut Word<V>) {
    let (bytes, _) = word.as_chunks_mut();
    for byte in bytes {
        *byte = s_box(*byte);
    }
}

/// The S-box of a byte of every lane; see `tower.rs`.
#[inline(always)]
fn s_box<V: Bits>(x: [V; 8]) -> [V; 8] {
    macro_rules! map {
        ($map:ident, $x:expr, $($row:literal)*) => { [$( row::<V, { $map.row($row) }>($x) ),*] };
    }
    let [l0, l1, l2, l3, h0, h1, h2, h3] = constants::<V, C_IN>(map!(IN, &x, 0 1 2 3 4 5 6 7));
    let (high, low) = ([h0, h1, h2, h3], [l0, l1, l2, l3]);
    // (h·y + l)⁻¹ = (h·y + h + l) / (λh² + hl + l²)
    let norm = add(add(linear::<V, 0>(high), linear::<V, 1>(low)), product(high, low));
    let inverse = [nibble::<V, 0>(norm), nibble::<V, 1>(norm), nibble::<V, 2>(norm), nibble::<V, 3>(norm)];
    let [h0, h1, h2, h3] = product(high, inverse);
    let [l0, l1, l2, l3] = product(add(high, low), inverse);
    constants::<V, C>(map!(OUT, &[l0, l1, l2, l3, h0, h1, h2, h3], 0 1 2 3 4 5 6 7))
}

/// The sum of the planes that a mask names. (No loop: nothing here may depend on what a compiler unrolls.)
#[inline(always)]
fn row<V: Bits, const MASK: u8>(x: &[V; 8]) -> V {
    let first = const { MASK.trailing_zeros() as usize };
    let mut sum = x[first];
    macro_rules! add {
        ($($i:literal)*) => { $( if $i > first && MASK >> $i & 1 == 1 { sum = sum.xor(x[$i]); } )* };
    }
    add!(1 2 3 4 5 6 7);
    sum
}

/// Adds a constant byte.
#[inline(always)]
fn constants<V: Bits, const BYTE: u8>(mut x: [V; 8]) -> [V; 8] {
    macro_rules! add {
        ($($i:literal)*) => { $( if BYTE >> $i & 1 == 1 { x[$i] = x[$i].not(); } )* };
    }
    add!(0 1 2 3 4 5 6 7);
    x
}

/// λh² (`WHICH` = 0) or l².
#[inline(always)]
fn linear<V: Bits, const WHICH: usize>(x: [V; 4]) -> [V; 4] {
    let images = const { if WHICH == 0 { LAMBDA_SQUARE } else { SQUARE } };
    let mut out = [x[0].xor(x[0]); 4];
    macro_rules! add {
        ($($bit:literal $i:literal),*) => { $( if images[$i] >> $bit & 1 == 1 { out[$bit] = out[$bit].xor(x[$i]); } )* };
    }
    add!(0 0, 0 1, 0 2, 0 3, 1 0, 1 1, 1 2, 1 3, 2 0, 2 1, 2 2, 2 3, 3 0, 3 1, 3 2, 3 3);
    out
}

#[inline(always)]
fn add<V: Bits>(a: [V; 4], b: [V; 4]) -> [V; 4] {
    [a[0].xor(b[0]), a[1].xor(b[1]), a[2].xor(b[2]), a[3].xor(b[3])]
}

/// The product in GF(16), x⁴ = x + 1.
#[inline(always)]
fn product<V: Bits>(a: [V; 4], b: [V; 4]) -> [V; 4] {
    let p = |i: usize, j: usize| a[i].and(b[j]);
    let c4 = p(1, 3).xor(p(2, 2)).xor(p(3, 1));
    let c5 = p(2, 3).xor(p(3, 2));
    let c6 = p(3, 3);
    [
        p(0, 0).xor(c4),
        p(0, 1).xor(p(1, 0)).xor(c4).xor(c5),
        p(0, 2).xor(p(1, 1)).xor(p(2, 0)).xor(c5).xor(c6),
        p(0, 3).xor(p(1, 2)).xor(p(2, 1)).xor(p(3, 0)).xor(c6),
    ]
}

/// Bit `BIT` of the inverse in GF(16).
#[inline(always)]
fn nibble<V: Bits, const BIT: u32>(x: [V; 4]) -> V {
    macro_rules! table {
        ($($bit:literal)*) => { match BIT { $( $bit => half::<V, { nibble_table($bit) }, { nibble_difference($bit) }>(x), )* _ => x[0] } };
    }
    table!(0 1 2 3)
}

/// f₀ + x₃·(f₀ + f₁).
#[inline(always)]
fn half<V: Bits, const LOW: i32, const DIFFERENCE: i32>(x: [V; 4]) -> V {
    V::lut::<LOW>(x[2], x[1], x[0]).xor(x[3].and(V::lut::<DIFFERENCE>(x[2], x[1], x[0])))
}

const fn nibble_table(bit: u32) -> i32 {
    (NIBBLE_INVERSE >> (16 * bit) & 0xff) as i32
}

const fn nibble_difference(bit: u32) -> i32 {
    nibble_table(bit) ^ (NIBBLE_INVERSE >> (16 * bit + 8) & 0xff) as i32
}

/// A block from its two chunks: chunk planes count bytes from the left and bits from the right.
#[inline(always)]
fn block<V: Bits>(left: &Chunk<V>, right: &Chunk<V>) -> Block<V> {
    let mut block = [[left[0]; 32]; 4];
    for i in 0..64 {
        let (word, plane) = place(i);
        block[word][plane] = left[i];
        block[word + 2][plane] = right[i];
    }
    block
}

/// Word and plane of bit i of a chunk.
#[inline(always)]
const fn place(i: usize) -> (usize, usize) {
    (i / 32, (24 - i / 8 % 4 * 8) + i % 8)
}

/// The bulk call. Shapes have been checked.
#[inline(always)]
fn run<V: Bits>(cpu: V::Cpu, plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
    let zero = V::splat(cpu, 0);
    let mut top = [[zero; 32]; 32];
    schedule(cpu, &shared(cpu, plan.top), &mut top);
    let mut own = [[zero; 32]; 32];
    let mut chunks = [[zero; 64]; CHUNKS];
    for first in (0..rows.len()).step_by(64 * V::WORDS) {
        bits::load(cpu, rows, first, &mut chunks);
        let mut keys = &top;
        for step in plan.steps {
            let mut state = factor(cpu, *step, &chunks[0]);
            encrypt(&mut state, keys);
            schedule(cpu, &state, &mut own);
            keys = &own;
        }
        let mut state = [[zero; 32]; 4];
        for at in (0..=plan.message_len).step_by(16) {
            absorb(cpu, &mut state, &chunks, at, plan.message_len);
            encrypt(&mut state, keys);
        }
        finish(cpu, &state, &chunks, first, plan.message_len, out);
    }
}

/// The last block of a CBC encryption that starts from `out`.
#[inline(always)]
fn chain_of<V: Bits>(cpu: V::Cpu, key: &[u8; 16], blocks: [&[[u8; 16]]; 2], out: &mut [u8; 16]) {
    let mut keys = [[V::splat(cpu, 0); 32]; 32];
    schedule(cpu, &shared(cpu, key), &mut keys);
    let mut state: Block<V> = shared(cpu, out);
    for block in blocks.into_iter().flatten() {
        let block: Block<V> = shared(cpu, block);
        for (to, from) in state.as_flattened_mut().iter_mut().zip(block.as_flattened()) {
            *to = to.xor(*from);
        }
        encrypt(&mut state, &keys);
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = 0;
        for bit in 0..8 {
            *byte |= u8::from(state[i / 4][24 - i % 4 * 8 + bit].words()[0] & 1 == 1) << bit;
        }
    }
}

/// A block that all lanes share.
#[inline(always)]
fn shared<V: Bits>(cpu: V::Cpu, bytes: &[u8; 16]) -> Block<V> {
    let [left, right] = bytes.as_chunks().0 else { unreachable!("16 bytes are two halves") };
    block(&bits::shared(cpu, *left), &bits::shared(cpu, *right))
}

/// X ‖ ~X.
#[inline(always)]
fn factor<V: Bits>(cpu: V::Cpu, step: Step, own: &Chunk<V>) -> Block<V> {
    let x = match step {
        Step::PerLane => *own,
        Step::Shared(factor) => bits::shared(cpu, factor),
    };
    block(&x, &x.map(V::not))
}

/// Adds the sixteen message bytes at `at` to the state, with the padding if they reach the end.
#[inline(always)]
fn absorb<V: Bits>(
    cpu: V::Cpu,
    state: &mut Block<V>,
    chunks: &[Chunk<V>; CHUNKS],
    at: usize,
    message_len: usize,
) {
    let planes = chunks.as_flattened();
    for (i, plane) in planes.iter().skip(64 + 8 * at).take(8 * (message_len - at).min(16)).enumerate() {
        let (word, place) = place(i);
        state[word][place] = state[word][place].xor(*plane);
    }
    if message_len - at < 16 {
        let (word, place) = place(8 * (message_len - at) + 7);
        state[word][place] = state[word][place].xor(V::splat(cpu, u64::MAX));
    }
}

/// Gives a group's tags out, or compares them with those in the rows.
#[inline(always)]
fn finish<V: Bits>(
    cpu: V::Cpu,
    state: &Block<V>,
    chunks: &[Chunk<V>; CHUNKS],
    first: usize,
    message_len: usize,
    out: &mut Out<'_>,
) {
    let mut tag = state[0];
    for i in 0..32 {
        tag[i] = state[0][place(i).1];
    }
    bits::finish(cpu, &tag, chunks, first, message_len, out);
}

/// A module with the calls for one register: the bulk call (shapes have been checked), and the last block of a CBC encryption that
/// starts from `out`.
macro_rules! compile {
    ($bits:ty, $cpu:ty, $module:ident) => {
        pub(crate) mod $module {
            use super::*;

            /// The bulk call.
            #[inline(never)]
            pub(crate) fn bulk(cpu: $cpu, plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
                run::<$bits>(cpu, plan, rows, out);
            }

            /// One key's work.
            #[inline(never)]
            pub(crate) fn chain(cpu: $cpu, key: &[u8; 16], blocks: [&[[u8; 16]]; 2], out: &mut [u8; 16]) {
                chain_of::<$bits>(cpu, key, blocks, out);
            }
        }
    };
    ($bits:ty, $cpu:ty, $module:ident, $features:literal) => {
        pub(crate) mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            #[inline(never)]
            fn bulk_compiled(cpu: $cpu, plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
                run::<$bits>(cpu, plan, rows, out);
            }

            #[target_feature(enable = $features)]
            #[inline(never)]
            fn chain_compiled(cpu: $cpu, key: &[u8; 16], blocks: [&[[u8; 16]]; 2], out: &mut [u8; 16]) {
                chain_of::<$bits>(cpu, key, blocks, out);
            }

            /// The bulk call.
            pub(crate) fn bulk(cpu: $cpu, plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
                // SAFETY: the token says that the CPU has the features. JUSTIFICATION: code of other instructions than
                // the rest of the program's can only be called this way.
                unsafe { bulk_compiled(cpu, plan, rows, out) }
            }

            /// One key's work.
            pub(crate) fn chain(cpu: $cpu, key: &[u8; 16], blocks: [&[[u8; 16]]; 2], out: &mut [u8; 16]) {
                // SAFETY: the token. JUSTIFICATION: as above.
                unsafe { chain_compiled(cpu, key, blocks, out) }
            }
        }
    };
}

compile!(u64, (), portable);
#[cfg(target_arch = "x86_64")]
compile!(crate::x86::Ymm, crate::cpu::Avx2, avx2, "avx2");
