//! Licences: what may leave, and the count of what left.

use std::collections::{BTreeMap, BTreeSet};

use wire::cbor::Cbor;
use wire::error::{Refusal, Refused};
use wire::key::Usage;
use wire::licence::{CardSerial, Licence, SPOILAGE_MAX, Spoilage};

use super::super::{LogState, ReplayError};
use super::refuse;
use crate::entry::{IssuedCard, IssuedEvent};

/// Names that keyd gives.
const LINE_MAX: usize = 256;

/// A licence and its count.
#[derive(Clone, Debug)]
pub struct LicenceState {
    /// What was granted.
    pub licence: Licence,
    /// Ended by quorum.
    pub revoked: bool,
    issued: Bits,
    spoiled: Bits,
    /// Chip factors of the cards that have one: a card is one chip.
    chips: BTreeMap<u64, [u8; 8]>,
}

impl LicenceState {
    pub(super) fn new(licence: Licence) -> Self {
        let (issued, spoiled, chips) = (Bits::default(), Bits::default(), BTreeMap::new());
        Self { licence, revoked: false, issued, spoiled, chips }
    }

    /// Different cards so far.
    pub fn issued(&self) -> u64 {
        self.issued.count
    }

    /// Of these spoiled, and made good.
    pub fn spoiled(&self) -> u64 {
        self.spoiled.count
    }

    /// Whether this place of the range has been counted.
    pub fn has(&self, offset: u64) -> bool {
        self.issued.has(offset)
    }

    /// Different cards after these, if the licence has room for them.
    ///
    /// # Errors
    /// `CardRange`, `CardSpoiled`, `CardChip`, `LicenceUsedUp`.
    pub fn count_with(&self, cards: &[IssuedCard]) -> Result<u64, Refused> {
        let span = self.licence.span().unwrap_or_default();
        let mut fresh = BTreeSet::new();
        let mut named = BTreeSet::new();
        for card in cards {
            if card.offset >= span || !named.insert(card.offset) {
                return refuse(Refusal::CardRange, "a card is outside the licence's range, or named twice");
            }
            if self.spoiled.has(card.offset) {
                return refuse(
                    Refusal::CardSpoiled,
                    format!("card {} of the range was declared spoiled", card.offset),
                );
            }
            if !self.issued.has(card.offset) {
                fresh.insert(card.offset);
            } else if self.chips.get(&card.offset) != card.chip.as_ref() {
                let why = format!("card {} of the range came with another chip before", card.offset);
                return refuse(Refusal::CardChip, why);
            }
        }
        let issued = self.issued.count + fresh.len() as u64;
        if issued > self.licence.quantity + self.spoiled.count {
            let left = self.licence.quantity + self.spoiled.count - self.issued.count;
            let why = format!("the licence has {left} cards left; ask the officers for another one");
            return refuse(Refusal::LicenceUsedUp, why);
        }
        Ok(issued)
    }

    fn take(&mut self, cards: &[IssuedCard]) {
        for card in cards {
            self.issued.set(card.offset);
            if let Some(chip) = card.chip {
                self.chips.insert(card.offset, chip);
            }
        }
    }

    pub(super) fn spoil(&mut self, cards: &[CardSerial]) {
        for offset in cards.iter().filter_map(|card| self.licence.offset(card)) {
            self.spoiled.set(offset);
        }
    }
}

impl LogState {
    pub(super) fn check_licence(&self, licence: &Licence) -> Result<(), Refused> {
        let bad = |why: &str| refuse(Refusal::BadLicence, why);
        if self.licence(&licence.id).is_some() {
            return bad("a licence with this id exists");
        }
        if self.instance().is_none_or(|instance| instance.node != licence.node) {
            return bad("the licence is for another module");
        }
        let Some(transport) = self.key(&licence.transport) else {
            return bad("its transport key does not exist");
        };
        if transport.made.fingerprint != licence.fingerprint
            || !transport.made.attributes.usage.contains(&Usage::WrapKeys)
            || licence.transport.lineage.wall() != licence.applet
        {
            return bad(
                "its transport key has another fingerprint, is not for wrap-keys, or is of another wall",
            );
        }
        let Some((digest, profile)) = self.profile(&licence.applet) else {
            return bad("its applet has no profile");
        };
        let roles: BTreeSet<&str> = licence.roles.iter().map(String::as_str).collect();
        if *digest != licence.profile {
            return bad("its profile is not the one in force");
        }
        if roles.is_empty()
            || roles.len() != licence.roles.len()
            || !roles.iter().all(|role| profile.role(role).is_some())
        {
            return bad("it names no role, one twice, or one that the profile does not have");
        }
        let quantity = licence.span().is_some_and(|span| (1..=span).contains(&licence.quantity));
        if !quantity || !wire::purse::is_factor(licence.issuer) {
            return bad(
                "its range is none or wider than 2^24, its quantity does not fit, or its issuer is no factor",
            );
        }
        if licence.not_before >= licence.not_after || !(1..=LINE_MAX).contains(&licence.line.len()) {
            return bad("its window is empty, or its line has no name");
        }
        Ok(())
    }

