//! Loads: one answer per card and counter, and a ceiling per ledger key and day.

use wire::cbor::Cbor;
use wire::command::Id;
use wire::error::{Refusal, Refused};
use wire::token::TokenKey;

use super::super::{LogState, ReplayError, ensure};
use super::refuse;
use crate::entry::LoadEvent;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// A ledger's token key and what it spent.
#[derive(Clone, Debug)]
pub struct TokenState {
    /// What was enrolled.
    pub key: TokenKey,
    /// Ended by quorum.
    pub ended: bool,
    /// Day of the newest load, days since 1970.
    pub day: u64,
    /// Fen on that day.
    pub spent: u64,
}

impl TokenState {
    pub(super) fn new(key: TokenKey) -> Self {
        Self { key, ended: false, day: 0, spent: 0 }
    }

    fn spent_on(&self, day: u64) -> u64 {
        if day == self.day { self.spent } else { 0 }
    }
}

/// The newest load of a card.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CardMark {
    /// Online counter.
    pub counter: u64,
    /// What was asked.
    pub question: Id,
}

impl LogState {
    /// Days since 1970 by which a load at `now`, Unix seconds, counts; the clock never goes back.
    pub fn day(&self, now: u64) -> u64 {
        now.max(self.clock()) / DAY
    }

    /// The ledger key of this name, if it may pay in this wall at `now`.
    ///
    /// # Errors
    /// `NoSuchToken`.
    pub fn usable_token(&self, name: &str, wall: &str, now: u64) -> Result<&TokenState, Refused> {
        let usable = |token: &&TokenState| {
            !token.ended && token.key.wall == wall && now.max(self.clock()) <= token.key.not_after
        };
        match self.token(name).filter(usable) {
            Some(token) => Ok(token),
            None => {
                refuse(Refusal::NoSuchToken, "there is no such ledger key for this wall, or it has ended")
            }
        }
    }

    /// Whether this load may be answered at `now`, Unix seconds: `true` says that it was answered before, so that nothing is counted again.
    ///
    /// # Errors
    /// `TokenUsed`, `LoadCounter`, `ValueCeiling`.
    pub fn check_load(&self, event: &LoadEvent, now: u64) -> Result<bool, Refused> {
        match self.card_mark(&event.card) {
            Some(mark) if mark.counter == event.counter && mark.question == event.question => {
                return Ok(true);
            }
            Some(mark) if mark.counter == event.counter => {
                return refuse(
                    Refusal::TokenUsed,
                    "this card and counter were answered for another question; resolve the load by the card's next counter",
                );
            }
            Some(mark) if mark.counter > event.counter => {
                return refuse(Refusal::LoadCounter, "a higher counter of this card was answered before");
            }
            _ => {}
        }
        let spent = self.token(&event.signer).map_or(0, |token| token.spent_on(self.day(now)));
        let daily = self.token(&event.signer).map_or(0, |token| token.key.daily);
        match spent.checked_add(event.amount) {
            Some(sum) if sum <= daily => Ok(false),
            _ => refuse(
                Refusal::ValueCeiling,
                "the ledger key's value for this day is used up; ask the officers",
            ),
        }
    }

    pub(in super::super) fn load(&mut self, event: &LoadEvent, now: u64) -> Result<(), ReplayError> {
        let refused = |refused: Refused| ReplayError(refused.message);
        self.usable_token(&event.signer, event.key.lineage.wall(), now).map_err(refused)?;
        ensure(self.key(&event.key).is_some(), "a load with a key that does not exist")?;
        let again = self.check_load(event, now).map_err(refused)?;
        ensure(again == event.again, "the entry is wrong about whether the load was answered before")?;
        if !again {
            let day = self.day(now);
            if let Some(token) = self.grants.tokens.get_mut(&event.signer) {
                token.spent = token.spent_on(day) + event.amount;
                token.day = day;
            }
            let mark = CardMark { counter: event.counter, question: event.question };
            self.grants.cards.insert(event.card, mark);
        }
        self.grants.link(b"load", &event.to_cbor());
        Ok(())
    }
}
