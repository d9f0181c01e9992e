#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod damage;
mod day;
mod explain;
mod keys;
mod line;
mod masters;
mod random;

pub use day::{Day, DayLine};
pub use explain::{Explanation, Finding, Sentence, explain};
pub use keys::{KeysError, PracticeKeys};
pub use masters::{PracticeLoad, PracticeMaster, generate_masters};
pub use random::Random;
