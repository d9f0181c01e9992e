#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod card_key;
mod cmac;
mod diversify;
mod master;
mod script;
mod sealed;
mod selftest;
mod tac;
mod tr31;
mod transport;

#[cfg(test)]
mod tests;

pub mod card;

pub use card_key::{CardKey, CardKeyError, Factors, LoadRequest, Mac1Wrong};
pub use diversify::{FactorError, check_factor, diversify, kcv};
pub use master::{MasterKey, MasterKeyError};
pub use script::{Script, ScriptError, WriteStyle, write_key};
pub use sealed::open_block;
#[doc(hidden)]
pub use selftest::{KnownAnswers, PurseAnswers, self_test_with};
pub use selftest::{SelfTestError, self_test};
pub use tac::{TacCheck, TacError, TacItem, card_tac};
pub use tr31::BlockHeader;
pub use transport::{BlockError, ListMac, TransportKey};
