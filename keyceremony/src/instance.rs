//! What is public about an instance and pinned at its genesis: `instance.json` (SPEC.md §Instance file).

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use translog::note::VerifierKey;
use wire::cbor::Cbor;
use wire::command::{Command, Digest, Id, PublicKey};
use wire::purse::to_hex;
use wire::share::ShareCertificate;

use crate::failure::{Failure, OrFail};
use crate::files;
use crate::genesis;
use crate::shares::Holding;
use crate::words::from_hex;

const FORMAT: &str = "citykeep instance v1";

/// The officer set of a new instance.
const FIRST_EPOCH: u64 = 1;

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    rehearsal: bool,
    instance: String,
    node: String,
    origin: String,
    vkey: String,
    identity: String,
    certificate: String,
    officer_epoch: u64,
}

/// An instance, as those know it who were there when it was made.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) rehearsal: bool,
    pub(crate) id: Id,
    pub(crate) node: Id,
    pub(crate) origin: String,
    pub(crate) vkey: VerifierKey,
    /// The module's boot identity: whoever cannot sign with it gets no share.
    pub(crate) identity: PublicKey,
    /// SHA-256 of the share certificate.
    pub(crate) certificate: Digest,
    pub(crate) officer_epoch: u64,
}

impl Instance {
    /// The instance that a genesis command made.
    pub(crate) fn of_genesis(command: &Command, certificate: &[u8], vkey: &str) -> Result<Self, Failure> {
        let genesis = genesis::of(command)?;
        let vkey =
            VerifierKey::parse(vkey).or_fail("日志公钥无效。", "the module's log key cannot be read")?;
        if vkey.name() != genesis.origin {
            return Err(Failure::new(
                "日志公钥不属于本实例。",
                "the log key that the module names is one of another log; start the genesis again",
            ));
        }
        Ok(Self {
            rehearsal: genesis.rehearsal,
            id: command.instance,
            node: genesis.node,
            origin: genesis.origin.clone(),
            vkey,
            identity: genesis.identity,
            certificate: Sha256::digest(certificate).into(),
            officer_epoch: FIRST_EPOCH,
        })
    }

    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::read_text(path, "the instance file")?;
        Self::parse(&text).ok_or_else(|| {
            let path = path.display();
            Failure::new(
                format!("{path} 不是实例文件,或已损坏;请用创世时的副本。"),
                format!("{path} is no instance file of this format, or it was changed; take the copy from the genesis"),
            )
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let document: Document = serde_json::from_str(text).ok()?;
        let instance = Self {
            rehearsal: document.rehearsal,
            id: from_hex(&document.instance)?,
            node: from_hex(&document.node)?,
            vkey: VerifierKey::parse(&document.vkey).ok()?,
            identity: from_hex(&document.identity)?,
            certificate: from_hex(&document.certificate)?,
            origin: document.origin,
            officer_epoch: document.officer_epoch,
        };
        let sound = document.format == FORMAT && instance.vkey.name() == instance.origin;
        sound.then_some(instance)
    }

    pub(crate) fn to_text(&self) -> Result<String, Failure> {
        let document = Document {
            format: FORMAT.to_owned(),
            rehearsal: self.rehearsal,
            instance: to_hex(&self.id),
            node: to_hex(&self.node),
            origin: self.origin.clone(),
            vkey: self.vkey.to_string(),
            identity: to_hex(&self.identity),
            certificate: to_hex(&self.certificate),
            officer_epoch: self.officer_epoch,
        };
        let text = serde_json::to_string_pretty(&document);
        Ok(text.or_fail("无法写出实例文件。", "the instance file has no text")? + "\n")
    }

    /// The share set of this instance, from its certificate's bytes.
    pub(crate) fn holding(&self, certificate: Vec<u8>) -> Result<Holding, Failure> {
        let digest: Digest = Sha256::digest(&certificate).into();
        let set = ShareCertificate::from_cbor(&certificate).and_then(|certificate| certificate.open());
        match set {
            Ok(set) if digest == self.certificate && set.instance == self.id => {
                Ok(Holding { pinned: self.identity, certificate, set })
            }
            _ => Err(Failure::new(
                "份额证书不属于本实例,或已损坏;请带来创世时的证书。",
                "the share certificate is not the one of this instance's genesis; bring the one from the ceremony",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        Instance {
            rehearsal: true,
            id: [1; 16],
            node: [2; 16],
            origin: "weihai.example/log".into(),
            vkey: VerifierKey::new("weihai.example/log", key),
            identity: [3; 33],
            certificate: Sha256::digest(b"x").into(),
            officer_epoch: 1,
        }
    }

    #[test]
    fn the_text_is_read_back_and_closed() {
        let text = instance().to_text().unwrap();
        let read = Instance::parse(&text).unwrap();
        assert_eq!(read.to_text().unwrap(), text);
        assert!(Instance::parse(&text.replace("\"node\"", "\"mode\"")).is_none());
        assert!(Instance::parse(&text.replace("instance v1", "instance v2")).is_none());
        assert!(Instance::parse(&text.replace("\"origin\": \"weihai", "\"origin\": \"other")).is_none());
    }

    #[test]
    fn another_certificate_is_refused() {
        assert!(instance().holding(b"y".to_vec()).is_err());
        assert!(instance().holding(b"x".to_vec()).is_err(), "the digest fits but it is no certificate");
    }
}
