//! What a verifier trusts: logs, witnesses, groups of them, and the quorum that a head needs (c2sp.org/tlog-policy).

use std::collections::BTreeSet;

use crate::cosign::cosigned_at;
use crate::note::{NoteError, VerifiedCheckpoint, VerifierKey, WitnessKey, open_checkpoint};

/// Logs, witnesses and groups that a policy may name, each.
const EACH_MAX: usize = 32;

/// A log and where it is published.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct PolicyLog {
    /// Its key; the key's name is the origin.
    pub key: VerifierKey,
    /// Where its files are.
    pub url: Option<String>,
}

/// A witness by its name in the policy.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct PolicyWitness {
    /// Name that groups and the quorum use.
    pub name: String,
    /// Its key; the key's name is what stands in signature lines.
    pub key: WitnessKey,
    /// Prefix of its `add-checkpoint`.
    pub url: Option<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Group {
    name: String,
    needed: usize,
    members: Vec<String>,
}

/// A tlog-policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    quorum: Option<String>,
}

/// Why a text is no policy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line} of the policy: {why}")]
#[allow(clippy::exhaustive_structs)]
pub struct PolicyError {
    /// From 1; the line after the last one for what is missing.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// Why a note does not satisfy a policy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFailure {
    /// No log of the policy has signed it, or a signature that counts is bad.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Too few witnesses.
    #[error(
        "the head is not cosigned by the policy's quorum {quorum}: {} of {of} witnesses cosigned it ({})",
        .by.len(), if .by.is_empty() { "none".to_owned() } else { .by.join(", ") }
    )]
    Quorum {
        /// The quorum's name.
        quorum: String,
        /// Witnesses that did cosign.
        by: Vec<String>,
        /// Witnesses of the policy.
        of: usize,
    },
}

/// A head that satisfies a policy.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Vouched {
    /// The head.
    pub head: VerifiedCheckpoint,
    /// Who cosigned it and when (Unix seconds), in the policy's order.
    pub witnesses: Vec<(String, u64)>,
}

impl Policy {
    /// A policy that trusts one log's key alone.
    pub fn of_log(key: VerifierKey) -> Self {
        let logs = vec![PolicyLog { key, url: None }];
        Self { logs, witnesses: Vec::new(), groups: Vec::new(), quorum: None }
    }

