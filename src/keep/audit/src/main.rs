//! `citykeep-audit`: the auditor's tool on its own.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

/// Audits a citykeep log with nothing but the log and what the auditor trusts; `citykeep audit` is the same. 审计日志。
///
/// Exit codes: 0 the log is good and the result stands; 1 the log is wrong, or there is no result; 2 nothing was tried
/// (arguments or files). With --json one JSON object goes to standard output, also for a failure. 退出码:0 日志有效,1 日志有误或无结果,2
/// 未执行。
#[derive(Debug, Parser)]
#[command(name = "citykeep-audit", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a program's life")]
enum Command {
    #[command(flatten)]
    Audit(audit::cli::Action),
    /// Write man pages and completions, for the package.
    #[command(hide = true)]
    Pages(pages::Pages),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Audit(action) => audit::run(&action),
        Command::Pages(pages) => match pages.write(Cli::command(), "1") {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("citykeep-audit: {}: cannot be written ({error})", pages.out.display());
                ExitCode::from(2)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
