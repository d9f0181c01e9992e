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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, MacRule, Plan, ROW, Step};

    /// What the vector registers hold: `[register][word]`, words beyond 256 bits and registers beyond 15 only with AVX-512.
    fn registers(wide: bool) -> [[u64; 8]; 32] {
        let mut all = [[0_u64; 8]; 32];
        let to = all.as_mut_ptr();
        if wide {
            // SAFETY: only asked for where AVX-512 is; 32 stores of 64 bytes lie in the array. JUSTIFICATION: no safe code reads registers.
            unsafe {
                asm!(
                    "vmovdqu64 [{0}], zmm0", "vmovdqu64 [{0} + 64], zmm1", "vmovdqu64 [{0} + 128], zmm2",
                    "vmovdqu64 [{0} + 192], zmm3", "vmovdqu64 [{0} + 256], zmm4", "vmovdqu64 [{0} + 320], zmm5",
                    "vmovdqu64 [{0} + 384], zmm6", "vmovdqu64 [{0} + 448], zmm7", "vmovdqu64 [{0} + 512], zmm8",
                    "vmovdqu64 [{0} + 576], zmm9", "vmovdqu64 [{0} + 640], zmm10", "vmovdqu64 [{0} + 704], zmm11",
                    "vmovdqu64 [{0} + 768], zmm12", "vmovdqu64 [{0} + 832], zmm13", "vmovdqu64 [{0} + 896], zmm14",
                    "vmovdqu64 [{0} + 960], zmm15", "vmovdqu64 [{0} + 1024], zmm16", "vmovdqu64 [{0} + 1088], zmm17",
                    "vmovdqu64 [{0} + 1152], zmm18", "vmovdqu64 [{0} + 1216], zmm19", "vmovdqu64 [{0} + 1280], zmm20",
                    "vmovdqu64 [{0} + 1344], zmm21", "vmovdqu64 [{0} + 1408], zmm22", "vmovdqu64 [{0} + 1472], zmm23",
                    "vmovdqu64 [{0} + 1536], zmm24", "vmovdqu64 [{0} + 1600], zmm25", "vmovdqu64 [{0} + 1664], zmm26",
                    "vmovdqu64 [{0} + 1728], zmm27", "vmovdqu64 [{0} + 1792], zmm28", "vmovdqu64 [{0} + 1856], zmm29",
                    "vmovdqu64 [{0} + 1920], zmm30", "vmovdqu64 [{0} + 1984], zmm31",
                    in(reg) to, options(nostack, preserves_flags)
                );
            }
        } else {
            // SAFETY: only asked for where AVX2 is; as above. JUSTIFICATION: as above.
            unsafe {
                asm!(
                    "vmovdqu [{0}], ymm0", "vmovdqu [{0} + 64], ymm1", "vmovdqu [{0} + 128], ymm2",
                    "vmovdqu [{0} + 192], ymm3", "vmovdqu [{0} + 256], ymm4", "vmovdqu [{0} + 320], ymm5",
                    "vmovdqu [{0} + 384], ymm6", "vmovdqu [{0} + 448], ymm7", "vmovdqu [{0} + 512], ymm8",
                    "vmovdqu [{0} + 576], ymm9", "vmovdqu [{0} + 640], ymm10", "vmovdqu [{0} + 704], ymm11",
                    "vmovdqu [{0} + 768], ymm12", "vmovdqu [{0} + 832], ymm13", "vmovdqu [{0} + 896], ymm14",
                    "vmovdqu [{0} + 960], ymm15",
                    in(reg) to, options(nostack, preserves_flags)
                );
            }
        }
        all
    }

    /// Registers that hold something after `work`. The lower halves of the first registers are anybody's: what runs between
    /// the call and the look moves its own bytes through them.
    fn left_by(wide: bool, work: impl FnOnce()) -> usize {
        work();
        let all = registers(wide);
        let upper = all.iter().filter(|words| words[2..] != [0; 6]).count();
        upper + all.iter().skip(8).filter(|words| words[..2] != [0; 2]).count()
    }

    #[test]
    fn nothing_of_a_call_is_left_in_vector_registers() {
        let (top, rows, picks) = ([0x77; 16], [[0x5b; ROW]; 2], [0, 1]);
        for backend in Backend::available().filter(|backend| backend.name() != "portable") {
            let wide = backend.name() == "avx512";
            for rule in [MacRule::Sm4, MacRule::DesFolded] {
                let plan = Plan { rule, top: &top, steps: &[Step::PerLane], message_len: 24 };
                let mut verdicts = [0];
                let left = left_by(wide, || {
                    let _ = backend.verify(&plan, &rows, &picks, &mut verdicts);
                });
                assert_eq!(left, 0, "{} {rule:?}", backend.name());
                let mut tag = [0; 4];
                assert_eq!(
                    left_by(wide, || tag = backend.mac(rule, &top, &[1; 50])),
                    0,
                    "{} {rule:?} single",
                    backend.name()
                );
                assert_ne!(tag, [0; 4]);
            }
        }
    }

    /// The red control: the same look finds what nobody zeroed.
    #[test]
    fn what_is_not_zeroed_is_seen() {
        for backend in Backend::available().filter(|backend| backend.name() != "portable") {
            let wide = backend.name() == "avx512";
            let left = left_by(wide, || {
                backend.wipe_registers();
                // SAFETY: an AVX2 instruction where AVX2 is. JUSTIFICATION: no safe code fills a register and leaves it so.
                unsafe {
                    asm!("vpcmpeqb ymm12, ymm12, ymm12", out("ymm12") _, options(nomem, nostack, preserves_flags));
                }
            });
            assert_eq!(left, 2, "both halves of one register");
        }
    }
}
