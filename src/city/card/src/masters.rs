//! Practice masters of a whole transit applet and of the lines that make its cards, as components in a plain file.

use cardcrypto::card::load_mac1;
use cardcrypto::{LoadRequest, diversify, kcv};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde::{Deserialize, Serialize};
use wire::api::LoadRequest as LoadBody;
use wire::cbor::Cbor;
use wire::key::{Algorithm, KeyId, SessionRule};
use wire::licence::{CardSerial, card_factor};
use wire::purse::to_hex;
use wire::token::{LedgerToken, token_bytes};
use zeroize::Zeroizing;

use crate::keys::{KeysError, VersionBody, field, new_version, version_key};
use crate::random::Random;

/// Roles of the transit profile and what their masters are for beside leaving as card keys
/// (`policies/applets/transit.toml`; a test of the daemons compares the two).
const ROLES: [(&str, Option<&str>, bool); 11] = [
    ("control", None, false),
    ("maintenance", Some("issue-script"), false),
    ("purchase", None, true),
    ("load", Some("authorize-load"), true),
    ("unload", None, true),
    ("overdraft", None, true),
    ("tac", Some("verify-tac"), false),
    ("pin-unblock", None, false),
    ("pin-reload", Some("reload-pin"), false),
    ("internal", None, false),
    ("external", Some("answer-auth"), false),
];

