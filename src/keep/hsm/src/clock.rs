//! The module's own clock: time since its boot, which nobody outside can set.

#[cfg(not(test))]
use std::time::Instant;

use std::time::Duration;

/// Monotonic, the same for all its copies.
#[cfg(not(test))]
#[derive(Clone, Debug)]
pub(crate) struct Clock(Instant);

#[cfg(not(test))]
impl Clock {
    /// Begins now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// In tests time passes when the test says so, however slow the machine is.
#[cfg(test)]
#[derive(Clone, Debug)]
pub(crate) struct Clock(std::sync::Arc<std::sync::Mutex<Duration>>);

#[cfg(test)]
impl Clock {
    pub(crate) fn start() -> Self {
        Self(std::sync::Arc::default())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    pub(crate) fn pass(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }
}
