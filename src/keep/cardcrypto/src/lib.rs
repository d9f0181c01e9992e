#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod diversify;
mod master;
mod selftest;
mod tac;

pub use diversify::{FactorError, check_factor, diversify, kcv};
pub use master::{MasterKey, MasterKeyError};
#[doc(hidden)]
pub use selftest::{KnownAnswers, PurseAnswers, self_test_with};
pub use selftest::{SelfTestError, self_test};
pub use tac::{TacCheck, TacError, TacItem, card_tac};
