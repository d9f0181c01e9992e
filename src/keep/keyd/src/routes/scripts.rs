//! `POST /v1/scripts/issue` and `POST /v1/cards/authenticate`: one command for one card.

use http::Request;
use hyper::body::Incoming;
use wire::api::{AuthenticateAnswer, AuthenticateRequest, ScriptAnswer, ScriptBody, ScriptRequest};
use wire::frame::{KeydRequest, Prepared};
use wire::purse::to_hex;

use super::input::json_body;
use super::{App, Caller};
use crate::answer::{Answer, json};
use crate::policy::{Operation, Permission, Policy};
use crate::prepared::Class;
use crate::problem::Refusal;

/// The operation that a script needs. What gives a card back is not for the desk that takes it away.
const fn operation(script: &ScriptBody) -> Operation {
    match script {
        ScriptBody::UnblockApplication {} | ScriptBody::ReloadPin { .. } => Operation::ScriptsUnblock,
        ScriptBody::UpdateBinary { .. }
        | ScriptBody::UpdateRecord { .. }
        | ScriptBody::BlockApplication {}
        | ScriptBody::BlockCard {} => Operation::ScriptsIssue,
    }
}

pub(super) async fn issue(
    app: &App,
    caller: &Caller,
    policy: &Policy,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let body: ScriptRequest = json_body(app, request).await?;
    let operation = operation(&body.script);
    let permission = policy.permits(&caller.client, operation).map_err(Refusal::not_permitted)?;
    app.charge_for_key(caller, &permission, operation, &body.key)?;
    let frame = body.to_frame(caller.client.as_str()).map_err(Refusal::bad_field)?;
    match app.prepared.call(&app.ledger, Class::Urgent, KeydRequest::Script(frame)).await? {
        (permit, Prepared::Script(apdu)) => {
            let answer = json(&ScriptAnswer { apdu: to_hex(&apdu), index: permit.index() });
            Ok(Answer::new(permit, answer))
        }
        _ => Err(Refusal::module_gone()),
    }
}

pub(super) async fn authenticate(
    app: &App,
    caller: &Caller,
    permission: &Permission<'_>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let body: AuthenticateRequest = json_body(app, request).await?;
    app.charge_for_key(caller, permission, Operation::CardsAuthenticate, &body.key)?;
    let frame = body.to_frame(caller.client.as_str()).map_err(Refusal::bad_field)?;
    match app.prepared.call(&app.ledger, Class::Urgent, KeydRequest::Authenticate(frame)).await? {
        (permit, Prepared::Authenticate(answer)) => {
            let answer = json(&AuthenticateAnswer { answer: to_hex(&answer), index: permit.index() });
            Ok(Answer::new(permit, answer))
        }
        _ => Err(Refusal::module_gone()),
    }
}
