//! A batch: records out, verdicts in, at the same time and in bounded memory; and nothing handed out before the receipt is
//! good.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{ACCEPT, CONTENT_TYPE, EXPECT, HOST};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::ext::on_informational;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use wire::api::{BATCH_TYPE, Receipt, TRAILER_START, Trailer};
use wire::batch::{BatchHeader, RECORD_LEN, Verdict, check_groups};
use wire::purse::{hex, to_hex};

use crate::calls::{Client, broken, media_type, refusal};
use crate::connection::{End, Outgoing, Sender};
use crate::error::{Error, chain};
use crate::receipt::{self, Recount, Totals};

/// Records in one chunk: 80 KiB, small enough to stay in the cache on its way through TLS.
const CHUNK_RECORDS: usize = 2048;
/// Chunks without a verdict at most. The service checks frames of 8,192 records, so several frames fit in.
const WINDOW: usize = 64;
/// A service that does not say `100 Continue` gets the records all the same, after this.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);
/// The line that ends the stream holds a receipt; that of the longest day is far below this.
const TRAILER_MAX: usize = 16 << 20;
/// A verdict vector is reserved up to this; longer ones grow as verdicts come.
const RESERVE_MAX: u64 = 1 << 26;
/// Names the batch in every answer.
const BATCH_HEADER: &str = "citykeep-batch";
const PATH: &str = "/v1/settlement/verify";

/// Where the records of a batch come from. It is asked for the next chunk only when earlier ones have verdicts.
pub trait Records: Send {
    /// The next whole records, 40 bytes each, in any number; `None` after the last one.
    fn next_chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, String>> + Send;
}

/// All records in memory.
impl Records for Bytes {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, String> {
        let len = self.len().min(CHUNK_RECORDS * RECORD_LEN);
        Ok((len > 0).then(|| self.split_to(len)))
    }
}

/// Records from a producer; an `Err` gives the batch up.
impl Records for mpsc::Receiver<Result<Bytes, String>> {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, String> {
        self.recv().await.transpose()
    }
}

/// The verdicts of a batch, in the order of its records; they exist only with a good receipt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdicts(Vec<u8>);

impl Verdicts {
    /// One per record.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Verdict> + '_ {
        // Every byte was a verdict when it came in.
        self.0.iter().map(|byte| Verdict::from_byte(*byte).unwrap_or(Verdict::Withheld))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the batch had no records.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A batch whose receipt is good.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// One verdict per record.
    pub verdicts: Verdicts,
    /// The receipt: keep it, it is the proof.
    pub receipt: Receipt,
    /// What the records and verdicts add up to, computed here.
    pub totals: Totals,
}

