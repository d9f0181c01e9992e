//! Practice keys: TAC master keys as components in a plain file.

use cardcrypto::{check_factor, diversify, kcv};
use serde::{Deserialize, Serialize};
use wire::key::{Algorithm, FactorSource, KeyVersion, LEVELS_MAX, Lineage};
use wire::purse::{hex, to_hex};
use zeroize::{Zeroize, Zeroizing};

use crate::random::Random;

pub(crate) const NOTE: &str = "test keys, never production";
const COMPONENTS: u64 = 3;
const VERSIONS: [(u8, Algorithm); 4] =
    [(0x01, Algorithm::Tdes), (0x02, Algorithm::Tdes), (0x41, Algorithm::Sm4), (0x42, Algorithm::Sm4)];

/// Why a file is no key file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A value that its place does not allow.
    #[error("{place}: {what}; make the key file anew with `citycard keys`, or mend this line")]
    Field {
        /// Where.
        place: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Not the JSON of a key file.
    #[error("this is no key file ({0}); make one with `citycard keys`")]
    Json(String),
    /// A check value that does not fit.
    #[error(
        "{0}: the check value (KCV) does not fit the key, so a digit is wrong; compare it with the original"
    )]
    Kcv(String),
}

pub(crate) fn field<T>(place: impl Into<String>, what: &'static str) -> Result<T, KeysError> {
    Err(KeysError::Field { place: place.into(), what })
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileBody {
    applet: String,
    key_set: String,
    role: String,
    level: String,
    note: String,
    levels: Vec<LevelBody>,
    versions: Vec<VersionBody>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LevelBody {
    source: String,
    bytes: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionBody {
    pub(crate) version: String,
    algorithm: String,
    kcv: String,
    components: Vec<ComponentBody>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ComponentBody {
    custodian: u64,
    hex: String,
    kcv: String,
}

impl Drop for ComponentBody {
    fn drop(&mut self) {
        self.hex.zeroize();
    }
}

struct Master {
    version: KeyVersion,
    algorithm: Algorithm,
    key: Zeroizing<[u8; 16]>,
}

/// TAC master keys for practice, and what a card under them computes.
pub struct PracticeKeys {
    lineage: Lineage,
    levels: Vec<FactorSource>,
    masters: Vec<Master>,
}

impl core::fmt::Debug for PracticeKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let versions: Vec<KeyVersion> = self.versions().collect();
        f.debug_struct("PracticeKeys").field("versions", &versions).finish_non_exhaustive()
    }
}

/// A card's own TAC key.
pub(crate) struct CardKey {
    algorithm: Algorithm,
    key: Zeroizing<[u8; 16]>,
}

impl CardKey {
    /// The TAC of a purchase.
    pub(crate) fn purchase_tac(&self, data: &[u8; 24]) -> [u8; 4] {
        cardcrypto::card_tac(self.algorithm, &self.key, wire::batch::Profile::PurchaseTac, data)
    }
}

impl PracticeKeys {
    /// The text of a new key file: versions 01, 02 (3DES) and 41, 42 (SM4) of `transit/purse/tac`, three components each.
    pub fn generate(random: &mut Random) -> Result<Zeroizing<String>, KeysError> {
        let body = FileBody {
            applet: "transit".to_owned(),
            key_set: "purse".to_owned(),
            role: "tac".to_owned(),
            level: "root".to_owned(),
            note: NOTE.to_owned(),
            levels: card_levels(),
            versions: VERSIONS.map(|(version, algorithm)| new_version(random, version, algorithm)).into(),
        };
        let mut text = Zeroizing::new(Vec::with_capacity(8192));
        let layout = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut writer = serde_json::Serializer::with_formatter(&mut *text, layout);
        body.serialize(&mut writer).map_err(|error| KeysError::Json(error.to_string()))?;
        text.push(b'\n');
        let text = core::str::from_utf8(&text).map_err(|error| KeysError::Json(error.to_string()))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Reads a key file: combines the components (XOR) and checks every check value.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let body: FileBody =
            serde_json::from_str(text).map_err(|error| KeysError::Json(error.to_string()))?;
        let lineage = Lineage::parse(&format!("{}/{}/{}", body.applet, body.key_set, body.role));
        let lineage =
            lineage.map_or_else(|| field("applet, key_set, role", "not names in lower case"), Ok)?;
        if body.level != "root" {
            return field("level", "only root keys are generated for practice");
        }
        if !(1..=LEVELS_MAX).contains(&body.levels.len()) {
            return field("levels", "a key has 1 to 3 derivation levels");
        }
        let levels = body.levels.iter().map(level).collect::<Result<_, _>>()?;
        let masters: Vec<Master> = body.versions.iter().map(master).collect::<Result<_, _>>()?;
        if masters.is_empty() {
            return field("versions", "there is none");
        }
        for (at, master) in masters.iter().enumerate() {
            let earlier = masters.iter().take(at);
            if earlier.into_iter().any(|other| other.version == master.version) {
                return field(format!("version {}", master.version), "it comes twice");
            }
        }
        Ok(Self { lineage, levels, masters })
    }

    /// Algorithm, bytes and levels of a version.
    pub(crate) fn master_of(&self, version: KeyVersion) -> Option<(Algorithm, &[u8; 16], &[FactorSource])> {
        let master = self.masters.iter().find(|master| master.version == version)?;
        Some((master.algorithm, &master.key, &self.levels))
    }

    /// Which key this is.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The key versions, in the order of the file.
    pub fn versions(&self) -> impl Iterator<Item = KeyVersion> + '_ {
        self.masters.iter().map(|master| master.version)
    }

    /// The TAC that a card makes for a purchase, or `None` for a version that the file does not have or a factor that is refused.
    pub fn purchase_tac(
        &self,
        version: KeyVersion,
        issuer: &[u8; 8],
        card: &[u8; 8],
        data: &[u8; 24],
    ) -> Option<[u8; 4]> {
        self.card_key(version, issuer, card).map(|key| key.purchase_tac(data))
    }

    pub(crate) fn card_key(&self, version: KeyVersion, issuer: &[u8; 8], card: &[u8; 8]) -> Option<CardKey> {
        let master = self.masters.iter().find(|master| master.version == version)?;
        let mut key = master.key.clone();
        for level in &self.levels {
            let factor = match level {
                FactorSource::IssuerId(_) => issuer,
                FactorSource::AsnRight8(_) => card,
                FactorSource::Literal(bytes) => bytes,
                FactorSource::Chip(_) => return None,
            };
            key = diversify(master.algorithm, &key, factor).ok()?;
        }
        Some(CardKey { algorithm: master.algorithm, key })
    }
}

pub(crate) fn new_version(random: &mut Random, version: u8, algorithm: Algorithm) -> VersionBody {
    loop {
        let mut key = Zeroizing::new([0; 16]);
        let components = (1..=COMPONENTS).map(|custodian| {
            let part = Zeroizing::new(random.bytes::<16>());
            add(&mut key, &part);
            ComponentBody { custodian, hex: to_hex(part.as_slice()), kcv: to_hex(&kcv(algorithm, &part)) }
        });
        let components: Vec<ComponentBody> = components.collect();
        // The module refuses keys without strength; chance makes one in 2^64.
        if !is_weak(&key) {
            return VersionBody {
                version: KeyVersion(version).to_string(),
                algorithm: algorithm.to_string(),
                kcv: to_hex(&kcv(algorithm, &key)),
                components,
            };
        }
    }
}

fn level(body: &LevelBody) -> Result<FactorSource, KeysError> {
    match (body.source.as_str(), body.bytes) {
        ("issuer_id", 8) => Ok(FactorSource::ISSUER_ID),
        ("asn_right8", 8) => Ok(FactorSource::ASN_RIGHT8),
        (literal, 8) => match hex(literal.as_bytes()) {
            Some(bytes) if check_factor(&bytes).is_ok() => Ok(FactorSource::Literal(bytes)),
            _ => field("levels", "a source is issuer_id, asn_right8 or 16 hex digits, not all 0 or all F"),
        },
        _ => field("levels", "a factor has 8 bytes"),
    }
}

/// Issuer, then serial.
pub(crate) fn card_levels() -> Vec<LevelBody> {
    let level = |source: &str| LevelBody { source: source.to_owned(), bytes: 8 };
    vec![level("issuer_id"), level("asn_right8")]
}

/// Algorithm and bytes of one version of a file.
pub(crate) fn version_key(body: &VersionBody) -> Result<(Algorithm, Zeroizing<[u8; 16]>), KeysError> {
    combined(body, &[Algorithm::Tdes, Algorithm::Sm4, Algorithm::Aes])
        .map(|master| (master.algorithm, master.key))
}

fn master(body: &VersionBody) -> Result<Master, KeysError> {
    combined(body, &[Algorithm::Tdes, Algorithm::Sm4])
}

fn combined(body: &VersionBody, algorithms: &[Algorithm]) -> Result<Master, KeysError> {
    let place = format!("version {}", body.version);
    let version = KeyVersion::parse(&body.version);
    let version = version.map_or_else(|| field(&place, "a version is two hex digits"), Ok)?;
    let algorithm = algorithms.iter().copied().find(|algorithm| algorithm.to_string() == body.algorithm);
    let algorithm = algorithm.map_or_else(|| field(&place, "the algorithm is 3des or sm4"), Ok)?;
    if body.components.is_empty() {
        return field(place, "it has no component");
    }
    let mut key = Zeroizing::new([0; 16]);
    for component in &body.components {
        let place = format!("{place}, component of custodian {}", component.custodian);
        let part = hex(component.hex.as_bytes()).map(Zeroizing::new);
        let part = part.map_or_else(|| field(&place, "a component is 32 hex digits"), Ok)?;
        check_kcv(algorithm, &part, &component.kcv, &place)?;
        add(&mut key, &part);
    }
    check_kcv(algorithm, &key, &body.kcv, &place)?;
    if is_weak(&key) {
        return field(place, "the combined key has no strength: its halves are equal or all its bytes alike");
    }
    Ok(Master { version, algorithm, key })
}

fn check_kcv(algorithm: Algorithm, key: &[u8; 16], text: &str, place: &str) -> Result<(), KeysError> {
    if hex(text.as_bytes()) == Some(kcv(algorithm, key)) {
        Ok(())
    } else {
        Err(KeysError::Kcv(place.to_owned()))
    }
}

fn add(key: &mut [u8; 16], part: &[u8; 16]) {
    key.iter_mut().zip(part).for_each(|(byte, part)| *byte ^= part);
}

fn is_weak(key: &[u8; 16]) -> bool {
    let (left, right) = key.split_at(8);
    left == right || key.iter().all(|byte| Some(byte) == key.first())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURE: &str = include_str!("../../../../tests/fixtures/day1/keys.json");

    fn new_file(seed: &str) -> String {
        PracticeKeys::generate(&mut Random::from_seed("keys", seed)).unwrap().to_string()
    }

    #[test]
    fn a_new_file_has_the_form_of_the_fixture() {
        let shape = |text: &str| {
            let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
            for version in value["versions"].as_array_mut().unwrap() {
                version["kcv"] = "".into();
                for component in version["components"].as_array_mut().unwrap() {
                    component["kcv"] = "".into();
                    component["hex"] = "".into();
                }
            }
            value
        };
        let text = new_file("a");
        assert_eq!(shape(&text), shape(FIXTURE));
        let blank = |text: &str| {
            text.lines().map(|line| line.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(blank(&text), blank(FIXTURE), "the same indentation line by line");
        assert!(PracticeKeys::parse(&text).is_ok());
        assert_eq!(text, new_file("a"));
        assert_ne!(text, new_file("b"));
    }

    #[test]
    fn debug_shows_no_key() {
        let text = new_file("debug");
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        let keys = PracticeKeys::parse(&text).unwrap();
        let shown = format!("{keys:?} {:?}", Random::from_seed("keys", "debug"));
        for component in body["versions"][0]["components"].as_array().unwrap() {
            assert!(!shown.contains(component["hex"].as_str().unwrap()));
        }
        assert_eq!(
            shown,
            "PracticeKeys { versions: [KeyVersion(1), KeyVersion(2), KeyVersion(65), KeyVersion(66)], .. } Random { .. }"
        );
    }

    #[test]
    fn damaged_files_say_where() {
        let text = new_file("damage");
        let parse = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            PracticeKeys::parse(&text.replacen(from, to, 1)).unwrap_err().to_string()
        };
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        let part = body["versions"][1]["components"][2]["hex"].as_str().unwrap();
        let flipped = format!("{}{}", if part.starts_with('0') { '1' } else { '0' }, &part[1..]);
        // 3DES ignores the lowest bit of each byte, so the high digit is the one that must be noticed.
        assert!(parse(part, &flipped).starts_with("version 02, component of custodian 3: the check value"));
        assert!(parse(part, &part[2..]).contains("32 hex digits"));
        assert!(parse("\"41\"", "\"4x\"").contains("two hex digits"));
        assert!(parse("\"42\"", "\"41\"").contains("it comes twice"));
        assert!(parse("\"sm4\"", "\"aes\"").contains("3des or sm4"));
        assert!(parse("\"root\"", "\"city\"").contains("only root keys"));
        assert!(parse("asn_right8", "pan").contains("a source is"));
        assert!(parse("\"bytes\": 8", "\"bytes\": 16").contains("8 bytes"));
        assert!(parse("\"note\"", "\"more\"").contains("no key file"));
        assert!(PracticeKeys::parse("{}").is_err());
    }

    #[test]
    fn keys_without_strength_are_refused() {
        let zero = "00000000000000000000000000000000";
        let text = new_file("weak");
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        let version = &body["versions"][2];
        let [one, two, three] = [0, 1, 2].map(|at| version["components"][at]["hex"].as_str().unwrap());
        let check = |key: &[u8; 16]| to_hex(&kcv(Algorithm::Sm4, key));
        let zero_kcv = check(&[0; 16]);
        let mut weak = text.replace(version["kcv"].as_str().unwrap(), &zero_kcv);
        for (at, part) in [one, two, three].into_iter().enumerate() {
            weak = weak.replace(part, zero);
            weak = weak.replace(version["components"][at]["kcv"].as_str().unwrap(), &zero_kcv);
        }
        assert!(PracticeKeys::parse(&weak).unwrap_err().to_string().contains("no strength"));
    }
}
