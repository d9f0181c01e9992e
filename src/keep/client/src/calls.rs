//! The calls of the service, one method each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;
use translog::note::open_checkpoint;
use translog::proof::TlogProof;
use wire::api::{
    AuthenticateAnswer, AuthenticateRequest, BATCH_TYPE, CardBody, CardKeySetBody, CardKeysAnswer,
    CardKeysRequest, CommandBody, KeysBody, LicenceBody, ListAnswer, LoadBodyAnswer, LoadRequest,
    MacsVerified, MacsVerify, PROBLEM_TYPE, Problem, Receipt, ScriptAnswer, ScriptRequest, StatusBody,
};
use wire::purse::to_hex;

use crate::connection::{Link, Outgoing};
use crate::error::{Error, Refusal, chain};
use crate::receipt::{self, Pinned};

const JSON_TYPE: &str = "application/json";
const TEXT_TYPE: &str = "text/plain";
const COMMAND_TYPE: &str = "application/cbor";
/// A small answer is at most this long; receipts of very long days are the longest.
const ANSWER_MAX: usize = 16 << 20;
/// A problem is at most this long.
const PROBLEM_MAX: usize = 64 << 10;
/// Who asks for a longer wait than this, in seconds, is not believed.
const WAIT_MAX: u64 = 3600;
/// A request that never left is tried again this often at most.
const SENDS: usize = 3;

/// A client of the key service. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) link: Arc<Link>,
    pinned: Option<Arc<Pinned>>,
}

/// A small request.
struct Call {
    method: Method,
    path: String,
    content: &'static str,
    accept: &'static str,
    body: Bytes,
    /// The same question again has the same answer and does nothing twice.
    repeatable: bool,
}

impl Call {
    fn get(path: String, accept: &'static str) -> Self {
        Self { method: Method::GET, path, content: "", accept, body: Bytes::new(), repeatable: true }
    }

    fn post(path: &str, content: &'static str, body: Vec<u8>) -> Self {
        let (path, body) = (path.to_owned(), body.into());
        Self { method: Method::POST, path, content, accept: JSON_TYPE, body, repeatable: false }
    }

    /// A call of the kind that the module prepares and releases.
    fn prepared(path: &str, content: &'static str, body: Vec<u8>) -> Self {
        Self { repeatable: true, ..Self::post(path, content, body) }
    }
}

impl Client {
    pub(crate) fn new(link: Link, pinned: Option<Pinned>) -> Self {
        Self { link: Arc::new(link), pinned: pinned.map(Arc::new) }
    }

    /// What the caller pinned; batches and receipts are worth nothing without it.
    pub(crate) fn pinned(&self) -> Result<Arc<Pinned>, Error> {
        self.pinned.clone().ok_or_else(|| {
            Error::Config(
                "no log key is pinned, so no receipt could be checked; give the log's vkey line (the file vkey of the \
                 published log, compared with the one in the ceremony's transcript)"
                    .to_owned(),
            )
        })
    }

    /// `GET /v1/status`.
    pub async fn status(&self) -> Result<StatusBody, Error> {
        self.json(Call::get("/v1/status".to_owned(), JSON_TYPE)).await
    }

    /// `GET /v1/keys`: the key versions that this client may use.
    pub async fn keys(&self) -> Result<KeysBody, Error> {
        self.json(Call::get("/v1/keys".to_owned(), JSON_TYPE)).await
    }

    /// `POST /v1/macs/verify`: 1 to 1024 single checks. The answer comes once it is durable in the log.
    pub async fn macs_verify(&self, request: &MacsVerify) -> Result<MacsVerified, Error> {
        let body = serde_json::to_vec(request).map_err(|error| Error::Config(error.to_string()))?;
        let answer: MacsVerified = self.json(Call::post("/v1/macs/verify", JSON_TYPE, body)).await?;
        if answer.results.len() == request.items.len() {
            Ok(answer)
        } else {
            Err(Error::Answer(format!("{} results for {} items", answer.results.len(), request.items.len())))
        }
    }

