#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "json")]
pub mod api;
pub mod batch;
pub mod cbor;
pub mod client;
pub mod command;
pub mod error;
pub mod frame;
pub mod key;
pub mod licence;
pub mod list;
pub mod profile;
pub mod purse;
#[cfg(feature = "officers")]
pub mod quorum;
#[cfg(feature = "officers")]
pub mod seal;
pub mod share;
pub mod token;
pub mod tree16;
pub mod witness;
