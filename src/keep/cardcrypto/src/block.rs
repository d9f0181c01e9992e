//! Card keys on their way to a line: TR-31/X9.143 versions B and D, and our own sealed block (SPEC.md).

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, Tag};
use sha2::Sha256;
use wire::key::Algorithm;
use zeroize::Zeroizing;

use crate::card_key::CardKey;
use crate::cmac::{aes_cmac, cbc, tdes_cmac};
use crate::transport::BlockError;

type Fill<'a, E> = &'a mut dyn FnMut(&mut [u8]) -> Result<(), E>;

/// What a TR-31 block says of its key, in the clear and under its MAC.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "callers build it")]
pub struct BlockHeader {
    /// Key usage, two characters.
    pub usage: [u8; 2],
    /// Mode of use, one character.
    pub mode: u8,
    /// Key version byte; stands as two hex digits.
    pub version: u8,
    /// Optional block `LB`: what the key belongs to. Printable ASCII, up to 200 characters.
    pub label: String,
}

/// Bytes of the fixed header.
const HEADER_LEN: usize = 16;

/// What an optional block needs beside its data: id and length.
const OPTION_LEN: usize = 4;

/// Characters of a label.
const LABEL_MAX: usize = 200;

/// Bytes of the enciphered part before padding: length in bits and the key.
const PLAIN_LEN: usize = 18;

impl BlockHeader {
    /// The whole header of a block of `version`; `block` is the cipher's block length, `tail` the characters after it.
    fn text(&self, version: char, algorithm: Algorithm, block: usize, tail: usize) -> Option<String> {
        let printable = |text: &[u8]| text.iter().all(|byte| (0x20..=0x7e).contains(byte));
        let fixed = [self.usage[0], self.usage[1], self.mode];
        if !fixed.iter().all(u8::is_ascii_alphanumeric)
            || !printable(self.label.as_bytes())
            || self.label.len() > LABEL_MAX
        {
            return None;
        }
        // X9.143 has no letter for SM4; it keeps numerals for private use.
        let algorithm = match algorithm {
            Algorithm::Tdes => 'T',
            _ => '4',
        };
        let label = format!("LB{:02X}{}", OPTION_LEN + self.label.len(), self.label);
        let short = (HEADER_LEN + label.len()) % block;
        // The options fill whole cipher blocks; the padding's own id and length count.
        let padding = if short == 0 { None } else { Some((2 * block - short - OPTION_LEN) % block) };
        let padding = padding
            .map_or_else(String::new, |zeros| format!("PB{:02X}{}", OPTION_LEN + zeros, "0".repeat(zeros)));
        let count = 1 + usize::from(!padding.is_empty());
        let len = HEADER_LEN + label.len() + padding.len() + tail;
        let [first, second, mode] = fixed.map(char::from);
        let number = self.version;
        Some(format!(
            "{version}{len:04}{first}{second}{algorithm}{mode}{number:02X}N{count:02}00{label}{padding}"
        ))
    }
}

/// length in bits ‖ key ‖ random padding to whole blocks of `N`.
fn plain<const N: usize, E: core::error::Error + 'static>(
    key: &CardKey,
    random: Fill<'_, E>,
) -> Result<Zeroizing<Vec<u8>>, BlockError<E>> {
    let mut plain = Zeroizing::new(vec![0; PLAIN_LEN.next_multiple_of(N)]);
    random(&mut plain).map_err(BlockError::Random)?;
    let (head, rest) = plain.split_at_mut(2);
    head.copy_from_slice(&128_u16.to_be_bytes());
    let (place, _) = rest.split_at_mut(16);
    place.copy_from_slice(key.bytes());
    Ok(plain)
}

