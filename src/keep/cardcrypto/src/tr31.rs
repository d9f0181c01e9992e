//! TR-31/X9.143 key blocks of versions B and D, one way: keys go out, none comes in (SPEC.md §TR-31 block).

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use wire::key::Algorithm;
use zeroize::Zeroizing;

use crate::card_key::CardKey;
use crate::cmac::{aes_cmac, cbc, tdes_cmac};
use crate::transport::{BlockError, Fill};

/// What a TR-31 block says of its key, in the clear and under its MAC.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "callers build it")]
pub struct BlockHeader {
    /// Key usage, two characters of `A-Z 0-9`.
    pub usage: [u8; 2],
    /// Mode of use, one character of `A-Z 0-9`.
    pub mode: u8,
    /// Key version byte; stands as two hex digits.
    pub version: u8,
    /// Optional block `LB`: what the key belongs to. Printable ASCII, 1 to 200 characters.
    pub label: String,
}

/// Characters of the fixed header.
const HEADER_LEN: usize = 16;

/// What an optional block needs beside its data: id and length.
const OPTION_LEN: usize = 4;

/// Characters of a label.
const LABEL_MAX: usize = 200;

/// Bytes of the enciphered part before padding: length in bits and the key.
const PLAIN_LEN: usize = 18;

impl BlockHeader {
    /// The whole header, optional blocks included, of a block of `version`. `block` is the cipher's block length, `tail`
    /// the number of characters that follow.
    fn text(&self, version: char, algorithm: Algorithm, block: usize, tail: usize) -> Option<String> {
        let fixed = [self.usage[0], self.usage[1], self.mode];
        let printable = self.label.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        if !fixed.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            || !printable
            || !(1..=LABEL_MAX).contains(&self.label.len())
        {
            return None;
        }
        // X9.143 has no letter for SM4; it keeps numerals for private use.
        let algorithm = match algorithm {
            Algorithm::Tdes => 'T',
            _ => '4',
        };
        let mut options = format!("LB{:02X}{}", OPTION_LEN + self.label.len(), self.label);
        let mut count = 1;
        if !options.len().is_multiple_of(block) {
            // The options fill whole cipher blocks. A pad of no data is legal, but some readers refuse it.
            let zeros = block - (options.len() + OPTION_LEN) % block;
            options = format!("{options}PB{:02X}{}", OPTION_LEN + zeros, "0".repeat(zeros));
            count += 1;
        }
        let len = HEADER_LEN + options.len() + tail;
        let [first, second, mode] = fixed.map(char::from);
        let number = self.version;
        Some(format!("{version}{len:04}{first}{second}{algorithm}{mode}{number:02X}N{count:02}00{options}"))
    }
}

/// Version B: 3DES, binding by key derivation (TR-31:2018 5.3.2.1).
pub(crate) fn tr31_b<E: core::error::Error + 'static>(
    kbpk: &[u8; 16],
    header: &BlockHeader,
    key: &CardKey,
    random: Fill<'_, E>,
) -> Result<String, BlockError<E>> {
    let body = plain::<8, E>(key, random)?;
    let tail = 2 * (body.len() + 8);
    let header = header.text('B', key.algorithm(), 8, tail).ok_or(BlockError::Header)?;
    Ok(bind_b(kbpk, header, body))
}

/// Version D: AES, binding by key derivation (X9.143:2021 8.4).
pub(crate) fn tr31_d<E: core::error::Error + 'static>(
    kbpk: &[u8; 16],
    header: &BlockHeader,
    key: &CardKey,
    random: Fill<'_, E>,
) -> Result<String, BlockError<E>> {
    let body = plain::<16, E>(key, random)?;
    let tail = 2 * (body.len() + 16);
    let header = header.text('D', key.algorithm(), 16, tail).ok_or(BlockError::Header)?;
    Ok(bind_d(kbpk, header, body))
}

/// length in bits ‖ key ‖ random padding to whole blocks of `N`.
fn plain<const N: usize, E: core::error::Error + 'static>(
    key: &CardKey,
    random: Fill<'_, E>,
) -> Result<Zeroizing<Vec<u8>>, BlockError<E>> {
    let mut plain = Zeroizing::new(vec![0; PLAIN_LEN.next_multiple_of(N)]);
    let (head, padding) = plain.split_at_mut(PLAIN_LEN);
    random(padding).map_err(BlockError::Random)?;
    let (bits, place) = head.split_at_mut(2);
    bits.copy_from_slice(&128_u16.to_be_bytes());
    place.copy_from_slice(key.bytes());
    Ok(plain)
}

/// header ‖ hex of the enciphered body ‖ hex of the MAC. The MAC covers header and plaintext, and is the IV.
pub(crate) fn bind_b(kbpk: &[u8; 16], header: String, mut body: Zeroizing<Vec<u8>>) -> String {
    let [encryption, authentication] = [0, 1].map(|purpose| derive_b(kbpk, purpose));
    let mac = tdes_cmac(&authentication, &[header.as_bytes(), &body]);
    cbc(mac, &mut body, |block| lanes::tdes_encrypt(&encryption, block));
    header + &wire::purse::to_hex(&body) + &wire::purse::to_hex(&mac)
}

/// As [`bind_b`], with AES.
fn bind_d(kbpk: &[u8; 16], header: String, mut body: Zeroizing<Vec<u8>>) -> String {
    let [encryption, authentication] = [0, 1].map(|purpose| derive_d(kbpk, purpose));
    let mac = aes_cmac(&authentication, &[header.as_bytes(), &body]);
    let cipher = aes::Aes128::new((&*encryption).into());
    cbc(mac, &mut body, |block| cipher.encrypt_block(block.into()));
    header + &wire::purse::to_hex(&body) + &wire::purse::to_hex(&mac)
}

/// counter ‖ purpose ‖ 00 ‖ algorithm 0000 (two-key 3DES) ‖ 128 bits, for counters 01 and 02. Purpose 0 enciphers, 1 MACs.
fn derive_b(kbpk: &[u8; 16], purpose: u8) -> Zeroizing<[u8; 16]> {
    let mut key = Zeroizing::new([0; 16]);
    for (half, counter) in key.as_chunks_mut::<8>().0.iter_mut().zip(1_u8..) {
        *half = tdes_cmac(kbpk, &[&[counter, 0, purpose, 0, 0, 0, 0, 0x80]]);
    }
    key
}

/// counter 01 ‖ purpose ‖ 00 ‖ algorithm 0002 (AES-128) ‖ 128 bits.
fn derive_d(kbpk: &[u8; 16], purpose: u8) -> Zeroizing<[u8; 16]> {
    Zeroizing::new(aes_cmac(kbpk, &[&[1, 0, purpose, 0, 0, 2, 0, 0x80]]))
}
