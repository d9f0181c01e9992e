//! Arguments of `citykeep perso`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Service;

#[derive(Debug, Subcommand)]
pub(crate) enum PersoAction {
    /// Ask for the key sets of N cards; killed at any moment, the job goes on where it was. 制卡取密钥。
    ///
    /// The key sets come wrapped (TR-31 or sealed blocks) under the transport key that the licence names, in files of at most
    /// 128 cards under DIR/keys. Nothing is counted twice: the same card again is the same answer. DIR/report.json says at the
    /// end what was done and what the licence has left.
    ///
    /// Health cards derive with a factor of their chip: --chips gives it for each card. All of the table is read before the first
    /// card is asked for; the job keeps a copy.
    #[command(
        after_help = "Examples:\n  citykeep perso run --licence HEX --first 00003101000020000000 --count 10000 --out job \\\n    \
        --url https://localhost:8443 --ca ca.pem --cert line.pem --key line.key\n  \
        citykeep perso run --licence HEX --first 00003701000040000000 --count 500 --chips chips.csv --out health-job \\\n    \
        --url https://localhost:8443 --ca ca.pem --cert health.pem --key health.key"
    )]
    Run(PersoRun),
    /// Go on with a job that was interrupted. 继续中断的任务。
    #[command(
        after_help = "Example: citykeep perso resume job --url https://localhost:8443 --ca ca.pem --cert line.pem --key line.key"
    )]
    Resume(PersoResume),
    /// Compare a job's files with the published log, card by card. 与日志逐卡核对。
    #[command(after_help = "Example: citykeep perso report job --log /var/lib/citykeep/log --vkey vkey")]
    Report(PersoReport),
}

#[derive(Debug, Args)]
pub(crate) struct PersoRun {
    /// The licence, 32 hex digits.
    #[arg(long, value_name = "HEX")]
    pub(crate) licence: String,
    /// First card number, 20 digits.
    #[arg(long, value_name = "SERIAL")]
    pub(crate) first: String,
    /// Cards, one number after the other.
    #[arg(long, value_name = "N")]
    pub(crate) count: u64,
    /// How the keys are wrapped: tr31 or sealed.
    #[arg(long, default_value = "tr31")]
    pub(crate) form: String,
    /// Cards per request, 1 to 128.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) batch: u64,
    /// Factors of the chips: a line `serial,factor` for each card, 20 digits and 16 hex digits.
    #[arg(long, value_name = "CSV")]
    pub(crate) chips: Option<PathBuf>,
    /// The job's directory; a job that is there already goes on.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) service: Service,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PersoResume {
    /// The job's directory.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) service: Service,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PersoReport {
    /// The job's directory.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The published log.
    #[arg(long, value_name = "DIR")]
    pub(crate) log: PathBuf,
    /// File with the log's vkey line.
    #[arg(long, value_name = "FILE")]
    pub(crate) vkey: PathBuf,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}
