//! Where clients come: an address of the configuration, or a listener that systemd keeps open across restarts.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::handed::Handed;

/// Clients of a keyd that only restarts wait this long in the listener's queue.
const QUEUED_FOR: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One of the two.
#[derive(Debug)]
pub(crate) enum Place {
    /// Bound when keyd serves, and not before.
    Address(SocketAddr),
    /// Open from the start.
    Handed(TcpListener),
}

impl Place {
    pub(crate) fn choose(listen: Option<SocketAddr>, handed: Handed) -> Result<Self> {
        match (listen, handed.https) {
            (Some(address), None) => Ok(Self::Address(address)),
            (None, Some(listener)) => Ok(Self::Handed(TcpListener::from_std(listener)?)),
            (None, None) => bail!(
                "nothing says where clients come; set listen = in the configuration, or start citykeep-keyd.socket"
            ),
            (Some(address), Some(_)) => bail!(
                "both the configuration (listen = {address}) and systemd's socket say where clients come; remove listen =, or stop citykeep-keyd.socket"
            ),
        }
    }

    /// While keyd waits for people, clients are turned away at once, as they would be without a listener. Waiting in a
    /// queue for a ceremony would look like a fault of the network.
    pub(crate) async fn turn_away(&self) -> std::convert::Infallible {
        let Self::Handed(listener) = self else { return std::future::pending().await };
        sleep(QUEUED_FOR).await;
        loop {
            if listener.accept().await.is_err() {
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    pub(crate) async fn listener(self) -> Result<TcpListener> {
        match self {
            Self::Handed(listener) => Ok(listener),
            Self::Address(address) => TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on {address}; choose another address or port")),
        }
    }
}
