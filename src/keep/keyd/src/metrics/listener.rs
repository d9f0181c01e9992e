//! Where Prometheus asks: a loopback address or a Unix socket, never the network. In plain HTTP, because nothing here is
//! secret and nobody from outside gets here.

use std::convert::Infallible;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::Sources;

const PATH: &str = "/metrics";
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
/// One Prometheus, and somebody with curl.
const AT_ONCE: usize = 4;
/// For one question and its answer. Scrapers wait 10 seconds by default.
const WITHIN: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where, in the configuration: `127.0.0.1:9464`, or the path of a socket.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
#[allow(clippy::exhaustive_enums)]
pub enum Place {
    /// A loopback address.
    Loopback(SocketAddr),
    /// A Unix socket, which only keyd's own user may open.
    Socket(PathBuf),
}

impl TryFrom<String> for Place {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Loopback(address)),
            Ok(_) => {
                Err("is not a loopback address; take 127.0.0.1 or [::1]: metrics are for this machine only")
            }
            Err(_) if text.contains('/') => Ok(Self::Socket(text.into())),
            Err(_) => Err("is neither a loopback address with a port nor the path of a socket"),
        }
    }
}

/// An open listener.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

impl Listener {
    /// Opens a listener where the configuration says.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        match place {
            Place::Loopback(address) => {
                let listener = StdTcpListener::bind(address);
                let listener = listener.with_context(|| {
                    format!("cannot listen on {address} for metrics; choose another port")
                })?;
                Ok(Self::Tcp(listener))
            }
            Place::Socket(path) => {
                remove_stale(path);
                let listener = StdUnixListener::bind(path);
                let listener = listener.with_context(|| format!("cannot make the socket {} for metrics; its directory must be there, and nothing else in its place", path.display()))?;
                Ok(Self::Unix(listener))
            }
        }
    }

    /// A listener that systemd opened. Its address is judged too.
    pub(crate) fn of_tcp(listener: StdTcpListener) -> Result<Self> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            bail!(
                "the handed-over socket metrics listens on {address}; give a loopback address or a path in ListenStream="
            );
        }
        Ok(Self::Tcp(listener))
    }

    /// Where it listens, for people.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| String::new(), |at| format!("http://{at}{PATH}"))
            }
            Self::Unix(listener) => {
                let path =
                    listener.local_addr().ok().and_then(|at| Some(at.as_pathname()?.display().to_string()));
                path.unwrap_or_default()
            }
        }
    }

    /// Answers for as long as keyd runs.
    pub(crate) async fn serve(self, sources: Arc<Sources>) -> Result<Infallible> {
        match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                serve(async || listener.accept().await.map(|(stream, _)| stream), &sources).await
            }
            Self::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let listener = UnixListener::from_std(listener)?;
                serve(async || listener.accept().await.map(|(stream, _)| stream), &sources).await
            }
        }
    }
}

async fn serve<S>(accept: impl AsyncFn() -> std::io::Result<S>, sources: &Arc<Sources>) -> Result<Infallible>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        // Who comes when all places are taken waits in the listener's queue.
        let slot = Arc::clone(&slots).acquire_owned().await?;
        match accept().await {
            Ok(stream) => {
                let sources = Arc::clone(sources);
                tokio::spawn(async move {
                    converse(stream, sources).await;
                    drop(slot);
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// What a keyd that was killed has left. Anything but a socket stays, and so does a socket at which somebody listens.
fn remove_stale(path: &Path) {
    let dead = |path: &Path| {
        UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) && dead(path) {
        // If it cannot be removed, binding says so.
        let _ = fs::remove_file(path);
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, sources: Arc<Sources>) {
    let service = service_fn(move |request| {
        let answer = answer(&request, &sources);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A scraper that hangs up or is slow is none of keyd's business.
    let _ = timeout(WITHIN, connection).await;
}

fn answer<B>(request: &Request<B>, sources: &Sources) -> Response<Full<Bytes>> {
    let (status, body) = match (request.uri().path(), request.method()) {
        (PATH, &Method::GET | &Method::HEAD) => (StatusCode::OK, sources.page()),
        (PATH, _) => (StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The module's socket may lie where a configuration says that metrics go.
    #[test]
    fn only_a_dead_socket_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::Socket(dir.path().join("sock"));
        let living = Listener::open(&place).unwrap();
        let refused = format!("{:#}", Listener::open(&place).unwrap_err());
        assert!(refused.contains("nothing else in its place"), "{refused}");
        assert!(dir.path().join("sock").exists());
        drop(living);
        Listener::open(&place).unwrap();
    }
}
