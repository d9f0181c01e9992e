//! The key file of a rehearsal (`keys.json`): key versions with the components in plain, so for practice keys only. Closed;
//! every error names the place.

use std::path::Path;

use serde::Deserialize;
use wire::command::{ComponentSpec, Id, ImportKey, component_commitment};
use wire::key::{
    Algorithm, FactorSource, KeyAttributes, KeyId, KeyVersion, LEVELS_MAX, Level, Lineage, SessionRule, Usage,
};
use zeroize::{Zeroize, Zeroizing};

use crate::failure::Failure;
use crate::files;
use crate::secret::Component;
use crate::words::from_hex;

/// Fewer components would let one person know the key.
const COMPONENTS_MIN: usize = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    applet: String,
    key_set: String,
    role: String,
    level: String,
    #[serde(default, rename = "note")]
    _note: Option<String>,
    levels: Vec<LevelRow>,
    /// What the keys are for; checking TACs where the file does not say.
    usage: Option<Vec<String>>,
    session: Option<String>,
    versions: Vec<VersionRow>,
}

/// Several of them: the masters of a practice city.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Collection {
    keys: Vec<Document>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelRow {
    source: String,
    bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionRow {
    version: String,
    algorithm: String,
    kcv: String,
    components: Vec<ComponentRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ComponentRow {
    custodian: u64,
    hex: String,
    kcv: String,
}

impl Drop for ComponentRow {
    fn drop(&mut self) {
        self.hex.zeroize();
    }
}

/// One key version to import.
#[derive(Debug)]
pub(crate) struct KeyToImport {
    pub(crate) attributes: KeyAttributes,
    pub(crate) parts: Vec<Part>,
}

/// One custodian's part of it.
#[derive(Debug)]
pub(crate) struct Part {
    /// From 1, in the order of the custodian set.
    pub(crate) custodian: usize,
    pub(crate) kcv: [u8; 3],
    pub(crate) component: Component,
}

impl KeyToImport {
    pub(crate) fn id(&self) -> KeyId {
        self.attributes.id()
    }

    /// The import's parameters; `name` tells a custodian's name. Each commits to his own component.
    pub(crate) fn spec(&self, instance: &Id, name: impl Fn(usize) -> String) -> ImportKey {
        let id = self.id();
        let components = self.parts.iter().map(|part| {
            let custodian = name(part.custodian);
            let commitment =
                part.component.with(|bytes| component_commitment(instance, &id, &custodian, bytes));
            ComponentSpec { custodian, kcv: part.kcv, commitment }
        });
        ImportKey { attributes: self.attributes.clone(), components: components.collect() }
    }
}

/// Reads and checks the file. `custodians` is how many there are.
pub(crate) fn read(path: &Path, custodians: usize) -> Result<Vec<KeyToImport>, Failure> {
    let bytes = Zeroizing::new(files::read(path, "the key file")?);
    parse(&bytes, custodians).map_err(|why| {
        let path = path.display();
        Failure::new(
            format!("密钥文件 {path} 有误;请按英文说明改正。"),
            format!("{path}: {why}; correct the file"),
        )
    })
}

/// Reads a file of many lineages, for practice keys beyond the day's.
pub(crate) fn read_masters(path: &Path, custodians: usize) -> Result<Vec<KeyToImport>, Failure> {
    let bytes = Zeroizing::new(files::read(path, "the file of masters")?);
    parse_masters(&bytes, custodians).map_err(|why| {
        let path = path.display();
        Failure::new(
            format!("主密钥文件 {path} 有误;请用 citycard masters 重新生成。"),
            format!("{path}: {why}; make it anew with citycard masters"),
        )
    })
}

fn parse_masters(bytes: &[u8], custodians: usize) -> Result<Vec<KeyToImport>, String> {
    let collection: Collection = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let keys = collection
        .keys
        .iter()
        .enumerate()
        .map(|(at, document)| keys_of(document, custodians).map_err(|why| format!("keys[{at}].{why}")));
    Ok(keys.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn parse(bytes: &[u8], custodians: usize) -> Result<Vec<KeyToImport>, String> {
    let document: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if document.levels.is_empty() {
        return Err(format!("levels: 0 of them, where 1 to {LEVELS_MAX} are possible"));
    }
    keys_of(&document, custodians)
}

fn keys_of(document: &Document, custodians: usize) -> Result<Vec<KeyToImport>, String> {
    let path = format!("{}/{}/{}", document.applet, document.key_set, document.role);
    let lineage = Lineage::parse(&path).ok_or_else(|| {
        format!("applet, key_set and role give '{path}', which is no lineage like transit/purse/tac")
    })?;
    let level = Level::from_name(&document.level)
        .ok_or_else(|| format!("level: '{}' is not root, province, city or card", document.level))?;
    let levels = levels(&document.levels)?;
    let usage = document.usage.as_ref().map_or_else(
        || Ok(vec![Usage::VerifyTac]),
        |names| {
            let usage = |name: &String| {
                Usage::from_name(name).ok_or_else(|| format!("usage: '{name}' is no use of a key"))
            };
            names.iter().map(usage).collect()
        },
    )?;
    let session = document
        .session
        .as_ref()
        .map(|name| SessionRule::from_name(name).ok_or_else(|| format!("session: '{name}' is not p1 or p2")));
    let session = session.transpose()?;
    if document.versions.is_empty() {
        return Err("versions: there is no key version".to_owned());
    }
    let mut keys: Vec<KeyToImport> = Vec::with_capacity(document.versions.len());
    for (at, row) in document.versions.iter().enumerate() {
        let place = format!("versions[{at}]");
        let version = KeyVersion::parse(&row.version)
            .ok_or_else(|| format!("{place}.version: '{}' is not two hex digits", row.version))?;
        if keys.iter().any(|key| key.attributes.version == version) {
            return Err(format!("{place}.version: {version} stands there twice"));
        }
        let algorithm = Algorithm::from_name(&row.algorithm)
            .ok_or_else(|| format!("{place}.algorithm: '{}' is not 3des or sm4", row.algorithm))?;
        let attributes = KeyAttributes {
            lineage: lineage.clone(),
            version,
            algorithm,
            level,
            levels: levels.clone(),
            usage: usage.clone(),
            kcv: kcv(&row.kcv, &place)?,
            session,
        };
        let parts = parts(&row.components, custodians, &place)?;
        keys.push(KeyToImport { attributes, parts });
    }
    Ok(keys)
}

fn levels(rows: &[LevelRow]) -> Result<Vec<FactorSource>, String> {
    if rows.len() > LEVELS_MAX {
        return Err(format!(
            "levels: {} derivation levels, where at most {LEVELS_MAX} are possible",
            rows.len()
        ));
    }
    let level = |(at, row): (usize, &LevelRow)| match (row.source.as_str(), row.bytes) {
        ("issuer_id", 8) => Ok(FactorSource::ISSUER_ID),
        ("asn_right8", 8) => Ok(FactorSource::ASN_RIGHT8),
        ("issuer_id" | "asn_right8", bytes) => {
            Err(format!("levels[{at}].bytes: {bytes}, where a factor has 8"))
        }
        (source, _) => Err(format!("levels[{at}].source: '{source}' is not issuer_id or asn_right8")),
    };
    rows.iter().enumerate().map(level).collect()
}

fn parts(rows: &[ComponentRow], custodians: usize, place: &str) -> Result<Vec<Part>, String> {
    if rows.len() < COMPONENTS_MIN {
        return Err(format!("{place}.components: {} of them, where a key has 2 or more", rows.len()));
    }
    let mut parts: Vec<Part> = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let place = format!("{place}.components[{at}]");
        let number = usize::try_from(row.custodian).unwrap_or_default();
        if !(1..=custodians).contains(&number) {
            return Err(format!(
                "{place}.custodian: {}, where the custodians are 1 to {custodians}",
                row.custodian
            ));
        }
        if parts.iter().any(|part| part.custodian == number) {
            return Err(format!(
                "{place}.custodian: {number} stands there twice; every component is another person's"
            ));
        }
        let plain = row.hex.len() == 32;
        let component = Component::parse(row.hex.as_bytes()).filter(|_| plain);
        parts.push(Part {
            custodian: number,
            kcv: kcv(&row.kcv, &place)?,
            component: component.ok_or_else(|| format!("{place}.hex: a component is 32 hex digits"))?,
        });
    }
    Ok(parts)
}

fn kcv(text: &str, place: &str) -> Result<[u8; 3], String> {
    from_hex(text).ok_or_else(|| format!("{place}.kcv: '{text}' is not 6 hex digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"applet":"transit","key_set":"purse","role":"tac","level":"root","note":"practice",
        "levels":[{"source":"issuer_id","bytes":8},{"source":"asn_right8","bytes":8}],
        "versions":[{"version":"01","algorithm":"3des","kcv":"0B6170","components":[
            {"custodian":1,"hex":"6FA54E8F7AAB7F38EC4E3C0E08355202","kcv":"CC908E"},
            {"custodian":5,"hex":"00364a883786440973fb76db7a7fcf9a","kcv":"A8F373"}]},
          {"version":"41","algorithm":"sm4","kcv":"58A90D","components":[
            {"custodian":2,"hex":"DEF356CF5D0252C574D8CD5BA0A8E0A5","kcv":"2A4824"},
            {"custodian":3,"hex":"5C8FA1F4CCFBFF10EE7E1B6884B32F61","kcv":"AD5B4C"}]}]}"#;

    #[test]
    fn a_good_file() {
        let keys = parse(GOOD.as_bytes(), 5).unwrap();
        let ids: Vec<String> = keys.iter().map(|key| key.id().to_string()).collect();
        assert_eq!(ids, ["transit/purse/tac@01", "transit/purse/tac@41"]);
        assert_eq!(keys[0].attributes.kcv, [0x0b, 0x61, 0x70]);
        let spec = keys[0].spec(&[7; 16], |number| format!("custodian-{number}"));
        assert_eq!(spec.components[1].custodian, "custodian-5");
        let expected = keys[0].parts[1]
            .component
            .with(|bytes| component_commitment(&[7; 16], &keys[0].id(), "custodian-5", bytes));
        assert_eq!(spec.components[1].commitment, expected);
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        // What is changed, into what, and what the sentence must name.
        let table = [
            ("\"note\"", "\"comment\"", "comment"),
            ("\"level\":\"root\",", "", "level"),
            ("\"level\":\"root\",", "\"level\":\"root\",\"level\":\"root\",", "duplicate field `level`"),
            ("\"root\"", "\"planet\"", "level: 'planet'"),
            ("\"transit\"", "\"Transit\"", "no lineage"),
            ("issuer_id", "issuer", "levels[0].source"),
            ("\"asn_right8\",\"bytes\":8", "\"asn_right8\",\"bytes\":10", "levels[1].bytes: 10"),
            (
                "{\"source\":\"issuer_id\",\"bytes\":8},{\"source\":\"asn_right8\",\"bytes\":8}",
                "",
                "levels: 0",
            ),
            ("\"version\":\"01\"", "\"version\":\"1\"", "versions[0].version"),
            ("\"version\":\"41\"", "\"version\":\"01\"", "versions[1].version: 01 stands there twice"),
            ("\"3des\"", "\"des\"", "versions[0].algorithm"),
            ("0B6170", "0B617", "versions[0].kcv"),
            ("58A90D", "58A90G", "versions[1].kcv"),
            ("A8F373", "A8F37300", "versions[0].components[1].kcv"),
            ("6FA54E8F", "6FA54E8", "versions[0].components[0].hex"),
            ("6FA54E8F", "6FA54E8X", "versions[0].components[0].hex"),
            ("6FA54E8F", "6FA54E8 ", "versions[0].components[0].hex"),
            ("\"custodian\":5", "\"custodian\":6", "versions[0].components[1].custodian: 6"),
            ("\"custodian\":5", "\"custodian\":0", "versions[0].components[1].custodian: 0"),
            ("\"custodian\":5", "\"custodian\":1", "custodian: 1 stands there twice"),
            ("\"custodian\":5", "\"custodian\":-1", "invalid value"),
        ];
        for (from, to, named) in table {
            let bad = GOOD.replacen(from, to, 1);
            assert_ne!(bad, GOOD, "{from}");
            let error = parse(bad.as_bytes(), 5).unwrap_err();
            assert!(error.contains(named), "{from} → {to}: {error}");
        }
        let versions = GOOD.split_once("\"versions\":").unwrap().0;
        assert!(
            parse(format!("{versions}\"versions\":[]}}").as_bytes(), 5)
                .unwrap_err()
                .contains("no key version")
        );
        assert!(parse(format!("{GOOD} x").as_bytes(), 5).is_err(), "something behind the end");
    }

    #[test]
    fn one_component_is_no_secret_sharing() {
        let (head, tail) = GOOD.split_once(",\n            {\"custodian\":5").unwrap();
        let rest = tail.split_once('}').unwrap().1;
        let error = parse(format!("{head}{rest}").as_bytes(), 5).unwrap_err();
        assert!(error.contains("versions[0].components: 1"), "{error}");
    }
}
