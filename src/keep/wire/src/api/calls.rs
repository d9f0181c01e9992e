//! JSON of the calls whose results are prepared and released: card keys, licences, lists, loads, scripts.
//!
//! Requests are closed; answers may gain fields. Bytes are hex of either case on the way in, upper case on the way out.

use serde::{Deserialize, Serialize};

use crate::cbor::{Bytes, Cbor, CborError, Empty};
use crate::frame::{
    Authenticate, CardItem, CardKeySets, CardKeys, CardTarget, KeyForm, LicenceInfo, LoadAnswer,
    LoadAuthorize, Script, ScriptAction, SignedList, UpdateBinary, UpdateRecord,
};
use crate::key::{KeyId, KeyVersion, Lineage};
use crate::licence::{CardSerial, Licence};
use crate::purse::{self, to_hex};

/// Which field is wrong, and what it must be.
pub type FieldError = &'static str;

/// `POST /v1/cards/keys`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct CardKeysRequest {
    /// Licence id, 32 hex digits.
    pub licence: String,
    /// `sealed`, `tr31` or `write-key`.
    pub form: String,
    /// Roles wanted, in this order; all of the licence if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// 1 to 128 different cards.
    pub cards: Vec<CardBody>,
}

/// One card of a [`CardKeysRequest`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct CardBody {
    /// Application serial number, 20 digits.
    pub serial: String,
    /// Factor from the chip, 16 hex digits; exactly if the profile has such a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip: Option<String>,
    /// The card's challenge, 8 hex digits; for `write-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
}

impl CardKeysRequest {
    /// The frame for this client.
    pub fn to_frame(&self, client: &str) -> Result<CardKeys, FieldError> {
        let card = |card: &CardBody| {
            Ok(CardItem {
                serial: serial(&card.serial)?,
                chip: optional(card.chip.as_ref(), "chip must be 16 hex digits")?,
                challenge: optional(card.challenge.as_ref(), "challenge must be 8 hex digits")?,
            })
        };
        Ok(CardKeys {
            client: client.to_owned(),
            licence: hex(&self.licence, "licence must be 32 hex digits")?,
            form: KeyForm::from_name(&self.form).ok_or("form must be sealed or tr31, or write-key for a card that has its own control key; a fresh chip is written from sealed or tr31")?,
            roles: self.roles.clone(),
            cards: self.cards.iter().map(card).collect::<Result<_, FieldError>>()?,
        })
    }
}

/// A role of an answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct CardRoleBody {
    /// Its name.
    pub role: String,
    /// Lineage of its master.
    pub key: String,
    /// Version of its master.
    pub version: String,
    /// `3des` or `sm4`.
    pub algorithm: String,
    /// Key index on the card.
    pub index: u64,
}

/// One wrapped key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct CardKeyBody {
    /// Check value, 6 hex digits.
    pub kcv: String,
    /// TR-31: its text. Sealed block and WRITE KEY command: hex.
    pub block: String,
}

/// One card's key set.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct CardKeySetBody {
    /// The card.
    pub serial: String,
    /// A key per role, in the order of the roles.
    pub keys: Vec<CardKeyBody>,
}

/// Answer of `POST /v1/cards/keys`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct CardKeysAnswer {
    /// Licence id.
    pub licence: String,
    /// Form.
    pub form: String,
    /// The roles.
    pub roles: Vec<CardRoleBody>,
    /// The cards, in the order of the request.
    pub cards: Vec<CardKeySetBody>,
    /// Different cards under the licence so far.
    pub issued: u64,
    /// SHA-256 over serial ‖ KCVs, card by card, as in the log entry.
    pub digest: String,
    /// Log index of the entry that names these cards.
    pub index: u64,
}

