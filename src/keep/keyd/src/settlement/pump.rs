//! Moves records from a body to the module and verdicts back, with at most two frames on the way.
//!
//! Back-pressure is the absence of reading: while the client does not take verdicts, nobody asks for the next step; while
//! the module works, at most one frame's worth is taken from the body.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use wire::batch::{FRAME_RECORDS, Group, Verdict};
use wire::cbor::Empty;
use wire::frame::{BatchGroups, BatchOpen, BatchResult, KeydRequest, KeydResponse, Ticket};

use super::Intake;
use crate::body::Reader;
use crate::commit::{Ledger, Permit};
use crate::module::{Link, Module, ModuleError, unexpected};
use crate::problem::Refusal;

/// Rows of the group table in one frame: 18 bytes each, well below a frame's limit.
const GROUPS_PER_FRAME: usize = 16_384;
/// Frames of records on their way: one that the module works on and one that waits for it.
const FRAMES_IN_FLIGHT: usize = 2;
/// An idle module gets a part of a frame when this many records wait, or after [`LINGER`].
const WORTHWHILE: usize = 2048;
const LINGER: Duration = Duration::from_millis(1);
/// The module learns of durability by the collector's next frame, which is on its way when we hear of it ourselves.
const RELEASE_PAUSE: Duration = Duration::from_millis(1);
const RELEASE_TRIES: u32 = 5_000;

/// Why a batch ended without a receipt.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The client's doing, or the module's answer to it.
    Refused(Refusal),
    /// The module is lost.
    Gone(String),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<crate::body::Cut> for Stop {
    fn from(cut: crate::body::Cut) -> Self {
        Self::Refused(cut.into())
    }
}

impl From<ModuleError> for Stop {
    fn from(error: ModuleError) -> Self {
        match error {
            ModuleError::Gone(why) => Self::Gone(why),
            ModuleError::Refused(refused) => Self::Refused(Refusal::of_module(&refused)),
        }
    }
}

impl Stop {
    pub(crate) fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Gone(_) => Refusal::module_gone(),
        }
    }
}

/// What came of a step.
#[derive(Debug)]
pub(crate) enum Step {
    /// Verdict bytes for the next records.
    Verdicts(Bytes),
    /// All records have their verdict.
    End,
}

#[derive(Debug)]
enum Expected {
    Done,
    Verdicts(usize),
}

/// One batch under way. Dropping it closes its connection, and the module logs the batch as cut off.
pub(crate) struct Pump {
    link: Link,
    reader: Reader,
    intake: Intake,
    expected: VecDeque<Expected>,
    ended: bool,
    /// Since when records wait for an idle module.
    waiting: Option<Instant>,
    /// Quota: how long to pause for so many records.
    pace: Box<dyn Fn(u64) -> Duration + Send + Sync>,
}

impl Pump {
    /// Opens the batch at the module.
    pub(crate) async fn open(
        module: &Module,
        open: BatchOpen,
        reader: Reader,
        intake: Intake,
        pace: Box<dyn Fn(u64) -> Duration + Send + Sync>,
    ) -> Result<([u8; 16], Self), Stop> {
        let mut link = module.connect().await?;
        let batch = match link.ask(&KeydRequest::BatchOpen(open)).await? {
            KeydResponse::BatchOpened(opened) => opened.batch,
            _ => return Err(unexpected().into()),
        };
        let pump =
            Self { link, reader, intake, expected: VecDeque::new(), ended: false, waiting: None, pace };
        Ok((batch, pump))
    }

    /// Goes on until there are verdicts or the end.
    pub(crate) async fn step(&mut self) -> Result<Step, Stop> {
        loop {
            self.send_due().await?;
            if self.ended && self.intake.ready() == 0 && self.expected.is_empty() {
                return Ok(Step::End);
            }
            let reads = !self.ended && self.intake.ready() < FRAME_RECORDS;
            if !reads {
                self.reader.pause();
            }
            let linger = self.waiting.map(|since| since + LINGER);
            tokio::select! {
                answer = self.link.receive(), if !self.expected.is_empty() => {
                    if let Some(verdicts) = take_answer(self.expected.pop_front(), answer?)? {
                        // Until the client has taken them, nobody waits for its body.
                        self.reader.pause();
                        return Ok(Step::Verdicts(verdicts));
                    }
                }
                part = self.reader.next(), if reads => self.take_part(part?)?,
                () = sleep_until(linger.unwrap_or_else(Instant::now)), if linger.is_some() => {}
            }
        }
    }

