//! The script of a ceremony: closed TOML, ordered steps, and what is said at each, Chinese and English.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::failure::Failure;
use crate::files;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    format: u64,
    rehearsal: bool,
    pub(crate) title_zh: String,
    pub(crate) title_en: String,
    /// Start of the log's origin; the node's id follows, since each module has its own log.
    pub(crate) origin: String,
    pub(crate) officers: Set,
    pub(crate) custodians: Set,
    /// Files of applet profiles, beside the script; their masters are made where nobody imported them.
    #[serde(default)]
    pub(crate) profiles: Vec<PathBuf>,
    /// Keys to make that no profile names.
    #[serde(default)]
    pub(crate) keys: Vec<KeyRow>,
    #[serde(default)]
    pub(crate) licences: Vec<LicenceRow>,
    pub(crate) ledger: Option<LedgerRow>,
    steps: Vec<Step>,
}

/// A key without levels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRow {
    pub(crate) key: String,
    pub(crate) algorithm: String,
    pub(crate) usage: String,
}

/// A licence that lasts as many days.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LicenceRow {
    pub(crate) line: String,
    pub(crate) applet: String,
    pub(crate) transport: String,
    /// All roles of the profile if there are none.
    #[serde(default)]
    pub(crate) roles: Vec<String>,
    pub(crate) issuer: String,
    pub(crate) first: String,
    pub(crate) last: String,
    pub(crate) quantity: u64,
    pub(crate) days: u64,
}

/// The ledger whose public key comes with the rehearsal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LedgerRow {
    pub(crate) name: String,
    pub(crate) wall: String,
    pub(crate) daily_yuan: u64,
    pub(crate) days: u64,
}

/// m, and the names of the n.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Set {
    pub(crate) threshold: u64,
    pub(crate) names: Vec<String>,
}

impl Set {
    /// m as a count of members.
    pub(crate) fn needed(&self) -> usize {
        usize::try_from(self.threshold).unwrap_or(usize::MAX)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) action: Action,
    pub(crate) zh: String,
    pub(crate) en: String,
    pub(crate) proves_zh: String,
    pub(crate) proves_en: String,
}

/// What is done at a step, in the order of a ceremony.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    Greet,
    EnrolOfficers,
    EnrolCustodians,
    Genesis,
    ProveShares,
    Unseal,
    Floor,
    Recover,
    ApproveFiles,
    ImportKeys,
    ActivateKeys,
    MakeKeys,
    ApproveProfiles,
    GrantLicences,
    Close,
}

/// Whether the instance is made, or comes back after a restart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Run {
    First,
    Again,
}

impl Action {
    const REQUIRED: [Self; 12] = [
        Self::Greet,
        Self::EnrolOfficers,
        Self::EnrolCustodians,
        Self::Genesis,
        Self::ProveShares,
        Self::Unseal,
        Self::Floor,
        Self::Recover,
        Self::ApproveFiles,
        Self::ImportKeys,
        Self::ActivateKeys,
        Self::Close,
    ];

    /// Name in the script and in messages.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Greet => "greet",
            Self::EnrolOfficers => "enrol-officers",
            Self::EnrolCustodians => "enrol-custodians",
            Self::Genesis => "genesis",
            Self::ProveShares => "prove-shares",
            Self::Unseal => "unseal",
            Self::Floor => "floor",
            Self::Recover => "recover",
            Self::ApproveFiles => "approve-files",
            Self::ImportKeys => "import-keys",
            Self::ActivateKeys => "activate-keys",
            Self::MakeKeys => "make-keys",
            Self::ApproveProfiles => "approve-profiles",
            Self::GrantLicences => "grant-licences",
            Self::Close => "close",
        }
    }

    const fn belongs_to(self, run: Run) -> bool {
        match self {
            Self::EnrolOfficers | Self::EnrolCustodians | Self::Genesis | Self::ProveShares => {
                matches!(run, Run::First)
            }
            Self::Unseal | Self::Floor | Self::Recover => matches!(run, Run::Again),
            Self::Greet
            | Self::ApproveFiles
            | Self::ImportKeys
            | Self::ActivateKeys
            | Self::MakeKeys
            | Self::ApproveProfiles
            | Self::GrantLicences
            | Self::Close => true,
        }
    }
}

