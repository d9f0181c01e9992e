use std::os::unix::net::UnixListener;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use translog::fs::{LogError, Publication};
use wire::cbor::Bytes;
use wire::frame::{StoredRecord, read, write};

use super::*;
use crate::module::Module;
use crate::store::{Record, StoreError};

/// What happened, in order, over log, store and socket.
type Trace = Arc<Mutex<Vec<String>>>;

struct TestLog {
    size: u64,
    trace: Trace,
    fails: bool,
}

impl DurableLog for TestLog {
    fn size(&self) -> u64 {
        self.size
    }

    fn root(&self) -> [u8; 32] {
        [u8::try_from(self.size).unwrap(); 32]
    }

    fn last_checkpoint(&self) -> Option<String> {
        None
    }

    fn append(&mut self, entries: &[Vec<u8>], _: &str) -> Result<(), LogFailure> {
        if self.fails {
            return Err(LogFailure("no space".to_owned()));
        }
        self.size += entries.len() as u64;
        self.trace.lock().unwrap().push(format!("append {}", entries.len()));
        Ok(())
    }

    fn entries(&self, _: std::ops::Range<u64>) -> Result<Vec<Vec<u8>>, LogFailure> {
        Ok(Vec::new())
    }

    fn proof(&self, _: u64) -> Result<String, LogFailure> {
        Ok(String::new())
    }

    fn consistency(&self, _: u64, _: u64) -> Result<Vec<[u8; 32]>, LogFailure> {
        Ok(Vec::new())
    }

    fn cosigned(&mut self, _: &str) -> Result<(), LogFailure> {
        Ok(())
    }

    fn prepare_cosigned(&self) -> Result<Option<Publication>, LogFailure> {
        Ok(None)
    }

    fn prepare(&self) -> Result<Option<Publication>, LogFailure> {
        Ok(None)
    }

    fn published(&mut self, _: Publication, _: Result<(), LogError>) -> Result<(), LogFailure> {
        Ok(())
    }

    fn write_vkey(&mut self, _: &str) -> Result<(), LogFailure> {
        Ok(())
    }
}

struct TestStore {
    trace: Trace,
    fails: bool,
}

impl Store for TestStore {
    fn put(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if self.fails {
            return Err(StoreError::Poisoned);
        }
        self.trace.lock().unwrap().push(format!("store {}", records.len()));
        Ok(())
    }

    fn all(&self) -> Result<Vec<Record>, StoreError> {
        Ok(Vec::new())
    }
}

/// The module's side of the collector: hands out `groups`, then nothing.
struct Bench {
    trace: Trace,
    fatal: Fatal,
    committer: Committer,
    ledger: Ledger,
    _dir: tempfile::TempDir,
}

fn bench(groups: Vec<Collected>, log_fails: bool, store_fails: bool) -> Bench {
    let (trace, dir) = (Trace::default(), tempfile::tempdir().unwrap());
    let socket = dir.path().join("hsm.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (served, acknowledged) = (Arc::clone(&trace), Arc::new(AtomicU64::new(0)));
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut groups = groups.into_iter();
        while let Ok(KeydRequest::Collect(ack)) = read(&mut stream) {
            if acknowledged.swap(ack.durable, Ordering::SeqCst) != ack.durable {
                served.lock().unwrap().push(format!("acknowledge {}", ack.durable));
            }
            let group = groups.next().unwrap_or_else(|| {
                std::thread::sleep(Duration::from_millis(20));
                Collected { first: ack.durable, ..Collected::default() }
            });
            let _ = write(&mut stream, &KeydResponse::Collected(group));
        }
    });
    let fatal = Fatal::default();
    let link = Module::new(&socket).connect_blocking().unwrap();
    let log = TestLog { size: 0, trace: Arc::clone(&trace), fails: log_fails };
    let store = TestStore { trace: Arc::clone(&trace), fails: store_fails };
    let (committer, ledger) = Committer::start(link, Box::new(log), Box::new(store), &fatal).unwrap();
    Bench { trace, fatal, committer, ledger, _dir: dir }
}

fn group(first: u64, count: u64, records: usize) -> Collected {
    let record = |number| StoredRecord { id: format!("key@{number:02}"), bytes: Bytes(vec![1]) };
    Collected {
        first,
        entries: (0..count).map(|_| Bytes(vec![2])).collect(),
        records: (0..records).map(record).collect(),
        checkpoint: "head".to_owned(),
        root: [u8::try_from(first + count).unwrap(); 32],
    }
}

async fn fatal_sentence(bench: Bench) -> String {
    let sentence = tokio::time::timeout(Duration::from_secs(5), bench.fatal.raised()).await.unwrap();
    assert_eq!(bench.ledger.wait(0).await.unwrap_err(), Stopped, "no permit after a failure");
    bench.committer.finish();
    sentence
}

#[tokio::test(flavor = "multi_thread")]
async fn store_then_log_then_acknowledgement_then_permit() {
    let bench = bench(vec![group(0, 2, 1), group(2, 1, 0)], false, false);
    let permit = bench.ledger.wait(2).await.unwrap();
    assert_eq!(permit.index(), 2);
    assert_eq!(bench.ledger.wait(0).await.unwrap().index(), 0);
    let later = tokio::time::timeout(Duration::from_millis(100), bench.ledger.wait(3)).await;
    assert!(later.is_err(), "no permit for an entry that does not exist");
    bench.committer.finish();
    let trace = bench.trace.lock().unwrap().clone();
    assert_eq!(trace, ["store 1", "append 2", "acknowledge 2", "append 1", "acknowledge 3"]);
    assert_eq!(bench.fatal.sentence(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_log_write_is_final() {
    let bench = bench(vec![group(0, 1, 1), group(0, 1, 0)], true, false);
    let trace = Arc::clone(&bench.trace);
    let sentence = fatal_sentence(bench).await;
    assert!(sentence.contains("never tried again: no space"), "{sentence}");
    assert_eq!(*trace.lock().unwrap(), ["store 1"], "nothing after it, no acknowledgement");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_store_write_is_final_and_nothing_is_logged() {
    let bench = bench(vec![group(0, 1, 1)], false, true);
    let trace = Arc::clone(&bench.trace);
    let sentence = fatal_sentence(bench).await;
    assert!(sentence.contains("never tried again"), "{sentence}");
    assert!(trace.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_do_not_follow_are_not_taken() {
    let bench = bench(vec![group(5, 1, 0)], false, false);
    let trace = Arc::clone(&bench.trace);
    assert!(fatal_sentence(bench).await.contains("next entry is 5"));
    assert!(trace.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_not_the_logs_is_not_acknowledged() {
    let forged = Collected { root: [0xee; 32], ..group(0, 1, 0) };
    let bench = bench(vec![forged], false, false);
    let trace = Arc::clone(&bench.trace);
    assert!(fatal_sentence(bench).await.contains("not the root"));
    assert_eq!(*trace.lock().unwrap(), ["append 1"]);
}
