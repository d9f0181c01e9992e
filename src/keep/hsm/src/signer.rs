//! Signing keys: SM2 with SM3 (GB/T 32918, default id) and ECDSA P-256 with SHA-256, DER over a whole file
//! (service-protocol §10).

use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use securemem::{Arena, Secret};
use sha2::{Digest as _, Sha256};
use sm2::dsa::signature::MultipartSigner as _;
use wire::error::{Refusal, Refused};
use wire::key::Algorithm;

use crate::random::Random;

/// Bytes of a private key.
pub(crate) const SCALAR_LEN: usize = 32;

/// The id that OpenSSL and GM/T 0009 use when there is none.
pub(crate) const DEFAULT_ID: &str = "1234567812345678";

/// Draws that may fall outside the group's order; each does so once in 2^32.
const DRAWS: usize = 8;

/// A signing key in secret memory. Its expanded form lives on the caller's stack, which is secret memory too, for the time
/// of one signature: sm2 0.14 erases nothing by itself.
pub(crate) struct Signer {
    secret: Secret,
    algorithm: Algorithm,
    public: Vec<u8>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

fn bad_key() -> Refused {
    Refused::new(Refusal::WeakKey, "the bytes are no private key of this curve")
}

impl Signer {
    /// Takes a private key of 32 bytes, big-endian, in 1 … n−1.
    pub(crate) fn new(secret: Secret, algorithm: Algorithm) -> Result<Self, Refused> {
        let public = secret.with(|scalar| public(scalar, algorithm))?;
        Ok(Self { secret, algorithm, public })
    }

    /// A fresh private key.
    pub(crate) fn generate(arena: &Arena, random: &Random, algorithm: Algorithm) -> Result<Secret, Refused> {
        for _ in 0..DRAWS {
            let drawn = arena.alloc(SCALAR_LEN, |bytes| random.fill(bytes)).map_err(|error| match error {
                securemem::AllocError::Fill(refused) => refused,
                securemem::AllocError::Full => {
                    Refused::new(Refusal::Busy, "the module's secret memory is full")
                }
            })?;
            if drawn.with(|scalar| public(scalar, algorithm)).is_ok() {
                return Ok(drawn);
            }
        }
        Err(bad_key())
    }

    /// Check value of a private key that is not in use yet.
    pub(crate) fn kcv_of(secret: &Secret, algorithm: Algorithm) -> Result<[u8; 3], Refused> {
        secret.with(|scalar| public(scalar, algorithm)).map(|public| check_value(&public))
    }

    /// SM2 or P-256.
    pub(crate) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Public key, SEC 1 uncompressed.
    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }

    /// Check value: the first 3 bytes of SHA-256 over the public key.
    pub(crate) fn kcv(&self) -> [u8; 3] {
        check_value(&self.public)
    }

    /// DER signature over the concatenation of `parts`. Deterministic (RFC 6979), so the same list has the same signature.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> Result<Vec<u8>, Refused> {
        let failed = || Refused::new(Refusal::Fault, "a signature could not be made; restart the module");
        let raw: Vec<u8> = self.secret.with(|scalar| {
            if self.algorithm == Algorithm::Sm2 {
                let key = sm2::dsa::SigningKey::from_slice(DEFAULT_ID, scalar).map_err(|_| failed())?;
                let signature = key.try_multipart_sign(parts).map_err(|_| failed())?;
                return Ok(signature.to_bytes().to_vec());
            }
            let key = p256::ecdsa::SigningKey::from_slice(scalar).map_err(|_| failed())?;
            let mut hash = Sha256::new();
            parts.iter().for_each(|part| hash.update(part));
            let signature: p256::ecdsa::Signature =
                key.sign_prehash(&hash.finalize()).map_err(|_| failed())?;
            Ok(signature.to_bytes().to_vec())
        })?;
        let (r, s) = raw.split_at(raw.len() / 2);
        Ok(der(r, s))
    }
}

fn check_value(public: &[u8]) -> [u8; 3] {
    let [a, b, c, ..] = <[u8; 32]>::from(Sha256::digest(public));
    [a, b, c]
}

fn public(scalar: &[u8], algorithm: Algorithm) -> Result<Vec<u8>, Refused> {
    match algorithm {
        Algorithm::P256 => {
            let key = p256::SecretKey::from_slice(scalar).map_err(|_| bad_key())?;
            Ok(key.public_key().to_sec1_point(false).as_bytes().to_vec())
        }
        Algorithm::Sm2 => {
            let key = sm2::SecretKey::from_slice(scalar).map_err(|_| bad_key())?;
            Ok(key.public_key().to_sec1_point(false).as_bytes().to_vec())
        }
        _ => Err(bad_key()),
    }
}

/// SEQUENCE { INTEGER r, INTEGER s }.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count().min(number.len().saturating_sub(1));
        let digits = number.get(zeros..).unwrap_or_default();
        // A set top bit would read as a minus sign.
        let sign = digits.first().is_some_and(|byte| *byte >= 0x80);
        let len = u8::try_from(digits.len() + usize::from(sign)).unwrap_or_default();
        let mut out = vec![0x02, len];
        out.extend(sign.then_some(0));
        out.extend(digits);
        out
    };
    let body = [integer(r), integer(s)].concat();
    let len = u8::try_from(body.len()).unwrap_or_default();
    [vec![0x30, len], body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::signature::Verifier as _;

    #[test]
    fn integers_are_positive_and_short() {
        assert_eq!(der(&[0, 0, 0x80], &[0, 1]), [0x30, 7, 2, 2, 0, 0x80, 2, 1, 1]);
        assert_eq!(der(&[0, 0], &[0x7f]), [0x30, 6, 2, 1, 0, 2, 1, 0x7f]);
    }

    #[test]
    fn both_curves_sign_what_their_own_crates_verify() {
        let arena = crate::tests::arena();
        let random = Random::system().unwrap();
        for algorithm in [Algorithm::P256, Algorithm::Sm2] {
            let signer =
                Signer::new(Signer::generate(&arena, &random, algorithm).unwrap(), algorithm).unwrap();
            let signature = signer.sign(&[b"whole ", b"file"]).unwrap();
            assert_eq!(signature, signer.sign(&[b"whole file"]).unwrap(), "deterministic");
            let good = |message: &[u8]| {
                if algorithm == Algorithm::P256 {
                    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(signer.public()).unwrap();
                    let signature = p256::ecdsa::Signature::from_der(&signature).unwrap();
                    return key.verify(message, &signature).is_ok();
                }
                let key = sm2::PublicKey::from_sec1_bytes(signer.public()).unwrap();
                let key = sm2::dsa::VerifyingKey::new(DEFAULT_ID, key).unwrap();
                key.verify(message, &sm2::dsa::Signature::from_slice(&raw(&signature)).unwrap()).is_ok()
            };
            assert!(good(b"whole file") && !good(b"whole filf"));
        }
    }

    /// r ‖ s of a DER signature.
    fn raw(der: &[u8]) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::new(), &der[2..]);
        for _ in 0..2 {
            let (number, after) = rest[2..].split_at(usize::from(rest[1]));
            let digits = &number[number.len().saturating_sub(32)..];
            out.extend(std::iter::repeat_n(0, 32 - digits.len()));
            out.extend(digits);
            rest = after;
        }
        out
    }
}