impl CardKeysAnswer {
    /// From what the module released.
    pub fn new(sets: &CardKeySets, index: u64) -> Self {
        let text = |block: &[u8]| match sets.form {
            KeyForm::Tr31 => String::from_utf8_lossy(block).into_owned(),
            KeyForm::Sealed | KeyForm::WriteKey => to_hex(block),
        };
        let roles = sets.roles.iter().map(|role| CardRoleBody {
            role: role.role.clone(),
            key: role.key.lineage.to_string(),
            version: role.key.version.to_string(),
            algorithm: role.algorithm.to_string(),
            index: role.index,
        });
        let cards = sets.cards.iter().map(|card| CardKeySetBody {
            serial: to_hex(&card.serial),
            keys: card
                .keys
                .iter()
                .map(|key| CardKeyBody { kcv: to_hex(&key.kcv), block: text(&key.block) })
                .collect(),
        });
        Self {
            licence: to_hex(&sets.licence),
            form: sets.form.to_string(),
            roles: roles.collect(),
            cards: cards.collect(),
            issued: sets.issued,
            digest: to_hex(&sets.digest),
            index,
        }
    }
}

/// `GET /v1/licences/{id}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs, missing_docs)]
pub struct LicenceBody {
    pub id: String,
    pub node: String,
    pub line: String,
    pub transport: String,
    pub applet: String,
    pub profile: String,
    pub roles: Vec<String>,
    pub issuer: String,
    pub first: String,
    pub last: String,
    pub quantity: u64,
    /// Different cards so far.
    pub issued: u64,
    /// Of these spoiled.
    pub spoiled: u64,
    /// Cards that can still be made.
    pub left: u64,
    /// Unix seconds.
    pub not_before: u64,
    /// Unix seconds.
    pub not_after: u64,
    /// Ended by quorum.
    pub revoked: bool,
    /// Whether the applet's profile is still the licence's.
    pub current: bool,
}

impl LicenceBody {
    /// From what the module says.
    pub fn new(info: &LicenceInfo) -> Result<Self, CborError> {
        let licence = Licence::from_cbor(&info.licence)?;
        Ok(Self {
            id: to_hex(&licence.id),
            node: to_hex(&licence.node),
            line: licence.line.clone(),
            transport: licence.transport.to_string(),
            applet: licence.applet.clone(),
            profile: to_hex(&licence.profile),
            roles: licence.roles.clone(),
            issuer: to_hex(&licence.issuer),
            first: to_hex(&licence.first),
            last: to_hex(&licence.last),
            quantity: licence.quantity,
            issued: info.issued,
            spoiled: info.spoiled,
            left: (licence.quantity + info.spoiled).saturating_sub(info.issued),
            not_before: licence.not_before,
            not_after: licence.not_after,
            revoked: info.revoked,
            current: info.current,
        })
    }
}

/// One signature of a [`ListAnswer`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct ListSignatureBody {
    /// Key id.
    pub key: String,
    /// `sm2` or `p256`.
    pub algorithm: String,
    /// DER, hex.
    pub signature: String,
}

/// Answer of `POST /v1/blacklists/{wall}`: the signed file is the body that was sent ‖ trailer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct ListAnswer {
    /// Wall.
    pub wall: String,
    /// Epoch.
    pub epoch: u64,
    /// `full` or `delta`.
    pub kind: String,
    /// Trailer, hex.
    pub trailer: String,
    /// SHA-256 of the whole file, hex.
    pub digest: String,
    /// Signatures over the whole file.
    pub signatures: Vec<ListSignatureBody>,
    /// Cards that left the list in force.
    pub removed: u64,
    /// Log index of the entry that names digest and epoch.
    pub index: u64,
}

impl ListAnswer {
    /// From what the module released.
    pub fn new(list: &SignedList, index: u64) -> Self {
        let signatures = list.signatures.iter().map(|signature| ListSignatureBody {
            key: signature.key.to_string(),
            algorithm: signature.algorithm.to_string(),
            signature: to_hex(&signature.signature),
        });
        Self {
            wall: list.wall.clone(),
            epoch: list.epoch,
            kind: list.kind.to_string(),
            trailer: to_hex(&list.trailer),
            digest: to_hex(&list.digest),
            signatures: signatures.collect(),
            removed: list.removed,
            index,
        }
    }
}

