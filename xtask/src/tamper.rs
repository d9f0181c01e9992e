//! `cargo xtask tamper`: the tamper campaign of the audit crate, in release form.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cargo;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Edits, each of which must be found and located.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) edits: u64,
    /// Crash recoveries, none of which may alarm.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) recoveries: u64,
    /// First seed; edit and recovery N have the seed that is N above it.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// A log of yours in place of a made one.
    #[arg(long, value_name = "DIR", requires = "policy")]
    pub(crate) log: Option<PathBuf>,
    /// Its tlog-policy.
    #[arg(long, value_name = "FILE", requires = "log")]
    pub(crate) policy: Option<PathBuf>,
}

impl Options {
    /// What every test run does.
    pub(crate) const fn of_every_run() -> Self {
        Self { edits: 20_000, recoveries: 200, seed: 1, log: None, policy: None }
    }
}

/// Runs it; fails at the first thing that is missed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--locked", "--release", "-p", "audit", "--test", "campaign", "--", "--nocapture"]);
    command.current_dir(cargo::root());
    for (name, value) in
        [("EDITS", options.edits), ("RECOVERIES", options.recoveries), ("SEED", options.seed)]
    {
        command.env(format!("CITYKEEP_{name}"), value.to_string());
    }
    for (name, path) in [("LOG", &options.log), ("POLICY", &options.policy)] {
        if let Some(path) = path {
            command.env(format!("CITYKEEP_{name}"), std::path::absolute(path)?);
        }
    }
    cargo::run(&mut command, "the tamper campaign")
}
