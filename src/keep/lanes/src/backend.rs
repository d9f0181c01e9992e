//! The backends, and which one this process uses.

use core::{error, fmt};
use std::sync::OnceLock;

use zeroize::Zeroizing;

use crate::MacRule::{DesFolded, Sm4};
#[cfg(target_arch = "x86_64")]
use crate::cpu;
use crate::rows::{ROW, Rows};
use crate::scrub::{BULK, SINGLE, scrubbed};
use crate::{Cipher, MESSAGE_MAX, MacRule, Out, Plan, STEPS_MAX, ShapeError, des, sm4};

/// A way to compute all of this crate, that this CPU has: there is no value for what it has not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backend(Kind);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(cpu::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx2Gfni(cpu::Avx2Gfni),
    #[cfg(target_arch = "x86_64")]
    Avx512(cpu::Avx512),
}

/// Every name, best first.
const NAMES: [&str; 4] = ["avx512", "avx2-gfni", "avx2", "portable"];

/// Rows put together at a time from factors and messages.
const LOT: usize = 256;

/// What [`select`] chose, or the best on first use.
static CURRENT: OnceLock<Backend> = OnceLock::new();

/// Makes every later call of this crate's functions use `backend`. For configuration at start, and for tests.
///
/// # Errors
/// [`BackendError::Chosen`] if another one was chosen, or has been used, before.
pub fn select(backend: Backend) -> Result<(), BackendError> {
    let current = *CURRENT.get_or_init(|| backend);
    if current == backend { Ok(()) } else { Err(BackendError::Chosen(current.name())) }
}

