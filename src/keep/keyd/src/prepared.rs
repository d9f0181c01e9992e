//! Calls whose results wait in the module until their entry is durable (prepare → release): card keys, lists, loads,
//! scripts, answers to challenges.
//!
//! One connection serves them all, with two queues. A load, a script and an authentication have a card in a reader behind
//! them; they go first, and so does the fetching of whatever is ready, because it frees the module's memory. Card keys of a
//! personalization run and the parts of a list go when nobody waits there. A frame that is under way is not interrupted:
//! the longest, 128 cards or a list to be signed, is what a load can wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use wire::cbor::Empty;
use wire::frame::{KeydRequest, KeydResponse, Prepared, Ticket};

use crate::commit::{Ledger, Permit};
use crate::fatal::Fatal;
use crate::module::{GONE, Link, Module, ModuleError, unexpected};
use crate::problem::Refusal;
use crate::witnesses::{Board, witnessed};

/// Calls with a card behind them that may wait; above it they are answered 503.
const URGENT_QUEUE: usize = 1024;
/// Bulk calls that may wait. Each may hold a request of 128 cards; a line that keeps more than this waiting is faster than
/// the module anyway.
const BULK_QUEUE: usize = 64;
/// How often the module is asked whether it has the acknowledgement, and how long in all: 10 seconds.
const ACKNOWLEDGED_TRIES: u32 = 5_000;
const ACKNOWLEDGED_PAUSE: Duration = Duration::from_millis(2);

/// Who goes first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    /// A card waits in a reader.
    Urgent,
    /// Nobody stands there.
    Bulk,
}

/// Frames of one call. All but the last are answered `Done`; they are made when it is their turn, so that 32 MiB of lists
/// do not stand in the queue twice.
pub(crate) type Frames = Box<dyn Iterator<Item = KeydRequest> + Send>;

struct Job {
    frames: Frames,
    reply: oneshot::Sender<Result<KeydResponse, ModuleError>>,
}

/// The way to the connection.
#[derive(Clone)]
pub(crate) struct PreparedCalls {
    urgent: mpsc::Sender<Job>,
    bulk: mpsc::Sender<Job>,
    /// Entries that the module has been seen to know as durable.
    acknowledged: Arc<AtomicU64>,
    board: Option<Board>,
}

impl std::fmt::Debug for PreparedCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (urgent, bulk) = (self.urgent.capacity(), self.bulk.capacity());
        f.debug_struct("PreparedCalls").field("urgent", &urgent).field("bulk", &bulk).finish_non_exhaustive()
    }
}

impl PreparedCalls {
    /// Opens the connection and starts the task that owns it.
    pub(crate) async fn start(
        module: &Module,
        fatal: Fatal,
        board: Option<Board>,
    ) -> Result<Self, ModuleError> {
        let (urgent, urgent_jobs) = mpsc::channel(URGENT_QUEUE);
        let (bulk, bulk_jobs) = mpsc::channel(BULK_QUEUE);
        let link = module.connect().await?;
        let worker = Worker { module: module.clone(), link, urgent: urgent_jobs, bulk: bulk_jobs };
        tokio::spawn(async move {
            if let Err(why) = worker.run().await {
                fatal.raise(format!("{GONE} ({why})"));
            }
        });
        Ok(Self { urgent, bulk, acknowledged: Arc::default(), board })
    }

    /// How many urgent and bulk calls wait, and how many may.
    pub(crate) fn waiting(&self) -> [(usize, usize); 2] {
        [(&self.urgent, URGENT_QUEUE), (&self.bulk, BULK_QUEUE)]
            .map(|(queue, most)| (most.saturating_sub(queue.capacity()), most))
    }

    /// Carries out a call of one frame.
    pub(crate) async fn call(
        &self,
        ledger: &Ledger,
        class: Class,
        request: KeydRequest,
    ) -> Result<(Permit, Prepared), Refusal> {
        self.call_in_parts(ledger, class, Box::new(std::iter::once(request))).await
    }

    /// Carries out a call: asks, waits until the entry is durable, fetches the result. A caller that goes away leaves a
    /// result that nobody fetches; the same request again gets the same answer.
    pub(crate) async fn call_in_parts(
        &self,
        ledger: &Ledger,
        class: Class,
        frames: Frames,
    ) -> Result<(Permit, Prepared), Refusal> {
        let ticket = match self.ask(class, frames).await? {
            KeydResponse::Ticket(ticket) => ticket.ticket,
            _ => return Err(Refusal::module_gone()),
        };
        let permit = ledger.wait(ticket).await.map_err(|_| Refusal::module_gone())?;
        self.until_acknowledged(ticket).await?;
        // What makes value goes out when the witnesses' quorum has seen that it was made.
        witnessed(self.board.as_ref(), ticket).await?;
        match self.ask_one(KeydRequest::Fetch(Ticket { ticket })).await? {
            KeydResponse::Prepared(prepared) => Ok((permit, prepared)),
            _ => Err(Refusal::module_gone()),
        }
    }