/// Transport keys of the practice lines: an AES one for TR-31 version D, a 3DES one for version B.
const TRANSPORT: [(&str, &str, Algorithm); 3] = [
    ("transit", "line-1", Algorithm::Aes),
    ("transit", "line-2", Algorithm::Tdes),
    ("health", "line-1", Algorithm::Aes),
];

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct CollectionBody {
    keys: Vec<MasterBody>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct MasterBody {
    applet: String,
    key_set: String,
    role: String,
    level: String,
    note: String,
    levels: Vec<crate::keys::LevelBody>,
    usage: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    versions: Vec<VersionBody>,
}

/// The text of a new file of masters.
pub fn generate_masters(random: &mut Random) -> Result<Zeroizing<String>, KeysError> {
    let mut keys = Vec::new();
    for (algorithm, version, traded) in [(Algorithm::Tdes, 0x01, 0x11), (Algorithm::Sm4, 0x41, 0x51)] {
        for (role, also, session) in ROLES {
            // Records name the version of these, and those of cards in the field are taken (keys.rs).
            let version = if ["purchase", "tac"].contains(&role) { traded } else { version };
            keys.push(MasterBody {
                applet: "transit".into(),
                key_set: "purse".into(),
                role: role.into(),
                level: "city".into(),
                note: crate::keys::NOTE.into(),
                levels: crate::keys::card_levels(),
                usage: also.into_iter().chain(["derive-card"]).map(str::to_owned).collect(),
                session: (session && algorithm == Algorithm::Sm4).then(|| "p1".to_owned()),
                versions: vec![new_version(random, version, algorithm)],
            });
        }
    }
    for (applet, line, algorithm) in TRANSPORT {
        keys.push(MasterBody {
            applet: applet.into(),
            key_set: "perso".into(),
            role: line.into(),
            level: "city".into(),
            note: crate::keys::NOTE.into(),
            levels: Vec::new(),
            usage: vec!["wrap-keys".into()],
            session: None,
            versions: vec![new_version(random, 0x01, algorithm)],
        });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(1 << 15));
    let layout = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut writer = serde_json::Serializer::with_formatter(&mut *text, layout);
    CollectionBody { keys }.serialize(&mut writer).map_err(|error| KeysError::Json(error.to_string()))?;
    text.push(b'\n');
    let text = core::str::from_utf8(&text).map_err(|error| KeysError::Json(error.to_string()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A practice master, found by its name.
pub struct PracticeMaster {
    id: KeyId,
    algorithm: Algorithm,
    key: Zeroizing<[u8; 16]>,
}

impl core::fmt::Debug for PracticeMaster {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PracticeMaster").field("id", &self.id).finish_non_exhaustive()
    }
}

impl PracticeMaster {
    /// Finds `id` in the text of a file of masters.
    pub fn find(text: &str, id: &KeyId) -> Result<Self, KeysError> {
        let body = CollectionBody::deserialize(&mut serde_json::Deserializer::from_str(text))
            .map_err(|error| KeysError::Json(error.to_string()))?;
        for row in &body.keys {
            let lineage = format!("{}/{}/{}", row.applet, row.key_set, row.role);
            for version in &row.versions {
                if format!("{lineage}@{}", version.version) == id.to_string() {
                    let (algorithm, key) = version_key(version)?;
                    return Ok(Self { id: id.clone(), algorithm, key });
                }
            }
        }
        field(id.to_string(), "the file has no such master")
    }

    /// What a terminal sends for a load of a practice card under this master: the card's MAC1 included, and the ledger's
    /// token over the same fields.
    pub fn load(&self, load: &PracticeLoad, ledger: &SigningKey) -> Result<LoadBody, KeysError> {
        let refused =
            |_| KeysError::Field { place: "issuer or serial".into(), what: "it is refused as a factor" };
        let issuer = diversify(self.algorithm, &self.key, &load.issuer).map_err(refused)?;
        let card = diversify(self.algorithm, &issuer, &card_factor(&load.serial)).map_err(refused)?;
        let fields = LoadRequest {
            random: load.random,
            counter: load.counter.to_be_bytes(),
            balance: load.balance.to_be_bytes(),
            amount: load.amount.to_be_bytes(),
            kind: load.purse,
            terminal: load.terminal,
            mac1: [0; 4],
        };
        let mac1 = load_mac1(self.algorithm, &card, SessionRule::Padded, &fields);
        let token = LedgerToken {
            format: 1,
            instance: load.instance,
            commit: load.commit,
            issuer: load.issuer,
            serial: load.serial,
            purse: u64::from(load.purse),
            counter: u64::from(load.counter),
            amount: u64::from(load.amount),
            terminal: load.terminal,
            date: load.date,
            time: load.time,
            replaces: load.replaces,
        };
        let token = token.to_cbor();
        let signature: Signature = ledger.sign(&token_bytes(&token));
        Ok(LoadBody {
            key: self.id.lineage.to_string(),
            version: self.id.version.to_string(),
            issuer: to_hex(&load.issuer),
            serial: to_hex(&load.serial),
            chip: None,
            purse: load.purse,
            random: to_hex(&load.random),
            counter: load.counter,
            balance: load.balance,
            amount: load.amount,
            terminal: to_hex(&load.terminal),
            mac1: to_hex(&mac1),
            signer: load.signer.clone(),
            token: to_hex(&token),
            signature: to_hex(&signature.to_bytes()),
        })
    }

    /// Check value of a practice card's key under this master.
    pub fn card_kcv(&self, issuer: &[u8; 8], serial: &CardSerial) -> Option<[u8; 3]> {
        let issuer = diversify(self.algorithm, &self.key, issuer).ok()?;
        let card = diversify(self.algorithm, &issuer, &card_factor(serial)).ok()?;
        Some(kcv(self.algorithm, &card))
    }
}

/// A load as the practice card, its terminal and the ledger agree on it.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, missing_docs)]
pub struct PracticeLoad {
    pub instance: [u8; 16],
    /// The ledger's own id of the commit.
    pub commit: [u8; 16],
    pub signer: String,
    pub issuer: [u8; 8],
    pub serial: CardSerial,
    pub purse: u8,
    pub random: [u8; 4],
    pub counter: u16,
    pub balance: u32,
    pub amount: u32,
    pub terminal: [u8; 6],
    pub date: [u8; 4],
    pub time: [u8; 3],
    /// The log entry of the load at this counter that was not credited.
    pub replaces: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_found_by_name() {
        let text = generate_masters(&mut Random::from_seed("masters", "a")).unwrap();
        let id = KeyId::parse("transit/purse/load@41").unwrap();
        let master = PracticeMaster::find(&text, &id).unwrap();
        assert_eq!(master.algorithm, Algorithm::Sm4);
        let serial = [0, 0, 0x31, 1, 0, 0, 0x20, 0, 0, 1];
        assert!(master.card_kcv(&[0x26; 8], &serial).is_some());
        assert!(PracticeMaster::find(&text, &KeyId::parse("transit/purse/load@02").unwrap()).is_err());
        assert!(!format!("{master:?}").contains(&to_hex(&*master.key)));
        assert_eq!(text.matches("\"components\"").count(), 25);
    }
}
