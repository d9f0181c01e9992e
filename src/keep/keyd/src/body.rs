//! Reading a request's body: bounded, and never slower than the limits allow.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};

use crate::problem::Refusal;

/// So much must come in each timeout: a byte now and then does not hold a stream open.
const PROGRESS_BYTES: usize = 4096;

/// Why a body ended early.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cut {
    /// Too slow.
    Slow,
    /// The connection or the framing broke.
    Broken,
}

impl From<Cut> for Refusal {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Slow => Self::body_timeout(),
            Cut::Broken => Self::body_broken(),
        }
    }
}

/// A body that comes in parts.
#[derive(Debug)]
pub(crate) struct Reader {
    body: Incoming,
    limit: Duration,
    /// Time left for the next [`PROGRESS_BYTES`] while the clock stands still.
    left: Duration,
    /// When they must be there, while it runs.
    deadline: Option<Instant>,
    progress: usize,
}

impl Reader {
    pub(crate) fn new(body: Incoming, limit: Duration) -> Self {
        Self { body, limit, left: limit, deadline: None, progress: 0 }
    }

    /// The clock stands still while we do not want more. It is not wound up: a trickle can't hold a stream open by
    /// making us pause.
    pub(crate) fn pause(&mut self) {
        if let Some(deadline) = self.deadline.take() {
            self.left = deadline.saturating_duration_since(Instant::now());
        }
    }

    /// The next part; `None` at the end. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        loop {
            let left = self.left;
            let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + left);
            let Ok(frame) = timeout_at(deadline, self.body.frame()).await else {
                return Err(Cut::Slow);
            };
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(Cut::Broken),
                // Trailers of a request mean nothing here.
                Some(Ok(frame)) => {
                    if let Ok(part) = frame.into_data() {
                        self.count(part.len());
                        return Ok(Some(part));
                    }
                }
            }
        }
    }

    fn count(&mut self, bytes: usize) {
        self.progress += bytes;
        if self.progress >= PROGRESS_BYTES {
            self.progress = 0;
            self.left = self.limit;
            self.deadline = None;
        }
    }
}

/// A whole small body.
pub(crate) async fn collect(mut body: Incoming, max: usize, limit: Duration) -> Result<Bytes, Refusal> {
    let too_large =
        || Refusal::too_large(format_args!("The body is longer than {max} bytes; send less at once."));
    if http_body::Body::size_hint(&body).lower() > max as u64 {
        return Err(too_large());
    }
    let read = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::from(Cut::Broken))?;
            if let Ok(part) = frame.into_data() {
                if bytes.len() + part.len() > max {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&part);
            }
        }
        Ok(bytes.freeze())
    };
    timeout(limit, read).await.unwrap_or_else(|_| Err(Cut::Slow.into()))
}
