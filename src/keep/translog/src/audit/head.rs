//! The head that a log publishes, and who signed it.

use std::ops::Deref;

use super::{CHECKPOINT, Finding, finding};
use crate::cosign::cosigned_at;
use crate::epoch::Epochs;
use crate::note::{NoteError, VerifiedCheckpoint, VerifierKey, open_checkpoint, signature_line, split_note};
use crate::policy::Policy;

/// A checkpoint that a log of the policy signed, with the cosignatures of the policy's witnesses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Head {
    checkpoint: VerifiedCheckpoint,
    /// The signature lines are the log's, the epoch's if there is one, and one of each witness; as many as that.
    lines: usize,
    log_first: bool,
    /// Key of the log that signed it.
    pub(super) log: VerifierKey,
    /// Who cosigned it and when, Unix seconds, in the policy's order.
    pub(super) witnesses: Vec<(String, u64)>,
}

impl Deref for Head {
    type Target = VerifiedCheckpoint;

    fn deref(&self) -> &VerifiedCheckpoint {
        &self.checkpoint
    }
}

impl Head {
    /// Opens the note. Whether the quorum is met is another question.
    pub(super) fn open(note: &str, policy: &Policy) -> Result<Self, Finding> {
        Self::read(note, policy).or_else(|error| finding(CHECKPOINT, None, error.to_string()))
    }

    fn read(note: &str, policy: &Policy) -> Result<Self, NoteError> {
        let mut failure = NoteError::Unsigned;
        for log in policy.logs() {
            match open_checkpoint(note, &log.key) {
                Ok(checkpoint) => {
                    let mut witnesses = Vec::new();
                    for witness in policy.witnesses() {
                        let time = cosigned_at(note, &witness.key)?;
                        witnesses.extend(time.map(|time| (witness.name.clone(), time)));
                    }
                    let lines: Vec<&str> = split_note(note).map_or_else(Vec::new, |(_, lines)| lines);
                    let first = lines.first().and_then(|line| signature_line(line));
                    let log_first =
                        first.is_some_and(|(name, id, _)| (name, id) == (log.key.name(), log.key.id()));
                    let lines = lines.len();
                    return Ok(Self { checkpoint, lines, log_first, log: log.key.clone(), witnesses });
                }
                Err(NoteError::Unsigned) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The first line is the log's, the second one that of the epoch that the last entry belongs to, if it belongs to one,
    /// and the others are one of each witness that cosigned.
    pub(super) fn check_lines(&self, epochs: &Epochs) -> Result<(), Finding> {
        let epoch = epochs.signer(self.size);
        let rest = self.beyond_log(epoch.map(|epoch| &epoch.key));
        let rest = rest.or_else(|error| finding(CHECKPOINT, None, error.to_string()))?;
        let known = 1 + usize::from(epoch.is_some()) + self.witnesses.len();
        if self.log_first && self.lines == known && rest.len() == self.witnesses.len() {
            return Ok(());
        }
        let what = "it has a signature by a key that this verification was not given (a witness's has to be named by --policy), or two by one key";
        finding(CHECKPOINT, None, what)
    }

    /// The policy's quorum cosigned it.
    pub(super) fn is_cosigned(&self, policy: &Policy) -> bool {
        policy.is_met(|name| self.witnesses.iter().any(|(by, _)| by == name))
    }

    /// Refuses a head without the policy's quorum.
    pub(super) fn check_quorum(&self, policy: &Policy) -> Result<(), Finding> {
        if self.is_cosigned(policy) {
            return Ok(());
        }
        let names: Vec<&str> = self.witnesses.iter().map(|(name, _)| name.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let (of, by) = (policy.witnesses().len(), self.witnesses.len());
        let what = format!("it is not cosigned by the policy's quorum: {by} of {of} witnesses did ({names})");
        finding(CHECKPOINT, None, what)
    }
}
