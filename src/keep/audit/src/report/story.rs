//! What a log tells an auditor, gathered while it is verified. In memory that follows names and acts, not entries.

use std::collections::BTreeMap;

use translog::audit::Watch;
use translog::entry::{Entry, Event};
use translog::state::LogState;
use wire::frame::{Category, VersionCounts};
use wire::key::{KeyId, Lineage};

use crate::row::{Outcome, Row, day};

/// A module that makes heartbeats makes one after ten seconds without another entry.
const SILENCE_NS: u64 = 60_000_000_000;

/// A wall clock that goes otherwise than the module's own by this much was set.
const STEP_NS: i128 = 1_000_000_000;

/// What is listed one by one is listed up to here, and counted beyond.
const LISTED: usize = 500;

/// A list that counts on when it is full.
#[derive(Debug)]
pub(super) struct Listed<T> {
    pub(super) first: Vec<T>,
    pub(super) all: u64,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { first: Vec::new(), all: 0 }
    }
}

impl<T> Listed<T> {
    fn add(&mut self, item: T) {
        self.all += 1;
        if self.first.len() < LISTED {
            self.first.push(item);
        }
    }
}

/// Something that people decided or that the module says of itself.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) row: Row,
    /// Approvals that were needed, for a command.
    pub(super) needed: Option<u64>,
}

/// Time without entries.
#[derive(Debug)]
pub(super) struct Gap {
    /// The entry after it.
    pub(super) index: u64,
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    /// The module was down; else it ran and said nothing.
    pub(super) down: bool,
}

/// The wall clock was set.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) index: u64,
    pub(super) wall_ns: u64,
    pub(super) milliseconds: i128,
}

/// Refusals of one kind.
#[derive(Debug)]
pub(super) struct Refusals {
    pub(super) count: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) until_ns: u64,
}

/// What a client did with a key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Use {
    pub(super) count: u64,
    /// Of those: wrong codes, unknown keys, malformed, withheld.
    pub(super) not_ok: u64,
}

/// Client, key, deed.
pub(super) type Deed = (String, String, &'static str);

#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) acts: Vec<Act>,
    pub(super) gaps: Listed<Gap>,
    pub(super) steps: Listed<Step>,
    /// By who refused and why.
    pub(super) refusals: BTreeMap<(String, String), Refusals>,
    pub(super) used: BTreeMap<Deed, Use>,
    /// Entries by day.
    pub(super) days: BTreeMap<String, u64>,
    /// Fen that loads put on cards, by ledger key.
    pub(super) loaded: BTreeMap<String, u64>,
    /// Boot, wall clock, own clock of the entry before.
    before: Option<([u8; 16], u64, u64)>,
}

impl Watch for Story {
    fn entry(&mut self, state: &LogState, entry: &Entry) {
        *self.days.entry(day(entry.wall_ns)).or_default() += 1;
        self.clocks(entry);
        self.before = Some((entry.boot, entry.wall_ns, entry.mono_ns));
        self.usage(&entry.event);
        let row = || Row::of(entry);
        match &entry.event {
            Event::Genesis(_)
            | Event::Boot(_)
            | Event::Command(_)
            | Event::Component(_)
            | Event::Epoch(_)
            | Event::Witness(_)
            | Event::Closed(_)
            | Event::Truncated(_) => {
                let row = row();
                if row.outcome == Outcome::Refused {
                    self.refused("module", &row, 1);
                }
                let officers = state.instance().map(|instance| &instance.officers);
                let needed =
                    officers.filter(|_| row.facts.contains_key("approvals")).map(|set| set.threshold);
                self.acts.push(Act { row, needed });
            }
            Event::Denied(event) => self.refused(&format!("module ({})", event.socket), &row(), event.count),
            Event::Asserted(event) if event.category == Category::Deny => {
                self.refused("keyd", &row(), event.count);
            }
            _ => {}
        }
    }
}

impl Story {
    fn clocks(&mut self, entry: &Entry) {
        let Some((boot, wall_ns, mono_ns)) = self.before else { return };
        let (index, to_ns) = (entry.seq, entry.wall_ns);
        if boot != entry.boot {
            self.gaps.add(Gap { index, from_ns: wall_ns, to_ns, down: true });
            return;
        }
        let own = entry.mono_ns.saturating_sub(mono_ns);
        let step = i128::from(to_ns) - i128::from(wall_ns) - i128::from(own);
        if step.abs() >= STEP_NS {
            self.steps.add(Step { index, wall_ns: to_ns, milliseconds: step / 1_000_000 });
        }
        // Logs from before epochs have no heartbeats, and silence says nothing there.
        if entry.epoch > 0 && own > SILENCE_NS {
            self.gaps.add(Gap { index, from_ns: wall_ns, to_ns, down: false });
        }
    }

    fn refused(&mut self, by: &str, row: &Row, count: u64) {
        let code = row.facts.get("code").and_then(|code| code.as_str()).unwrap_or("?");
        let code = match row.actors.first() {
            Some(actor) => format!("{code} ({actor})"),
            None => code.to_owned(),
        };
        let (index, wall_ns) = (row.index, row.wall_ns);
        let new = || Refusals { count: 0, first: index, last: index, until_ns: wall_ns };
        let known = self.refusals.entry((by.to_owned(), code)).or_insert_with(new);
        known.count += count;
        (known.last, known.until_ns) = (index, wall_ns);
    }

    fn usage(&mut self, event: &Event) {
        match event {
            Event::Batch(event) => self.checked(&event.client, &event.lineage, &event.versions),
            Event::Single(event) => {
                event.rows.iter().for_each(|row| self.checked(&row.client, &row.lineage, &row.versions));
            }
            Event::Issued(event) => self.did(&event.client, "licence", "cards", event.cards.len() as u64),
            Event::List(event) => {
                event.keys.iter().for_each(|key| self.did(&event.client, &key.to_string(), "lists", 1));
            }
            Event::Load(event) => {
                self.did(&event.client, &event.key.to_string(), "loads", 1);
                if !event.again {
                    *self.loaded.entry(event.signer.clone()).or_default() += event.amount;
                }
            }
            Event::Script(event) => self.did(&event.client, &event.key.to_string(), "scripts", 1),
            _ => {}
        }
    }

    fn checked(&mut self, client: &str, lineage: &Lineage, rows: &[VersionCounts]) {
        for row in rows {
            let key = KeyId { lineage: lineage.clone(), version: row.version }.to_string();
            let (count, ok) = (row.counts.total(), row.counts.ok);
            let known = self.used.entry((client.to_owned(), key, "checks")).or_default();
            known.count += count;
            known.not_ok += count - ok;
        }
    }

    fn did(&mut self, client: &str, key: &str, deed: &'static str, count: u64) {
        self.used.entry((client.to_owned(), key.to_owned(), deed)).or_default().count += count;
    }

    /// Sums of one deed, by key or by client, most first.
    pub(super) fn sums(&self, deed: &str, by: impl Fn(&Deed) -> &String) -> Vec<(String, u64)> {
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        for (known, used) in self.used.iter().filter(|(known, _)| known.2 == deed) {
            *sums.entry(by(known).clone()).or_default() += used.count;
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(name, count)| (u64::MAX - count, name.clone()));
        sums
    }
}
