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

    use sha2::{Digest as _, Sha256};
    use wire::frame::{CardKeyBlock, CardKeySet, CardKeySets, CardRole, KeyForm};
    use wire::key::{Algorithm, KeyId};
    use wire::licence::CardSerial;
    use wire::purse::hex;

    use super::*;

    /// TR-31 blocks that the module's own code made (cardcrypto's SPEC.md, Golden files).
    const BLOCKS: &str = include_str!("../../../../../tests/golden/keyblock/key-set-b-3des-v1.txt");

    fn set(serial: CardSerial, keys: Vec<CardKeyBlock>) -> CardKeySet {
        CardKeySet { serial, keys }
    }

    /// Two cards with the same commands for all keys.
    fn alike(keys: &[CardKeyBlock]) -> Vec<CardKeySet> {
        [0x31, 0x32].map(|serial| set([serial; 10], keys.to_vec())).into()
    }

    /// Two cards with their blocks.
    fn wrapped() -> Vec<CardKeySet> {
        let rows: Vec<Vec<&str>> = BLOCKS.lines().map(|line| line.split(' ').collect()).collect();
        let block = |row: &Vec<&str>| CardKeyBlock {
            kcv: hex(row[2].as_bytes()).unwrap(),
            block: row[3].as_bytes().into(),
        };
        let card =
            |rows: &[Vec<&str>]| set(hex(rows[0][0].as_bytes()).unwrap(), rows.iter().map(block).collect());
        rows.chunks(2).map(card).collect()
    }

    fn digest(cards: &[CardKeySet]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for card in cards {
            hash.update(card.serial);
            card.keys.iter().for_each(|key| hash.update(key.kcv));
        }
        hash.finalize().into()
    }

    /// A key set's JSON is written down byte by byte (SPEC.md, Key sets). The blocks of `tr31` are real ones.
    #[test]
    fn a_key_set_has_the_bytes_of_the_specification() {
        let role = |name: &str, index| CardRole {
            role: name.to_owned(),
            key: KeyId::parse(&format!("transit/purse/{name}@01")).unwrap(),
            algorithm: Algorithm::Tdes,
            index,
        };
        let block = |kcv: u8| CardKeyBlock { kcv: [kcv; 3], block: [0x84, 0xd4, 0x0a][..].into() };
        let (both, one) = (vec![role("load", 1), role("tac", 2)], vec![role("load", 1)]);
        for (form, name, roles, cards, digest) in [
            (KeyForm::Sealed, "sealed", both.clone(), alike(&[block(0xa1), block(0xb2)]), [0xc3; 32]),
            (KeyForm::Tr31, "tr31", both, wrapped(), digest(&wrapped())),
            (KeyForm::WriteKey, "write-key", one, alike(&[block(0xa1)]), [0xc3; 32]),
        ] {
            let sets = CardKeySets { licence: [0x5a; 16], form, roles, cards, issued: 2, digest };
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
