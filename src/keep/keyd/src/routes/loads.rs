//! `POST /v1/loads/authorize`: MAC1 checked and MAC2 made in one call, against the ledger's token. keyd has no say in it.

use http::Request;
use hyper::body::Incoming;
use wire::api::{LoadBodyAnswer, LoadRequest};
use wire::frame::{KeydRequest, Prepared};

use super::input::json_body;
use super::{App, Caller};
use crate::answer::{Answer, json};
use crate::policy::{Operation, Permission};
use crate::prepared::Class;
use crate::problem::Refusal;

pub(super) async fn authorize(
    app: &App,
    caller: &Caller,
    permission: &Permission<'_>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let body: LoadRequest = json_body(app, request).await?;
    app.charge_for_key(caller, permission, Operation::LoadsAuthorize, &body.key)?;
    let frame = body.to_frame(caller.client.as_str()).map_err(Refusal::bad_field)?;
    match app.prepared.call(&app.ledger, Class::Urgent, KeydRequest::LoadAuthorize(frame)).await? {
        (permit, Prepared::Load(load)) => {
            let answer = json(&LoadBodyAnswer::new(&load, permit.index()));
            Ok(Answer::new(permit, answer))
        }
        _ => Err(Refusal::module_gone()),
    }
}
