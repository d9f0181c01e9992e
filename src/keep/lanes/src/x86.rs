//! Registers of x86-64 as lanes: AVX-512 and AVX2, for bit slices and, where the processor inverts bytes (GFNI), for byte planes.

mod bits;
mod planes;
mod wipe;

use core::arch::x86_64::{__m256i, __m512i};

pub(crate) use planes::Plane;
pub(crate) use wipe::{wipe_avx2, wipe_avx512};

/// 512 bits, 64 bytes. Made from [`crate::cpu::Avx512`] only.
#[derive(Clone, Copy)]
pub(crate) struct Zmm(__m512i);

/// 256 bits. Made from [`crate::cpu::Avx2`] only.
#[derive(Clone, Copy)]
pub(crate) struct Ymm(__m256i);

/// 32 bytes on a CPU that inverts them. Made from [`crate::cpu::Avx2Gfni`] only.
#[derive(Clone, Copy)]
pub(crate) struct YmmGfni(__m256i);
