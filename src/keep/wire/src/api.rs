//! JSON of the HTTP API (SPEC.md §API). Requests are closed: unknown and doubled fields are errors. Answers may gain
//! fields, and readers skip those that they do not know; a receipt is a proof and stays closed.

mod calls;

pub use calls::*;

use serde::{Deserialize, Serialize};

use crate::frame::{BatchResult, Counts, KeyInfo, ModuleStatus};
use crate::key::FactorSource;
use crate::purse::to_hex;

/// Media type of a binary batch.
pub const BATCH_TYPE: &str = "application/octet-stream";
/// Media type of an F1 day.
pub const F1_TYPE: &str = "text/plain";
/// Media type of verdicts as text.
pub const CSV_TYPE: &str = "text/csv";
/// Media type of a problem (RFC 9457).
pub const PROBLEM_TYPE: &str = "application/problem+json";
/// First line of a verdict file.
pub const CSV_HEADER: &str = "line,verdict";
/// Query parameter of `POST /v1/settlement/verify` that names the lineage of an F1 day.
pub const LINEAGE_PARAMETER: &str = "key";
/// What ends a verdict stream: this byte, then one JSON line, a [`Trailer`].
///
/// Verdict bytes are 0 to 4, so the first byte of the line, `{`, can't be one.
pub const TRAILER_START: u8 = b'{';

/// RFC 9457 problem. `code` is stable; `detail` is for people.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Problem {
    /// `urn:citykeep:problem:<code>`.
    pub r#type: String,
    /// Short, the same for all problems of the type.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable code.
    pub code: String,
    /// What happened here and what to do next.
    pub detail: String,
}

impl Problem {
    /// A problem with its type made from the code.
    pub fn new(status: u16, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:citykeep:problem:{code}"),
            title: title.to_owned(),
            status,
            code: code.to_owned(),
            detail: detail.into(),
        }
    }
}

/// Counts by verdict.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, missing_docs)]
pub struct CountsBody {
    pub ok: u64,
    pub bad_tac: u64,
    pub unknown_key: u64,
    pub malformed: u64,
    pub withheld: u64,
}

impl From<Counts> for CountsBody {
    fn from(counts: Counts) -> Self {
        let Counts { ok, bad_tac, unknown_key, malformed, withheld } = counts;
        Self { ok, bad_tac, unknown_key, malformed, withheld }
    }
}

impl From<CountsBody> for Counts {
    fn from(counts: CountsBody) -> Self {
        let CountsBody { ok, bad_tac, unknown_key, malformed, withheld } = counts;
        Self { ok, bad_tac, unknown_key, malformed, withheld }
    }
}

/// Counts of one key version.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct VersionBody {
    /// Two upper-case hex digits.
    pub version: String,
    /// Its counts.
    pub counts: CountsBody,
}

/// The receipt of a batch. It stands on nothing but the proof: a reader recomputes `root` from his own records and the
/// verdicts, finds it in `entry`, and follows `proof` to a checkpoint under the log's key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct Receipt {
    /// Format, 1.
    pub version: u64,
    /// Suite, 1 = SHA-256.
    pub suite: u64,
    /// Service id, hex.
    pub instance: String,
    /// Log origin.
    pub origin: String,
    /// SPIFFE id of the client.
    pub client: String,
    /// Batch id, hex; the receipt's own id.
    pub batch: String,
    /// Profile name.
    pub profile: String,
    /// Key lineage.
    pub lineage: String,
    /// Records, malformed ones too.
    pub records: u64,
    /// Batch tree root, hex.
    pub root: String,
    /// Counts by verdict.
    pub counts: CountsBody,
    /// Counts by key version.
    pub versions: Vec<VersionBody>,
    /// Log indices of the batch's entries; the last one holds the total.
    pub indices: Vec<u64>,
    /// The last entry's bytes, hex.
    pub entry: String,
    /// c2sp.org/tlog-proof of that entry.
    pub proof: String,
}