impl Backend {
    /// The names of all backends, best first, whether this CPU has them or not.
    pub const fn all() -> &'static [&'static str] {
        &NAMES
    }

    /// The backends that this CPU has, best first.
    pub fn available() -> impl Iterator<Item = Self> {
        NAMES.into_iter().filter_map(|name| Self::named(name).ok())
    }

    /// The backend of a name.
    ///
    /// # Errors
    /// [`BackendError::Unknown`] or [`BackendError::Cpu`].
    pub fn named(name: &str) -> Result<Self, BackendError> {
        let kind = match name {
            "portable" => Some(Kind::Portable),
            #[cfg(target_arch = "x86_64")]
            "avx2" => cpu::Avx2::detect().map(Kind::Avx2),
            #[cfg(target_arch = "x86_64")]
            "avx2-gfni" => cpu::Avx2Gfni::detect().map(Kind::Avx2Gfni),
            #[cfg(target_arch = "x86_64")]
            "avx512" => cpu::Avx512::detect().map(Kind::Avx512),
            _ if NAMES.contains(&name) => None,
            _ => return Err(BackendError::Unknown(name.to_owned())),
        };
        kind.map(Self).ok_or_else(|| BackendError::Cpu(name.to_owned()))
    }

    /// The one that this process uses: the one of [`select`], or else the best.
    pub fn current() -> Self {
        *CURRENT.get_or_init(|| Self::available().next().unwrap_or(Self(Kind::Portable)))
    }

    /// Its name, as [`Self::named`] takes it.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2Gfni(_) => "avx2-gfni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
        }
    }

    /// [`crate::diversified_mac`] on this backend.
    pub fn diversified_mac(
        self,
        plan: &Plan<'_>,
        factors: &[[u8; 8]],
        messages: &[[u8; MESSAGE_MAX]],
        tags: &mut [[u8; 4]],
    ) -> Result<(), ShapeError> {
        if factors.len() != tags.len() || messages.len() != tags.len() {
            return Err(ShapeError::Lanes);
        }
        check(plan, MESSAGE_MAX)?;
        let mut rows = [[0; ROW]; LOT];
        for ((factors, messages), tags) in
            factors.chunks(LOT).zip(messages.chunks(LOT)).zip(tags.chunks_mut(LOT))
        {
            for ((row, factor), message) in rows.iter_mut().zip(factors).zip(messages) {
                let (to_factor, to_message) = row.split_at_mut(8);
                to_factor.copy_from_slice(factor);
                to_message.copy_from_slice(message);
            }
            let (rows, _) = rows.split_at(tags.len());
            self.bulk(plan, &Rows::all(rows), &mut Out::Tags(tags));
        }
        Ok(())
    }

    /// [`crate::verify`] on this backend.
    pub fn verify(
        self,
        plan: &Plan<'_>,
        rows: &[[u8; ROW]],
        picks: &[u32],
        verdicts: &mut [u64],
    ) -> Result<(), ShapeError> {
        verdicts.fill(0);
        check(plan, ROW - 8 - 4)?;
        let rows = Rows::picked(rows, picks).ok_or(ShapeError::Lanes)?;
        if verdicts.len() != picks.len().div_ceil(64) {
            return Err(ShapeError::Lanes);
        }
        self.bulk(plan, &rows, &mut Out::Verdicts(verdicts));
        if let Some(last) = verdicts.last_mut() {
            *last &= u64::MAX >> (picks.len().wrapping_neg() % 64);
        }
        Ok(())
    }

    /// Every lane of a bulk call. Shapes have been checked.
    fn bulk(self, plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
        scrubbed::<_, BULK>(|| match (self.0, plan.rule) {
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx512(cpu), Sm4) => sm4::planes::avx512::bulk(cpu, plan, rows, out),
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx2Gfni(cpu), Sm4) => sm4::planes::avx2_gfni::bulk(cpu, plan, rows, out),
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx2(cpu), Sm4) => sm4::bits::avx2::bulk(cpu, plan, rows, out),
            (Kind::Portable, Sm4) => sm4::bits::portable::bulk((), plan, rows, out),
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx512(cpu), DesFolded) => des::avx512::bulk(cpu, plan, rows, out),
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx2Gfni(cpu), DesFolded) => des::avx2::bulk(cpu.avx2(), plan, rows, out),
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx2(cpu), DesFolded) => des::avx2::bulk(cpu, plan, rows, out),
            (Kind::Portable, DesFolded) => des::portable::bulk((), plan, rows, out),
        });
        self.wipe_registers();
    }

    /// The last block of an SM4-CBC encryption of the blocks of both slices, from `out` as the initial vector.
    fn sm4_chain(self, key: &[u8; 16], blocks: [&[[u8; 16]]; 2], out: &mut [u8; 16]) {
        scrubbed::<_, SINGLE>(|| match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(cpu) => sm4::planes::avx512::chain(cpu, key, blocks, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2Gfni(cpu) => sm4::planes::avx2_gfni::chain(cpu, key, blocks, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(cpu) => sm4::bits::avx2::chain(cpu, key, blocks, out),
            Kind::Portable => sm4::bits::portable::chain((), key, blocks, out),
        });
        self.wipe_registers();
    }

    /// 3DES of two blocks.
    fn tdes_two(self, key: &[u8; 16], blocks: &mut [[u8; 8]; 2]) {
        scrubbed::<_, SINGLE>(|| match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(cpu) => des::avx512::two(cpu, key, blocks),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2Gfni(cpu) => des::avx2::two(cpu.avx2(), key, blocks),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(cpu) => des::avx2::two(cpu, key, blocks),
            Kind::Portable => des::portable::two((), key, blocks),
        });
        self.wipe_registers();
    }

    /// DES-CBC-MAC with padding under the left half of the key; `retail`: ISO/IEC 9797-1 algorithm 3.
    fn des_mac(self, key: &[u8; 16], message: &[u8], retail: bool) -> [u8; 8] {
        let (blocks, rest) = message.as_chunks();
        let last = padded(rest);
        let blocks = [blocks, &[last]];
        let mac = scrubbed::<_, SINGLE>(|| match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(cpu) => des::avx512::mac(cpu, key, blocks, retail),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2Gfni(cpu) => des::avx2::mac(cpu.avx2(), key, blocks, retail),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(cpu) => des::avx2::mac(cpu, key, blocks, retail),
            Kind::Portable => des::portable::mac((), key, blocks, retail),
        });
        self.wipe_registers();
        mac
    }

    /// Nothing of a computation stays in vector registers. (Others are used again at once, whatever runs next.)
    pub(crate) fn wipe_registers(self) {
        match self.0 {
            Kind::Portable => (),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(cpu) => crate::x86::wipe_avx2(cpu),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2Gfni(cpu) => crate::x86::wipe_avx2(cpu.avx2()),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(cpu) => crate::x86::wipe_avx512(cpu),
        }
    }

    /// [`crate::diversify`] on this backend.
    pub fn diversify(self, cipher: Cipher, key: &mut [u8; 16], factor: &[u8; 8]) {
        let mut halves = Zeroizing::new([*factor, factor.map(|byte| !byte)]);
        match cipher {
            Cipher::Sm4 => {
                let mut block = [0; 16];
                block.copy_from_slice(halves.as_flattened());
                let mut child = Zeroizing::new([0; 16]);
                self.sm4_chain(key, [&[block], &[]], &mut child);
                key.copy_from_slice(&*child);
            }
            Cipher::Tdes => {
                self.tdes_two(key, &mut halves);
                key.copy_from_slice(halves.as_flattened());
            }
        }
    }

    /// [`crate::mac`] on this backend.
    pub fn mac(self, rule: MacRule, card_key: &[u8; 16], message: &[u8]) -> [u8; 4] {
        match rule {
            DesFolded => {
                // The right half is not used.
                let mut folded = Zeroizing::new(*card_key);
                let (left, right) = folded.split_at_mut(8);
                for (left, right) in left.iter_mut().zip(right) {
                    *left ^= *right;
                }
                left4(self.des_mac(&folded, message, false))
            }
            Sm4 => left4(self.sm4_cbc_mac(card_key, message)),
        }
    }

    /// [`crate::sm4_encrypt`] on this backend.
    pub fn sm4_encrypt(self, key: &[u8; 16], block: &mut [u8; 16]) {
        let mut out = Zeroizing::new([0; 16]);
        self.sm4_chain(key, [&[*block], &[]], &mut out);
        block.copy_from_slice(&*out);
    }

    /// [`crate::tdes_encrypt`] on this backend.
    pub fn tdes_encrypt(self, key: &[u8; 16], block: &mut [u8; 8]) {
        let mut blocks = Zeroizing::new([*block, [0; 8]]);
        self.tdes_two(key, &mut blocks);
        let [encrypted, _] = &*blocks;
        *block = *encrypted;
    }

    /// [`crate::des_cbc_mac`] on this backend.
    pub fn des_cbc_mac(self, key: &[u8; 8], message: &[u8]) -> [u8; 8] {
        let mut both = Zeroizing::new([0; 16]);
        let (left, _) = both.split_at_mut(8);
        left.copy_from_slice(key);
        self.des_mac(&both, message, false)
    }

    /// [`crate::sm4_cbc_mac`] on this backend.
    pub fn sm4_cbc_mac(self, key: &[u8; 16], message: &[u8]) -> [u8; 16] {
        let (blocks, rest) = message.as_chunks();
        let last = padded(rest);
        let mut mac = [0; 16];
        self.sm4_chain(key, [blocks, &[last]], &mut mac);
        mac
    }

    /// [`crate::retail_mac`] on this backend.
    pub fn retail_mac(self, key: &[u8; 16], message: &[u8]) -> [u8; 8] {
        self.des_mac(key, message, true)
    }
}

