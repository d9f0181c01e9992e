//! The commit path: takes entries from the module, makes them durable, tells the module and everybody who waits.
//!
//! A thread of its own: it sits in fsync most of the time. Order is the whole point. Sealed records are stored first,
//! then the log group is durable, then the next `Collect` acknowledges, then waiting answers go out. While one group is
//! synced the module gathers the next, so the disk sets the pace and nobody waits for a timer.

mod permit;
mod publish;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;
use wire::error::Refusal;
use wire::frame::{Collect, Collected, KeydRequest, KeydResponse};

pub use self::permit::Permit;
use crate::fatal::Fatal;
use crate::log::{DurableLog, LogFailure};
use crate::module::{BlockingLink, GONE, ModuleError, unexpected};
use crate::store::Store;

/// The log, shared between the commit thread, publication, and proofs.
type SharedLog = Arc<Mutex<Box<dyn DurableLog>>>;

/// The commit path has stopped: nothing can be answered any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the log takes nothing any more")]
#[allow(clippy::exhaustive_structs)]
pub struct Stopped;

/// What tasks see of the commit path.
#[derive(Clone)]
pub struct Ledger {
    log: SharedLog,
    durable: watch::Receiver<u64>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("durable", &*self.durable.borrow()).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Waits until the entry `ticket` is durable.
    pub async fn wait(&self, ticket: u64) -> Result<Permit, Stopped> {
        let mut durable = self.durable.clone();
        match durable.wait_for(|size| *size > ticket).await {
            Ok(_) => Ok(Permit::granted(ticket)),
            Err(_) => Err(Stopped),
        }
    }

    /// How many entries are durable.
    pub fn durable(&self) -> u64 {
        *self.durable.borrow()
    }

    /// Reads from the log, away from the tasks that serve.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn DurableLog) -> Result<T, LogFailure> + Send + 'static,
    ) -> Result<T, LogFailure> {
        let log = Arc::clone(&self.log);
        let reading = tokio::task::spawn_blocking(move || read(lock(&log).as_ref()));
        reading.await.map_err(|error| LogFailure(error.to_string()))?
    }

    /// Waits until the log is longer than this.
    pub(crate) async fn changed(&self, size: u64) -> Result<(), Stopped> {
        let mut durable = self.durable.clone();
        durable.wait_for(|durable| *durable > size).await.map(drop).map_err(|_| Stopped)
    }

    /// Gives the log a head with its witnesses' lines, to be published.
    pub(crate) async fn cosigned(&self, note: String) -> Result<(), LogFailure> {
        let log = Arc::clone(&self.log);
        let taking = tokio::task::spawn_blocking(move || lock(&log).cosigned(&note));
        taking.await.map_err(|error| LogFailure(error.to_string()))?
    }

    /// Publishes the verifier key.
    pub fn write_vkey(&self, vkey: &str) -> Result<(), LogFailure> {
        lock(&self.log).write_vkey(vkey)
    }
}

fn lock(log: &SharedLog) -> MutexGuard<'_, Box<dyn DurableLog>> {
    // A thread that panicked inside an append has left the log poisoned by its own rule.
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running threads.
#[derive(Debug)]
pub struct Committer {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Committer {
    /// Starts committing over this connection, and publishing.
    pub fn start(
        link: BlockingLink,
        log: Box<dyn DurableLog>,
        store: Box<dyn Store>,
        fatal: &Fatal,
    ) -> std::io::Result<(Self, Ledger)> {
        let (sender, durable) = watch::channel(log.size());
        let log: SharedLog = Arc::new(Mutex::new(log));
        let stop = Arc::new(AtomicBool::new(false));
        let mut collector =
            Collector { link, log: Arc::clone(&log), store, durable: sender, stop: Arc::clone(&stop) };
        let ledger = Ledger { log: Arc::clone(&log), durable: durable.clone() };
        let raise = fatal.clone();
        let commit = std::thread::Builder::new().name("commit".to_owned()).spawn(move || {
            if let Err(sentence) = collector.run() {
                raise.raise(sentence);
            }
        })?;
        let raise = fatal.clone();
        let publish = std::thread::Builder::new().name("publish".to_owned()).spawn(move || {
            if let Err(failure) = publish::run(&log, &durable) {
                raise.raise(disk_sentence(&failure));
            }
        })?;
        let threads = vec![commit, publish];
        Ok((Self { stop, threads }, ledger))
    }