impl Receipt {
    /// Puts a receipt together from what the module released and what the log proves.
    pub fn new(result: &BatchResult, instance: &[u8; 16], origin: &str, entry: &[u8], proof: String) -> Self {
        let versions = result.versions.iter();
        Self {
            version: 1,
            suite: 1,
            instance: to_hex(instance),
            origin: origin.to_owned(),
            client: result.client.clone(),
            batch: to_hex(&result.batch),
            profile: result.profile.to_string(),
            lineage: result.lineage.to_string(),
            records: result.records,
            root: to_hex(&result.root),
            counts: result.counts.into(),
            versions: versions
                .map(|row| VersionBody { version: row.version.to_string(), counts: row.counts.into() })
                .collect(),
            indices: result.indices.clone(),
            entry: to_hex(entry),
            proof,
        }
    }
}

/// The last line of a verdict stream.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
#[allow(clippy::exhaustive_enums)]
pub enum Trailer {
    /// It stands.
    Receipt(Box<Receipt>),
    /// It does not: forget the verdicts.
    Problem(Problem),
}

/// `GET /v1/status`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct StatusBody {
    /// Module state.
    pub state: String,
    /// Boot id, hex.
    pub boot: String,
    /// Memory mode of the module.
    pub memory: String,
    /// Cipher backend of the module.
    pub backend: String,
    /// Service id, hex.
    pub instance: Option<String>,
    /// Log origin.
    pub origin: Option<String>,
    /// Rehearsal instance.
    pub rehearsal: Option<bool>,
    /// Durable log size.
    pub log_size: Option<u64>,
    /// `unwitnessed`, `witnessed`, `waiting` or `grace`, as the module says (hsm/SPEC.md, Witnesses).
    pub witness: Option<String>,
    /// What ends by itself: keyd's certificate, the clients' CAs and revocation lists, and the certificates of clients: the
    /// asking client's own, all of them for who may read the log, which names clients too. Absent where keyd does not say.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub certificates: Vec<CertificateBody>,
    /// What keyd knows of each witness of its policy.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub witnesses: Vec<WitnessBody>,
}

/// One witness in `GET /v1/status`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct WitnessBody {
    /// Its name in the policy.
    pub name: String,
    /// Size of the newest head that it cosigned for this keyd.
    pub size: Option<u64>,
    /// When, by its own clock, Unix seconds.
    pub time: Option<u64>,
    /// Why it does not cosign now.
    pub trouble: Option<String>,
}

/// One certificate or revocation list in `GET /v1/status`, and when it ends.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct CertificateBody {
    /// `server-certificate`, `client-ca`, `client-crl` or `client-certificate`.
    pub what: String,
    /// Server name, subject of the CA, issuer of the list, or the client's SPIFFE id.
    pub name: String,
    /// Its last moment, Unix seconds.
    pub not_after: u64,
    /// Whole days until then.
    pub days_left: u64,
    /// Code of the warning, once its end is near.
    pub warning: Option<String>,
}

/// Whether an end is near enough for a warning: within 30 days, and in the last third of a life only, since a leaf of a day
/// shall not warn from its first hour on, and a list that comes every week not every day. All in Unix seconds.
pub const fn ends_soon(not_before: u64, not_after: u64, now: u64) -> bool {
    const LONGEST: u64 = 30 * 86_400;
    let left = not_after.saturating_sub(now);
    left <= LONGEST && left <= not_after.saturating_sub(not_before) / 3
}

impl From<&ModuleStatus> for StatusBody {
    fn from(status: &ModuleStatus) -> Self {
        let instance = status.instance.as_ref();
        Self {
            state: status.state.to_string(),
            boot: to_hex(&status.boot),
            memory: status.memory.clone(),
            backend: status.backend.clone(),
            instance: instance.map(|known| to_hex(&known.instance)),
            origin: instance.map(|known| known.origin.clone()),
            rehearsal: instance.map(|known| known.rehearsal),
            log_size: instance.map(|known| known.durable),
            witness: instance.map(|known| known.witness.clone()),
            certificates: Vec::new(),
            witnesses: Vec::new(),
        }
    }
}

/// One key version in `GET /v1/keys`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct KeyBody {
    /// Lineage.
    pub lineage: String,
    /// Version, two upper-case hex digits.
    pub version: String,
    /// `3des`, `sm4`, `aes`, `p256` or `sm2`.
    pub algorithm: String,
    /// Level of the stored key.
    pub level: String,
    /// Derivation steps, top first: `issuer_id`, `asn_right8`, `chip`, or 16 hex digits of a constant.
    pub levels: Vec<String>,
    /// What it may do.
    pub usage: Vec<String>,
    /// Check value, hex.
    pub kcv: String,
    /// State.
    pub state: String,
    /// Public half of a signing key, SEC 1 uncompressed, hex.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub public: Option<String>,
}

