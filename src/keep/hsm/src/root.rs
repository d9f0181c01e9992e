//! The root key: what is derived from it, its shares, and the sealed record (SPEC.md §Sealed record, §Shares).

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Tag};
use hmac::{Hmac, Mac};
use securemem::{AllocError, Arena, Secret};
use sha2::{Digest as _, Sha256};
use wire::cbor::{Bytes, Cbor};
use wire::command::{Digest, Id};
use wire::error::{Refusal, Refused};
use wire::key::{KeyAttributes, KeyId};
use wire::share::ROOT_LEN;
use zeroize::Zeroize;

use crate::random::Random;

/// Bytes of a card-system master key.
pub(crate) const KEY_LEN: usize = 16;

const TAG_LEN: usize = 16;
const NONCE: [u8; 12] = [0; 12];

wire::cbor_struct! {
    /// What is readable of a sealed record, and bound to its ciphertext as associated data.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct RecordHeader {
        /// Format, 1.
        0 => format: u64,
        /// Suite, 1 = AES-256-GCM and HKDF-SHA-256.
        1 => suite: u64,
        /// Service.
        2 => instance: Id,
        /// Wall whose key seals it.
        3 => wall: String,
        /// Name of the key version.
        4 => id: KeyId,
        /// Attributes.
        5 => attributes: KeyAttributes,
        /// Place among all records that the instance ever made.
        6 => sequence: u64,
        /// Salt of the record's own key.
        7 => salt: [u8; 32],
        /// Epoch of the sealing root.
        8 => sealing_epoch: u64,
    }
}

wire::cbor_struct! {
    /// A key version outside the module.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SealedRecord {
        /// Canonical [`RecordHeader`] bytes.
        0 => header: Bytes,
        /// The key bytes (16, of a signing key 32) under AES-256-GCM, and the tag.
        1 => ciphertext: Bytes,
    }
}

/// The root key of one instance and what hangs on it.
pub(crate) struct Root {
    key: Secret,
    instance: Id,
    /// HMAC key of card tags, pair tags and key fingerprints.
    tags: Secret,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root").finish_non_exhaustive()
    }
}

/// Why secret memory was not filled.
pub(crate) fn no_memory(error: AllocError<Refused>) -> Refused {
    match error {
        AllocError::Fill(refused) => refused,
        AllocError::Full => full(()),
    }
}

pub(crate) fn full<E>(_: E) -> Refused {
    Refused::new(Refusal::Busy, "the module's secret memory is full")
}

fn no_key() -> Refused {
    Refused::new(Refusal::Fault, "a key could not be derived; restart the module")
}

impl Root {
    /// Takes the root key of `instance`.
    pub(crate) fn new(arena: &Arena, key: Secret, instance: Id) -> Result<Self, Refused> {
        let tags = derive(arena, &key, None, &[b"tags", &instance])?;
        Ok(Self { key, instance, tags })
    }

    /// A fresh root key.
    pub(crate) fn generate(arena: &Arena, random: &Random, instance: Id) -> Result<Self, Refused> {
        let key = arena.alloc(ROOT_LEN, |bytes| random.fill(bytes)).map_err(no_memory)?;
        Self::new(arena, key, instance)
    }

    /// Wipes the root; whatever asks it for something afterwards is refused before it gets here.
    pub(crate) fn wipe(&mut self) {
        self.key.with_mut(|key| key.fill(0));
        self.tags.with_mut(|key| key.fill(0));
    }

    /// The service whose root it is.
    pub(crate) fn instance(&self) -> Id {
        self.instance
    }

    /// The MAC that makes a share certificate this root's own.
    pub(crate) fn certificate_mac(&self, arena: &Arena, set: &[u8]) -> Result<Digest, Refused> {
        let key = derive(arena, &self.key, None, &[b"share set"])?;
        Ok(key.with(|key| mac(key, &[set])))
    }

    /// Seed of the Ed25519 log key of module `node`.
    pub(crate) fn log_seed(&self, arena: &Arena, node: &Id) -> Result<Secret, Refused> {
        derive(arena, &self.key, None, &[b"log key", &self.instance, node])
    }

    /// Tag of a card inside a wall: 8 bytes that tell nothing to who has no root.
    pub(crate) fn card_tag(&self, wall: &str, issuer: &[u8; 8], card: &[u8; 8]) -> [u8; 8] {
        self.tag(&[b"card", wall.as_bytes(), issuer, card])
    }

