//! A growing log in memory, and a witness for it.

use std::path::Path;

use ed25519_dalek::SigningKey;
use translog::cosign::AddCheckpoint;
use translog::fs::LogDir;
use translog::note::{Checkpoint, VerifierKey, sign_checkpoint};
use translog::tree::{Frontier, Hash, HashReader, consistency_proof, leaf_hash, node_hash};
use witness::key::Signer;
use witness::memory::begin;
use witness::witness::Witness;

pub(crate) const ORIGIN: &str = "hsm.example/audit-1";
pub(crate) const NAME: &str = "witness.example/1";
pub(crate) const NOW: u64 = 1_700_000_000;

/// Leaves in memory; `fork` makes another log under the same key.
pub(crate) struct Log {
    pub(crate) leaves: Vec<Hash>,
    key: SigningKey,
}

impl HashReader for Log {
    type Error = std::convert::Infallible;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        if level == 0 {
            return Ok(self.leaves[usize::try_from(index).unwrap()]);
        }
        Ok(node_hash(&self.subtree(level - 1, 2 * index)?, &self.subtree(level - 1, 2 * index + 1)?))
    }
}

pub(crate) fn entry(index: u64) -> Vec<u8> {
    format!("entry-{index}").into_bytes()
}

impl Log {
    pub(crate) fn new(size: u64) -> Self {
        Self::of((0..size).map(|index| leaf_hash(&entry(index))).collect())
    }

    pub(crate) fn of(leaves: Vec<Hash>) -> Self {
        Self { leaves, key: SigningKey::from_bytes(&[1; 32]) }
    }

    /// The same key, another history from `at` on.
    pub(crate) fn fork(&self, at: usize) -> Self {
        let mut leaves = self.leaves.clone();
        leaves.iter_mut().skip(at).for_each(|leaf| leaf[0] ^= 1);
        Self::of(leaves)
    }

    pub(crate) fn vkey(&self) -> VerifierKey {
        VerifierKey::new(ORIGIN, self.key.verifying_key().to_bytes())
    }

    pub(crate) fn head(&self, size: u64) -> Checkpoint {
        let mut frontier = Frontier::new();
        self.leaves.iter().take(usize::try_from(size).unwrap()).for_each(|leaf| frontier.push(*leaf));
        Checkpoint { origin: ORIGIN.to_owned(), size, root: frontier.root() }
    }

    pub(crate) fn note(&self, size: u64) -> String {
        sign_checkpoint(&self.head(size), &self.key)
    }

    pub(crate) fn request(&self, old: u64, new: u64) -> String {
        let Ok(proof) = consistency_proof(self, old, new);
        AddCheckpoint { old, proof, checkpoint: self.note(new) }.to_text()
    }
}

pub(crate) fn signer(dir: &Path) -> Signer {
    let path = dir.join("witness.key");
    if path.exists() { Signer::load(&path).unwrap() } else { Signer::create(&path, NAME).unwrap() }
}

pub(crate) fn open(dir: &Path) -> Witness {
    Witness::open(&dir.join("state"), signer(dir), &[Log::new(0).vkey()]).unwrap()
}

/// A witness that has begun with the log.
pub(crate) fn begun(dir: &Path) -> Witness {
    begin(&dir.join("state"), &Log::new(0).vkey()).unwrap();
    open(dir)
}

/// A published log directory that grows by entries like [`entry`].
pub(crate) struct Published {
    dir: LogDir,
    key: SigningKey,
    frontier: Frontier,
    /// What stands in each entry before its number.
    pub(crate) text: &'static str,
}

impl Published {
    pub(crate) fn new(dir: &Path) -> Self {
        let log = LogDir::open(&dir.join("log"), &dir.join("wal")).unwrap();
        Self { dir: log, key: SigningKey::from_bytes(&[1; 32]), frontier: Frontier::new(), text: "entry" }
    }

    pub(crate) fn grow(&mut self, to: u64) {
        let entries: Vec<Vec<u8>> =
            (self.frontier.size()..to).map(|index| format!("{}-{index}", self.text).into_bytes()).collect();
        entries.iter().for_each(|entry| self.frontier.push(leaf_hash(entry)));
        let head = Checkpoint { origin: ORIGIN.to_owned(), size: to, root: self.frontier.root() };
        self.dir.append(&entries, &sign_checkpoint(&head, &self.key)).unwrap();
        self.dir.publish().unwrap();
    }
}