/// `POST /v1/loads/authorize`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct LoadRequest {
    /// Lineage of the load master.
    pub key: String,
    /// Its version, 2 hex digits.
    pub version: String,
    /// Issuer id, 16 hex digits.
    pub issuer: String,
    /// Application serial number, 20 digits.
    pub serial: String,
    /// Factor from the chip, 16 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip: Option<String>,
    /// 1 electronic deposit, 2 electronic purse.
    pub purse: u8,
    /// The card's random, 8 hex digits.
    pub random: String,
    /// The card's online counter.
    pub counter: u16,
    /// Balance before, fen.
    pub balance: u32,
    /// Fen.
    pub amount: u32,
    /// Terminal number, 12 hex digits.
    pub terminal: String,
    /// The card's MAC1, 8 hex digits.
    pub mac1: String,
    /// Name of the ledger's token key.
    pub signer: String,
    /// Ledger token, hex.
    pub token: String,
    /// Its signature r ‖ s, 128 hex digits.
    pub signature: String,
}

impl LoadRequest {
    /// The frame for this client.
    pub fn to_frame(&self, client: &str) -> Result<LoadAuthorize, FieldError> {
        let target =
            target(client, [&self.key, &self.version, &self.issuer, &self.serial], self.chip.as_ref())?;
        if !(1..=2).contains(&self.purse) {
            return Err("purse must be 1 or 2");
        }
        Ok(LoadAuthorize {
            client: target.client,
            key: target.key,
            issuer: target.issuer,
            serial: target.serial,
            chip: target.chip,
            purse: u64::from(self.purse),
            random: hex(&self.random, "random must be 8 hex digits")?,
            counter: u64::from(self.counter),
            balance: u64::from(self.balance),
            amount: u64::from(self.amount),
            terminal: hex(&self.terminal, "terminal must be 12 hex digits")?,
            mac1: hex(&self.mac1, "mac1 must be 8 hex digits")?,
            signer: self.signer.clone(),
            token: bytes(&self.token, "token must be hex, up to 512 bytes")?,
            signature: hex(&self.signature, "signature must be 128 hex digits")?,
        })
    }
}

/// Answer of `POST /v1/loads/authorize`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct LoadBodyAnswer {
    /// MAC2, 8 hex digits.
    pub mac2: String,
    /// Date that it covers, `YYYYMMDD`.
    pub date: String,
    /// Time that it covers, `hhmmss`.
    pub time: String,
    /// The same answer as before, to the same question.
    pub again: bool,
    /// Log index.
    pub index: u64,
}

impl LoadBodyAnswer {
    /// From what the module released.
    pub fn new(answer: &LoadAnswer, index: u64) -> Self {
        let (mac2, date, time) = (to_hex(&answer.mac2), to_hex(&answer.date), to_hex(&answer.time));
        Self { mac2, date, time, again: answer.again, index }
    }
}

/// What a script does, in JSON.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums, missing_docs)]
pub enum ScriptBody {
    UpdateBinary { sfi: u8, offset: u8, data: String },
    UpdateRecord { sfi: u8, record: u8, data: String },
    BlockApplication {},
    UnblockApplication {},
    BlockCard {},
    ReloadPin { pin: String },
}

/// `POST /v1/scripts/issue`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, missing_docs)]
pub struct ScriptRequest {
    pub key: String,
    pub version: String,
    pub issuer: String,
    pub serial: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip: Option<String>,
    /// The card's challenge, 8 hex digits.
    pub challenge: String,
    /// What the script does.
    pub script: ScriptBody,
}

