//! Keys that no card has: a line's transport key, which wraps card keys, and a key that MACs lists.

use core::fmt;

use securemem::Secret;
use wire::key::Algorithm;

use crate::card_key::CardKey;
use crate::diversify::kcv;
use crate::master::{MasterKeyError, is_set};
use crate::sealed::seal;
use crate::tr31::{BlockHeader, tr31_b, tr31_d};

/// Fills a buffer with random bytes.
pub(crate) type Fill<'a, E> = &'a mut dyn FnMut(&mut [u8]) -> Result<(), E>;

/// Why there is no block.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError<E: core::error::Error + 'static> {
    /// The random source failed.
    #[error("no random bytes: {0}")]
    Random(#[source] E),
    /// Usage, mode or label is nothing that a header may hold.
    #[error("the key block's header has a field that a header cannot hold")]
    Header,
    /// The transport key's memory has been wiped.
    #[error("the key's memory has been wiped")]
    Wiped,
}

/// A personalization line's transport key (KBPK): two-key 3DES or AES-128, in secret memory. It wraps card keys and does
/// nothing else; nothing is ever unwrapped with it here.
pub struct TransportKey {
    secret: Secret,
    algorithm: Algorithm,
    kcv: [u8; 3],
}

impl TransportKey {
    /// Takes a key of 16 bytes.
    ///
    /// # Errors
    /// [`MasterKeyError`]: another length or algorithm, or all bytes 00.
    pub fn new(secret: Secret, algorithm: Algorithm) -> Result<Self, MasterKeyError> {
        if !matches!(algorithm, Algorithm::Tdes | Algorithm::Aes) {
            return Err(MasterKeyError::Algorithm);
        }
        let kcv = check(&secret, algorithm)?;
        Ok(Self { secret, algorithm, kcv })
    }

    /// Its check value.
    pub const fn kcv(&self) -> [u8; 3] {
        self.kcv
    }

    /// The card key as TR-31/X9.143 block (SPEC.md §TR-31 block): version B under a 3DES key, D under an AES one. `random` fills
    /// the padding after the key.
    ///
    /// # Errors
    /// [`BlockError`].
    pub fn tr31<E: core::error::Error + 'static>(
        &self,
        header: &BlockHeader,
        key: &CardKey,
        random: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<String, BlockError<E>> {
        self.with(|bytes| match self.algorithm {
            Algorithm::Tdes => tr31_b(bytes, header, key, random),
            _ => tr31_d(bytes, header, key, random),
        })
    }

    /// The card key sealed to the header's bytes (SPEC.md §Sealed block): salt 32 ‖ ciphertext 16 ‖ tag 16. `random` gives the
    /// salt. The receiver must have the same header bytes to open it.
    ///
    /// # Errors
    /// [`BlockError`].
    pub fn sealed_block<E: core::error::Error + 'static>(
        &self,
        header: &[u8],
        key: &CardKey,
        random: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<Vec<u8>, BlockError<E>> {
        self.with(|bytes| seal(bytes, header, key, random))
    }

    fn with<T, E: core::error::Error + 'static>(
        &self,
        work: impl FnOnce(&[u8; 16]) -> Result<T, BlockError<E>>,
    ) -> Result<T, BlockError<E>> {
        self.secret.with(|bytes| {
            // The arena's panic wipe reaches live keys, and anyone can open what a zero key wraps.
            let key = <&[u8; 16]>::try_from(bytes).ok().filter(|key| is_set(key)).ok_or(BlockError::Wiped)?;
            work(key)
        })
    }
}

impl fmt::Debug for TransportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// A key that MACs lists for terminals: SM4-CMAC.
pub struct ListMac {
    secret: Secret,
    kcv: [u8; 3],
}

impl ListMac {
    /// Takes an SM4 key of 16 bytes.
    ///
    /// # Errors
    /// [`MasterKeyError`]: another length or algorithm, or all bytes 00.
    pub fn new(secret: Secret, algorithm: Algorithm) -> Result<Self, MasterKeyError> {
        if algorithm != Algorithm::Sm4 {
            return Err(MasterKeyError::Algorithm);
        }
        let kcv = check(&secret, algorithm)?;
        Ok(Self { secret, kcv })
    }

    /// Its check value.
    pub const fn kcv(&self) -> [u8; 3] {
        self.kcv
    }

    /// SM4-CMAC over the concatenation of `parts`.
    ///
    /// # Errors
    /// [`MasterKeyError::Zeros`] if the key's memory has been wiped.
    pub fn mac(&self, parts: &[&[u8]]) -> Result<[u8; 16], MasterKeyError> {
        self.secret.with(|bytes| {
            let key = <&[u8; 16]>::try_from(bytes).ok().filter(|key| is_set(key));
            key.map(|key| crate::cmac::sm4_cmac(key, parts)).ok_or(MasterKeyError::Zeros)
        })
    }
}

impl fmt::Debug for ListMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListMac").finish_non_exhaustive()
    }
}

fn check(secret: &Secret, algorithm: Algorithm) -> Result<[u8; 3], MasterKeyError> {
    let known = secret
        .with(|bytes| <&[u8; 16]>::try_from(bytes).map(|key| is_set(key).then(|| kcv(algorithm, key))))
        .map_err(|_| MasterKeyError::Length)?;
    known.ok_or(MasterKeyError::Zeros)
}
