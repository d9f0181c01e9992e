//! Wrong pairs, counted per card and per key version (service-protocol rule 6).

use std::collections::{BTreeMap, HashMap, HashSet};

use wire::cbor::Cbor;
use wire::command::{Digest, ResetBudget};
use wire::key::KeyId;

use super::digest;
use crate::entry::{PAIR_LEN, WrongPairs};

/// Wrong pairs so far.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    pub(super) versions: BTreeMap<KeyId, u64>,
    cards: HashMap<[u8; 8], HashSet<[u8; 8]>>,
    /// Pairs of the card that has most, so that the common day need not ask for any card.
    most: u64,
    pub(super) chain: Digest,
}

impl Failures {
    /// Wrong pairs of a key version.
    pub fn of_version(&self, key: &KeyId) -> u64 {
        self.versions.get(key).copied().unwrap_or_default()
    }

    /// Wrong pairs of a card, by its tag.
    pub fn of_card(&self, tag: &[u8; 8]) -> u64 {
        self.cards.get(tag).map_or(0, |pairs| pairs.len() as u64)
    }

    /// Whether this very pair was wrong before: then it is no new guess.
    pub fn knows(&self, card: &[u8; 8], pair: &[u8; 8]) -> bool {
        self.cards.get(card).is_some_and(|pairs| pairs.contains(pair))
    }

    /// Wrong pairs of the card that has most.
    pub fn most(&self) -> u64 {
        self.most
    }

    pub(super) fn add(&mut self, wrong: &WrongPairs) {
        for pair in wrong.pairs.chunks_exact(PAIR_LEN) {
            let (card, pair) = pair.split_at(8);
            let (Ok(card), Ok(pair)) = (card.try_into(), pair.try_into()) else {
                continue;
            };
            let pairs = self.cards.entry(card).or_default();
            pairs.insert(pair);
            self.most = self.most.max(pairs.len() as u64);
        }
        *self.versions.entry(wrong.key.clone()).or_default() += (wrong.pairs.len() / PAIR_LEN) as u64;
        self.chain = digest(&[b"add", &self.chain, &wrong.to_cbor()]);
    }

    pub(super) fn reset(&mut self, reset: &ResetBudget, card: Option<[u8; 8]>) {
        if let Some(key) = &reset.key {
            self.versions.remove(key);
        }
        if let Some(card) = card {
            self.cards.remove(&card);
            self.most = self.cards.values().map(|pairs| pairs.len() as u64).max().unwrap_or_default();
        }
        self.chain = digest(&[b"reset", &self.chain, &reset.to_cbor(), &card.unwrap_or_default()]);
    }
}
