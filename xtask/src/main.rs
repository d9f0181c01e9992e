#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod arrows;
mod bans;
mod cargo;
mod children;
mod first_day;
mod installed;
mod package;
mod show;
mod tamper;
mod test;
mod up;

use std::process::ExitCode;

use clap::Parser;

/// Builds, shows and tests citykeep.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version)]
enum Command {
    /// Builds; rehearses a ceremony; starts hsm and keyd; verifies a day; audits the log; says what happened.
    ///
    /// Everything lies under the state directory. A second run on the same directory unseals the module with the
    /// rehearsal's shares, gives it a floor and goes on. The keys are a rehearsal's: they can never become real.
    Up(up::Options),
    /// Installs what the tests need, then every check and test. CI calls exactly this.
    ///
    /// The last stage is `package --test`: the Debian package on systems of its own. It needs root and a mount name space,
    /// and for the units' sandbox a container that boots; what this machine cannot run stands in the last lines as NOT RUN
    /// HERE, never as passed.
    Test(test::Options),
    /// Builds the Debian package into target/package.
    ///
    /// With --test it is installed and used on two Debian systems of its own, made by debootstrap: each ExecStart by hand as
    /// its User=, then under a systemd that is booted in a container. Start, ceremony, day, upgrade under load, loss of the
    /// module, removal, purge.
    Package(package::Options),
    /// Edits a log and crashes its writer, many times: every edit must be found and located, no recovery may alarm.
    ///
    /// Every edit has a seed; what is missed is named with it. `cargo xtask test` runs 20,000 and 200, `cargo test -p audit` the first
    /// 1,000 and 20 of them.
    Tamper(tamper::Options),
    /// Only the arrow check: who may depend on whom.
    Arrows,
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Up(options) => up::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Package(options) => package::run(&options),
        Command::Tamper(options) => tamper::run(&options),
        Command::Arrows => arrows::check(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ncargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
