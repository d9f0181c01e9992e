//! `POST /v1/commands`: relays a command that officers have signed. keyd can't read a right into it or out of it; the
//! module checks the signatures.

use http::Request;
use hyper::body::Incoming;
use wire::api::CommandBody;
use wire::cbor::{Bytes, Cbor};
use wire::command::SignedCommand;
use wire::frame::{KeydRequest, KeydResponse};
use wire::purse::to_hex;

use super::{App, media_type, no_parameters, status};
use crate::answer::{Answer, Unlogged, json};
use crate::body::collect;
use crate::module::ModuleError;
use crate::problem::Refusal;
use crate::witnesses::witnessed;

const COMMAND_TYPE: &str = "application/cbor";

pub(super) async fn relay(app: &App, request: Request<Incoming>) -> Result<Answer, Refusal> {
    no_parameters(request.uri().query().unwrap_or_default())?;
    if media_type(request.headers()).as_deref() != Some(COMMAND_TYPE) {
        return Err(Refusal::media_type("Send the signed command as application/cbor."));
    }
    let limits = &app.limits;
    let bytes = collect(request.into_body(), limits.json_body_max_bytes, limits.body_timeout()).await?;
    // Only the form: what is no signed command need not reach the module.
    SignedCommand::from_cbor(&bytes).map_err(|error| {
        Refusal::bad_command(format_args!("This is not a signed command: {error}; make it with keyceremony."))
    })?;
    let done = match app.commands.ask(KeydRequest::Command(Bytes(bytes.to_vec()))).await {
        Ok(KeydResponse::CommandDone(done)) => done,
        Ok(_) => return Err(Refusal::module_gone()),
        Err(ModuleError::Refused(refused)) => return Err(Refusal::of_command(&refused)),
        Err(error) => return Err(status::refusal(&error)),
    };
    let response = json(&CommandBody { index: done.index, kcv: done.kcv.map(|kcv| to_hex(&kcv)) });
    match done.index {
        Some(index) => {
            let permit = app.ledger.wait(index).await.map_err(|_| Refusal::module_gone())?;
            // What is done is done: who sends it again would only hear that, and who proposes it anew would do it twice.
            let seen = witnessed(app.board.as_ref(), index).await;
            seen.map_err(|_| Refusal::command_unwitnessed(index))?;
            Ok(Answer::new(permit, response))
        }
        None => Ok(Unlogged::pending(response)),
    }
}
