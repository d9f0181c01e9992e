//! The command line: one verb per step, files in and files out.

mod client;
mod genesis;
mod officer;
mod room;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::failure::{Failure, OrFail as _};
use crate::keyfile::{self, Key, Role};
use crate::propose::Proposal;
use crate::secret::Source;

/// Ceremonies of the key service: officers decide, custodians hold shares, nobody decides or holds alone. 密钥仪式
///
/// A command goes through the hands of several people: somebody proposes it (a file), officers read and approve it (each
/// on his own machine, with his own key file), and anybody submits it to the module. A restarted module is brought back
/// by custodians (unseal) and officers (floor). `rehearse` plays a whole ceremony on throw-away keys.
///
/// Secrets come from the terminal, a file descriptor, or a file of yours with mode 0600; never from the command line or
/// the environment. Exit codes: 0 done, 1 refused or failed (one sentence says what to do next), 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "keyceremony", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key file for an officer or custodian. 生成密钥文件
    Keygen(Keygen),
    /// The certificate authority of the clients: what officers enrolled is certified, what they ended is revoked. 客户端证书
    Client {
        #[command(subcommand)]
        action: client::Action,
    },
    /// Make or renew the certificates of a REHEARSAL. 演练用证书
    Pki(Pki),
    /// Ask the module for its state. 查看模块状态
    Status(Status),
    /// Propose an instance: who decides, who holds; signed by all officers. 提出创世
    Genesis(Genesis),
    /// Prove that your share of a new instance is good. 验证份额
    Prove(Prove),
    /// Make the instance, once every share is proved. 完成创世
    Finish(Finish),
    /// Propose a command: writes a file that nobody has signed yet. 提出命令
    Propose(Propose),
    /// Say what a command file does, and who approved it. 查看命令
    Show(Show),
    /// Read a command, answer one question, and sign it with your officer's key. 批准命令
    Approve(Approve),
    /// Bring an approved command to the module. 提交命令
    Submit(Submit),
    /// Commit to your component before the import is approved: prints a line for `propose import`. 分量承诺
    Commit(Commit),
    /// Enter your component of a submitted import. 输入分量
    Component(Component),
    /// Bring your share to a sealed module. 提交份额解封
    Unseal(Unseal),
    /// Propose the lowest log head that a restarted module may come back on. 提出日志头认可书
    Floor(Floor),
    /// Play a whole ceremony on throw-away keys, along a script. 演练
    Rehearse(Rehearse),
    /// Write man pages and completions, for the package.
    #[command(hide = true)]
    Pages(pages::Pages),
}

#[derive(Debug, Args)]
struct Passphrase {
    /// Read the passphrase from this open file descriptor, for example 3<FILE or a pipe.
    #[arg(long, value_name = "N", conflicts_with = "passphrase_file")]
    passphrase_fd: Option<u32>,
    /// Read the passphrase from this file: yours, mode 0600.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    fn source(&self) -> Source<'_> {
        Source::new(self.passphrase_fd, self.passphrase_file.as_ref())
    }
}

/// A person's key file, opened with his passphrase.
#[derive(Debug, Args)]
struct KeyFile {
    /// Your key file.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl KeyFile {
    fn open(&self, role: Role) -> Result<Key, Failure> {
        let locked = keyfile::read(&self.key)?;
        let passphrase = self.passphrase.source().passphrase(&locked.name)?;
        locked.open(&passphrase)?.needs(role)
    }
}

#[derive(Debug, Args)]
struct ComponentSource {
    /// Read the component (32 hex digits) from this open file descriptor; without it the terminal asks.
    #[arg(long, value_name = "N", conflicts_with = "component_file")]
    component_fd: Option<u32>,
    /// Read the component from this file: yours, mode 0600.
    #[arg(long, value_name = "FILE")]
    component_file: Option<PathBuf>,
}

impl ComponentSource {
    fn source(&self) -> Source<'_> {
        Source::new(self.component_fd, self.component_file.as_ref())
    }
}

#[derive(Debug, Args)]
struct Socket {
    /// The module's socket for officers.
    #[arg(long, value_name = "SOCKET")]
    officers_socket: PathBuf,
}

