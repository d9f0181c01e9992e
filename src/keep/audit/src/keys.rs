//! `audit keys`

use std::collections::BTreeMap;

use serde_json::json;
use translog::audit::Watch;
use translog::entry::{Entry, Event};
use translog::state::LogState;
use wire::key::KeyState;
use wire::purse::to_hex;

use crate::cli::Keys;
use crate::failure::{Failure, Said};
use crate::place;
use crate::row::{Row, instant};

pub(crate) fn run(arguments: &Keys) -> Result<Said, Failure> {
    let mut table =
        Table { at: arguments.at, touched: BTreeMap::new(), keys: Vec::new(), index: 0, wall_ns: 0 };
    let (verifier, log) = place::verified(&arguments.which, &mut table)?;
    if let Some(at) = arguments.at.filter(|at| *at >= log.size) {
        return Err(Failure::untried(format!("the log has {} entries and no entry {at}", log.size)));
    }
    if arguments.at.is_none() {
        table.read(verifier.state());
    }
    let (index, time) = (table.index, instant(table.wall_ns));
    let mut lines = vec![format!("第 {index} 条之后 after entry {index}, {time}:")];
    lines.extend(table.keys.iter().map(|key| {
        let Key { id, state, algorithm, kcv, by, .. } = key;
        let (made, changed) = (key.made, key.changed);
        format!("{id:32} {state:12} {algorithm:5} KCV {kcv}  made by entry {made}, last changed by {changed}  {by}")
    }));
    let objects = table.keys.iter().map(|key| {
        json!({
            "key": key.id, "state": key.state.to_string(), "algorithm": key.algorithm, "kcv": key.kcv,
            "made": key.made, "changed": key.changed, "changed_by": key.by,
        })
    });
    let keys: Vec<_> = objects.collect();
    Ok(Said {
        lines,
        json: json!({"ok": true, "origin": log.origin, "index": index, "time": time, "keys": keys}),
    })
}

struct Key {
    id: String,
    state: KeyState,
    algorithm: String,
    kcv: String,
    made: u64,
    changed: u64,
    by: String,
}

/// Which entries made and changed a key, and who approved the last of them.
#[derive(Clone, Default)]
struct Touched {
    made: u64,
    changed: u64,
    by: String,
}

struct Table {
    at: Option<u64>,
    touched: BTreeMap<String, Touched>,
    keys: Vec<Key>,
    index: u64,
    wall_ns: u64,
}

impl Watch for Table {
    fn entry(&mut self, state: &LogState, entry: &Entry) {
        if self.at.is_some_and(|at| entry.seq > at) {
            return;
        }
        (self.index, self.wall_ns) = (entry.seq, entry.wall_ns);
        if let Event::Command(event) = &entry.event {
            let row = Row::of(entry);
            let changes = row.facts.get("action").is_some_and(|action| action == "set-key-state");
            if changes || event.made.is_some() {
                for key in &row.keys {
                    let touched = self.touched.entry(key.clone()).or_default();
                    touched.changed = entry.seq;
                    touched.by = row.actors.join(",");
                    if event.made.is_some() {
                        touched.made = entry.seq;
                    }
                }
            }
        }
        if self.at == Some(entry.seq) {
            self.read(state);
        }
    }
}

impl Table {
    fn read(&mut self, state: &LogState) {
        let keys = state.keys().map(|(id, key)| {
            let touched = self.touched.get(&id.to_string()).cloned().unwrap_or_default();
            let attributes = &key.made.attributes;
            Key {
                id: id.to_string(),
                state: key.state,
                algorithm: attributes.algorithm.to_string(),
                kcv: to_hex(&attributes.kcv),
                made: touched.made,
                changed: touched.changed,
                by: touched.by,
            }
        });
        self.keys = keys.collect();
    }
}
