//! `POST /v1/blacklists/{wall}` has the next list of a wall signed, `GET` gives the newest signed file or one of its
//! signatures. A wall that the client has no grant for looks like one that does not exist.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderName, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use wire::api::ListAnswer;
use wire::frame::{KeydRequest, LIST_PART_MAX, ListBytes, ListPart, ListSign, Prepared};
use wire::key::Algorithm;
use wire::list::BODY_MAX;

use super::{App, Caller, media_type, no_parameters, parameter};
use crate::answer::{Answer, Unlogged, json, whole};
use crate::blacklists::SignedFile;
use crate::body::{Cut, Reader};
use crate::policy::{Operation, Permission};
use crate::prepared::{Class, Frames};
use crate::problem::{Refusal, table};

const BYTES: &str = "application/octet-stream";
/// Time for the whole body, since the wall's turn is held meanwhile: 16 MiB at 2.3 Mbit/s.
const UPLOAD: Duration = Duration::from_mins(1);
/// Which epoch a file or signature is of: the two are fetched one after the other.
const EPOCH_HEADER: HeaderName = HeaderName::from_static("citykeep-epoch");
/// Which key a signature is by.
const KEY_HEADER: HeaderName = HeaderName::from_static("citykeep-key");

pub(super) async fn read(
    app: &App,
    caller: &Caller,
    permission: &Permission<'_>,
    wall: &str,
    query: &str,
) -> Result<Answer, Refusal> {
    let algorithm = match parameter(query, "signature")? {
        None => None,
        Some(name) => Some(
            Algorithm::from_name(&name)
                .filter(|algorithm| algorithm.signs())
                .ok_or_else(|| Refusal::bad_query("signature is sm2 or p256."))?,
        ),
    };
    let grant = permission.for_wall(wall).ok_or_else(Refusal::no_such_list)?;
    app.charge(caller, Operation::BlacklistsRead, grant.items_per_second(), 1)?;
    let newest = newest(app, wall).await?.ok_or_else(Refusal::no_such_list)?;
    let epoch = newest.list.epoch;
    let (bytes, key) = match algorithm {
        None => (newest.bytes(), None),
        Some(algorithm) => {
            let mut signatures = newest.list.signatures.into_iter();
            // Of two keys the newer one; they stand in the order of their versions.
            let found = signatures.rfind(|signature| signature.algorithm == algorithm);
            let found = found.ok_or_else(Refusal::no_such_list)?;
            (found.signature.0, Some(found.key.to_string()))
        }
    };
    let mut response = whole(StatusCode::OK, BYTES, bytes);
    let headers = response.headers_mut();
    headers.insert(EPOCH_HEADER, epoch.into());
    if let Some(key) = key.and_then(|key| HeaderValue::from_str(&key).ok()) {
        headers.insert(KEY_HEADER, key);
    }
    Ok(Unlogged::read(response))
}

async fn newest(app: &App, wall: &str) -> Result<Option<SignedFile>, Refusal> {
    let (lists, wall) = (app.blacklists.clone(), wall.to_owned());
    let read = tokio::task::spawn_blocking(move || lists.newest(&wall)).await;
    read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

fn failed(error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%error, "the files of a blacklist cannot be read or written");
    Refusal::internal("blacklist-files-failed")
}

pub(super) async fn sign(
    app: &App,
    caller: &Caller,
    permission: &Permission<'_>,
    wall: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    no_parameters(request.uri().query().unwrap_or_default())?;
    let grant = permission.for_wall(wall).ok_or_else(Refusal::no_such_list)?;
    if media_type(request.headers()).as_deref() != Some(BYTES) {
        return Err(Refusal::media_type("Send the list without trailer as application/octet-stream."));
    }
    app.charge(caller, Operation::BlacklistsSign, grant.items_per_second(), 1)?;
    let turn = app.blacklists.turn(wall);
    let turn = turn.ok_or_else(|| Refusal::busy("A list of this wall is being signed; try again."))?;
    let body = list_body(request.into_body(), app.limits.body_timeout()).await?;
    // The request is a task of its own: what the module has signed is kept also if the client goes away.
    let outcome = carry_out(app, caller.client.to_string(), wall.to_owned(), body).await;
    drop(turn);
    outcome
}

async fn list_body(body: Incoming, limit: Duration) -> Result<Bytes, Refusal> {
    let too_large = || {
        Refusal::too_large(format_args!("A list has at most {BODY_MAX} bytes; use ranges, or fewer cards."))
    };
    if http_body::Body::size_hint(&body).lower() > BODY_MAX as u64 {
        return Err(too_large());
    }
    let mut reader = Reader::new(body, limit);
    let read = async {
        let mut bytes = BytesMut::new();
        while let Some(part) = reader.next().await? {
            if bytes.len() + part.len() > BODY_MAX {
                return Err(too_large());
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(UPLOAD, read).await.unwrap_or_else(|_| Err(Cut::Slow.into()))
}

async fn carry_out(app: &App, client: String, wall: String, body: Bytes) -> Result<Answer, Refusal> {
    let (lists, of) = (app.blacklists.clone(), wall.clone());
    let base = tokio::task::spawn_blocking(move || lists.in_force(&of)).await;
    let base = base.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let last = KeydRequest::ListSign(ListSign { client, wall });
    let frames: Frames = Box::new(
        parts(ListPart::Base, base.unwrap_or_default().into())
            .chain(parts(ListPart::List, body.clone()))
            .chain(std::iter::once(last)),
    );
    let called = app.prepared.call_in_parts(&app.ledger, Class::Bulk, frames).await?;
    let (permit, Prepared::List(list)) = called else {
        return Err(Refusal::module_gone());
    };
    let answer = json(&ListAnswer::new(&list, permit.index()));
    let file = SignedFile::new(&permit, list, body.into());
    let lists = app.blacklists.clone();
    let kept = tokio::task::spawn_blocking(move || lists.keep(&file)).await;
    // Not kept is not answered: the same list again is signed again, and kept then.
    if !kept.map_err(|error| failed(&error))?.map_err(|error| failed(&error))? {
        tracing::error!("{}", table::LIST_BASE.remedy);
        app.recorder.operation("blacklist-base-lost");
    }
    Ok(Answer::new(permit, answer))
}

/// The frames of a list's bytes.
fn parts(part: ListPart, bytes: Bytes) -> impl Iterator<Item = KeydRequest> {
    (0..bytes.len()).step_by(LIST_PART_MAX).map(move |from| {
        let piece = bytes.get(from..bytes.len().min(from + LIST_PART_MAX)).unwrap_or_default();
        KeydRequest::ListBytes(ListBytes { part, bytes: piece.into() })
    })
}