impl Script {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::read_text(path, "the script")?;
        Self::parse(&text).map_err(|why| {
            let path = path.display();
            Failure::new(
                format!("脚本 {path} 有误;请按英文说明改正。"),
                format!("the script {path}: {why}; correct it, or take the one that comes with keyceremony"),
            )
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let script: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if script.format != 1 {
            return Err(format!("format {} is not one that this program knows", script.format));
        }
        if !script.rehearsal {
            return Err(
                "rehearsal must be true: real keys are made by people, step by step, not by a script"
                    .to_owned(),
            );
        }
        for set in [&script.officers, &script.custodians] {
            if !(2..=set.names.len() as u64).contains(&set.threshold) {
                return Err(format!("threshold {} of {} names: 2 ≤ m ≤ n", set.threshold, set.names.len()));
            }
        }
        let order: Vec<Action> = script.steps.iter().map(|step| step.action).collect();
        if let Some(pair) = order.windows(2).find(|pair| pair.first() >= pair.last()) {
            let names = pair.iter().map(|action| action.as_str()).collect::<Vec<_>>().join("' before '");
            return Err(format!("steps: '{names}' is not the order of a ceremony"));
        }
        if let Some(missing) = Action::REQUIRED.iter().find(|action| !order.contains(action)) {
            return Err(format!("steps: '{}' is missing", missing.as_str()));
        }
        Ok(script)
    }

    /// The steps of this run, in order.
    pub(crate) fn steps(&self, run: Run) -> Vec<&Step> {
        self.steps.iter().filter(|step| step.action.belongs_to(run)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../scripts/settlement-day.toml");

    #[test]
    fn the_shipped_script_plays_both_runs() {
        let script = Script::parse(SHIPPED).unwrap();
        let names = |run| script.steps(run).iter().map(|step| step.action.as_str()).collect::<Vec<_>>();
        assert_eq!(
            names(Run::First),
            [
                "greet",
                "enrol-officers",
                "enrol-custodians",
                "genesis",
                "prove-shares",
                "approve-files",
                "import-keys",
                "activate-keys",
                "make-keys",
                "approve-profiles",
                "grant-licences",
                "close"
            ]
        );
        assert_eq!(
            names(Run::Again),
            [
                "greet",
                "unseal",
                "floor",
                "recover",
                "approve-files",
                "import-keys",
                "activate-keys",
                "make-keys",
                "approve-profiles",
                "grant-licences",
                "close"
            ]
        );
        let words =
            script.steps.iter().flat_map(|step| [&step.zh, &step.en, &step.proves_zh, &step.proves_en]);
        assert!(words.into_iter().all(|text| !text.trim().is_empty()));
        assert_eq!(script.officers.names, ["officer-1", "officer-2", "officer-3"]);
        assert_eq!((script.officers.threshold, script.custodians.threshold), (2, 3));
        assert_eq!(script.custodians.names.len(), 5);
    }

    #[test]
    fn the_script_is_closed_and_ordered() {
        let table = [
            ("format = 1", "format = 2", "format 2"),
            ("rehearsal = true", "rehearsal = false", "real keys are made by people"),
            ("rehearsal = true", "rehearsal = true\nskip = true", "skip"),
            ("action = \"greet\"", "action = \"dance\"", "dance"),
            ("action = \"greet\"", "action = \"greet\"\nsilent = true", "silent"),
            ("action = \"floor\"", "action = \"unseal\"", "order"),
            ("action = \"genesis\"", "action = \"prove-shares\"", "order"),
            ("threshold = 2", "threshold = 1", "2 ≤ m ≤ n"),
            ("threshold = 3", "threshold = 6", "2 ≤ m ≤ n"),
        ];
        for (from, to, named) in table {
            let bad = SHIPPED.replacen(from, to, 1);
            assert_ne!(bad, SHIPPED, "{from}");
            let error = Script::parse(&bad).unwrap_err();
            assert!(error.contains(named), "{from} → {to}: {error}");
        }
        let (before, after) = SHIPPED.split_once("[[steps]]\naction = \"floor\"").unwrap();
        let shorter = format!("{before}[[steps]]{}", after.split_once("[[steps]]").unwrap().1);
        assert!(Script::parse(&shorter).unwrap_err().contains("'floor' is missing"));
    }
}
