//! Checking TACs under failure budgets (service-protocol rule 6).
//!
//! A TAC has four bytes: at millions of checks a second it would be guessed in minutes. So every wrong (input, TAC) pair
//! counts against its card and its key version, over all clients; the counts are in the log, so a restart keeps them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cardcrypto::{MasterKey, TacCheck};
use translog::entry::{PAIR_LEN, WrongPairs};
use translog::state::LogState;
use wire::batch::{Group, Profile, RECORD_LEN, Record, Verdict};
use wire::cbor::Bytes;
use wire::key::{FactorSource, KeyId, KeyState, KeyVersion, Lineage, Usage};

use crate::held::Held;
use crate::root::Root;

/// Wrong pairs that no log entry has yet.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    cards: HashMap<[u8; 8], HashSet<[u8; 8]>>,
    versions: BTreeMap<KeyId, u64>,
    /// Pairs of the card that has most; never too low, and exact again whenever an entry takes pairs over.
    most: u64,
}

/// Wrong pairs by key version, in the order in which they were seen; waiting for their entry.
pub(crate) type Wrong = BTreeMap<KeyId, Vec<[u8; PAIR_LEN]>>;

/// Whether a key in this state checks TACs.
pub(crate) fn may_verify(state: KeyState) -> bool {
    matches!(state, KeyState::Active | KeyState::VerifyOnly)
}

impl Guard {
    pub(crate) fn of_card(&self, state: &LogState, tag: &[u8; 8]) -> u64 {
        state.failures().of_card(tag) + self.cards.get(tag).map_or(0, |pairs| pairs.len() as u64)
    }

    pub(crate) fn of_version(&self, state: &LogState, key: &KeyId) -> u64 {
        state.failures().of_version(key) + self.versions.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn knows(&self, state: &LogState, card: &[u8; 8], pair: &[u8; 8]) -> bool {
        state.failures().knows(card, pair) || self.cards.get(card).is_some_and(|pairs| pairs.contains(pair))
    }

    /// Whether no card can have reached `limit`: then a true TAC needs no look at its card.
    fn all_below(&self, state: &LogState, limit: u64) -> bool {
        state.failures().most() + self.most < limit
    }

    fn add(&mut self, key: &KeyId, card: [u8; 8], pair: [u8; 8]) {
        let pairs = self.cards.entry(card).or_default();
        if pairs.insert(pair) {
            self.most = self.most.max(pairs.len() as u64);
            *self.versions.entry(key.clone()).or_default() += 1;
        }
    }

    /// Forgets pairs that an entry has taken over.
    pub(crate) fn logged(&mut self, wrong: &[WrongPairs]) {
        for row in wrong {
            let count = (row.pairs.len() / PAIR_LEN) as u64;
            if let Some(version) = self.versions.get_mut(&row.key) {
                *version = version.saturating_sub(count);
            }
            for bytes in row.pairs.chunks_exact(PAIR_LEN) {
                let (card, pair) = bytes.split_at(8);
                let (Ok(card), Ok(pair)) = (<[u8; 8]>::try_from(card), <[u8; 8]>::try_from(pair)) else {
                    continue;
                };
                if let Some(pairs) = self.cards.get_mut(&card) {
                    pairs.remove(&pair);
                    if pairs.is_empty() {
                        self.cards.remove(&card);
                    }
                }
            }
        }
        self.versions.retain(|_, count| *count > 0);
        self.most = self.cards.values().map(|pairs| pairs.len() as u64).max().unwrap_or_default();
    }
}

/// Takes at most `room` pairs out of `wrong`, for one entry.
pub(crate) fn take_pairs(wrong: &mut Wrong, mut room: usize) -> Vec<WrongPairs> {
    let mut rows = Vec::new();
    while room > 0 {
        let Some(mut first) = wrong.first_entry() else {
            break;
        };
        let count = first.get().len().min(room);
        let pairs: Vec<u8> = first.get_mut().drain(..count).flatten().collect();
        rows.push(WrongPairs { key: first.key().clone(), pairs: Bytes(pairs) });
        room -= count;
        if first.get().is_empty() {
            first.remove();
        }
    }
    rows
}

/// The keys of one frame's groups, as they stood when the frame came.
#[derive(Debug)]
pub(crate) struct Keys {
    versions: BTreeMap<KeyVersion, (KeyId, Arc<Held>)>,
}

impl Keys {
    /// Looks up the key of every version in the group table; what is unknown or may not verify is left out.
    pub(crate) fn of(
        state: &LogState,
        held: &BTreeMap<KeyId, Arc<Held>>,
        lineage: &Lineage,
        versions: &BTreeSet<KeyVersion>,
    ) -> Self {
        let usable = versions.iter().filter_map(|version| {
            let version = *version;
            let id = KeyId { lineage: lineage.clone(), version };
            let master = usable(state, &id).then(|| held.get(&id).cloned()).flatten()?;
            // Only masters verify.
            master.master()?;
            Some((version, (id, master)))
        });
        Self { versions: usable.collect() }
    }
}

/// The card that a guess is about, as its key sees it: a factor that the key does not derive with makes no other card, so
/// varying it must give no fresh budget.
fn card_tag(root: &Root, id: &KeyId, master: &MasterKey, group: &Group, record: &Record) -> [u8; 8] {
    let uses = |source: &FactorSource| master.levels().contains(source);
    let issuer = if uses(&FactorSource::ISSUER_ID) { group.issuer } else { [0; 8] };
    let card = if uses(&FactorSource::ASN_RIGHT8) { record.card } else { [0; 8] };
    root.card_tag(id.lineage.wall(), &issuer, &card)
}

fn usable(state: &LogState, id: &KeyId) -> bool {
    state
        .key(id)
        .is_some_and(|key| may_verify(key.state) && key.made.attributes.usage.contains(&Usage::VerifyTac))
}

/// What the cipher says of each record, before budgets: `None` for records without a usable key.
pub(crate) struct Computed {
    checks: Vec<Option<TacCheck>>,
}

/// Runs the cipher over a frame: one bulk call per group. No lock is held here.
pub(crate) fn compute(frame: &Frame<'_>) -> Computed {
    let Frame { profile, groups, keys, rows, records } = *frame;
    let mut by_group: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
    for (at, record) in (0..).zip(records) {
        if let Some(record) = record {
            by_group.entry(record.group).or_default().push(at);
        }
    }
    let mut checks = vec![None; records.len()];
    for (group, places) in by_group {
        let Some(row) = groups.get(usize::from(group)) else {
            continue;
        };
        let Some(master) = keys.versions.get(&row.version).and_then(|(_, held)| held.master()) else {
            continue;
        };
        let done = master.verify_rows(profile, &row.issuer, rows, &places, |at, check| {
            if let Some(slot) = checks.get_mut(at) {
                *slot = Some(check);
            }
        });
        // A refused issuer factor refuses the whole group.
        if done.is_err() {
            for at in places {
                if let Some(slot) = checks.get_mut(at as usize) {
                    *slot = Some(TacCheck::RefusedFactor);
                }
            }
        }
    }
    Computed { checks }
}

/// One frame, for [`compute`] and [`judge`].
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Kind of the records.
    pub profile: Profile,
    /// Group table.
    pub groups: &'a [Group],
    /// Keys of the groups.
    pub keys: &'a Keys,
    /// Records as they came.
    pub rows: &'a [[u8; RECORD_LEN]],
    /// The same, read; `None` is malformed.
    pub records: &'a [Option<Record>],
}

