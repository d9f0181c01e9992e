//! Work that needs nothing of what comes before, on all cores: bundles in order of their numbers, and approvals.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use wire::command::{Quorum, SignedCommand};
use wire::quorum;

use super::chunk::{Broken, Chunk};
use super::snapshot::Snapshot;

/// A bundle of 256 entries of 65,535 bytes, and what is read from it, take no more than this.
const CHUNK_MAX: usize = 256 * 65_537 * 2;

/// Bundles that are read and not yet replayed hold no more than this together.
const HELD_MAX: usize = 5 * CHUNK_MAX;

/// Approvals of one command, and the officers of that moment.
pub(super) struct Approvals {
    pub(super) index: u64,
    pub(super) signed: SignedCommand,
    pub(super) officers: Option<Quorum>,
}

/// An entry whose approvals are not good.
#[derive(Clone, Debug)]
pub(super) struct Unapproved {
    pub(super) index: u64,
    pub(super) what: String,
}

#[derive(Default)]
struct Queue {
    next: u64,
    end: u64,
    held: usize,
    approvals: VecDeque<Approvals>,
    /// Approvals that are being checked.
    checking: usize,
    unapproved: Option<Unapproved>,
    stopped: bool,
}

enum Work {
    Bundle(u64),
    Approvals(Approvals),
}

type Read = (u64, Result<Chunk, Broken>);

/// The workers' side.
struct Shared<'a> {
    snapshot: &'a Snapshot<'a>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared<'_> {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing is left half done under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, queue: MutexGuard<'g, Queue>) -> MutexGuard<'g, Queue> {
        self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(&self) -> Option<Work> {
        let mut queue = self.queue();
        loop {
            if queue.stopped {
                return None;
            }
            if let Some(approvals) = queue.approvals.pop_front() {
                queue.checking += 1;
                return Some(Work::Approvals(approvals));
            }
            // Bundles are claimed in order, so that the one that is waited for is always among those that are held.
            if queue.next < queue.end && queue.held + CHUNK_MAX <= HELD_MAX {
                queue.held += CHUNK_MAX;
                queue.next += 1;
                return Some(Work::Bundle(queue.next - 1));
            }
            queue = self.wait(queue);
        }
    }

    fn work(&self, read: &Sender<Read>) {
        while let Some(work) = self.claim() {
            match work {
                Work::Bundle(number) => {
                    let chunk = Chunk::read(self.snapshot, number);
                    let used = chunk.as_ref().map_or(0, held_by);
                    self.give_back(CHUNK_MAX - used.min(CHUNK_MAX));
                    // Who waits for it may have stopped at an earlier finding.
                    let _ = read.send((number, chunk));
                }
                Work::Approvals(approvals) => {
                    let bad = check(&approvals);
                    let mut queue = self.queue();
                    queue.checking -= 1;
                    note(&mut queue.unapproved, bad);
                    drop(queue);
                    self.changed.notify_all();
                }
            }
        }
    }

    fn give_back(&self, bytes: usize) {
        let mut queue = self.queue();
        queue.held = queue.held.saturating_sub(bytes);
        drop(queue);
        self.changed.notify_all();
    }
}

/// Entries are about as long in memory as in their file.
fn held_by(chunk: &Chunk) -> usize {
    chunk.bytes * 2
}

fn check(approvals: &Approvals) -> Option<Unapproved> {
    let refused = quorum::check(&approvals.signed, approvals.officers.as_ref()).err()?;
    Some(Unapproved { index: approvals.index, what: format!("its approvals: {}", refused.message) })
}

fn note(first: &mut Option<Unapproved>, bad: Option<Unapproved>) {
    if let Some(bad) = bad
        && first.as_ref().is_none_or(|first| bad.index < first.index)
    {
        *first = Some(bad);
    }
}

/// What the replay asks for.
pub(super) struct Pool<'p> {
    snapshot: &'p Snapshot<'p>,
    /// `None`: no workers, everything is done when it is asked for.
    workers: Option<(&'p Shared<'p>, Receiver<Read>)>,
    early: BTreeMap<u64, Result<Chunk, Broken>>,
    unapproved: Option<Unapproved>,
}

impl Pool<'_> {
    /// Bundle `number`; they are asked for in order.
    pub(super) fn bundle(&mut self, number: u64) -> Result<Chunk, Broken> {
        let Some((_, read)) = &self.workers else {
            return Chunk::read(self.snapshot, number);
        };
        loop {
            if let Some(chunk) = self.early.remove(&number) {
                return chunk;
            }
            match read.recv() {
                Ok((other, chunk)) => drop(self.early.insert(other, chunk)),
                // No worker is left to wait for.
                Err(_) => return Chunk::read(self.snapshot, number),
            }
        }
    }

    /// A bundle is replayed.
    pub(super) fn done(&self, chunk: &Chunk) {
        if let Some((shared, _)) = &self.workers {
            shared.give_back(held_by(chunk));
        }
    }

    /// Has approvals checked; [`Pool::settle`] tells what came of it.
    pub(super) fn approvals(&mut self, approvals: Approvals) {
        match &self.workers {
            Some((shared, _)) => {
                shared.queue().approvals.push_back(approvals);
                shared.changed.notify_all();
            }
            None => note(&mut self.unapproved, check(&approvals)),
        }
    }

    /// Waits for all approvals; the first entry that is not approved.
    pub(super) fn settle(&self) -> Option<Unapproved> {
        let Some((shared, _)) = &self.workers else {
            return self.unapproved.clone();
        };
        let mut queue = shared.queue();
        while !queue.approvals.is_empty() || queue.checking > 0 {
            queue = shared.wait(queue);
        }
        queue.unapproved.clone()
    }
}

/// Runs `work` with this many workers that read the bundles `from..end`; with fewer than two there are none.
pub(super) fn with<T>(
    snapshot: &Snapshot<'_>,
    (from, end): (u64, u64),
    workers: usize,
    work: impl FnOnce(Pool<'_>) -> T,
) -> T {
    let pool = |workers| Pool { snapshot, workers, early: BTreeMap::new(), unapproved: None };
    if workers < 2 {
        return work(pool(None));
    }
    let queue = Mutex::new(Queue { next: from, end, ..Queue::default() });
    let shared = Shared { snapshot, queue, changed: Condvar::new() };
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (shared, sender) = (&shared, sender.clone());
            scope.spawn(move || shared.work(&sender));
        }
        drop(sender);
        let done = work(pool(Some((&shared, receiver))));
        shared.queue().stopped = true;
        shared.changed.notify_all();
        done
    })
}
