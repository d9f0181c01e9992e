#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod ceremony;
mod cli;
mod client;
mod failure;
#[cfg(test)]
mod fake;
mod files;
mod genesis;
mod grants;
mod instance;
mod keyfile;
mod keys_file;
mod link;
mod logbook;
mod pki;
mod profile_file;
mod prompt;
mod propose;
mod rehearse;
mod script;
mod secret;
mod shares;
mod transcript;
mod words;

pub use cli::run;
