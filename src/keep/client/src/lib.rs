#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod calls;
mod config;
mod connection;
mod error;
mod patient;
pub mod receipt;
mod settlement;

pub use calls::Client;
pub use config::{ClientBuilder, Timeouts};
pub use error::{Error, Refusal};
pub use settlement::{Records, Verdicts, Verified};
pub use translog::note::VerifierKey;