    /// Waits until the module has the acknowledgement too: it goes over another connection. Fetching too early would be a
    /// refusal, and refusals are logged.
    async fn until_acknowledged(&self, ticket: u64) -> Result<(), Refusal> {
        for _ in 0..ACKNOWLEDGED_TRIES {
            if self.acknowledged.load(Ordering::Relaxed) > ticket {
                return Ok(());
            }
            let KeydResponse::Status(status) = self.ask_one(KeydRequest::Status(Empty {})).await? else {
                return Err(Refusal::module_gone());
            };
            let instance = status.instance.ok_or_else(Refusal::module_state)?;
            self.acknowledged.fetch_max(instance.durable, Ordering::Relaxed);
            if instance.durable <= ticket {
                tokio::time::sleep(ACKNOWLEDGED_PAUSE).await;
            }
        }
        Err(Refusal::module_gone())
    }

    async fn ask_one(&self, request: KeydRequest) -> Result<KeydResponse, Refusal> {
        self.ask(Class::Urgent, Box::new(std::iter::once(request))).await
    }

    async fn ask(&self, class: Class, frames: Frames) -> Result<KeydResponse, Refusal> {
        let (reply, answer) = oneshot::channel();
        let queue = match class {
            Class::Urgent => &self.urgent,
            Class::Bulk => &self.bulk,
        };
        queue.try_send(Job { frames, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::busy("Too many calls wait; try again."),
            mpsc::error::TrySendError::Closed(_) => Refusal::module_gone(),
        })?;
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(ModuleError::Refused(refused))) => Err(Refusal::of_module(&refused)),
            Ok(Err(ModuleError::Gone(_))) | Err(_) => Err(Refusal::module_gone()),
        }
    }
}

/// Owns the connection.
struct Worker {
    module: Module,
    link: Link,
    urgent: mpsc::Receiver<Job>,
    bulk: mpsc::Receiver<Job>,
}

impl Worker {
    /// Runs until nobody can ask any more, or the module is lost.
    async fn run(mut self) -> Result<(), ModuleError> {
        // One bulk call at a time: the parts of two lists must not mix.
        let mut bulk: Option<Begun> = None;
        loop {
            tokio::select! {
                biased;
                Some(job) = self.urgent.recv() => {
                    let mut job = Begun::new(job);
                    while !job.is_over() {
                        self.step(&mut job).await?;
                    }
                }
                Some(job) = self.bulk.recv(), if bulk.is_none() => bulk = Some(Begun::new(job)),
                () = std::future::ready(()), if bulk.is_some() => {
                    if let Some(job) = &mut bulk {
                        self.step(job).await?;
                    }
                    bulk = bulk.filter(|job| !job.is_over());
                }
                else => return Ok(()),
            }
        }
    }

    /// One frame and its answer.
    async fn step(&mut self, job: &mut Begun) -> Result<(), ModuleError> {
        let Some(frame) = job.frames.next() else {
            // A call without frames, of which there is none, is over.
            job.reply = None;
            return Ok(());
        };
        match self.link.ask(&frame).await {
            Ok(KeydResponse::Done(_)) if !job.is_last() => job.in_parts = true,
            Ok(answer) if job.is_last() => job.answer(Ok(answer)),
            Ok(_) => return Err(unexpected()),
            Err(ModuleError::Refused(refused)) => {
                if job.in_parts {
                    // What has gathered on this connection must not get into the next list.
                    self.link = self.module.connect().await?;
                }
                job.answer(Err(refused.into()));
            }
            Err(gone) => return Err(gone),
        }
        Ok(())
    }
}

/// A call under way.
struct Begun {
    frames: std::iter::Peekable<Frames>,
    /// Whether a part of it has been taken.
    in_parts: bool,
    reply: Option<oneshot::Sender<Result<KeydResponse, ModuleError>>>,
}

impl Begun {
    fn new(job: Job) -> Self {
        Self { frames: job.frames.peekable(), in_parts: false, reply: Some(job.reply) }
    }

    /// Whether the frame that was taken is the last one.
    fn is_last(&mut self) -> bool {
        self.frames.peek().is_none()
    }

    fn is_over(&self) -> bool {
        self.reply.is_none()
    }

    fn answer(&mut self, answer: Result<KeydResponse, ModuleError>) {
        if let Some(reply) = self.reply.take() {
            // A client that went away does not mind.
            let _ = reply.send(answer);
        }
    }
}
