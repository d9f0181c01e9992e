//! The module's sockets from outside, as a keyd that is not ours would use them.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use translog::fs::LogDir;
use translog::tree::{Frontier, leaf_hash};
use wire::cbor::{Bytes, Empty};
use wire::error::{Refusal, Refused};
use wire::frame::{
    Collect, Collected, KeydRequest, KeydResponse, ModuleStatus, OfficerRequest, OfficerResponse, Records,
    Replay, ReplayEnd, read, write,
};

/// One connection to keyd's socket.
#[derive(Debug)]
pub struct KeydSocket(UnixStream);

impl KeydSocket {
    /// Connects.
    pub fn connect(path: &Path) -> Self {
        Self(UnixStream::connect(path).unwrap())
    }

    /// One question; `None` if the module is gone.
    pub fn try_ask(&mut self, request: &KeydRequest) -> Option<KeydResponse> {
        write(&mut self.0, request).ok()?;
        read(&mut self.0).ok()
    }

    /// One question.
    pub fn ask(&mut self, request: &KeydRequest) -> Result<KeydResponse, Refused> {
        match self.try_ask(request).expect("the module answers") {
            KeydResponse::Refused(refused) => Err(refused),
            other => Ok(other),
        }
    }
}

/// The module's state.
pub fn status(path: &Path) -> ModuleStatus {
    let Ok(KeydResponse::Status(status)) = KeydSocket::connect(path).ask(&KeydRequest::Status(Empty {}))
    else {
        panic!("no status")
    };
    status
}

/// One question on the officers' socket.
pub fn officers(path: &Path, request: &OfficerRequest) -> OfficerResponse {
    let mut stream = UnixStream::connect(path).unwrap();
    write(&mut stream, request).unwrap();
    read(&mut stream).unwrap()
}

/// What a keyd keeps.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Log entries.
    pub entries: Vec<Vec<u8>>,
    /// Sealed records.
    pub records: BTreeMap<String, Vec<u8>>,
    /// Newest head.
    pub checkpoint: String,
}

impl Disk {
    /// Size and root.
    pub fn head(&self) -> (u64, [u8; 32]) {
        let mut frontier = Frontier::new();
        self.entries.iter().for_each(|entry| frontier.push(leaf_hash(entry)));
        (frontier.size(), if self.entries.is_empty() { [0; 32] } else { frontier.root() })
    }

    /// Takes what the module handed out.
    pub fn take(&mut self, collected: Collected) {
        if collected.entries.is_empty() {
            return;
        }
        assert_eq!(collected.first, self.entries.len() as u64);
        self.records.extend(collected.records.into_iter().map(|record| (record.id, record.bytes.0)));
        self.entries.extend(collected.entries.into_iter().map(|entry| entry.0));
        self.checkpoint = collected.checkpoint;
    }

    /// Plays the recovery with what is here.
    pub fn replay(&self, path: &Path) -> Result<(), Refusal> {
        let mut socket = KeydSocket::connect(path);
        let mut ask = |request| socket.ask(&request).map(|_| ()).map_err(|refused| refused.code);
        for (at, chunk) in self.entries.chunks(64).enumerate() {
            let entries = chunk.iter().map(|entry| Bytes(entry.clone())).collect();
            ask(KeydRequest::Replay(Replay { first: at as u64 * 64, entries }))?;
        }
        let records = self.records.values().map(|record| Bytes(record.clone())).collect();
        ask(KeydRequest::Records(Records { records }))?;
        ask(KeydRequest::ReplayEnd(ReplayEnd { checkpoint: self.checkpoint.clone() }))
    }
}

/// A keyd that collects, and replays when the module waits for it.
#[derive(Debug)]
pub struct Collector {
    disk: Arc<Mutex<Disk>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Starts with what is on disk. Entries that continue the log under `state` are published there, where the officers
    /// look for it.
    pub fn start(path: &Path, disk: Disk, state: &Path) -> Self {
        let (disk, stop) = (Arc::new(Mutex::new(disk)), Arc::new(AtomicBool::new(false)));
        let (shared, stopped, path) = (Arc::clone(&disk), Arc::clone(&stop), path.to_owned());
        let mut log = LogDir::open(&state.join("log"), &state.join("wal")).unwrap();
        let thread = std::thread::spawn(move || {
            let mut socket = KeydSocket::connect(&path);
            while !stopped.load(Ordering::SeqCst) {
                let (durable, root) = shared.lock().unwrap().head();
                match socket.try_ask(&KeydRequest::Collect(Collect { durable, root })) {
                    Some(KeydResponse::Collected(collected)) => {
                        let entries: Vec<Vec<u8>> =
                            collected.entries.iter().map(|entry| entry.0.clone()).collect();
                        if !entries.is_empty() && log.size() == collected.first {
                            log.append(&entries, &collected.checkpoint).unwrap();
                            log.publish().unwrap();
                        }
                        shared.lock().unwrap().take(collected);
                    }
                    _ => break,
                }
                if status(&path).replayed == Some(0) {
                    let _ = shared.lock().unwrap().replay(&path);
                }
            }
        });
        Self { disk, stop, thread: Some(thread) }
    }

    /// Stops, and gives what it has.
    pub fn stop(mut self) -> Disk {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.disk.lock().unwrap().clone()
    }
}

/// Whether an officers' answer is this refusal.
pub fn is_refused(response: &OfficerResponse, code: Refusal) -> bool {
    matches!(response, OfficerResponse::Refused(refused) if refused.code == code)
}
