//! A day through the key service.

use std::time::{Duration, Instant};

use client::{Client, Error, Verdicts};
use wire::api::Receipt;

use crate::day::Day;

/// How far a day is.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Progress {
    /// Lines with a provisional verdict.
    pub done: u64,
    /// Lines of the day.
    pub total: u64,
    /// Since the first byte was sent.
    pub elapsed: Duration,
}

impl Progress {
    /// Lines a second so far.
    pub fn rate(&self) -> f64 {
        rate(self.done, self.elapsed)
    }

    /// How long the rest will take at this rate, once that can be said.
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.total.saturating_sub(self.done);
        let rate = self.rate();
        (rate > 0.0).then(|| Duration::try_from_secs_f64(to_f64(left) / rate).ok()).flatten()
    }
}

/// A day whose receipt is good.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DayResult {
    /// One verdict per line.
    pub verdicts: Verdicts,
    /// The proof.
    pub receipt: Receipt,
    /// From the first byte sent to the checked receipt.
    pub elapsed: Duration,
}

impl DayResult {
    /// Lines a second, receipt included.
    pub fn rate(&self) -> f64 {
        rate(self.receipt.records, self.elapsed)
    }
}

/// Sends a day and gives its verdicts once their receipt is good.
pub async fn verify_day(
    client: &Client,
    day: &Day,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<DayResult, Error> {
    let (start, total) = (Instant::now(), day.lines());
    let heard = |done| {
        progress(Progress { done, total, elapsed: start.elapsed() });
    };
    let verified = client.settlement_verify(day.header(), total, day.records(), heard).await?;
    Ok(DayResult { verdicts: verified.verdicts, receipt: verified.receipt, elapsed: start.elapsed() })
}

fn rate(lines: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { to_f64(lines) / seconds } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people: 2^53 lines are beyond any day")]
fn to_f64(lines: u64) -> f64 {
    lines as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_remaining_time() {
        let progress = |done, seconds| Progress { done, total: 1000, elapsed: Duration::from_secs(seconds) };
        assert_eq!(progress(0, 0).remaining(), None);
        assert_eq!(progress(0, 3).remaining(), None);
        assert_eq!(progress(250, 1).remaining(), Some(Duration::from_secs(3)));
        assert_eq!(progress(1000, 4).remaining(), Some(Duration::ZERO));
    }
}