    /// Tag of the electronic deposit on the card with this tag.
    pub(crate) fn deposit_tag(&self, card: &[u8; 8]) -> [u8; 8] {
        self.tag(&[b"deposit", card])
    }

    /// Tag of one (input, TAC) pair.
    pub(crate) fn pair_tag(
        &self,
        key: &KeyId,
        card: &[u8; 8],
        issuer: &[u8; 8],
        data: &[u8],
        tac: &[u8; 4],
    ) -> [u8; 8] {
        self.tag(&[b"pair", key.to_string().as_bytes(), issuer, card, data, tac])
    }

    /// Tag of one (question, MAC1) pair of a load.
    pub(crate) fn mac1_tag(&self, key: &KeyId, question: &Id, mac1: &[u8; 4]) -> [u8; 8] {
        self.tag(&[b"mac1", key.to_string().as_bytes(), question, mac1])
    }

    fn tag(&self, parts: &[&[u8]]) -> [u8; 8] {
        let mac = self.tags.with(|key| mac(key, parts));
        mac.first_chunk().copied().unwrap_or_default()
    }

    /// Fingerprint of key bytes: equal for equal keys under any name and algorithm. DES ignores the low bit of each
    /// byte, so it does not count in a 16-byte key.
    pub(crate) fn fingerprint(&self, key: &[u8]) -> Id {
        let mut effective = key.to_vec();
        if key.len() == KEY_LEN {
            effective.iter_mut().for_each(|byte| *byte &= 0xfe);
        }
        let mac = self.tags.with(|tags| mac(tags, &[b"fingerprint", &effective]));
        effective.zeroize();
        mac.first_chunk().copied().unwrap_or_default()
    }

    /// Seals a key version.
    pub(crate) fn seal(
        &self,
        arena: &Arena,
        random: &Random,
        attributes: &KeyAttributes,
        sequence: u64,
        key: &Secret,
    ) -> Result<Vec<u8>, Refused> {
        let header = RecordHeader {
            format: 1,
            suite: 1,
            instance: self.instance,
            wall: attributes.lineage.wall().to_owned(),
            id: attributes.id(),
            attributes: attributes.clone(),
            sequence,
            salt: random.array()?,
            sealing_epoch: 1,
        };
        let record_key = self.record_key(arena, &header)?;
        let header = header.to_cbor();
        let mut ciphertext = key.with(<[u8]>::to_vec);
        let sealed = record_key.with(|record_key| {
            let cipher = Aes256Gcm::new_from_slice(record_key).map_err(|_| no_key())?;
            cipher
                .encrypt_inout_detached(&NONCE.into(), &header, ciphertext.as_mut_slice().into())
                .map_err(|_| no_key())
        });
        match sealed {
            Ok(tag) => ciphertext.extend(tag),
            Err(refused) => {
                ciphertext.zeroize();
                return Err(refused);
            }
        }
        Ok(SealedRecord { header: Bytes(header), ciphertext: Bytes(ciphertext) }.to_cbor())
    }

    /// Opens a sealed record into secret memory.
    pub(crate) fn open(&self, arena: &Arena, record: &[u8]) -> Result<(RecordHeader, Secret), Refused> {
        let damaged = || {
            Refused::new(
                Refusal::RecordDamaged,
                "a sealed record does not open: restore it from the snapshot",
            )
        };
        let record = SealedRecord::from_cbor(record).map_err(|_| damaged())?;
        let header = RecordHeader::from_cbor(&record.header).map_err(|_| damaged())?;
        if (header.format, header.suite, header.sealing_epoch) != (1, 1, 1)
            || header.instance != self.instance
            || header.id != header.attributes.id()
            || header.wall != header.id.lineage.wall()
        {
            return Err(damaged());
        }
        let key_len = crate::held::key_len(header.attributes.algorithm);
        let (body, tag) = record.ciphertext.split_at_checked(key_len).ok_or_else(damaged)?;
        let tag: [u8; TAG_LEN] = tag.try_into().map_err(|_| damaged())?;
        let record_key = self.record_key(arena, &header)?;
        let key = arena.alloc(key_len, |bytes| {
            bytes.copy_from_slice(body);
            record_key.with(|record_key| {
                let cipher = Aes256Gcm::new_from_slice(record_key).map_err(|_| damaged())?;
                let tag = Tag::from(tag);
                let opened = cipher.decrypt_inout_detached(&NONCE.into(), &record.header, bytes.into(), &tag);
                opened.map_err(|_| damaged())
            })
        });
        key.map(|key| (header, key)).map_err(no_memory)
    }