    /// `GET /v1/receipts/{batch}`: a receipt of this client, kept for 24 h, checked against the pinned log.
    pub async fn receipt(&self, batch: &[u8; 16]) -> Result<Receipt, Error> {
        let pinned = self.pinned()?;
        let path = format!("/v1/receipts/{}", to_hex(batch));
        let found: Receipt = self.json(Call::get(path, JSON_TYPE)).await?;
        receipt::check_log(&found, &pinned)?;
        if wire::purse::hex(found.batch.as_bytes()) == Some(*batch) {
            Ok(found)
        } else {
            Err(Error::Answer("the receipt is of another batch".to_owned()))
        }
    }

    /// `GET /v1/log/checkpoint`: the signed note, checked if a log key is pinned.
    pub async fn log_checkpoint(&self) -> Result<String, Error> {
        let note = self.text(Call::get("/v1/log/checkpoint".to_owned(), TEXT_TYPE)).await?;
        if let Some(pinned) = &self.pinned {
            open_checkpoint(&note, &pinned.log).map_err(|error| {
                Error::Answer(format!("the checkpoint is not one of the pinned log: {}", chain(&error)))
            })?;
        }
        Ok(note)
    }

    /// `GET /v1/log/proof`: the proof of one entry; [`TlogProof::verify`] it against the entry's bytes.
    pub async fn log_proof(&self, index: u64) -> Result<TlogProof, Error> {
        let text = self.text(Call::get(format!("/v1/log/proof?index={index}"), TEXT_TYPE)).await?;
        let proof = TlogProof::parse(&text)
            .map_err(|error| Error::Answer(format!("the answer is no proof: {}", chain(&error))))?;
        if proof.index == index {
            Ok(proof)
        } else {
            Err(Error::Answer(format!("asked for the proof of {index}, got that of {}", proof.index)))
        }
    }

    /// `POST /v1/commands`: a signed quorum command, canonical CBOR.
    pub async fn commands(&self, command: &[u8]) -> Result<CommandBody, Error> {
        self.json(Call::post("/v1/commands", COMMAND_TYPE, command.to_vec())).await
    }

    /// `POST /v1/cards/keys`: key sets of 1 to 128 cards under a licence. A card that the licence has counted before is not
    /// counted again.
    pub async fn card_keys(&self, request: &CardKeysRequest) -> Result<CardKeysAnswer, Error> {
        let answer: CardKeysAnswer = self.ask("/v1/cards/keys", request).await?;
        let same = |(one, other): (&CardBody, &CardKeySetBody)| one.serial == other.serial;
        let fits = answer.cards.len() == request.cards.len()
            && request.cards.iter().zip(&answer.cards).all(same)
            && answer.cards.iter().all(|card| card.keys.len() == answer.roles.len());
        if fits { Ok(answer) } else { Err(Error::Answer("the key sets are of other cards".to_owned())) }
    }

    /// `GET /v1/licences/{id}`: a licence of this client and its count.
    pub async fn licence(&self, id: &str) -> Result<LicenceBody, Error> {
        self.json(Call::get(format!("/v1/licences/{id}"), JSON_TYPE)).await
    }

    /// `POST /v1/blacklists/{wall}`: has a list's body signed, one epoch after the other.
    pub async fn sign_list(&self, wall: &str, body: Vec<u8>) -> Result<ListAnswer, Error> {
        self.json(Call::prepared(&format!("/v1/blacklists/{wall}"), BATCH_TYPE, body)).await
    }

    /// `POST /v1/loads/authorize`: MAC2 of a load, against a ledger's token.
    pub async fn authorize_load(&self, request: &LoadRequest) -> Result<LoadBodyAnswer, Error> {
        self.ask("/v1/loads/authorize", request).await
    }

    /// `POST /v1/scripts/issue`: a whole card command under line protection.
    pub async fn issue_script(&self, request: &ScriptRequest) -> Result<ScriptAnswer, Error> {
        self.ask("/v1/scripts/issue", request).await
    }

