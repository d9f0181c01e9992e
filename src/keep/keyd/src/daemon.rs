//! From configuration to exit.

use std::convert::Infallible;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use translog::fs::LogDir;
use wire::frame::InstanceStatus;

use crate::assertions::Recorder;
use crate::blacklists::Blacklists;
use crate::commit::{Committer, Ledger};
use crate::config::Config;
use crate::connections::Connections;
use crate::expiry::{Expiries, Watch};
use crate::fatal::Fatal;
use crate::front::Front;
use crate::handed::Handed;
use crate::http;
use crate::metrics::{Attached, Counters, Listener, Serving, Sources};
use crate::module::{Control, GONE, Module};
use crate::notify::Notifier;
use crate::place::Place;
use crate::policy::Policy;
use crate::prepared::PreparedCalls;
use crate::receipts::Receipts;
use crate::recovery::{self, until_operational};
use crate::routes::App;
use crate::singles::Singles;
use crate::store::{SledStore, Store};
use crate::tasks::Tasks;
use crate::tls::Tls;
use crate::upkeep::{Approval, SERVES, Upkeep};
use crate::witnesses::{self, Board, Witnesses};

/// The module may start at the same moment as keyd.
const CONNECT_TRIES: u32 = 50;
const CONNECT_PAUSE: Duration = Duration::from_millis(200);
/// For the last notes at a stop: some frames and one sync, on a slow disk too.
const LAST_NOTES: Duration = Duration::from_secs(10);

/// Runs the daemon until a signal (Ok) or until it can't go on (the sentence).
pub async fn run(config: &Config, mut handed: Handed, notifier: &Notifier) -> Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o077));
    let mut signals = Signals::new()?;
    let _lock = lock_state(&config.state_dir)?;
    let metrics = metrics_listener(config, &mut handed)?;
    let place = Place::choose(config.listen, handed)?;
    let daemon = tokio::task::block_in_place(|| Daemon::open(config, place, notifier))?;
    let fatal = daemon.fatal.clone();
    let sources = Arc::clone(&daemon.sources);
    // Ready for its starter before it is ready for clients: units start before the custodians come.
    notifier.ready();
    let outcome = tokio::select! {
        outcome = daemon.run(&mut signals) => outcome,
        sentence = fatal.raised() => Err(anyhow::anyhow!(sentence)),
        never = notifier.signs_of_life() => match never {},
        failed = answer_metrics(metrics, sources) => failed.map(|never| match never {}),
    };
    // A failure elsewhere is often only the echo of the fatal one.
    match (outcome, fatal.sentence()) {
        (_, Some(sentence)) => bail!(sentence),
        (outcome, None) => outcome,
    }
}

/// Where Prometheus asks, if anywhere.
fn metrics_listener(config: &Config, handed: &mut Handed) -> Result<Option<Listener>> {
    let listener = match (&config.metrics, handed.metrics.take()) {
        (Some(_), Some(_)) => bail!(
            "both the configuration and systemd's socket say where metrics are; remove metrics =, or stop citykeep-keyd-metrics.socket"
        ),
        (Some(place), None) => Some(Listener::open(place)?),
        (None, handed) => handed,
    };
    if let Some(listener) = &listener {
        tracing::info!(at = listener.shown(), "metrics");
    }
    Ok(listener)
}

async fn answer_metrics(listener: Option<Listener>, sources: Arc<Sources>) -> Result<Infallible> {
    match listener {
        Some(listener) => listener.serve(sources).await.context("metrics cannot be served"),
        None => std::future::pending().await,
    }
}

/// Checks configuration, policy and TLS files without starting anything.
pub fn check(config: &Config) -> Result<()> {
    let (policy, _) = load_policy(&config.policy_file)?;
    Tls::load(&config.tls, policy.trust_domain())?;
    config.witnesses.as_ref().map(Witnesses::load).transpose()?;
    Ok(())
}

/// Reads the policy, and the digest that officers approve.
pub(crate) fn load_policy(path: &Path) -> Result<(Policy, [u8; 32])> {
    let bytes = fs::read(path).with_context(|| format!("cannot read the policy file {}", path.display()))?;
    let text = std::str::from_utf8(&bytes).context("the policy file is not UTF-8 text")?;
    let policy = Policy::parse(text).with_context(|| format!("in {}", path.display()))?;
    Ok((policy, Sha256::digest(&bytes).into()))
}

