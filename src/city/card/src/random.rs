//! Random choices of the generator: SHA-256 in counter mode over a seed.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A stream of random choices; the same seed gives the same stream. For practice material only.
pub struct Random {
    seed: Zeroizing<[u8; 32]>,
    counter: u64,
    block: Zeroizing<[u8; 32]>,
    used: usize,
}

impl core::fmt::Debug for Random {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Random").finish_non_exhaustive()
    }
}

impl Random {
    /// The stream of a seed that a person chose. `purpose` keeps the streams of keys and days apart.
    pub fn from_seed(purpose: &str, seed: &str) -> Self {
        let mut digest = Sha256::new();
        for part in ["citycard practice", purpose, seed] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self::new(Zeroizing::new(digest.finalize().into()))
    }

    /// A stream that nobody can repeat.
    pub fn from_system() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice())?;
        Ok(Self::new(seed))
    }

    fn new(seed: Zeroizing<[u8; 32]>) -> Self {
        Self { seed, counter: 0, block: Zeroizing::new([0; 32]), used: 32 }
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.block.len() {
                let mut digest = Sha256::new();
                digest.update(self.seed.as_slice());
                digest.update(self.counter.to_be_bytes());
                self.block.copy_from_slice(&digest.finalize());
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block.get(self.used).copied().unwrap_or_default();
            self.used += 1;
        }
    }

    /// `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A number below `limit`, each equally likely; 0 for a limit of 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 {
            return 0;
        }
        // Values above the last whole multiple would favour small remainders.
        let fair = u64::MAX - u64::MAX % limit;
        loop {
            let value = u64::from_be_bytes(self.bytes());
            if value < fair {
                return value % limit;
            }
        }
    }

    /// A place in a list of `len`.
    pub fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_stream_and_no_other() {
        let stream = |purpose: &str, seed: &str| Random::from_seed(purpose, seed).bytes::<64>();
        assert_eq!(stream("day", "1"), stream("day", "1"));
        assert_ne!(stream("day", "1"), stream("day", "2"));
        assert_ne!(stream("day", "1"), stream("keys", "1"));
        assert_ne!(stream("da", "y1"), stream("day", "1"));
        assert_ne!(Random::from_system().unwrap().bytes::<32>(), Random::from_system().unwrap().bytes());
    }

    #[test]
    fn every_number_below_a_limit_comes() {
        let mut random = Random::from_seed("test", "below");
        let mut seen = [0_u32; 7];
        for _ in 0..7000 {
            seen[random.place(7)] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }
}
