//! A connection that does not wait for ever: a request head must be whole soon after its first byte, and the client must
//! take what it is sent. hyper has one timer for "idle" and "slow head" together, so the second one is here.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What the connection is doing; shared with the service that answers on it.
#[derive(Debug, Default)]
pub(crate) struct Phase {
    /// Requests begun.
    begun: AtomicU64,
    /// Requests answered to the last byte.
    ended: AtomicU64,
    expired: AtomicU8,
}

/// After the last answer a client has this long, and these bytes, to hear of it and stop.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 2 << 20;

const HEADER: u8 = 1;
const WRITE: u8 = 2;

impl Phase {
    /// A request's head is complete. It is under way until the guard is dropped with the last part of the answer.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    /// Which limit ended the connection, if one did.
    pub(crate) fn expired(&self) -> Option<&'static str> {
        match self.expired.load(Ordering::Acquire) {
            HEADER => Some("http-header-timeout"),
            WRITE => Some("http-write-timeout"),
            _ => None,
        }
    }

    /// The number of the head that is being waited for; none while a request is under way.
    fn head(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::Acquire);
        (begun == self.ended.load(Ordering::Acquire)).then_some(begun)
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Phase>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::AcqRel);
    }
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    io: S,
    phase: Arc<Phase>,
    header_timeout: Duration,
    write_timeout: Duration,
    /// Which head its timer is for.
    head: Option<(u64, Pin<Box<Sleep>>)>,
    write: Option<Pin<Box<Sleep>>>,
    /// After our last byte: how long, and for how many bytes, the peer may still send.
    linger: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Watched<S> {
    pub(crate) fn new(io: S, phase: Arc<Phase>, header_timeout: Duration, write_timeout: Duration) -> Self {
        Self { io, phase, header_timeout, write_timeout, head: None, write: None, linger: None }
    }

    fn expire(&self, what: u8) -> io::Error {
        self.phase.expired.store(what, Ordering::Release);
        io::ErrorKind::TimedOut.into()
    }

    /// Runs the write timer while the peer takes nothing.
    fn watch_write<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write = None;
            return outcome;
        }
        let timeout = self.write_timeout;
        let timer = self.write.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + timeout)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(self.expire(WRITE)))
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Reads and forgets until the peer has closed too. Closing on bytes that are still coming would reset the
    /// connection, and a client that is refused in the middle of its body would never see why.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((timer, left)) = &mut self.linger else {
            return Poll::Ready(Ok(()));
        };
        let mut scratch = [MaybeUninit::uninit(); 8192];
        loop {
            let mut buffer = ReadBuf::uninit(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Pending => return timer.as_mut().poll(cx).map(Ok),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && *left > 0 => {
                    *left = left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let head = this.phase.head();
        // A timer of an earlier head says nothing any more.
        if this.head.as_ref().map(|(number, _)| *number) != head {
            this.head = None;
        }
        let before = to.filled().len();
        let outcome = Pin::new(&mut this.io).poll_read(cx, to);
        if let Some(number) = head
            && this.head.is_none()
            && to.filled().len() > before
        {
            let timer = Box::pin(sleep_until(Instant::now() + this.header_timeout));
            this.head = Some((number, timer));
        }
        if outcome.is_pending()
            && let Some((_, timer)) = &mut this.head
        {
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Err(this.expire(HEADER)));
        }
        outcome
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_write(cx, from);
        this.watch_write(cx, outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_flush(cx);
        this.watch_write(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            let outcome = Pin::new(&mut this.io).poll_shutdown(cx);
            ready!(this.watch_write(cx, outcome))?;
            this.linger = Some((Box::pin(sleep_until(Instant::now() + LINGER)), LINGER_BYTES));
        }
        this.poll_linger(cx)
    }
}
