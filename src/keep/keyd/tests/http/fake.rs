//! A stand-in for the other process: speaks `wire::frame` on a Unix socket, knows no key. A TAC of four zero bytes is
//! wrong, every other is true.

use std::collections::BTreeMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use translog::cosign::cosigned_at;
use translog::note::{Checkpoint, VerifierKey, WitnessKey, open_checkpoint, sign_checkpoint};
use translog::tree::{Frontier, leaf_hash};
use wire::batch::{Group, RECORD_LEN, Record, Verdict};
use wire::cbor::{Bytes, Cbor as _, Empty};
use wire::command::SignedCommand;
use wire::error::{Refusal, Refused};
use wire::frame::{
    Assertion, BatchOpen, BatchOpened, BatchResult, Collect, Collected, CommandDone, Cosigned, Counts,
    InstanceStatus, KeyInfo, KeydRequest, KeydResponse, Keys, MacVerdicts, ModuleState, ModuleStatus,
    StoredRecord, Ticket, read, write,
};
use wire::key::{Algorithm, FactorSource, KeyAttributes, KeyState, KeyVersion, Level, Lineage, Usage};

use crate::calls::{Calls, Gathered};

pub(crate) const ORIGIN: &str = "weihai.example/log";
/// The command with these bytes ends witnessing.
pub(crate) const END_WITNESSES: &[u8] = b"end-witnesses";
/// Connections that the module serves at once.
const CONNECTIONS: usize = 9;
/// How long a command waits for its witnesses, as in the module.
const COMMAND_WAIT: Duration = Duration::from_secs(5);

/// What a test sees and sets.
pub(crate) struct Inner {
    pub(crate) state: ModuleState,
    pub(crate) policy: [u8; 32],
    pub(crate) ca: [u8; 32],
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) durable: u64,
    /// Entries are kept back from keyd, as if its disk were slow.
    pub(crate) withhold: bool,
    /// How long it takes over assertions.
    pub(crate) slow: Duration,
    /// Records to store with the next entry.
    pub(crate) records: Vec<StoredRecord>,
    pub(crate) assertions: Vec<Assertion>,
    pub(crate) frames: Vec<usize>,
    /// What recovery brought.
    pub(crate) replayed: Vec<Vec<u8>>,
    pub(crate) restored: Vec<Vec<u8>>,
    pub(crate) floor: bool,
    pub(crate) singles: Vec<usize>,
    pub(crate) calls: Calls,
    /// Witnesses that officers enrolled, two of which are the quorum; empty where there are none.
    pub(crate) enrolled: Vec<WitnessKey>,
    /// Size of the newest head that the quorum cosigned.
    pub(crate) witnessed: u64,
    /// The witnesses are gone as soon as a command is carried out: heads of more entries are not taken as cosigned.
    pub(crate) forsaken: bool,
    taken_below: u64,
    /// Commands that were begun, by their bytes: the intent's index, and whether they were carried out.
    commands: BTreeMap<Vec<u8>, (u64, bool)>,
    batches: u8,
    results: BTreeMap<u64, BatchResult>,
    connections: Vec<UnixStream>,
}

#[derive(Clone)]
pub(crate) struct Fake(Arc<(Mutex<Inner>, Condvar)>);

