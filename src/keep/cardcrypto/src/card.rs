//! What a card computes itself, for practice cards and tests: it holds its own keys, and can make no MAC2.

use wire::key::{Algorithm, SessionRule};
use zeroize::Zeroizing;

use crate::card_key::{CardKey, LoadRequest, Session, load_data1};

/// A load's MAC1 by the card (card-crypto D.2). [`LoadRequest::mac1`] is not read.
pub fn load_mac1(
    algorithm: Algorithm,
    card_key: &[u8; 16],
    rule: SessionRule,
    request: &LoadRequest,
) -> [u8; 4] {
    let key = CardKey::new(algorithm, Zeroizing::new(*card_key));
    Session::online(&key, rule, request.random, request.counter).mac(&load_data1(request))
}
