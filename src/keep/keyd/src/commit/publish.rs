//! Publication: beside the commits, up to the newest head that witnesses cosigned, and within a second in any case
//! (service-protocol §7).

use std::collections::VecDeque;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{SharedLog, lock};
use crate::log::LogFailure;

/// An entry that no cosigned head has brought out by then is published without one. What is left of the second is for the
/// work itself.
const WITHIN: Duration = Duration::from_millis(750);
/// Cosigned heads may come faster than files should be written.
const EVERY: Duration = Duration::from_millis(200);
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Publishes until the commit thread has ended, and everything once more then.
pub(super) fn run(log: &SharedLog, durable: &watch::Receiver<u64>) -> Result<(), LogFailure> {
    let mut waiting = Waiting::default();
    let mut last: Option<Instant> = None;
    loop {
        // The commit thread will not append any more, whether it was told to stop or failed.
        let ended = durable.has_changed().is_err();
        let now = Instant::now();
        waiting.note(*durable.borrow(), now);
        let late = ended || waiting.is_late(now);
        if late || last.is_none_or(|last| now.duration_since(last) >= EVERY) {
            // Appending and proofs wait for the two short steps, not for the files between them.
            let prepared = {
                let log = lock(log);
                match log.prepare_cosigned()? {
                    None if late => log.prepare()?,
                    prepared => prepared,
                }
            };
            if let Some(publication) = prepared {
                waiting.published(publication.size());
                let written = publication.write();
                lock(log).published(publication, written)?;
                last = Some(now);
            } else if late {
                waiting.published(u64::MAX);
            }
        }
        if ended && waiting.sizes.is_empty() {
            return Ok(());
        }
        if !ended {
            sleep(LOOK_EVERY);
        }
    }
}

/// Sizes of the log that are not published yet, each with the moment at which it was first seen.
#[derive(Debug, Default)]
struct Waiting {
    sizes: VecDeque<(u64, Instant)>,
    newest: u64,
}

impl Waiting {
    fn note(&mut self, size: u64, now: Instant) {
        if size > self.newest {
            self.sizes.push_back((size, now));
            self.newest = size;
        }
    }

    fn published(&mut self, size: u64) {
        while self.sizes.pop_front_if(|(waiting, _)| *waiting <= size).is_some() {}
    }

    fn is_late(&self, now: Instant) -> bool {
        self.sizes.front().is_some_and(|(_, since)| now.duration_since(*since) >= WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// An entry every 10 ms; a head is cosigned after `quorum` ms, then the next one is begun. Gives how many publications there
    /// were in 20 s with cosignatures and without, and how long an entry waited at most.
    fn steady(quorum: Option<u64>) -> (u32, u32, u64) {
        let (start, mut waiting) = (Instant::now(), Waiting::default());
        let (mut published, mut last, mut longest) = (0, 0, 0);
        let (mut with, mut without) = (0, 0);
        for at in (0..20_000).step_by(25) {
            let now = start + u32::try_from(at).unwrap() * MILLI;
            let size = at / 10;
            waiting.note(size, now);
            // The newest head that is cosigned by now was begun a round or two ago.
            let cosigned = quorum.map_or(0, |quorum| (at / quorum).saturating_sub(1) * quorum / 10);
            let late = waiting.is_late(now);
            if !late && at - last < 200 {
                continue;
            }
            let upto = if cosigned > published {
                cosigned
            } else if late {
                size
            } else {
                continue;
            };
            if upto == cosigned {
                with += 1;
            } else {
                without += 1;
            }
            // The first entry that comes out now is the one that waited longest.
            longest = longest.max(at - published * 10);
            (published, last) = (upto, at);
            waiting.published(upto);
        }
        (with, without, longest)
    }

    #[test]
    fn under_steady_load_cosigned_heads_come_out_and_nothing_waits_for_a_second() {
        for quorum in [1, 20, 100, 200, 300] {
            let (with, without, longest) = steady(Some(quorum));
            assert_eq!(without, 0, "{quorum} ms");
            assert!(with > 20 && longest < 1000, "{quorum} ms: {with}, {longest} ms");
        }
        for quorum in [None, Some(2_000), Some(5_000)] {
            let (_, without, longest) = steady(quorum);
            assert!(without > 20 && longest < 1000, "{quorum:?}: {without}, {longest} ms");
        }
    }

    #[test]
    fn what_is_published_waits_no_more_and_what_came_later_does() {
        let (start, mut waiting) = (Instant::now(), Waiting::default());
        waiting.note(3, start);
        waiting.note(3, start + 500 * MILLI);
        waiting.note(5, start + 500 * MILLI);
        assert!(!waiting.is_late(start + 749 * MILLI) && waiting.is_late(start + 750 * MILLI));
        waiting.published(4);
        assert!(!waiting.is_late(start + 1249 * MILLI) && waiting.is_late(start + 1250 * MILLI));
        waiting.published(5);
        assert!(!waiting.is_late(start + 9000 * MILLI));
    }
}