/// Turns what the cipher said into verdicts, in the order of the records, under the budgets. Runs under the module's
/// lock, so that no two frames share a budget's last guess.
pub(crate) fn judge(
    frame: &Frame<'_>,
    computed: &Computed,
    state: &LogState,
    root: &Root,
    guard: &mut Guard,
    wrong: &mut Wrong,
) -> Vec<Verdict> {
    let limits = state.instance().map_or(translog::state::DEFAULT_LIMITS, |instance| instance.limits);
    let mut verdict = |record: &Option<Record>, check: &Option<TacCheck>| {
        let Some(record) = record else {
            return Verdict::Malformed;
        };
        let Some(group) = frame.groups.get(usize::from(record.group)) else {
            return Verdict::Malformed;
        };
        let known = frame.keys.versions.get(&group.version);
        let Some((id, master)) = known.and_then(|(id, held)| Some((id, held.master()?))) else {
            return Verdict::UnknownKey;
        };
        // The state is looked at once more: a key may have been suspended while the cipher ran.
        if !usable(state, id) {
            return Verdict::UnknownKey;
        }
        let matched = match check {
            Some(TacCheck::Match) => true,
            Some(TacCheck::Mismatch) => false,
            Some(TacCheck::RefusedFactor) | None => return Verdict::Malformed,
        };
        if guard.of_version(state, id) >= limits.version {
            return Verdict::Withheld;
        }
        if matched && guard.all_below(state, limits.card) {
            return Verdict::Ok;
        }
        let card = card_tag(root, id, master, group, record);
        if guard.of_card(state, &card) >= limits.card {
            return Verdict::Withheld;
        }
        if matched {
            return Verdict::Ok;
        }
        let data = record.data.get(..frame.profile.data_len()).unwrap_or_default();
        let pair = root.pair_tag(id, &record.card, &group.issuer, data, &record.tac);
        if !guard.knows(state, &card, &pair) {
            guard.add(id, card, pair);
            let mut bytes = [0; PAIR_LEN];
            let (head, tail) = bytes.split_at_mut(8);
            head.copy_from_slice(&card);
            tail.copy_from_slice(&pair);
            wrong.entry(id.clone()).or_default().push(bytes);
        }
        Verdict::BadTac
    };
    frame.records.iter().zip(&computed.checks).map(|(record, check)| verdict(record, check)).collect()
}
