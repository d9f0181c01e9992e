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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use wire::frame::{CardKeyBlock, CardKeySet, CardKeySets, CardRole, KeyForm};
    use wire::key::{Algorithm, KeyId};

    use super::*;

    /// A key set's JSON is written down byte by byte (SPEC.md, Key sets).
    #[test]
    fn a_key_set_has_the_bytes_of_the_specification() {
        let role = |name: &str, index| CardRole {
            role: name.to_owned(),
            key: KeyId::parse(&format!("transit/purse/{name}@01")).unwrap(),
            algorithm: Algorithm::Tdes,
            index,
        };
        let block = |kcv: u8, block: &[u8]| CardKeyBlock { kcv: [kcv; 3], block: block.into() };
        let set = |serial: u8, keys| CardKeySet { serial: [serial; 10], keys };
        for (form, name) in
            [(KeyForm::Sealed, "sealed"), (KeyForm::Tr31, "tr31"), (KeyForm::WriteKey, "write-key")]
        {
            let mut roles = vec![role("load", 1), role("tac", 2)];
            let first: &[u8] =
                if form == KeyForm::Tr31 { b"B0096P0TN01N0000AB" } else { &[0x84, 0xd4, 0x0a] };
            let mut keys = vec![block(0xa1, first), block(0xb2, first)];
            if form == KeyForm::WriteKey {
                roles.truncate(1);
                keys.truncate(1);
            }
            let cards = vec![set(0x31, keys.clone()), set(0x32, keys)];
            let sets = CardKeySets { licence: [0x5a; 16], form, roles, cards, issued: 2, digest: [0xc3; 32] };
            let bytes = serde_json::to_vec(&CardKeysAnswer::new(&sets, 818)).unwrap();
            let golden =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/key-set-{name}.json"));
            if std::env::var_os("CITYKEEP_BLESS").is_some() && !golden.exists() {
                std::fs::write(&golden, &bytes).unwrap();
            }
            assert_eq!(std::fs::read(&golden).unwrap(), bytes, "{name}");
            let read: CardKeysAnswer = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(read, CardKeysAnswer::new(&sets, 818));
        }
    }
}
