//! The routes. Each checks policy first, and each ends in an [`Answer`]; there is no other way out.

mod blacklists;
mod cards;
mod commands;
mod endpoint;
mod input;
mod keys;
mod licences;
mod loads;
mod log;
mod macs;
mod openapi;
mod receipts;
mod scripts;
mod settlement;
mod status;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use http::{Method, Request};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use wire::key::Lineage;

use self::endpoint::{Endpoint, allow};
use self::input::media_type;
use crate::answer::Answer;
use crate::assertions::{Recorder, Who};
use crate::blacklists::Blacklists;
use crate::client_id::ClientId;
use crate::commit::Ledger;
use crate::config::Limits;
use crate::expiry::Expiries;
use crate::metrics::{self, Counters};
use crate::module::{Control, Module};
use crate::policy::{Operation, Permission, Policy};
use crate::prepared::PreparedCalls;
use crate::problem::Refusal;
use crate::quota::Quotas;
use crate::receipts::Receipts;
use crate::singles::Singles;
use crate::tasks::Tasks;
use crate::tls::KeyPrefix;
use crate::witnesses::Board;

/// Everything that routes work with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) policy: RwLock<Arc<Policy>>,
    /// Whether the officers have approved what is loaded.
    pub(crate) approved: AtomicBool,
    pub(crate) recorder: Recorder,
    pub(crate) counters: Counters,
    pub(crate) module: Module,
    pub(crate) control: Control,
    /// For officers' commands alone: each waits in the module until its intent is safe, and what makes it safe, the
    /// witnesses' lines, comes over `control`.
    pub(crate) commands: Control,
    pub(crate) singles: Singles,
    pub(crate) prepared: PreparedCalls,
    pub(crate) blacklists: Blacklists,
    pub(crate) ledger: Ledger,
    /// Who cosigns, where somebody does.
    pub(crate) board: Option<Board>,
    pub(crate) receipts: Receipts,
    pub(crate) quotas: Quotas,
    pub(crate) limits: Limits,
    pub(crate) batch_slots: Arc<Semaphore>,
    pub(crate) log_dir: PathBuf,
    pub(crate) instance: [u8; 16],
    pub(crate) origin: String,
    /// When certificates and lists end.
    pub(crate) expiries: Expiries,
    /// Requests and streams under way; they outlive a connection that breaks.
    pub(crate) tasks: Tasks,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) client: ClientId,
    pub(crate) certificate: Option<KeyPrefix>,
}

impl Caller {
    pub(crate) fn who(&self) -> Who {
        Who { client: Some(self.client.clone()), certificate: self.certificate }
    }
}

impl App {
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes a refusal and makes its answer.
    pub(crate) fn refuse(&self, caller: &Caller, refusal: &Refusal) -> Answer {
        Answer::refused(self.recorder.deny(refusal.logged, caller.who()), refusal)
    }

    /// Takes from the client's quota of an operation.
    fn charge(
        &self,
        caller: &Caller,
        operation: Operation,
        rate: Option<u64>,
        items: u64,
    ) -> Result<(), Refusal> {
        self.quotas.take(&caller.client, operation, rate, items).map_err(|wait| Refusal::quota(seconds(wait)))
    }

    /// Takes one item of an operation on keys, if a grant covers this key.
    fn charge_for_key(
        &self,
        caller: &Caller,
        permission: &Permission<'_>,
        operation: Operation,
        key: &str,
    ) -> Result<(), Refusal> {
        let lineage = Lineage::parse(key).ok_or_else(Refusal::no_such_key)?;
        let grant = permission.for_key(&lineage).ok_or_else(Refusal::no_such_key)?;
        self.charge(caller, operation, grant.items_per_second(), 1)
    }
}

/// Whole seconds, rounded up, for `Retry-After`.
fn seconds(wait: std::time::Duration) -> u64 {
    wait.as_secs() + 1
}

/// Answers one request.
pub(crate) async fn handle(app: &Arc<App>, caller: &Caller, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let found = if app.approved.load(Ordering::Acquire) {
        find(&path, request.method())
    } else {
        Err(Refusal::not_approved())
    };
    let endpoint = found.as_ref().ok().map(|(endpoint, _)| *endpoint);
    let outcome = match found {
        Ok(found) => dispatch(app, caller, found, request).await,
        Err(refusal) => Err(refusal),
    };
    let code = outcome.as_ref().err().map_or("ok", Refusal::code);
    let (route, method) = endpoint.map_or(("other", "other"), |it| (it.path(), it.method()));
    app.counters.request(metrics::Request { route, method, code });
    outcome.unwrap_or_else(|refusal| app.refuse(caller, &refusal))
}

