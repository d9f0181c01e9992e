//! Where a mirror copies from: a directory, or an HTTPS server that asks who comes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::MirrorConfig;

/// The largest file of a log: a bundle of 256 entries of 65,535 bytes.
const FILE_MAX: usize = 256 * (2 + 65_535);

const PATIENCE: Duration = Duration::from_secs(30);

/// Files of a published log.
#[derive(Debug)]
pub(crate) enum Source {
    Folder(PathBuf),
    Server(Box<Server>),
}

/// One connection, opened again when it has ended.
pub(crate) struct Server {
    host: String,
    port: u16,
    prefix: String,
    name: ServerName<'static>,
    tls: TlsConnector,
    open: Option<SendRequest<Empty<Bytes>>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}:{}{}", self.host, self.port, self.prefix)
    }
}

impl Source {
    pub(crate) fn open(config: &MirrorConfig) -> Result<Self> {
        if !config.source.starts_with("https://") {
            return Ok(Self::Folder(PathBuf::from(&config.source)));
        }
        let uri: Uri = config.source.parse().with_context(|| format!("source = {:?}", config.source))?;
        let host = uri.host().context("the source's URL has no host")?.to_owned();
        let server = Server {
            port: uri.port_u16().unwrap_or(443),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            name: ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?,
            tls: TlsConnector::from(Arc::new(tls(config)?)),
            open: None,
            host,
        };
        Ok(Self::Server(Box::new(server)))
    }

    /// A file's bytes; `None` if there is none.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Folder(folder) => match tokio::fs::read(folder.join(path)).await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error).with_context(|| folder.join(path).display().to_string()),
            },
            Self::Server(server) => {
                let got = timeout(PATIENCE, server.get(path)).await;
                let got = got.context("no answer in 30 s").and_then(|got| got);
                if got.is_err() {
                    server.open = None;
                }
                got.with_context(|| format!("{server:?}/{path}"))
            }
        }
    }
}

impl Server {
    async fn get(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        let mut open = self.open.take();
        if let Some(sender) = &mut open
            && sender.ready().await.is_err()
        {
            open = None;
        }
        let mut sender = match open {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let host = self.host.as_str();
        let request = Request::get(format!("{}/{path}", self.prefix))
            .header(http::header::HOST, host)
            .body(Empty::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), FILE_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        self.open = Some(sender);
        match status {
            StatusCode::OK => Ok(Some(body.to_vec())),
            StatusCode::NOT_FOUND => Ok(None),
            _ => bail!("the server says {status}"),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>> {
        let host = self.host.trim_matches(['[', ']']);
        let tcp = TcpStream::connect((host, self.port)).await?;
        let stream = self.tls.connect(self.name.clone(), tcp).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn tls(config: &MirrorConfig) -> Result<ClientConfig> {
    let ca = config.ca.as_ref().context("a source by https needs ca")?;
    let mut roots = RootCertStore::empty();
    for anchor in CertificateDer::pem_file_iter(ca).with_context(|| ca.display().to_string())? {
        roots.add(anchor?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| certificate.display().to_string())?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}
