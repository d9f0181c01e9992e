//! The rounds.

use core::hint::black_box;

use super::boxes::{s1, s2, s3, s4, s5, s6, s7, s8};
use super::tables::{Choice, HALVES, ROUND_KEYS, SPREAD};
use crate::bits::{Bits, Chunk};

/// A block of every lane after the initial permutation.
#[derive(Clone, Copy)]
pub(crate) struct State<V> {
    left: [V; 32],
    right: [V; 32],
}

impl<V: Bits> State<V> {
    /// Zeros.
    #[inline(always)]
    pub(crate) fn zero(cpu: V::Cpu) -> Self {
        let zero = [V::splat(cpu, 0); 32];
        Self { left: zero, right: zero }
    }

    /// Adds the first `count` planes of a block.
    #[inline(always)]
    pub(crate) fn add(&mut self, block: &Chunk<V>, count: usize) {
        for i in 0..32 {
            let (left, right) = (usize::from(HALVES[i]), usize::from(HALVES[i + 32]));
            if left < count {
                self.left[i] = self.left[i].xor(block[left]);
            }
            if right < count {
                self.right[i] = self.right[i].xor(block[right]);
            }
        }
    }

    /// Adds ones to one plane of the block.
    #[inline(always)]
    pub(crate) fn flip(&mut self, plane: usize) {
        let [left, right] = [&mut self.left, &mut self.right];
        for (state, place) in left.iter_mut().chain(right).zip(HALVES) {
            if usize::from(place) == plane {
                *state = state.not();
            }
        }
    }

    /// Adds ones to all of it.
    #[inline(always)]
    pub(crate) fn complement(&mut self) {
        for i in 0..32 {
            self.left[i] = self.left[i].not();
            self.right[i] = self.right[i].not();
        }
    }

    /// The block.
    #[inline(always)]
    pub(crate) fn to(&self, block: &mut Chunk<V>) {
        for i in 0..32 {
            block[usize::from(HALVES[i])] = self.left[i];
            block[usize::from(HALVES[i + 32])] = self.right[i];
        }
    }
}

/// One pass of DES over a block of every lane.
#[inline(always)]
pub(crate) fn pass<V: Bits, const DECRYPT: bool>(
    state: &mut State<V>,
    key: &Chunk<V>,
    round: impl Fn(&mut [V; 32], &[V; 32], &Chunk<V>, &Choice),
) {
    let State { left, right } = state;
    // Out of the compiler's sight: knowing the tables, it makes sixteen rounds of one, and they leave the instruction cache.
    let choices = black_box(&ROUND_KEYS);
    for pair in 0..8 {
        let keys = |n: usize| &choices[if DECRYPT { 15 - n } else { n }];
        round(left, right, key, keys(2 * pair));
        round(right, left, key, keys(2 * pair + 1));
    }
    core::mem::swap(left, right);
}

/// left += f(right, key). `choice` says which of the key's planes the round key is.
#[inline(always)]
pub(crate) fn round<V: Bits>(left: &mut [V; 32], right: &[V; 32], key: &Chunk<V>, choice: &Choice) {
    macro_rules! boxes {
        ($($s:ident $n:literal),*) => { $(
            // Expansion: the four bits of the box, and one of each neighbour.
            let [a, b, c, d] = $s([
                argument::<V, { 4 * $n + 31 }, { 6 * $n }>(right, key, choice),
                argument::<V, { 4 * $n + 32 }, { 6 * $n + 1 }>(right, key, choice),
                argument::<V, { 4 * $n + 33 }, { 6 * $n + 2 }>(right, key, choice),
                argument::<V, { 4 * $n + 34 }, { 6 * $n + 3 }>(right, key, choice),
                argument::<V, { 4 * $n + 35 }, { 6 * $n + 4 }>(right, key, choice),
                argument::<V, { 4 * $n + 36 }, { 6 * $n + 5 }>(right, key, choice),
            ]);
            spread::<V, { 4 * $n }>(left, a);
            spread::<V, { 4 * $n + 1 }>(left, b);
            spread::<V, { 4 * $n + 2 }>(left, c);
            spread::<V, { 4 * $n + 3 }>(left, d);
        )* };
    }
    boxes!(s1 0, s2 1, s3 2, s4 3, s5 4, s6 5, s7 6, s8 7);
}

#[inline(always)]
fn argument<V: Bits, const BIT: usize, const KEY: usize>(
    right: &[V; 32],
    key: &Chunk<V>,
    choice: &Choice,
) -> V {
    right[BIT % 32].xor(key[choice.plane::<KEY>()])
}

#[inline(always)]
fn spread<V: Bits, const FROM: usize>(left: &mut [V; 32], value: V) {
    let to = const { SPREAD[FROM] };
    left[to] = left[to].xor(value);
}
