//! What a card computes itself, for practice cards and tests. It holds its own keys; nothing here makes a MAC2 or shows a
//! session key.

use wire::key::{Algorithm, SessionRule};
use zeroize::Zeroizing;

use crate::card_key::{CardKey, LoadRequest, Session, load_data1};
use crate::diversify::cipher;

/// A load's MAC1 by the card (card-crypto D.2). [`LoadRequest::mac1`] is not read. Algorithms that no card has get zeros.
pub fn load_mac1(
    algorithm: Algorithm,
    card_key: &[u8; 16],
    rule: SessionRule,
    request: &LoadRequest,
) -> [u8; 4] {
    if cipher(algorithm).is_none() {
        return [0; 4];
    }
    let key = CardKey::new(algorithm, Zeroizing::new(*card_key));
    Session::online(&key, rule, request.random, request.counter).mac(&load_data1(request))
}
