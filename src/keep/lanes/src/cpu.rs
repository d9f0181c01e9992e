//! What this CPU can do, as proofs: a token exists only where its instructions do, and only a token makes a vector.

use std::arch::is_x86_feature_detected;

/// AVX-512F, BW, VL and GFNI.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Avx512(());

/// AVX2 and GFNI.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Avx2Gfni(());

/// AVX2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Avx2(());

impl Avx512 {
    /// The proof, if this CPU and its operating system have it all.
    pub(crate) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("gfni");
        all.then_some(Self(()))
    }
}

impl Avx2Gfni {
    /// The proof, if this CPU and its operating system have both.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("gfni")).then_some(Self(()))
    }

    /// The lesser proof in this one.
    pub(crate) const fn avx2(self) -> Avx2 {
        let Self(proof) = self;
        Avx2(proof)
    }
}

impl Avx2 {
    /// The proof, if this CPU and its operating system have it.
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}
