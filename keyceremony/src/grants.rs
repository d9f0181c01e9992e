//! Grants as people write them: licences, spoiled cards, ledgers' keys, keys to make, lists to approve.

use std::path::Path;

use p256::pkcs8::DecodePublicKey as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use wire::command::Id;
use wire::key::{Algorithm, KeyAttributes, KeyId, KeyVersion, Level, Lineage, SessionRule, Usage};
use wire::licence::{CardSerial, Licence, Spoilage};
use wire::list::{ApprovedList, List, ListKind};
use wire::profile::ProfileRole;
use wire::purse::to_hex;
use wire::token::TokenKey;

use crate::client;
use crate::failure::Failure;
use crate::files;
use crate::instance::Instance;
use crate::logbook;
use crate::profile_file;
use crate::words::from_hex;
use crate::{ceremony, propose};
use translog::state::{ListState, LogState};

fn wrong(path: &Path, why: &str) -> Failure {
    let path = path.display();
    Failure::new(
        format!("文件 {path} 有误;请按英文说明改正。"),
        format!("{path}: {why}; correct the file (the README of keyceremony shows one)"),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerateSpec {
    lineage: String,
    version: String,
    algorithm: String,
    level: String,
    #[serde(default)]
    levels: Vec<String>,
    usage: Vec<String>,
    session: Option<String>,
}

/// A key to be made inside the module.
pub(crate) fn generate(path: &Path) -> Result<KeyAttributes, Failure> {
    let text = files::read_text(path, "the key to make")?;
    parse_generate(&text).map_err(|why| wrong(path, &why))
}

fn parse_generate(text: &str) -> Result<KeyAttributes, String> {
    let spec: GenerateSpec = toml::from_str(text).map_err(|error| error.to_string())?;
    let no = |field: &str, value: &str| format!("{field}: '{value}' is not possible");
    let usage = |name: &String| Usage::from_name(name).ok_or_else(|| no("usage", name));
    let session = |name: &String| SessionRule::from_name(name).ok_or_else(|| no("session", name));
    Ok(KeyAttributes {
        lineage: Lineage::parse(&spec.lineage).ok_or_else(|| no("lineage", &spec.lineage))?,
        version: KeyVersion::parse(&spec.version).ok_or_else(|| no("version", &spec.version))?,
        algorithm: Algorithm::from_name(&spec.algorithm).ok_or_else(|| no("algorithm", &spec.algorithm))?,
        level: Level::from_name(&spec.level).ok_or_else(|| no("level", &spec.level))?,
        levels: spec.levels.iter().map(|text| profile_file::level(text)).collect::<Result<_, _>>()?,
        usage: spec.usage.iter().map(usage).collect::<Result<_, _>>()?,
        kcv: [0; 3],
        session: spec.session.as_ref().map(session).transpose()?,
    })
}

/// A licence as people write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LicenceSpec {
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
    /// RFC 3339.
    pub(crate) from: String,
    pub(crate) until: String,
}

impl LicenceSpec {
    /// The licence on what the log has: profile in force, transport key and its fingerprint.
    pub(crate) fn licence(&self, id: Id, node: Id, log: &LogState) -> Result<Licence, String> {
        let transport: KeyId = propose::key_id(&self.transport)
            .map_err(|_| format!("transport: '{}' is no key version", self.transport))?;
        let key = log.key(&transport).ok_or_else(|| format!("transport: the log has no key {transport}"))?;
        let (digest, profile) = log
            .profile(&self.applet)
            .ok_or_else(|| format!("applet: no profile of {} is approved yet", self.applet))?;
        let all = || profile.roles.iter().map(|role| role.role.clone()).collect();
        let roles: Vec<String> = if self.roles.is_empty() { all() } else { self.roles.clone() };
        let algorithm = key.made.attributes.algorithm;
        let weak = |role: &&ProfileRole| roles.contains(&role.role) && !algorithm.may_wrap(role.algorithm);
        if let Some(role) = profile.roles.iter().find(weak) {
            return Err(format!(
                "transport: {transport} is {algorithm}, which is weaker than the {} key of role {}; name 3des roles only, or take an \
                 aes transport key",
                role.algorithm, role.role
            ));
        }
        Ok(Licence {
            id,
            node,
            line: self.line.clone(),
            fingerprint: key.made.fingerprint,
            transport,
            applet: self.applet.clone(),
            profile: *digest,
            roles,
            issuer: from_hex(&self.issuer).ok_or("issuer: 16 hex digits are needed")?,
            first: serial(&self.first).ok_or("first: a card number has 20 digits")?,
            last: serial(&self.last).ok_or("last: a card number has 20 digits")?,
            quantity: self.quantity,
            not_before: moment(&self.from).ok_or("from: write it like 2026-12-01T00:00:00Z")?,
            not_after: moment(&self.until).ok_or("until: write it like 2026-12-31T00:00:00Z")?,
        })
    }
}

/// Reads a licence file.
pub(crate) fn licence(path: &Path, log: &Path, instance: &Instance) -> Result<Licence, Failure> {
    let text = files::read_text(path, "the licence")?;
    let spec: LicenceSpec = toml::from_str(&text).map_err(|error| wrong(path, &error.to_string()))?;
    let book = logbook::read(log, &instance.vkey, 1)?;
    spec.licence(ceremony::fresh_id()?, instance.node, &book.state).map_err(|why| wrong(path, &why))
}

/// An id of 32 hex digits.
pub(crate) fn id(text: &str) -> Result<Id, Failure> {
    from_hex(text).ok_or_else(|| {
        Failure::new(
            format!("“{text}”不是编号;编号为 32 位十六进制数。"),
            format!("'{text}' is no id; an id has 32 hex digits, as the approved command and `citykeep audit` show it"),
        )
    })
}

/// Cards of a licence, one number in a line.
pub(crate) fn spoilage(licence: &str, path: &Path) -> Result<Spoilage, Failure> {
    let text = files::read_text(path, "the list of spoiled cards")?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let cards = lines.map(|(at, line)| {
        serial(line.trim())
            .ok_or_else(|| wrong(path, &format!("line {} is no card number of 20 digits", at + 1)))
    });
    Ok(Spoilage { licence: id(licence)?, cards: cards.collect::<Result<_, _>>()? })
}

/// A ledger's key.
pub(crate) fn token_key(
    name: &str,
    path: &Path,
    wall: &str,
    daily_yuan: u64,
    until: &str,
) -> Result<TokenKey, Failure> {
    let pem = files::read_text(path, "the ledger's public key")?;
    let key = p256::PublicKey::from_public_key_pem(&pem)
        .map_err(|_| wrong(path, "it is no P-256 public key in PEM (BEGIN PUBLIC KEY)"))?;
    let not_after = moment(until).ok_or_else(|| {
        Failure::new(
            "截止时间写法有误。",
            format!("'{until}' is no time; write it like 2027-12-31T00:00:00Z"),
        )
    })?;
    let daily = daily_yuan.checked_mul(100).ok_or_else(|| {
        Failure::new("每日上限过大。", "the daily value is larger than any city's; give it in yuan")
    })?;
    let key = wire::seal::compressed(&key);
    Ok(TokenKey { name: name.to_owned(), key, wall: wall.to_owned(), daily, not_after })
}

/// A list whose removals need the officers, counted against the list in force: the one that the log names, since against another
/// one they would read a number that means nothing. Without a base the list in force is lost, and nobody can say who leaves.
pub(crate) fn list(
    path: &Path,
    base: Option<&Path>,
    wall: &str,
    log: &Path,
    instance: &Instance,
) -> Result<ApprovedList, Failure> {
    let read = |path: &Path| {
        let bytes = files::read(path, "the list")?;
        List::parse(&bytes).map(|list| (bytes, list)).map_err(|error| wrong(path, &error.0))
    };
    let (body, list) = read(path)?;
    let book = logbook::read(log, &instance.vkey, 1)?;
    let known = book.state.list(wall).ok_or_else(|| {
        Failure::new(
            format!("日志中还没有 {wall} 的名单;第一期名单不移出任何卡,无须批准。"),
            format!(
                "the log has no list of {wall} yet; the first one takes nobody off and needs no approval"
            ),
        )
    })?;
    let (epoch, next) = (u64::from(list.version), known.epoch + 1);
    if epoch != next {
        return Err(wrong(path, &format!("its epoch is {epoch}, and the next one of {wall} is {next}")));
    }
    let removed = match base {
        Some(base) => {
            let (bytes, before) = read(base)?;
            if <[u8; 32]>::from(Sha256::digest(&bytes)) != known.effective {
                return Err(not_in_force(base, wall, u64::from(before.version), known));
            }
            let after = List::follow(Some(&before), &list).map_err(|error| wrong(path, &error.0))?;
            // All of them, for the officers to read; the module counts no further than it must.
            after.leaving(&before, &list, book.state.day(client::now()), ApprovedList::UNKNOWN - 2)
        }
        None if list.kind == ListKind::Full => ApprovedList::UNKNOWN,
        None => {
            return Err(wrong(
                path,
                "a delta cannot be followed without the list in force; make a full list",
            ));
        }
    };
    Ok(ApprovedList { wall: wall.to_owned(), epoch, digest: Sha256::digest(&body).into(), removed })
}

fn not_in_force(base: &Path, wall: &str, epoch: u64, known: &ListState) -> Failure {
    let (base, newest, digest) = (base.display(), known.epoch, to_hex(&known.effective));
    Failure::new(
        format!(
            "{base}(第 {epoch} 期)不是日志所记的 {wall} 现行名单(第 {newest} 期,SHA-256 {digest});请取 keyd 的 {wall}.base。"
        ),
        format!(
            "{base}, epoch {epoch}, is not the list of {wall} in force: the log names epoch {newest} with SHA-256 {digest}; bring that \
             full list, keyd keeps it as {wall}.base, or if nobody has it, give --base-lost"
        ),
    )
}

/// A card number of 20 decimal digits.
pub(crate) fn serial(text: &str) -> Option<CardSerial> {
    wire::purse::bcd(text.as_bytes())
}

fn moment(text: &str) -> Option<u64> {
    OffsetDateTime::parse(text, &Rfc3339).ok().and_then(|time| u64::try_from(time.unix_timestamp()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_to_make_is_read_closed() {
        let good = "lineage = \"transit/blacklist/sm2\"\nversion = \"01\"\nalgorithm = \"sm2\"\nlevel = \"city\"\nusage = [\"sign-list\"]\n";
        let key = parse_generate(good).unwrap();
        assert_eq!((key.id().to_string().as_str(), key.levels.len()), ("transit/blacklist/sm2@01", 0));
        for (from, to, named) in [
            ("sm2\"\nlevel", "rsa\"\nlevel", "algorithm"),
            ("[\"sign-list\"]", "[\"sign-all\"]", "usage"),
            ("level =", "floor =", "floor"),
            ("version = \"01\"", "version = \"1\"", "version"),
        ] {
            let error = parse_generate(&good.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(named), "{from}: {error}");
        }
    }

    #[test]
    fn times_and_numbers() {
        assert_eq!(moment("1970-01-02T00:00:00Z"), Some(86_400));
        assert_eq!(moment("2026-12-31"), None);
        assert!(serial("00003101000012345678").is_some() && serial("3101000012345678").is_none());
        assert!(id("00").is_err());
    }
}
