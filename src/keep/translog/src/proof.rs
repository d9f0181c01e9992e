//! One entry, its place and the way to a signed head: c2sp.org/tlog-proof@v1.

use base64ct::{Base64, Encoding as _};

use crate::note::{NoteError, VerifiedCheckpoint, VerifierKey, open_checkpoint};
use crate::tree::{Hash, leaf_hash, verify_inclusion};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// No tree needs a longer path.
const PATH_MAX: usize = 63;

/// Proof that an entry is in a log. Carries everything but the entry and the log's key.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct TlogProof {
    /// Leaf index.
    pub index: u64,
    /// Inclusion path, from the leaf's sibling upward.
    pub path: Vec<Hash>,
    /// Checkpoint as a signed note.
    pub checkpoint: String,
}

/// Why a proof does not show what it should.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Not a tlog-proof.
    #[error("the proof is not a c2sp.org/tlog-proof@v1; fetch it again")]
    Malformed,
    /// The entry is not the one at this place of the log.
    #[error("the proof does not lead from this entry to the signed root: the entry or the proof was changed")]
    NotIncluded,
    /// The checkpoint does not open.
    #[error(transparent)]
    Note(#[from] NoteError),
}

impl TlogProof {
    /// The proof's text form.
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\nindex {}\n", self.index);
        for hash in &self.path {
            text.push_str(&Base64::encode_string(hash));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads the text form. An `extra` line, which nothing authenticates, is left aside.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        Self::read(text).ok_or(ProofError::Malformed)
    }

    fn read(text: &str) -> Option<Self> {
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        (lines.next()? == FIRST_LINE).then_some(())?;
        let mut line = lines.next()?;
        if let Some(extra) = line.strip_prefix("extra ") {
            Base64::decode_vec(extra).ok()?;
            line = lines.next()?;
        }
        let digits = line.strip_prefix("index ")?;
        let index: u64 = digits.parse().ok()?;
        (index.to_string() == digits).then_some(())?;
        let path = lines.map(path_line).collect::<Option<Vec<Hash>>>()?;
        (path.len() <= PATH_MAX).then(|| Self { index, path, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that `entry` is the one at the proof's index in the log with this key.
    pub fn verify(&self, key: &VerifierKey, entry: &[u8]) -> Result<VerifiedCheckpoint, ProofError> {
        let head = open_checkpoint(&self.checkpoint, key)?;
        if verify_inclusion(&leaf_hash(entry), self.index, head.size, &self.path, &head.root) {
            Ok(head)
        } else {
            Err(ProofError::NotIncluded)
        }
    }
}

fn path_line(line: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    let decoded = Base64::decode(line, &mut hash).ok()?.len();
    (decoded == hash.len()).then_some(hash)
}
