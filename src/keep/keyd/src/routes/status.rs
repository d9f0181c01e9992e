//! `GET /v1/status`.

use wire::api::StatusBody;

use super::{App, Caller, no_parameters};
use crate::answer::{Answer, Unlogged, json};
use crate::module::ModuleError;
use crate::policy::{Operation, Policy};
use crate::problem::Refusal;
use crate::witnesses::Board;

pub(super) async fn show(
    app: &App,
    caller: &Caller,
    policy: &Policy,
    query: &str,
) -> Result<Answer, Refusal> {
    no_parameters(query)?;
    let status = app.control.status().await.map_err(|error| refusal(&error))?;
    // The log names clients: who may read it learns nothing here. For others a client of another wall does not exist.
    let sees_all = policy.permits(&caller.client, Operation::LogRead).is_ok();
    let certificates = app.expiries.for_client(&caller.client, sees_all);
    let witnesses = app.board.as_ref().map(Board::show).unwrap_or_default();
    Ok(Unlogged::read(json(&StatusBody { certificates, witnesses, ..StatusBody::from(&status) })))
}

pub(super) fn refusal(error: &ModuleError) -> Refusal {
    match error {
        ModuleError::Refused(refused) => Refusal::of_module(refused),
        ModuleError::Gone(_) => Refusal::module_gone(),
    }
}
