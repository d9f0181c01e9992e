//! The transaction authentication code of an e-purse (card-crypto D.1, D.2), made by one card or checked for many.

use lanes::{MacRule, Plan, Step};
use wire::batch::{Profile, RECORD_LEN, Record};
use wire::key::{Algorithm, FactorSource};
use zeroize::Zeroizing;

use crate::diversify::{FactorError, check_factor, cipher};

/// The TAC that a card makes with its own TAC key: 4 bytes.
///
/// `data` is that of card-crypto D.2; only the first [`Profile::data_len`] bytes count. 3DES: the key's halves XORed, then
/// single-DES CBC-MAC. SM4: the whole key, SM4 CBC-MAC. IV zero, `80 00…` padding, left 4 bytes. Other algorithms have no TAC, and
/// get zeros.
pub fn card_tac(algorithm: Algorithm, card_key: &[u8; 16], profile: Profile, data: &[u8; 24]) -> [u8; 4] {
    let (data, _) = data.split_at(profile.data_len());
    rule(algorithm).map_or([0; 4], |rule| lanes::mac(rule, card_key, data))
}

/// One TAC to check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "callers build it")]
pub struct TacItem {
    /// Card factor: the right 8 bytes of the application serial number.
    pub card: [u8; 8],
    /// MACed data; only the first [`Profile::data_len`] bytes count.
    pub data: [u8; 24],
    /// The TAC that came with it.
    pub tac: [u8; 4],
}

/// What became of one [`TacItem`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a verdict that nobody handles must not compile")]
pub enum TacCheck {
    /// The TAC is the card's.
    Match,
    /// It is not.
    Mismatch,
    /// The card factor is all 00 or all FF and the key is derived from it: not judged, whatever the TAC says.
    RefusedFactor,
}

/// Why a bulk check was not done at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TacError {
    /// The issuer id is a factor of this key, and refused.
    #[error("the issuer id cannot be a derivation factor: {0}")]
    Issuer(#[source] FactorError),
    /// Items and checks differ in number.
    #[error("a bulk TAC check needs one place per item for its outcome")]
    Lengths,
    /// The key derives with the chip's own factor, which no transaction record has.
    #[error("a key that derives with the chip's factor checks no batch")]
    Chip,
    /// The algorithm has no TAC.
    #[error("a TAC is 3DES or SM4")]
    Algorithm,
    /// The key's memory has been wiped: all its bytes are 00.
    #[error("the key's memory has been wiped")]
    Wiped,
}

/// Lanes of one call: what a frame has at most.
const LANES: usize = 8192;

/// A key on loan and the way down from it: what a bulk check works with.
pub(crate) struct Chain<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) top: &'a [u8; 16],
    /// 1 to 3, top first, literals judged.
    pub(crate) levels: &'a [FactorSource],
}

impl Chain<'_> {
    /// See [`crate::MasterKey::verify_tacs`]. On an error some of `checks` may not have been written.
    pub(crate) fn verify(
        &self,
        profile: Profile,
        issuer: [u8; 8],
        items: &[TacItem],
        checks: &mut [TacCheck],
    ) -> Result<(), TacError> {
        if items.len() != checks.len() {
            return Err(TacError::Lengths);
        }
        let rows: Vec<[u8; RECORD_LEN]> = items
            .iter()
            .map(|item| {
                Record { card: item.card, data: item.data, tac: item.tac, group: 0 }.to_bytes(profile)
            })
            .collect();
        let picks: Vec<u32> = (0..).take(rows.len()).collect();
        self.verify_rows(profile, issuer, &rows, &picks, |at, check| {
            if let Some(to) = checks.get_mut(at) {
                *to = check;
            }
        })
    }

    /// See [`crate::MasterKey::verify_rows`].
    pub(crate) fn verify_rows(
        &self,
        profile: Profile,
        issuer: [u8; 8],
        rows: &[[u8; RECORD_LEN]],
        picks: &[u32],
        mut outcome: impl FnMut(usize, TacCheck),
    ) -> Result<(), TacError> {
        let (Some(cipher), Some(rule)) = (cipher(self.algorithm), rule(self.algorithm)) else {
            return Err(TacError::Algorithm);
        };
        if self.levels.contains(&FactorSource::CHIP) {
            return Err(TacError::Chip);
        }
        if self.levels.contains(&FactorSource::ISSUER_ID) {
            check_factor(&issuer).map_err(TacError::Issuer)?;
        }
        let steps: Vec<Step> = self.levels.iter().map(|source| step(source, issuer)).collect();
        let per_card = steps.contains(&Step::PerLane);

        // The leading levels that all cards share, once per call.
        let mut key = Zeroizing::new([0; 16]);
        key.copy_from_slice(self.top);
        let mut rest = steps.as_slice();
        while let Some((Step::Shared(factor), below)) = rest.split_first() {
            lanes::diversify(cipher, &mut key, factor);
            rest = below;
        }

        let plan = Plan { rule, top: &key, steps: rest, message_len: profile.data_len() };
        let mut right = [0_u64; LANES / 64];
        for picks in picks.chunks(LANES) {
            let (right, _) = right.split_at_mut(picks.len().div_ceil(64));
            lanes::verify(&plan, rows, picks, right).map_err(|_| TacError::Lengths)?;
            let bits = right.iter().flat_map(|word| (0..64).map(move |bit| word >> bit & 1 == 1));
            for (pick, right) in picks.iter().zip(bits) {
                let at = *pick as usize;
                let card = rows.get(at).and_then(|row| row.first_chunk());
                let check = if per_card && card.is_none_or(|card| check_factor(card).is_err()) {
                    TacCheck::RefusedFactor
                } else if right {
                    TacCheck::Match
                } else {
                    TacCheck::Mismatch
                };
                outcome(at, check);
            }
        }
        Ok(())
    }
}

const fn step(source: &FactorSource, issuer: [u8; 8]) -> Step {
    match source {
        FactorSource::IssuerId(_) => Step::Shared(issuer),
        // A chip's factor never gets here; the card's own level is the safe reading.
        FactorSource::AsnRight8(_) | FactorSource::Chip(_) => Step::PerLane,
        FactorSource::Literal(factor) => Step::Shared(*factor),
    }
}

const fn rule(algorithm: Algorithm) -> Option<MacRule> {
    match algorithm {
        Algorithm::Tdes => Some(MacRule::DesFolded),
        Algorithm::Sm4 => Some(MacRule::Sm4),
        Algorithm::Aes | Algorithm::P256 | Algorithm::Sm2 => None,
    }
}
