//! The command line.

mod blacklist;
mod perso;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::blacklist::{BlacklistAction, BlacklistBuild, BlacklistCheck, BlacklistSign};
pub(crate) use self::perso::{PersoAction, PersoReport, PersoResume, PersoRun};

/// The operator's and auditor's command of the key service. 密钥服务的运行与审计命令。
///
/// Exit codes: 0 the result stands; 1 there is no result (refused, broken off, or wrong); 2 nothing was tried (arguments
/// or files). With --json one JSON object goes to standard output, also for a failure.
#[derive(Debug, Parser)]
#[command(name = "citykeep", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Audit a published log; `citykeep-audit` is the same on its own. 审计日志。
    Audit {
        #[command(subcommand)]
        action: audit::cli::Action,
    },
    /// Blacklists: build, have them signed, check them offline. 黑名单。
    Blacklist {
        #[command(subcommand)]
        action: BlacklistAction,
    },
    /// Clearing and settlement. 清分结算。
    Clear {
        #[command(subcommand)]
        action: ClearAction,
    },
    /// Say what is wrong with an installation or a client, and what to do next. 体检。
    ///
    /// On the server: --config (default /etc/citykeep/keyd.toml): configuration, owners and modes, clock, random numbers, locked
    /// memory, processor, swap, core files, the disk's room and sync time, certificates and revocation list, units, processes and
    /// releases. At a client: --url, --ca, --cert, --key: its certificate and key, TLS, the module's state, the log's head. Both
    /// together see most. One line a check: ✓ good, ! works and should be looked at, ✗ wrong, - not checked from here, and why.
    /// Nothing is changed and no secret printed. As root it sees most; what this user may not see is never called good.
    ///
    /// Exit codes: 0 nothing is wrong (there may be ! and -); 1 at least one ✗; 2 nothing was tried. 退出码:0 无错误,1 有错误,2 未执行。
    #[command(
        after_help = "Examples:\n  citykeep doctor --config /etc/citykeep/keyd.toml\n  citykeep doctor --url https://localhost:8443 \
        --ca ca.pem --cert clearing.pem --key clearing.key --vkey vkey"
    )]
    Doctor(DoctorArguments),
    /// List the key versions that this client may use. 本客户端可用的密钥版本。
    #[command(
        after_help = "Example: citykeep keys --url https://localhost:8443 --ca ca.pem --cert clearing.pem --key clearing.key"
    )]
    Keys(ServiceArguments),
    /// Have a load authorised: MAC2 against a ledger's token. 圈存授权。
    ///
    /// Reads the JSON of POST /v1/loads/authorize (for practice, `citycard load` makes one) and prints MAC2.
    #[command(
        after_help = "Example: citykeep load --request load.json --url https://localhost:8443 --ca ca.pem \
  --cert terminal.pem --key terminal.key"
    )]
    Load(LoadArguments),
    /// Personalization: key sets for cards under a licence. 个人化。
    Perso {
        #[command(subcommand)]
        action: PersoAction,
    },
    /// Receipts, offline. 离线核对回执。
    Receipt {
        #[command(subcommand)]
        action: ReceiptAction,
    },
    /// The whole service on published test keys, for integrators. 集成沙箱。
    ///
    /// Starts module and daemon on a rehearsal instance of its own, with licences, lists and a ledger ready; stays up until
    /// Ctrl-C. The keys come from a seed that everybody knows, so nothing of it can ever be real.
    ///
    /// On the port behind keyd's it says why records fail, to this machine only: POST /explain takes a record or a day (F1 lines)
    /// and names, in Chinese and English or as JSON, the field that cannot be read or the mistake under which the TAC would match
    /// ("under key version 02", "halves not folded"). Only a sandbox does: an instance that is no rehearsal is refused, and
    /// neither keyd nor the module has such a call.
    #[command(
        after_help = "Example:\n  citykeep sandbox --state demo-sandbox --port 9443\n  curl --data-binary @demo-sandbox/day.txt \
        http://127.0.0.1:9444/explain\n  curl -H 'Accept: application/json' --data-binary @record.txt http://127.0.0.1:9444/explain"
    )]
    Sandbox(SandboxArguments),
    /// What the service says about itself. 服务状态。
    #[command(
        after_help = "Example: citykeep status --url https://localhost:8443 --ca ca.pem --cert clearing.pem --key clearing.key"
    )]
    Status(ServiceArguments),
    /// Write man pages and completions, for the package.
    #[command(hide = true)]
    Pages(pages::Pages),
}

