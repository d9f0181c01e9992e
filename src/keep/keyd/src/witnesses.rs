//! Collects cosignatures for the newest head: every witness of the policy is asked at the same time, the quorum decides, the
//! module and the published log get the cosigned head (issue of the log; translog's SPEC.md §Witness protocol).
//!
//! keyd decides nothing here. The module holds the witnesses' keys that officers enrolled and checks every line itself; a
//! keyd that collects nothing only stops the service.

mod peer;
mod post;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use translog::note::WitnessKey;
use translog::policy::Policy;
use wire::api::WitnessBody;
use wire::error::Refused;
use wire::frame::{Cosigned, KeydRequest, KeydResponse, ModuleState, ModuleStatus};

use self::peer::{Line, Peer, Shown};
use self::post::Address;
use crate::commit::Ledger;
use crate::config::WitnessesConfig;
use crate::module::{Control, ModuleError};
use crate::notify::Notifier;
use crate::problem::Refusal;

/// A head without its quorum by then is left for a newer one. Longer than a witness may take to answer.
const ROUND: Duration = Duration::from_secs(5);
/// What waits for the quorum waits no longer (audit-log §5: privileged acts stop after 5 s without it).
const QUORUM_WITHIN: Duration = Duration::from_secs(5);
/// While the module takes no heads: at the start, or because nobody enrolled witnesses.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// What is to be cosigned: a durable head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    pub(crate) size: u64,
    /// The log's own lines.
    pub(crate) note: String,
}

/// The policy and the ways to its witnesses, read and checked.
#[derive(Debug)]
pub(crate) struct Witnesses {
    policy: Policy,
    ways: Vec<(String, WitnessKey, Address)>,
}

impl Witnesses {
    /// Reads the policy file.
    pub(crate) fn load(config: &WitnessesConfig) -> Result<Self> {
        let path = &config.policy_file;
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the witnesses' policy {}", path.display()))?;
        let policy = Policy::parse(&text).with_context(|| format!("in {}", path.display()))?;
        if !policy.needs_witnesses() {
            bail!(
                "{}: its quorum is none; name a quorum, or leave [witnesses] out / 见证策略没有法定数",
                path.display()
            );
        }
        let roots = config.ca.as_deref().map_or_else(|| Ok(RootCertStore::empty()), roots);
        let roots = Arc::new(roots?);
        let mut ways = Vec::new();
        for witness in policy.witnesses() {
            let Some(url) = &witness.url else {
                bail!("{}: the witness {} has no URL", path.display(), witness.name);
            };
            let address = Address::new(&witness.name, url, config.sockets.as_deref(), &roots);
            let address = address.map_err(anyhow::Error::msg)?;
            ways.push((witness.name.clone(), witness.key.clone(), address));
        }
        Ok(Self { policy, ways })
    }

    /// Starts asking. Ends with the runtime.
    pub(crate) fn start(self, ledger: &Ledger, control: &Control) -> Board {
        let (wanted, wanting) = watch::channel(None);
        let (sender, lines) = mpsc::channel(self.ways.len().max(1));
        let mut shown = Vec::new();
        for (name, key, address) in self.ways {
            let body = WitnessBody { name: name.clone(), size: None, time: None, trouble: None };
            let body: Shown = Arc::new(Mutex::new(body));
            shown.push(Arc::clone(&body));
            let peer = Peer {
                name,
                key,
                address,
                ledger: ledger.clone(),
                wanted: wanting.clone(),
                lines: sender.clone(),
                shown: body,
                has: 0,
                newest: None,
            };
            tokio::spawn(peer.run());
        }
        let (witnessed, seen) = watch::channel(0);
        let logs = self.policy.logs().iter().map(|log| log.key.to_string()).collect();
        let collector = Collector {
            policy: self.policy,
            ledger: ledger.clone(),
            control: control.clone(),
            wanted,
            lines,
            witnessed,
            done: 0,
            lines_of: 0,
            have: BTreeMap::new(),
            said: None,
        };
        tokio::spawn(collector.run());
        Board { shown, witnessed: seen, control: control.clone(), logs }
    }
}

