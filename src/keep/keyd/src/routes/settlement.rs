//! `POST /v1/settlement/verify`: the head of the answer leaves with the first verdicts; before it everything is a plain
//! problem, after it the stream ends with an error line and is cut off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use wire::api::{BATCH_TYPE, CSV_TYPE, F1_TYPE, LINEAGE_PARAMETER, Receipt};
use wire::batch::Profile;
use wire::frame::BatchOpen;
use wire::key::Lineage;
use wire::purse::to_hex;

use super::{App, Caller, media_type, no_parameters, parameter};
use crate::answer::{Answer, Left, Parts, stream};
use crate::body::Reader;
use crate::commit::Permit;
use crate::log::LogFailure;
use crate::policy::{Operation, Permission};
use crate::problem::Refusal;
use crate::receipts::Made;
use crate::settlement::{F1, Intake, Pump, Shape, Step, Stop, read_header};

const DEFAULT_LINEAGE: &str = "transit/purse/tac";
const BATCH_HEADER: HeaderName = HeaderName::from_static("citykeep-batch");
/// Parts of an answer that may wait for the client before the batch waits too.
const PARTS_AHEAD: usize = 2;

/// Time for the error line to leave before the body is cut off.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What a body holds, and what becomes of it.
struct Plan {
    profile: Profile,
    lineage: Lineage,
    intake: Intake,
    shape: Shape,
}

pub(super) async fn verify(
    app: &Arc<App>,
    caller: &Caller,
    permission: &Permission<'_>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let begun = Instant::now();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let (parts, body) = request.into_parts();
    let slot = Arc::clone(&app.batch_slots)
        .try_acquire_owned()
        .map_err(|_| Refusal::busy("All batch streams are taken; try again."))?;
    if !app.receipts.has_room() {
        return Err(Refusal::busy("keyd keeps as many receipts as it may; the oldest go after 24 hours."));
    }
    let mut reader = Reader::new(body, app.limits.body_timeout());
    let Plan { profile, lineage, intake, shape } = plan(&parts.headers, &query, &mut reader).await?;
    let rate = permission.for_key(&lineage).ok_or_else(Refusal::no_such_key)?.items_per_second();
    let open = BatchOpen { client: caller.client.to_string(), profile, lineage };
    let (pacer, client) = (Arc::clone(app), caller.client.clone());
    let pace = move |items| pacer.quotas.pace(&client, Operation::SettlementVerify, rate, items);
    let opened = Pump::open(&app.module, open, reader, intake, Box::new(pace)).await;
    let (batch, mut pump) = opened.map_err(Stop::into_refusal)?;
    let first = pump.step().await.map_err(Stop::into_refusal)?;
    let (sender, body) = stream(PARTS_AHEAD);
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(shape.media_type()));
    if let Ok(id) = HeaderValue::from_str(&to_hex(&batch)) {
        headers.insert(BATCH_HEADER, id);
    }
    let batch =
        Running { app: Arc::clone(app), caller: caller.clone(), shape, sender, slot: Some(slot), begun };
    app.tasks.spawn(batch.run(pump, first));
    Ok(Answer::provisional(response))
}

async fn plan(headers: &HeaderMap, query: &str, reader: &mut Reader) -> Result<Plan, Refusal> {
    match media_type(headers).as_deref() {
        Some(BATCH_TYPE) => {
            no_parameters(query)?;
            let shape = accepted(headers, Shape::Binary)?;
            let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
            let (header, rope) = read_header(reader, length).await?;
            Ok(Plan {
                profile: header.profile,
                lineage: header.lineage,
                intake: Intake::Binary { rope, groups: header.groups },
                shape,
            })
        }
        Some(F1_TYPE) => {
            let key = parameter(query, LINEAGE_PARAMETER)?;
            let lineage = Lineage::parse(key.as_deref().unwrap_or(DEFAULT_LINEAGE));
            Ok(Plan {
                profile: Profile::PurchaseTac,
                lineage: lineage.ok_or_else(Refusal::no_such_key)?,
                intake: Intake::F1(Box::<F1>::default()),
                shape: accepted(headers, Shape::Csv(1))?,
            })
        }
        _ => Err(Refusal::media_type(
            "Send a batch as application/octet-stream or an F1 day as text/plain (curl: -H 'content-type: text/plain').",
        )),
    }
}

