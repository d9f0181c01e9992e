//! SM4 (GB/T 32907-2016) over many lanes.

pub(crate) mod bits;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "most of it is for byte planes"))]
mod field;
#[cfg(target_arch = "x86_64")]
mod kernel;
#[cfg(target_arch = "x86_64")]
pub(crate) mod planes;
mod tower;