    /// Each record has its own key, so no nonce is ever used twice, not even by a cloned module.
    fn record_key(&self, arena: &Arena, header: &RecordHeader) -> Result<Secret, Refused> {
        let wall = derive(arena, &self.key, None, &[b"wall key", &self.instance, header.wall.as_bytes()])?;
        derive(arena, &wall, Some(&header.salt), &[b"record key"])
    }

    /// Splits the root into `count` shares, `threshold` of which open it, and gives each to `take` (index from 1).
    pub(crate) fn split(
        &self,
        random: &Random,
        threshold: usize,
        count: usize,
        mut take: impl FnMut(u64, &[u8; ROOT_LEN]) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        // The seed of the coefficients comes from the watched source; vsss-rs asks for an infallible one.
        let split = self.key.with(|key| vsss_rs::Gf256::split_bytes(threshold, count, key, Watched(random)));
        let mut shares =
            split.map_err(|_| Refused::new(Refusal::BadSet, "the root cannot be split in this way"))?;
        let mut outcome = Ok(());
        for share in &shares {
            if let (Some((index, value)), Ok(())) = (share.split_first(), &outcome) {
                outcome = match <&[u8; ROOT_LEN]>::try_from(value) {
                    Ok(value) => take(u64::from(*index), value),
                    Err(_) => Err(no_key()),
                };
            }
        }
        shares.iter_mut().for_each(Zeroize::zeroize);
        if random.has_failed() { Err(no_key()) } else { outcome }
    }

    /// Whether this set of shares gives this root.
    pub(crate) fn equals(&self, arena: &Arena, shares: &[(u64, &Secret)]) -> bool {
        combine(arena, shares).is_ok_and(|combined| combined.ct_eq(&self.key))
    }
}

/// Interpolates the root from shares (index, value). Too few or wrong shares give a wrong root without an error: the
/// caller checks commitments before and the certificate's MAC after.
pub(crate) fn combine(arena: &Arena, shares: &[(u64, &Secret)]) -> Result<Secret, Refused> {
    let mut rows: Vec<Vec<u8>> = Vec::with_capacity(shares.len());
    for (index, value) in shares {
        let mut row = Vec::with_capacity(1 + ROOT_LEN);
        row.push(
            u8::try_from(*index)
                .map_err(|_| Refused::new(Refusal::ShareDamaged, "a share's index is above 32"))?,
        );
        value.with(|value| row.extend(value));
        rows.push(row);
    }
    let combined = vsss_rs::Gf256::combine_bytes(rows.as_slice());
    rows.iter_mut().for_each(Zeroize::zeroize);
    let mut combined =
        combined.map_err(|_| Refused::new(Refusal::ShareSet, "these shares do not combine"))?;
    let key = arena.alloc(ROOT_LEN, |bytes| match combined.len() {
        ROOT_LEN => {
            bytes.copy_from_slice(&combined);
            Ok(())
        }
        _ => Err(()),
    });
    combined.zeroize();
    key.map_err(full)
}

/// The health-tested source as vsss-rs wants it. A failure gives zeros and latches; `split` looks at the latch before
/// anything leaves.
struct Watched<'a>(&'a Random);

impl rand_core::TryRng for Watched<'_> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::from_ne_bytes(self.0.array().unwrap_or_default()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::from_ne_bytes(self.0.array().unwrap_or_default()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        if self.0.fill(bytes).is_err() {
            bytes.zeroize();
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Watched<'_> {}

/// HKDF-SHA-256 into secret memory; the parts of `info` are length-prefixed.
fn derive(arena: &Arena, key: &Secret, salt: Option<&[u8]>, info: &[&[u8]]) -> Result<Secret, Refused> {
    let label = b"citykeep v1";
    let info: Vec<u8> = [label.as_slice()]
        .iter()
        .chain(info)
        .flat_map(|part| {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes();
            length.into_iter().chain(part.iter().copied())
        })
        .collect();
    let derived = arena.alloc(32, |bytes| {
        key.with(|key| hkdf::Hkdf::<Sha256>::new(salt, key).expand(&info, bytes).map_err(|_| no_key()))
    });
    derived.map_err(no_memory)
}

/// HMAC-SHA-256 over length-prefixed parts.
fn mac(key: &[u8], parts: &[&[u8]]) -> Digest {
    // HMAC takes keys of any length, so this never fails; a zero tag would only withhold more.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else {
        return [0; 32];
    };
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// SHA-256 of a sealed record, as the log names it.
pub(crate) fn record_digest(record: &[u8]) -> Digest {
    Sha256::digest(record).into()
}