impl ScriptRequest {
    /// The frame for this client.
    pub fn to_frame(&self, client: &str) -> Result<Script, FieldError> {
        let data = |text: &str| bytes(text, "data must be hex, up to 512 bytes");
        let action = match &self.script {
            ScriptBody::UpdateBinary { sfi, offset, data: content } => {
                ScriptAction::UpdateBinary(UpdateBinary {
                    sfi: u64::from(*sfi),
                    offset: u64::from(*offset),
                    data: data(content)?,
                })
            }
            ScriptBody::UpdateRecord { sfi, record, data: content } => {
                ScriptAction::UpdateRecord(UpdateRecord {
                    sfi: u64::from(*sfi),
                    record: u64::from(*record),
                    data: data(content)?,
                })
            }
            ScriptBody::BlockApplication {} => ScriptAction::BlockApplication(Empty {}),
            ScriptBody::UnblockApplication {} => ScriptAction::UnblockApplication(Empty {}),
            ScriptBody::BlockCard {} => ScriptAction::BlockCard(Empty {}),
            ScriptBody::ReloadPin { pin } => ScriptAction::ReloadPin(bytes(pin, "pin must be hex")?),
        };
        Ok(Script {
            target: target(
                client,
                [&self.key, &self.version, &self.issuer, &self.serial],
                self.chip.as_ref(),
            )?,
            challenge: hex(&self.challenge, "challenge must be 8 hex digits")?,
            action,
        })
    }
}

/// Answer of `POST /v1/scripts/issue`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct ScriptAnswer {
    /// The whole command, hex.
    pub apdu: String,
    /// Log index.
    pub index: u64,
}

/// `POST /v1/cards/authenticate`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, missing_docs)]
pub struct AuthenticateRequest {
    pub key: String,
    pub version: String,
    pub issuer: String,
    pub serial: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip: Option<String>,
    /// The card's challenge, 16 hex digits.
    pub challenge: String,
}

impl AuthenticateRequest {
    /// The frame for this client.
    pub fn to_frame(&self, client: &str) -> Result<Authenticate, FieldError> {
        Ok(Authenticate {
            target: target(
                client,
                [&self.key, &self.version, &self.issuer, &self.serial],
                self.chip.as_ref(),
            )?,
            challenge: hex(&self.challenge, "challenge must be 16 hex digits")?,
        })
    }
}

/// Answer of `POST /v1/cards/authenticate`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct AuthenticateAnswer {
    /// 16 hex digits, for EXTERNAL AUTHENTICATE.
    pub answer: String,
    /// Log index.
    pub index: u64,
}

/// Bytes of a token or a script's data at most.
const DATA_MAX: usize = 512;

fn hex<const N: usize>(text: &str, wrong: FieldError) -> Result<[u8; N], FieldError> {
    purse::hex(text.as_bytes()).ok_or(wrong)
}

fn optional<const N: usize>(text: Option<&String>, wrong: FieldError) -> Result<Option<[u8; N]>, FieldError> {
    text.map(|text| hex(text, wrong)).transpose()
}

fn serial(text: &str) -> Result<CardSerial, FieldError> {
    purse::bcd(text.as_bytes()).ok_or("serial must be 20 digits")
}

fn bytes(text: &str, wrong: FieldError) -> Result<Bytes, FieldError> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if !odd.is_empty() || pairs.len() > DATA_MAX {
        return Err(wrong);
    }
    pairs
        .iter()
        .map(|pair| purse::hex::<1>(pair).map(|[byte]| byte))
        .collect::<Option<Vec<u8>>>()
        .map(Bytes)
        .ok_or(wrong)
}

fn target(
    client: &str,
    [lineage, version, issuer, card]: [&String; 4],
    chip: Option<&String>,
) -> Result<CardTarget, FieldError> {
    let lineage = Lineage::parse(lineage).ok_or("key must be a lineage like transit/purse/load")?;
    let version = KeyVersion::parse(version).ok_or("version must be 2 hex digits")?;
    Ok(CardTarget {
        client: client.to_owned(),
        key: KeyId { lineage, version },
        issuer: hex(issuer, "issuer must be 16 hex digits")?,
        serial: serial(card)?,
        chip: optional(chip, "chip must be 16 hex digits")?,
    })
}