    /// Lets both threads finish what they have, and waits for them.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

struct Collector {
    link: BlockingLink,
    log: SharedLog,
    store: Box<dyn Store>,
    durable: watch::Sender<u64>,
    stop: Arc<AtomicBool>,
}

impl Collector {
    /// Runs until it is told to stop and the module has nothing more, or until something fails for good.
    fn run(&mut self) -> Result<(), String> {
        loop {
            let stopping = self.stop.load(Ordering::Acquire);
            let collected = self.exchange().map_err(|error| lost(&error))?;
            if !collected.entries.is_empty() {
                self.commit(collected)?;
            } else if stopping {
                return Ok(());
            }
        }
    }

    /// Acknowledges what is durable and takes what is new. Those who wait are told as soon as the acknowledgement is
    /// on its way, so that the module has it before their next question.
    fn exchange(&mut self) -> Result<Collected, ModuleError> {
        let (durable, root) = {
            let log = lock(&self.log);
            (log.size(), if log.size() == 0 { [0; 32] } else { log.root() })
        };
        self.link.send(&KeydRequest::Collect(Collect { durable, root }))?;
        self.durable.send_if_modified(|size| std::mem::replace(size, durable) != durable);
        match self.link.receive()? {
            KeydResponse::Collected(collected) => Ok(collected),
            _ => Err(unexpected()),
        }
    }

    fn commit(&mut self, collected: Collected) -> Result<(), String> {
        if collected.first != self.log_size() {
            return Err(format!(
                "the module's next entry is {}, keyd's log ends at {}; restart the module and keyd, then unseal",
                collected.first,
                self.log_size()
            ));
        }
        let records: Vec<_> =
            collected.records.into_iter().map(|record| (record.id, record.bytes.0)).collect();
        if !records.is_empty() {
            self.store.put(&records).map_err(|failure| disk_sentence(&failure))?;
        }
        let entries: Vec<Vec<u8>> = collected.entries.into_iter().map(|entry| entry.0).collect();
        let mut log = lock(&self.log);
        log.append(&entries, &collected.checkpoint).map_err(|failure| disk_sentence(&failure))?;
        if log.root() == collected.root {
            Ok(())
        } else {
            Err("the module's head is not the root of keyd's log; restart the module and keyd, then unseal"
                .to_owned())
        }
    }

    fn log_size(&self) -> u64 {
        lock(&self.log).size()
    }
}

/// The sentence with which keyd ends when the module no longer takes its log.
fn lost(error: &ModuleError) -> String {
    match error {
        ModuleError::Gone(why) => format!("{GONE} ({why})"),
        ModuleError::Refused(refused) if matches!(refused.code, Refusal::WrongState | Refusal::Fault) => {
            format!(
                "the module serves no more: {refused}. It was wiped or failed a self-test; restart it, unseal, start keyd / 模块已停止服务"
            )
        }
        ModuleError::Refused(refused) => format!(
            "the module does not accept keyd's log: {refused}. Put the newest log and store in place, or ask the officers for a floor at this log / 模块不接受此日志"
        ),
    }
}

fn disk_sentence(failure: &dyn std::fmt::Display) -> String {
    format!(
        "a write to the state directory failed and is never tried again: {failure}. Check the disk, then start keyd / 写盘失败,不再重试:请检查磁盘后再启动 keyd"
    )
}

#[cfg(test)]
mod tests;