    pub(super) fn check_spoilage(&self, spoilage: &Spoilage) -> Result<(), Refused> {
        let Some(known) = self.licence(&spoilage.licence) else {
            return refuse(Refusal::NoSuchLicence, "there is no such licence");
        };
        let offsets: BTreeSet<u64> = spoilage
            .cards
            .iter()
            .filter_map(|card| known.licence.offset(card))
            .filter(|offset| known.issued.has(*offset) && !known.spoiled.has(*offset))
            .collect();
        if (1..=SPOILAGE_MAX).contains(&offsets.len()) && offsets.len() == spoilage.cards.len() {
            Ok(())
        } else {
            let why = "spoilage names 1 to 1024 different cards that the licence has counted and nobody spoiled before";
            refuse(Refusal::CardRange, why)
        }
    }

    /// The licence, if this client may use it at `now`, Unix seconds.
    ///
    /// # Errors
    /// `NoSuchLicence`, `LicenceExpired`, `ProfileChanged`.
    pub fn usable_licence(
        &self,
        id: &wire::command::Id,
        client: &str,
        now: u64,
    ) -> Result<&LicenceState, Refused> {
        let known = self.licence(id).filter(|known| known.licence.line == client);
        let Some(known) = known else {
            return refuse(Refusal::NoSuchLicence, "there is no such licence for this line");
        };
        let window = known.licence.not_before..=known.licence.not_after;
        if known.revoked || !window.contains(&now.max(self.clock())) {
            return refuse(Refusal::LicenceExpired, "the licence was ended, or this is not its time");
        }
        match self.profile(&known.licence.applet) {
            Some((digest, _)) if *digest == known.licence.profile => Ok(known),
            _ => refuse(
                Refusal::ProfileChanged,
                "the applet's profile has changed since the grant; ask for a licence on the new one",
            ),
        }
    }

    pub(in super::super) fn issued(&mut self, event: &IssuedEvent, now: u64) -> Result<(), ReplayError> {
        let known = self
            .usable_licence(&event.licence, &event.client, now)
            .map_err(|refused| ReplayError(refused.message))?;
        let issued = known.count_with(&event.cards).map_err(|refused| ReplayError(refused.message))?;
        super::super::ensure(
            issued == event.issued,
            "the licence's count is not what its entries add up to",
        )?;
        let roles = &known.licence.roles;
        super::super::ensure(
            !event.roles.is_empty() && event.roles.iter().all(|role| roles.contains(role)),
            "a role left that the licence does not name",
        )?;
        if let Some(known) = self.grants.licences.get_mut(&event.licence) {
            known.take(&event.cards);
        }
        self.grants.link(b"issued", &event.to_cbor());
        Ok(())
    }
}

/// A set of places in a range, and how many.
#[derive(Clone, Debug, Default)]
struct Bits {
    words: Vec<u64>,
    count: u64,
}

impl Bits {
    fn place(offset: u64) -> (usize, u64) {
        (usize::try_from(offset / 64).unwrap_or(usize::MAX), 1 << (offset % 64))
    }

    fn has(&self, offset: u64) -> bool {
        let (word, bit) = Self::place(offset);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, offset: u64) {
        let (at, bit) = Self::place(offset);
        if self.words.len() <= at {
            // A range spans at most 2^24 places: 2 MiB.
            self.words.resize(at + 1, 0);
        }
        if let Some(word) = self.words.get_mut(at) {
            self.count += u64::from(*word & bit == 0);
            *word |= bit;
        }
    }
}