fn roots(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let anchors = CertificateDer::pem_file_iter(path).with_context(|| path.display().to_string())?;
    for anchor in anchors {
        roots.add(anchor.with_context(|| path.display().to_string())?)?;
    }
    Ok(roots)
}

/// What others see of the collecting.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    shown: Vec<Shown>,
    witnessed: watch::Receiver<u64>,
    control: Control,
    logs: Arc<[String]>,
}

impl Board {
    /// What is known of each witness.
    pub(crate) fn show(&self) -> Vec<WitnessBody> {
        let read = |shown: &Shown| shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.shown.iter().map(read).collect()
    }

    /// Whether the policy names the log with this verifier key.
    pub(crate) fn is_for(&self, vkey: &str) -> bool {
        self.logs.iter().any(|log| log == vkey)
    }

    /// Whether the module has witnesses, as it said last, at most some seconds ago. Officers may end witnessing because nobody
    /// cosigns any more; what waits then has waited long enough.
    fn is_needed(&self) -> bool {
        self.control.last_status().is_some_and(|status| is_witnessed(&status))
    }

    /// Waits until the module has a cosigned head over the entry `ticket`; `false` if it has none in time.
    async fn wait(&self, ticket: u64, patience: Duration) -> bool {
        let mut witnessed = self.witnessed.clone();
        let wait = witnessed.wait_for(|size| *size > ticket);
        matches!(tokio::time::timeout(patience, wait).await, Ok(Ok(_)))
    }
}

/// Waits until the witnesses' quorum has seen the entry `ticket`, where the module has witnesses. What made it stays in the log
/// and in the module: the same call again gets the same answer.
pub(crate) async fn witnessed(board: Option<&Board>, ticket: u64) -> Result<(), Refusal> {
    let Some(board) = board else { return Ok(()) };
    let until = Instant::now() + QUORUM_WITHIN;
    while board.is_needed() && !board.wait(ticket, POLL_EVERY).await {
        if Instant::now() >= until {
            return Err(Refusal::unwitnessed());
        }
    }
    Ok(())
}

/// Brings heads and lines together.
struct Collector {
    policy: Policy,
    ledger: Ledger,
    control: Control,
    wanted: watch::Sender<Option<Head>>,
    lines: mpsc::Receiver<Line>,
    /// Size of the newest head that the module has taken as cosigned.
    witnessed: watch::Sender<u64>,
    /// Size of the newest head that needs no more work.
    done: u64,
    /// Lines for the head of this size, by the witness's name.
    lines_of: u64,
    have: BTreeMap<String, String>,
    /// What was said last, so that it is said once.
    said: Option<&'static str>,
}

impl Collector {
    async fn run(mut self) {
        loop {
            let Some(head) = self.newest().await else {
                // The log fails or stops, or the policy is another log's; keyd ends with a sentence of its own.
                return;
            };
            if head.size <= self.done {
                if self.ledger.changed(head.size).await.is_err() {
                    return;
                }
                continue;
            }
            if self.lines_of != head.size {
                (self.lines_of, self.have) = (head.size, BTreeMap::new());
            }
            self.wanted.send_replace(Some(head.clone()));
            if !self.round(&head).await {
                return;
            }
        }
    }

    /// The newest durable head; `None` when there will be none, or none that the policy is for.
    async fn newest(&self) -> Option<Head> {
        loop {
            let read = self.ledger.read(|log| Ok((log.size(), log.last_checkpoint()))).await;
            match read {
                Ok((size, Some(note))) if size > 0 => {
                    return Some(Head { size, note: self.policy.open_log(&note).ok()?.log_note() });
                }
                Ok((size, _)) => self.ledger.changed(size).await.ok()?,
                Err(_) => return None,
            }
        }
    }

    /// Gathers lines for one head until the module has taken it, or its time is over. `false` when all is over.
    async fn round(&mut self, head: &Head) -> bool {
        let end = Instant::now() + ROUND;
        loop {
            tokio::select! {
                line = self.lines.recv() => {
                    let Some(line) = line else { return false };
                    if line.size != head.size {
                        continue;
                    }
                    self.have.insert(line.name, line.signed);
                    if self.policy.is_met(|name| self.have.contains_key(name)) && self.deliver(head).await {
                        self.done = head.size;
                        return true;
                    }
                }
                () = sleep_until(end) => {
                    self.late(head);
                    return true;
                }
            }
        }
    }

