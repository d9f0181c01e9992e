//! What can be proposed on a command line, and how it becomes an action.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use translog::note::WitnessKey;
use wire::cbor::Empty;
use wire::command::{
    Action, CardRef, ComponentSpec, ImportKey, Limits, Named, ResetBudget, SetDigest, SetKeyState, TokenName,
};
use wire::key::{
    Algorithm, KeyAttributes, KeyId, KeyState, KeyVersion, LEVELS_MAX, Level, Lineage, SessionRule, Usage,
};
use wire::witness::{GRACE_DEFAULT, Witness, WitnessSet};

use crate::client;
use crate::failure::Failure;
use crate::files;
use crate::grants;
use crate::instance::Instance;
use crate::profile_file;
use crate::words::from_hex;

/// What a command does.
#[derive(Debug, Subcommand)]
pub(crate) enum Proposal {
    /// Approve a policy file: keyd may load the file with this SHA-256. 批准策略文件
    SetPolicy {
        /// The policy file, as keyd will load it.
        file: PathBuf,
    },
    /// Approve a CA bundle: keyd may load the file with this SHA-256. 批准 CA 证书包
    SetCa {
        /// The CA bundle, as keyd will load it.
        file: PathBuf,
    },
    /// Take a key version into use. 启用密钥版本
    Activate {
        /// For example transit/purse/tac@01.
        key: String,
    },
    /// Stop a key version for the time being. 暂停密钥版本
    Suspend {
        /// For example transit/purse/tac@01.
        key: String,
    },
    /// Retire a key version: it verifies old transactions and nothing else. 密钥版本仅供验证
    VerifyOnly {
        /// For example transit/purse/tac@01.
        key: String,
    },
    /// Let the failure budget of a key version, a card, or both start again. 恢复失败次数预算
    ResetBudget {
        /// A key version, for example transit/purse/tac@01.
        #[arg(long)]
        key: Option<String>,
        /// A card: WALL/ISSUER/CARD, the last two 16 hex digits each.
        #[arg(long)]
        card: Option<String>,
    },
    /// Set the failure budgets; the module takes this in a rehearsal instance only. 更改失败次数上限(仅演练)
    SetLimits {
        /// Wrong pairs per card.
        #[arg(long)]
        card: u64,
        /// Wrong pairs per key version.
        #[arg(long)]
        version: u64,
    },
    /// Import a key version from components. 由分量导入密钥
    Import {
        /// JSON file: lineage, version, algorithm, level, levels, kcv, and each custodian's line from `commit`.
        spec: PathBuf,
    },
    /// Make a key version inside the module. 在模块内生成密钥
    Generate {
        /// TOML file: lineage, version, algorithm, level, levels, usage, session. See the README.
        spec: PathBuf,
    },
    /// Approve an applet's profile. 批准应用密钥方案
    Profile {
        /// The profile, for example policies/applets/transit.toml.
        file: PathBuf,
    },
    /// Grant a licence: so many card key sets for a line. 授予个人化许可
    Licence {
        /// TOML file: line, applet, transport, roles, issuer, first, last, quantity, from, until. See the README.
        file: PathBuf,
        /// The published log: profile digest and fingerprint of the transport key are taken from it.
        #[arg(long, value_name = "DIR")]
        log: PathBuf,
    },
    /// End a licence. 终止许可
    EndLicence {
        /// Its id, 32 hex digits.
        id: String,
    },
    /// Declare cards of a licence spoiled: their numbers are dead, as many others may be made. 废卡核销
    Spoil {
        /// The licence's id, 32 hex digits.
        id: String,
        /// The cards: a file with one card number of 20 digits in a line.
        #[arg(long, value_name = "FILE")]
        cards: PathBuf,
    },
    /// Enrol the key of a ledger, whose tokens authorise loads. 登记账务令牌密钥
    TokenKey {
        /// Its name.
        #[arg(long)]
        name: String,
        /// Its P-256 public key: PEM file (SubjectPublicKeyInfo).
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Applet whose cards it pays for.
        #[arg(long)]
        wall: String,
        /// Yuan a day that its tokens may load.
        #[arg(long)]
        daily_yuan: u64,
        /// Until when, RFC 3339: 2027-12-31T00:00:00Z.
        #[arg(long)]
        until: String,
    },
    /// End the key of a ledger. 停用账务令牌密钥
    EndToken {
        /// Its name.
        name: String,
    },
    /// Approve a blacklist that takes many cards off. 批准移出多张卡的黑名单
    ApproveList {
        /// The list's body.
        file: PathBuf,
        /// The full list in force, to count who leaves: keyd's blacklists/WALL.base. It must be the one that the log names.
        #[arg(
            long,
            value_name = "FILE",
            required_unless_present = "base_lost",
            conflicts_with = "base_lost"
        )]
        base: Option<PathBuf>,
        /// DANGER: nobody has the list in force any more; a full list goes without it, and anybody may leave. 现行名单已丢失
        #[arg(long)]
        base_lost: bool,
        /// Applet.
        #[arg(long)]
        wall: String,
        /// The published log: it names the list in force.
        #[arg(long, value_name = "DIR")]
        log: PathBuf,
    },
    /// Enrol a client's key from its signing request; `keyceremony client show` says what it would be granted. 登记客户端
    Client {
        /// The certificate signing request, PEM.
        csr: PathBuf,
        /// Days that it may be certified.
        #[arg(long, default_value_t = 30)]
        days: u64,
        /// The policy that keyd loads; it must grant this client something.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// End a client's key: the next revocation list names its certificates. 吊销客户端
    EndClient {
        /// A certificate of the key, PEM.
        cert: PathBuf,
        /// Why, for the record.
        #[arg(long)]
        reason: String,
    },
    /// Say who witnesses the log: K of these cosign before anything of value is given out. 登记日志见证人
    SetWitnesses {
        /// A witness's verifier key, as it prints it: NAME+ID+KEY. Once per witness.
        #[arg(long = "witness", value_name = "VKEY", required = true)]
        witnesses: Vec<String>,
        /// How many of them must cosign.
        #[arg(long, default_value_t = 2, value_name = "K")]
        quorum: u64,
        /// Seconds that checks go on without them; below a minute, checks stop between two heads.
        #[arg(long, default_value_t = GRACE_DEFAULT, value_name = "SECONDS")]
        grace: u64,
    },
    /// DANGER: end witnessing; a rollback of the log to the newest floor is possible again. 危险:停止日志见证
    EndWitnesses,
    /// DANGER: wipe every key from the module until it is restarted and unsealed. 危险:清除模块中的全部密钥
    Zeroise,
}

