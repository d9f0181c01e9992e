//! Byte planes: one register holds the same byte of 64 or 32 lanes, on a CPU that maps and inverts bytes (GFNI).

#[allow(clippy::wildcard_imports, reason = "intrinsics have names that nothing else has")]
use core::arch::x86_64::*;

use super::{YmmGfni, Zmm};
use crate::cpu::{Avx2Gfni, Avx512};
use crate::rows::{ROW, part};

/// A register that holds one byte of each of [`Plane::LANES`] lanes. Whoever has one has the CPU for it: the only ways to
/// a first one take the token.
pub(crate) trait Plane: Copy {
    /// Proof that the CPU has the instructions.
    type Cpu: Copy;
    /// Bytes of the register.
    const LANES: usize;

    /// The same byte in every lane.
    fn splat(cpu: Self::Cpu, byte: u8) -> Self;
    /// A linear map, as an operand.
    fn operand(cpu: Self::Cpu, map: u64) -> Self;
    /// Sixteen bytes of a row for each sixteen lanes of the register: those at `AT` of rows `i`, `i` + 16, and so on.
    fn gather<const AT: usize>(cpu: Self::Cpu, rows: &[&[u8; ROW]; 64], i: usize) -> Self;
    /// Sum.
    fn xor(self, other: Self) -> Self;
    /// Union.
    fn or(self, other: Self) -> Self;
    /// Sum of three, in one instruction where there is one, and in this order.
    fn xor3(self, b: Self, c: Self) -> Self;
    /// A linear map of each byte.
    fn map(self, operand: Self) -> Self;
    /// A linear map of each byte's inverse in the AES field, and a constant.
    fn map_inverse<const CONSTANT: i32>(self, operand: Self) -> Self;
    /// Bit i says that lane i's byte is zero.
    fn zeros(self) -> u64;
    /// The low (`HIGH` = false) or high eight bytes of each sixteen, alternating with those of `other`.
    fn unpack<const HIGH: bool>(self, other: Self) -> Self;
    /// The bytes; those beyond [`Plane::LANES`] are zero.
    fn bytes(self) -> [u8; 64];
}

// JUSTIFICATION of every block below: the processor's byte inversion has no safe form outside functions compiled for it,
// and generic code cannot be such a function; it is 60 times as fast as tables, and has no secret-dependent address.
// SAFETY of every block below: a value of the type, or the token in the arguments, exists only where the CPU has the
// instructions (`cpu.rs`).
impl Plane for Zmm {
    type Cpu = Avx512;
    const LANES: usize = 64;

    #[inline(always)]
    fn splat(_: Avx512, byte: u8) -> Self {
        // SAFETY: the token.
        Self(unsafe { _mm512_set1_epi8(byte.cast_signed()) })
    }

    #[inline(always)]
    fn operand(_: Avx512, map: u64) -> Self {
        // SAFETY: the token.
        Self(unsafe { _mm512_set1_epi64(map.cast_signed()) })
    }

    #[inline(always)]
    fn gather<const AT: usize>(_: Avx512, rows: &[&[u8; ROW]; 64], i: usize) -> Self {
        // SAFETY: the token.
        unsafe {
            let low = _mm512_castsi128_si512(sixteen(part::<AT>(rows[i])));
            let low = _mm512_inserti32x4::<1>(low, sixteen(part::<AT>(rows[i + 16])));
            let low = _mm512_inserti32x4::<2>(low, sixteen(part::<AT>(rows[i + 32])));
            Self(_mm512_inserti32x4::<3>(low, sixteen(part::<AT>(rows[i + 48]))))
        }
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm512_or_si512(self.0, other.0) })
    }

    #[inline(always)]
    fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { xor3_as_written(self.0, b.0, c.0) })
    }

    #[inline(always)]
    fn map(self, operand: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm512_gf2p8affine_epi64_epi8::<0>(self.0, operand.0) })
    }

    #[inline(always)]
    fn map_inverse<const CONSTANT: i32>(self, operand: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm512_gf2p8affineinv_epi64_epi8::<CONSTANT>(self.0, operand.0) })
    }

    #[inline(always)]
    fn zeros(self) -> u64 {
        // SAFETY: the value.
        unsafe { _mm512_testn_epi8_mask(self.0, self.0) }
    }

    #[inline(always)]
    fn unpack<const HIGH: bool>(self, other: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe {
            if HIGH { _mm512_unpackhi_epi8(self.0, other.0) } else { _mm512_unpacklo_epi8(self.0, other.0) }
        })
    }

    #[inline(always)]
    fn bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        // SAFETY: the value; the store writes the 64 bytes of a live array.
        unsafe { _mm512_storeu_epi8(bytes.as_mut_ptr().cast(), self.0) }
        bytes
    }
}