#[derive(Debug, Args)]
struct Keygen {
    /// What the key is for: an officer signs commands, a custodian holds a share and enters components.
    #[arg(long)]
    role: Role,
    /// Your name in the set: lower-case letters, digits, hyphens.
    #[arg(long)]
    name: String,
    /// The new key file; an existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A rehearsal's key: cheap passphrase work, and the file says so. Never for a real instance.
    #[arg(long)]
    rehearsal: bool,
    #[command(flatten)]
    passphrase: Passphrase,
}

#[derive(Debug, Args)]
struct Pki {
    /// Directory of the certificates. Run again, it keeps the CA and renews the rest.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct Status {
    #[command(flatten)]
    socket: Socket,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Genesis {
    /// The plan (TOML): origin, officers and custodians with thresholds and public keys; see the README.
    plan: PathBuf,
    /// The policy file that keyd will load.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The CA bundle that keyd will load.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Your name among the officers.
    #[arg(long)]
    proposer: String,
    #[command(flatten)]
    socket: Socket,
    /// The new command file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct Prove {
    /// The genesis command file.
    #[arg(long, value_name = "FILE")]
    command: PathBuf,
    /// Your share.
    #[arg(long, value_name = "FILE")]
    share: PathBuf,
    /// The share certificate; by default certificate.cbor above the share's directory.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    #[command(flatten)]
    key: KeyFile,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Debug, Args)]
struct Finish {
    /// The genesis command file.
    #[arg(long, value_name = "FILE")]
    command: PathBuf,
    /// The share certificate.
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    #[command(flatten)]
    socket: Socket,
    /// The new instance file (instance.json): everybody keeps a copy.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct Propose {
    /// The instance file (instance.json) from the genesis.
    #[arg(long, value_name = "FILE")]
    instance: PathBuf,
    /// Your name: the proposer is one of those who must approve.
    #[arg(long)]
    proposer: String,
    /// Ask the module for the size of the log and the officer set's epoch.
    #[arg(long, value_name = "SOCKET", required_unless_present = "at_size")]
    officers_socket: Option<PathBuf>,
    /// The size of the log, where the module cannot be asked (air-gapped).
    #[arg(long, value_name = "ENTRIES", conflicts_with = "officers_socket")]
    at_size: Option<u64>,
    /// The officer set's epoch, if it changed since the genesis and the module cannot be asked.
    #[arg(long, value_name = "N", conflicts_with = "officers_socket")]
    officer_epoch: Option<u64>,
    /// During how many log entries the command may be carried out.
    #[arg(long, value_name = "ENTRIES", default_value_t = crate::ceremony::WINDOW)]
    window: u64,
    /// The new command file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(subcommand)]
    action: Proposal,
}

#[derive(Debug, Args)]
struct Show {
    /// A command file.
    file: PathBuf,
}

#[derive(Debug, Args)]
struct Approve {
    /// A command file; your approval is added to it.
    file: PathBuf,
    #[command(flatten)]
    key: KeyFile,
}

#[derive(Debug, Args)]
struct Submit {
    /// A command file with enough approvals.
    file: PathBuf,
    /// For a genesis: where certificate and shares are written.
    #[arg(long, value_name = "DIR")]
    shares: Option<PathBuf>,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Debug, Args)]
struct Commit {
    /// The instance file (instance.json).
    #[arg(long, value_name = "FILE")]
    instance: PathBuf,
    /// The key version, for example transit/purse/tac@02.
    #[arg(long, value_name = "KEY")]
    key_version: String,
    /// The check value that stands beside the component: 6 hex digits.
    #[arg(long)]
    kcv: String,
    /// Your name in the custodian set.
    #[arg(long)]
    custodian: String,
    #[command(flatten)]
    component: ComponentSource,
}

#[derive(Debug, Args)]
struct Component {
    /// The import's command file.
    #[arg(long, value_name = "FILE")]
    command: PathBuf,
    /// The instance file (instance.json).
    #[arg(long, value_name = "FILE")]
    instance: PathBuf,
    #[command(flatten)]
    key: KeyFile,
    #[command(flatten)]
    entry: ComponentSource,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Debug, Args)]
