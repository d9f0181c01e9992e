//! An entry as people and collectors see it: who, what, with which key, how it ended. The entry itself stays what is hashed.

mod command;
mod event;
mod upkeep;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use translog::entry::Entry;
use wire::purse::to_hex;

use crate::cli::Filter;

/// How something ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Done,
    /// Refused, broken off, or found wrong.
    Refused,
}

impl Outcome {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) index: u64,
    pub(crate) wall_ns: u64,
    pub(crate) kind: &'static str,
    /// Officers, custodians or clients; the one who proposed or asked comes first.
    pub(crate) actors: Vec<String>,
    /// Key versions, or lineages where no version is named.
    pub(crate) keys: Vec<String>,
    pub(crate) outcome: Outcome,
    /// Chinese, then English.
    pub(crate) words: (String, String),
    /// Everything else that the entry says, for programs.
    pub(crate) facts: Map<String, Value>,
    pub(crate) node: String,
    pub(crate) boot: String,
    pub(crate) epoch: u64,
}

impl Row {
    /// What the entry says.
    pub(crate) fn of(entry: &Entry) -> Self {
        let mut row = Self {
            index: entry.seq,
            wall_ns: entry.wall_ns,
            kind: entry.event.kind(),
            actors: Vec::new(),
            keys: Vec::new(),
            outcome: Outcome::Done,
            words: (String::new(), String::new()),
            facts: Map::new(),
            node: to_hex(&entry.node),
            boot: to_hex(&entry.boot),
            epoch: entry.epoch,
        };
        row.read(&entry.event);
        row
    }

    pub(crate) fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    pub(crate) fn say(&mut self, chinese: impl Into<String>, english: impl Into<String>) {
        self.words = (chinese.into(), english.into());
    }

    /// UTC, to the millisecond.
    pub(crate) fn time(&self) -> String {
        instant(self.wall_ns)
    }

    /// Everything as JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "index": self.index,
            "time": self.time(),
            "kind": self.kind,
            "actors": self.actors,
            "keys": self.keys,
            "outcome": self.outcome.name(),
            "zh": self.words.0,
            "en": self.words.1,
            "node": self.node,
            "boot": self.boot,
            "epoch": self.epoch,
            "event": self.facts,
        })
    }

    /// Whether all conditions hold.
    pub(crate) fn fits(&self, filter: &Filter) -> bool {
        let part = |whole: &[String], wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| whole.iter().any(|name| name.contains(wanted.as_str())))
        };
        part(&self.actors, &filter.actor)
            && part(&self.keys, &filter.of_key)
            && (filter.kind.is_empty() || filter.kind.iter().any(|kind| kind == self.kind))
            && filter.from.is_none_or(|from| self.wall_ns >= from)
            && filter.until.is_none_or(|until| self.wall_ns < until)
    }
}

/// Nanoseconds since 1970 as RFC 3339, to the millisecond.
pub(crate) fn instant(wall_ns: u64) -> String {
    let milliseconds = i128::from(wall_ns / 1_000_000) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(milliseconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{wall_ns} ns"))
}

/// A date or a time on the command line, as nanoseconds since 1970.
pub(crate) fn moment(text: &str) -> Result<u64, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339).or_else(|_| {
        // A date alone is its first moment.
        OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339)
    });
    time.ok()
        .and_then(|time| u64::try_from(time.unix_timestamp_nanos()).ok())
        .ok_or_else(|| "give a date (2026-01-31) or a time (2026-01-31T08:00:00Z)".to_owned())
}

/// The day, UTC, of nanoseconds since 1970.
pub(crate) fn day(wall_ns: u64) -> String {
    instant(wall_ns).get(..10).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(moment("1970-01-02"), Ok(86_400_000_000_000));
        assert_eq!(moment("1970-01-01T08:00:01+08:00"), Ok(1_000_000_000));
        assert!(moment("yesterday").is_err() && moment("1969-12-31").is_err());
        assert_eq!(instant(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123Z");
        assert_eq!(instant(0), "1970-01-01T00:00:00Z");
        assert_eq!(day(86_400_000_000_000), "1970-01-02");
    }
}
