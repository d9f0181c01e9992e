//! Loads (圈存): the ledger's token, MAC1 and MAC2 in one call. Nothing else in the module makes MAC2.

use cardcrypto::LoadRequest;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use translog::entry::{Event, FailuresEvent, LoadEvent, WrongPairs};
use translog::state::DEFAULT_LIMITS;
use wire::cbor::{Bytes, Cbor};
use wire::command::{Id, PublicKey};
use wire::error::{Refusal, Refused};
use wire::frame::{LoadAnswer, LoadAuthorize, Prepared};
use wire::key::{SessionRule, Usage};
use wire::purse::{days, is_date, is_time, to_hex};
use wire::token::{LedgerToken, token_bytes};

use super::{factors, no_such_key};
use crate::module::{Live, Module};
use crate::restrict::names_the_card;

/// The electronic deposit (ED); the electronic purse (EP) is 2.
const DEPOSIT: u64 = 1;

/// Days that a token's date may differ from the module's: midnight, time zones, a slow terminal.
const DATE_SLACK: i64 = 1;

impl Module {
    /// Authorises one load.
    pub(crate) fn load(&self, request: &LoadAuthorize) -> Result<u64, Refused> {
        self.live(|live| {
            live.log.room()?;
            let (now, wall) = (live.log.now(), request.key.lineage.wall());
            let held = live.active(&request.key, Usage::AuthorizeLoad)?;
            // Masters of earlier releases may lack the level.
            let master = held.master().filter(|master| names_the_card(master.levels()));
            let master = master.ok_or_else(no_such_key)?;
            let key = live.log.state().usable_token(&request.signer, wall, now)?.key.key;
            let token = open_token(request, &key)?;
            live.check_token(request, &token, now)?;
            let factors = factors(request.issuer, &request.serial, request.chip);
            let card = live.tag_of(&request.key, master, &factors);
            let mut event = LoadEvent {
                client: request.client.clone(),
                key: request.key.clone(),
                card: live.purse_of(request.purse, card),
                counter: request.counter,
                amount: request.amount,
                signer: request.signer.clone(),
                question: question(request),
                again: false,
                replaces: token.replaces,
            };
            event.again = live.log.state().check_load(&event, now)?;
            live.check_budget(request, &card)?;
            let attributes = live.log.state().key(&request.key).map(|key| key.made.attributes.session);
            let rule = attributes.flatten().unwrap_or(SessionRule::Padded);
            let key = super::card_key(master, &factors)?;
            let Ok(mac2) = key.load(rule, &fields(request)?, token.date, token.time) else {
                live.count_guess(self, request, card)?;
                let why = "the card's MAC1 is wrong: another key version, another card, or a forged request";
                return Err(Refused::new(Refusal::MacWrong, why));
            };
            let answer = LoadAnswer { mac2, date: token.date, time: token.time, again: event.again };
            self.prepare(live, Event::Load(event), Prepared::Load(answer))
        })
    }
}

impl Live {
    /// The purse that a load goes to: each has a counter of its own (card-crypto C). The electronic purse has the card's tag,
    /// as it stands in logs from before; the deposit's is made from it.
    fn purse_of(&self, purse: u64, card: [u8; 8]) -> [u8; 8] {
        if purse == DEPOSIT { self.root.deposit_tag(&card) } else { card }
    }

    fn check_token(&self, request: &LoadAuthorize, token: &LedgerToken, now: u64) -> Result<(), Refused> {
        let instance = self.log.state().instance().map(|known| known.instance);
        let same = Some(token.instance) == instance
            && (token.issuer, token.serial) == (request.issuer, request.serial)
            && (token.purse, token.counter) == (request.purse, request.counter)
            && (token.amount, token.terminal) == (request.amount, request.terminal);
        if !same {
            let why = "the token is for another instance, card, purse, counter, amount or terminal";
            return Err(Refused::new(Refusal::TokenMismatch, why));
        }
        let today = i64::try_from(self.log.state().day(now)).unwrap_or(i64::MAX);
        if !(is_digits(&token.date) && is_date(token.date) && is_digits(&token.time) && is_time(token.time)) {
            return Err(Refused::new(Refusal::BadToken, "the token's date or time is none"));
        }
        if (days(token.date) - today).abs() > DATE_SLACK {
            let why =
                format!("the token's date {} is more than a day from the module's", to_hex(&token.date));
            return Err(Refused::new(Refusal::TokenDate, why));
        }
        Ok(())
    }

