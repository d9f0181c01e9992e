//! Answers, and what each needs to exist: the permit for an operation, the note for a refusal, an explicit word for a
//! read. There is no other way to make one.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::channel::{Channel, Sender};
use serde::Serialize;
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
        let mut response = whole(refusal.status, PROBLEM_TYPE, body);
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
    pub(crate) fn provisional(response: Response<Channel<Bytes, Aborted>>) -> Self {
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
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The body was cut off on purpose: the client must not take it for whole.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer is cut off")]
#[allow(clippy::exhaustive_structs)]
pub struct Aborted;

/// Sends the parts of a stream.
pub(crate) type Parts = Sender<Bytes, Aborted>;

/// A body.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Body {
    /// All there.
    Whole(Option<Bytes>),
    /// Comes in parts.
    Stream(Channel<Bytes, Aborted>),
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => Pin::new(stream).poll_frame(cx),
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
