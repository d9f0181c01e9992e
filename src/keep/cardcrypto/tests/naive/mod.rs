//! The definitions, written out once more on the cipher crates.
#![allow(dead_code, reason = "not every test needs each")]

use des::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

pub(crate) fn sm4(key: &[u8; 16], block: [u8; 16]) -> [u8; 16] {
    let mut block = block.into();
    sm4::Sm4::new(key.into()).encrypt_block(&mut block);
    block.into()
}

pub(crate) fn sm4_decrypt(key: &[u8; 16], block: [u8; 16]) -> [u8; 16] {
    let mut block = block.into();
    sm4::Sm4::new(key.into()).decrypt_block(&mut block);
    block.into()
}

pub(crate) fn tdes(key: &[u8; 16], block: [u8; 8]) -> [u8; 8] {
    let mut block = block.into();
    des::TdesEde2::new(key.into()).encrypt_block(&mut block);
    block.into()
}

pub(crate) fn tdes_decrypt(key: &[u8; 16], block: [u8; 8]) -> [u8; 8] {
    let mut block = block.into();
    des::TdesEde2::new(key.into()).decrypt_block(&mut block);
    block.into()
}

pub(crate) fn des(key: [u8; 8], block: [u8; 8]) -> [u8; 8] {
    let mut block = block.into();
    des::Des::new(&key.into()).encrypt_block(&mut block);
    block.into()
}

pub(crate) fn des_decrypt(key: [u8; 8], block: [u8; 8]) -> [u8; 8] {
    let mut block = block.into();
    des::Des::new(&key.into()).decrypt_block(&mut block);
    block.into()
}

/// CBC-MAC over the message, 80, 00….
pub(crate) fn cbc_mac<const N: usize>(
    encrypt: impl Fn([u8; N]) -> [u8; N],
    iv: [u8; N],
    message: &[u8],
) -> [u8; N] {
    let mut padded = [message, &[0x80]].concat();
    padded.resize(padded.len().next_multiple_of(N), 0);
    padded.chunks(N).fold(iv, |state, block| encrypt(core::array::from_fn(|i| state[i] ^ block[i])))
}

/// ISO 9797-1 algorithm 3.
pub(crate) fn retail_mac(key: &[u8; 16], iv: [u8; 8], message: &[u8]) -> [u8; 8] {
    let [left, right] = [0, 8].map(|at| <[u8; 8]>::try_from(&key[at..at + 8]).unwrap());
    des(left, des_decrypt(right, cbc_mac(|block| des(left, block), iv, message)))
}
