//! An applet's profile as people write it (`policies/applets/*.toml`): closed TOML, turned into the canonical profile that
//! officers approve, and into the attributes of the masters that it wants.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use wire::cbor::Bytes;
use wire::key::{Algorithm, FactorSource, KeyAttributes, KeyId, Level, SessionRule, Usage};
use wire::profile::{AppletProfile, MacLayout, ProfileRole};

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
    roles: Vec<RoleRow>,
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
    let (mut roles, mut masters) = (Vec::new(), Vec::new());
    for row in &document.roles {
        let (role, master) = row.read().map_err(|why| format!("role '{}': {why}", row.role))?;
        roles.push(role);
        masters.push(master);
    }
    let profile = AppletProfile {
        format: document.format,
        applet: document.applet,
        version: document.version,
        roles,
        control: document.control,
    };
    if !profile.is_sound() {
        return Err("it breaks a rule of profiles: format 1, 1 to 32 roles, none twice, masters in the applet's own wall, \
                    3des or sm4, a control role that exists, usage and mode of A-Z and 0-9"
            .to_owned());
    }
    let (title_zh, title_en) = (document.title_zh, document.title_en);
    Ok(ProfileFile { title_zh, title_en, profile, masters })
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
                "transit 1 22 02069F7B6A3EFDBF933A4E023A1A6B4152AB0D63799FDE110948ACD60C80F84F",
                "health 1 16 EF2CBEDCEEA0C25A8B2755A86D3C7E2EF1411AF5D9BF36477890AA4941E59FE6",
                "campus 1 8 E0447EE59E1E46E1AC71E776E5871BDA917411485578816ADB1639A14819D419",
            ]
        );
    }

    #[test]
    fn a_profile_is_closed_and_says_where() {
        for (from, to, named) in [
            ("format = 1", "format = 2", "rule of profiles"),
            ("format = 1", "format = 1\nmore = 1", "more"),
            ("master = \"transit/purse/control@01\"", "master = \"transit/purse\"", "control-01"),
            (
                "master = \"transit/purse/control@01\"",
                "master = \"health/purse/control@01\"",
                "rule of profiles",
            ),
            ("algorithm = \"3des\"", "algorithm = \"des\"", "des"),
            ("\"issuer_id\"", "\"issuer\"", "issuer"),
            ("p1 = \"39\"", "p1 = \"139\"", "139"),
            ("header = \"01003300\"", "header = \"0100330\"", "0100330"),
            ("header = \"01003300\"", "header = \"010033000000000000\"", "rule of profiles"),
            ("mac = \"line-protection\"", "mac = \"none\"", "none"),
            ("also = \"issue-script\"", "also = \"everything\"", "everything"),
            ("session = \"p1\"", "session = \"p3\"", "p3"),
            ("control = \"control-01\"", "control = \"control-02\"", "rule of profiles"),
        ] {
            let bad = SHIPPED[0].replacen(from, to, 1);
            assert_ne!(bad, SHIPPED[0], "{from}");
            let error = parse(&bad).unwrap_err();
            assert!(error.contains(named), "{from} → {to}: {error}");
        }
    }
}
