//! An applet's profile as people write it (`policies/applets/*.toml`): closed TOML, turned into the canonical profile that
//! officers approve, and into the attributes of the masters that it wants.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use wire::cbor::Bytes;
use wire::key::{Algorithm, FactorSource, KeyAttributes, KeyId, Level, SessionRule, Usage};
use wire::profile::{AppletProfile, KEY_HEADER_MAX, MacLayout, ProfileRole, ROLES_MAX};

use crate::failure::Failure;
use crate::files;
use crate::words::from_hex;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u64,
    applet: String,
    version: u64,
    title_zh: String,
    title_en: String,
    control: Option<String>,
    roles: Vec<Spanned<RoleRow>>,
    #[serde(default, rename = "files")]
    _files: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleRow {
    role: String,
    master: String,
    also: Option<String>,
    algorithm: String,
    levels: Vec<String>,
    index: u64,
    p1: String,
    p2: String,
    header: String,
    block_usage: String,
    block_mode: String,
    session: Option<String>,
    mac: String,
}

/// A profile, and what its masters are.
#[derive(Clone, Debug)]
pub(crate) struct ProfileFile {
    pub(crate) title_zh: String,
    pub(crate) title_en: String,
    pub(crate) profile: AppletProfile,
    /// One per role, without a check value.
    pub(crate) masters: Vec<KeyAttributes>,
}

/// Reads a profile file.
pub(crate) fn read(path: &Path) -> Result<ProfileFile, Failure> {
    let text = files::read_text(path, "the applet profile")?;
    parse(&text).map_err(|why| {
        let path = path.display();
        Failure::new(
            format!("应用方案 {path} 有误;请按英文说明改正。"),
            format!("the applet profile {path}: {why}; compare it with policies/applets/transit.toml"),
        )
    })
}

fn parse(text: &str) -> Result<ProfileFile, String> {
    let document: Document = toml::from_str(text).map_err(|error| error.to_string())?;
    if document.format != 1 {
        return Err(format!("format {} is not one that this program knows", document.format));
    }
    let (mut roles, mut masters) = (Vec::<ProfileRole>::new(), Vec::new());
    for row in &document.roles {
        let wrong = |why: String| {
            let line = line_of(text, row.span().start);
            format!("line {line}, role '{}': {why}", row.get_ref().role)
        };
        let (role, master) = row.get_ref().read().map_err(wrong)?;
        if roles.iter().any(|known| known.role == role.role) {
            return Err(wrong("it stands there twice".to_owned()));
        }
        // A profile of this role alone tells whether the fault is in the role.
        let alone = AppletProfile { roles: vec![role.clone()], control: None, ..document.profile() };
        if !alone.is_sound() {
            return Err(wrong(format!(
                "it needs a name of a-z 0-9 -, a master in {}'s own wall, 3des or sm4, a header of at most {KEY_HEADER_MAX} \
                 bytes, a block usage of two and a block mode of one of A-Z 0-9",
                document.applet
            )));
        }
        // The second key would replace the first on the card.
        if let Some(known) = roles.iter().find(|known| known.place() == role.place()) {
            return Err(wrong(format!(
                "it has the p1, p2 and, in the header, id, version and type of '{}', so a card could keep only one of them",
                known.role
            )));
        }
        roles.push(role);
        masters.push(master);
    }
    let profile = AppletProfile { roles, ..document.profile() };
    if !profile.is_sound() {
        return Err(format!("a profile has 1 to {ROLES_MAX} roles, and a control role that is one of them"));
    }
    let (title_zh, title_en) = (document.title_zh, document.title_en);
    Ok(ProfileFile { title_zh, title_en, profile, masters })
}

/// The line, from 1, of a place in the text.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

impl Document {
    /// The profile without its roles.
    fn profile(&self) -> AppletProfile {
        AppletProfile {
            format: self.format,
            applet: self.applet.clone(),
            version: self.version,
            roles: Vec::new(),
            control: self.control.clone(),
        }
    }
}

impl RoleRow {
    fn read(&self) -> Result<(ProfileRole, KeyAttributes), String> {
        let key = KeyId::parse(&self.master)
            .ok_or_else(|| format!("master '{}' is not like transit/purse/load@01", self.master))?;
        let algorithm = Algorithm::from_name(&self.algorithm)
            .ok_or_else(|| format!("algorithm '{}' is not 3des or sm4", self.algorithm))?;
        let levels = self.levels.iter().map(|text| level(text)).collect::<Result<Vec<_>, _>>()?;
        let session = self.session.as_deref().map(|name| {
            SessionRule::from_name(name).ok_or_else(|| format!("session '{name}' is not p1 or p2"))
        });
        let session = session.transpose()?;
        let mac =
            MacLayout::from_name(&self.mac).ok_or_else(|| format!("mac '{}' is no MAC layout", self.mac))?;
        let also = self
            .also
            .as_deref()
            .map(|name| Usage::from_name(name).ok_or_else(|| format!("also '{name}' is no use of a key")));
        let mut usage: Vec<Usage> = also.transpose()?.into_iter().collect();
        usage.push(Usage::DeriveCard);
        let role = ProfileRole {
            role: self.role.clone(),
            key: key.clone(),
            algorithm,
            levels: levels.clone(),
            index: self.index,
            p1: byte(&self.p1)?,
            p2: byte(&self.p2)?,
            header: bytes(&self.header)?,
            block_usage: self.block_usage.clone(),
            block_mode: self.block_mode.clone(),
            session,
            mac,
        };
        let KeyId { lineage, version } = key;
        let level = Level::City;
        let master =
            KeyAttributes { lineage, version, algorithm, level, levels, usage, kcv: [0; 3], session };
        Ok((role, master))
    }
}

