//! Witnesses: a cosignature says when a head was the largest consistent one of its log that the witness had seen
//! (c2sp.org/tlog-cosignature, v1), and `add-checkpoint` is how a log asks for one (c2sp.org/tlog-witness).

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::note::{
    Checkpoint, NoteError, VerifiedCheckpoint, VerifierKey, WitnessKey, open_checkpoint, signature_line,
    signature_text, split_note,
};
use crate::tree::{Hash, empty_root, verify_consistency};

/// No consistency proof is longer.
const PROOF_MAX: usize = 63;

/// The latest time of a cosignature (c2sp.org/tlog-cosignature).
const TIME_MAX: u64 = i64::MAX.unsigned_abs();

/// What a witness signs: its time, Unix seconds, and the checkpoint's whole text.
fn message(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// The signature line, with its LF, of the witness `name` for a head at `time` (Unix seconds).
pub fn cosign(checkpoint: &Checkpoint, name: &str, key: &SigningKey, time: u64) -> String {
    let witness = WitnessKey::new(name, key.verifying_key().to_bytes());
    let signature = key.sign(message(time, &checkpoint.to_text()).as_bytes()).to_bytes();
    signature_text(name, witness.id(), &[time.to_be_bytes().as_slice(), &signature].concat())
}

/// When this witness cosigned the note, Unix seconds: the latest, if it did so more than once. `None` without a line of it;
/// one bad line of it is an error, whatever else is there. The log's own signature is not looked at.
pub fn cosigned_at(note: &str, witness: &WitnessKey) -> Result<Option<u64>, NoteError> {
    Ok(cosignature(note, witness)?.map(|(time, _)| time))
}

/// The same, with the one line that says so: LF at its end, and nothing of what else stands under the witness's name.
pub fn cosignature(note: &str, witness: &WitnessKey) -> Result<Option<(u64, String)>, NoteError> {
    let (text, lines) = split_note(note).ok_or(NoteError::Malformed)?;
    let mut newest = None;
    for line in lines {
        let (name, id, signature) = signature_line(line).ok_or(NoteError::Malformed)?;
        if name != witness.name() || id != witness.id() {
            continue;
        }
        let Some((time, signature)) = signature.split_first_chunk::<8>() else {
            return Err(NoteError::BadSignature);
        };
        let time = u64::from_be_bytes(*time);
        if time > TIME_MAX || !witness.verifies(message(time, text).as_bytes(), signature) {
            return Err(NoteError::BadSignature);
        }
        newest = newest.max(Some((time, line)));
    }
    Ok(newest.map(|(time, line)| (time, format!("{line}\n"))))
}

/// Body of `POST …/add-checkpoint`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct AddCheckpoint {
    /// Size of the head that the witness has, as the log believes; 0 for none.
    pub old: u64,
    /// Consistency proof from there.
    pub proof: Vec<Hash>,
    /// The new head as a signed note.
    pub checkpoint: String,
}

impl AddCheckpoint {
    /// `old SIZE`, the proof's hashes in base64, a line each, an empty line, the note.
    pub fn to_text(&self) -> String {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            text.push_str(&Base64::encode_string(hash));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads the body; `None` if it is no such request.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let digits = lines.next()?.strip_prefix("old ")?;
        let old: u64 = digits.parse().ok()?;
        (old.to_string() == digits).then_some(())?;
        let proof = lines.map(hash_line).collect::<Option<Vec<Hash>>>()?;
        (proof.len() <= PROOF_MAX).then(|| Self { old, proof, checkpoint: checkpoint.to_owned() })
    }
}

fn hash_line(line: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    let decoded = Base64::decode(line, &mut hash).ok()?.len();
    (decoded == hash.len()).then_some(hash)
}

/// Why a witness does not cosign; [`Refusal::status`] is the HTTP status of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a request.
    #[error("this is no add-checkpoint request; see c2sp.org/tlog-witness")]
    Malformed,
    /// A log that this witness does not watch.
    #[error("this witness does not know the log; its operator starts it with the log's vkey")]
    UnknownOrigin,
    /// No signature by the log's key, or a bad one.
    #[error("the checkpoint has no good signature by the log's key")]
    Unsigned,
    /// The log believes that this witness has another head than it has. Holds the witness's size.
    #[error("this witness's newest head of the log is of size {0}; start the proof there")]
    Conflict(u64),
    /// The new head is smaller than the old one.
    #[error("the old size is above the new one: a log does not shrink")]
    Shrinks,
    /// The proof does not lead from one head to the other: a fork, or a wrong proof.
    #[error(
        "the proof does not lead from the witness's head to this one: the log forked, or the proof is wrong"
    )]
    Inconsistent,
}

impl Refusal {
    /// HTTP status (c2sp.org/tlog-witness).
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::Shrinks => 400,
            Self::Unsigned => 403,
            Self::UnknownOrigin => 404,
            Self::Conflict(_) => 409,
            Self::Inconsistent => 422,
        }
    }
}

/// A witness's whole decision: `seen` is its newest head of this log. What is `Ok` MUST be durable before it is cosigned.
pub fn judge(
    request: &AddCheckpoint,
    log: &VerifierKey,
    seen: Option<&Checkpoint>,
) -> Result<VerifiedCheckpoint, Refusal> {
    let head = open_checkpoint(&request.checkpoint, log).map_err(|error| match error {
        NoteError::BadSignature | NoteError::Unsigned | NoteError::Origin => Refusal::Unsigned,
        _ => Refusal::Malformed,
    })?;
    if request.old > head.size {
        return Err(Refusal::Shrinks);
    }
    let (size, root) = seen.map_or_else(|| (0, empty_root()), |seen| (seen.size, seen.root));
    if request.old != size {
        return Err(Refusal::Conflict(size));
    }
    let consistent = verify_consistency(size, head.size, &root, &head.root, &request.proof);
    if consistent { Ok(head) } else { Err(Refusal::Inconsistent) }
}

#[cfg(test)]
mod tests;
