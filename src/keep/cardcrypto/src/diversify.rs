//! Key check values and key diversification (card-crypto A.1 to A.3).

use wire::key::Algorithm;
use zeroize::Zeroizing;

/// Why eight bytes are refused as a derivation factor.
///
/// The child of such a factor is, or sits next to, the encryption of a zero block, which the key check value publishes
/// in part (service-protocol rule 5).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FactorError {
    /// All bytes are FF.
    #[error("a derivation factor of all FF is refused")]
    AllOnes,
    /// All bytes are 00.
    #[error("a derivation factor of all 00 is refused")]
    AllZeros,
    /// The algorithm derives no card keys.
    #[error("card keys are derived with 3DES or SM4")]
    Algorithm,
}

/// Refuses the factors that must not be used: all `00` and all `FF`.
pub fn check_factor(factor: &[u8; 8]) -> Result<(), FactorError> {
    match factor {
        [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00] => Err(FactorError::AllZeros),
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => Err(FactorError::AllOnes),
        _ => Ok(()),
    }
}

/// One derivation step (card-crypto A.1, A.2): the 16-byte child of `key` for factor X.
///
/// 3DES: `E(X) ‖ E(~X)`, no parity adjustment. SM4: `E(X ‖ ~X)`.
///
/// # Errors
/// [`FactorError`] if [`check_factor`] refuses X, or if the algorithm is none that cards are derived with.
pub fn diversify(
    algorithm: Algorithm,
    key: &[u8; 16],
    factor: &[u8; 8],
) -> Result<Zeroizing<[u8; 16]>, FactorError> {
    check_factor(factor)?;
    let cipher = cipher(algorithm).ok_or(FactorError::Algorithm)?;
    let mut child = Zeroizing::new([0; 16]);
    child.copy_from_slice(key);
    lanes::diversify(cipher, &mut child, factor);
    Ok(child)
}

/// Key check value: the first 3 bytes of the encryption of a zero block (ANSI X9.24-1 for 3DES; the same rule for SM4 is
/// this project's), or of the CMAC of a zero block for AES (X9.143). Parity bits of a 3DES key do not change it.
/// Signing keys have their check value from their public half, and three zero bytes here.
pub fn kcv(algorithm: Algorithm, key: &[u8; 16]) -> [u8; 3] {
    match algorithm {
        Algorithm::Tdes => {
            let mut block = Zeroizing::new([0; 8]);
            lanes::tdes_encrypt(key, &mut block);
            let [a, b, c, ..] = *block;
            [a, b, c]
        }
        Algorithm::Sm4 => {
            let mut block = Zeroizing::new([0; 16]);
            lanes::sm4_encrypt(key, &mut block);
            let [a, b, c, ..] = *block;
            [a, b, c]
        }
        Algorithm::Aes => {
            let [a, b, c, ..] = crate::cmac::aes_cmac(key, &[&[0; 16]]);
            [a, b, c]
        }
        Algorithm::P256 | Algorithm::Sm2 => [0; 3],
    }
}

/// The cipher of a card key; transport and signing keys have none here.
pub(crate) const fn cipher(algorithm: Algorithm) -> Option<lanes::Cipher> {
    match algorithm {
        Algorithm::Tdes => Some(lanes::Cipher::Tdes),
        Algorithm::Sm4 => Some(lanes::Cipher::Sm4),
        Algorithm::Aes | Algorithm::P256 | Algorithm::Sm2 => None,
    }
}
