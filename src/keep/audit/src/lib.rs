#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod archive;
pub mod cli;
mod diff;
mod export;
mod failure;
mod feed;
mod follow;
mod http;
mod keys;
pub mod line;
mod meter;
mod place;
mod render;
mod report;
mod row;
mod show;
mod spool;
mod verify;

use std::process::ExitCode;

pub use meter::Meter;
pub use place::policy;

use cli::Action;

/// Does what the command line asks for and says what came of it.
pub fn run(action: &Action) -> ExitCode {
    let json = action.json();
    let done = match action {
        Action::Verify(arguments) => verify::run(arguments),
        Action::Follow(arguments) => follow::run(arguments),
        Action::Show(arguments) => show::run(arguments),
        Action::Keys(arguments) => keys::run(arguments),
        Action::Diff(arguments) => diff::run(arguments),
        Action::CheckLine(arguments) => line::run(arguments),
        Action::Report(arguments) => report::run(arguments),
        Action::Export(arguments) => export::run(arguments),
        Action::Feed(arguments) => feed::run(arguments),
    };
    match done {
        Ok(said) => {
            said.print(json);
            ExitCode::SUCCESS
        }
        Err(failure) => failure.print(json),
    }
}
