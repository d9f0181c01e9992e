//! `citykeep-keyd`: the daemon's command line.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use keyd::config::Config;
use keyd::daemon;
use keyd::handed::Handed;
use keyd::notify::Notifier;
use tracing_subscriber::EnvFilter;

/// The daemon of the key service: HTTPS, policy, quotas, the log's files and the store of sealed records.
///
/// It holds no master or card key; those live in citykeep-hsm, which must run first. A start goes like this:
///
///   1. citykeep-hsm run …           the module starts, empty
///   2. citykeep-keyd run --config … this daemon connects and waits
///   3. keyceremony …                officers and custodians create or unseal the module
///   4. "ready https://…"            appears on standard output: clients may come
///
/// 密钥服务守护进程:先启动密码模块 citykeep-hsm,再启动本程序,然后由安全官和保管人执行仪式。
#[derive(Parser)]
#[command(name = "citykeep-keyd", version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM or SIGINT; SIGHUP reads certificates and revocation lists again
    ///
    /// Exit code 0 after an orderly stop. Exit code 1 with one sentence when keyd cannot go on: the module is gone, a
    /// write to disk failed, or a file is not as it should be. The sentence says what to do next.
    Run(Options),
    /// Check configuration, policy and TLS files, and say what is wrong; nothing is started
    #[command(visible_alias = "check")]
    CheckConfig(Options),
    /// Write man pages and completions, for the package
    #[command(hide = true)]
    Pages(pages::Pages),
}

#[derive(clap::Args)]
struct Options {
    /// Configuration file; policies/keyd.sample.toml shows and explains every key
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How to write keyd's own messages to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    log: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// One readable line each
    Human,
    /// One JSON object each
    Json,
}

fn main() -> ExitCode {
    let (options, check) = match Cli::parse().command {
        Command::Run(options) => (options, false),
        Command::CheckConfig(options) => (options, true),
        Command::Pages(pages) => {
            return match pages.write(Cli::command(), "8") {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&format!("{}: cannot be written ({error})", pages.out.display())),
            };
        }
    };
    start_log(options.log);
    match run(&options, check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match options.log {
            LogFormat::Human => fail(&format!("{error:#}")),
            // Whoever reads the log reads JSON, to the last line.
            LogFormat::Json => {
                tracing::error!("{error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn fail(sentence: &str) -> ExitCode {
    eprintln!("citykeep-keyd: {sentence}");
    ExitCode::FAILURE
}

fn run(options: &Options, check: bool) -> anyhow::Result<()> {
    let config = Config::load(&options.config)?;
    if check {
        daemon::check(&config)?;
        println!("good: {}", options.config.display());
        return Ok(());
    }
    // Before threads start: both come from the environment.
    let (handed, notifier) = (Handed::from_environment()?, Notifier::from_environment()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(daemon::run(&config, handed, &notifier));
    // Reads from disk that still run are of no use to anybody.
    runtime.shutdown_background();
    outcome
}

/// The filter is fixed: an environment variable must not be able to turn on what dependencies say about requests.
fn start_log(format: LogFormat) {
    let filter = EnvFilter::new("warn,keyd=info");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Human => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
