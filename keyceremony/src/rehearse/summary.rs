//! The rehearsal for machines: `--json`.

use serde::Serialize;
use translog::state::LicenceState;
use wire::cbor::Bytes;
use wire::key::{KeyAttributes, KeyState};
use wire::purse::to_hex;

/// What was done, and what is there now.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    rehearsal: Always,
    instance: String,
    boot: String,
    vkey: String,
    steps: Vec<StepRow>,
    keys: Vec<KeyRow>,
    licences: Vec<LicenceRow>,
    head: Head,
}

/// Only rehearsals are summed up.
#[derive(Debug)]
struct Always(bool);

impl Default for Always {
    fn default() -> Self {
        Self(true)
    }
}

impl Serialize for Always {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(self.0)
    }
}

#[derive(Debug, Serialize)]
struct StepRow {
    name: String,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct KeyRow {
    id: String,
    algorithm: String,
    kcv: String,
    state: String,
    /// Public half of a signing key, SEC 1 uncompressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    public: Option<String>,
}

#[derive(Debug, Serialize)]
struct LicenceRow {
    id: String,
    line: String,
    applet: String,
    transport: String,
    issuer: String,
    first: String,
    quantity: u64,
    issued: u64,
}

#[derive(Debug, Default, Serialize)]
struct Head {
    size: u64,
    root: String,
}

impl Summary {
    pub(crate) fn step(&mut self, name: &str, seconds: f64) {
        let name = name.to_owned();
        self.steps.push(StepRow { name, seconds });
    }

    pub(crate) fn licence(&mut self, known: &LicenceState) {
        let licence = &known.licence;
        self.licences.push(LicenceRow {
            id: to_hex(&licence.id),
            line: licence.line.clone(),
            applet: licence.applet.clone(),
            transport: licence.transport.to_string(),
            issuer: to_hex(&licence.issuer),
            first: to_hex(&licence.first),
            quantity: licence.quantity,
            issued: known.issued(),
        });
    }

    pub(crate) fn key(&mut self, key: &KeyAttributes, state: KeyState, public: Option<&Bytes>) {
        self.keys.push(KeyRow {
            id: key.id().to_string(),
            algorithm: key.algorithm.to_string(),
            kcv: to_hex(&key.kcv),
            state: state.to_string(),
            public: public.map(|point| to_hex(point)),
        });
    }

    pub(crate) fn instance(&mut self, instance: &str, boot: &str, vkey: &str) {
        instance.clone_into(&mut self.instance);
        boot.clone_into(&mut self.boot);
        vkey.clone_into(&mut self.vkey);
    }

    pub(crate) fn head(&mut self, size: u64, root: &str) {
        let root = root.to_owned();
        self.head = Head { size, root };
    }
}
