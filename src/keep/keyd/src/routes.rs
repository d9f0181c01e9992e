//! The routes. Each checks policy first, and each ends in an [`Answer`]; there is no other way out.

mod commands;
mod keys;
mod log;
mod macs;
mod receipts;
mod settlement;
mod status;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use crate::answer::Answer;
use crate::assertions::{Recorder, Who};
use crate::client_id::ClientId;
use crate::commit::Ledger;
use crate::config::Limits;
use crate::module::{Control, Module};
use crate::policy::{Operation, Permission, Policy};
use crate::problem::Refusal;
use crate::quota::Quotas;
use crate::receipts::Receipts;
use crate::singles::Singles;
use crate::tasks::Tasks;
use crate::tls::KeyPrefix;

/// Everything that routes work with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) policy: RwLock<Arc<Policy>>,
    /// Whether the officers have approved what is loaded.
    pub(crate) approved: AtomicBool,
    pub(crate) recorder: Recorder,
    pub(crate) module: Module,
    pub(crate) control: Control,
    pub(crate) singles: Singles,
    pub(crate) ledger: Ledger,
    pub(crate) receipts: Receipts,
    pub(crate) quotas: Quotas,
    pub(crate) limits: Limits,
    pub(crate) batch_slots: Arc<Semaphore>,
    pub(crate) log_dir: PathBuf,
    pub(crate) instance: [u8; 16],
    pub(crate) origin: String,
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

    /// Takes from the quota of an operation that is not about keys.
    fn charge(
        &self,
        caller: &Caller,
        operation: Operation,
        permission: &Permission<'_>,
    ) -> Result<(), Refusal> {
        self.quotas
            .take(&caller.client, operation, permission.items_per_second(), 1)
            .map_err(|wait| Refusal::quota(seconds(wait)))
    }
}

/// Whole seconds, rounded up, for `Retry-After`.
fn seconds(wait: std::time::Duration) -> u64 {
    wait.as_secs() + 1
}

/// What a path means.
#[derive(Debug)]
enum Route<'a> {
    Checkpoint,
    Commands,
    Keys,
    Macs,
    Proof,
    Receipt(&'a str),
    Settlement,
    Status,
    Tile(&'a str),
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path.strip_prefix("/v1/")? {
            "commands" => Self::Commands,
            "keys" => Self::Keys,
            "log/checkpoint" => Self::Checkpoint,
            "log/proof" => Self::Proof,
            "macs/verify" => Self::Macs,
            "settlement/verify" => Self::Settlement,
            "status" => Self::Status,
            rest => match (rest.strip_prefix("receipts/"), rest.strip_prefix("log/")) {
                (Some(id), _) => Self::Receipt(id),
                (_, Some(tile)) if tile.starts_with("tile/") => Self::Tile(tile),
                _ => return None,
            },
        })
    }

    /// The operation that a client needs for it. A route without one does not compile.
    const fn operation(&self) -> Operation {
        match self {
            Self::Checkpoint | Self::Proof | Self::Tile(_) => Operation::LogRead,
            Self::Commands => Operation::CommandsRelay,
            Self::Keys => Operation::KeysRead,
            Self::Macs => Operation::MacsVerify,
            Self::Receipt(_) => Operation::ReceiptsRead,
            Self::Settlement => Operation::SettlementVerify,
            Self::Status => Operation::StatusRead,
        }
    }

    const fn method(&self) -> &'static str {
        match self {
            Self::Commands | Self::Macs | Self::Settlement => "POST",
            _ => "GET",
        }
    }
}

/// Answers one request.
pub(crate) async fn handle(app: &Arc<App>, caller: &Caller, request: Request<Incoming>) -> Answer {
    match dispatch(app, caller, request).await {
        Ok(answer) => answer,
        Err(refusal) => app.refuse(caller, &refusal),
    }
}

async fn dispatch(app: &Arc<App>, caller: &Caller, request: Request<Incoming>) -> Result<Answer, Refusal> {
    if !app.approved.load(Ordering::Acquire) {
        return Err(Refusal::not_approved());
    }
    let path = request.uri().path().to_owned();
    let route = Route::of(&path).ok_or_else(Refusal::not_found)?;
    if request.method() != Method::from_bytes(route.method().as_bytes()).unwrap_or(Method::GET) {
        return Err(Refusal::method(route.method()));
    }
    let (policy, operation) = (app.policy(), route.operation());
    let permission = policy.permits(&caller.client, operation).map_err(Refusal::not_permitted)?;
    if !operation.is_keyed() {
        app.charge(caller, operation, &permission)?;
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    match route {
        Route::Checkpoint => log::checkpoint(app, &query).await,
        Route::Commands => commands::relay(app, request).await,
        Route::Keys => keys::list(app, &permission, &query).await,
        Route::Macs => macs::verify(app, caller, &permission, request).await,
        Route::Proof => log::proof(app, &query).await,
        Route::Receipt(id) => receipts::find(app, caller, id, &query).await,
        Route::Settlement => settlement::verify(app, caller, &permission, request).await,
        Route::Status => status::show(app, &query).await,
        Route::Tile(tile) => log::tile(app, tile, &query).await,
    }
}

/// The value of the only parameter that a route knows; anything else in the query is an error.
fn parameter(query: &str, name: &str) -> Result<Option<String>, Refusal> {
    let bad = || Refusal::bad_request("bad-query", format!("The only parameter here is {name}=…, once."));
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
    if query.is_empty() {
        Ok(())
    } else {
        Err(Refusal::bad_request("bad-query", "This path takes no parameters."))
    }
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

/// The media type of the body, without its parameters.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let kind = value.split(';').next().unwrap_or_default();
    Some(kind.trim().to_ascii_lowercase())
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

    #[test]
    fn only_listed_paths_are_routes() {
        for good in ["/v1/status", "/v1/keys", "/v1/log/checkpoint", "/v1/log/tile/0/000", "/v1/receipts/AB"]
        {
            assert!(Route::of(good).is_some(), "{good}");
        }
        for bad in [
            "/",
            "/v1",
            "/v1/",
            "/v2/status",
            "/v1/status/",
            "/v1//status",
            "/v1/log/../status",
            "/v1/log/vkey",
            "/V1/status",
        ] {
            assert!(Route::of(bad).is_none(), "{bad}");
        }
    }
}
