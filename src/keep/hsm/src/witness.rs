//! What the witnesses' quorum has cosigned in this boot, and the clock that follows it (SPEC.md §Witnesses).

use std::time::Duration;

use translog::cosign::cosigned_at;
use translog::note::{NoteError, WitnessKey};
use wire::error::{Refusal, Refused};
use wire::frame::Witnessed;
use wire::witness::WitnessSet;

/// Seconds without a newer cosigned head after which the quorum counts as lost. Heartbeats make a new head every 10 seconds,
/// so that a quorum that is there cosigns more often.
const LOST_AFTER: u64 = 30;

/// Cosigned heads of this boot.
#[derive(Debug, Default)]
pub(crate) struct Witnessing {
    newest: Option<Witnessed>,
    /// Unix seconds at a moment of the module's own clock. Set forward by the quorum, never back.
    set: Option<(u64, Duration)>,
    lost: bool,
}

impl Witnessing {
    /// The newest cosigned head.
    pub(crate) const fn newest(&self) -> Option<Witnessed> {
        self.newest
    }

    /// Its size, 0 for none.
    pub(crate) fn size(&self) -> u64 {
        self.newest.map_or(0, |head| head.size)
    }

    /// Unix time in nanoseconds: the quorum's, and what has passed since on the module's own clock. `None` before the first
    /// cosignature of the boot.
    pub(crate) fn now_ns(&self, elapsed: Duration) -> Option<u64> {
        let (time, at) = self.set?;
        let since = u64::try_from(elapsed.saturating_sub(at).as_nanos()).unwrap_or(u64::MAX);
        Some(time.saturating_mul(1_000_000_000).saturating_add(since))
    }

    /// Seconds since the quorum cosigned the newest head. By its own time: a cosignature that keyd kept back is as old as it
    /// is, not as young as its arrival.
    pub(crate) fn age(&self, elapsed: Duration) -> Option<u64> {
        let now = self.now_ns(elapsed)? / 1_000_000_000;
        self.newest.map(|head| now.saturating_sub(head.time))
    }

    /// Takes a newer head that the quorum cosigned at `time`.
    pub(crate) fn take(&mut self, size: u64, time: u64, elapsed: Duration) {
        let now = self.now_ns(elapsed).map_or(0, |now| now / 1_000_000_000);
        if time > now {
            self.set = Some((time, elapsed));
        }
        self.newest = Some(Witnessed { size, time });
    }

    /// Whether the quorum is lost.
    pub(crate) fn is_lost(&self, elapsed: Duration) -> bool {
        self.age(elapsed).is_some_and(|age| age > LOST_AFTER)
    }

    /// Whether that changed since the last question.
    pub(crate) fn changed(&mut self, elapsed: Duration) -> bool {
        let lost = self.is_lost(elapsed);
        std::mem::replace(&mut self.lost, lost) != lost
    }
}

/// When the quorum cosigned the head of this note: k of the witnesses say this time or a later one, so that fewer than k liars
/// cannot push it forward. A witness whose line is bad counts as silent.
///
/// # Errors
/// `Unwitnessed` with fewer than k good cosignatures; `BadFrame` for what is no note.
pub(crate) fn quorum_time(note: &str, set: &WitnessSet) -> Result<u64, Refused> {
    let mut times = Vec::with_capacity(set.witnesses.len());
    for witness in &set.witnesses {
        match cosigned_at(note, &WitnessKey::new(&witness.name, witness.key)) {
            Ok(time) => times.extend(time),
            Err(NoteError::Malformed) => {
                return Err(Refused::new(Refusal::BadFrame, "the cosigned head is no note"));
            }
            Err(_) => {}
        }
    }
    times.sort_unstable_by(|one, other| other.cmp(one));
    let quorum = usize::try_from(set.quorum).unwrap_or(usize::MAX);
    quorum.checked_sub(1).and_then(|last| times.get(last)).copied().ok_or_else(|| {
        let why = format!(
            "{} of {quorum} witnesses have cosigned this head; send it when they all have",
            times.len()
        );
        Refused::new(Refusal::Unwitnessed, why)
    })
}
