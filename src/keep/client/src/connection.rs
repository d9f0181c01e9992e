//! One HTTP/1.1 connection over TLS 1.3, and how it is opened.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::config::Timeouts;
use crate::error::{Error, chain};
use crate::patient::Patient;

/// Attempts to connect, with a wait of 50 ms, 200 ms, 800 ms between them.
const ATTEMPTS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// A connection that failed a request is about to end.
const END_WAIT: Duration = Duration::from_millis(200);
/// Connections that are kept for the next small request.
const KEPT: usize = 8;

/// Where the service is.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) authority: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) server: ServerName<'static>,
}

/// An open connection.
pub(crate) struct Sender {
    pub(crate) requests: SendRequest<Outgoing>,
    pub(crate) end: End,
}

/// How a connection ended. A request that meets a closed connection is told only that; why it closed, for example that
/// the service refused the certificate, is known here.
pub(crate) struct End(JoinHandle<Option<String>>);

impl End {
    /// What is behind `error`.
    pub(crate) async fn reason(self, error: &hyper::Error) -> String {
        match timeout(END_WAIT, self.0).await {
            Ok(Ok(Some(reason))) => reason,
            _ => chain(error),
        }
    }
}

/// The way to the service: opens connections and keeps idle ones.
pub(crate) struct Link {
    pub(crate) endpoint: Endpoint,
    pub(crate) timeouts: Timeouts,
    tls: TlsConnector,
    idle: Mutex<Vec<Sender>>,
}

impl core::fmt::Debug for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Link").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(endpoint: Endpoint, tls: Arc<ClientConfig>, timeouts: Timeouts) -> Self {
        Self { endpoint, timeouts, tls: TlsConnector::from(tls), idle: Mutex::new(Vec::new()) }
    }

    /// A connection that answered before and is still open.
    pub(crate) async fn kept(&self) -> Option<Sender> {
        loop {
            let mut sender = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if sender.requests.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end.
    pub(crate) fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT && !sender.requests.is_closed() {
            idle.push(sender);
        }
    }

    /// Opens a connection. Nothing has been sent on it, so trying again is always safe.
    pub(crate) async fn open(&self) -> Result<Sender, Error> {
        let limit = self.timeouts.connect;
        let mut last = None;
        let attempts = async {
            let mut wait = FIRST_WAIT;
            for attempt in 1..=ATTEMPTS {
                match self.attempt().await {
                    Ok(sender) => return Ok(sender),
                    Err(Attempt::Final(error)) => return Err(Some(error)),
                    Err(Attempt::Again(error)) => last = Some(error),
                }
                if attempt < ATTEMPTS {
                    sleep(wait).await;
                    wait *= 4;
                }
            }
            Err(None)
        };
        let result = timeout(limit, attempts).await;
        let why = match result {
            Ok(Ok(sender)) => return Ok(sender),
            Ok(Err(Some(why))) => {
                return Err(Error::Certificate(format!(
                    "cannot connect to {} ({why}); compare the CA bundle and the host name with what the operator gave",
                    self.endpoint.authority
                )));
            }
            _ => last.unwrap_or_else(|| format!("no answer within {} s", limit.as_secs_f32())),
        };
        Err(Error::Connection(format!(
            "cannot connect to {} ({why}); check that the service runs there, and try again",
            self.endpoint.authority
        )))
    }

    async fn attempt(&self) -> Result<Sender, Attempt> {
        let address = (self.endpoint.host.as_str(), self.endpoint.port);
        let again = |error: std::io::Error| Attempt::Again(error.to_string());
        let tcp = TcpStream::connect(address).await.map_err(again)?;
        tcp.set_nodelay(true).map_err(again)?;
        let tls = self.tls.connect(self.endpoint.server.clone(), Patient::new(tcp)).await;
        let stream = tls.map_err(|error| {
            // A certificate that does not verify will not verify in a second either.
            if error.kind() == std::io::ErrorKind::InvalidData {
                Attempt::Final(format!("TLS: {error}"))
            } else {
                Attempt::Again(format!("TLS: {error}"))
            }
        })?;
        let (requests, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| Attempt::Again(chain(&error)))?;
        let end = tokio::spawn(async move { connection.await.err().map(|error| chain(&error)) });
        Ok(Sender { requests, end: End(end) })
    }
}

enum Attempt {
    Again(String),
    Final(String),
}

/// The body of a request.
pub(crate) enum Outgoing {
    /// All of it.
    Whole(Option<Bytes>),
    /// A batch on its way, of a length that is known before the first byte.
    Stream { chunks: mpsc::Receiver<Bytes>, left: u64 },
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { chunks, left } => chunks.poll_recv(context).map(|chunk| match chunk {
                Some(chunk) => {
                    *left = left.saturating_sub(chunk.len() as u64);
                    Some(Ok(Frame::data(chunk)))
                }
                None if *left == 0 => None,
                // The feeder gave up: the connection must break, so that the service does not take a part for a whole.
                None => Some(Err(std::io::Error::other("the batch was given up"))),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Stream { left, .. } => *left,
        })
    }
}