    fn take_part(&mut self, part: Option<Bytes>) -> Result<(), Refusal> {
        self.ended = part.is_none();
        match part {
            Some(part) => self.intake.feed(part),
            None => self.intake.finish(),
        }
    }

    fn frames_in_flight(&self) -> usize {
        let frames = self.expected.iter().filter(|expected| matches!(expected, Expected::Verdicts(_)));
        frames.count()
    }

    async fn send_due(&mut self) -> Result<(), Stop> {
        loop {
            let (ready, in_flight) = (self.intake.ready(), self.frames_in_flight());
            let idle = in_flight == 0 && ready > 0;
            if !idle {
                self.waiting = None;
            } else if self.waiting.is_none() {
                self.waiting = Some(Instant::now());
            }
            let lingered = self.waiting.is_some_and(|since| since.elapsed() >= LINGER);
            let part = idle && (ready >= WORTHWHILE || lingered);
            let due = ready >= FRAME_RECORDS || (self.ended && ready > 0) || part;
            if !due || in_flight >= FRAMES_IN_FLIGHT {
                return Ok(());
            }
            self.send_groups().await?;
            let count = ready.min(FRAME_RECORDS);
            let pause = (self.pace)(count as u64);
            if !pause.is_zero() {
                self.reader.pause();
                tokio::time::sleep(pause).await;
            }
            let records = self.intake.take(count);
            self.link.send_records(records).await?;
            self.expected.push_back(Expected::Verdicts(count));
        }
    }

    async fn send_groups(&mut self) -> Result<(), Stop> {
        let fresh = self.intake.fresh_groups();
        for rows in fresh.chunks(GROUPS_PER_FRAME) {
            let groups: Vec<Group> = rows.to_vec();
            self.link.send(&KeydRequest::BatchGroups(BatchGroups { groups })).await?;
            self.expected.push_back(Expected::Done);
        }
        Ok(())
    }

    /// Closes the batch, waits until its last entry is durable, and takes the result.
    pub(crate) async fn close(mut self, ledger: &Ledger) -> Result<(Permit, BatchResult), Stop> {
        // A batch without records still has a table.
        self.send_groups().await?;
        while let Some(expected) = self.expected.pop_front() {
            let answer = self.link.receive().await?;
            take_answer(Some(expected), answer)?;
        }
        let ticket = match self.link.ask(&KeydRequest::BatchClose(Empty {})).await? {
            KeydResponse::Ticket(ticket) => ticket.ticket,
            _ => return Err(unexpected().into()),
        };
        let permit = ledger.wait(ticket).await.map_err(|stopped| Stop::Gone(stopped.to_string()))?;
        let result = self.release(ticket).await?;
        Ok((permit, result))
    }

    /// Waits until the module has the acknowledgement too, and takes the result. Asking for it too early would be a
    /// refusal, and refusals are logged.
    async fn release(&mut self, ticket: u64) -> Result<BatchResult, Stop> {
        for _ in 0..RELEASE_TRIES {
            let KeydResponse::Status(status) = self.link.ask(&KeydRequest::Status(Empty {})).await? else {
                return Err(unexpected().into());
            };
            let instance = status.instance.ok_or_else(Refusal::module_state)?;
            if instance.durable > ticket {
                return match self.link.ask(&KeydRequest::Release(Ticket { ticket })).await? {
                    KeydResponse::Released(result) => Ok(result),
                    _ => Err(unexpected().into()),
                };
            }
            tokio::time::sleep(RELEASE_PAUSE).await;
        }
        Err(Stop::Gone("it does not take note of a durable entry".to_owned()))
    }
}

fn take_answer(expected: Option<Expected>, answer: KeydResponse) -> Result<Option<Bytes>, Stop> {
    match (expected, answer) {
        (Some(Expected::Done), KeydResponse::Done(_)) => Ok(None),
        (Some(Expected::Verdicts(count)), KeydResponse::Verdicts(verdicts))
            if verdicts.len() == count && verdicts.iter().all(|byte| Verdict::from_byte(*byte).is_some()) =>
        {
            Ok(Some(verdicts.0.into()))
        }
        _ => Err(unexpected().into()),
    }
}
