//! The witness: what it answers, what it remembers, what it copies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod memory;
mod mirror;
mod protocol;
mod support;
