//! The receiving side of TR-31/X9.143 versions B and D, strict, written on the cipher crates alone: transport keys of any
//! length that the versions know.

use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

/// An opened block: everything before the enciphered part, and what that deciphers to.
pub(crate) struct Opened {
    pub(crate) header: String,
    pub(crate) body: Vec<u8>,
}

impl Opened {
    /// The key; `None` if its length in bits is none.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        let (bits, rest) = self.body.split_first_chunk::<2>()?;
        let bits = usize::from(u16::from_be_bytes(*bits));
        if bits.is_multiple_of(8) { rest.get(..bits / 8) } else { None }
    }

    /// Data of the optional block with this id.
    pub(crate) fn option(&self, id: &str) -> Option<&str> {
        options(&self.header).unwrap().0.into_iter().find(|(found, _)| *found == id).map(|(_, data)| data)
    }
}

/// Opens a block; `None` for whatever is wrong with it.
pub(crate) fn unwrap(kbpk: &[u8], block: &[u8]) -> Option<Opened> {
    let text = core::str::from_utf8(block).ok().filter(|text| text.is_ascii())?;
    let (cipher, derived) = match text.get(..1)? {
        "B" => (
            tdes(kbpk)?,
            [0_u16, 1].map(|purpose| derive(&tdes(kbpk).unwrap(), kbpk.len(), [0, 0, 1], purpose)),
        ),
        "D" => (
            aes(kbpk)?,
            [0_u16, 1].map(|purpose| derive(&aes(kbpk).unwrap(), kbpk.len(), [2, 3, 4], purpose)),
        ),
        _ => return None,
    };
    let digits = text.get(1..5)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.parse() != Ok(text.len()) {
        return None;
    }
    let (_, end) = options(text)?;
    let (header, rest) = text.split_at_checked(end)?;
    if !header.len().is_multiple_of(cipher.block) {
        return None;
    }
    let bytes = upper_hex(rest)?;
    let (body, mac) = bytes.split_at_checked(bytes.len().checked_sub(cipher.block)?)?;
    if body.is_empty() || !body.len().is_multiple_of(cipher.block) {
        return None;
    }
    let make = if text.starts_with('B') { tdes } else { aes };
    let [encryption, authentication] = derived.map(|key| make(&key).unwrap());
    let body = cbc_decrypt(&encryption, mac, body);
    let computed = cmac(&authentication, &[header.as_bytes(), &body].concat());
    (computed == mac).then(|| Opened { header: header.to_owned(), body })
}

/// The optional blocks by id, and where they end.
fn options(text: &str) -> Option<(Vec<(&str, &str)>, usize)> {
    let count: usize = text.get(12..14)?.parse().ok()?;
    let (mut found, mut at) = (Vec::new(), 16);
    for _ in 0..count {
        let len = *upper_hex(text.get(at + 2..at + 4)?)?.first()?;
        let end = at + usize::from(len);
        found.push((text.get(at..at + 2)?, text.get(at + 4..end)?));
        at = end;
    }
    Some((found, at))
}

/// Lower case is refused: a block has one spelling.
fn upper_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let pair = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}

type OneBlock = Box<dyn Fn(&mut [u8])>;

struct Cipher {
    block: usize,
    encrypt: OneBlock,
    decrypt: OneBlock,
}

fn make<C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt + Clone + 'static>(
    key: &[u8],
) -> Option<Cipher> {
    let cipher = C::new_from_slice(key).ok()?;
    let other = cipher.clone();
    Some(Cipher {
        block: C::block_size(),
        encrypt: Box::new(move |block| cipher.encrypt_block(<&mut Block<C>>::try_from(block).unwrap())),
        decrypt: Box::new(move |block| other.decrypt_block(<&mut Block<C>>::try_from(block).unwrap())),
    })
}

fn tdes(key: &[u8]) -> Option<Cipher> {
    make::<des::TdesEde2>(key).or_else(|| make::<des::TdesEde3>(key))
}

fn aes(key: &[u8]) -> Option<Cipher> {
    make::<aes::Aes128>(key).or_else(|| make::<aes::Aes192>(key)).or_else(|| make::<aes::Aes256>(key))
}

/// counter ‖ purpose ‖ 00 ‖ algorithm ‖ bits; `algorithms` are the codes of keys of 16, 24 and 32 bytes.
fn derive(cipher: &Cipher, len: usize, algorithms: [u16; 3], purpose: u16) -> Vec<u8> {
    let known: Vec<usize> = if cipher.block == 8 { vec![0, 16, 24] } else { vec![16, 24, 32] };
    let algorithm = algorithms[known.iter().position(|known| *known == len).unwrap()];
    let bits = u16::try_from(len * 8).unwrap();
    let mut key = Vec::new();
    for counter in 1_u8.. {
        if key.len() >= len {
            break;
        }
        let mut input = vec![counter];
        input.extend(purpose.to_be_bytes());
        input.push(0);
        input.extend(algorithm.to_be_bytes());
        input.extend(bits.to_be_bytes());
        key.extend(cmac(cipher, &input));
    }
    key.truncate(len);
    key
}

/// NIST SP 800-38B, from its text.
pub(crate) fn sm4_cmac(key: &[u8; 16], message: &[u8]) -> Vec<u8> {
    cmac(&make::<sm4::Sm4>(key).unwrap(), message)
}

fn cmac(cipher: &Cipher, message: &[u8]) -> Vec<u8> {
    let mut subkey = vec![0; cipher.block];
    (cipher.encrypt)(&mut subkey);
    double(&mut subkey);
    let mut padded = message.to_vec();
    if padded.is_empty() || !padded.len().is_multiple_of(cipher.block) {
        double(&mut subkey);
        padded.push(0x80);
        padded.resize(padded.len().next_multiple_of(cipher.block), 0);
    }
    let last = padded.len() - cipher.block;
    padded[last..].iter_mut().zip(&subkey).for_each(|(to, from)| *to ^= from);
    padded.chunks(cipher.block).fold(vec![0; cipher.block], |mut state, block| {
        state.iter_mut().zip(block).for_each(|(to, from)| *to ^= from);
        (cipher.encrypt)(&mut state);
        state
    })
}

fn double(block: &mut [u8]) {
    let carry = block[0] >> 7;
    let rest: Vec<u8> = block[1..].iter().map(|byte| byte >> 7).chain([0]).collect();
    block.iter_mut().zip(rest).for_each(|(byte, low)| *byte = *byte << 1 | low);
    let polynomial = if block.len() == 8 { 0x1b } else { 0x87 };
    *block.last_mut().unwrap() ^= carry * polynomial;
}

fn cbc_decrypt(cipher: &Cipher, iv: &[u8], data: &[u8]) -> Vec<u8> {
    let previous = [iv, data].concat();
    let mut plain = data.to_vec();
    for (block, previous) in plain.chunks_mut(cipher.block).zip(previous.chunks(cipher.block)) {
        (cipher.decrypt)(block);
        block.iter_mut().zip(previous).for_each(|(to, from)| *to ^= from);
    }
    plain
}
