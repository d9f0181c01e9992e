#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod durable;

pub mod config;
pub mod key;
pub mod memory;
pub mod mirror;
pub mod serve;
pub mod source;
pub mod witness;
