//! `citykeep-witness`: the command line.
#![forbid(unsafe_code)]

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::{CommandFactory as _, Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use translog::note::VerifierKey;
use witness::config::{Config, LogConfig};
use witness::key::Signer;
use witness::memory::begin;
use witness::mirror;
use witness::serve::{acceptor, serve};
use witness::witness::Witness;

/// A witness of transparency logs: an auditor runs it on a machine of his own.
///
/// A log shows the witness each new signed head with a proof that the new one contains the old one. The witness remembers
/// the newest head and signs it, with the time. It never signs a head that shortens or changes what it saw before, so a
/// log with enough witnesses can't show one history to one reader and another to the next. It learns nothing but heads,
/// unless it also keeps a copy of the entries ([log.mirror] in the configuration).
///
///   1. citykeep-witness key --new witness.key --name witness.auditor.example/1
///      prints the line that the log's operators and verifiers need
///   2. editor witness.toml
///      policies/witness.sample.toml explains every key
///   3. citykeep-witness begin --config witness.toml ORIGIN
///      once for each log, before it is watched for the first time
///   4. citykeep-witness run --config witness.toml
///      says "ready http://…" on standard output: logs may ask
///
/// Its memory (state_dir) must never be set back to an older copy: a witness that forgot can be shown another history.
/// It notices where it meets its own newer signature, and stops; where it does not meet one, nothing shows it.
///
/// 日志见证程序,由审计方在自己的机器上运行。日志每次给出新的签名日志头和一致性证明;见证程序确认新日志头包含旧日志头,
/// 记住它,并附上时间签名。缩短或改写历史的日志头绝不签名。步骤:
///
///   1. key --new   生成密钥,打印公钥行,交给日志运营方和验证方
///   2. 编辑 witness.toml(示例见 policies/witness.sample.toml)
///   3. begin       每个日志首次见证之前执行一次
///   4. run         开始见证;出现 "ready http://…" 即可接受请求
///
/// 状态目录绝不可用旧备份或快照恢复。
#[derive(Parser)]
#[command(name = "citykeep-witness", version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the witness's key, or print the public line of one that is there / 生成密钥或显示公钥
    Key(KeyOptions),
    /// Begin with a log, once, before it is watched for the first time / 首次见证一个日志
    ///
    /// From then on a memory that is not there is a memory that was lost, and the witness does not start.
    Begin {
        /// Configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The log's origin: the name in its vkey
        #[arg(value_name = "ORIGIN")]
        origin: String,
    },
    /// Watch until SIGTERM or SIGINT / 开始见证
    ///
    /// Exit code 0 after an orderly stop. Exit code 1 with one sentence that says what to do next.
    Run(Options),
    /// Check configuration, key, memory and certificates, and say what is wrong; nothing is started / 检查配置
    CheckConfig(Options),
    /// Write man pages and completions, for the package
    #[command(hide = true)]
    Pages(pages::Pages),
}

#[derive(clap::Args)]
struct KeyOptions {
    /// Make a new key; an existing file is never overwritten
    #[arg(long, value_name = "FILE", requires = "name", conflicts_with = "file")]
    new: Option<PathBuf>,
    /// Name of the witness in signature lines, for example witness.auditor.example/1
    #[arg(long, value_name = "NAME", requires = "new")]
    name: Option<String>,
    /// A key that is there
    #[arg(value_name = "FILE", required_unless_present = "new")]
    file: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Options {
    /// Configuration file; policies/witness.sample.toml shows and explains every key
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Key(options) => key(&options),
        Command::Begin { config, origin } => begin_with(&config, &origin),
        Command::Run(options) => run(&options),
        Command::CheckConfig(options) => check(&options),
        Command::Pages(pages) => pages
            .write(Cli::command(), "8")
            .with_context(|| format!("{}: cannot be written", pages.out.display())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("citykeep-witness: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn key(options: &KeyOptions) -> Result<()> {
    let signer = match (&options.new, &options.name, &options.file) {
        (Some(path), Some(name), _) => Signer::create(path, name)?,
        (_, _, Some(path)) => Signer::load(path)?,
        _ => bail!("give a key file, or --new FILE --name NAME"),
    };
    println!("{}", signer.public());
    Ok(())
}

fn begin_with(config: &std::path::Path, origin: &str) -> Result<()> {
    let config = Config::load(config)?;
    let Some(log) = config.logs.iter().find(|log| log.vkey.name() == origin) else {
        let names: Vec<&str> = config.logs.iter().map(|log| log.vkey.name()).collect();
        bail!("the configuration has no log {origin}; it has {} / 配置中没有此日志", names.join(", "));
    };
    begin(&config.state_dir, &log.vkey)?;
    println!("begun: {origin}");
    Ok(())
}

fn check(options: &Options) -> Result<()> {
    let config = Config::load(&options.config)?;
    Witness::check(&config.state_dir, &Signer::load(&config.key)?, &vkeys(&config))?;
    config.tls.as_ref().map(acceptor).transpose()?;
    for log in &config.logs {
        log.mirror.as_ref().map_or(Ok(()), |mirror| mirror::Mirror::check(mirror, &log.vkey))?;
    }
    println!("good: {}", options.config.display());
    Ok(())
}

fn vkeys(config: &Config) -> Vec<VerifierKey> {
    config.logs.iter().map(|log| log.vkey.clone()).collect()
}

fn run(options: &Options) -> Result<()> {
    let config = Config::load(&options.config)?;
    start_log();
    let witness = Arc::new(Witness::open(&config.state_dir, Signer::load(&config.key)?, &vkeys(&config))?);
    let tls = config.tls.as_ref().map(acceptor).transpose()?;
    for log in &config.logs {
        if let Some(mirror) = &log.mirror {
            mirror::Mirror::open(mirror, &log.vkey)?;
        }
    }
    let mirrors = config.logs.iter().filter(|log| log.mirror.is_some());
    mirrors.cloned().try_for_each(|log| start_mirror(log, &witness))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let listener = TcpListener::bind(config.listen).await.with_context(|| {
            format!("cannot listen on {}; choose another address or port / 无法监听", config.listen)
        })?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut out = std::io::stdout();
        writeln!(out, "ready {scheme}://{}", listener.local_addr()?)?;
        out.flush()?;
        tokio::select! {
            never = serve(listener, tls, Arc::clone(&witness)) => match never {},
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}

/// A thread of its own: copying syncs files, and those who ask for a cosignature must not wait for that.
fn start_mirror(log: LogConfig, witness: &Arc<Witness>) -> Result<()> {
    let witness = Arc::clone(witness);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("mirror".to_owned()).spawn(move || {
        if let Some(config) = &log.mirror
            && let Err(error) = runtime.block_on(mirror::keep(config, &log.vkey, &witness))
        {
            tracing::error!(log = log.vkey.name(), "mirroring ended: {error:#}");
        }
    })?;
    Ok(())
}

/// The filter is fixed: what dependencies say is nobody's business here.
fn start_log() {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("warn,witness=info"))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
