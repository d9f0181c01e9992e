//! The front door: a TCP connection goes in, a proven client with its stream comes out, or the reason why not.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::client_id::ClientId;
use crate::connections::{Connections, Seat};
use crate::tls::{KeyPrefix, Reason, SEEN, Seen, Setup, Tls};

/// Lets clients in.
#[derive(Clone, Debug)]
pub struct Front {
    tls: Arc<Tls>,
    handshake_timeout: Duration,
}

/// A client and its connection.
#[derive(Debug)]
#[non_exhaustive]
pub struct Guest {
    /// Who.
    pub client: ClientId,
    /// Prefix of the hash of its public key.
    pub certificate: Option<KeyPrefix>,
    /// Its certificate chain, to be judged again when revocations come.
    pub chain: Vec<CertificateDer<'static>>,
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    /// The files that let it in.
    pub(crate) admitted_by: Arc<Setup>,
}

/// Somebody who was turned away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Turned {
    /// Why.
    pub reason: Reason,
    /// Prefix of the hash of the public key that was shown, if one was.
    pub certificate: Option<KeyPrefix>,
}

impl Front {
    /// A front with these TLS files.
    pub fn new(tls: Arc<Tls>, handshake_timeout: Duration) -> Self {
        Self { tls, handshake_timeout }
    }

    /// Runs one handshake. No byte of HTTP is read before it is complete.
    pub async fn admit(&self, tcp: TcpStream) -> Result<Guest, Turned> {
        // Verdicts and single answers are small; waiting for more to send would only delay them.
        let _ = tcp.set_nodelay(true);
        let admitted_by = self.tls.current();
        let acceptor = TlsAcceptor::from(Arc::clone(&admitted_by.server));
        let handshake = async {
            let outcome = tokio::time::timeout(self.handshake_timeout, acceptor.accept(tcp)).await;
            (outcome, SEEN.with(RefCell::take))
        };
        let (outcome, seen) = SEEN.scope(RefCell::new(Seen::default()), handshake).await;
        let turned = |reason| Turned { reason, certificate: seen.certificate };
        let stream = match outcome {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(turned(seen.reason.unwrap_or_else(|| Reason::of_handshake(&error))));
            }
            Err(_) => return Err(turned(Reason::Timeout)),
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        match seen.client {
            Some(client) => Ok(Guest { client, certificate: seen.certificate, chain, stream, admitted_by }),
            None => Err(turned(Reason::NoCertificate)),
        }
    }

    /// Gives a guest a place, or says why not. A handshake takes time: whom other files let in is judged again by those in force
    /// now, and with the place taken, so that a reload either is seen here or sees the place.
    pub fn seat(&self, connections: &Connections, guest: &Guest) -> Result<Seat, &'static str> {
        let Guest { client, chain, admitted_by, .. } = guest;
        let seat = connections.enter(client, chain.clone()).ok_or("client-connections")?;
        let current = self.tls.current();
        if !Arc::ptr_eq(admitted_by, &current) {
            current.still_admits(chain, client).map_err(Reason::code)?;
        }
        Ok(seat)
    }
}
