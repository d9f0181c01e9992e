//! `GET /v1/keys`: the key versions that this client's grants cover, as if there were no others.

use wire::api::{KeyBody, KeysBody};

use super::{App, Caller, no_parameters, status};
use crate::answer::{Answer, Unlogged, json};
use crate::policy::{Operation, Permission};
use crate::problem::Refusal;

pub(super) async fn list(
    app: &App,
    caller: &Caller,
    permission: &Permission<'_>,
    query: &str,
) -> Result<Answer, Refusal> {
    no_parameters(query)?;
    app.charge(caller, Operation::KeysRead, permission.items_per_second(), 1)?;
    let keys = app.control.keys().await.map_err(|error| status::refusal(&error))?;
    let covered = keys.keys.iter().filter(|key| permission.for_key(&key.attributes.lineage).is_some());
    let keys = covered.map(KeyBody::from).collect();
    Ok(Unlogged::read(json(&KeysBody { keys })))
}
