//! The sealed block: a card key under AES-256-GCM, bound to a header that the caller gives (SPEC.md §Sealed block).

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Tag};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::card_key::CardKey;
use crate::transport::{BlockError, Fill};

/// Domain of the key derivation.
const INFO: &[u8] = b"citykeep key block v1\0";

const SALT_LEN: usize = 32;
const KEY_LEN: usize = 16;

/// Each block has its own key, so the nonce may be zero: no clone of a module repeats a nonce under one key.
const NONCE: [u8; 12] = [0; 12];

/// salt 32 ‖ ciphertext 16 ‖ tag 16.
pub(crate) fn seal<E: core::error::Error + 'static>(
    transport: &[u8; 16],
    header: &[u8],
    key: &CardKey,
    random: Fill<'_, E>,
) -> Result<Vec<u8>, BlockError<E>> {
    let mut salt = [0; SALT_LEN];
    random(&mut salt).map_err(BlockError::Random)?;
    let cipher = block_key(transport, &salt).ok_or(BlockError::Header)?;
    let mut body = Zeroizing::new(*key.bytes());
    let tag = cipher
        .encrypt_inout_detached(&NONCE.into(), header, body.as_mut_slice().into())
        .map_err(|_| BlockError::Header)?;
    Ok([salt.as_slice(), body.as_slice(), tag.as_slice()].concat())
}

/// Opens a sealed block on the line's side, where the transport key is in hand. `None` for whatever is wrong: another key,
/// another header, damage, another length.
pub fn open_block(transport: &[u8; 16], header: &[u8], sealed: &[u8]) -> Option<Zeroizing<[u8; 16]>> {
    let (salt, rest) = sealed.split_at_checked(SALT_LEN)?;
    let (body, tag) = rest.split_at_checked(KEY_LEN)?;
    let tag = Tag::from(<[u8; 16]>::try_from(tag).ok()?);
    let mut key = Zeroizing::new(<[u8; KEY_LEN]>::try_from(body).ok()?);
    let cipher = block_key(transport, salt)?;
    let opened = cipher.decrypt_inout_detached(&NONCE.into(), header, key.as_mut_slice().into(), &tag);
    opened.is_ok().then_some(key)
}

fn block_key(transport: &[u8; 16], salt: &[u8]) -> Option<Aes256Gcm> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf::Hkdf::<Sha256>::new(Some(salt), transport).expand(INFO, &mut *key).ok()?;
    Aes256Gcm::new_from_slice(&*key).ok()
}
