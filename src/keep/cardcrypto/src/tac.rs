//! The transaction authentication code of an e-purse (card-crypto D.1, D.2), made by one card or checked for many.

use lanes::{GROUP, MESSAGE_MAX, MacRule, Plan, Step};
use subtle::ConstantTimeEq;
use wire::batch::Profile;
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
        for (items, checks) in items.chunks(GROUP).zip(checks.chunks_mut(GROUP)) {
            verify_group(&plan, per_card, items, checks)?;
        }
        Ok(())
    }
}

/// At most [`GROUP`] items. Everything is on the stack, and the true TACs do not outlive the comparison.
fn verify_group(
    plan: &Plan<'_>,
    per_card: bool,
    items: &[TacItem],
    checks: &mut [TacCheck],
) -> Result<(), TacError> {
    let mut factors = [[0; 8]; GROUP];
    let mut messages = [[0; MESSAGE_MAX]; GROUP];
    let mut tacs = Zeroizing::new([[0; 4]; GROUP]);
    for ((item, factor), message) in items.iter().zip(&mut factors).zip(&mut messages) {
        *factor = item.card;
        for (to, from) in message.iter_mut().zip(item.data) {
            *to = from;
        }
    }
    let (factors, _) = factors.split_at(items.len());
    let (messages, _) = messages.split_at(items.len());
    let (tacs, _) = tacs.split_at_mut(items.len());
    lanes::diversified_mac(plan, factors, messages, tacs).map_err(|_| TacError::Lengths)?;
    for ((item, tac), check) in items.iter().zip(tacs.iter()).zip(checks) {
        let equal = bool::from(tac.as_slice().ct_eq(&item.tac));
        *check = if per_card && check_factor(&item.card).is_err() {
            TacCheck::RefusedFactor
        } else if equal {
            TacCheck::Match
        } else {
            TacCheck::Mismatch
        };
    }
    Ok(())
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