impl Command {
    /// Whether the caller is a program.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Audit { action } => action.json(),
            Self::Clear { action: ClearAction::Verify(arguments) } => arguments.json,
            Self::Receipt { action: ReceiptAction::Verify(arguments) } => arguments.json,
            Self::Receipt { action: ReceiptAction::ShowLine(arguments) } => arguments.json,
            Self::Blacklist { action: BlacklistAction::Build(arguments) } => arguments.json,
            Self::Blacklist { action: BlacklistAction::Sign(arguments) } => arguments.json,
            Self::Blacklist { action: BlacklistAction::Check(arguments) } => arguments.json,
            Self::Load(arguments) => arguments.json,
            Self::Sandbox(arguments) => arguments.json,
            Self::Perso { action: PersoAction::Run(arguments) } => arguments.json,
            Self::Perso { action: PersoAction::Resume(arguments) } => arguments.json,
            Self::Perso { action: PersoAction::Report(arguments) } => arguments.json,
            Self::Keys(arguments) | Self::Status(arguments) => arguments.json,
            Self::Doctor(arguments) => arguments.json,
            Self::Pages(_) => false,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClearAction {
    /// Check every TAC of a settlement day. 核验一天的全部交易。
    ///
    /// Sends the day (F1 layout, one transaction a line) to the key service and writes one row `line,verdict` per line:
    /// ok, bad_tac, unknown_key, malformed, withheld. The service answers with a receipt; the verdicts are written only after
    /// the receipt was checked against the lines sent and against the signed log. A failure leaves no verdict file: what an
    /// earlier run left under that name is removed first.
    #[command(
        after_help = "Example:\n  citykeep clear verify --day day.txt --url https://localhost:8443 --ca ca.pem \
        --cert clearing.pem --key clearing.key --vkey vkey --verdicts out.csv --receipt receipt.json"
    )]
    Verify(ClearVerify),
}

#[derive(Debug, Args)]
pub(crate) struct ClearVerify {
    /// The day, F1 layout.
    #[arg(long, value_name = "FILE")]
    pub(crate) day: PathBuf,
    #[command(flatten)]
    pub(crate) service: Service,
    /// File with the log's vkey line, compared with the ceremony's transcript.
    #[arg(long, value_name = "FILE")]
    pub(crate) vkey: PathBuf,
    /// Where the verdicts go: `line,verdict` rows.
    #[arg(long, value_name = "OUT.csv")]
    pub(crate) verdicts: PathBuf,
    /// Where the receipt goes. Keep it: it is the proof, and it sets the floor after a restart of the service.
    #[arg(long, value_name = "OUT.json")]
    pub(crate) receipt: PathBuf,
    /// Key that checks the day: applet/key-set/role. The versions stand in the lines.
    #[arg(long, value_name = "LINEAGE", default_value = "transit/purse/tac")]
    pub(crate) lineage: String,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the service is, and who asks.
#[derive(Debug, Args)]
pub(crate) struct Service {
    /// The service, https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// PEM bundle of the authorities that the service's certificate must come from.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: PathBuf,
    /// This client's certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: PathBuf,
    /// Its private key, PKCS#8 PEM, readable by its owner only.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceArguments {
    #[command(flatten)]
    pub(crate) service: Service,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// keyd's configuration, on the server.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The service, https://HOST:PORT; with the three files of a client.
    #[arg(long, value_name = "URL", requires_all = ["ca", "cert", "key"])]
    url: Option<String>,
    /// PEM bundle of the authorities that the service's certificate must come from.
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// The client's certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "url")]
    cert: Option<PathBuf>,
    /// Its private key, PKCS#8 PEM, readable by its owner only.
    #[arg(long, value_name = "FILE", requires = "url")]
    key: Option<PathBuf>,
    /// File with the log's vkey line, compared with the ceremony's transcript; without it the one that the module names, or the
    /// one that is published beside the log.
    #[arg(long, value_name = "FILE")]
    pub(crate) vkey: Option<PathBuf>,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

impl DoctorArguments {
    /// The service and who asks it, if that was given.
    pub(crate) fn service(&self) -> Option<Service> {
        Some(Service {
            url: self.url.clone()?,
            ca: self.ca.clone()?,
            cert: self.cert.clone()?,
            key: self.key.clone()?,
        })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptAction {
    /// Check a receipt without any network. 离线核对回执。
    ///
    /// Alone: the log under this vkey has a batch with this root and these counts. With --day and --verdicts: it is the batch
    /// of exactly these lines with exactly these verdicts.
    #[command(
        after_help = "Example:\n  citykeep receipt verify --receipt receipt.json --vkey vkey --day day.txt \
        --verdicts out.csv"
    )]
    Verify(ReceiptVerify),
    /// Prove one line of a settlement file to somebody who gets nothing else of it. 出具单笔证明。
    ///
    /// Checks the receipt against the whole file, and writes a small proof: the line, its verdict, and the way from both to the
    /// signed log. `citykeep-audit check-line` checks it with the policy alone.
    #[command(
        after_help = "Example:\n  citykeep receipt show-line 17 --file day.txt --receipt receipt.json --policy policy \
        --verdicts out.csv --out line-17.json"
    )]
    ShowLine(ReceiptShowLine),
}

