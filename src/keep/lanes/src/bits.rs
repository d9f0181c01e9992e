//! Bit slices: one register holds the same bit of 64, 256 or 512 lanes, and a block is 64 or 128 registers. Nothing but
//! logic on whole registers happens to lane data here, so there is nothing a cache or a branch predictor could tell.

use crate::Out;
use crate::rows::{ROW, Rows};

/// Bytes of a `chunk`: one DES block, half an SM4 block.
pub(crate) const CHUNK: usize = 8;
/// Chunks of a row.
pub(crate) const CHUNKS: usize = ROW / CHUNK;
/// 8 bytes of every lane: plane 8i + b holds bit b (1 << b) of byte i.
pub(crate) type Chunk<V> = [V; 64];

/// One bit of each of 64 · [`Bits::WORDS`] lanes: lane 64w + i is bit i of word w. Whoever has one has the CPU for it: the only
/// ways to a first one take the token.
pub(crate) trait Bits: Copy {
    /// Proof that the CPU has the instructions.
    type Cpu: Copy;
    /// Words of 64 bits.
    const WORDS: usize;

    /// The same word everywhere: [`u64::MAX`] is a one in every lane.
    fn splat(cpu: Self::Cpu, word: u64) -> Self;
    /// Word w of the result's register c is chunk c of row `first` + 64w: a row of every group of 64 lanes.
    fn gather(cpu: Self::Cpu, rows: &Rows<'_>, first: usize) -> [Self; CHUNKS];
    /// The words; those beyond [`Bits::WORDS`] are zero.
    fn words(self) -> [u64; 8];
    /// Sum.
    fn xor(self, other: Self) -> Self;
    /// Product.
    fn and(self, other: Self) -> Self;
    /// Union.
    fn or(self, other: Self) -> Self;
    /// Complement.
    fn not(self) -> Self;
    /// Any function of three bits: bit 4a + 2b + c of `F` is its value.
    fn lut<const F: i32>(a: Self, b: Self, c: Self) -> Self;
    /// Each word to the left.
    fn left<const BY: u32>(self) -> Self;
    /// Each word to the right.
    fn right<const BY: u32>(self) -> Self;
}

impl Bits for u64 {
    type Cpu = ();
    const WORDS: usize = 1;

    #[inline(always)]
    fn splat((): (), word: u64) -> Self {
        word
    }

    #[inline(always)]
    fn gather((): (), rows: &Rows<'_>, first: usize) -> [Self; CHUNKS] {
        chunks(rows.row(first))
    }

    #[inline(always)]
    fn words(self) -> [u64; 8] {
        [self, 0, 0, 0, 0, 0, 0, 0]
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self ^ other
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        self & other
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        self | other
    }

    #[inline(always)]
    fn not(self) -> Self {
        !self
    }

    #[inline(always)]
    fn lut<const F: i32>(a: Self, b: Self, c: Self) -> Self {
        lut_of_gates::<Self, F>(a, b, c)
    }

    #[inline(always)]
    fn left<const BY: u32>(self) -> Self {
        self << BY
    }