/// One keyd per state directory.
fn lock_state(dir: &Path) -> Result<File> {
    private_dir(dir)?;
    let path = dir.join("lock");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "another keyd runs on {}; stop it first, or give this one a state directory of its own / 另一个 keyd 正在使用此目录",
            dir.display()
        );
    }
    Ok(lock)
}

fn private_dir(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the directory {}", dir.display()))
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Everything that is open before the module is asked anything.
struct Daemon {
    config: Config,
    fatal: Fatal,
    policy: Policy,
    policy_digest: [u8; 32],
    tls: Arc<Tls>,
    sources: Arc<Sources>,
    receipts: Receipts,
    blacklists: Blacklists,
    witnesses: Option<Witnesses>,
    log: Box<LogDir>,
    store: Box<SledStore>,
    place: Place,
    notifier: Notifier,
}

impl Daemon {
    fn open(config: &Config, place: Place, notifier: &Notifier) -> Result<Self> {
        let (policy, policy_digest) = load_policy(&config.policy_file)?;
        let tls = Arc::new(Tls::load(&config.tls, policy.trust_domain())?);
        let witnesses = config.witnesses.as_ref().map(Witnesses::load).transpose()?;
        let wal = config.state_dir.join("wal");
        for dir in [&config.log_dir, &wal] {
            private_dir(dir)?;
        }
        let log = LogDir::open(&config.log_dir, &wal).context("the log does not open")?;
        let store = SledStore::open(&config.state_dir)?;
        let receipts = Receipts::open(&config.state_dir.join("receipts"), config.limits.receipts)
            .context("the directory of receipts does not open")?;
        let blacklists = Blacklists::open(&config.state_dir.join("blacklists"))
            .context("the directory of blacklists does not open")?;
        let sources = Sources::new(Arc::clone(&tls), config.state_dir.clone(), config.log_dir.clone());
        Ok(Self {
            config: config.clone(),
            fatal: Fatal::default(),
            policy,
            policy_digest,
            tls,
            sources: Arc::new(sources),
            receipts,
            blacklists,
            witnesses,
            log: Box::new(log),
            store: Box::new(store),
            place,
            notifier: notifier.clone(),
        })
    }

    async fn run(self, signals: &mut Signals) -> Result<()> {
        let module = Module::new(&self.config.hsm_socket);
        self.notifier.status("connects to the module / 正在连接密码模块");
        let control = tokio::select! {
            control = connect(&module, &self.fatal) => control?,
            () = signals.stop() => return Ok(()),
        };
        let records = self.store.all()?;
        let collector = module.connect_blocking().map_err(gone)?;
        let (committer, ledger) = Committer::start(collector, self.log, self.store, &self.fatal)?;
        let board = self.witnesses.map(|witnesses| witnesses.start(&ledger, &control));
        self.sources.attach(Attached { control: control.clone(), ledger: ledger.clone() });
        let sources = recovery::Sources { ledger: ledger.clone(), records };
        let approval = Approval { policy: self.policy_digest, ca: self.tls.ca_digest() };
        let ready = async {
            let instance = until_operational(&control, &sources, &self.notifier).await?;
            if board.as_ref().is_some_and(|board| !board.is_for(&instance.vkey)) {
                bail!(
                    "the witnesses' policy does not name this log; its log line must be: log {} / 见证策略与本日志不符",
                    instance.vkey
                );
            }
            witnesses::wait(&control, &self.notifier, board.is_some()).await?;
            approval.wait(&control, &self.notifier).await?;
            Ok::<_, anyhow::Error>(instance)
        };
        let ready = tokio::select! {
            ready = ready => Some(ready?),
            () = signals.stop() => None,
            never = self.place.turn_away() => match never {},
        };
        if let Some(instance) = ready {
            let parts = Parts {
                config: self.config,
                fatal: self.fatal,
                policy: self.policy,
                policy_digest: self.policy_digest,
                tls: self.tls,
                sources: self.sources,
                receipts: self.receipts,
                blacklists: self.blacklists,
                board: board.clone(),
                place: self.place,
                notifier: self.notifier.clone(),
            };
            serve(parts, module, control, ledger, &instance, signals).await?;
        }
        self.notifier.stopping();
        tokio::task::spawn_blocking(|| committer.finish()).await?;
        Ok(())
    }
}

async fn connect(module: &Module, fatal: &Fatal) -> Result<Control> {
    let mut tries = 0;
    loop {
        match module.connect().await {
            Ok(link) => return Ok(Control::new(link, fatal.clone())),
            Err(error) if tries >= CONNECT_TRIES => return Err(gone(error)),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
}

fn gone(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{GONE} ({error})")
}

/// What serving needs of the daemon.
struct Parts {
    config: Config,
    fatal: Fatal,
    policy: Policy,
    policy_digest: [u8; 32],
    tls: Arc<Tls>,
    sources: Arc<Sources>,
    receipts: Receipts,
    blacklists: Blacklists,
    board: Option<Board>,
    place: Place,
    notifier: Notifier,
}

async fn serve(
    parts: Parts,
    module: Module,
    control: Control,
    ledger: Ledger,
    instance: &InstanceStatus,
    signals: &mut Signals,
) -> Result<()> {
    ledger.write_vkey(&instance.vkey)?;
    let limits = parts.config.limits;
    let recorder = Recorder::default();
    let commands = Control::new(module.connect().await.map_err(gone)?, parts.fatal.clone());
    let singles = Singles::start(module.connect().await.map_err(gone)?, parts.fatal.clone());
    let prepared = PreparedCalls::start(&module, parts.fatal.clone(), parts.board.clone());
    let prepared = prepared.await.map_err(gone)?;
    let app = Arc::new(App {
        policy: RwLock::new(Arc::new(parts.policy)),
        approved: AtomicBool::new(true),
        recorder: recorder.clone(),
        counters: Counters::default(),
        module,
        control: control.clone(),
        commands,
        singles,
        prepared,
        blacklists: parts.blacklists,
        ledger: ledger.clone(),
        board: parts.board,
        receipts: parts.receipts,
        quotas: crate::quota::Quotas::default(),
        limits,
        batch_slots: Arc::new(Semaphore::new(limits.batch_streams)),
        log_dir: parts.config.log_dir.clone(),
        instance: instance.instance,
        origin: instance.origin.clone(),
        expiries: Expiries::new(Arc::clone(&parts.tls)),
        tasks: Tasks::default(),
    });
    let listener = parts.place.listener().await?;
    let address = listener.local_addr()?;
    let front = Front::new(Arc::clone(&parts.tls), limits.handshake_timeout());
    let connections = Connections::new(limits.connections_per_client);
    let mut upkeep = Upkeep {
        app: Arc::clone(&app),
        // Serving starts only after officers have approved what is loaded.
        approved_ca: parts.tls.ca_digest(),
        tls: parts.tls,
        connections: connections.clone(),
        policy_file: parts.config.policy_file,
        policy_digest: parts.policy_digest,
        notifier: parts.notifier.clone(),
        watch: Watch::default(),
    };
    parts.sources.serve(Serving { app: Arc::clone(&app), connections: connections.clone() });
    recorder.operation("keyd-start");
    upkeep.note_expiries();
    let (stop_notes, told) = oneshot::channel();
    let notes = tokio::spawn(recorder.clone().run(control.clone(), told));
    let (stop, stopped) = watch::channel(false);
    let mut server = tokio::spawn(http::serve(listener, front, Arc::clone(&app), connections, stopped));
    say_ready(&address.to_string())?;
    parts.notifier.status(SERVES);
    let Signals { interrupt, terminate, hangup } = signals;
    tokio::select! {
        () = upkeep.run(hangup) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        ended = &mut server => ended.context("the listener failed")?,
    }
    parts.notifier.stopping();
    stop.send_replace(true);
    if !server.is_finished() {
        server.await.context("the listener failed")?;
    }
    drop(stop_notes);
    match timeout(LAST_NOTES, last_notes(notes, &recorder, &control, &ledger)).await {
        Ok(noted) => noted,
        Err(_) => bail!(
            "the module did not take keyd's last notes in {} s; the log may lack the last refusals and this stop. See whether module and disk work, then start keyd again / 停止前的最后记录未能写入日志",
            LAST_NOTES.as_secs()
        ),
    }
}

/// The last refusals and the stop itself are durable before keyd is gone.
async fn last_notes(
    notes: JoinHandle<()>,
    recorder: &Recorder,
    control: &Control,
    ledger: &Ledger,
) -> Result<()> {
    // Not cut off: the rows of a flush under way are nowhere else.
    notes.await.context("keyd's notes failed")?;
    recorder.operation("keyd-stop");
    if let Some(ticket) = recorder.flush(control).await? {
        let _ = ledger.wait(ticket).await;
    }
    Ok(())
}

fn say_ready(address: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready https://{address}")?;
    out.flush()?;
    Ok(())
}
