//! The open connections: how many a client has, and which of them a new revocation list ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::client_id::ClientId;
use crate::tls::{Reason, Tls};

/// All open connections.
#[derive(Clone, Debug)]
pub struct Connections {
    table: Arc<Mutex<Table>>,
    per_client: usize,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Open>,
    clients: HashMap<ClientId, usize>,
}

#[derive(Debug)]
struct Open {
    client: ClientId,
    chain: Vec<CertificateDer<'static>>,
    end: watch::Sender<Option<Reason>>,
}

/// A place among the connections; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    connections: Connections,
    number: u64,
    end: watch::Receiver<Option<Reason>>,
}

impl Connections {
    /// No connection yet, and so many for each client.
    pub fn new(per_client: usize) -> Self {
        Self { table: Arc::default(), per_client }
    }

    /// Takes a place, if the client has one left.
    pub(crate) fn enter(&self, client: &ClientId, chain: Vec<CertificateDer<'static>>) -> Option<Seat> {
        let mut table = self.lock();
        let count = table.clients.entry(client.clone()).or_default();
        if *count >= self.per_client {
            return None;
        }
        *count += 1;
        let number = table.next;
        table.next += 1;
        let (sender, end) = watch::channel(None);
        let open = Open { client: client.clone(), chain, end: sender };
        table.open.insert(number, open);
        Some(Seat { connections: self.clone(), number, end })
    }

    /// Judges every open connection's certificate again and ends those that would not be let in now.
    pub fn judge_again(&self, tls: &Tls) -> usize {
        let (setup, mut ended) = (tls.current(), 0);
        for open in self.lock().open.values() {
            if let Err(reason) = setup.still_admits(&open.chain, &open.client) {
                open.end.send_replace(Some(reason));
                ended += 1;
            }
        }
        ended
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.lock().open.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Waits until the client is no longer welcome.
    pub async fn ended(&mut self) -> Reason {
        let reason = self.end.wait_for(Option::is_some).await.map(|reason| *reason);
        match reason {
            Ok(reason) => reason.unwrap_or(Reason::Other),
            // The sender stays in the table as long as this seat.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        if let Some(open) = table.open.remove(&self.number)
            && let Some(count) = table.clients.get_mut(&open.client)
        {
            *count -= 1;
            if *count == 0 {
                table.clients.remove(&open.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_id::TrustDomain;

    #[test]
    fn a_client_has_so_many_and_gives_them_back() {
        let domain = TrustDomain::parse("weihai.example").unwrap();
        let client =
            |name: &str| ClientId::parse(&format!("spiffe://weihai.example/a/{name}"), &domain).unwrap();
        let connections = Connections::new(2);
        let enter = |name| connections.enter(&client(name), Vec::new());
        let (first, second) = (enter("one").unwrap(), enter("one").unwrap());
        assert!(enter("one").is_none());
        let other = enter("two").unwrap();
        drop(first);
        let third = enter("one").unwrap();
        assert!(enter("one").is_none());
        drop((second, third, other));
        assert!(connections.lock().clients.is_empty() && connections.lock().open.is_empty());
    }
}
