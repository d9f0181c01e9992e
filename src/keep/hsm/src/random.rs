//! The module's only random source: the operating system, watched by the health tests of NIST SP 800-90B §4.4.

use std::sync::Mutex;

use wire::error::{Refusal, Refused};
use zeroize::Zeroize;

/// Repetition count test, cutoff for 7 bits of entropy a byte and a false alarm in 2^48 samples.
const REPETITIONS: u32 = 7;

/// Adaptive proportion test: in a window of this many bytes …
const WINDOW: u32 = 512;

/// … the first may come at most this often (false alarm below 2^−50).
const PROPORTION: u32 = 30;

/// Bytes that must pass before the first output.
const START_UP: usize = 1024;

type Fill = fn(&mut [u8]) -> Result<(), ()>;

/// Random bytes, or a fault that stays.
#[derive(Debug)]
pub struct Random {
    fill: Fill,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    last: u8,
    repeated: u32,
    first: u8,
    seen: u32,
    proportion: u32,
    failed: bool,
}

impl Health {
    /// Takes one sample; `failed` never goes back.
    fn take(&mut self, byte: u8) {
        self.repeated = if self.repeated > 0 && byte == self.last { self.repeated + 1 } else { 1 };
        self.last = byte;
        if self.seen == 0 {
            self.first = byte;
            self.proportion = 0;
        }
        self.proportion += u32::from(byte == self.first);
        self.seen = (self.seen + 1) % WINDOW;
        self.failed |= self.repeated >= REPETITIONS || self.proportion >= PROPORTION;
    }
}

impl Random {
    /// The operating system's source, after its start-up test.
    pub fn system() -> Result<Self, Refused> {
        Self::with(|bytes| getrandom::fill(bytes).map_err(|_| ()))
    }

    fn with(fill: Fill) -> Result<Self, Refused> {
        let random = Self { fill, health: Mutex::default() };
        let mut bytes = [0; START_UP];
        random.fill(&mut bytes)?;
        bytes.zeroize();
        Ok(random)
    }

    /// Fills `bytes`, or refuses for ever after a health test has failed.
    pub fn fill(&self, bytes: &mut [u8]) -> Result<(), Refused> {
        let fault =
            || Refused::new(Refusal::Fault, "the random source failed its health test; restart the module");
        let mut health = self.health.lock().map_err(|_| fault())?;
        if health.failed || (self.fill)(bytes).is_err() {
            health.failed = true;
            return Err(fault());
        }
        bytes.iter().for_each(|byte| health.take(*byte));
        if health.failed {
            bytes.zeroize();
            return Err(fault());
        }
        Ok(())
    }

    /// A fresh array.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], Refused> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A fresh P-256 scalar.
    pub fn p256(&self) -> Result<p256::SecretKey, Refused> {
        // A 256-bit string is no scalar with probability 2^−32.
        for _ in 0..8 {
            let mut bytes: [u8; 32] = self.array()?;
            let secret = p256::SecretKey::from_slice(&bytes);
            bytes.zeroize();
            if let Ok(secret) = secret {
                return Ok(secret);
            }
        }
        Err(Refused::new(Refusal::Fault, "the random source gave no P-256 key; restart the module"))
    }

    /// Whether a health test has failed.
    pub fn has_failed(&self) -> bool {
        self.health.lock().map_or(true, |health| health.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_source_passes() {
        let random = Random::system().unwrap();
        let (one, two): ([u8; 32], [u8; 32]) = (random.array().unwrap(), random.array().unwrap());
        assert_ne!(one, two);
        let mut much = vec![0; 1 << 20];
        random.fill(&mut much).unwrap();
        assert!(!random.has_failed());
    }

    #[test]
    fn stuck_biased_and_absent_sources_trip_within_1024_samples() {
        let stuck: Fill = |bytes| {
            bytes.fill(0xa5);
            Ok(())
        };
        let biased: Fill = |bytes| {
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = if at % 8 == 0 { 7 } else { u8::try_from(at % 251).unwrap() };
            }
            Ok(())
        };
        for source in [stuck, biased, |_| Err(())] {
            assert_eq!(Random::with(source).unwrap_err().code, Refusal::Fault);
        }
    }

    #[test]
    fn a_failure_latches() {
        let random = Random::system().unwrap();
        random.health.lock().unwrap().failed = true;
        assert_eq!(random.array::<1>().unwrap_err().code, Refusal::Fault);
    }
}
