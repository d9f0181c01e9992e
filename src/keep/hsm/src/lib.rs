#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod accounts;
mod answer;
mod batch;
mod calls;
mod check;
mod clock;
mod command;
mod epoch;
mod genesis;
mod held;
mod kat;
mod log;
mod module;
mod one_time;
mod random;
mod recovery;
mod restrict;
mod root;
mod serve;
mod signer;
mod supervisor;
mod table;
mod witness;

pub mod start;

pub use answer::Connection;
pub use epoch::{EPOCH_HOURS_DEFAULT, epoch_hours};
pub use module::Module;

#[cfg(test)]
mod tests;
