//! One page of metrics: the counters, and what is looked up at that moment.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;
use wire::batch::Verdict;
use wire::frame::{ModuleState, ModuleStatus};

use super::page::{Page, Samples};
use super::{Counters, SECONDS, families, lock};
use crate::commit::Ledger;
use crate::connections::Connections;
use crate::expiry::{self, Expiry, What};
use crate::module::Control;
use crate::routes::App;
use crate::tls::Tls;
use crate::witnesses;

/// Where values come from. They become known one after the other while keyd starts; the page has then fewer samples, and
/// the module's state from the first moment.
#[derive(Debug)]
pub(crate) struct Sources {
    tls: Arc<Tls>,
    /// Names and places of the directories.
    directories: [(&'static str, PathBuf); 2],
    started: u64,
    attached: OnceLock<Attached>,
    serving: OnceLock<Serving>,
}

/// What is known once the module is there.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) control: Control,
    pub(crate) ledger: Ledger,
}

/// What is known once clients may come.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) app: Arc<App>,
    pub(crate) connections: Connections,
}

impl Sources {
    pub(crate) fn new(tls: Arc<Tls>, state: PathBuf, log: PathBuf) -> Self {
        Self {
            tls,
            directories: [("state", state), ("log", log)],
            started: expiry::now(),
            attached: OnceLock::new(),
            serving: OnceLock::new(),
        }
    }

    pub(crate) fn attach(&self, attached: Attached) {
        let _ = self.attached.set(attached);
    }

    pub(crate) fn serve(&self, serving: Serving) {
        let _ = self.serving.set(serving);
    }

    /// The whole page.
    pub(crate) fn page(&self) -> String {
        let mut page = Page::default();
        page.family(&families::BUILD).put(&[env!("CARGO_PKG_VERSION")], 1);
        page.family(&families::START).put(&[], self.started);
        let serving = self.serving.get();
        let module = self.attached.get().and_then(|attached| attached.control.last_status());
        let serves = serving.is_some_and(|serving| serving.app.approved.load(Ordering::Acquire))
            && module.as_ref().is_some_and(witnesses::serves);
        page.family(&families::SERVING).put(&[], u8::from(serves));
        put_state(page.family(&families::STATE), module.as_ref());
        put_witnesses(page.family(&families::WITNESSES), module.as_ref());
        let counters = serving.map(|serving| serving.app.counters.clone()).unwrap_or_default();
        let mut requests = page.family(&families::REQUESTS);
        for (request, count) in lock(&counters.0.requests).iter() {
            requests.put(&[request.route, request.method, request.code], count);
        }
        let mut notes = page.family(&families::NOTES);
        let noted = serving.map(|serving| serving.app.recorder.totals()).unwrap_or_default();
        for ((category, code), count) in noted {
            notes.put(&[category, code], count);
        }
        put_batches(&mut page, &counters);
        self.put_log(&mut page, module.as_ref());
        put_queues(&mut page, serving);
        self.put_ends(&mut page, serving);
        let mut disk = page.family(&families::DISK);
        for (name, place) in &self.directories {
            if let Ok(found) = rustix::fs::statvfs(place) {
                disk.put(&[name], found.f_bavail.saturating_mul(found.f_frsize));
            }
        }
        page.into_text()
    }

    fn put_log(&self, page: &mut Page, module: Option<&ModuleStatus>) {
        let mut durable = page.family(&families::LOG_DURABLE);
        if let Some(attached) = self.attached.get() {
            durable.put(&[], attached.ledger.durable());
        }
        let instance = module.and_then(|status| status.instance.as_ref());
        let mut put = |family, value: Option<u64>| {
            let mut samples = page.family(family);
            if let Some(value) = value {
                samples.put(&[], value);
            }
        };
        put(&families::LOG_MADE, instance.map(|instance| instance.size));
        put(&families::LOG_ACKNOWLEDGED, instance.map(|instance| instance.durable));
    }

    fn put_ends(&self, page: &mut Page, serving: Option<&Serving>) {
        let now = expiry::now();
        let ends = serving.map_or_else(|| self.tls.expiries(), |serving| serving.app.expiries.all());
        let kinds = What::ALL.iter().filter_map(|what| {
            let of_kind: Vec<&Expiry> = ends.iter().filter(|end| end.what == *what).collect();
            let first = of_kind.iter().map(|end| end.left(now)).min()?;
            let warnings = of_kind.iter().filter(|end| end.warning(now).is_some()).count();
            Some((what.as_str(), first, warnings))
        });
        let kinds: Vec<_> = kinds.collect();
        let mut left = page.family(&families::EXPIRY);
        for (what, first, _) in &kinds {
            left.put(&[what], first);
        }
        let mut near = page.family(&families::EXPIRY_WARNINGS);
        for (what, _, warnings) in &kinds {
            near.put(&[what], warnings);
        }
    }
}

fn put_state(mut samples: Samples<'_>, module: Option<&ModuleStatus>) {
    let Some(status) = module else { return };
    for state in ModuleState::ALL {
        samples.put(&[state.as_str()], u8::from(*state == status.state));
    }
}

fn put_witnesses(mut samples: Samples<'_>, module: Option<&ModuleStatus>) {
    let Some(word) = module.and_then(witnesses::state) else { return };
    for known in witnesses::WORDS {
        samples.put(&[known], u8::from(*known == word));
    }
}

fn put_batches(page: &mut Page, counters: &Counters) {
    let mut verdicts = page.family(&families::VERDICTS);
    for (verdict, count) in Verdict::ALL.iter().zip(&counters.0.verdicts) {
        verdicts.put(&[verdict.as_str()], count.load(Ordering::Relaxed));
    }
    let mut batches = page.family(&families::BATCHES);
    for (end, count) in lock(&counters.0.batches).iter() {
        batches.put(&[end], count);
    }
    let seconds = *lock(&counters.0.seconds);
    let upto = SECONDS.into_iter().zip(seconds.upto);
    page.family(&families::BATCH_SECONDS).histogram(upto, seconds.count, seconds.sum);
}

fn put_queues(page: &mut Page, serving: Option<&Serving>) {
    let queues = serving.map(|Serving { app, connections }| {
        let [urgent, bulk] = app.prepared.waiting();
        let limits = &app.limits;
        [
            ("single-checks", app.singles.waiting()),
            ("urgent-calls", urgent),
            ("bulk-calls", bulk),
            ("batches", taken(&app.batch_slots, limits.batch_streams)),
            ("connections", (connections.open(), limits.connections)),
        ]
    });
    let queues: Vec<_> = queues.into_iter().flatten().collect();
    let mut depth = page.family(&families::QUEUE);
    for (queue, (waiting, _)) in &queues {
        depth.put(&[queue], waiting);
    }
    let mut limit = page.family(&families::QUEUE_LIMIT);
    for (queue, (_, most)) in &queues {
        limit.put(&[queue], most);
    }
}

fn taken(slots: &Semaphore, most: usize) -> (usize, usize) {
    (most.saturating_sub(slots.available_permits()), most)
}
