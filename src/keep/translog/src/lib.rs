#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod entry;
pub mod note;
pub mod proof;
pub mod state;
pub mod tile;
pub mod tree;
