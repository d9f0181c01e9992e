//! CMAC (NIST SP 800-38B) over AES-128, two-key 3DES and SM4.

use cmac::{Cmac, KeyInit, Mac};
use zeroize::Zeroizing;

/// AES-128.
pub(crate) fn aes_cmac(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 16] {
    over(Cmac::<aes::Aes128>::new(key.into()), parts).into()
}

/// Two-key 3DES.
pub(crate) fn tdes_cmac(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 8] {
    over(Cmac::<des::TdesEde2>::new(key.into()), parts).into()
}

/// SM4.
pub(crate) fn sm4_cmac(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 16] {
    over(Cmac::<sm4::Sm4>::new(key.into()), parts).into()
}

fn over<M: Mac>(mut mac: M, parts: &[&[u8]]) -> cmac::digest::Output<M> {
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes()
}

/// CBC encryption in place, whole blocks, by a one-block function.
pub(crate) fn cbc<const N: usize>(iv: [u8; N], data: &mut [u8], encrypt: impl Fn(&mut [u8; N])) {
    let mut last = Zeroizing::new(iv);
    for block in data.as_chunks_mut::<N>().0 {
        for (to, from) in block.iter_mut().zip(last.iter()) {
            *to ^= from;
        }
        encrypt(block);
        last.copy_from_slice(block);
    }
}