impl From<&KeyInfo> for KeyBody {
    fn from(key: &KeyInfo) -> Self {
        let attributes = &key.attributes;
        Self {
            lineage: attributes.lineage.to_string(),
            version: attributes.version.to_string(),
            algorithm: attributes.algorithm.to_string(),
            level: attributes.level.to_string(),
            levels: attributes.levels.iter().map(level_name).collect(),
            usage: attributes.usage.iter().map(ToString::to_string).collect(),
            kcv: to_hex(&attributes.kcv),
            state: key.state.to_string(),
            public: key.public.as_ref().map(|point| to_hex(point)),
        }
    }
}

/// Name of a derivation step in JSON and TOML.
pub fn level_name(level: &FactorSource) -> String {
    match level {
        FactorSource::IssuerId(_) => "issuer_id".to_owned(),
        FactorSource::AsnRight8(_) => "asn_right8".to_owned(),
        FactorSource::Literal(bytes) => to_hex(bytes),
        FactorSource::Chip(_) => "chip".to_owned(),
    }
}

/// `GET /v1/keys`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct KeysBody {
    /// The key versions that this client may use.
    pub keys: Vec<KeyBody>,
}

/// One item of `POST /v1/macs/verify`: the fields of card-crypto D.2, hex and decimal as cards print them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums)]
pub enum MacItemBody {
    /// TAC of a purchase, withdrawal or composite purchase.
    PurchaseTac(PurchaseBody),
    /// TAC of a load.
    LoadTac(LoadBody),
}

/// A purchase.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct PurchaseBody {
    /// Key version, 2 hex digits.
    pub version: String,
    /// Issuer id, 16 hex digits.
    pub issuer: String,
    /// Application serial, 20 digits; the right 16 count.
    pub serial: String,
    /// Amount in fen.
    pub amount: u32,
    /// Transaction type, 2 hex digits.
    #[serde(rename = "type")]
    pub transaction: String,
    /// PSAM terminal id, 12 hex digits.
    pub terminal: String,
    /// PSAM terminal sequence.
    pub sequence: u32,
    /// YYYYMMDD.
    pub date: String,
    /// HHMMSS.
    pub time: String,
    /// TAC, 8 hex digits.
    pub tac: String,
}

/// A load.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct LoadBody {
    /// Key version, 2 hex digits.
    pub version: String,
    /// Issuer id, 16 hex digits.
    pub issuer: String,
    /// Application serial, 20 digits; the right 16 count.
    pub serial: String,
    /// Balance after the load in fen.
    pub balance_after: u32,
    /// Online counter before it was incremented.
    pub counter: u16,
    /// Amount in fen.
    pub amount: u32,
    /// Transaction type, 2 hex digits.
    #[serde(rename = "type")]
    pub transaction: String,
    /// Terminal id, 12 hex digits.
    pub terminal: String,
    /// YYYYMMDD.
    pub date: String,
    /// HHMMSS.
    pub time: String,
    /// TAC, 8 hex digits.
    pub tac: String,
}

/// `POST /v1/macs/verify`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct MacsVerify {
    /// Key lineage of all items.
    pub key: String,
    /// 1 to 1024 items.
    pub items: Vec<MacItemBody>,
}

/// One result.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct MacResult {
    /// Verdict name.
    pub verdict: String,
    /// For `malformed`: which field and why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

/// Answer of `POST /v1/macs/verify`, in the order of the items.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct MacsVerified {
    /// One result per item.
    pub results: Vec<MacResult>,
    /// Log index of the entry that covers them.
    pub index: u64,
}

/// `GET /v1/log/proof?index=N`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct CommandBody {
    /// Log index, if the command has an entry already.
    pub index: Option<u64>,
    /// Check value of a key that it made, hex.
    pub kcv: Option<String>,
}

