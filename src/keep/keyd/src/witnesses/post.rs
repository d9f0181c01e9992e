//! One POST to a witness: plain or over TLS, straight or through a Unix socket that somebody else forwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A witness that needs longer is as good as none: what waits for it would wait too long.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// Some signature lines, or a number.
const ANSWER_MAX: usize = 16 << 10;

/// Where a witness answers.
#[derive(Clone)]
pub(super) struct Address {
    uri: Uri,
    host: String,
    port: u16,
    /// Instead of the network.
    socket: Option<PathBuf>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address")
            .field("uri", &self.uri)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// What a witness said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

impl Address {
    /// The witness `name` behind the URL prefix that its policy line has.
    pub(super) fn new(
        name: &str,
        url: &str,
        sockets: Option<&Path>,
        roots: &Arc<RootCertStore>,
    ) -> Result<Self, String> {
        let uri: Uri = format!("{}/add-checkpoint", url.trim_end_matches('/'))
            .parse()
            .map_err(|error| format!("the URL of the witness {name}, {url:?}: {error}"))?;
        let host = uri.host().ok_or_else(|| format!("the URL of the witness {name} has no host"))?.to_owned();
        let bare = host.trim_matches(['[', ']']).to_owned();
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") if roots.is_empty() => {
                return Err(format!(
                    "the witness {name} answers by https; set witnesses.ca to the CA of its certificate"
                ));
            }
            Some("https") => {
                let server = ServerName::try_from(bare.clone())
                    .map_err(|error| format!("the host of the witness {name}: {error}"))?;
                (Some((TlsConnector::from(Arc::new(client(roots)?)), server)), 443)
            }
            _ => return Err(format!("the URL of the witness {name} is neither http:// nor https://")),
        };
        let port = uri.port_u16().unwrap_or(port);
        let socket = sockets.map(|folder| folder.join(format!("{name}.sock")));
        Ok(Self { uri, host: bare, port, socket, tls })
    }

    /// Sends the request and hears the whole answer.
    pub(super) async fn post(&self, body: String) -> Result<Said, String> {
        match timeout(PATIENCE, self.exchange(body)).await {
            Ok(said) => said,
            Err(_) => Err(format!("no answer in {} s", PATIENCE.as_secs())),
        }
    }

    async fn exchange(&self, body: String) -> Result<Said, String> {
        if let Some(socket) = &self.socket {
            let stream = UnixStream::connect(socket).await;
            let stream = stream.map_err(|error| format!("{}: {error}", socket.display()))?;
            return self.secured(stream, body).await;
        }
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        self.secured(stream, body).await
    }

    async fn secured<S>(&self, stream: S, body: String) -> Result<Said, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match &self.tls {
            None => self.converse(stream, body).await,
            Some((tls, server)) => {
                let stream = tls.connect(server.clone(), stream).await.map_err(text)?;
                self.converse(stream, body).await
            }
        }
    }

    async fn converse<S>(&self, stream: S, body: String) -> Result<Said, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(text)?;
        let connection = tokio::spawn(connection);
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let request = Request::post(self.uri.path())
            .header(HOST, authority)
            .body(Full::new(Bytes::from(body)))
            .map_err(text)?;
        let said = async {
            let response = sender.send_request(request).await.map_err(text)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(text)?;
            let body = String::from_utf8(body.to_bytes().to_vec())
                .map_err(|_| "the answer is no text".to_owned())?;
            Ok(Said { status, body })
        };
        let said = said.await;
        connection.abort();
        said
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

fn client(roots: &Arc<RootCertStore>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(text)?;
    Ok(config.with_root_certificates(Arc::clone(roots)).with_no_client_auth())
}
