#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod entry;
pub mod state;
