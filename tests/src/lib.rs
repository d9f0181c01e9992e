#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// This crate is nothing but tests and what they share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]

pub mod house;
pub mod scan;
pub mod secrets;
pub mod socket;
