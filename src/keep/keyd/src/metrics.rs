//! What operators count and watch, for Prometheus. `METRICS.md` describes every metric; a test holds it to the table in `families`.
//!
//! No label holds what a client chose: routes, codes, verdicts and the like are keyd's own words.

mod families;
mod listener;
mod page;
mod scrape;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wire::batch::Verdict;

pub(crate) use self::listener::Listener;
pub use self::listener::Place;
pub(crate) use self::scrape::{Attached, Serving, Sources};

/// Upper ends of the batches' seconds; a day of a city is some seconds, a retry of one wrong line below one.
const SECONDS: [f64; 8] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];

/// What is counted while requests run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    requests: Mutex<BTreeMap<Request, u64>>,
    verdicts: [AtomicU64; Verdict::ALL.len()],
    batches: Mutex<BTreeMap<&'static str, u64>>,
    seconds: Mutex<Histogram>,
}

/// Which requests are counted together.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Request {
    /// Path of the route, as in openapi.json; `other` where there is none.
    pub(crate) route: &'static str,
    pub(crate) method: &'static str,
    /// `ok`, or the problem's code.
    pub(crate) code: &'static str,
}

/// How long batches took.
#[derive(Clone, Copy, Debug, Default)]
struct Histogram {
    /// Batches up to each end of [`SECONDS`].
    upto: [u64; SECONDS.len()],
    count: u64,
    sum: f64,
}

impl Counters {
    pub(crate) fn request(&self, request: Request) {
        *lock(&self.0.requests).entry(request).or_default() += 1;
    }

    pub(crate) fn verdicts(&self, bytes: &[u8]) {
        let mut counts = [0_u64; Verdict::ALL.len()];
        for byte in bytes {
            // A verdict's byte is its place in the list.
            if let Some(count) = counts.get_mut(usize::from(*byte)) {
                *count += 1;
            }
        }
        for (counter, count) in self.0.verdicts.iter().zip(counts) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// A batch that got its receipt.
    pub(crate) fn batch(&self, took: Duration) {
        self.batch_ended("receipt");
        lock(&self.0.seconds).add(took.as_secs_f64());
    }

    /// A batch that ended otherwise, by the code of why.
    pub(crate) fn batch_ended(&self, end: &'static str) {
        *lock(&self.0.batches).entry(end).or_default() += 1;
    }
}

impl Histogram {
    fn add(&mut self, seconds: f64) {
        for (end, upto) in SECONDS.iter().zip(&mut self.upto) {
            *upto += u64::from(seconds <= *end);
        }
        self.count += 1;
        self.sum += seconds;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