impl Client {
    /// `POST /v1/settlement/verify`: sends `count` records and gives their verdicts once the receipt is good.
    ///
    /// `progress` hears how many records have a verdict; until this returns, those are provisional.
    pub async fn settlement_verify(
        &self,
        header: &BatchHeader,
        count: u64,
        records: impl Records,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<Verified, Error> {
        let pinned = self.pinned()?;
        check_groups(&header.groups).map_err(|error| Error::Config(error.to_string()))?;
        let head = Bytes::from(header.to_bytes());
        let (chunks_in, chunks) = mpsc::channel(2);
        let (waiting_in, waiting) = mpsc::channel(WINDOW);
        let go = Arc::new(Notify::new());
        let request = self.batch_request(&head, count, chunks, &go)?;
        let Sender { mut requests, end } = self.link.open().await?;

        // A refusal that comes while records are under way can be lost with the connection, so they wait for the word.
        let mut feed = pin!(async {
            let _ = timeout(CONTINUE_WAIT, go.notified()).await;
            feed(records, head, count, waiting_in, chunks_in).await
        });
        let sent = requests.send_request(request);
        let mut read = pin!(async {
            let response = self.accepted(sent, end, &go).await?;
            self.read(response, header, count, waiting, &mut progress).await
        });
        let mut feeding = true;
        let (verdicts, trailer, totals) = loop {
            tokio::select! {
                read = &mut read => break read?,
                fed = &mut feed, if feeding => {
                    fed?;
                    feeding = false;
                }
            }
        };
        receipt::check(&trailer, header, &totals, &pinned)?;
        Ok(Verified { verdicts: Verdicts(verdicts), receipt: trailer, totals })
    }

    fn batch_request(
        &self,
        head: &Bytes,
        count: u64,
        chunks: mpsc::Receiver<Bytes>,
        go: &Arc<Notify>,
    ) -> Result<Request<Outgoing>, Error> {
        let left = count
            .checked_mul(RECORD_LEN as u64)
            .and_then(|bytes| bytes.checked_add(head.len() as u64))
            .ok_or_else(|| Error::Config(format!("{count} records are more than any batch holds")))?;
        let mut request = Request::post(PATH)
            .header(HOST, &self.link.endpoint.authority)
            .header(CONTENT_TYPE, BATCH_TYPE)
            .header(ACCEPT, BATCH_TYPE)
            .header(EXPECT, "100-continue")
            .body(Outgoing::Stream { chunks, left })
            .map_err(|error| Error::Config(format!("no request can be made of this: {error}")))?;
        let go = Arc::clone(go);
        on_informational(&mut request, move |_| go.notify_one());
        Ok(request)
    }

    async fn accepted(
        &self,
        sent: impl Future<Output = hyper::Result<Response<Incoming>>>,
        end: End,
        go: &Notify,
    ) -> Result<Response<Incoming>, Error> {
        let response = match self.in_time(sent).await? {
            Ok(response) => response,
            Err(error) => return Err(broken(&end.reason(&error).await, "the start of the batch")),
        };
        if response.status() != StatusCode::OK {
            return Err(self.in_time(refusal(response)).await?);
        }
        go.notify_one();
        Ok(response)
    }

    async fn read(
        &self,
        response: Response<Incoming>,
        header: &BatchHeader,
        count: u64,
        waiting: mpsc::Receiver<Bytes>,
        progress: &mut (impl FnMut(u64) + Send),
    ) -> Result<(Vec<u8>, Receipt, Totals), Error> {
        let batch = batch_id(&response)?;
        let mut answer = Answer::new(header, count, waiting);
        let mut body = response.into_body();
        while let Some(frame) = self.in_time(body.frame()).await? {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Err(answer.broken_by(&error)),
            };
            if let Some(data) = frame.data_ref() {
                answer.take(data)?;
                progress(answer.verdicts.len() as u64);
            }
        }
        answer.finish(&batch)
    }

    /// Nothing may be silent for longer than the idle timeout.
    async fn in_time<T>(&self, wait: impl Future<Output = T>) -> Result<T, Error> {
        let limit = self.link.timeouts.idle;
        timeout(limit, wait).await.map_err(|_| {
            Error::Connection(format!(
                "the service was silent for {} s during the batch, so there is no result; send the batch again",
                limit.as_secs_f32()
            ))
        })
    }
}

fn batch_id(response: &Response<Incoming>) -> Result<[u8; 16], Error> {
    let found = media_type(response.headers());
    if found != BATCH_TYPE {
        return Err(Error::Answer(format!("the batch was answered as {found:?} instead of {BATCH_TYPE}")));
    }
    let id = response.headers().get(BATCH_HEADER).and_then(|id| hex(id.as_bytes()));
    id.ok_or_else(|| Error::Answer(format!("the batch was answered without its id ({BATCH_HEADER})")))
}

/// Sends header and records, and remembers the records until their verdicts come.
async fn feed(
    mut records: impl Records,
    head: Bytes,
    count: u64,
    waiting: mpsc::Sender<Bytes>,
    chunks: mpsc::Sender<Bytes>,
) -> Result<(), Error> {
    let mut left = count;
    if chunks.send(head).await.is_err() {
        return Ok(());
    }
    while let Some(mut chunk) = records.next_chunk().await.map_err(Error::Records)? {
        let fits = chunk.len().is_multiple_of(RECORD_LEN);
        let more = (chunk.len() / RECORD_LEN) as u64;
        left = left.checked_sub(more).filter(|_| fits).ok_or_else(|| miscounted(count))?;
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(CHUNK_RECORDS * RECORD_LEN));
            // A closed channel means that the answer is there already; the reader says what it is.
            if waiting.send(piece.clone()).await.is_err() || chunks.send(piece).await.is_err() {
                return Ok(());
            }
        }
    }
    if left == 0 { Ok(()) } else { Err(miscounted(count)) }
}

