//! A listener with keyd's front behind it, and clients of every kind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keyd::client_id::TrustDomain;
use keyd::front::{Front, Guest, Turned};
use keyd::tls::{Reason, Tls, TlsError};
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::pki::{CLEARING, Leaf, Pki};

pub(crate) struct Gate {
    pub(crate) pki: Pki,
    pub(crate) front: Front,
    pub(crate) listener: TcpListener,
    pub(crate) tls: Arc<Tls>,
    _dir: TempDir,
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::parse("weihai.example").unwrap()
}

impl Gate {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(spoil: impl FnOnce(&Pki)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        spoil(&pki);
        let tls = Arc::new(Tls::load(&pki.tls(), &domain()).unwrap());
        Self {
            front: Front::new(Arc::clone(&tls), Duration::from_millis(700)),
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            pki,
            tls,
            _dir: dir,
        }
    }

    /// Officers have approved the CA bundle in force, and no other.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        self.tls.reload(&self.tls.ca_digest())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// What the server says of the next connection, and what the client tells of its side.
    pub(crate) async fn admit<T>(&self, client: impl Future<Output = T>) -> (Result<Guest, Turned>, T) {
        let server = async {
            let (tcp, _) = self.listener.accept().await.unwrap();
            self.front.admit(tcp).await
        };
        tokio::join!(server, client)
    }

    pub(crate) async fn knock(&self, config: ClientConfig) -> Result<Guest, Turned> {
        self.knock_as(config, "localhost").await
    }

    pub(crate) async fn knock_as(&self, config: ClientConfig, name: &'static str) -> Result<Guest, Turned> {
        let address = self.address();
        let client = async {
            let tcp = TcpStream::connect(address).await.unwrap();
            let connector = TlsConnector::from(Arc::new(config));
            // TLS 1.3: a refused client learns of it with its first read.
            if let Ok(mut stream) = connector.connect(name.try_into().unwrap(), tcp).await {
                let _ = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut [0; 1])).await;
            }
        };
        self.admit(client).await.0
    }

    pub(crate) async fn show(&self, leaf: &Leaf) -> Result<Guest, Turned> {
        self.knock(self.pki.client_config(Some(leaf))).await
    }

    /// The positive twin.
    pub(crate) async fn good_client_is_let_in(&self, after: &str) {
        let guest = self.show(&self.pki.ca.client(CLEARING)).await;
        let guest = guest.unwrap_or_else(|turned| panic!("after {after}: {turned:?}"));
        assert_eq!(guest.client.as_str(), CLEARING);
        assert!(guest.certificate.is_some());
    }
}

pub(crate) fn reason(outcome: Result<Guest, Turned>) -> Option<Reason> {
    outcome.err().map(|turned| turned.reason)
}
