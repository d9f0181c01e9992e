//! Answers, and what each needs to exist: the permit for an operation, the note for a refusal, an explicit word for a
//! read. There is no other way to make one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;
use tokio::sync::mpsc;
use wire::api::PROBLEM_TYPE;

use crate::assertions::Recorded;
use crate::commit::Permit;
use crate::problem::Refusal;

/// An answer that may leave.
///
/// ```compile_fail
/// fn unlogged(response: http::Response<keyd::answer::Body>) -> keyd::answer::Answer {
///     keyd::answer::Answer(response)
/// }
/// ```
#[derive(Debug)]
pub struct Answer(Response<Body>);

impl Answer {
    /// The answer to an operation whose entry is durable.
    pub fn new(permit: Permit, response: Response<Body>) -> Self {
        drop(permit);
        Self(response)
    }

    /// A refusal that is noted.
    pub fn refused(_recorded: Recorded, refusal: &Refusal) -> Self {
        let body = serde_json::to_vec(&refusal.problem()).unwrap_or_default();
        let mut response = whole(refusal.status(), PROBLEM_TYPE, body);
        let headers = response.headers_mut();
        if let Some(seconds) = refusal.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = refusal.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        Self(response)
    }

    /// A stream of provisional verdicts: worth nothing until its receipt, which stands on a [`Permit`]
    /// (service-protocol rule 2).
    pub(crate) fn provisional(response: Response<Stream>) -> Self {
        Self(response.map(Body::Stream))
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        self.0
    }
}

/// Answers that make no log entry.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Unlogged;

impl Unlogged {
    /// A read that changes nothing and tells nothing that a key made.
    pub fn read(response: Response<Body>) -> Answer {
        Answer(response)
    }

    /// A command that waits inside the module for more and has therefore no entry yet.
    pub(crate) fn pending(response: Response<Body>) -> Answer {
        Answer(response)
    }
}

/// A JSON body.
pub(crate) fn json(body: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(body) {
        Ok(bytes) => whole(StatusCode::OK, "application/json", bytes),
        Err(_) => whole(StatusCode::INTERNAL_SERVER_ERROR, "application/json", Vec::new()),
    }
}

/// A body that is all there.
pub(crate) fn whole(status: StatusCode, media_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Some(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The body was cut off on purpose: the client must not take it for whole.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer is cut off")]
#[allow(clippy::exhaustive_structs)]
pub struct Aborted;

/// What a stream is made of. Its end is a part of its own: a sender that is only gone, because its task was ended or
/// the process stops, must not look like one that has finished.
#[derive(Debug)]
enum Part {
    Data(Bytes),
    End,
}

/// Sends the parts of a stream. Dropped without [`Parts::finish`], it cuts the stream off.
#[derive(Debug)]
pub(crate) struct Parts(mpsc::Sender<Part>);

/// The client takes nothing any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left;

impl Parts {
    /// Sends some more; waits while the client has enough.
    pub(crate) async fn send(&mut self, part: Bytes) -> Result<(), Left> {
        self.0.send(Part::Data(part)).await.map_err(|_| Left)
    }

    /// The proper end of a stream; only what stands on a durable entry has one.
    pub(crate) async fn finish(self, permit: Permit) -> Result<(), Left> {
        drop(permit);
        self.0.send(Part::End).await.map_err(|_| Left)
    }
}

/// A body that comes in parts.
#[derive(Debug)]
pub struct Stream {
    parts: mpsc::Receiver<Part>,
    ended: bool,
}

/// A stream of which at most `ahead` parts wait for the client.
pub(crate) fn stream(ahead: usize) -> (Parts, Stream) {
    let (sender, parts) = mpsc::channel(ahead);
    (Parts(sender), Stream { parts, ended: false })
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let part = ready!(self.parts.poll_recv(cx));
        self.ended = !matches!(part, Some(Part::Data(_)));
        Poll::Ready(match part {
            Some(Part::Data(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Part::End) => None,
            None => Some(Err(Aborted)),
        })
    }
}

/// A body.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Body {
    /// All there.
    Whole(Option<Bytes>),
    /// Comes in parts.
    Stream(Stream),
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn only_a_finished_stream_ends_whole() {
        let (mut parts, stream) = stream(2);
        parts.send(Bytes::from_static(b"1,ok")).await.unwrap();
        drop(parts);
        let mut body = Body::Stream(stream);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "1,ok");
        assert!(body.frame().await.unwrap().is_err(), "a sender that is only gone");
        assert!(body.frame().await.is_none());
        let (parts, stream) = super::stream(2);
        parts.finish(Permit::of_test(0)).await.unwrap();
        assert!(Body::Stream(stream).frame().await.is_none());
    }
}