/// A derivation step by its name.
pub(crate) fn level(text: &str) -> Result<FactorSource, String> {
    match text {
        "issuer_id" => Ok(FactorSource::ISSUER_ID),
        "asn_right8" => Ok(FactorSource::ASN_RIGHT8),
        "chip" => Ok(FactorSource::CHIP),
        constant => from_hex(constant)
            .map(FactorSource::Literal)
            .ok_or_else(|| format!("level '{text}' is not issuer_id, asn_right8, chip or 16 hex digits")),
    }
}

fn byte(text: &str) -> Result<u64, String> {
    from_hex::<1>(text).map(|[byte]| u64::from(byte)).ok_or_else(|| format!("'{text}' is not two hex digits"))
}

fn bytes(text: &str) -> Result<Bytes, String> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    let read =
        pairs.iter().map(|pair| wire::purse::hex::<1>(pair).map(|[byte]| byte)).collect::<Option<Vec<u8>>>();
    read.filter(|_| odd.is_empty()).map(Bytes).ok_or_else(|| format!("header '{text}' is not hex"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::purse::to_hex;

    const SHIPPED: [&str; 3] = [
        include_str!("../../policies/applets/transit.toml"),
        include_str!("../../policies/applets/health.toml"),
        include_str!("../../policies/applets/campus.toml"),
    ];

    /// A licence names a digest: a shipped profile that changes without a new version would stop every licence on it.
    #[test]
    fn the_shipped_profiles_are_the_ones_that_were_approved() {
        let digests: Vec<String> = SHIPPED
            .iter()
            .map(|text| {
                let file = parse(text).unwrap();
                let digest = to_hex(&file.profile.digest());
                format!("{} {} {} {digest}", file.profile.applet, file.profile.version, file.masters.len())
            })
            .collect();
        assert_eq!(
            digests,
            [
                "transit 2 22 94C960CD285A377089027D929F33E2E1ED8BDD5AA1B7438F1474911A9803E076",
                "health 1 16 EF2CBEDCEEA0C25A8B2755A86D3C7E2EF1411AF5D9BF36477890AA4941E59FE6",
                "campus 2 8 753114CAB68E23D32904BF780A8D7C4D7947BE9DD229C79DFD23A003ED4F279E",
            ]
        );
    }

    #[test]
    fn a_profile_is_closed_and_says_where() {
        let master = |key: &str| format!("master = \"{key}\"");
        let first = master("transit/purse/control@01");
        let second = "role = \"maintenance-01\"";
        // What is changed, into what, and what the sentence must name.
        let table: [(&str, &str, &[&str]); 18] = [
            ("format = 1", "format = 2", &["format 2"]),
            ("format = 1", "format = 1\nmore = 1", &["line 9", "more"]),
            (&first, &master("transit/purse"), &["line 24", "control-01", "'transit/purse'"]),
            (&first, &master("health/purse/control@01"), &["line 24", "control-01", "transit's own wall"]),
            ("role = \"control-01\"", "role = \"Control\"", &["line 24", "a name of a-z"]),
            (second, "role = \"control-01\"", &["line 38", "control-01", "twice"]),
            ("algorithm = \"3des\"", "algorithm = \"des\"", &["line 24", "'des'"]),
            ("algorithm = \"3des\"", "algorithm = \"aes\"", &["line 24", "3des or sm4"]),
            ("\"issuer_id\"", "\"issuer\"", &["line 24", "'issuer'"]),
            ("p1 = \"39\"", "p1 = \"139\"", &["line 24", "'139'"]),
            ("header = \"00003300\"", "header = \"0000330\"", &["line 24", "'0000330'"]),
            ("header = \"00003300\"", "header = \"000033000000000000\"", &["line 24", "at most 8"]),
            ("block_usage = \"10\"", "block_usage = \"101\"", &["line 24", "block usage of two"]),
            ("mac = \"line-protection\"", "mac = \"none\"", &["line 24", "'none'"]),
            ("p1 = \"3E\"", "p1 = \"34\"", &["'tac-11'", "'purchase-11'", "only one"]),
            ("also = \"issue-script\"", "also = \"everything\"", &["line 38", "'everything'"]),
            ("session = \"p1\"", "session = \"p3\"", &["'p3'"]),
            ("control = \"control-01\"", "control = \"control-02\"", &["a control role that is one of them"]),
        ];
        for (from, to, named) in table {
            let bad = SHIPPED[0].replacen(from, to, 1);
            assert_ne!(bad, SHIPPED[0], "{from}");
            let error = parse(&bad).unwrap_err();
            assert!(named.iter().all(|part| error.contains(part)), "{from} → {to}: {error}");
        }
    }
}
