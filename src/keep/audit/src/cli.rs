//! The command line: of `citykeep-audit` and of `citykeep audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// What an auditor can do with a log.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Action {
    /// Check a published log from its first entry to its newest checkpoint. 从头核验已公布的日志。
    ///
    /// Reads what the service publishes (checkpoint, tile/…) and nothing else: every hash of the tree, every signature, every
    /// entry, and what the entries add up to. The first thing that is wrong is named with its file and entry.
    #[command(
        after_help = "Examples:\n  citykeep-audit verify /var/lib/citykeep-log --vkey vkey\n  citykeep-audit verify \
        https://localhost:8443/v1/log --policy policy --ca ca.pem --cert auditor.pem --key auditor.key"
    )]
    Verify(Verify),
    /// Go on verifying a log that grows; say what its newest head is and who cosigned it. 持续核验。
    ///
    /// Ends with exit code 1 at the first thing that is wrong: a changed entry, a head that takes entries back, a fork. What it has
    /// seen it knows as long as it runs; a service that does not answer is asked again. 日志被改、被截短或分叉即以退出码 1 结束。
    #[command(
        after_help = "Example: citykeep-audit follow https://localhost:8443/v1/log --policy policy --ca ca.pem --cert auditor.pem \
        --key auditor.key"
    )]
    Follow(Follow),
    /// Show entries: who did what with which key. 查看条目。
    ///
    /// The whole log is verified first; nothing is printed of a log that is not good.
    #[command(
        after_help = "Example: citykeep-audit show LOG --vkey vkey --kind command,boot --actor officer-1 --from 2026-01-01"
    )]
    Show(Show),
    /// The state of every key version, now or after any entry. 任一时刻的密钥状态。
    Keys(Keys),
    /// Compare two copies of a log; a fork is named at its first differing entry. 比对两份日志。
    Diff(Diff),
    /// Write the audit report: one HTML page that needs nothing else. 审计报告。
    ///
    /// What was verified and by which keys, gaps, clock steps, refusals, privileged acts with their approvals, and how much each
    /// key and client was used.
    Report(Report),
    /// Check the proof of one line of a settlement file, as `citykeep receipt show-line` writes it. 核对单笔证明。
    ///
    /// Needs nothing but the proof and what is trusted: not the rest of the file, not the log, no network.
    #[command(after_help = "Example: citykeep-audit check-line line-17.json --policy policy")]
    CheckLine(CheckLine),
    /// Write the verified log into one file for cold storage. 导出归档。
    ///
    /// It is a tar archive of the published files; every verb of this program reads it in place of a directory.
    Export(Export),
    /// Feed new entries to a log collector, with a cursor of its own. 向日志采集系统供数。
    ///
    /// Entries go to standard output once they are verified, and the cursor moves after them: what was printed before a crash
    /// may come again, and nothing is left out. It reads published files; the service does not know of it.
    Feed(Feed),
}

impl Action {
    /// Whether the caller is a program.
    pub fn json(&self) -> bool {
        match self {
            Self::Verify(arguments) => arguments.json,
            Self::Follow(arguments) => arguments.json,
            Self::Keys(arguments) => arguments.json,
            Self::Diff(arguments) => arguments.json,
            Self::Report(arguments) => arguments.json,
            Self::CheckLine(arguments) => arguments.json,
            Self::Export(arguments) => arguments.json,
            Self::Show(_) | Self::Feed(_) => false,
        }
    }
}

/// Which log, and what is trusted.
#[derive(Debug, Args)]
pub struct Which {
    /// The log: the folder with `checkpoint` and `tile/`, an export file, or a URL (https://HOST:PORT/v1/log).
    #[arg(value_name = "LOG")]
    pub(crate) log: String,
    #[command(flatten)]
    pub(crate) trust: Trust,
    #[command(flatten)]
    pub(crate) net: Net,
}

/// What the auditor trusts beforehand.
#[derive(Debug, Args)]
pub struct Trust {
    #[command(flatten)]
    pub(crate) anchor: Anchor,
    /// Export file that holds what was pruned from the log; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub(crate) archive: Vec<PathBuf>,
}