fn find<'a>(path: &'a str, method: &Method) -> Result<(Endpoint, &'a str), Refusal> {
    let (here, parameter) = Endpoint::at(path).ok_or_else(Refusal::not_found)?;
    let endpoint = here.iter().find(|endpoint| method.as_str() == endpoint.method());
    Ok((*endpoint.ok_or_else(|| Refusal::method(allow(&here)))?, parameter))
}

async fn dispatch(
    app: &Arc<App>,
    caller: &Caller,
    (endpoint, parameter): (Endpoint, &str),
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let policy = app.policy();
    let query = request.uri().query().unwrap_or_default().to_owned();
    if endpoint.operations().is_empty() {
        policy.knows(&caller.client).map_err(Refusal::not_permitted)?;
        return openapi::show(&query);
    }
    let (operation, permission) = permitted(&policy, caller, endpoint)?;
    if operation.is_one_item() {
        app.charge(caller, operation, permission.items_per_second(), 1)?;
    }
    match endpoint {
        Endpoint::BlacklistRead => blacklists::read(app, caller, &permission, parameter, &query).await,
        Endpoint::BlacklistSign => blacklists::sign(app, caller, &permission, parameter, request).await,
        Endpoint::CardsAuthenticate => scripts::authenticate(app, caller, &permission, request).await,
        Endpoint::CardsKeys => cards::keys(app, caller, &permission, request).await,
        Endpoint::Checkpoint => log::checkpoint(app, &query).await,
        Endpoint::Commands => commands::relay(app, request).await,
        Endpoint::Keys => keys::list(app, caller, &permission, &query).await,
        Endpoint::Licence => licences::find(app, caller, parameter, &query).await,
        Endpoint::LoadsAuthorize => loads::authorize(app, caller, &permission, request).await,
        Endpoint::Macs => macs::verify(app, caller, &permission, request).await,
        Endpoint::OpenApi => openapi::show(&query),
        Endpoint::Proof => log::proof(app, &query).await,
        Endpoint::Receipt => receipts::find(app, caller, parameter, &query).await,
        Endpoint::Scripts => scripts::issue(app, caller, &policy, request).await,
        Endpoint::Settlement => settlement::verify(app, caller, &permission, request).await,
        Endpoint::Status => status::show(app, caller, &policy, &query).await,
        Endpoint::Tile => log::tile(app, parameter, &query).await,
    }
}

/// The first of the route's operations that the client may do.
fn permitted<'a>(
    policy: &'a Policy,
    caller: &Caller,
    endpoint: Endpoint,
) -> Result<(Operation, Permission<'a>), Refusal> {
    let mut denied = None;
    for operation in endpoint.operations() {
        match policy.permits(&caller.client, *operation) {
            Ok(permission) => return Ok((*operation, permission)),
            Err(why) => denied = Some(why),
        }
    }
    Err(denied.map_or_else(Refusal::not_found, Refusal::not_permitted))
}

/// The value of the only parameter that a route knows; anything else in the query is an error.
fn parameter(query: &str, name: &str) -> Result<Option<String>, Refusal> {
    let bad = || Refusal::bad_query(format_args!("The only parameter here is {name}=…, once."));
    if query.is_empty() {
        return Ok(None);
    }
    let (found, value) = query.split_once('=').ok_or_else(bad)?;
    if found != name || value.contains('&') {
        return Err(bad());
    }
    percent_decoded(value).map(Some).ok_or_else(bad)
}

fn no_parameters(query: &str) -> Result<(), Refusal> {
    if query.is_empty() { Ok(()) } else { Err(Refusal::bad_query("This path takes no parameters.")) }
}

fn percent_decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let [byte] = wire::purse::hex(&digits)?;
            bytes.push(byte);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_closed() {
        let key = |query| parameter(query, "key");
        assert_eq!(key("").unwrap(), None);
        assert_eq!(key("key=transit/purse/tac").unwrap().as_deref(), Some("transit/purse/tac"));
        assert_eq!(key("key=transit%2Fpurse%2ftac").unwrap().as_deref(), Some("transit/purse/tac"));
        for bad in ["key", "kez=a", "key=a&key=b", "key=a&more=1", "key=%2", "key=%zz", "key=%ff", "&key=a"] {
            assert!(key(bad).is_err(), "{bad}");
        }
    }
}
