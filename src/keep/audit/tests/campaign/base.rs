//! The log that is edited, with what an attacker could have kept of it: older heads, and the same log written otherwise.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use translog::audit::{Dir, Source};
use translog::cosign::cosign;
use translog::note::{Checkpoint, WitnessKey};
use translog::policy::Policy;
use wire::key::KeyState;

use crate::support::{Maker, ORIGIN, assertion};

/// Two whole tiles and one that is not.
pub(crate) const SIZE: u64 = 600;

/// Files of a log, cheap to copy and to change one of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(pub(crate) BTreeMap<String, Arc<Vec<u8>>>);

impl Files {
    pub(crate) fn read(dir: &Path) -> Self {
        let source = Dir::new(dir);
        let names = source.names().unwrap().unwrap();
        Self(
            names
                .into_iter()
                .map(|name| (name.clone(), Arc::new(source.read(&name).unwrap().unwrap())))
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> &[u8] {
        &self.0[name]
    }

    pub(crate) fn put(&mut self, name: &str, bytes: Vec<u8>) {
        self.0.insert(name.to_owned(), Arc::new(bytes));
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Only the files that the good log has too.
    pub(crate) fn without_strays(&self, good: &Self) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(name, _)| good.0.contains_key(*name))
                .map(|(n, b)| (n.clone(), b.clone()))
                .collect(),
        )
    }

    /// One file as the good log has it.
    pub(crate) fn with(&self, good: &Self, name: &str) -> Self {
        let mut files = self.clone();
        files.0.insert(name.to_owned(), good.0[name].clone());
        files
    }
}

impl Source for Files {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(name).map(|bytes| bytes.to_vec()))
    }

    fn names(&self) -> io::Result<Option<Vec<String>>> {
        Ok(Some(self.names()))
    }

    fn is_live(&self) -> bool {
        false
    }
}

pub(crate) struct Base {
    pub(crate) files: Files,
    pub(crate) policy: Policy,
    pub(crate) size: u64,
    /// The log at earlier heads, cosigned like this one.
    pub(crate) older: Vec<Files>,
    /// A log that the same key signed: the same up to an entry, and as long. No witness has seen it.
    pub(crate) forks: Vec<(u64, Files)>,
}

fn witness(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// With all three witnesses' lines, as a policy of `all` asks for.
pub(crate) fn cosigned(maker: &Maker) -> String {
    let head = Checkpoint { origin: ORIGIN.into(), size: maker.frontier.size(), root: maker.frontier.root() };
    let lines: String =
        (1..=3).map(|n| cosign(&head, &format!("w{n}.example"), &witness(n), 1_700_000_000)).collect();
    maker.note() + &lines
}

/// A log with restarts, turns of the epoch, and keys in several states.
fn history(maker: &mut Maker, size: u64, other: bool) {
    while maker.frontier.size() < size {
        match maker.frontier.size() {
            5 => maker.import(1),
            40 => maker.set_state(1, KeyState::Active),
            255 => maker.import(2),
            256 => maker.restart([0x34; 16]),
            300 => maker.set_state(1, KeyState::VerifyOnly),
            // Two entries: the heartbeat and the turn.
            100 | 350 => drop(maker.turn()),
            512 => maker.restart([0x35; 16]),
            at => drop(maker.push(assertion(if other { at + 100_000 } else { at }))),
        }
    }
}

fn files(maker: &Maker, note: &str) -> Files {
    let dir = tempfile::tempdir().unwrap();
    maker.publish(dir.path());
    let mut files = Files::read(dir.path());
    files.put("checkpoint", note.as_bytes().to_vec());
    files
}

impl Base {
    pub(crate) fn make() -> Self {
        let mut maker = Maker::with_epochs();
        let (mut older, mut forks) = (Vec::new(), Vec::new());
        for size in [100, 256, 300, 512, 599] {
            history(&mut maker, size, false);
            older.push(files(&maker, &cosigned(&maker)));
            let mut fork = maker.clone();
            history(&mut fork, SIZE, true);
            forks.push((size, files(&fork, &fork.note())));
        }
        history(&mut maker, SIZE, false);
        let witnesses: String = (1..=3)
            .map(|n| {
                let key = WitnessKey::new(&format!("w{n}.example"), witness(n).verifying_key().to_bytes());
                format!("witness w{n} {key}\n")
            })
            .collect();
        let policy = format!("log {}\n{witnesses}group all all w1 w2 w3\nquorum all\n", maker.vkey());
        let policy = Policy::parse(&policy).unwrap();
        Self { files: files(&maker, &cosigned(&maker)), policy, size: SIZE, older, forks }
    }

    /// A log of somebody's, who has no older heads of it.
    pub(crate) fn read(log: &Path, policy: &Path) -> Self {
        let policy = Policy::parse(&std::fs::read_to_string(policy).unwrap()).unwrap();
        let files = Files::read(log);
        let note = String::from_utf8(files.get("checkpoint").to_vec()).unwrap();
        let size = note.lines().nth(1).unwrap().parse().unwrap();
        Self { files, policy, size, older: Vec::new(), forks: Vec::new() }
    }

    pub(crate) fn is_made(&self) -> bool {
        !self.older.is_empty()
    }
}
