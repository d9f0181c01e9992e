//! A key above card level, in secret memory.

use core::fmt;

use securemem::Secret;
use subtle::ConstantTimeEq;
use wire::batch::{Profile, RECORD_LEN};
use wire::key::{Algorithm, FactorSource, LEVELS_MAX};
use zeroize::Zeroizing;

use crate::card_key::{CardKey, CardKeyError, Factors};
use crate::diversify::{FactorError, check_factor, cipher, diversify, kcv};
use crate::tac::{Chain, TacCheck, TacError, TacItem};

/// A master key above card level: 16 bytes in secret memory, the cipher, and the levels down to the card key.
///
/// No way leads to the bytes: no `Clone`, no comparison, no contents in `Debug`; and no call takes a caller's bytes to encrypt.
///
/// ```compile_fail
/// fn bytes(key: &cardcrypto::MasterKey) -> &[u8] {
///     key.secret.as_ref()
/// }
/// ```
pub struct MasterKey {
    secret: Secret,
    algorithm: Algorithm,
    levels: Vec<FactorSource>,
    kcv: [u8; 3],
}

impl MasterKey {
    /// Takes a key of 16 bytes and its derivation levels, 1 to 3, top first. A literal factor is judged here, once.
    pub fn new(
        secret: Secret,
        algorithm: Algorithm,
        levels: Vec<FactorSource>,
    ) -> Result<Self, MasterKeyError> {
        if !(1..=LEVELS_MAX).contains(&levels.len()) {
            return Err(MasterKeyError::Levels);
        }
        if cipher(algorithm).is_none() {
            return Err(MasterKeyError::Algorithm);
        }
        for level in &levels {
            if let FactorSource::Literal(factor) = level {
                check_factor(factor).map_err(MasterKeyError::Literal)?;
            }
        }
        let kcv = secret
            .with(|bytes| <&[u8; 16]>::try_from(bytes).map(|key| is_set(key).then(|| kcv(algorithm, key))))
            .map_err(|_| MasterKeyError::Length)?
            .ok_or(MasterKeyError::Zeros)?;
        Ok(Self { secret, algorithm, levels, kcv })
    }

    /// Checks the TACs of many cards of one issuer: derives each item's card key level by level and compares the TAC
    /// in constant time. One outcome per item, in order; items do not influence each other.
    ///
    /// [`FactorSource::IssuerId`] takes `issuer`, [`FactorSource::AsnRight8`] the item's `card`. Card keys and true TACs are
    /// wiped before this returns. Of a key without a card level, every card has the same card key.
    ///
    /// # Errors
    /// [`TacError`]; every outcome is then [`TacCheck::Mismatch`].
    pub fn verify_tacs(
        &self,
        profile: Profile,
        issuer: &[u8; 8],
        items: &[TacItem],
        checks: &mut [TacCheck],
    ) -> Result<(), TacError> {
        // On an error, nothing that an earlier call left here may pass as an outcome.
        checks.fill(TacCheck::Mismatch);
        self.secret.with(|bytes| {
            // The arena's panic wipe reaches live keys, and under a zero key anyone can compute TACs.
            let top = <&[u8; 16]>::try_from(bytes).ok().filter(|key| is_set(key)).ok_or(TacError::Wiped)?;
            Chain { algorithm: self.algorithm, top, levels: &self.levels }
                .verify(profile, *issuer, items, checks)
        })
    }

    /// The same for batch records as they came (service-protocol §6), without a copy: those of `rows` at `picks`. `outcome` hears
    /// each one's place in `rows` and its check. The records' group and flags are the caller's business.
    ///
    /// # Errors
    /// [`TacError`]; `outcome` may have heard some checks.
    pub fn verify_rows(
        &self,
        profile: Profile,
        issuer: &[u8; 8],
        rows: &[[u8; RECORD_LEN]],
        picks: &[u32],
        outcome: impl FnMut(usize, TacCheck),
    ) -> Result<(), TacError> {
        self.secret.with(|bytes| {
            let top = <&[u8; 16]>::try_from(bytes).ok().filter(|key| is_set(key)).ok_or(TacError::Wiped)?;
            Chain { algorithm: self.algorithm, top, levels: &self.levels }
                .verify_rows(profile, *issuer, rows, picks, outcome)
        })
    }

    /// Derives one card's own key, level by level.
    ///
    /// # Errors
    /// [`CardKeyError`]: a factor is refused or missing, or no level is the card's own, so that the key would be every card's.
    pub fn card_key(&self, factors: &Factors) -> Result<CardKey, CardKeyError> {
        let own =
            |source: &FactorSource| matches!(source, FactorSource::AsnRight8(_) | FactorSource::Chip(_));
        if !self.levels.iter().any(own) {
            return Err(CardKeyError::Shared);
        }
        self.secret.with(|bytes| {
            let top =
                <&[u8; 16]>::try_from(bytes).ok().filter(|key| is_set(key)).ok_or(CardKeyError::Wiped)?;
            let mut key = Zeroizing::new(*top);
            for source in &self.levels {
                let factor = match source {
                    FactorSource::IssuerId(_) => factors.issuer,
                    FactorSource::AsnRight8(_) => factors.card,
                    FactorSource::Literal(factor) => *factor,
                    FactorSource::Chip(_) => factors.chip.ok_or(CardKeyError::Chip)?,
                };
                key = diversify(self.algorithm, &key, &factor).map_err(CardKeyError::Factor)?;
            }
            Ok(CardKey::new(self.algorithm, key))
        })
    }

    /// The cipher.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The derivation levels, top first.
    pub fn levels(&self) -> &[FactorSource] {
        &self.levels
    }

    /// The key check value, as computed when the key came in.
    pub const fn kcv(&self) -> [u8; 3] {
        self.kcv
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey")
            .field("algorithm", &self.algorithm)
            .field("levels", &self.levels)
            .finish_non_exhaustive()
    }
}

/// Whether any byte of the key is not 00.
pub(crate) fn is_set(key: &[u8; 16]) -> bool {
    !bool::from(key.as_slice().ct_eq(&[0; 16]))
}

/// Why bytes and levels do not make a [`MasterKey`], or bytes no [`crate::TransportKey`] or [`crate::ListMac`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyError {
    /// The key does not have 16 bytes.
    #[error("a key has 16 bytes")]
    Length,
    /// No level, or more than three.
    #[error("a card master key has 1 to 3 derivation levels")]
    Levels,
    /// The algorithm is none for this kind of key.
    #[error("a card master key is 3DES or SM4, a transport key 3DES or AES, a list's MAC key SM4")]
    Algorithm,
    /// A constant of the levels is refused as a factor.
    #[error("a literal of the derivation levels is refused: {0}")]
    Literal(#[source] FactorError),
    /// All bytes of the key are 00: nobody's key, or one whose memory was wiped.
    #[error("a key of all 00 is refused")]
    Zeros,
}