impl Proposal {
    pub(crate) fn action(&self, instance: &Instance) -> Result<Action, Failure> {
        Ok(match self {
            Self::SetPolicy { file } => Action::SetPolicy(digest(file, "the policy")?),
            Self::SetCa { file } => Action::SetCa(digest(file, "the CA bundle")?),
            Self::Activate { key } => set_state(key, KeyState::Active)?,
            Self::Suspend { key } => set_state(key, KeyState::Suspended)?,
            Self::VerifyOnly { key } => set_state(key, KeyState::VerifyOnly)?,
            Self::ResetBudget { key, card } => reset(key.as_deref(), card.as_deref())?,
            Self::SetLimits { card, version } => Action::SetLimits(Limits { card: *card, version: *version }),
            Self::Import { spec } => Action::ImportKey(import(spec)?),
            Self::Zeroise => Action::Zeroise(Empty {}),
            Self::Generate { spec } => Action::GenerateKey(grants::generate(spec)?),
            Self::Profile { file } => Action::SetProfile(profile_file::read(file)?.profile),
            Self::Licence { file, log } => Action::GrantLicence(grants::licence(file, log, instance)?),
            Self::EndLicence { id } => Action::RevokeLicence(Named { id: grants::id(id)? }),
            Self::Spoil { id, cards } => Action::Spoil(grants::spoilage(id, cards)?),
            Self::TokenKey { name, key, wall, daily_yuan, until } => {
                Action::EnrolToken(grants::token_key(name, key, wall, *daily_yuan, until)?)
            }
            Self::Client { csr, days, policy } => {
                Action::EnrolClient(client::enrolment(csr, *days, policy.as_deref())?)
            }
            Self::EndClient { cert, reason } => Action::EndClient(client::end(cert, reason)?),
            Self::EndToken { name } => Action::RevokeToken(TokenName { name: name.clone() }),
            Self::SetWitnesses { witnesses, quorum, grace } => set_witnesses(witnesses, *quorum, *grace)?,
            Self::EndWitnesses => {
                Action::SetWitnesses(WitnessSet { witnesses: Vec::new(), quorum: 0, grace: 0 })
            }
            Self::ApproveList { file, base, wall, log, .. } => {
                Action::ApproveList(grants::list(file, base.as_deref(), wall, log, instance)?)
            }
        })
    }
}

fn digest(file: &Path, what: &str) -> Result<SetDigest, Failure> {
    let digest = Sha256::digest(files::read(file, what)?).into();
    Ok(SetDigest { digest })
}

