//! `GET /v1/status`.

use wire::api::StatusBody;

use super::{App, no_parameters};
use crate::answer::{Answer, Unlogged, json};
use crate::module::ModuleError;
use crate::problem::Refusal;

pub(super) async fn show(app: &App, query: &str) -> Result<Answer, Refusal> {
    no_parameters(query)?;
    let status = app.control.status().await.map_err(|error| refusal(&error))?;
    Ok(Unlogged::read(json(&StatusBody::from(&status))))
}

pub(super) fn refusal(error: &ModuleError) -> Refusal {
    match error {
        ModuleError::Refused(refused) => Refusal::of_module(refused),
        ModuleError::Gone(_) => Refusal::module_gone(),
    }
}
