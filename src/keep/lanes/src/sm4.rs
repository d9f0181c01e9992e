//! SM4 (GB/T 32907-2016) over many lanes.

pub(crate) mod bits;
mod field;
#[cfg(target_arch = "x86_64")]
mod kernel;
#[cfg(target_arch = "x86_64")]
pub(crate) mod planes;
mod tower;
