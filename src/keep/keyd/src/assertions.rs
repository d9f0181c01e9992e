//! What only keyd sees, told to the module for the log: refusals, connections, start and stop.
//!
//! Noted at once, before the refused peer hears of it, so that hanging up changes nothing; folded per code, client and
//! key with exact counts, so that a flood costs one line a second and bounded memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use wire::frame::{Assertion, Assertions, Category, KeydRequest, KeydResponse};

use crate::client_id::ClientId;
use crate::module::{Control, ModuleError, unexpected};
use crate::tls::KeyPrefix;

/// Assertions in one frame at most.
const FRAME_ITEMS: usize = 256;
/// Different rows kept at most; above it a refusal keeps its code and count but loses who it was.
const ROWS_MAX: usize = 4096;
const FLUSH_EVERY: Duration = Duration::from_millis(900);

/// Who a row is about.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Who {
    /// The client, if one is proven.
    pub client: Option<ClientId>,
    /// The key that it showed, if it did.
    pub certificate: Option<KeyPrefix>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Row {
    category: Category,
    code: &'static str,
    who: Who,
}

/// Proof that a refusal is noted. A problem can't be sent without it.
#[derive(Debug)]
#[must_use]
pub struct Recorded(());

/// Takes notes.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Notes>);

#[derive(Debug, Default)]
struct Notes {
    rows: Mutex<HashMap<Row, u64>>,
    full: Notify,
    totals: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Recorder {
    /// Notes a refusal.
    pub fn deny(&self, code: &'static str, who: Who) -> Recorded {
        tracing::debug!(code, client = who.client.as_ref().map_or("-", ClientId::as_str), "refused");
        self.note(Category::Deny, code, who);
        Recorded(())
    }

    /// Notes a connection.
    pub fn access(&self, code: &'static str, who: Who) {
        self.note(Category::Access, code, who);
    }

    /// Notes something about keyd itself.
    pub fn operation(&self, code: &'static str) {
        self.operation_about(code, Who::default());
    }

    /// Notes something about keyd's work that concerns one client.
    pub fn operation_about(&self, code: &'static str, who: Who) {
        self.note(Category::Operation, code, who);
    }

    /// How much waits to be handed over.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> u64 {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Notes since the start, by category and code.
    pub(crate) fn totals(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.0.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, category: Category, code: &'static str, who: Who) {
        let mut totals = self.0.totals.lock().unwrap_or_else(PoisonError::into_inner);
        *totals.entry((category.as_str(), code)).or_default() += 1;
        drop(totals);
        self.add(category, code, who, 1);
    }

    fn add(&self, category: Category, code: &'static str, who: Who, count: u64) {
        let mut rows = self.0.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut row = Row { category, code, who };
        if rows.len() >= ROWS_MAX && !rows.contains_key(&row) {
            row.who = Who::default();
        }
        *rows.entry(row).or_default() += count;
        if rows.len() >= FRAME_ITEMS {
            self.0.full.notify_one();
        }
    }

    fn take(&self) -> Vec<(Row, u64)> {
        let mut rows = self.0.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.drain().collect()
    }

    /// Hands everything to the module; the index of the last entry, if there was anything. What the module does not
    /// take stays noted; a caller that drops this before its end loses what it had in hand.
    pub async fn flush(&self, control: &Control) -> Result<Option<u64>, ModuleError> {
        let mut rows = self.take().into_iter().peekable();
        let mut last = None;
        while rows.peek().is_some() {
            let part: Vec<(Row, u64)> = rows.by_ref().take(FRAME_ITEMS).collect();
            let items = part.iter().map(assertion).collect();
            match control.ask(KeydRequest::Assert(Assertions { items })).await {
                Ok(KeydResponse::Ticket(ticket)) => last = Some(ticket.ticket),
                other => {
                    for (row, count) in part.into_iter().chain(rows) {
                        self.add(row.category, row.code, row.who, count);
                    }
                    return Err(other.err().unwrap_or_else(unexpected));
                }
            }
        }
        Ok(last)
    }

    /// Flushes every second, earlier if a frame is full. Told to stop, it ends between two flushes; what is noted then
    /// is for the caller's own flush.
    pub async fn run(self, control: Control, mut stop: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                _ = tokio::time::timeout(FLUSH_EVERY, self.0.full.notified()) => {}
                _ = &mut stop => return,
            }
            match self.flush(&control).await {
                Ok(_) => {}
                Err(ModuleError::Refused(refused)) => {
                    tracing::warn!(code = %refused.code, "the module takes no assertions now; they wait");
                    tokio::select! {
                        () = tokio::time::sleep(FLUSH_EVERY) => {}
                        _ = &mut stop => return,
                    }
                }
                Err(ModuleError::Gone(_)) => return,
            }
        }
    }
}

fn assertion((row, count): &(Row, u64)) -> Assertion {
    Assertion {
        category: row.category,
        code: row.code.to_owned(),
        client: row.who.client.as_ref().map(ToString::to_string),
        certificate: row.who.certificate,
        count: *count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_with_exact_counts_in_bounded_memory() {
        let recorder = Recorder::default();
        let who = |number: u64| Who { client: None, certificate: Some(number.to_be_bytes()) };
        for number in 0..10_000 {
            for _ in 0..3 {
                let _ = recorder.deny("tls-revoked", who(number));
            }
        }
        let rows = recorder.take();
        assert_eq!(rows.len(), ROWS_MAX + 1, "one row more, without a name, for all the rest");
        assert_eq!(rows.iter().map(|(_, count)| count).sum::<u64>(), 30_000);
        let nameless = rows.iter().find(|(row, _)| row.who == Who::default()).unwrap();
        assert_eq!(nameless.1, 30_000 - 3 * ROWS_MAX as u64);
        assert!(recorder.take().is_empty());
    }
}
