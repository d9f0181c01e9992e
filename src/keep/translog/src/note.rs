//! Checkpoints as C2SP signed notes, and the verifier key that opens them.

use std::fmt;
use std::ops::Deref;

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::tree::Hash;

/// What a signature line starts with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// Signature lines of one note at most.
const SIGNATURES_MAX: usize = 100;

/// A note longer than this is not one of a log.
const NOTE_MAX: usize = 1 << 20;

/// An Ed25519 public key under a name; `KIND` is the signature type that the key id is made with, so that keys for
/// different kinds of signature never stand in for each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedKey<const KIND: u8> {
    name: String,
    key: [u8; 32],
}

/// The public half of a log key, under the log's name.
pub type VerifierKey = NamedKey<1>;

/// The public half of a witness's key: it signs cosignatures (c2sp.org/tlog-cosignature, v1).
pub type WitnessKey = NamedKey<4>;

impl<const KIND: u8> NamedKey<KIND> {
    /// The key that is called `name`. Whether the bytes are a point of the curve shows when a note is opened.
    pub fn new(name: &str, key: [u8; 32]) -> Self {
        Self { name: name.to_owned(), key }
    }

    /// Reads a vkey line, `name+id+base64`; one LF at its end is left aside.
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let mut parts = line.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::VerifierKey);
        };
        let bytes = Base64::decode_vec(key).map_err(|_| NoteError::VerifierKey)?;
        let key = match bytes.split_first() {
            Some((&kind, key)) if kind == KIND => key.try_into().map_err(|_| NoteError::VerifierKey)?,
            _ => return Err(NoteError::VerifierKey),
        };
        let vkey = Self::new(name, key);
        let sound = is_key_name(name) && vkey.to_string() == line && vkey.is_sound() && id.len() == 8;
        sound.then_some(vkey).ok_or(NoteError::VerifierKey)
    }

    /// The key's name; a log's is its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Ed25519 public key.
    pub fn key(&self) -> [u8; 32] {
        self.key
    }

    /// First 4 bytes of SHA-256(name ‖ LF ‖ type ‖ key): a label, not a security hash.
    pub(crate) fn id(&self) -> [u8; 4] {
        let mut hash = Sha256::new();
        hash.update(&self.name);
        hash.update([b'\n', KIND]);
        hash.update(self.key);
        let [a, b, c, d, ..]: Hash = hash.finalize().into();
        [a, b, c, d]
    }

    /// Whether the key is a point that signatures can be checked with.
    pub(crate) fn is_sound(&self) -> bool {
        self.point().is_some()
    }

    fn point(&self) -> Option<VerifyingKey> {
        VerifyingKey::from_bytes(&self.key).ok().filter(|point| !point.is_weak())
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = Signature::from_slice(signature);
        self.point().is_some_and(|point| {
            signature.is_ok_and(|signature| point.verify_strict(message, &signature).is_ok())
        })
    }
}

impl<const KIND: u8> fmt::Display for NamedKey<KIND> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id());
        let key = Base64::encode_string(&[&[KIND], self.key.as_slice()].concat());
        write!(f, "{}+{id:08x}+{key}", self.name)
    }
}

/// A head of a log: how long it is and the root over it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Checkpoint {
    /// The log.
    pub origin: String,
    /// Its entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The note's text: origin, size, root, a line each.
    pub fn to_text(&self) -> String {
        let root = Base64::encode_string(&self.root);
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    /// Reads what [`Self::to_text`] writes and nothing else: extension lines are refused, this log never has any.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let mut hash = Hash::default();
        if Base64::decode(root, &mut hash).ok()?.len() != hash.len() {
            return None;
        }
        let checkpoint = Self {
            origin: origin.to_owned(),
            size: size.parse().ok().filter(|size| *size < 1 << 63)?,
            root: hash,
        };
        (is_key_name(origin) && checkpoint.to_text() == text).then_some(checkpoint)
    }
}

/// One signature line of a note.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct SignatureLine {
    /// Key name.
    pub name: String,
    /// Key id.
    pub id: [u8; 4],
    /// What follows the id.
    pub signature: Vec<u8>,
}

/// A checkpoint whose signature was checked: the only way to one is [`open_checkpoint`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedCheckpoint {
    checkpoint: Checkpoint,
    own: SignatureLine,
    others: Vec<SignatureLine>,
}

impl VerifiedCheckpoint {
    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Signature lines by other keys, which were not checked.
    pub fn unknown_signatures(&self) -> usize {
        self.others.len()
    }

    /// The note with the log's lines alone: the log key's, and the next one if it has the log's name, as that of an epoch has.
    /// What others added is gone; whether that next line is good shows [`Self::beyond_log`].
    pub fn log_note(&self) -> String {
        let of_epoch = self.others.first().filter(|line| line.name == self.own.name);
        let lines = std::iter::once(&self.own).chain(of_epoch);
        let lines = lines.map(|line| signature_text(&line.name, line.id, &line.signature));
        format!("{}\n{}", self.checkpoint.to_text(), lines.collect::<String>())
    }

    /// The lines behind those of the log: `epoch_key` must be the key of the epoch that the head's last entry belongs to
    /// ([`crate::epoch::Epochs::signer`]), and its signature, the first line after the log key's, must be good. What is left
    /// is not checked; witnesses' lines are.
    pub fn beyond_log(&self, epoch_key: Option<&[u8; 32]>) -> Result<&[SignatureLine], NoteError> {
        let Some(key) = epoch_key else {
            return Ok(&self.others);
        };
        let key = VerifierKey::new(&self.checkpoint.origin, *key);
        match self.others.split_first() {
            Some((line, rest)) if line.name == key.name() && line.id == key.id() => {
                let good = key.verifies(self.checkpoint.to_text().as_bytes(), &line.signature);
                if good { Ok(rest) } else { Err(NoteError::BadSignature) }
            }
            _ => Err(NoteError::Epoch),
        }
    }
}

