#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "audit")]
pub mod audit;
pub mod cosign;
pub mod entry;
pub mod epoch;
#[cfg(feature = "fs")]
pub mod fs;
pub mod note;
pub mod policy;
pub mod proof;
pub mod state;
pub mod tile;
pub mod tree;
