//! Sealed boxes and officers' signatures: P-256, HKDF-SHA-256, AES-256-GCM (SPEC.md §Sealed box). For the module and the
//! officers' tools only.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Tag};
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{SigningKey, VerifyingKey};
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::{PublicKey as Point, SecretKey};
use zeroize::Zeroize;

use crate::cbor::{Bytes, Cbor};
use crate::command::{PublicKey, Signature};

crate::cbor_struct! {
    /// Bytes for the holder of one P-256 key, in one context.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SealedBox {
        /// Format, 1.
        0 => version: u64,
        /// Suite, 1.
        1 => suite: u64,
        /// Ephemeral key of the sender.
        2 => ephemeral: PublicKey,
        /// AES-256-GCM ciphertext and 16-byte tag, nonce zero: the key is used once.
        3 => ciphertext: Bytes,
    }
}

const TAG_LEN: usize = 16;
const NONCE: [u8; 12] = [0; 12];

/// The box does not open, or random bytes are not to be had. One opaque error: which of recipient, context and bytes is
/// wrong is nobody's business.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the sealed box does not open: it is for another key or purpose, or it is damaged")]
#[allow(clippy::exhaustive_structs)]
pub struct BoxError;

/// Seals `plain` to `recipient` in `context`; `secret` is a fresh ephemeral key of the sender's random source.
pub fn seal(
    recipient: &PublicKey,
    context: &[u8],
    plain: &[u8],
    secret: &SecretKey,
) -> Result<SealedBox, BoxError> {
    let point = Point::from_sec1_bytes(recipient).map_err(|_| BoxError)?;
    let ephemeral = public_key(secret);
    let mut bytes = plain.to_vec();
    let tag = cipher(secret, &point, &ephemeral, recipient, context)?
        .encrypt_inout_detached(&NONCE.into(), context, bytes.as_mut_slice().into())
        .map_err(|_| BoxError)?;
    bytes.extend(tag);
    Ok(SealedBox { version: 1, suite: 1, ephemeral, ciphertext: Bytes(bytes) })
}

/// Opens a box into `plain`, which must have exactly the length that was sealed.
pub fn open(
    sealed: &SealedBox,
    secret: &SecretKey,
    context: &[u8],
    plain: &mut [u8],
) -> Result<(), BoxError> {
    let point = Point::from_sec1_bytes(&sealed.ephemeral).map_err(|_| BoxError)?;
    let split = sealed.ciphertext.len().checked_sub(TAG_LEN).ok_or(BoxError)?;
    let (body, tag) = sealed.ciphertext.split_at_checked(split).ok_or(BoxError)?;
    if (sealed.version, sealed.suite) != (1, 1) || body.len() != plain.len() {
        return Err(BoxError);
    }
    let tag: [u8; TAG_LEN] = tag.try_into().map_err(|_| BoxError)?;
    plain.copy_from_slice(body);
    cipher(secret, &point, &sealed.ephemeral, &public_key(secret), context)?
        .decrypt_inout_detached(&NONCE.into(), context, (&mut *plain).into(), &Tag::from(tag))
        .map_err(|_| {
            plain.zeroize();
            BoxError
        })
}

/// Length of the plain bytes in a box.
pub fn plain_len(sealed: &SealedBox) -> usize {
    sealed.ciphertext.len().saturating_sub(TAG_LEN)
}

fn cipher(
    secret: &SecretKey,
    point: &Point,
    ephemeral: &PublicKey,
    recipient: &PublicKey,
    context: &[u8],
) -> Result<Aes256Gcm, BoxError> {
    let shared = p256::ecdh::diffie_hellman(secret.to_nonzero_scalar(), point.as_affine());
    let info = [b"citykeep box v1\0".as_slice(), ephemeral, recipient, context].concat();
    let mut key = [0; 32];
    let expanded = hkdf::Hkdf::<sha2::Sha256>::new(None, shared.raw_secret_bytes()).expand(&info, &mut key);
    let cipher = Aes256Gcm::new(&key.into());
    key.zeroize();
    expanded.map(|()| cipher).map_err(|_| BoxError)
}

/// The SEC 1 compressed public half.
pub fn public_key(secret: &SecretKey) -> PublicKey {
    compressed(&secret.public_key())
}

/// A public key in SEC 1 compressed form.
pub fn compressed(key: &p256::PublicKey) -> PublicKey {
    let mut bytes = [0; 33];
    let point = key.to_sec1_point(true);
    for (to, from) in bytes.iter_mut().zip(point.as_bytes()) {
        *to = *from;
    }
    bytes
}

/// A fresh secret key from the operating system.
pub fn generate() -> Result<SecretKey, BoxError> {
    let mut bytes = [0; 32];
    for _ in 0..64 {
        getrandom::fill(&mut bytes).map_err(|_| BoxError)?;
        if let Ok(secret) = SecretKey::from_slice(&bytes) {
            bytes.zeroize();
            return Ok(secret);
        }
    }
    Err(BoxError)
}

/// ECDSA P-256 with SHA-256 over `message`, deterministic nonce (RFC 6979), r ‖ s.
pub fn sign(secret: &SecretKey, message: &[u8]) -> Signature {
    let signature: p256::ecdsa::Signature = SigningKey::from(secret.clone()).sign(message);
    signature.to_bytes().into()
}

/// Checks such a signature.
pub fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    let key = VerifyingKey::from_sec1_bytes(key);
    let signature = p256::ecdsa::Signature::from_slice(signature);
    key.is_ok_and(|key| signature.is_ok_and(|signature| key.verify(message, &signature).is_ok()))
}

/// Reads a box from its canonical bytes.
pub fn parse(bytes: &[u8]) -> Result<SealedBox, BoxError> {
    SealedBox::from_cbor(bytes).map_err(|_| BoxError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_its_key_and_context_only() {
        let (custodian, other) = (generate().unwrap(), generate().unwrap());
        let sealed =
            seal(&public_key(&custodian), b"context", b"0123456789abcdef", &generate().unwrap()).unwrap();
        let mut plain = [0; 16];
        open(&sealed, &custodian, b"context", &mut plain).unwrap();
        assert_eq!(&plain, b"0123456789abcdef");
        assert_eq!(open(&sealed, &other, b"context", &mut plain), Err(BoxError));
        assert_eq!(plain, [0; 16], "nothing of a refused box stays");
        assert_eq!(open(&sealed, &custodian, b"contexT", &mut plain), Err(BoxError));
        assert_eq!(open(&sealed, &custodian, b"context", &mut [0; 15]), Err(BoxError));
        let bytes = sealed.to_cbor();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let refused = parse(&bad).and_then(|bad| open(&bad, &custodian, b"context", &mut plain));
            assert_eq!(refused, Err(BoxError), "{bit}");
        }
    }

    #[test]
    fn signatures_bind_key_and_message() {
        let (officer, other) = (generate().unwrap(), generate().unwrap());
        let signature = sign(&officer, b"command");
        assert!(verify(&public_key(&officer), b"command", &signature));
        assert!(!verify(&public_key(&officer), b"commanD", &signature));
        assert!(!verify(&public_key(&other), b"command", &signature));
        assert!(!verify(&public_key(&officer), b"command", &[0; 64]));
    }
}
