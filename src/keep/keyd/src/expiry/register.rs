//! Where the ends are known, and which of them were said.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::CertificateDer;
use wire::api::CertificateBody;

use super::{DAY, Expiry, now};
use crate::assertions::Recorder;
use crate::client_id::ClientId;
use crate::tls::Tls;

/// Clients remembered at most. A city has some dozens; a CA that certifies more names than this is not warned about.
const CLIENTS_MAX: usize = 1024;

/// A client that has not come back so long after its certificate's end is one that left.
const FORGOTTEN_AFTER: u64 = 7 * DAY;

/// All ends: of the files in force, and of the newest certificate that each client has shown since keyd started.
#[derive(Clone, Debug)]
pub(crate) struct Expiries {
    tls: Arc<Tls>,
    clients: Arc<Mutex<HashMap<ClientId, Shown>>>,
}

#[derive(Debug)]
struct Shown {
    expiry: Expiry,
    /// Judged again when revocations come.
    chain: Vec<CertificateDer<'static>>,
}

impl Expiries {
    pub(crate) fn new(tls: Arc<Tls>) -> Self {
        Self { tls, clients: Arc::default() }
    }

    /// Takes note of a certificate that let a client in.
    pub(crate) fn shown(&self, client: &ClientId, chain: &[CertificateDer<'static>]) {
        let Some(expiry) = chain.first().and_then(|leaf| Expiry::of_client(leaf, client)) else {
            return;
        };
        let mut clients = self.lock();
        let is_news = match clients.get(client) {
            Some(known) => known.expiry.not_after < expiry.not_after,
            None => clients.len() < CLIENTS_MAX,
        };
        if is_news {
            clients.insert(client.clone(), Shown { expiry, chain: chain.to_vec() });
        }
    }

    /// Forgets certificates that are good for nothing any more, so that nobody is warned of their end: revoked ones, and
    /// those of clients that did not come back after it.
    pub(crate) fn forget(&self, now: u64) {
        let setup = self.tls.current();
        self.lock().retain(|client, shown| match shown.expiry.left(now) {
            0 => now.saturating_sub(shown.expiry.not_after) < FORGOTTEN_AFTER,
            _ => setup.still_admits(&shown.chain, client).is_ok(),
        });
    }

    /// Everything that ends.
    pub(crate) fn all(&self) -> Vec<Expiry> {
        let mut all = self.tls.expiries();
        all.extend(self.lock().values().map(|shown| shown.expiry.clone()));
        all
    }

    /// What one client may see: keyd's own files and its own certificate; every client's only if it `sees_all`.
    pub(crate) fn for_client(&self, client: &ClientId, sees_all: bool) -> Vec<CertificateBody> {
        let mut seen = self.tls.expiries();
        let clients = self.lock();
        let own = clients.iter().filter(|(who, _)| sees_all || *who == client);
        let mut own: Vec<Expiry> = own.map(|(_, shown)| shown.expiry.clone()).collect();
        drop(clients);
        own.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        seen.extend(own);
        let now = now();
        seen.iter().map(|expiry| expiry.body(now)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, Shown>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what is due: once for each thing and step.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    said: HashSet<(&'static str, String, u64)>,
}

impl Watch {
    pub(crate) fn note(&mut self, all: &[Expiry], now: u64, recorder: &Recorder) {
        let mut due = HashSet::new();
        for expiry in all {
            let Some(code) = expiry.warning(now) else {
                continue;
            };
            let key = (code, expiry.name.clone(), expiry.not_after);
            if !self.said.contains(&key) {
                recorder.operation_about(code, expiry.who.clone());
                tracing::warn!(
                    code,
                    name = expiry.name,
                    not_after = expiry.not_after,
                    hours_left = expiry.left(now) / 3600,
                    "renew it before its end; keyd takes new files by itself / 证书或吊销列表即将到期,请续期"
                );
            }
            due.insert(key);
        }
        // What is renewed or gone is forgotten with it.
        self.said = due;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::What;

    #[test]
    fn each_thing_is_said_once_at_each_step() {
        const NOW: u64 = 1_000_000_000;
        let ends = |what, days| Expiry::new(what, "x".into(), 0, NOW + days * DAY);
        let (recorder, mut watch) = (Recorder::default(), Watch::default());
        let all = [ends(What::ClientCrl, 14), ends(What::Client, 14), ends(What::Server, 60)];
        for hours in 0..24 * 7 {
            watch.note(&all, NOW + hours * 3600, &recorder);
        }
        assert_eq!(recorder.waiting(), 2, "thirty days");
        for hours in 24 * 7..24 * 10 {
            watch.note(&all, NOW + hours * 3600, &recorder);
        }
        assert_eq!(recorder.waiting(), 4, "seven days");
        let renewed = [ends(What::ClientCrl, 24)];
        for _ in 0..3 {
            watch.note(&renewed, NOW, &recorder);
        }
        assert_eq!(recorder.waiting(), 5, "another list, soon at its end too");
        assert_eq!(watch.said.len(), 1, "the old ones are forgotten");
    }
}
