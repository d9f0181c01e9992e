//! Bit slices in AVX-512 and AVX2 registers.

#[allow(clippy::wildcard_imports, reason = "intrinsics have names that nothing else has")]
use core::arch::x86_64::*;

use super::{Ymm, Zmm};
use crate::bits::{Bits, CHUNKS, chunks, lut_of_gates};
use crate::cpu::{Avx2, Avx512};
use crate::rows::Rows;

// JUSTIFICATION of every block below: intrinsics are safe inside functions compiled for the feature only, and generic code
// cannot be such a function. SAFETY of every block below: a value of the type, or the token in the arguments, exists only
// where the CPU has the instructions (`cpu.rs`).
impl Bits for Zmm {
    type Cpu = Avx512;
    const WORDS: usize = 8;

    #[inline(always)]
    fn splat(_: Avx512, word: u64) -> Self {
        // SAFETY: the token.
        Self(unsafe { _mm512_set1_epi64(word.cast_signed()) })
    }

    #[inline(always)]
    fn gather(_: Avx512, rows: &Rows<'_>, first: usize) -> [Self; CHUNKS] {
        // SAFETY: the token; a masked load touches the five words of a row that it names, and no others.
        unsafe {
            let row = |w: usize| _mm512_maskz_loadu_epi64(0x1f, rows.row(first + 64 * w).as_ptr().cast());
            let r = [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)];
            // Words of rows 2i and 2i+1 side by side: words 0, 2, 4 in `even`, words 1, 3 in `odd`.
            let (e0, o0) = (_mm512_unpacklo_epi64(r[0], r[1]), _mm512_unpackhi_epi64(r[0], r[1]));
            let (e1, o1) = (_mm512_unpacklo_epi64(r[2], r[3]), _mm512_unpackhi_epi64(r[2], r[3]));
            let (e2, o2) = (_mm512_unpacklo_epi64(r[4], r[5]), _mm512_unpackhi_epi64(r[4], r[5]));
            let (e3, o3) = (_mm512_unpacklo_epi64(r[6], r[7]), _mm512_unpackhi_epi64(r[6], r[7]));
            // 0x88 takes the quarters 0 and 2 of both, 0xdd the quarters 1 and 3.
            let (a, b) = (_mm512_shuffle_i64x2::<0x88>(e0, e1), _mm512_shuffle_i64x2::<0x88>(e2, e3));
            let (c, d) = (_mm512_shuffle_i64x2::<0x44>(e0, e1), _mm512_shuffle_i64x2::<0x44>(e2, e3));
            let (e, f) = (_mm512_shuffle_i64x2::<0x44>(o0, o1), _mm512_shuffle_i64x2::<0x44>(o2, o3));
            [
                Self(_mm512_shuffle_i64x2::<0x88>(c, d)),
                Self(_mm512_shuffle_i64x2::<0x88>(e, f)),
                Self(_mm512_shuffle_i64x2::<0xdd>(c, d)),
                Self(_mm512_shuffle_i64x2::<0xdd>(e, f)),
                Self(_mm512_shuffle_i64x2::<0xdd>(a, b)),
            ]
        }
    }

    #[inline(always)]
    fn words(self) -> [u64; 8] {
        let mut words = [0; 8];
        // SAFETY: the value; the store writes the 64 bytes of a live array.
        unsafe { _mm512_storeu_epi64(words.as_mut_ptr().cast(), self.0) }
        words
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm512_and_si512(self.0, other.0) })
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm512_or_si512(self.0, other.0) })
    }

    #[inline(always)]
    fn not(self) -> Self {
        Self::lut::<0x0f>(self, self, self)
    }

    #[inline(always)]
    fn lut<const F: i32>(a: Self, b: Self, c: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm512_ternarylogic_epi64::<F>(a.0, b.0, c.0) })
    }

    #[inline(always)]
    fn left<const BY: u32>(self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm512_slli_epi64::<BY>(self.0) })
    }

    #[inline(always)]
    fn right<const BY: u32>(self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm512_srli_epi64::<BY>(self.0) })
    }
}

impl Bits for Ymm {
    type Cpu = Avx2;
    const WORDS: usize = 4;

    #[inline(always)]
    fn splat(_: Avx2, word: u64) -> Self {
        // SAFETY: the token.
        Self(unsafe { _mm256_set1_epi64x(word.cast_signed()) })
    }

    #[inline(always)]
    fn gather(cpu: Avx2, rows: &Rows<'_>, first: usize) -> [Self; CHUNKS] {
        let [a, b, c, d] =
            [rows.row(first), rows.row(first + 64), rows.row(first + 128), rows.row(first + 192)].map(chunks);
        let mut out = [Self::splat(cpu, 0); CHUNKS];
        for (i, out) in out.iter_mut().enumerate() {
            let [a, b, c, d] = [a[i], b[i], c[i], d[i]].map(u64::cast_signed);
            // SAFETY: the token.
            *out = Self(unsafe { _mm256_set_epi64x(d, c, b, a) });
        }
        out
    }

    #[inline(always)]
    fn words(self) -> [u64; 8] {
        let mut words = [0; 8];
        // SAFETY: the value; the store writes the first 32 bytes of a live array of 64.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), self.0) }
        words
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm256_xor_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm256_and_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm256_or_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn not(self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm256_xor_si256(self.0, _mm256_set1_epi64x(-1)) })
    }

    #[inline(always)]
    fn lut<const F: i32>(a: Self, b: Self, c: Self) -> Self {
        lut_of_gates::<Self, F>(a, b, c)
    }

    #[inline(always)]
    fn left<const BY: u32>(self) -> Self {
        // SAFETY: the value; a shift count below 64 fits.
        Self(unsafe { _mm256_sll_epi64(self.0, _mm_cvtsi32_si128(BY.cast_signed())) })
    }

    #[inline(always)]
    fn right<const BY: u32>(self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_srl_epi64(self.0, _mm_cvtsi32_si128(BY.cast_signed())) })
    }
}
