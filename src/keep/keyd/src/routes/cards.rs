//! `POST /v1/cards/keys`: key sets under a licence. The module holds the line to its licence; keyd only keeps the quota, in
//! cards.

use http::Request;
use hyper::body::Incoming;
use wire::api::{CardKeysAnswer, CardKeysRequest};
use wire::frame::{CARDS_MAX, KeydRequest, Prepared};

use super::input::json_body;
use super::{App, Caller};
use crate::answer::{Answer, json};
use crate::policy::{Operation, Permission};
use crate::prepared::Class;
use crate::problem::Refusal;

pub(super) async fn keys(
    app: &App,
    caller: &Caller,
    permission: &Permission<'_>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let body: CardKeysRequest = json_body(app, request).await?;
    match body.cards.len() {
        0 => return Err(Refusal::bad_json("cards is empty; send 1 to 128 cards.")),
        count if count > CARDS_MAX => {
            return Err(Refusal::too_large("cards has more than 128 cards; split the request."));
        }
        count => app.charge(caller, Operation::CardsKeys, permission.items_per_second(), count as u64)?,
    }
    let frame = body.to_frame(caller.client.as_str()).map_err(Refusal::bad_field)?;
    match app.prepared.call(&app.ledger, Class::Bulk, KeydRequest::CardKeys(frame)).await? {
        (permit, Prepared::CardKeys(sets)) => {
            let answer = json(&CardKeysAnswer::new(&sets, permit.index()));
            Ok(Answer::new(permit, answer))
        }
        _ => Err(Refusal::module_gone()),
    }
}
