//! Arguments of `citykeep blacklist`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Service;

#[derive(Debug, Subcommand)]
pub(crate) enum BlacklistAction {
    /// Make the body of a list from a table of cards. 由表格生成黑名单。
    ///
    /// Each line of the CSV is `serial,reason,level` or `from,to,reason,level`, numbers of 20 digits, reason and level 0 to 255;
    /// in a delta also `remove,serial`. Order does not matter; a card twice is refused with both lines.
    #[command(
        after_help = "Example: citykeep blacklist build --csv cards.csv --epoch 1 --valid-from 20260101 --valid-to 20261231 --out list.body"
    )]
    Build(BlacklistBuild),
    /// Have a list signed: writes blacklist.bin, .sm2.sig, .p256.sig and the public keys. 签发黑名单。
    ///
    /// Each signature lies under two names, blacklist.sm2.sig and blacklist.bin.sm2.sig: terminals know one or the other.
    #[command(
        after_help = "Example:\n  citykeep blacklist sign --body list.body --out out --url https://localhost:8443 --ca ca.pem \
        --cert cards.pem --key cards.key"
    )]
    Sign(BlacklistSign),
    /// Check a signed list with nothing but the public keys, offline. 离线验签。
    ///
    /// Exit code 1 and "DO NOT LOAD THIS LIST" for a list that was changed, is old or is over; 2 where a file is missing.
    #[command(
        after_help = "Example: citykeep blacklist check out/blacklist.bin --sm2 sm2.pem --p256 p256.pem --card 00003101000020000005"
    )]
    Check(BlacklistCheck),
}

#[derive(Debug, Args)]
pub(crate) struct BlacklistBuild {
    /// The table.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: PathBuf,
    /// Epoch: one more than the list before.
    #[arg(long, value_name = "N")]
    pub(crate) epoch: u32,
    /// A delta against the list before; without it a full list.
    #[arg(long)]
    pub(crate) delta: bool,
    /// First day, YYYYMMDD.
    #[arg(long, value_name = "DATE")]
    pub(crate) valid_from: String,
    /// Last day, YYYYMMDD.
    #[arg(long, value_name = "DATE")]
    pub(crate) valid_to: String,
    /// Where the body goes.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BlacklistSign {
    /// Body of the list, from `blacklist build`.
    #[arg(long, value_name = "FILE")]
    pub(crate) body: PathBuf,
    /// Applet.
    #[arg(long, default_value = "transit")]
    pub(crate) wall: String,
    /// Directory of the signed files.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) service: Service,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BlacklistCheck {
    /// The signed list.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// SM2 public key, PEM; the signature is FILE with .sm2.sig in place of its extension or behind it.
    #[arg(long, value_name = "PEM")]
    pub(crate) sm2: Option<PathBuf>,
    /// P-256 public key, PEM; the signature is FILE with .p256.sig in place of its extension or behind it.
    #[arg(long, value_name = "PEM", required_unless_present = "sm2")]
    pub(crate) p256: Option<PathBuf>,
    /// Refuse a list whose epoch is not above this one.
    #[arg(long, value_name = "N")]
    pub(crate) last_epoch: Option<u32>,
    /// Say whether this card is on the list.
    #[arg(long, value_name = "SERIAL")]
    pub(crate) card: Option<String>,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}