impl MacItemBody {
    /// The item's key version and issuer, and its record; or which field is wrong.
    pub fn to_record(
        &self,
    ) -> Result<(crate::batch::Group, crate::batch::Profile, [u8; crate::batch::RECORD_LEN]), &'static str>
    {
        use crate::batch::{Group, Profile, Record};
        use crate::key::KeyVersion;
        use crate::purse::{self, LoadTac, PurchaseTac};
        let (profile, version, issuer, serial, tac, data) = match self {
            Self::PurchaseTac(item) => {
                let [kind] = purse::hex(item.transaction.as_bytes()).ok_or("type must be 2 hex digits")?;
                let (terminal, date, time) = moment(&item.terminal, &item.date, &item.time)?;
                let (amount, sequence) = (item.amount, item.sequence);
                let fields = PurchaseTac { amount, kind, terminal, sequence, date, time };
                (Profile::PurchaseTac, &item.version, &item.issuer, &item.serial, &item.tac, fields.data())
            }
            Self::LoadTac(item) => {
                let [kind] = purse::hex(item.transaction.as_bytes()).ok_or("type must be 2 hex digits")?;
                let (terminal, date, time) = moment(&item.terminal, &item.date, &item.time)?;
                let (balance_after, counter, amount) = (item.balance_after, item.counter, item.amount);
                let fields = LoadTac { balance_after, counter, amount, kind, terminal, date, time };
                (Profile::LoadTac, &item.version, &item.issuer, &item.serial, &item.tac, fields.data())
            }
        };
        let version = KeyVersion::parse(version).ok_or("version must be 2 hex digits")?;
        let issuer = purse::hex(issuer.as_bytes()).filter(|factor| purse::is_factor(*factor));
        let issuer = issuer.ok_or("issuer must be 16 hex digits, not all 00 or all FF")?;
        let serial: [u8; 10] = purse::bcd(serial.as_bytes()).ok_or("serial must be 20 digits")?;
        let card = serial.last_chunk().copied().filter(|factor| purse::is_factor(*factor));
        let card = card.ok_or("the right 16 digits of the serial must not all be 0")?;
        let tac = purse::hex(tac.as_bytes()).ok_or("tac must be 8 hex digits")?;
        let record = Record { card, data, tac, group: 0 };
        Ok((Group { version, issuer }, profile, record.to_bytes(profile)))
    }
}

type Moment = ([u8; 6], [u8; 4], [u8; 3]);

fn moment(terminal: &str, date: &str, time: &str) -> Result<Moment, &'static str> {
    use crate::purse;
    let terminal = purse::hex(terminal.as_bytes()).ok_or("terminal must be 12 hex digits")?;
    let date = purse::bcd(date.as_bytes())
        .filter(|date| purse::is_date(*date))
        .ok_or("date must be a day, YYYYMMDD")?;
    let time =
        purse::bcd(time.as_bytes()).filter(|time| purse::is_time(*time)).ok_or("time must be HHMMSS")?;
    Ok((terminal, date, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_doubled_fields_are_refused() {
        assert!(serde_json::from_str::<MacsVerify>(r#"{"key":"a/b/c","items":[]}"#).is_ok());
        assert!(serde_json::from_str::<MacsVerify>(r#"{"key":"a/b/c","items":[],"more":1}"#).is_err());
        assert!(serde_json::from_str::<MacsVerify>(r#"{"key":"a/b/c","key":"a/b/c","items":[]}"#).is_err());
        let item = r#"{"kind":"purchase-tac","version":"01","issuer":"1234500012345000","serial":"00003101000012345678",
            "amount":500,"type":"09","terminal":"112233445566","sequence":291,"date":"20240131","time":"093015","tac":"D00A87B6"}"#;
        let read: MacItemBody = serde_json::from_str(item).unwrap();
        assert!(read.to_record().is_ok());
        let doubled = item.replace("\"amount\":500", "\"amount\":500,\"amount\":1");
        assert!(serde_json::from_str::<MacItemBody>(&doubled).is_err(), "doubled inside an item");
        let more = item.replace("\"amount\":500", "\"amount\":500,\"balance\":1");
        assert!(serde_json::from_str::<MacItemBody>(&more).is_err(), "unknown inside an item");
    }

    #[test]
    fn a_trailer_starts_with_a_brace() {
        let problem = Trailer::Problem(Problem::new(503, "module-gone", "gone", "start again"));
        let line = serde_json::to_vec(&problem).unwrap();
        assert_eq!(line.first(), Some(&TRAILER_START));
    }
}