/// One connection's batch.
struct Batch {
    id: [u8; 16],
    open: BatchOpen,
    groups: Vec<Group>,
    counts: Counts,
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(crate) fn vkey() -> VerifierKey {
    VerifierKey::new(ORIGIN, key().verifying_key().to_bytes())
}

impl Fake {
    pub(crate) fn start(socket: &Path, policy: [u8; 32], ca: [u8; 32]) -> Self {
        let inner = Inner {
            state: ModuleState::Operational,
            policy,
            ca,
            entries: Vec::new(),
            durable: 0,
            withhold: false,
            slow: Duration::ZERO,
            records: Vec::new(),
            assertions: Vec::new(),
            frames: Vec::new(),
            replayed: Vec::new(),
            restored: Vec::new(),
            floor: false,
            singles: Vec::new(),
            calls: Calls::default(),
            enrolled: Vec::new(),
            witnessed: 0,
            forsaken: false,
            taken_below: u64::MAX,
            commands: BTreeMap::new(),
            batches: 0,
            results: BTreeMap::new(),
            connections: Vec::new(),
        };
        let fake = Self(Arc::new((Mutex::new(inner), Condvar::new())));
        let listener = Arc::new(UnixListener::bind(socket).unwrap());
        for _ in 0..CONNECTIONS {
            let (listener, fake) = (Arc::clone(&listener), fake.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let stream = stream.unwrap();
                    fake.lock().connections.push(stream.try_clone().unwrap());
                    fake.serve(stream);
                }
            });
        }
        fake
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.0.lock().unwrap()
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let value = change(&mut self.lock());
        self.0.1.notify_all();
        value
    }

    /// The process dies.
    pub(crate) fn die(&self) {
        for stream in &self.lock().connections {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Waits until `holds`, and fails the test if it does not come.
    pub(crate) fn wait(&self, what: &str, holds: impl Fn(&Inner) -> bool) {
        let until = Instant::now() + Duration::from_secs(8);
        while !holds(&self.lock()) {
            assert!(Instant::now() < until, "{what}; assertions: {:?}", self.lock().assertions);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How often a code was asserted, by anybody.
    pub(crate) fn noted(&self, code: &str) -> u64 {
        let inner = self.lock();
        let rows = inner.assertions.iter().filter(|assertion| assertion.code == code);
        rows.map(|assertion| assertion.count).sum()
    }

    pub(crate) fn wait_noted(&self, code: &str, count: u64) {
        let sum = |inner: &Inner| -> u64 {
            let rows = inner.assertions.iter().filter(|assertion| assertion.code == code);
            rows.map(|assertion| assertion.count).sum()
        };
        self.wait(&format!("{code} x {count}"), |inner| sum(inner) >= count);
        assert_eq!(self.noted(code), count, "{code}");
    }

    fn serve(&self, mut stream: UnixStream) {
        let (mut batch, mut gathered) = (None, Gathered::default());
        while let Ok(request) = read::<KeydRequest>(&mut stream) {
            let answer = self.answer(&mut batch, &mut gathered, request);
            let response = answer.unwrap_or_else(KeydResponse::Refused);
            if write(&mut stream, &response).is_err() {
                break;
            }
        }
        if batch.is_some() {
            self.change(|inner| inner.entry("batch cut off"));
        }
    }

    fn answer(
        &self,
        batch: &mut Option<Batch>,
        gathered: &mut Gathered,
        request: KeydRequest,
    ) -> Result<KeydResponse, Refused> {
        Ok(match request {
            KeydRequest::Status(_) => KeydResponse::Status(self.lock().status()),
            KeydRequest::Collect(ack) => KeydResponse::Collected(self.collect(ack)?),
            KeydRequest::Assert(assertions) => {
                let slow = self.lock().slow;
                std::thread::sleep(slow);
                KeydResponse::Ticket(self.change(|inner| {
                    inner.assertions.extend(assertions.items);
                    inner.entry("asserted")
                }))
            }
            KeydRequest::Keys(_) => KeydResponse::Keys(keys()),
            KeydRequest::BatchOpen(open) => {
                let id = self.change(|inner| {
                    inner.batches += 1;
                    [inner.batches; 16]
                });
                *batch = Some(Batch { id, open, groups: Vec::new(), counts: Counts::default() });
                KeydResponse::BatchOpened(BatchOpened { batch: id })
            }
            KeydRequest::BatchGroups(more) => {
                let batch = batch.as_mut().ok_or_else(no_batch)?;
                batch.groups.extend(more.groups);
                KeydResponse::Done(Empty {})
            }
            KeydRequest::BatchRecords(bytes) => {
                let batch = batch.as_mut().ok_or_else(no_batch)?;
                let (records, rest) = bytes.as_chunks::<RECORD_LEN>();
                assert!(rest.is_empty() && (1..=8192).contains(&records.len()));
                self.change(|inner| inner.frames.push(records.len()));
                let verdicts: Vec<Verdict> = records.iter().map(|bytes| batch.verdict(bytes)).collect();
                verdicts.iter().for_each(|verdict| batch.counts.add(*verdict));
                KeydResponse::Verdicts(Bytes(verdicts.into_iter().map(Verdict::byte).collect()))
            }
            KeydRequest::BatchClose(_) => {
                let batch = batch.take().ok_or_else(no_batch)?;
                KeydResponse::Ticket(self.change(|inner| inner.close(batch)))
            }
            KeydRequest::Release(ticket) => {
                let mut inner = self.lock();
                assert!(ticket.ticket < inner.durable, "keyd asks for a result before its entry is durable");
                let result = inner.results.remove(&ticket.ticket);
                KeydResponse::Released(
                    result.ok_or_else(|| Refused::new(Refusal::UnknownTicket, "no result"))?,
                )
            }
            KeydRequest::MacVerify(items) => {
                let verdicts = items.items.iter().map(|item| {
                    Record::parse(&item.record, item.profile)
                        .map_or(Verdict::Malformed, |record| judge(&record))
                        .byte()
                });
                let verdicts = Bytes(verdicts.collect());
                let ticket = self.change(|inner| {
                    inner.singles.push(items.items.len());
                    inner.entry("singles").ticket
                });
                KeydResponse::MacVerdicts(MacVerdicts { verdicts, ticket })
            }
            KeydRequest::Cosigned(cosigned) => self.change(|inner| inner.cosigned(&cosigned))?,
            KeydRequest::Replay(replay) => self.change(|inner| {
                assert_eq!(replay.first, inner.replayed.len() as u64);
                inner.replayed.extend(replay.entries.into_iter().map(|entry| entry.0));
                KeydResponse::Done(Empty {})
            }),
            KeydRequest::Records(records) => self.change(|inner| {
                inner.restored.extend(records.records.into_iter().map(|record| record.0));
                KeydResponse::Done(Empty {})
            }),
            KeydRequest::ReplayEnd(_) => self.change(Inner::replay_end)?,
            KeydRequest::Command(bytes) => KeydResponse::CommandDone(self.command(&bytes)?),
            call => self.call(gathered, call)?,
        })
    }

    /// As the module does: each command once, and where there are witnesses they see its intent before anything is done.
    fn command(&self, bytes: &[u8]) -> Result<CommandDone, Refused> {
        let ends_witnessing = SignedCommand::from_cbor(bytes).unwrap().command.0 == END_WITNESSES;
        let (intent, used) = self.change(|inner| {
            let known = inner.commands.get(bytes).copied();
            known.unwrap_or_else(|| {
                let begun = (inner.entry("intent").ticket, false);
                inner.commands.insert(bytes.to_vec(), begun);
                begun
            })
        });
        if used {
            return Err(Refused::new(Refusal::CommandUsed, "this command was carried out before"));
        }
        let until = Instant::now() + COMMAND_WAIT;
        while !ends_witnessing && self.lock().is_unseen(intent) {
            if Instant::now() >= until {
                return Err(Refused::new(Refusal::Unwitnessed, "nothing is done yet"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let index = self.change(|inner| {
            let index = inner.entry("command").ticket;
            inner.commands.insert(bytes.to_vec(), (intent, true));
            if inner.forsaken {
                inner.taken_below = index;
            }
            if ends_witnessing {
                inner.enrolled.clear();
            }
            index
        });
        Ok(CommandDone { index: Some(index), kcv: Some([1, 2, 3]), components: None })
    }

    fn collect(&self, ack: Collect) -> Result<Collected, Refused> {
        let (mut inner, until) = (self.lock(), Instant::now() + Duration::from_millis(500));
        if inner.state == ModuleState::Operational {
            let known = ack.durable <= inner.entries.len() as u64;
            if !known || (ack.durable > 0 && inner.frontier(ack.durable).root() != ack.root) {
                return Err(Refused::new(Refusal::AckForged, "another log"));
            }
            inner.durable = ack.durable;
        }
        loop {
            let ready = inner.state == ModuleState::Operational && !inner.withhold;
            if ready && inner.entries.len() as u64 > ack.durable {
                return Ok(inner.collected(ack.durable));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Collected { first: ack.durable, ..Collected::default() });
            }
            inner = self.0.1.wait_timeout(inner, left).unwrap().0;
        }
    }
}

impl Batch {
    fn verdict(&self, bytes: &[u8; RECORD_LEN]) -> Verdict {
        match Record::parse(bytes, self.open.profile) {
            None => Verdict::Malformed,
            Some(record) if usize::from(record.group) < self.groups.len() => judge(&record),
            Some(_) => Verdict::UnknownKey,
        }
    }
}

fn judge(record: &Record) -> Verdict {
    if record.tac == [0; 4] { Verdict::BadTac } else { Verdict::Ok }
}

fn no_batch() -> Refused {
    Refused::new(Refusal::BatchOrder, "no batch")
}

impl Inner {
    pub(crate) fn entry(&mut self, text: &str) -> Ticket {
        let ticket = self.entries.len() as u64;
        self.entries.push(format!("entry {ticket}: {text}").into_bytes());
        Ticket { ticket }
    }

    fn frontier(&self, size: u64) -> Frontier {
        let mut frontier = Frontier::new();
        let entries = self.entries.iter().take(usize::try_from(size).unwrap());
        entries.for_each(|entry| frontier.push(leaf_hash(entry)));
        frontier
    }

    fn collected(&mut self, first: u64) -> Collected {
        let frontier = self.frontier(self.entries.len() as u64);
        let checkpoint =
            Checkpoint { origin: ORIGIN.to_owned(), size: frontier.size(), root: frontier.root() };
        let new = self.entries.iter().skip(usize::try_from(first).unwrap());
        Collected {
            first,
            entries: new.map(|entry| Bytes(entry.clone())).collect(),
            records: std::mem::take(&mut self.records),
            root: checkpoint.root,
            checkpoint: sign_checkpoint(&checkpoint, &key()),
        }
    }

    fn close(&mut self, batch: Batch) -> Ticket {
        let ticket = self.entry("batch");
        let result = BatchResult {
            batch: batch.id,
            client: batch.open.client,
            profile: batch.open.profile,
            lineage: batch.open.lineage,
            records: batch.counts.total(),
            root: [1; 32],
            counts: batch.counts,
            versions: Vec::new(),
            indices: vec![ticket.ticket],
        };
        self.results.insert(ticket.ticket, result);
        ticket
    }

    /// As the module does: a head that it handed out, lines of two of those who are enrolled.
    fn cosigned(&mut self, cosigned: &Cosigned) -> Result<KeydResponse, Refused> {
        let no = |why| Refused::new(Refusal::AckForged, why);
        let head = open_checkpoint(&cosigned.note, &vkey()).map_err(|_| no("no head of this log"))?;
        let is_ours = (head.size, head.root) == (cosigned.size, self.frontier(cosigned.size).root());
        let lines = self.enrolled.iter().filter_map(|key| cosigned_at(&cosigned.note, key).ok().flatten());
        if !is_ours || lines.count() < 2 || cosigned.size > self.taken_below {
            return Err(no("no quorum"));
        }
        self.witnessed = self.witnessed.max(cosigned.size);
        Ok(KeydResponse::Done(Empty {}))
    }

    fn is_unseen(&self, index: u64) -> bool {
        !self.enrolled.is_empty() && self.witnessed <= index
    }

    fn witness(&self) -> &'static str {
        match (self.enrolled.is_empty(), self.witnessed) {
            (true, _) => "unwitnessed",
            (false, 0) => "waiting",
            (false, _) => "witnessed",
        }
    }

    fn replay_end(&mut self) -> Result<KeydResponse, Refused> {
        if self.restored.iter().any(|record| record == b"old") {
            self.floor = false;
            self.replayed.clear();
            self.restored.clear();
            return Err(Refused::new(Refusal::RecordOld, "an old record"));
        }
        self.entries = self.replayed.clone();
        self.durable = self.entries.len() as u64;
        self.state = ModuleState::Operational;
        self.entry("boot");
        Ok(KeydResponse::Done(Empty {}))
    }

    fn status(&self) -> ModuleStatus {
        let size = self.entries.len() as u64;
        let instance = InstanceStatus {
            instance: [3; 16],
            node: [4; 16],
            origin: ORIGIN.to_owned(),
            rehearsal: true,
            size,
            root: self.frontier(size).root(),
            durable: self.durable,
            officer_epoch: 1,
            policy: self.policy,
            ca: self.ca,
            vkey: vkey().to_string(),
            witness: self.witness().to_owned(),
            epoch: 0,
            witnessed: None,
        };
        let recovering = self.state == ModuleState::Recovering && self.floor;
        ModuleStatus {
            version: 1,
            state: self.state,
            boot: [1; 16],
            module: [2; 32],
            memory: "mlock".to_owned(),
            backend: "none".to_owned(),
            identity: [2; 33],
            instance: (self.state == ModuleState::Operational).then_some(instance),
            shares: None,
            trouble: None,
            replayed: recovering.then_some(self.replayed.len() as u64),
            epoch_key: None,
        }
    }
}

fn keys() -> Keys {
    let key = |lineage, version| KeyInfo {
        attributes: KeyAttributes {
            lineage: Lineage::parse(lineage).unwrap(),
            version: KeyVersion(version),
            algorithm: Algorithm::Sm4,
            level: Level::City,
            levels: vec![FactorSource::ISSUER_ID, FactorSource::ASN_RIGHT8],
            usage: vec![Usage::VerifyTac],
            kcv: [1, 2, 3],
            session: None,
        },
        state: KeyState::Active,
        public: None,
    };
    let keys = vec![key("campus/purse/tac", 9), key("transit/purse/load", 1), key("transit/purse/tac", 1)];
    Keys { keys }
}
