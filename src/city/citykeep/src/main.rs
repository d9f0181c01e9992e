#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod blacklist;
mod cli;
mod doctor;
mod failure;
mod files;
mod load;
mod personalize;
mod receipt;
mod report;
mod sandbox;
mod service;
mod settle;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

use crate::cli::{BlacklistAction, ClearAction, Cli, Command, PersoAction, ReceiptAction};
use crate::failure::Failure;
use crate::report::Report;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.command.json();
    let done = match cli.command {
        // It says itself what came of it, as its own program does.
        Command::Audit { action } => return audit::run(&action),
        Command::Clear { action: ClearAction::Verify(arguments) } => settle::verify(&arguments),
        Command::Blacklist { action: BlacklistAction::Build(arguments) } => blacklist::build(&arguments),
        Command::Blacklist { action: BlacklistAction::Sign(arguments) } => blacklist::sign(&arguments),
        Command::Blacklist { action: BlacklistAction::Check(arguments) } => blacklist::check(&arguments),
        Command::Load(arguments) => load::authorize(&arguments),
        Command::Perso { action: PersoAction::Run(arguments) } => personalize::run(&arguments),
        Command::Perso { action: PersoAction::Resume(arguments) } => personalize::resume(&arguments),
        Command::Perso { action: PersoAction::Report(arguments) } => personalize::report(&arguments),
        Command::Keys(arguments) => service::keys(&arguments),
        Command::Receipt { action: ReceiptAction::Verify(arguments) } => receipt::verify(&arguments),
        Command::Receipt { action: ReceiptAction::ShowLine(arguments) } => receipt::show_line(&arguments),
        Command::Sandbox(arguments) => sandbox::run(&arguments),
        Command::Status(arguments) => service::status(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Pages(pages) => match pages.write(Cli::command(), "1") {
            Ok(()) => Ok(Report { lines: Vec::new(), json: serde_json::Value::Null }),
            Err(error) => {
                let out = pages.out.display();
                let en = format!("cannot be written ({error}); check the folder");
                Err(Failure::untried(format!("{out}: 无法写入,请检查目录。"), en))
            }
        },
    };
    match done {
        Ok(report) => {
            report.print(json);
            report.code()
        }
        Err(failure) => failure.print(json),
    }
}
