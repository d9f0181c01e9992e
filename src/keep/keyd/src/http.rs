//! The listener: connections in, one service call per request, an orderly stop.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use crate::answer::{Aborted, Body};
use crate::assertions::Who;
use crate::connections::{Connections, Seat};
use crate::front::{Front, Guest};
use crate::routes::{App, Caller, handle};
use crate::watched::{Busy, Phase, Watched};

/// A request head has room here and no more; larger ones are answered 431.
const BUFFER_BYTES: usize = 64 << 10;
const HEADERS_MAX: usize = 64;
/// After a failed accept (no descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` is set; then lets requests under way finish.
pub(crate) async fn serve(
    listener: TcpListener,
    front: Front,
    app: Arc<App>,
    connections: Connections,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(app.limits.connections));
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        while tasks.try_join_next().is_some() {}
        let Ok((tcp, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            let _ = app.recorder.deny("connections-full", Who::default());
            continue;
        };
        let door = Door {
            front: front.clone(),
            app: Arc::clone(&app),
            connections: connections.clone(),
            stop: stop.clone(),
        };
        tasks.spawn(door.guest(tcp, slot));
    }
    drop(listener);
    drain(&app, tasks).await;
}

/// Waits for what is under way, and no longer than the limits say.
async fn drain(app: &App, mut tasks: JoinSet<()>) {
    let finish = async {
        while tasks.join_next().await.is_some() {}
        app.tasks.finish().await;
    };
    if tokio::time::timeout(app.limits.drain_timeout(), finish).await.is_err() {
        tracing::warn!("requests were still under way at the end of the drain timeout; they are cut off");
    }
}

/// What one connection needs.
struct Door {
    front: Front,
    app: Arc<App>,
    connections: Connections,
    stop: watch::Receiver<bool>,
}

impl Door {
    async fn guest(mut self, tcp: TcpStream, _slot: OwnedSemaphorePermit) {
        let admitted = tokio::select! {
            admitted = self.front.admit(tcp) => admitted,
            // A handshake is no request under way.
            _ = self.stop.wait_for(|stop| *stop) => return,
        };
        let guest = match admitted {
            Ok(guest) => guest,
            Err(turned) => {
                let who = Who { client: None, certificate: turned.certificate };
                let _ = self.app.recorder.deny(turned.reason.code(), who);
                return;
            }
        };
        let seat = self.front.seat(&self.connections, &guest);
        let Guest { client, certificate, chain, stream, .. } = guest;
        let caller = Caller { client, certificate };
        let seat = match seat {
            Ok(seat) => seat,
            Err(code) => {
                let _ = self.app.recorder.deny(code, caller.who());
                return;
            }
        };
        self.app.expiries.shown(&caller.client, &chain);
        self.app.recorder.access("connected", caller.who());
        let phase = Arc::new(Phase::default());
        let limits = &self.app.limits;
        let watched =
            Watched::new(stream, Arc::clone(&phase), limits.header_timeout(), limits.write_timeout());
        self.converse(watched, phase, caller, seat).await;
    }

    async fn converse<S>(mut self, io: Watched<S>, phase: Arc<Phase>, caller: Caller, mut seat: Seat)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (app, who) = (Arc::clone(&self.app), caller.who());
        let service_phase = Arc::clone(&phase);
        let service = service_fn(move |request: Request<Incoming>| {
            let (app, caller, busy) = (Arc::clone(&app), caller.clone(), service_phase.begin());
            let (reply, answer) = oneshot::channel();
            // A task of its own: hanging up right after the request must not keep it out of the log.
            app.tasks.clone().spawn(async move {
                let _ = reply.send(handle(&app, &caller, request).await);
            });
            async move {
                let response = answer.await.map_err(|_| Aborted)?.into_response();
                Ok::<_, Aborted>(response.map(|body| Tracked { body, _busy: busy }))
            }
        });
        let connection = http1::Builder::new()
            // Without a timer hyper's timeout would be a panic; it covers the wait for a request.
            .timer(TokioTimer::new())
            .header_read_timeout(self.app.limits.idle_timeout())
            .max_headers(HEADERS_MAX)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        let mut stopping = false;
        let outcome = loop {
            tokio::select! {
                outcome = connection.as_mut() => break outcome,
                reason = seat.ended() => {
                    let _ = self.app.recorder.deny(reason.code(), who);
                    return;
                }
                _ = self.stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        };
        if let Some(code) = outcome.err().and_then(|error| code_of(&error, &phase)) {
            let _ = self.app.recorder.deny(code, who);
        }
    }
}

/// The code of a connection's end, if it is one that the log should know.
fn code_of(error: &hyper::Error, phase: &Phase) -> Option<&'static str> {
    if let Some(code) = phase.expired() {
        Some(code)
    } else if error.is_parse_too_large() {
        Some("http-too-large")
    } else if error.is_parse() {
        Some("http-parse")
    } else {
        // Idle for too long, or the client hung up.
        None
    }
}

/// A body that marks its request as under way until it is gone.
struct Tracked {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