/// The shape that the client asks for. Weights are not weighed: one type is asked for, or any.
fn accepted(headers: &HeaderMap, default: Shape) -> Result<Shape, Refusal> {
    let mut asked = headers.get_all(ACCEPT).iter().peekable();
    if asked.peek().is_none() {
        return Ok(default);
    }
    let text: Vec<&str> = asked.filter_map(|value| value.to_str().ok()).collect();
    let kinds = text.iter().flat_map(|value| value.split(','));
    let kinds: Vec<&str> = kinds.map(|kind| kind.split(';').next().unwrap_or_default().trim()).collect();
    let asks = |kind: &str| kinds.iter().any(|asked| asked.eq_ignore_ascii_case(kind));
    if asks("*/*") || asks(default.media_type()) {
        Ok(default)
    } else if asks(CSV_TYPE) {
        Ok(Shape::Csv(1))
    } else if asks(BATCH_TYPE) {
        Ok(Shape::Binary)
    } else {
        Err(Refusal::not_acceptable("Accept application/octet-stream or text/csv."))
    }
}

/// The rest of a batch, after the head of its answer.
struct Running {
    app: Arc<App>,
    caller: Caller,
    shape: Shape,
    sender: Parts,
    slot: Option<OwnedSemaphorePermit>,
    begun: Instant,
}

/// Why a batch that runs ends without its proper end.
enum Halt {
    Left,
    Stop(Stop),
}

impl From<Left> for Halt {
    fn from(_: Left) -> Self {
        Self::Left
    }
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl Running {
    async fn run(mut self, pump: Pump, first: Step) {
        let outcome = self.go_on(pump, first).await;
        drop(self.slot.take());
        match outcome {
            Ok(permit) => {
                self.app.counters.batch(self.begun.elapsed());
                if self.sender.finish(permit).await.is_err() {
                    let _ = self.app.recorder.deny("client-left", self.caller.who());
                }
            }
            Err(Halt::Left) => {
                self.app.counters.batch_ended("client-left");
                let _ = self.app.recorder.deny("client-left", self.caller.who());
            }
            Err(Halt::Stop(stop)) => {
                if let Stop::Gone(why) = &stop {
                    tracing::error!(why, "a batch ends without a receipt: the module is gone");
                }
                let refusal = stop.into_refusal();
                self.app.counters.batch_ended(refusal.code());
                let _ = self.app.recorder.deny(refusal.logged, self.caller.who());
                let _ = self.sender.send(self.shape.failure(&refusal)).await;
                // hyper drops what it has not flushed when a body breaks.
                tokio::time::sleep(LAST_WORDS).await;
            }
        }
    }

    async fn go_on(&mut self, mut pump: Pump, first: Step) -> Result<Permit, Halt> {
        if let Some(head) = self.shape.head() {
            self.sender.send(head).await?;
        }
        let mut step = first;
        while let Step::Verdicts(verdicts) = step {
            self.app.counters.verdicts(&verdicts);
            self.sender.send(self.shape.verdicts(verdicts)).await?;
            step = pump.step().await?;
        }
        let (permit, receipt) = self.settle(pump).await?;
        if let Some(line) = self.shape.receipt(receipt) {
            self.sender.send(line).await?;
        }
        Ok(permit)
    }

    async fn settle(&self, pump: Pump) -> Result<(Permit, Receipt), Stop> {
        let app = &self.app;
        let (permit, result) = pump.close(&app.ledger).await?;
        let index = permit.index();
        let read = app.ledger.read(move |log| {
            let entry = log.entries(index..index + 1)?.pop();
            Ok((entry.ok_or_else(|| LogFailure(format!("entry {index} is not there")))?, log.proof(index)?))
        });
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "a receipt cannot be made");
            Stop::Refused(Refusal::internal("receipt-failed"))
        };
        let (entry, proof) = read.await.map_err(|error| failed(&error))?;
        let (receipts, instance, origin) = (app.receipts.clone(), app.instance, app.origin.clone());
        let issue = tokio::task::spawn_blocking(move || {
            let made =
                Made { result: &result, instance: &instance, origin: &origin, entry: &entry, proof: &proof };
            receipts.issue(&permit, &made).map(|receipt| (permit, receipt))
        });
        issue.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }
}