#[derive(Debug, Args)]
pub(crate) struct ReceiptShowLine {
    /// Which line, from 1.
    #[arg(value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) line: u64,
    /// The file that was sent.
    #[arg(long, value_name = "DAY")]
    pub(crate) file: PathBuf,
    /// Its receipt.
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: PathBuf,
    #[command(flatten)]
    pub(crate) anchor: audit::cli::Anchor,
    /// The verdicts that came with the receipt; not needed if the receipt says that every readable line had the same one.
    #[arg(long, value_name = "FILE")]
    pub(crate) verdicts: Option<PathBuf>,
    /// Where the proof goes.
    #[arg(long, value_name = "OUT.json")]
    pub(crate) out: PathBuf,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReceiptVerify {
    /// The receipt, as `citykeep clear verify` wrote it.
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: PathBuf,
    #[command(flatten)]
    pub(crate) anchor: audit::cli::Anchor,
    /// The day that was sent.
    #[arg(long, value_name = "FILE", requires = "verdicts")]
    pub(crate) day: Option<PathBuf>,
    /// The verdicts that came with the receipt.
    #[arg(long, value_name = "FILE", requires = "day")]
    pub(crate) verdicts: Option<PathBuf>,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxArguments {
    /// Its directory; a sandbox that is there comes back.
    #[arg(long, value_name = "DIR", default_value = "citykeep-sandbox")]
    pub(crate) state: PathBuf,
    /// Port on localhost, and the one behind it; 0 takes free ones.
    #[arg(long, default_value_t = 8443)]
    pub(crate) port: u16,
    /// Stop once it is up: for scripts that only want to know that it works.
    #[arg(long)]
    pub(crate) once: bool,
    /// With --once: one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// The request, JSON; - reads standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) request: PathBuf,
    #[command(flatten)]
    pub(crate) service: Service,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Commands that do something, with their names from the top.
    fn leaves(command: &clap::Command, above: &str, found: &mut Vec<(String, clap::Command)>) {
        let name = format!("{above} {}", command.get_name());
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            leaves(below, &name, found);
        }
        if !command.has_subcommands() {
            found.push((name, command.clone()));
        }
    }

    #[test]
    fn every_command_has_an_example_and_both_languages() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() >= 14);
        // The auditor's commands are those of his own program, which has its own pages.
        for (name, command) in found.into_iter().filter(|(name, _)| !name.contains(" audit ")) {
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.starts_with("Example") && example.contains(name.trim()), "{name}: {example}");
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.chars().any(|one| one > '\u{4e00}'), "{name}: {about}");
        }
    }

    #[test]
    fn the_commands_of_the_handbook_parse() {
        for line in [
            "citykeep clear verify --day d --url https://localhost:1 --ca a --cert c --key k --vkey v --verdicts o --receipt r",
            "citykeep clear verify --day d --url u --ca a --cert c --key k --vkey v --verdicts o --receipt r \
             --lineage transit/purse/tac --json",
            "citykeep audit verify DIR --vkey v --json",
            "citykeep audit verify DIR --policy p",
            "citykeep audit show DIR --vkey v --kind command,boot --actor li --of-key transit --from 2026-01-01 --form ocsf",
            "citykeep audit follow https://localhost:1/v1/log --policy p --ca a --cert c --key k",
            "citykeep audit keys DIR --vkey v --at 9",
            "citykeep audit diff A B --policy p",
            "citykeep audit report DIR --policy p --out o.html",
            "citykeep audit export DIR --vkey v --out o.tar",
            "citykeep audit feed DIR --vkey v --cursor c --form json --every 5",
            "citykeep receipt verify --receipt r --vkey v",
            "citykeep receipt verify --receipt r --vkey v --day d --verdicts o",
            "citykeep receipt verify --receipt r --policy p",
            "citykeep receipt show-line 17 --file d --receipt r --policy p --verdicts o --out l",
            "citykeep audit check-line l --policy p",
            "citykeep status --url u --ca a --cert c --key k",
            "citykeep keys --url u --ca a --cert c --key k --json",
            "citykeep perso run --licence l --first f --count 3 --out d --url u --ca a --cert c --key k",
            "citykeep perso run --licence l --first f --count 3 --chips f --out d --url u --ca a --cert c --key k",
            "citykeep perso resume d --url u --ca a --cert c --key k",
            "citykeep perso report d --log l --vkey v",
            "citykeep blacklist build --csv f --epoch 1 --valid-from 20260101 --valid-to 20261231 --out o",
            "citykeep blacklist sign --body b --out o --url u --ca a --cert c --key k",
            "citykeep blacklist check b --sm2 s --p256 p --last-epoch 3 --card c",
            "citykeep load --request - --url u --ca a --cert c --key k",
            "citykeep sandbox",
            "citykeep sandbox --state d --port 0 --once --json",
            "citykeep doctor",
            "citykeep doctor --config f --json",
            "citykeep doctor --url u --ca a --cert c --key k --vkey v",
        ] {
            assert!(Cli::try_parse_from(line.split_whitespace()).is_ok(), "{line}");
        }
        for line in [
            "citykeep receipt verify --receipt r --vkey v --day d",
            "citykeep clear verify --day d",
            "citykeep audit verify DIR",
            "citykeep audit verify DIR --vkey v --policy p",
            "citykeep audit show DIR --vkey v --from yesterday",
            "citykeep receipt show-line 0 --file d --receipt r --policy p --out l",
            "citykeep receipt verify --receipt r",
            "citykeep doctor --url u --ca a",
            "citykeep",
        ] {
            assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
