//! The progress line.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const TERMINAL_EVERY: Duration = Duration::from_millis(100);
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// On a terminal one line that rewrites itself, elsewhere a plain line now and then. Always on standard error.
#[derive(Debug)]
pub struct Meter {
    unit: &'static str,
    start: Instant,
    last: Duration,
    terminal: bool,
    drawn: bool,
}

impl Meter {
    /// A meter of `unit`s, starting now.
    pub fn new(unit: &'static str) -> Self {
        Self {
            unit,
            start: Instant::now(),
            last: Duration::ZERO,
            terminal: std::io::stderr().is_terminal(),
            drawn: false,
        }
    }

    /// `done` of `total` are done.
    pub fn show(&mut self, done: u64, total: u64) {
        let elapsed = self.start.elapsed();
        let every = if self.terminal { TERMINAL_EVERY } else { PLAIN_EVERY };
        if elapsed.saturating_sub(self.last) < every {
            return;
        }
        self.last = elapsed;
        self.drawn = true;
        let line = line(done, total, elapsed, self.unit);
        let mut stderr = std::io::stderr().lock();
        // Progress is a courtesy: a closed standard error must not end the work.
        let _ = if self.terminal { write!(stderr, "\r\x1b[K{line}") } else { writeln!(stderr, "{line}") };
        let _ = stderr.flush();
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.terminal && self.drawn {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn line(done: u64, total: u64, elapsed: Duration, unit: &str) -> String {
    let percent = if total == 0 { 100 } else { u128::from(done) * 100 / u128::from(total) };
    let milliseconds = elapsed.as_millis().max(1);
    let rate = u128::from(done) * 1000 / milliseconds;
    let left = u128::from(total.saturating_sub(done)).checked_div(rate);
    let left = left.map_or_else(|| "–".to_owned(), |left| format!("{left} s"));
    format!("{percent:3} %  {done} / {total} {unit}  {rate} {unit}/s  剩余 ETA {left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = |done, total| line(done, total, Duration::from_secs(2), "TAC");
        assert_eq!(text(500, 2000), " 25 %  500 / 2000 TAC  250 TAC/s  剩余 ETA 6 s");
        assert_eq!(text(0, 2000), "  0 %  0 / 2000 TAC  0 TAC/s  剩余 ETA –");
        assert!(text(0, 0).starts_with("100 %"));
    }
}
