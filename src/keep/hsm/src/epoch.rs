//! Epoch keys: each signs the heads of one epoch beside the log key. They are made in secret memory, are never sealed, since
//! an old copy would come back, and are wiped when their epoch is over (translog's SPEC.md §Epochs).

use std::time::Duration;

use ed25519_dalek::SigningKey;
use securemem::{Arena, Secret};
use translog::epoch::Epoch;
use wire::error::Refused;

use crate::random::Random;
use crate::root::no_memory;

/// Hours that an epoch lasts unless the command line says less.
pub const EPOCH_HOURS_DEFAULT: u64 = 24;

/// Reads `--epoch-hours`.
///
/// # Errors
/// A sentence, unless it is a number from 1 to 24.
pub fn epoch_hours(word: &str) -> Result<u64, String> {
    let hours = word.parse().ok().filter(|hours| (1..=EPOCH_HOURS_DEFAULT).contains(hours));
    hours.ok_or_else(|| "--epoch-hours is a number from 1 to 24".to_owned())
}

/// The expanded key lives on the caller's stack, which is secret memory, and erases itself.
pub(crate) fn ed25519(seed: &Secret) -> SigningKey {
    seed.with(|seed| SigningKey::from_bytes(&seed.first_chunk().copied().unwrap_or_default()))
}

/// The key of one epoch. Dropping it wipes it.
#[derive(Debug)]
pub(crate) struct EpochKey {
    seed: Secret,
    public: [u8; 32],
}

impl EpochKey {
    pub(crate) fn generate(arena: &Arena, random: &Random) -> Result<Self, Refused> {
        let seed = arena.alloc(32, |bytes| random.fill(bytes)).map_err(no_memory)?;
        let public = ed25519(&seed).verifying_key().to_bytes();
        Ok(Self { seed, public })
    }

    /// What officers certify and entries name.
    pub(crate) const fn public(&self) -> [u8; 32] {
        self.public
    }

    pub(crate) fn signer(&self) -> SigningKey {
        ed25519(&self.seed)
    }
}

/// The keys that still have something to sign.
#[derive(Debug)]
pub(crate) struct EpochKeys {
    present: EpochKey,
    /// When the present epoch began, on the module's clock.
    began: Duration,
    /// The key of the epoch before, and the size of the head that ends it.
    closing: Option<(EpochKey, u64)>,
}

impl EpochKeys {
    pub(crate) const fn new(present: EpochKey, began: Duration) -> Self {
        Self { present, began, closing: None }
    }

    pub(crate) const fn present(&self) -> &EpochKey {
        &self.present
    }

    /// The key of `epoch`, while it is here.
    pub(crate) fn of(&self, epoch: &Epoch) -> Option<&EpochKey> {
        let closing = self.closing.as_ref().map(|(key, _)| key);
        [Some(&self.present), closing].into_iter().flatten().find(|key| key.public == epoch.key)
    }

    /// Whether an epoch of this length is over. The one before must be closed first.
    pub(crate) fn is_due(&self, now: Duration, length: Duration) -> bool {
        self.closing.is_none() && now.saturating_sub(self.began) >= length
    }

    /// `next` follows; the present key has a head of `size` entries left to sign.
    pub(crate) fn turn(&mut self, next: EpochKey, size: u64, now: Duration) {
        let ended = std::mem::replace(&mut self.present, next);
        self.closing = Some((ended, size));
        self.began = now;
    }

    /// Wipes the closing key once heads up to `size` are safe.
    pub(crate) fn let_go(&mut self, size: u64) {
        self.closing.take_if(|(_, end)| *end <= size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_have_bounds() {
        assert_eq!((epoch_hours("1"), epoch_hours("24")), (Ok(1), Ok(24)));
        for word in ["0", "25", "-1", "", "a day"] {
            assert!(epoch_hours(word).unwrap_err().contains("1 to 24"), "{word}");
        }
    }
}