fn set_state(key: &str, state: KeyState) -> Result<Action, Failure> {
    let key = key_id(key)?;
    Ok(Action::SetKeyState(SetKeyState { key, state }))
}

/// Reads a key version's name.
pub(crate) fn key_id(text: &str) -> Result<KeyId, Failure> {
    KeyId::parse(text).ok_or_else(|| {
        Failure::new(
            format!("“{text}”不是密钥版本名;例如 transit/purse/tac@01。"),
            format!("'{text}' is no key version; write it like transit/purse/tac@01"),
        )
    })
}

fn set_witnesses(lines: &[String], quorum: u64, grace: u64) -> Result<Action, Failure> {
    let mut witnesses = Vec::with_capacity(lines.len());
    for line in lines {
        let key = WitnessKey::parse(line.trim_end()).map_err(|_| {
            Failure::new(
                format!("“{line}”不是见证人公钥;请照见证人显示的一行填写。"),
                format!("'{line}' is no witness's verifier key; copy the line that citykeep-witness prints"),
            )
        })?;
        witnesses.push(Witness { name: key.name().to_owned(), key: key.key() });
    }
    let set = WitnessSet { witnesses, quorum, grace };
    if set.is_sound() {
        return Ok(Action::SetWitnesses(set));
    }
    Err(Failure::new(
        "见证人名单不符合规则:1 ≤ k ≤ n ≤ 32,名称和公钥不得重复,宽限不超过 30 天。",
        "the set breaks its rules: 1 ≤ k ≤ n ≤ 32, no name or key twice, a grace of at most 2592000 seconds",
    ))
}

fn reset(key: Option<&str>, card: Option<&str>) -> Result<Action, Failure> {
    if key.is_none() && card.is_none() {
        return Err(Failure::new(
            "请用 --key 或 --card 指明恢复谁的预算。",
            "nothing is named whose budget would start again; give --key, --card or both",
        ));
    }
    Ok(Action::ResetBudget(ResetBudget {
        key: key.map(key_id).transpose()?,
        card: card.map(card_ref).transpose()?,
    }))
}

fn card_ref(text: &str) -> Result<CardRef, Failure> {
    let parts: Vec<&str> = text.split('/').collect();
    let card = match parts.as_slice() {
        [wall, issuer, card] => from_hex(issuer).zip(from_hex(card)).map(|(issuer, card)| CardRef {
            wall: (*wall).to_owned(),
            issuer,
            card,
        }),
        _ => None,
    };
    card.ok_or_else(|| {
        Failure::new(
            format!("“{text}”不是卡;写法为 应用/发卡方/卡号后16位。"),
            format!("'{text}' is no card; write WALL/ISSUER/CARD with 16 hex digits for the last two"),
        )
    })
}

/// What a custodian says of his component before anybody approves: one line of an import's specification.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ComponentLine {
    pub(crate) custodian: String,
    pub(crate) kcv: String,
    pub(crate) commitment: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportSpec {
    lineage: String,
    version: String,
    algorithm: String,
    level: String,
    levels: Vec<String>,
    kcv: String,
    /// What it is for; checking TACs where the file does not say.
    usage: Option<Vec<String>>,
    session: Option<String>,
    components: Vec<ComponentLine>,
}

fn import(path: &Path) -> Result<ImportKey, Failure> {
    let text = files::read_text(path, "the import")?;
    parse_import(&text).map_err(|why| {
        let path = path.display();
        Failure::new(
            format!("导入文件 {path} 有误;请按英文说明改正。"),
            format!("{path}: {why}; correct the file"),
        )
    })
}

