//! The module's own clock: time since its boot, which nobody outside can set. It goes on while the machine sleeps, and cannot
//! know of a virtual machine that was paused.

use std::time::Duration;

#[cfg(not(test))]
use rustix::time::{ClockId, clock_gettime};

/// Monotonic, the same for all its copies.
#[cfg(not(test))]
#[derive(Clone, Debug)]
pub(crate) struct Clock(Duration);

#[cfg(not(test))]
impl Clock {
    /// Begins now.
    pub(crate) fn start() -> Self {
        Self(since_boot())
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        since_boot().saturating_sub(self.0)
    }
}

/// `CLOCK_BOOTTIME`: unlike `Instant` it counts a suspended machine's sleep, in which a grace ends too.
#[cfg(not(test))]
fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
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
