//! The protocol over HTTP/1.1: one POST, one GET, nothing else (SPEC.md of translog, §Witness protocol).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use translog::cosign::Refusal;

use crate::config::TlsFiles;
use crate::witness::{NotCosigned, Witness};

/// 63 hashes and a note with a hundred signature lines are 20 KiB.
const BODY_MAX: usize = 64 << 10;
const CONNECTIONS: usize = 64;
/// For a handshake, for a request's head, for its body; between requests of one connection as well.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failed accept, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const TEXT: &str = "text/plain; charset=utf-8";
/// Body of a 409, c2sp.org/tlog-witness.
const SIZE: &str = "text/x.tlog.size";

/// TLS of the listener.
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("tls.certificate {}", files.certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("tls.key {}", files.key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Answers until dropped.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, witness: Arc<Witness>) -> Infallible {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let seat = Arc::clone(&seats).acquire_owned().await;
        let Ok((tcp, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (tls, witness) = (tls.clone(), Arc::clone(&witness));
        tokio::spawn(async move {
            let _seat = seat;
            guest(tcp, tls, witness).await;
        });
    }
}

async fn guest(tcp: TcpStream, tls: Option<TlsAcceptor>, witness: Arc<Witness>) {
    let _ = tcp.set_nodelay(true);
    match tls {
        None => converse(tcp, witness).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(tcp)).await {
                converse(stream, witness).await;
            }
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(stream: S, witness: Arc<Witness>) {
    let service = service_fn(|request| answer(request, Arc::clone(&witness)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that went away is no event: it asks again.
    let _ = connection.await;
}

async fn answer(
    request: Request<Incoming>,
    witness: Arc<Witness>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let response = match (request.method(), path.as_str()) {
        (&Method::POST, "/add-checkpoint") => match body(request).await {
            Ok(body) => add_checkpoint(witness, body).await,
            Err(status) => {
                text(status, TEXT, "send the whole request, at most 64 KiB, within 10 seconds\n".to_owned())
            }
        },
        (&Method::GET, path) => match checkpoint(&witness, path) {
            Some(note) => text(StatusCode::OK, TEXT, note),
            None => text(StatusCode::NOT_FOUND, TEXT, "no such checkpoint\n".to_owned()),
        },
        (_, "/add-checkpoint") => {
            let mut response =
                text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "POST a checkpoint here\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            response
        }
        _ => text(StatusCode::NOT_FOUND, TEXT, "this is a witness; see c2sp.org/tlog-witness\n".to_owned()),
    };
    Ok(response)
}

async fn body(request: Request<Incoming>) -> Result<String, StatusCode> {
    let whole = timeout(PATIENCE, Limited::new(request.into_body(), BODY_MAX).collect()).await;
    let whole = whole.map_err(|_| StatusCode::REQUEST_TIMEOUT)?;
    let whole = whole.map_err(|error| {
        if error.is::<LengthLimitError>() { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST }
    })?;
    String::from_utf8(whole.to_bytes().to_vec()).map_err(|_| StatusCode::BAD_REQUEST)
}

async fn add_checkpoint(witness: Arc<Witness>, body: String) -> Response<Full<Bytes>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // It syncs a file, and must come to its end even if the log hangs up.
    let judged = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body, now)).await;
    match judged {
        Ok(Ok(line)) => text(StatusCode::OK, TEXT, line),
        Ok(Err(NotCosigned::Refused(Refusal::Conflict(size)))) => {
            text(StatusCode::CONFLICT, SIZE, format!("{size}\n"))
        }
        Ok(Err(refused)) => {
            let status = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            // What only the operator can mend is in his messages; paths are nobody else's business.
            let sentence = match &refused {
                NotCosigned::Memory(_) => NotCosigned::Broken.to_string(),
                other => other.to_string(),
            };
            text(status, TEXT, format!("{sentence}\n"))
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the witness failed; ask again\n".to_owned()),
    }
}

fn checkpoint(witness: &Witness, path: &str) -> Option<String> {
    witness.checkpoint(path.strip_prefix('/')?.strip_suffix("/checkpoint")?)
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