    #[inline(always)]
    fn right<const BY: u32>(self) -> Self {
        self >> BY
    }
}

/// A row as words.
#[inline(always)]
pub(crate) fn chunks(row: &[u8; ROW]) -> [u64; CHUNKS] {
    let mut words = [0; CHUNKS];
    for (word, bytes) in words.iter_mut().zip(row.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// A function of three bits out of functions of two: f = f₀ + x·(f₀ + f₁), for the x that makes the parts cheapest.
#[inline(always)]
pub(crate) fn lut_of_gates<V: Bits, const F: i32>(a: V, b: V, c: V) -> V {
    let (split, low, difference) = const { cheapest(F) };
    let (x, y, z) = match split {
        0 => (a, b, c),
        1 => (b, a, c),
        _ => (c, a, b),
    };
    match difference {
        0 => two(low, y, z),
        0xf => two(low, y, z).xor(x),
        _ if low == 0 => x.and(two(difference, y, z)),
        _ => two(low, y, z).xor(x.and(two(difference, y, z))),
    }
}

/// Which of the three bits to split at, and then the tables of f₀ and f₀ + f₁ over the other two.
const fn cheapest(table: i32) -> (u8, i32, i32) {
    let (mut best, mut cost, mut split) = ((0, 0, 0), i32::MAX, 0);
    while split < 3 {
        let (mut low, mut high, mut i) = (0, 0, 0);
        while i < 8 {
            let (x, y, z) = match split {
                0 => (i >> 2, i >> 1 & 1, i & 1),
                1 => (i >> 1 & 1, i >> 2, i & 1),
                _ => (i & 1, i >> 2, i >> 1 & 1),
            };
            let bit = (table >> i & 1) << (y * 2 + z);
            if x == 0 {
                low |= bit;
            } else {
                high |= bit;
            }
            i += 1;
        }
        let this = price(low) + price(low ^ high) + 2;
        if this < cost {
            (best, cost) = ((split, low, low ^ high), this);
        }
        split += 1;
    }
    best
}

/// Gates of a function of two bits.
const fn price(table: i32) -> i32 {
    match table {
        0 => -1,
        0xf | 0xa | 0xc => 0,
        6 | 8 | 14 | 3 | 5 => 1,
        _ => 2,
    }
}

/// Any function of two bits: bit 2y + z of the table is its value.
#[inline(always)]
fn two<V: Bits>(table: i32, y: V, z: V) -> V {
    match table {
        0x0 => y.xor(y),
        0x1 => y.or(z).not(),
        0x2 => y.not().and(z),
        0x3 => y.not(),
        0x4 => y.and(z.not()),
        0x5 => z.not(),
        0x6 => y.xor(z),
        0x7 => y.and(z).not(),
        0x8 => y.and(z),
        0x9 => y.xor(z).not(),
        0xa => z,
        0xb => y.not().or(z),
        0xc => y,
        0xd => y.or(z.not()),
        0xe => y.or(z),
        _ => y.xor(y).not(),
    }
}

/// The rows of 64 · [`Bits::WORDS`] lanes as planes, chunk by chunk.
#[inline(always)]
pub(crate) fn load<V: Bits>(cpu: V::Cpu, rows: &Rows<'_>, first: usize, out: &mut [Chunk<V>; CHUNKS]) {
    for lane in 0..64 {
        let gathered = V::gather(cpu, rows, first + lane);
        for (chunk, words) in out.iter_mut().zip(gathered) {
            chunk[lane] = words;
        }
    }
    for chunk in out {
        transpose(cpu, chunk);
    }
}

/// Planes of a chunk that all lanes share.
#[inline(always)]
pub(crate) fn shared<V: Bits>(cpu: V::Cpu, bytes: [u8; CHUNK]) -> Chunk<V> {
    let mut word = u64::from_le_bytes(bytes);
    let mut planes = [V::splat(cpu, 0); 64];
    for plane in &mut planes {
        *plane = V::splat(cpu, (word & 1).wrapping_neg());
        word >>= 1;
    }
    planes
}

/// Transposes 64 × 64 bits in each word of the register: bit j of register i changes places with bit i of register j.
#[inline(always)]
pub(crate) fn transpose<V: Bits>(cpu: V::Cpu, rows: &mut Chunk<V>) {
    swap::<V, 32>(cpu, rows, 0xffff_ffff);
    swap::<V, 16>(cpu, rows, 0xffff_0000_ffff);
    swap::<V, 8>(cpu, rows, 0x00ff_00ff_00ff_00ff);
    swap::<V, 4>(cpu, rows, 0x0f0f_0f0f_0f0f_0f0f);
    swap::<V, 2>(cpu, rows, 0x3333_3333_3333_3333);
    swap::<V, 1>(cpu, rows, 0x5555_5555_5555_5555);
}

/// Exchanges the upper bits of registers i with the lower bits of registers i + `BY`, in groups of `BY`.
#[inline(always)]
fn swap<V: Bits, const BY: u32>(cpu: V::Cpu, rows: &mut Chunk<V>, mask: u64) {
    let (by, mask) = (BY as usize, V::splat(cpu, mask));
    for pair in 0..32 {
        let i = (pair & !(by - 1)) * 2 + (pair & (by - 1));
        let (low, high) = (rows[i], rows[i + by]);
        // (low ≫ BY + high) · mask
        let moved = V::lut::<0x60>(mask, low.right::<BY>(), high);
        rows[i + by] = high.xor(moved);
        rows[i] = low.xor(moved.left::<BY>());
    }
}

/// Gives a group's tags out, or compares them with those in the rows. `tag` is in the order of a chunk's planes.
#[inline(always)]
pub(crate) fn finish<V: Bits>(
    cpu: V::Cpu,
    tag: &[V; 32],
    chunks: &[Chunk<V>; CHUNKS],
    first: usize,
    message_len: usize,
    out: &mut Out<'_>,
) {
    let zero = V::splat(cpu, 0);
    match out {
        Out::Tags(tags) => {
            let mut rows = [zero; 64];
            rows[..32].copy_from_slice(tag);
            transpose(cpu, &mut rows);
            for (lane, row) in rows.iter().enumerate() {
                for (w, word) in row.words().iter().enumerate().take(V::WORDS) {
                    if let Some(tag) = tags.get_mut(first + 64 * w + lane) {
                        let [a, b, c, d, ..] = word.to_le_bytes();
                        *tag = [a, b, c, d];
                    }
                }
            }
        }
        Out::Verdicts(bits) => {
            let claimed = chunks.as_flattened().iter().skip(64 + 8 * message_len);
            let mut wrong = zero;
            for (tag, claimed) in tag.iter().zip(claimed) {
                wrong = wrong.or(tag.xor(*claimed));
            }
            for (to, word) in bits.iter_mut().skip(first / 64).zip(wrong.words()).take(V::WORDS) {
                *to = !word;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every function of three bits, at every argument: what the circuits of DES stand on.
    #[test]
    fn gates_for_all_256_functions() {
        fn check<const F: i32>() {
            let got = lut_of_gates::<u64, F>(0xf0, 0xcc, 0xaa) & 0xff;
            assert_eq!(got, u64::try_from(F).unwrap(), "{F:02x}");
        }
        macro_rules! each { ($($high:literal)*) => { $( each!(@ $high 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15); )* };
            (@ $high:literal $($low:literal)*) => { $( check::<{ $high * 16 + $low }>(); )* } }
        each!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }

    #[test]
    fn transposition_moves_every_bit_to_its_place() {
        for (i, j) in (0..64).flat_map(|i| (0..64).map(move |j| (i, j))) {
            let mut rows = [0_u64; 64];
            rows[i] = 1 << j;
            transpose((), &mut rows);
            let mut expected = [0; 64];
            expected[j] = 1 << i;
            assert_eq!(rows, expected);
        }
    }
}
