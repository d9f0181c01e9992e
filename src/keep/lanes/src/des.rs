//! DES and two-key 3DES (FIPS 46-3) over many lanes, on bit slices.
//!
//! A round key is a choice of key planes, so that the key schedule costs nothing; permutations are names of planes; what is left is
//! the S-boxes (`boxes.rs`) and sums. Keys and blocks are chunks; a state is the halves L and R after the initial permutation,
//! and stays so from one pass to the next, since the final permutation and the initial one cancel.

mod boxes;
mod kernel;
mod run;
mod tables;

pub(crate) use run::portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use run::{avx2, avx512};
