#![doc = include_str!("../README.md")]
#![expect(
    unsafe_code,
    reason = "mapping, locking and thread stacks are system calls; they live here so that the module has none"
)]

mod arena;
mod error;
mod free_list;
pub mod handed;
pub mod peer;
pub mod process;
mod region;
pub mod sandbox;
mod stack;

pub use arena::{Arena, Secret};
pub use error::{AllocError, MemoryError};
pub use region::{MemoryMode, Preference};
pub use stack::spawn_secret_stack;
