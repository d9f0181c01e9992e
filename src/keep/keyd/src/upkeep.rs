//! What runs beside the requests: certificates and revocations are read again, approvals are compared, old receipts go.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use wire::frame::ModuleStatus;

use crate::connections::Connections;
use crate::daemon::load_policy;
use crate::expiry::{self, Watch};
use crate::module::{Control, ModuleError};
use crate::notify::Notifier;
use crate::routes::App;
use crate::tls::Tls;

/// A new revocation list ends open connections within 60 seconds (service-protocol §8) even without a signal.
const RELOAD_EVERY: Duration = Duration::from_secs(30);
const COMPARE_EVERY: Duration = Duration::from_secs(2);
const SWEEP_EVERY: Duration = Duration::from_mins(15);

/// What `systemctl status` shows on a good day.
pub(crate) const SERVES: &str = "serves clients / 正常服务";

/// SHA-256 of what keyd has loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Approval {
    pub(crate) policy: [u8; 32],
    pub(crate) ca: [u8; 32],
}

impl Approval {
    fn is_given(self, status: &ModuleStatus) -> bool {
        status
            .instance
            .as_ref()
            .is_some_and(|instance| (instance.policy, instance.ca) == (self.policy, self.ca))
    }

    /// Waits until officers have approved what is loaded; says so when it has to wait.
    pub(crate) async fn wait(self, control: &Control, notifier: &Notifier) -> Result<(), ModuleError> {
        let mut said = false;
        loop {
            let status = control.status().await?;
            if self.is_given(&status) {
                return Ok(());
            }
            if !std::mem::replace(&mut said, true) {
                let (policy, ca) = (wire::purse::to_hex(&self.policy), wire::purse::to_hex(&self.ca));
                let next = format!(
                    "officers have approved another policy file or CA bundle. Put the approved ones in place and start again, or approve policy {policy} and CA {ca} / 策略或 CA 未经批准"
                );
                tracing::error!("keyd does not serve: {next}");
                notifier.status(&next);
            }
            sleep(COMPARE_EVERY).await;
        }
    }
}

/// The work beside the requests.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) app: Arc<App>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) connections: Connections,
    pub(crate) policy_file: PathBuf,
    pub(crate) policy_digest: [u8; 32],
    /// The CA bundle that officers approved when they were last asked; no other comes in force.
    pub(crate) approved_ca: [u8; 32],
    pub(crate) notifier: Notifier,
    /// Which ends were said.
    pub(crate) watch: Watch,
}

impl Upkeep {
    /// Runs until dropped; `hangup` gives the moments at which an operator asks for a reload.
    pub(crate) async fn run(&mut self, hangup: &mut tokio::signal::unix::Signal) {
        let every = |period| {
            let mut ticks = interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut reload, mut compare, mut sweep) =
            (every(RELOAD_EVERY), every(COMPARE_EVERY), every(SWEEP_EVERY));
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    self.notifier.reloading();
                    self.app.recorder.operation("keyd-reload");
                    self.reload_tls();
                    self.note_expiries();
                    self.compare().await;
                    self.notifier.ready();
                }
                _ = reload.tick() => {
                    self.reload_tls();
                    self.note_expiries();
                }
                _ = compare.tick() => self.compare().await,
                _ = sweep.tick() => self.sweep().await,
            }
        }
    }

    fn reload_tls(&self) {
        match self.tls.reload(&self.approved_ca) {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!("TLS files were read again");
                self.app.recorder.operation("tls-reloaded");
            }
            Err(error) => {
                tracing::error!(
                    "{error}; what was loaded before stays in force until its revocation list expires"
                );
                self.app.recorder.operation("tls-reload-failed");
            }
        }
        // Also without a change: certificates and lists expire by themselves.
        let ended = self.connections.judge_again(&self.tls);
        if ended > 0 {
            tracing::info!(ended, "connections ended: their certificates are no longer good");
        }
    }

    /// Says which ends are near; once before clients come, and then beside each reload.
    pub(crate) fn note_expiries(&mut self) {
        let now = expiry::now();
        self.app.expiries.forget(now);
        self.watch.note(&self.app.expiries.all(), now, &self.app.recorder);
    }

    /// keyd serves only under what the officers approve now; a newly approved file is taken from its place.
    async fn compare(&mut self) {
        let Ok(status) = self.app.control.status().await else {
            return;
        };
        if let Some(instance) = &status.instance {
            self.approved_ca = instance.ca;
        }
        let mut approved = self.is_approved(&status);
        if !approved && status.instance.is_some() {
            self.take_policy(&status);
            self.reload_tls();
            approved = self.is_approved(&status);
        }
        if self.app.approved.swap(approved, Ordering::AcqRel) != approved {
            self.app.recorder.operation(if approved { "approval-given" } else { "approval-gone" });
            if approved {
                tracing::info!("policy and CA bundle are approved; keyd serves");
                self.notifier.status(SERVES);
            } else {
                let next = "officers have approved another policy or CA bundle; put it in place, keyd takes it by itself";
                tracing::error!("{next}");
                self.notifier.status(next);
            }
        }
    }

    /// What is in force, and also the bundle file that lies there: a restart would load that one.
    fn is_approved(&self, status: &ModuleStatus) -> bool {
        [self.tls.ca_digest(), self.tls.ca_found()].into_iter().all(|ca| {
            let loaded = Approval { policy: self.policy_digest, ca };
            loaded.is_given(status)
        })
    }

    fn take_policy(&mut self, status: &ModuleStatus) {
        let approved = status.instance.as_ref().map(|instance| instance.policy);
        match load_policy(&self.policy_file) {
            Ok((policy, digest)) if Some(digest) == approved => {
                if *policy.trust_domain() != *self.app.policy().trust_domain() {
                    tracing::error!(
                        "the approved policy has another trust domain; start keyd again to serve under it"
                    );
                    return;
                }
                *self.app.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
                self.policy_digest = digest;
                self.app.recorder.operation("policy-reloaded");
            }
            Ok(_) => {}
            Err(error) => tracing::error!("{error:#}"),
        }
    }

    async fn sweep(&self) {
        let receipts = self.app.receipts.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || receipts.sweep()).await {
            tracing::error!(%error, "old receipts cannot be removed");
        }
    }
}