impl Deref for VerifiedCheckpoint {
    type Target = Checkpoint;

    fn deref(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

/// Why a note is not a checkpoint of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// A signature by the log's key that does not fit the text.
    #[error(
        "the log key's signature does not fit the checkpoint: the checkpoint was changed, or made by another key"
    )]
    BadSignature,
    /// Not signed by the key of the last entry's epoch.
    #[error(
        "the checkpoint is not signed by the key of the epoch that its last entry belongs to: it was sealed later, or by somebody else"
    )]
    Epoch,
    /// Not a signed note.
    #[error("the checkpoint is not a signed note (C2SP signed-note); fetch it again")]
    Malformed,
    /// Not origin, size and root.
    #[error("the note's text is not origin, size and root of a log; fetch the checkpoint again")]
    NoCheckpoint,
    /// The checkpoint names another log than its key.
    #[error("the checkpoint is of another log than the verifier key; use the vkey of that log")]
    Origin,
    /// No signature by the key.
    #[error("the checkpoint has no signature by the given verifier key; use the vkey of this log")]
    Unsigned,
    /// Not a verifier key.
    #[error(
        "the verifier key is not an Ed25519 vkey line (name+id+base64); copy it again from the log's vkey file"
    )]
    VerifierKey,
}

/// Signs a checkpoint as a note; the key's name is the origin.
pub fn sign_checkpoint(checkpoint: &Checkpoint, key: &SigningKey) -> String {
    let text = checkpoint.to_text();
    let line = signed_line(checkpoint, &text, key);
    format!("{text}\n{line}")
}

/// Signs a checkpoint as a note with two lines: by the log key, then by the key of the present epoch. Both keys' name is the
/// origin.
pub fn sign_head(checkpoint: &Checkpoint, log: &SigningKey, epoch: &SigningKey) -> String {
    let line = signed_line(checkpoint, &checkpoint.to_text(), epoch);
    sign_checkpoint(checkpoint, log) + &line
}

fn signed_line(checkpoint: &Checkpoint, text: &str, key: &SigningKey) -> String {
    let id = VerifierKey::new(&checkpoint.origin, key.verifying_key().to_bytes()).id();
    signature_text(&checkpoint.origin, id, &key.sign(text.as_bytes()).to_bytes())
}

/// One signature line with its LF: `— NAME BASE64(id ‖ signature)`.
pub(crate) fn signature_text(name: &str, id: [u8; 4], signature: &[u8]) -> String {
    let encoded = Base64::encode_string(&[id.as_slice(), signature].concat());
    format!("{DASH}{name} {encoded}\n")
}

/// Opens a signed note as a checkpoint of the log with this key. Signature lines by other keys are ignored; one bad
/// signature by this key sinks the note, and so does the lack of a good one.
pub fn open_checkpoint(note: &str, key: &VerifierKey) -> Result<VerifiedCheckpoint, NoteError> {
    let (text, lines) = split_note(note).ok_or(NoteError::Malformed)?;
    let (mut own, mut others) = (None, Vec::new());
    for line in lines {
        let (name, id, signature) = signature_line(line).ok_or(NoteError::Malformed)?;
        let is_own = name == key.name() && id == key.id();
        if is_own && !key.verifies(text.as_bytes(), &signature) {
            return Err(NoteError::BadSignature);
        }
        let line = SignatureLine { name: name.to_owned(), id, signature };
        if is_own {
            own = Some(line);
        } else {
            others.push(line);
        }
    }
    let own = own.ok_or(NoteError::Unsigned)?;
    let checkpoint = Checkpoint::parse(text).ok_or(NoteError::NoCheckpoint)?;
    if checkpoint.origin != key.name() {
        return Err(NoteError::Origin);
    }
    Ok(VerifiedCheckpoint { checkpoint, own, others })
}

/// What a note says, with nothing checked but its form: for the log's own writer, whose module checks the signature.
#[cfg(feature = "fs")]
pub(crate) fn unverified(note: &str) -> Option<Checkpoint> {
    let (text, _) = split_note(note)?;
    Checkpoint::parse(text)
}

/// The text with its final LF, and the signature lines; the boundary is the last empty line.
pub(crate) fn split_note(note: &str) -> Option<(&str, Vec<&str>)> {
    let control = |byte: u8| byte < 0x20 && byte != b'\n';
    if note.len() > NOTE_MAX || note.bytes().any(control) {
        return None;
    }
    let boundary = note.rfind("\n\n")?;
    let (text, rest) = note.split_at_checked(boundary + 1)?;
    let lines: Vec<&str> = rest.strip_prefix('\n')?.strip_suffix('\n')?.split('\n').collect();
    (lines.len() <= SIGNATURES_MAX).then_some((text, lines))
}

pub(crate) fn signature_line(line: &str) -> Option<(&str, [u8; 4], Vec<u8>)> {
    let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
    let bytes = Base64::decode_vec(encoded).ok()?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    (is_key_name(name) && !signature.is_empty()).then(|| (name, *id, signature.to_vec()))
}

/// Non-empty, no white space, no plus sign.
pub(crate) fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}