    fn check_budget(&self, request: &LoadAuthorize, card: &[u8; 8]) -> Result<(), Refused> {
        let state = self.log.state();
        let limits = state.instance().map_or(DEFAULT_LIMITS, |instance| instance.limits);
        if self.guard.of_card(state, card) >= limits.card
            || self.guard.of_version(state, &request.key) >= limits.version
        {
            let why = "the card or the key version is over its failure budget; officers give it back";
            return Err(Refused::new(Refusal::Withheld, why));
        }
        Ok(())
    }

    /// A wrong MAC1 counts as a guess at the card's key, in an entry of its own, before anybody hears of it.
    fn count_guess(
        &mut self,
        module: &Module,
        request: &LoadAuthorize,
        card: [u8; 8],
    ) -> Result<(), Refused> {
        let pair = self.root.mac1_tag(&request.key, &question(request), &request.mac1);
        if self.guard.knows(self.log.state(), &card, &pair) {
            return Ok(());
        }
        let pairs = [card, pair].concat();
        let wrong = vec![WrongPairs { key: request.key.clone(), pairs: Bytes(pairs) }];
        let event = Event::Failures(FailuresEvent { wrong: wrong.clone() });
        self.log_checked(&module.random, event, &wrong)?;
        Ok(())
    }
}

/// The token, canonical and signed by this ledger.
fn open_token(request: &LoadAuthorize, key: &PublicKey) -> Result<LedgerToken, Refused> {
    let bad = |why: &str| Refused::new(Refusal::BadToken, why);
    let token = LedgerToken::from_cbor(&request.token).map_err(|_| bad("the token is not canonical"))?;
    if token.format != 1 {
        return Err(bad("the token's format is not 1"));
    }
    let key = VerifyingKey::from_sec1_bytes(key).map_err(|_| bad("the ledger's key is no point"))?;
    let signature = Signature::from_slice(&request.signature).map_err(|_| bad("the signature is none"))?;
    key.verify(&token_bytes(&request.token), &signature)
        .map_err(|_| bad("the token's signature is not of this ledger over these bytes"))?;
    Ok(token)
}

/// The card's fields as its MAC1 covers them.
fn fields(request: &LoadAuthorize) -> Result<LoadRequest, Refused> {
    let bad = |_| Refused::new(Refusal::BadScript, "counter, balance or amount is larger than a card holds");
    let kind = u8::try_from(request.purse).ok().filter(|purse| (1..=2).contains(purse));
    let kind = kind.ok_or_else(|| Refused::new(Refusal::BadScript, "the purse is 1 or 2"))?;
    Ok(LoadRequest {
        random: request.random,
        counter: u16::try_from(request.counter).map_err(bad)?.to_be_bytes(),
        balance: u32::try_from(request.balance).map_err(bad)?.to_be_bytes(),
        amount: u32::try_from(request.amount).map_err(bad)?.to_be_bytes(),
        kind,
        terminal: request.terminal,
        mac1: request.mac1,
    })
}

/// Names everything that was asked but the client, the MAC and the signature: the same question has the same answer, any other
/// none. A ledger may sign its token again; ECDSA then gives another signature over the same words.
fn question(request: &LoadAuthorize) -> Id {
    let asked = LoadAuthorize { client: String::new(), mac1: [0; 4], signature: [0; 64], ..request.clone() };
    let digest: [u8; 32] = Sha256::digest(asked.to_cbor()).into();
    digest.first_chunk().copied().unwrap_or_default()
}

fn is_digits(bcd: &[u8]) -> bool {
    bcd.iter().all(|byte| byte >> 4 <= 9 && byte & 15 <= 9)
}