    /// Reads a policy: a statement a line, words apart by spaces or tabs, `#` begins a comment line. No other control
    /// character is allowed.
    ///
    /// # Errors
    /// The first line that is not understood, and why.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut reading = Reading::default();
        for (number, line) in (1..).zip(text.split('\n')) {
            if line.chars().any(|c| c.is_ascii_control() && c != '\t') {
                let why =
                    "control characters (a CR at the end of the line too) may not stand in it".to_owned();
                return Err(PolicyError { line: number, why });
            }
            let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            if words.first().is_none_or(|word| word.starts_with('#')) {
                continue;
            }
            reading.statement(&words).map_err(|why| PolicyError { line: number, why })?;
        }
        let line = text.lines().count() + 1;
        reading.finish().map_err(|why| PolicyError { line, why: why.to_owned() })
    }

    /// The logs.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses.
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Whether heads need cosignatures at all.
    pub fn needs_witnesses(&self) -> bool {
        self.quorum.is_some()
    }

    /// Whether the quorum is met when `has` says who has cosigned.
    pub fn is_met(&self, has: impl Fn(&str) -> bool) -> bool {
        self.quorum.as_ref().is_none_or(|quorum| self.counts(quorum, &has))
    }

    /// Names were defined before they were used, so that this ends.
    fn counts(&self, name: &str, has: &impl Fn(&str) -> bool) -> bool {
        match self.groups.iter().find(|group| group.name == name) {
            Some(group) => {
                let good = group.members.iter().filter(|member| self.counts(member, has)).count();
                good >= group.needed
            }
            None => has(name),
        }
    }

    /// Opens a note as a head that this policy trusts: signed by one of its logs, cosigned by its quorum. One bad line by
    /// a known key sinks it.
    pub fn open(&self, note: &str) -> Result<Vouched, PolicyFailure> {
        let opened = self.open_log(note)?;
        let mut witnesses = Vec::new();
        for witness in &self.witnesses {
            if let Some(time) = cosigned_at(note, &witness.key)? {
                witnesses.push((witness.name.clone(), time));
            }
        }
        if self.is_met(|name| witnesses.iter().any(|(by, _)| by == name)) {
            return Ok(Vouched { head: opened, witnesses });
        }
        let by = witnesses.into_iter().map(|(name, _)| name).collect();
        let (quorum, of) = (self.quorum.clone().unwrap_or_default(), self.witnesses.len());
        Err(PolicyFailure::Quorum { quorum, by, of })
    }

    /// Opens a note under a log's key; witnesses are not looked at.
    pub fn open_log(&self, note: &str) -> Result<VerifiedCheckpoint, NoteError> {
        let mut failure = NoteError::Unsigned;
        for log in &self.logs {
            match open_checkpoint(note, &log.key) {
                Ok(head) => return Ok(head),
                Err(NoteError::Unsigned) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// A policy as far as it was read.
#[derive(Default)]
struct Reading {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    /// Empty for `none`, which is no name.
    quorum: Option<String>,
    grouped: BTreeSet<String>,
}

impl Reading {
    fn statement(&mut self, words: &[&str]) -> Result<(), String> {
        match *words {
            ["log", key] => self.log(key, None),
            ["log", key, url] => self.log(key, Some(url)),
            ["witness", name, key] => self.witness(name, key, None),
            ["witness", name, key, url] => self.witness(name, key, Some(url)),
            ["group", name, needed, ref members @ ..] => self.group(name, needed, members),
            ["quorum", name] => self.quorum(name),
            _ => Err("it is none of: log VKEY [URL], witness NAME VKEY [URL], group NAME all|any|K MEMBER…, quorum NAME|none"
                .to_owned()),
        }
    }

    fn log(&mut self, key: &str, url: Option<&str>) -> Result<(), String> {
        let key = VerifierKey::parse(key).map_err(|error| error.to_string())?;
        room(self.logs.len())?;
        if self.logs.iter().any(|log| log.key.key() == key.key()) {
            return Err("this log's key stands in the policy already".to_owned());
        }
        self.logs.push(PolicyLog { key, url: url.map(str::to_owned) });
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), String> {
        self.new_name(name)?;
        room(self.witnesses.len())?;
        let key = WitnessKey::parse(key).map_err(|_| {
            "the witness's key is not a cosignature vkey (name+id+base64, type 4); ask its operator for the line that `citykeep-witness key` printed".to_owned()
        })?;
        if self.witnesses.iter().any(|witness| witness.key.key() == key.key()) {
            return Err("this key is another witness's already".to_owned());
        }
        self.witnesses.push(PolicyWitness { name: name.to_owned(), key, url: url.map(str::to_owned) });
        Ok(())
    }

    fn group(&mut self, name: &str, needed: &str, members: &[&str]) -> Result<(), String> {
        self.new_name(name)?;
        room(self.groups.len())?;
        for member in members {
            if !self.is_defined(member) {
                return Err(format!("{member} is not defined above"));
            }
            if !self.grouped.insert((*member).to_owned()) {
                return Err(format!("{member} is a member of a group already"));
            }
        }
        let needed = match needed {
            "any" => 1,
            "all" => members.len(),
            number => number.parse().ok().filter(|parsed: &usize| parsed.to_string() == number).unwrap_or(0),
        };
        if !(1..=members.len()).contains(&needed) {
            return Err("a group needs all, any or a number between 1 and that of its members".to_owned());
        }
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        self.groups.push(Group { name: name.to_owned(), needed, members });
        Ok(())
    }

    fn quorum(&mut self, name: &str) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("a policy has one quorum".to_owned());
        }
        if name != "none" && !self.is_defined(name) {
            return Err(format!("{name} is not defined above"));
        }
        self.quorum = Some(if name == "none" { String::new() } else { name.to_owned() });
        Ok(())
    }

    fn new_name(&self, name: &str) -> Result<(), String> {
        if name == "none" || self.is_defined(name) {
            return Err(format!("the name {name} is taken"));
        }
        Ok(())
    }

    fn is_defined(&self, name: &str) -> bool {
        self.witnesses.iter().any(|witness| witness.name == name)
            || self.groups.iter().any(|group| group.name == name)
    }

    fn finish(self) -> Result<Policy, &'static str> {
        let quorum =
            self.quorum.ok_or("there is no quorum line; write `quorum none` for a log without witnesses")?;
        if self.logs.is_empty() {
            return Err("there is no log line");
        }
        let quorum = Some(quorum).filter(|name| !name.is_empty());
        Ok(Policy { logs: self.logs, witnesses: self.witnesses, groups: self.groups, quorum })
    }
}

fn room(count: usize) -> Result<(), String> {
    if count < EACH_MAX { Ok(()) } else { Err(format!("a policy has at most {EACH_MAX} of these")) }
}

#[cfg(test)]
mod tests;
