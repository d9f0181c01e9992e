//! The ledger's commit token: proof for the module that a load has been paid (SPEC.md §Ledger token).

use crate::command::{Id, PublicKey};
use crate::licence::CardSerial;

/// What is hashed and signed starts with this.
pub const TOKEN_DOMAIN: &[u8] = b"citykeep ledger token v1\0";

crate::cbor_struct! {
    /// One committed debit: this card, at this counter, gets this amount, once.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct LedgerToken {
        /// Format, 1.
        0 => format: u64,
        /// The service that it is for.
        1 => instance: Id,
        /// The ledger's own id of the commit.
        2 => commit: Id,
        /// Issuer id of the card.
        3 => issuer: [u8; 8],
        /// The card.
        4 => serial: CardSerial,
        /// Purse: 1 electronic deposit, 2 electronic purse (transaction type byte of card-crypto D.1).
        5 => purse: u64,
        /// The card's online counter.
        6 => counter: u64,
        /// Fen.
        7 => amount: u64,
        /// Terminal number.
        8 => terminal: [u8; 6],
        /// Date that MAC2 covers, BCD `YYYYMMDD`.
        9 => date: [u8; 4],
        /// Time that MAC2 covers, BCD `hhmmss`.
        10 => time: [u8; 3],
        /// Log index of the newest answer to the load of this card and counter that the ledger has resolved as not credited
        /// (citycard-features §4.6, row 2); this token takes its place.
        11 => replaces: Option<u64>,
    }
}

/// The bytes that the ledger's ECDSA-P256-SHA-256 signature covers.
pub fn token_bytes(token: &[u8]) -> Vec<u8> {
    [TOKEN_DOMAIN, token].concat()
}

crate::cbor_struct! {
    /// A ledger's key, enrolled by quorum.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct TokenKey {
        /// Name, `a-z 0-9 -`.
        0 => name: String,
        /// P-256, compressed.
        1 => key: PublicKey,
        /// Applet whose cards it pays for.
        2 => wall: String,
        /// Fen per day of the module's clock that its tokens may load.
        3 => daily: u64,
        /// Unix seconds until which it counts.
        4 => not_after: u64,
    }
}

impl TokenKey {
    /// Whether names and ceiling are such.
    pub fn is_sound(&self) -> bool {
        crate::key::is_name(&self.name) && crate::key::is_name(&self.wall) && self.daily > 0
    }
}
