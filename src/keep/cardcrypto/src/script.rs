//! Card commands under line protection, WRITE KEY, RELOAD PIN (card-crypto I.1, I.2, E.3).

use wire::key::Algorithm;
use zeroize::Zeroizing;

use crate::card_key::CardKey;

/// Data bytes of one command at most: Lc is one byte and counts the MAC.
const DATA_MAX: usize = 251;

/// Bytes of a PIN: BCD and filling. A MAC over longer bytes of a caller's would have the shape of a TAC.
const PIN_LEN: core::ops::RangeInclusive<usize> = 2..=6;

/// Bytes of a key header at most (card-crypto B.2).
const KEY_HEADER_MAX: usize = 8;

/// What an issuer script does.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "callers build it")]
pub enum Script {
    /// UPDATE BINARY of a short file id, 1 to 30.
    UpdateBinary {
        /// Short file id.
        sfi: u8,
        /// Offset.
        offset: u8,
        /// Content, 1 to 251 bytes.
        data: Vec<u8>,
    },
    /// UPDATE RECORD of a short file id, 1 to 30.
    UpdateRecord {
        /// Short file id.
        sfi: u8,
        /// Record number, from 1.
        record: u8,
        /// Content, 1 to 251 bytes.
        data: Vec<u8>,
    },
    /// APPLICATION BLOCK.
    BlockApplication,
    /// APPLICATION UNBLOCK.
    UnblockApplication,
    /// CARD BLOCK.
    BlockCard,
}

/// Fields that no command can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// Not 1 to 30.
    #[error("a short file id is 1 to 30")]
    File,
    /// Not 1 to 254.
    #[error("a record number is 1 to 254")]
    Record,
    /// Longer than 8 bytes.
    #[error("a key header has at most 8 bytes")]
    KeyHeader,
    /// Empty, or longer than a command holds.
    #[error("the data of a command are 1 to 251 bytes")]
    Length,
    /// Not 2 to 6 bytes.
    #[error("a PIN has 2 to 6 bytes")]
    Pin,
}

impl Script {
    fn header(&self) -> Result<([u8; 4], &[u8]), ScriptError> {
        let file = |sfi: u8| if (1..=30).contains(&sfi) { Ok(sfi) } else { Err(ScriptError::File) };
        Ok(match self {
            Self::UpdateBinary { sfi, offset, data } => {
                ([0x04, 0xd6, 0x80 | file(*sfi)?, *offset], content(data)?)
            }
            Self::UpdateRecord { record: 0 | 255, .. } => return Err(ScriptError::Record),
            Self::UpdateRecord { sfi, record, data } => {
                ([0x04, 0xdc, *record, (file(*sfi)? << 3) | 4], content(data)?)
            }
            Self::BlockApplication => ([0x84, 0x1e, 0, 0], &[]),
            Self::UnblockApplication => ([0x84, 0x18, 0, 0], &[]),
            Self::BlockCard => ([0x84, 0x16, 0, 0], &[]),
        })
    }
}

fn content(data: &[u8]) -> Result<&[u8], ScriptError> {
    if (1..=DATA_MAX).contains(&data.len()) { Ok(data) } else { Err(ScriptError::Length) }
}

impl CardKey {
    /// A whole command APDU with its MAC (card-crypto I.1): the IV is the card's challenge.
    ///
    /// # Errors
    /// [`ScriptError`].
    pub fn script(&self, challenge: [u8; 4], script: &Script) -> Result<Vec<u8>, ScriptError> {
        let (header, data) = script.header()?;
        Ok(self.protect(challenge, header, data))
    }

    /// RELOAD PIN (card-crypto E.3): `80 5E 00 00 Lc pin MAC4`. 3DES: single-DES CBC-MAC under the XOR of the key's halves; SM4
    /// (this project's rule, the standards are silent): SM4 CBC-MAC under the whole key.
    ///
    /// # Errors
    /// [`ScriptError::Pin`].
    pub fn reload_pin(&self, pin: &[u8]) -> Result<Vec<u8>, ScriptError> {
        if !PIN_LEN.contains(&pin.len()) {
            return Err(ScriptError::Pin);
        }
        let rule = match self.algorithm() {
            Algorithm::Tdes => lanes::MacRule::DesFolded,
            _ => lanes::MacRule::Sm4,
        };
        let mac = lanes::mac(rule, self.bytes(), pin);
        Ok([&[0x80, 0x5e, 0, 0, length(pin.len())], pin, &mac].concat())
    }

    /// Appends the MAC of line protection: `CLA INS P1 P2 Lc data MAC4`, Lc counting the MAC.
    fn protect(&self, challenge: [u8; 4], header: [u8; 4], data: &[u8]) -> Vec<u8> {
        let mut command = [header.as_slice(), &[length(data.len())], data].concat();
        // The IV is the challenge and zeros, and a command has five bytes at least: XOR into its front is XOR with the IV.
        let mut message = command.clone();
        message.iter_mut().zip(challenge).for_each(|(to, from)| *to ^= from);
        let mac: [u8; 4] = match self.algorithm() {
            Algorithm::Tdes => {
                let [a, b, c, d, ..] = lanes::retail_mac(self.bytes(), &message);
                [a, b, c, d]
            }
            _ => lanes::mac(lanes::MacRule::Sm4, self.bytes(), &message),
        };
        command.extend(mac);
        command
    }

    /// ECB in place; whole blocks.
    fn encrypt(&self, data: &mut [u8]) {
        match self.algorithm() {
            Algorithm::Tdes => {
                data.as_chunks_mut::<8>()
                    .0
                    .iter_mut()
                    .for_each(|block| lanes::tdes_encrypt(self.bytes(), block));
            }
            _ => data
                .as_chunks_mut::<16>()
                .0
                .iter_mut()
                .for_each(|block| lanes::sm4_encrypt(self.bytes(), block)),
        }
    }
}

/// Lc of data and a MAC; lengths were checked.
fn length(data: usize) -> u8 {
    u8::try_from(data + 4).unwrap_or(u8::MAX)
}

/// P1 and P2 of WRITE KEY; each card operating system has its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "callers build it")]
pub struct WriteStyle {
    /// P1.
    pub p1: u8,
    /// P2.
    pub p2: u8,
}

/// WRITE KEY (card-crypto I.2): `84 D4 P1 P2 Lc cipher MAC4`. The plaintext is length ‖ key header ‖ key, padded with `80 00…`
/// unless it fills whole blocks; ECB and MAC are under the control key.
///
/// # Errors
/// [`ScriptError::KeyHeader`].
pub fn write_key(
    control: &CardKey,
    style: WriteStyle,
    header: &[u8],
    key: &CardKey,
    challenge: [u8; 4],
) -> Result<Vec<u8>, ScriptError> {
    if header.len() > KEY_HEADER_MAX {
        return Err(ScriptError::KeyHeader);
    }
    let block = if control.algorithm() == Algorithm::Tdes { 8 } else { 16 };
    let mut plain = Zeroizing::new(Vec::with_capacity(48));
    plain.push(u8::try_from(header.len() + 16).unwrap_or(u8::MAX));
    plain.extend_from_slice(header);
    plain.extend_from_slice(key.bytes());
    if !plain.len().is_multiple_of(block) {
        plain.push(0x80);
        while !plain.len().is_multiple_of(block) {
            plain.push(0);
        }
    }
    control.encrypt(&mut plain);
    Ok(control.protect(challenge, [0x84, 0xd4, style.p1, style.p2], &plain))
}