fn parse_import(text: &str) -> Result<ImportKey, String> {
    let spec: ImportSpec = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let no = |field: &str, value: &str| format!("{field}: '{value}' is not possible");
    if spec.levels.len() > LEVELS_MAX {
        return Err(format!(
            "levels: {} of them, where at most {LEVELS_MAX} are possible",
            spec.levels.len()
        ));
    }
    let level = |text: &String| profile_file::level(text).map_err(|_| no("levels", text));
    let usage = |name: &String| Usage::from_name(name).ok_or_else(|| no("usage", name));
    let session = |name: &String| SessionRule::from_name(name).ok_or_else(|| no("session", name));
    let component = |(at, part): (usize, &ComponentLine)| {
        let place = format!("components[{at}]");
        Ok::<_, String>(ComponentSpec {
            custodian: part.custodian.clone(),
            kcv: from_hex(&part.kcv).ok_or_else(|| no(&format!("{place}.kcv"), &part.kcv))?,
            commitment: from_hex(&part.commitment)
                .ok_or_else(|| no(&format!("{place}.commitment"), &part.commitment))?,
        })
    };
    let components = spec.components.iter().enumerate().map(component);
    Ok(ImportKey {
        attributes: KeyAttributes {
            lineage: Lineage::parse(&spec.lineage).ok_or_else(|| no("lineage", &spec.lineage))?,
            version: KeyVersion::parse(&spec.version).ok_or_else(|| no("version", &spec.version))?,
            algorithm: Algorithm::from_name(&spec.algorithm)
                .ok_or_else(|| no("algorithm", &spec.algorithm))?,
            level: Level::from_name(&spec.level).ok_or_else(|| no("level", &spec.level))?,
            levels: spec.levels.iter().map(level).collect::<Result<_, _>>()?,
            usage: match &spec.usage {
                Some(names) => names.iter().map(usage).collect::<Result<_, _>>()?,
                None => vec![Usage::VerifyTac],
            },
            kcv: from_hex(&spec.kcv).ok_or_else(|| no("kcv", &spec.kcv))?,
            session: spec.session.as_ref().map(session).transpose()?,
        },
        components: components.collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use translog::note::VerifierKey;
    use wire::key::FactorSource;

    const IMPORT: &str = r#"{"lineage":"transit/purse/tac","version":"02","algorithm":"sm4","level":"city",
        "levels":["0102030405060708","asn_right8"],"kcv":"58A90D","components":[
        {"custodian":"zhou","kcv":"2A4824","commitment":"0000000000000000000000000000000000000000000000000000000000000001"},
        {"custodian":"wu","kcv":"AD5B4C","commitment":"0000000000000000000000000000000000000000000000000000000000000002"}]}"#;

    #[test]
    fn an_import_is_read_closed() {
        let import = parse_import(IMPORT).unwrap();
        assert_eq!(import.attributes.id().to_string(), "transit/purse/tac@02");
        assert_eq!(
            import.attributes.levels,
            [FactorSource::Literal([1, 2, 3, 4, 5, 6, 7, 8]), FactorSource::ASN_RIGHT8]
        );
        assert_eq!(import.components[1].custodian, "wu");
        for (from, to, named) in [
            ("\"level\"", "\"floor\"", "floor"),
            ("\"sm4\"", "\"rsa\"", "algorithm"),
            ("0102030405060708", "01020304050607", "levels"),
            ("AD5B4C", "AD5B", "components[1].kcv"),
            ("0001\"", "001\"", "components[0].commitment"),
            ("tac\"", "tac/x\"", "lineage"),
        ] {
            let error = parse_import(&IMPORT.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(named), "{from}: {error}");
        }
    }

    #[test]
    fn witnesses_come_as_verifier_keys() {
        let line = |name: &str, byte| {
            let key = ed25519_dalek::SigningKey::from_bytes(&[byte; 32]).verifying_key().to_bytes();
            WitnessKey::new(name, key).to_string()
        };
        let lines = [line("w.example/1", 1), line("w.example/2", 2)];
        let Action::SetWitnesses(set) = set_witnesses(&lines, 2, 86_400).unwrap() else { panic!() };
        assert_eq!((set.witnesses.len(), set.quorum, set.witnesses[1].name.as_str()), (2, 2, "w.example/2"));
        assert!(set_witnesses(&lines, 3, 86_400).unwrap_err().to_string().contains("breaks its rules"));
        assert!(set_witnesses(&[lines[0].clone(), lines[0].clone()], 1, 60).is_err(), "twice");
        // A log's key is no witness's, though it has the same form.
        let log = VerifierKey::new("w.example/1", [1; 32]).to_string();
        let error = set_witnesses(&[log], 1, 60).unwrap_err().to_string();
        assert!(error.contains("citykeep-witness prints"), "{error}");
    }

    #[test]
    fn names_on_the_command_line() {
        assert!(key_id("transit/purse/tac@01").is_ok());
        assert!(key_id("transit/purse/tac").unwrap_err().to_string().contains("tac@01"));
        let card = card_ref("transit/2660FFFFFFFFFFFF/3101000000000001").unwrap();
        assert_eq!((card.wall.as_str(), card.issuer[0], card.card[7]), ("transit", 0x26, 1));
        for bad in ["transit/26/31", "transit/2660FFFFFFFFFFFF", "a/b/c/d"] {
            assert!(card_ref(bad).is_err(), "{bad}");
        }
        assert!(reset(None, None).is_err());
    }
}
