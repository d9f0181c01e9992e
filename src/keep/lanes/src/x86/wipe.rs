//! Lane data must not outlive a call in registers either.

use core::arch::asm;

use crate::cpu::{Avx2, Avx512};

/// Zeroes every vector register.
pub(crate) fn wipe_avx512(_: Avx512) {
    // SAFETY: the token. JUSTIFICATION: below.
    unsafe { zero_all_avx512() }
}

/// Zeroes every vector register that code for AVX2 uses.
pub(crate) fn wipe_avx2(_: Avx2) {
    // SAFETY: the token. JUSTIFICATION: below.
    unsafe { zero_all_avx2() }
}

#[target_feature(enable = "avx512f")]
#[inline(never)]
fn zero_all_avx512() {
    // SAFETY: the function has the feature; all registers are declared as changed. JUSTIFICATION: no safe
    // code reaches registers.
    unsafe {
        asm!(
            "vzeroall",
            "vpxorq zmm16, zmm16, zmm16", "vpxorq zmm17, zmm17, zmm17", "vpxorq zmm18, zmm18, zmm18",
            "vpxorq zmm19, zmm19, zmm19", "vpxorq zmm20, zmm20, zmm20", "vpxorq zmm21, zmm21, zmm21",
            "vpxorq zmm22, zmm22, zmm22", "vpxorq zmm23, zmm23, zmm23", "vpxorq zmm24, zmm24, zmm24",
            "vpxorq zmm25, zmm25, zmm25", "vpxorq zmm26, zmm26, zmm26", "vpxorq zmm27, zmm27, zmm27",
            "vpxorq zmm28, zmm28, zmm28", "vpxorq zmm29, zmm29, zmm29", "vpxorq zmm30, zmm30, zmm30",
            "vpxorq zmm31, zmm31, zmm31",
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
            out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _, out("zmm17") _,
            out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _, out("zmm28") _, out("zmm29") _,
            out("zmm30") _, out("zmm31") _,
            options(nomem, nostack, preserves_flags)
        );
    }
}

#[target_feature(enable = "avx2")]
#[inline(never)]
fn zero_all_avx2() {
    // SAFETY: the function has the feature; all registers are declared as changed. JUSTIFICATION: no safe
    // code reaches registers.
    unsafe {
        asm!(
            "vzeroall",
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
            out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nomem, nostack, preserves_flags)
        );
    }
}