struct Unseal {
    /// Your share: the text file from the genesis, or one typed in from paper.
    #[arg(long, value_name = "FILE")]
    share: PathBuf,
    /// The share certificate; by default certificate.cbor above the share's directory.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The instance file; by default instance.json above the share's directory.
    #[arg(long, value_name = "FILE")]
    instance: Option<PathBuf>,
    #[command(flatten)]
    key: KeyFile,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Debug, Args)]
struct Floor {
    /// The instance file (instance.json): the head must be signed by its log key.
    #[arg(long, value_name = "FILE")]
    instance: PathBuf,
    #[command(flatten)]
    evidence: Evidence,
    /// Your name: the proposer is one of those who must approve.
    #[arg(long)]
    proposer: String,
    /// The officer set's epoch, if it changed since the genesis.
    #[arg(long, value_name = "N")]
    officer_epoch: Option<u64>,
    #[command(flatten)]
    socket: Socket,
    /// The new command file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// The newest head in all of them is taken.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Evidence {
    /// A settlement receipt (JSON).
    #[arg(long, value_name = "FILE")]
    receipt: Vec<PathBuf>,
    /// A ceremony's transcript.
    #[arg(long, value_name = "FILE")]
    transcript: Vec<PathBuf>,
    /// A checkpoint, for example an auditor's copy.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct Rehearse {
    /// The script, for example scripts/settlement-day.toml.
    script: PathBuf,
    /// The rehearsal's state directory.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    #[command(flatten)]
    socket: Socket,
    /// Practice keys with their components (keys.json).
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// More practice masters with their components, made by `citycard masters`; without it the module makes them.
    #[arg(long, value_name = "FILE")]
    masters: Option<PathBuf>,
    /// Public key of the practice ledger, made by `citycard ledger`; without it no ledger is enrolled.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// The policy file that keyd will load.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The CA bundle that keyd will load.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The published log; by default `log` in the state directory.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// Let people answer the questions; without it the rehearsal answers yes for everybody.
    #[arg(long)]
    ask: bool,
    /// How long to wait for keyd and the module.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience_seconds: u64,
    /// Write a summary for machines here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match &cli.verb {
        Verb::Keygen(verb) => room::keygen(verb),
        Verb::Client { action } => client::run(action),
        Verb::Pki(verb) => room::pki(verb),
        Verb::Status(verb) => room::status(verb),
        Verb::Genesis(verb) => genesis::propose(verb),
        Verb::Prove(verb) => genesis::prove(verb),
        Verb::Finish(verb) => genesis::finish(verb),
        Verb::Propose(verb) => officer::propose(verb),
        Verb::Show(verb) => officer::show(verb),
        Verb::Approve(verb) => officer::approve(verb),
        Verb::Submit(verb) => officer::submit(verb),
        Verb::Floor(verb) => officer::floor(verb),
        Verb::Commit(verb) => room::commit(verb),
        Verb::Component(verb) => room::component(verb),
        Verb::Unseal(verb) => room::unseal(verb),
        Verb::Rehearse(verb) => room::rehearse(verb),
        Verb::Pages(verb) => {
            verb.write(Cli::command(), "1").or_fail("无法写入手册页。", "the pages cannot be written")
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "keyceremony: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Prints lines for people or machines. A closed pipe is the reader's own business.
fn print(lines: impl IntoIterator<Item = String>) {
    let mut out = std::io::stdout().lock();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_option_takes_a_secret() {
        for verb in Cli::command().get_subcommands() {
            for argument in verb.get_arguments() {
                let name = argument.get_id().as_str();
                let secret = ["passphrase", "component", "secret", "pin"].contains(&name);
                assert!(!secret, "{} --{name}", verb.get_name());
            }
        }
    }

    #[test]
    fn wrong_usage_is_told_apart() {
        for bad in [
            vec!["keyceremony"],
            vec!["keyceremony", "dance"],
            vec!["keyceremony", "keygen", "--role", "king", "--name", "x", "--out", "y"],
            vec![
                "keyceremony",
                "floor",
                "--instance",
                "i",
                "--proposer",
                "p",
                "--officers-socket",
                "s",
                "--out",
                "o",
            ],
        ] {
            assert_eq!(Cli::try_parse_from(&bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