fn miscounted(count: u64) -> Error {
    Error::Records(format!(
        "the source of the records did not give the {count} whole records that were announced; the batch was given up, \
         send it again"
    ))
}

/// Takes the answer apart as it comes: verdict bytes, then one JSON line.
struct Answer<'a> {
    recount: Recount<'a>,
    count: u64,
    waiting: mpsc::Receiver<Bytes>,
    current: Bytes,
    verdicts: Vec<u8>,
    trailer: Vec<u8>,
}

impl<'a> Answer<'a> {
    fn new(header: &'a BatchHeader, count: u64, waiting: mpsc::Receiver<Bytes>) -> Self {
        Self {
            recount: Recount::new(header),
            count,
            waiting,
            current: Bytes::new(),
            verdicts: Vec::with_capacity(usize::try_from(count.min(RESERVE_MAX)).unwrap_or_default()),
            trailer: Vec::new(),
        }
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Error> {
        let (verdicts, line) = if self.trailer.is_empty() {
            let end = data.iter().position(|byte| *byte == TRAILER_START).unwrap_or(data.len());
            data.split_at(end)
        } else {
            data.split_at(0)
        };
        self.count_in(verdicts)?;
        self.verdicts.extend_from_slice(verdicts);
        self.trailer.extend_from_slice(line);
        if self.trailer.len() > TRAILER_MAX {
            return Err(Error::Answer("the last line of the stream does not end".to_owned()));
        }
        Ok(())
    }

    fn count_in(&mut self, mut verdicts: &[u8]) -> Result<(), Error> {
        while !verdicts.is_empty() {
            if self.current.is_empty() {
                self.current = self
                    .waiting
                    .try_recv()
                    .map_err(|_| Error::Answer("more verdicts came than records were sent".to_owned()))?;
            }
            let (records, _) = self.current.as_chunks::<RECORD_LEN>();
            let now = records.len().min(verdicts.len());
            let (run, later) = verdicts.split_at(now);
            for (record, byte) in records.iter().zip(run) {
                let verdict = Verdict::from_byte(*byte)
                    .ok_or_else(|| Error::Answer(format!("byte {byte:02X} in the stream is no verdict")))?;
                self.recount.add(record, verdict);
            }
            self.current.advance(now * RECORD_LEN);
            verdicts = later;
        }
        Ok(())
    }

    /// The stream broke; a problem that came before that says why.
    fn broken_by(&self, error: &hyper::Error) -> Error {
        match self.parse_trailer() {
            Ok(Trailer::Problem(problem)) => Error::refused(problem),
            _ => broken(&chain(error), "the batch, before its receipt, so there is no result"),
        }
    }

    fn parse_trailer(&self) -> Result<Trailer, Error> {
        let line = self.trailer.strip_suffix(b"\n").ok_or_else(|| {
            Error::Answer(format!(
                "the stream ended after {} of {} verdicts without a receipt, so there is no result; send the batch again",
                self.verdicts.len(),
                self.count
            ))
        })?;
        serde_json::from_slice(line).map_err(|error| {
            Error::Answer(format!("the last line of the stream is no receipt and no problem: {error}"))
        })
    }

    fn finish(self, batch: &[u8; 16]) -> Result<(Vec<u8>, Receipt, Totals), Error> {
        let receipt = match self.parse_trailer()? {
            Trailer::Receipt(receipt) => *receipt,
            Trailer::Problem(problem) => return Err(Error::refused(problem)),
        };
        if self.verdicts.len() as u64 != self.count {
            return Err(Error::Answer(format!(
                "a receipt came after {} verdicts for {} records",
                self.verdicts.len(),
                self.count
            )));
        }
        if receipt.batch != to_hex(batch) {
            return Err(Error::Answer("the receipt is of another batch than the one announced".to_owned()));
        }
        Ok((self.verdicts, receipt, self.recount.totals()))
    }
}
