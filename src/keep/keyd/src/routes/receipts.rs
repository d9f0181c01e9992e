//! `GET /v1/receipts/{batch}`.

use super::{App, Caller, no_parameters};
use crate::answer::{Answer, Unlogged, json};
use crate::problem::Refusal;

pub(super) async fn find(app: &App, caller: &Caller, id: &str, query: &str) -> Result<Answer, Refusal> {
    no_parameters(query)?;
    let (receipts, client, id) = (app.receipts.clone(), caller.client.clone(), id.to_owned());
    let found = tokio::task::spawn_blocking(move || receipts.find(&id, &client)).await;
    match found {
        Ok(Ok(Some(receipt))) => Ok(Unlogged::read(json(&receipt))),
        Ok(Ok(None)) => Err(Refusal::not_found()),
        Ok(Err(error)) => {
            tracing::error!(%error, "a receipt cannot be read");
            Err(Refusal::internal("receipt-read-failed"))
        }
        Err(_) => Err(Refusal::internal("receipt-read-failed")),
    }
}