    fn late(&mut self, head: &Head) {
        let by: Vec<&str> = self.have.keys().map(String::as_str).collect();
        let by = if by.is_empty() { "none".to_owned() } else { by.join(", ") };
        self.say(
            "quorum",
            &format!(
                "the witnesses' quorum has not cosigned the head of {} entries in {} s (cosigned by: {by}); the witnesses' own troubles stand above / 见证法定数未达到",
                head.size,
                ROUND.as_secs()
            ),
        );
    }

    /// Gives a cosigned head to the module and to the published log. `false` if the module wants more lines.
    async fn deliver(&mut self, head: &Head) -> bool {
        let note = self.have.values().fold(head.note.clone(), |note, line| note + line);
        if let Err(failure) = self.ledger.cosigned(note.clone()).await {
            tracing::error!(%failure, "the cosigned checkpoint is not published");
        }
        // Nobody enrolled witnesses, or the module is not in service: the published log has the lines all the same.
        let takes = |status: &ModuleStatus| is_witnessed(status) && status.state == ModuleState::Operational;
        if !self.control.status().await.is_ok_and(|status| takes(&status)) {
            return true;
        }
        match self.control.ask(KeydRequest::Cosigned(Cosigned { size: head.size, note })).await {
            Ok(KeydResponse::Done(_)) => {
                if self.said.take().is_some() {
                    tracing::info!(size = head.size, "the module has a cosigned head again");
                }
                self.witnessed.send_replace(head.size);
                true
            }
            Err(ModuleError::Refused(refused)) => {
                self.say("refused", &refusal(&refused));
                false
            }
            _ => true,
        }
    }

    /// Says a sentence of this kind, unless the last one was of it too.
    fn say(&mut self, kind: &'static str, sentence: &str) {
        if self.said.replace(kind) != Some(kind) {
            tracing::warn!("{sentence}");
        }
    }
}

fn refusal(refused: &Refused) -> String {
    format!(
        "the module does not take the cosigned head: {refused}. Compare the witnesses' policy with what the officers enrolled / 密码模块不接受见证签名"
    )
}

const UNWITNESSED: &str = "unwitnessed";
const WAITING: &str = "waiting";
/// How it can stand with the witnesses, in the module's words (hsm's SPEC.md, Witnesses).
pub(crate) const WORDS: &[&str] = &[UNWITNESSED, "witnessed", WAITING, "grace"];

pub(crate) fn state(status: &ModuleStatus) -> Option<&str> {
    status.instance.as_ref().map(|instance| instance.witness.as_str())
}

/// Whether officers have enrolled witnesses.
fn is_witnessed(status: &ModuleStatus) -> bool {
    state(status).is_some_and(|state| state != UNWITNESSED)
}

/// Whether the module serves: it is operational and does not wait for witnesses.
pub(crate) fn serves(status: &ModuleStatus) -> bool {
    status.state == ModuleState::Operational && state(status) != Some(WAITING)
}

/// Waits until the module serves: after a restart only when the quorum has cosigned a head of this boot.
pub(crate) async fn wait(
    control: &Control,
    notifier: &Notifier,
    collecting: bool,
) -> Result<(), ModuleError> {
    let mut said = false;
    loop {
        let status = control.status().await?;
        if state(&status) != Some(WAITING) {
            return Ok(());
        }
        if !std::mem::replace(&mut said, true) {
            let next = if collecting {
                "the witnesses' quorum: it must cosign a head of this start before anybody is served / 等待见证法定数"
            } else {
                "witnesses: officers enrolled them, and the configuration has no [witnesses]; add it and start again / 配置缺少 [witnesses]"
            };
            tracing::warn!("the module waits for {next}");
            notifier.status(&format!("waits for {next}"));
        }
        sleep(POLL_EVERY).await;
    }
}
