//! Calls that make something of value: card keys, signed lists, MAC2, card commands. Each checks, logs, and keeps its result
//! until keyd has made the entry durable (service-protocol rule 2); what may mint is authorised here (rule 4).

mod cards;
mod lists;
mod loads;
mod scripts;

use std::collections::BTreeMap;
use std::sync::Arc;

use cardcrypto::{CardKey, Factors, MasterKey};
use wire::cbor::Cbor;
use wire::error::{Refusal, Refused};
use wire::frame::{FRAME_MAX, LicenceInfo, LicenceQuery, Prepared};
use wire::key::{FactorSource, KeyId, KeyState, Usage};
use wire::licence::{CardSerial, card_factor};

use crate::held::Held;
use crate::log::Safe;
use crate::module::{Live, Module};

pub(crate) use lists::ListBuffer;

/// Bytes of results that wait to be fetched. A result that is dropped is lost without harm: the same request again has the
/// same answer and is not counted twice.
const PREPARED_BYTES_MAX: usize = 16 << 20;

/// Bytes of an answer around its result, with room to spare.
const ENVELOPE: usize = 16;

/// Results by ticket, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct PreparedResults {
    waiting: BTreeMap<u64, (usize, Prepared)>,
    bytes: usize,
}

impl PreparedResults {
    fn keep(&mut self, ticket: u64, size: usize, result: Prepared) {
        self.bytes += size;
        self.waiting.insert(ticket, (size, result));
        while self.bytes > PREPARED_BYTES_MAX && self.waiting.len() > 1 {
            if let Some((_, (size, _))) = self.waiting.pop_first() {
                self.bytes -= size;
            }
        }
    }

    fn take(&mut self, ticket: u64) -> Option<Prepared> {
        let (size, result) = self.waiting.remove(&ticket)?;
        self.bytes -= size;
        Some(result)
    }
}

impl Live {
    /// Gives a result out, once its entry is durable.
    pub(crate) fn fetch(&mut self, ticket: u64) -> Result<Prepared, Refused> {
        let unknown = || Refused::new(Refusal::UnknownTicket, "no result waits under this ticket; ask again");
        if !self.prepared.waiting.contains_key(&ticket) {
            return Err(unknown());
        }
        self.log.is_safe(ticket, Safe::Cosigned)?;
        self.prepared.take(ticket).ok_or_else(unknown)
    }

    pub(crate) fn licence_info(&self, query: &LicenceQuery) -> Result<LicenceInfo, Refused> {
        let known = self.log.state().licence(&query.licence);
        let Some(known) = known.filter(|known| known.licence.line == query.client) else {
            return Err(Refused::new(Refusal::NoSuchLicence, "there is no such licence for this line"));
        };
        let profile = self.log.state().profile(&known.licence.applet);
        Ok(LicenceInfo {
            licence: known.licence.to_cbor().into(),
            issued: known.issued(),
            spoiled: known.spoiled(),
            revoked: known.revoked,
            current: profile.is_some_and(|(digest, _)| *digest == known.licence.profile),
        })
    }

    /// An active key with this use. Another's, another use and none look alike.
    fn active(&self, id: &KeyId, usage: Usage) -> Result<Arc<Held>, Refused> {
        let known = self.log.state().key(id);
        let fits = known
            .is_some_and(|key| key.state == KeyState::Active && key.made.attributes.usage.contains(&usage));
        match self.keys.get(id).filter(|_| fits) {
            Some(held) => Ok(Arc::clone(held)),
            None => Err(no_such_key()),
        }
    }

    /// The card's tag as its key sees it: factors that the key does not derive with make no other card.
    fn tag_of(&self, id: &KeyId, master: &MasterKey, factors: &Factors) -> [u8; 8] {
        let uses = |source: &FactorSource| master.levels().contains(source);
        let issuer = if uses(&FactorSource::ISSUER_ID) { factors.issuer } else { [0; 8] };
        let card =
            if uses(&FactorSource::ASN_RIGHT8) { factors.card } else { factors.chip.unwrap_or_default() };
        self.root.card_tag(id.lineage.wall(), &issuer, &card)
    }
}

impl Module {
    /// Makes an entry for a result and keeps the result under it. A result that no frame holds is refused before it counts.
    fn prepare(
        &self,
        live: &mut Live,
        event: translog::entry::Event,
        result: Prepared,
    ) -> Result<u64, Refused> {
        let size = result.to_cbor().len();
        if size + ENVELOPE > FRAME_MAX {
            let why = "the answer would be longer than 1 MiB; ask for fewer cards or roles at once";
            return Err(Refused::new(Refusal::TooLarge, why));
        }
        let ticket = live.log.make(&self.random, event, None)?;
        live.prepared.keep(ticket, size, result);
        Ok(ticket)
    }
}

fn no_such_key() -> Refused {
    Refused::new(Refusal::NoSuchKey, "there is no active key of this name for this use")
}

/// A card as keys are derived for it.
fn factors(issuer: [u8; 8], serial: &CardSerial, chip: Option<[u8; 8]>) -> Factors {
    Factors { issuer, card: card_factor(serial), chip }
}

fn card_key(master: &MasterKey, factors: &Factors) -> Result<CardKey, Refused> {
    master.card_key(factors).map_err(|error| Refused::new(Refusal::CardRange, format!("{error}")))
}