/// The compiler re-associates sums into longer chains, and a data round's chain decides the speed: so this one is an
/// instruction that it cannot look into.
#[target_feature(enable = "avx512f")]
#[inline]
fn xor3_as_written(mut a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    // SAFETY: one instruction on registers; no memory, no stack, no flags. JUSTIFICATION: a quarter of the kernel's time.
    unsafe {
        core::arch::asm!(
            "vpternlogq {a}, {b}, {c}, 0x96", a = inout(zmm_reg) a, b = in(zmm_reg) b, c = in(zmm_reg) c,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    a
}

impl Plane for YmmGfni {
    type Cpu = Avx2Gfni;
    const LANES: usize = 32;

    #[inline(always)]
    fn splat(_: Avx2Gfni, byte: u8) -> Self {
        // SAFETY: the token.
        Self(unsafe { _mm256_set1_epi8(byte.cast_signed()) })
    }

    #[inline(always)]
    fn operand(_: Avx2Gfni, map: u64) -> Self {
        // SAFETY: the token.
        Self(unsafe { _mm256_set1_epi64x(map.cast_signed()) })
    }

    #[inline(always)]
    fn gather<const AT: usize>(_: Avx2Gfni, rows: &[&[u8; ROW]; 64], i: usize) -> Self {
        // SAFETY: the token.
        unsafe {
            let low = _mm256_castsi128_si256(sixteen(part::<AT>(rows[i])));
            Self(_mm256_inserti128_si256::<1>(low, sixteen(part::<AT>(rows[i + 16]))))
        }
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm256_xor_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm256_or_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn xor3(self, b: Self, c: Self) -> Self {
        self.xor(b).xor(c)
    }

    #[inline(always)]
    fn map(self, operand: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm256_gf2p8affine_epi64_epi8::<0>(self.0, operand.0) })
    }

    #[inline(always)]
    fn map_inverse<const CONSTANT: i32>(self, operand: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe { _mm256_gf2p8affineinv_epi64_epi8::<CONSTANT>(self.0, operand.0) })
    }

    #[inline(always)]
    fn zeros(self) -> u64 {
        // SAFETY: the value.
        let mask = unsafe { _mm256_movemask_epi8(_mm256_cmpeq_epi8(self.0, _mm256_setzero_si256())) };
        u64::from(mask.cast_unsigned())
    }

    #[inline(always)]
    fn unpack<const HIGH: bool>(self, other: Self) -> Self {
        // SAFETY: the value.
        Self(unsafe {
            if HIGH { _mm256_unpackhi_epi8(self.0, other.0) } else { _mm256_unpacklo_epi8(self.0, other.0) }
        })
    }

    #[inline(always)]
    fn bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        // SAFETY: the value; the store writes the first 32 bytes of a live array of 64.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), self.0) }
        bytes
    }
}

/// Sixteen bytes.
#[inline(always)]
fn sixteen(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: SSE2 is part of x86-64; reads the 16 bytes of a live array, of any alignment. JUSTIFICATION: above.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
