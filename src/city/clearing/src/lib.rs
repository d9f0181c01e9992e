#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod day;
mod output;
mod verdicts;
mod verify;

pub use day::{Day, DayError};
pub use output::{Output, OutputError};
pub use verdicts::{VerdictsError, read_verdicts, write_verdicts};
pub use verify::{DayResult, Progress, verify_day};