    /// `POST /v1/cards/authenticate`: the answer to a card's challenge.
    pub async fn authenticate(&self, request: &AuthenticateRequest) -> Result<AuthenticateAnswer, Error> {
        self.ask("/v1/cards/authenticate", request).await
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        request: &impl serde::Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(request).map_err(|error| Error::Config(error.to_string()))?;
        self.json(Call::prepared(path, JSON_TYPE, body)).await
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let path = call.path.clone();
        let bytes = self.call(call).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Answer(format!("{path} answered what is not its JSON: {error}")))
    }

    async fn text(&self, call: Call) -> Result<String, Error> {
        let path = call.path.clone();
        let bytes = self.call(call).await?;
        String::from_utf8(bytes).map_err(|_| Error::Answer(format!("{path} answered what is not text")))
    }

    async fn call(&self, call: Call) -> Result<Vec<u8>, Error> {
        let limit = self.link.timeouts.answer;
        timeout(limit, self.call_in_time(&call)).await.unwrap_or_else(|_| {
            Err(Error::Connection(format!(
                "no answer to {} {} within {} s; try again",
                call.method,
                call.path,
                limit.as_secs_f32()
            )))
        })
    }

    async fn call_in_time(&self, call: &Call) -> Result<Vec<u8>, Error> {
        let mut sends = 0;
        loop {
            sends += 1;
            let kept = self.link.kept().await;
            let was_kept = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.link.open().await?,
            };
            let request = self.request(call)?;
            match sender.requests.try_send_request(request).await {
                Ok(response) => {
                    let expected = response.headers().clone();
                    let bytes = answer(response).await?;
                    expect_type(&expected, call)?;
                    self.link.keep(sender);
                    return Ok(bytes);
                }
                Err(mut error) => {
                    let never_left = error.take_message().is_some();
                    let repeatable = never_left || (was_kept && call.repeatable);
                    if !repeatable || sends >= SENDS {
                        let reason = sender.end.reason(&error.into_error()).await;
                        return Err(broken(&reason, &format!("{} {}", call.method, call.path)));
                    }
                }
            }
        }
    }

    fn request(&self, call: &Call) -> Result<Request<Outgoing>, Error> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(&call.path)
            .header(HOST, &self.link.endpoint.authority)
            .header(ACCEPT, call.accept);
        if !call.content.is_empty() {
            request = request.header(CONTENT_TYPE, call.content);
        }
        let body = (!call.body.is_empty()).then(|| call.body.clone());
        request
            .body(Outgoing::Whole(body))
            .map_err(|error| Error::Config(format!("no request can be made of this: {error}")))
    }
}

/// The body of a success, or the refusal.
pub(crate) async fn answer(response: Response<Incoming>) -> Result<Vec<u8>, Error> {
    let status = response.status();
    if status == StatusCode::OK {
        collect(response.into_body(), ANSWER_MAX).await
    } else {
        Err(refusal(response).await)
    }
}

/// What a status other than 200 says.
pub(crate) async fn refusal(response: Response<Incoming>) -> Error {
    let status = response.status();
    let is_problem = media_type(response.headers()) == PROBLEM_TYPE;
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = asked.map(|seconds: u64| Duration::from_secs(seconds.min(WAIT_MAX)));
    let problem = match collect(response.into_body(), PROBLEM_MAX).await {
        Ok(bytes) if is_problem => serde_json::from_slice(&bytes).ok(),
        _ => None,
    };
    let problem = problem.unwrap_or_else(|| {
        let why = "the service gave no reason; look at its log";
        Problem::new(status.as_u16(), "no-reason", "no reason given", why)
    });
    Error::Refused(Box::new(Refusal { problem, retry_after }))
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&chain(&error), "the answer"))?;
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        if bytes.len() > limit {
            return Err(Error::Answer(format!("the answer is longer than {limit} bytes")));
        }
    }
    Ok(bytes)
}

pub(crate) fn broken(reason: &str, what: &str) -> Error {
    let broke = |hint: &str| format!("the connection broke during {what} ({reason}); {hint}");
    if !reason.contains("alert") {
        return Error::Connection(broke("try again"));
    }
    // The alert is all that a client is told (RFC 8446 §6.2); it is sure of these two.
    Error::Certificate(broke(if reason.contains("CertificateExpired") {
        "this certificate is expired: ask the officers for a new one"
    } else if reason.contains("CertificateRevoked") {
        "this certificate is revoked: ask the officers why"
    } else {
        "the service refused this certificate: ask the operator whether it is enrolled, expired or revoked"
    }))
}

pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn expect_type(headers: &HeaderMap, call: &Call) -> Result<(), Error> {
    let found = media_type(headers);
    if found.eq_ignore_ascii_case(call.accept) {
        Ok(())
    } else {
        Err(Error::Answer(format!("{} answered {found:?} instead of {}", call.path, call.accept)))
    }
}
