//! The program as people call it: exit codes and words, without any service.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod blacklist;
mod words;

use std::path::Path;
use std::process::{Command, Output};

/// `citykeep` in this directory.
fn citykeep(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_citykeep")).args(words).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
