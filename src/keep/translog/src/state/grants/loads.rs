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
    /// Fen.
    pub amount: u64,
    /// The newest entry that answered it.
    pub index: u64,
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
    /// A card's counter moves only with a credit, so a load whose answer was lost is done over at the same counter: by a token
    /// that names the newest answer, and for no less. MAC1 cannot show that the card is beyond the first session, because it
    /// covers nothing of ours and may have been taken before; but the card takes one of the answers at most, and whichever it
    /// takes, the ledger has been paid that much.
    ///
    /// # Errors
    /// `TokenUsed`, `LoadCounter`, `ValueCeiling`.
    pub fn check_load(&self, event: &LoadEvent, now: u64) -> Result<bool, Refused> {
        let used = |why: String| refuse(Refusal::TokenUsed, why);
        match (self.card_mark(&event.card), event.replaces) {
            (Some(mark), _) if mark.counter == event.counter && mark.question == event.question => {
                return Ok(true);
            }
            (Some(mark), replaces) if mark.counter == event.counter && replaces != Some(mark.index) => {
                return used(format!(
                    "this card and counter were answered for another question in entry {}; if the ledger finds that load not \
                     credited, it signs a token that replaces entry {}",
                    mark.index, mark.index
                ));
            }
            (Some(mark), _) if mark.counter == event.counter && event.amount < mark.amount => {
                return used(format!(
                    "a load of {} fen was answered at this counter, and the card may yet take it; sign no less",
                    mark.amount
                ));
            }
            (Some(mark), _) if mark.counter > event.counter => {
                return refuse(Refusal::LoadCounter, "a higher counter of this card was answered before");
            }
            (mark, Some(_)) if mark.is_none_or(|mark| mark.counter < event.counter) => {
                return used("the token replaces a load, and none was answered at this counter".into());
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
        // Also an answer that is given again moves the mark: a ledger's resolution counts only if it knew of the newest.
        let mark = CardMark {
            counter: event.counter,
            question: event.question,
            amount: event.amount,
            index: self.size,
        };
        self.grants.cards.insert(event.card, mark);
        if !again {
            let day = self.day(now);
            if let Some(token) = self.grants.tokens.get_mut(&event.signer) {
                token.spent = token.spent_on(day) + event.amount;
                token.day = day;
            }
        }
        self.grants.link(b"load", &event.to_cbor());
        Ok(())
    }
}
