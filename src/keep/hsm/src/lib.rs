#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod accounts;
mod answer;
mod batch;
mod calls;
mod check;
mod command;
mod genesis;
mod held;
mod kat;
mod log;
mod module;
mod one_time;
mod random;
mod recovery;
mod root;
mod serve;
mod signer;
mod supervisor;
mod table;

pub mod start;

pub use answer::Connection;
pub use module::Module;

#[cfg(test)]
mod tests;
