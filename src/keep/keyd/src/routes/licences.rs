//! `GET /v1/licences/{id}`: a licence and its count, for the line that it names and for nobody else.

use wire::api::LicenceBody;
use wire::frame::{KeydRequest, KeydResponse, LicenceQuery};

use super::{App, Caller, no_parameters, status};
use crate::answer::{Answer, Unlogged, json};
use crate::problem::Refusal;

pub(super) async fn find(app: &App, caller: &Caller, id: &str, query: &str) -> Result<Answer, Refusal> {
    no_parameters(query)?;
    let licence = wire::purse::hex(id.as_bytes()).ok_or_else(Refusal::no_such_licence)?;
    let query = LicenceQuery { client: caller.client.to_string(), licence };
    let found =
        app.control.ask(KeydRequest::Licence(query)).await.map_err(|error| status::refusal(&error))?;
    let KeydResponse::Licence(info) = found else {
        return Err(Refusal::module_gone());
    };
    let body = LicenceBody::new(&info).map_err(|_| Refusal::module_gone())?;
    // The module has said so already; a second look costs nothing.
    if body.line != caller.client.as_str() {
        return Err(Refusal::no_such_licence());
    }
    Ok(Unlogged::read(json(&body)))
}