/// Version B: 3DES, binding by key derivation (TR-31:2018 5.3.2.1).
pub(crate) fn tr31_b<E: core::error::Error + 'static>(
    kbpk: &[u8; 16],
    header: &BlockHeader,
    key: &CardKey,
    random: Fill<'_, E>,
) -> Result<String, BlockError<E>> {
    let mut body = plain::<8, E>(key, random)?;
    let tail = 2 * (body.len() + 8);
    let header = header.text('B', key.algorithm(), 8, tail).ok_or(BlockError::Header)?;
    let [encryption, authentication] = [0_u8, 1].map(|purpose| derive_b(kbpk, purpose));
    let mac = tdes_cmac(&authentication, &[header.as_bytes(), &body]);
    cbc(mac, &mut body, |block| lanes::tdes_encrypt(&encryption, block));
    Ok(header + &hex(&body) + &hex(&mac))
}

/// Version D: AES, binding by key derivation (X9.143:2021 8.4).
pub(crate) fn tr31_d<E: core::error::Error + 'static>(
    kbpk: &[u8; 16],
    header: &BlockHeader,
    key: &CardKey,
    random: Fill<'_, E>,
) -> Result<String, BlockError<E>> {
    let mut body = plain::<16, E>(key, random)?;
    let tail = 2 * (body.len() + 16);
    let header = header.text('D', key.algorithm(), 16, tail).ok_or(BlockError::Header)?;
    let [encryption, authentication] = [0_u8, 1].map(|purpose| {
        // counter 01 ‖ purpose ‖ 00 ‖ algorithm 0002 (AES-128) ‖ 128 bits
        Zeroizing::new(aes_cmac(kbpk, &[&[1, 0, purpose, 0, 0, 2, 0, 0x80]]))
    });
    let mac = aes_cmac(&authentication, &[header.as_bytes(), &body]);
    let cipher = aes::Aes128::new((&*encryption).into());
    cbc(mac, &mut body, |block| cipher.encrypt_block(block.into()));
    Ok(header + &hex(&body) + &hex(&mac))
}

/// counter ‖ purpose ‖ 00 ‖ algorithm 0000 (two-key 3DES) ‖ 128 bits, for counters 01 and 02.
fn derive_b(kbpk: &[u8; 16], purpose: u8) -> Zeroizing<[u8; 16]> {
    let mut key = Zeroizing::new([0; 16]);
    for (half, counter) in key.as_chunks_mut::<8>().0.iter_mut().zip(1_u8..) {
        *half = tdes_cmac(kbpk, &[&[counter, 0, purpose, 0, 0, 0, 0, 0x80]]);
    }
    key
}

fn hex(bytes: &[u8]) -> String {
    wire::purse::to_hex(bytes)
}

/// Domain of the sealed block's key derivation.
const INFO: &[u8] = b"citykeep key block v1\0";

const SALT_LEN: usize = 32;
const TAG_LEN: usize = 16;

/// Each block has its own key, so the nonce may be zero: no clone of a module repeats a nonce under one key.
const NONCE: [u8; 12] = [0; 12];

fn block_key(transport: &[u8; 16], salt: &[u8]) -> Option<Aes256Gcm> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf::Hkdf::<Sha256>::new(Some(salt), transport).expand(INFO, &mut *key).ok()?;
    Aes256Gcm::new_from_slice(&*key).ok()
}

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

/// Opens a sealed block on the line's side, where the transport key is in hand.
///
/// # Errors
/// `None` for whatever is wrong: another key, another header, damage.
pub fn open_block(transport: &[u8; 16], header: &[u8], sealed: &[u8]) -> Option<Zeroizing<[u8; 16]>> {
    let (salt, rest) = sealed.split_at_checked(SALT_LEN)?;
    let (body, tag) = rest.split_at_checked(16)?;
    let tag = <[u8; TAG_LEN]>::try_from(tag).ok()?;
    let mut key = Zeroizing::new(<[u8; 16]>::try_from(body).ok()?);
    let cipher = block_key(transport, salt)?;
    let opened =
        cipher.decrypt_inout_detached(&NONCE.into(), header, key.as_mut_slice().into(), &Tag::from(tag));
    opened.is_ok().then_some(key)
}