/// The one or the other.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Anchor {
    /// File with the log's vkey line, compared with the ceremony's transcript.
    #[arg(long, value_name = "FILE")]
    pub(crate) vkey: Option<PathBuf>,
    /// Policy file (c2sp.org/tlog-policy): the log's key, the witnesses, and the quorum of them that must have cosigned.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
}

/// For a log that is read from a service.
#[derive(Debug, Args)]
pub struct Net {
    /// PEM bundle of the authorities that the service's certificate must come from.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The auditor's certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key, PKCS#8 PEM, readable by its owner only.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
}

/// `verify`
#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    pub(crate) which: Which,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `follow`
#[derive(Debug, Args)]
pub struct Follow {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Seconds between looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) every: u64,
    /// Stop after so many looks.
    #[arg(long, value_name = "N")]
    pub(crate) times: Option<u64>,
    /// One JSON object a line on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How entries are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[non_exhaustive]
pub enum Form {
    /// For people.
    Table,
    /// JSON lines with everything that an entry says.
    Json,
    /// JSON lines as OCSF 1.3 events.
    Ocsf,
    /// ArcSight CEF.
    Cef,
    /// RFC 5424.
    Syslog,
}

/// `show`
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// How.
    #[arg(long, value_enum, default_value_t = Form::Table)]
    pub(crate) form: Form,
}

/// Which entries. All conditions must hold.
#[derive(Debug, Args, Default)]
pub struct Filter {
    /// Officer, custodian or client; a part of the name is enough.
    #[arg(long, value_name = "NAME")]
    pub(crate) actor: Option<String>,
    /// Key version or lineage, for example transit/purse/tac@41 or transit/purse.
    #[arg(long = "of-key", value_name = "KEY")]
    pub(crate) of_key: Option<String>,
    /// Kinds of entries, separated by commas: genesis, boot, command, batch, denied, …
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub(crate) kind: Vec<String>,
    /// From this time on: 2026-01-31 or 2026-01-31T08:00:00Z, by the module's clock.
    #[arg(long, value_name = "TIME", value_parser = crate::row::moment)]
    pub(crate) from: Option<u64>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = crate::row::moment)]
    pub(crate) until: Option<u64>,
}

/// `keys`
#[derive(Debug, Args)]
pub struct Keys {
    #[command(flatten)]
    pub(crate) which: Which,
    /// After this entry; without it, now.
    #[arg(long, value_name = "INDEX")]
    pub(crate) at: Option<u64>,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `diff`
#[derive(Debug, Args)]
pub struct Diff {
    /// One copy: folder, export file or URL.
    #[arg(value_name = "A")]
    pub(crate) a: String,
    /// The other.
    #[arg(value_name = "B")]
    pub(crate) b: String,
    #[command(flatten)]
    pub(crate) trust: Trust,
    #[command(flatten)]
    pub(crate) net: Net,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `report`
#[derive(Debug, Args)]
pub struct Report {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Where the page goes.
    #[arg(long, value_name = "OUT.html")]
    pub(crate) out: PathBuf,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `check-line`
#[derive(Debug, Args)]
pub struct CheckLine {
    /// The proof.
    #[arg(value_name = "FILE")]
    pub(crate) proof: PathBuf,
    #[command(flatten)]
    pub(crate) anchor: Anchor,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `export`
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Where the file goes; it must not be there yet.
    #[arg(long, value_name = "OUT.tar")]
    pub(crate) out: PathBuf,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `feed`
#[derive(Debug, Args)]
pub struct Feed {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Where the cursor is kept; it begins at the first entry if it is not there.
    #[arg(long, value_name = "FILE")]
    pub(crate) cursor: PathBuf,
    /// How.
    #[arg(long, value_enum, default_value_t = Form::Syslog)]
    pub(crate) form: Form,
    /// Seconds between looks; without it the feed ends when it is up to date.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) every: Option<u64>,
}
