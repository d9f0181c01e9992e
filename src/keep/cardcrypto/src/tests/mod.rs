//! Tests that begin with a card key as bytes, which nobody outside this crate can do.

mod blocks;
mod cards;
mod keys;
mod unwrap;

#[path = "../../tests/naive/mod.rs"]
mod naive;
#[path = "../../tests/vector/mod.rs"]
mod vector;

use std::sync::LazyLock;

use securemem::{Arena, Preference, Secret};
use wire::key::Algorithm;
use zeroize::Zeroizing;

use crate::card_key::CardKey;

const CIPHERS: [(Algorithm, &str); 2] = [(Algorithm::Tdes, "3des"), (Algorithm::Sm4, "sm4")];

static ARENA: LazyLock<Arena> = LazyLock::new(|| Arena::reserve(1 << 16, Preference::Auto).unwrap());

fn secret(arena: &Arena, bytes: &[u8]) -> Secret {
    let fill = |buffer: &mut [u8]| {
        buffer.copy_from_slice(bytes);
        Ok::<(), ()>(())
    };
    arena.alloc(bytes.len(), fill).unwrap()
}

fn card_key(algorithm: Algorithm, key: [u8; 16]) -> CardKey {
    CardKey::new(algorithm, Zeroizing::new(key))
}
