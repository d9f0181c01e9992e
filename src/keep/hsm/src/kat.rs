//! Known-answer tests of everything that the module computes with, run before a socket answers.

use aes_gcm::aead::{AeadInOut, KeyInit};
use hmac::Mac;
use sha2::{Digest, Sha256};

/// Expected values; tests plant wrong ones to see each test fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers {
    /// SHA-256("abc"), FIPS 180-4.
    pub sha256: [u8; 32],
    /// HMAC-SHA-256, RFC 4231 case 2.
    pub hmac: [u8; 32],
    /// First 32 bytes of HKDF-SHA-256, RFC 5869 case 1.
    pub hkdf: [u8; 32],
    /// AES-256-GCM tag of an empty message under a zero key and nonce (GCM specification, case 13).
    pub gcm: [u8; 16],
    /// Ed25519 signature's first 32 bytes, RFC 8032 test 1.
    pub ed25519: [u8; 32],
    /// ECDSA P-256 with SHA-256, r of the deterministic signature of "sample" (RFC 6979 A.2.5).
    pub p256: [u8; 32],
    /// Byte that GF(256) interpolation of the fixed shares gives.
    pub shares: u8,
}

impl Answers {
    /// The published values.
    pub(crate) const STANDARD: Self = Self {
        sha256: hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        hmac: hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        hkdf: hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"),
        gcm: hex("530f8afbc74536b9a963b4f1c4cb738b"),
        ed25519: hex("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"),
        p256: hex("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"),
        shares: 0x2a,
    };
}

/// A test that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the self-test of {0} failed: do not use this machine, keep it for examination")]
pub struct SelfTestError(pub &'static str);

/// Runs every test.
pub(crate) fn run(expected: &Answers) -> Result<(), SelfTestError> {
    check("SHA-256", Sha256::digest(b"abc").as_slice(), &expected.sha256)?;
    check("HMAC-SHA-256", &hmac(b"Jefe", b"what do ya want for nothing?"), &expected.hmac)?;
    let mut okm = [0; 32];
    let salt: [u8; 13] = hex("000102030405060708090a0b0c");
    let expanded = hkdf::Hkdf::<Sha256>::new(Some(&salt), &[0x0b; 22])
        .expand(&hex::<10>("f0f1f2f3f4f5f6f7f8f9"), &mut okm);
    expanded.map_err(|_| SelfTestError("HKDF-SHA-256"))?;
    check("HKDF-SHA-256", &okm, &expected.hkdf)?;
    gcm(expected)?;
    signatures(expected)?;
    shares(expected)?;
    cardcrypto::self_test().map_err(|_| SelfTestError("card algorithms (SM4, 3DES, diversification, TAC)"))
}

fn gcm(expected: &Answers) -> Result<(), SelfTestError> {
    let failed = SelfTestError("AES-256-GCM");
    let cipher = aes_gcm::Aes256Gcm::new(&[0; 32].into());
    let mut empty = [0; 0];
    let tag = cipher
        .encrypt_inout_detached(&[0; 12].into(), b"", empty.as_mut_slice().into())
        .map_err(|_| failed)?;
    check("AES-256-GCM", tag.as_slice(), &expected.gcm)?;
    let mut message = *b"sealed record";
    let tag = cipher.encrypt_inout_detached(&[0; 12].into(), b"header", message.as_mut_slice().into());
    let tag = tag.map_err(|_| failed)?;
    let opened =
        cipher.decrypt_inout_detached(&[0; 12].into(), b"Header", message.as_mut_slice().into(), &tag);
    if opened.is_ok() { Err(failed) } else { Ok(()) }
}

fn signatures(expected: &Answers) -> Result<(), SelfTestError> {
    use ed25519_dalek::Signer;
    let seed: [u8; 32] = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let key = ed25519_dalek::SigningKey::from_bytes(&seed);
    let signature = key.sign(b"").to_bytes();
    check("Ed25519", signature.get(..32).unwrap_or_default(), &expected.ed25519)?;
    let scalar: [u8; 32] = hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    let secret = p256::SecretKey::from_slice(&scalar).map_err(|_| SelfTestError("P-256"))?;
    let signature = wire::seal::sign(&secret, b"sample");
    check("P-256", signature.get(..32).unwrap_or_default(), &expected.p256)?;
    let public = wire::seal::public_key(&secret);
    if wire::seal::verify(&public, b"sample", &signature)
        && !wire::seal::verify(&public, b"sampld", &signature)
    {
        Ok(())
    } else {
        Err(SelfTestError("P-256"))
    }
}

/// Shares of 0x2a on the line 0x2a + 0x53·x: 0x2a^0x53 at 1, 0x2a^0xa6 at 2.
fn shares(expected: &Answers) -> Result<(), SelfTestError> {
    let fixed = [vec![1, 0x2a ^ 0x53], vec![2, 0x2a ^ 0xa6]];
    let found =
        vsss_rs::Gf256::combine_bytes(fixed.as_slice()).map_err(|_| SelfTestError("share interpolation"))?;
    check("share interpolation", &found, &[expected.shares])
}

fn check(name: &'static str, found: &[u8], expected: &[u8]) -> Result<(), SelfTestError> {
    if found == expected { Ok(()) } else { Err(SelfTestError(name)) }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mac = <hmac::Hmac<Sha256> as KeyInit>::new_from_slice(key);
    mac.map_or([0; 32], |mac| mac.chain_update(message).finalize().into_bytes().into())
}

const fn hex<const N: usize>(text: &str) -> [u8; N] {
    const fn digit(byte: u8) -> u8 {
        match byte {
            b'0'..=b'9' => byte - b'0',
            _ => byte - b'a' + 10,
        }
    }
    let (text, mut bytes, mut at) = (text.as_bytes(), [0; N], 0);
    #[allow(clippy::indexing_slicing, reason = "evaluated at compile time: a wrong length does not build")]
    while at < N {
        bytes[at] = digit(text[2 * at]) << 4 | digit(text[2 * at + 1]);
        at += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_values_hold() {
        assert_eq!(run(&Answers::STANDARD), Ok(()));
    }

    #[test]
    fn each_wrong_answer_is_named() {
        let good = Answers::STANDARD;
        let wrong = |bytes: [u8; 32]| {
            let mut bytes = bytes;
            bytes[31] ^= 1;
            bytes
        };
        let planted = [
            (Answers { sha256: wrong(good.sha256), ..good }, "SHA-256"),
            (Answers { hmac: wrong(good.hmac), ..good }, "HMAC-SHA-256"),
            (Answers { hkdf: wrong(good.hkdf), ..good }, "HKDF-SHA-256"),
            (Answers { gcm: [0; 16], ..good }, "AES-256-GCM"),
            (Answers { ed25519: wrong(good.ed25519), ..good }, "Ed25519"),
            (Answers { p256: wrong(good.p256), ..good }, "P-256"),
            (Answers { shares: 0x2b, ..good }, "share interpolation"),
        ];
        for (answers, name) in planted {
            assert_eq!(run(&answers), Err(SelfTestError(name)));
        }
    }
}