/// Less than a block, and `80 00…`.
fn padded<const N: usize>(rest: &[u8]) -> [u8; N] {
    let mut block = [0; N];
    for (to, from) in block.iter_mut().zip(rest.iter().chain(&[0x80])) {
        *to = *from;
    }
    block
}

fn left4<const N: usize>(mac: [u8; N]) -> [u8; 4] {
    mac.first_chunk().copied().unwrap_or_default()
}

fn check(plan: &Plan<'_>, message_max: usize) -> Result<(), ShapeError> {
    if plan.message_len > message_max {
        return Err(ShapeError::Message);
    }
    if plan.steps.len() > STEPS_MAX { Err(ShapeError::Steps) } else { Ok(()) }
}

/// Why there is no such backend.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum BackendError {
    /// Another one is in use already.
    Chosen(&'static str),
    /// This CPU has not what it needs.
    Cpu(String),
    /// No backend has this name.
    Unknown(String),
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen(name) => {
                write!(f, "backend {name} is in use; choose one before anything is computed")
            }
            Self::Cpu(name) => {
                write!(f, "this CPU cannot run backend {name}: leave the choice to the program")
            }
            Self::Unknown(name) => write!(f, "no backend {name}: choose one of {}", NAMES.join(", ")),
        }
    }
}

impl error::Error for BackendError {}
