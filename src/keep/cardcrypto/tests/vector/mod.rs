//! `tests/vectors/card-crypto-vectors.json`, one vector at a time.

use serde_json::Value;

/// One named vector of the file.
pub(crate) struct Vector(Value);

impl Vector {
    pub(crate) fn named(name: &str) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/vectors/card-crypto-vectors.json");
        let all: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        Self(all.into_iter().find(|vector| vector["name"] == name).expect(name))
    }

    pub(crate) fn input<const N: usize>(&self, field: &str) -> [u8; N] {
        self.bytes("inputs", field).try_into().unwrap()
    }

    pub(crate) fn expected<const N: usize>(&self, field: &str) -> [u8; N] {
        self.bytes("expected", field).try_into().unwrap()
    }

    pub(crate) fn text(&self, part: &str, field: &str) -> String {
        self.0[part][field].as_str().expect(field).to_owned()
    }

    pub(crate) fn bytes(&self, part: &str, field: &str) -> Vec<u8> {
        let digits = self.text(part, field);
        let pairs = digits.as_bytes().chunks(2);
        pairs.map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }
}
