//! Card keys under a licence. The entry that names the cards is the count: it is made before anything leaves, and a card
//! that it has named before is not counted again.

use std::collections::BTreeSet;
use std::sync::Arc;

use cardcrypto::{BlockHeader, CardKey, TransportKey, WriteStyle, write_key};
use sha2::{Digest as _, Sha256};
use translog::entry::{Event, IssuedCard, IssuedEvent};
use wire::cbor::{Bytes, Cbor};
use wire::command::{Digest, Id};
use wire::error::{Refusal, Refused};
use wire::frame::{
    CARDS_MAX, CardItem, CardKeyBlock, CardKeySet, CardKeySets, CardKeys, CardRole, KeyForm, Prepared,
};
use wire::key::Usage;
use wire::licence::{KeyBlockHeader, Licence, SealedKeyBlock};
use wire::profile::ProfileRole;
use wire::purse::to_hex;

use super::{card_key, factors};
use crate::held::Held;
use crate::module::{Live, Module};
use crate::random::Random;
use crate::restrict::check_places;

/// What a request needs, looked up under the lock.
struct Plan {
    instance: Id,
    licence: Licence,
    transport: Arc<Held>,
    roles: Vec<(ProfileRole, Arc<Held>)>,
    control: Option<Arc<Held>>,
    named: Vec<IssuedCard>,
}

impl Module {
    /// Derives the key sets, logs them, and keeps them until they may go.
    pub(crate) fn card_keys(&self, request: &CardKeys) -> Result<u64, Refused> {
        let plan = self.live(|live| live.plan(request))?;
        // No lock is held while keys are derived: a line's hundred cards do not hold up the buses' TACs.
        let (cards, digest) = plan.derive(&self.random, request)?;
        self.live(|live| {
            // The licence and its keys are looked at once more: they may have ended meanwhile.
            let again = live.plan(request)?;
            let known = live.log.state().usable_licence(&request.licence, &request.client, live.log.now())?;
            let issued = known.count_with(&plan.named)?;
            let names = again.roles.iter().map(|(role, _)| role.role.clone()).collect();
            let event = IssuedEvent {
                licence: request.licence,
                client: request.client.clone(),
                form: request.form,
                roles: names,
                cards: plan.named.clone(),
                issued,
                digest,
            };
            let roles = plan.roles.iter().map(|(role, _)| CardRole {
                role: role.role.clone(),
                key: role.key.clone(),
                algorithm: role.algorithm,
                index: role.index,
            });
            let (licence, form, roles) = (request.licence, request.form, roles.collect());
            let sets = CardKeySets { licence, form, roles, cards, issued, digest };
            self.prepare(live, Event::Issued(event), Prepared::CardKeys(sets))
        })
    }
}

impl Live {
    fn plan(&self, request: &CardKeys) -> Result<Plan, Refused> {
        self.log.room()?;
        let state = self.log.state();
        let known = state.usable_licence(&request.licence, &request.client, self.log.now())?;
        let licence = known.licence.clone();
        let Some((_, profile)) = state.profile(&licence.applet) else {
            return Err(Refused::new(Refusal::ProfileChanged, "the applet has no profile"));
        };
        let roles = self.roles(request, &licence, |name| profile.role(name))?;
        let named = named(request, &licence, profile.needs_chip())?;
        known.count_with(&named)?;
        let transport = self.active(&licence.transport, Usage::WrapKeys).map_err(|_| {
            Refused::new(Refusal::TransportKey, "the licence's transport key is not active; ask the officers")
        })?;
        let fingerprint = state.key(&licence.transport).map(|key| key.made.fingerprint);
        if fingerprint != Some(licence.fingerprint) {
            return Err(Refused::new(Refusal::TransportKey, "the transport key is not the licence's"));
        }
        // WRITE KEY commands are under the card's own control key.
        if request.form != KeyForm::WriteKey {
            let wanted: Vec<String> = roles.iter().map(|(role, _)| role.role.clone()).collect();
            self.check_strength(&licence, &wanted)?;
        }
        let control = match (request.form, &profile.control) {
            (KeyForm::WriteKey, Some(control)) => {
                let role = profile.role(control).ok_or_else(super::no_such_key)?;
                // A profile from before these rules may say otherwise; see `restrict.rs`.
                check_places(profile)?;
                let uses = state.key(&role.key).map(|known| known.made.attributes.usage.as_slice());
                if uses != Some(&[Usage::DeriveCard]) {
                    let why = format!(
                        "{} has other uses, so that it must not protect WRITE KEY; have the officers set a profile with a control \
                         key of its own",
                        role.key
                    );
                    return Err(Refused::new(Refusal::BadProfile, why));
                }
                Some(self.active(&role.key, Usage::DeriveCard)?)
            }
            (KeyForm::WriteKey, None) => {
                return Err(Refused::new(
                    Refusal::BadScript,
                    "this profile has no control key; take another form",
                ));
            }
            _ => None,
        };
        let instance = state.instance().map(|known| known.instance).unwrap_or_default();
        Ok(Plan { instance, licence, transport, roles, control, named })
    }

    fn roles<'a>(
        &self,
        request: &CardKeys,
        licence: &Licence,
        find: impl Fn(&str) -> Option<&'a ProfileRole>,
    ) -> Result<Vec<(ProfileRole, Arc<Held>)>, Refused> {
        let wanted = if request.roles.is_empty() { &licence.roles } else { &request.roles };
        let distinct: BTreeSet<&String> = wanted.iter().collect();
        if distinct.len() != wanted.len() {
            return Err(Refused::new(Refusal::BadLicence, "a role is named twice"));
        }
        if request.form == KeyForm::WriteKey && wanted.len() != 1 {
            let why = "a card gives a challenge for one command: name one role for write-key";
            return Err(Refused::new(Refusal::BadScript, why));
        }
        let held = |name: &String| {
            let role = find(name).filter(|_| licence.roles.contains(name));
            let Some(role) = role else {
                let why = format!("the licence has no role {name}");
                return Err(Refused::new(Refusal::BadLicence, why));
            };
            Ok((role.clone(), self.active(&role.key, Usage::DeriveCard)?))
        };
        wanted.iter().map(held).collect()
    }
}

/// The request's cards by their place in the licence's range.
fn named(request: &CardKeys, licence: &Licence, chip: bool) -> Result<Vec<IssuedCard>, Refused> {
    if !(1..=CARDS_MAX).contains(&request.cards.len()) {
        return Err(Refused::new(Refusal::TooLarge, "a request names 1 to 128 cards; split it"));
    }
    let place = |card: &CardItem| {
        let Some(offset) = licence.offset(&card.serial) else {
            let why = format!("card {} is outside the licence's range", to_hex(&card.serial));
            return Err(Refused::new(Refusal::CardRange, why));
        };
        if card.chip.is_some() != chip {
            let why = "the profile derives with the chip's factor exactly if the request has one";
            return Err(Refused::new(Refusal::CardChip, why));
        }
        if card.challenge.is_some() != (request.form == KeyForm::WriteKey) {
            return Err(Refused::new(
                Refusal::BadScript,
                "a challenge goes with write-key, and only with it",
            ));
        }
        Ok(IssuedCard { offset, chip: card.chip })
    };
    request.cards.iter().map(place).collect()
}

impl Plan {
    fn derive(&self, random: &Random, request: &CardKeys) -> Result<(Vec<CardKeySet>, Digest), Refused> {
        let mut hash = Sha256::new();
        let mut sets = Vec::with_capacity(request.cards.len());
        for card in &request.cards {
            let factors = factors(self.licence.issuer, &card.serial, card.chip);
            hash.update(card.serial);
            let mut keys = Vec::with_capacity(self.roles.len());
            for (role, held) in &self.roles {
                let master = held.master().ok_or_else(super::no_such_key)?;
                let key = card_key(master, &factors)?;
                let kcv = key.kcv();
                hash.update(kcv);
                let block = self.wrap(random, request.form, card, role, &key)?;
                keys.push(CardKeyBlock { kcv, block: Bytes(block) });
            }
            sets.push(CardKeySet { serial: card.serial, keys });
        }
        Ok((sets, hash.finalize().into()))
    }

    fn wrap(
        &self,
        random: &Random,
        form: KeyForm,
        card: &CardItem,
        role: &ProfileRole,
        key: &CardKey,
    ) -> Result<Vec<u8>, Refused> {
        let failed = |error: &dyn std::fmt::Display| Refused::new(Refusal::Fault, error.to_string());
        let mut fill = |bytes: &mut [u8]| random.fill(bytes);
        match form {
            KeyForm::Sealed => {
                let header = KeyBlockHeader {
                    format: 1,
                    instance: self.instance,
                    licence: self.licence.id,
                    transport: self.licence.transport.clone(),
                    serial: card.serial,
                    role: role.role.clone(),
                    key: role.key.clone(),
                    algorithm: role.algorithm,
                    index: role.index,
                    kcv: key.kcv(),
                };
                let header = header.to_cbor();
                let sealed = self
                    .transport()?
                    .sealed_block(&header, key, &mut fill)
                    .map_err(|error| failed(&error))?;
                Ok(SealedKeyBlock { header: Bytes(header), sealed: Bytes(sealed) }.to_cbor())
            }
            KeyForm::Tr31 => {
                let licence = to_hex(&self.licence.id);
                let label = format!("{}/{}/{licence}", to_hex(&card.serial), role.role);
                let bad = || Refused::new(Refusal::BadProfile, "the role's TR-31 usage or mode is none");
                let usage = role.block_usage.as_bytes().try_into().map_err(|_| bad())?;
                let mode = *role.block_mode.as_bytes().first().ok_or_else(bad)?;
                let header = BlockHeader { usage, mode, version: role.key.version.0, label };
                let block =
                    self.transport()?.tr31(&header, key, &mut fill).map_err(|error| failed(&error))?;
                Ok(block.into_bytes())
            }
            KeyForm::WriteKey => {
                let (Some(control), Some(challenge)) = (&self.control, card.challenge) else {
                    return Err(super::no_such_key());
                };
                let master = control.master().ok_or_else(super::no_such_key)?;
                let factors = factors(self.licence.issuer, &card.serial, card.chip);
                let control = card_key(master, &factors)?;
                let byte = |value: u64| u8::try_from(value).unwrap_or_default();
                let style = WriteStyle { p1: byte(role.p1), p2: byte(role.p2) };
                write_key(&control, style, &role.header, key, challenge).map_err(|error| failed(&error))
            }
        }
    }

    fn transport(&self) -> Result<&TransportKey, Refused> {
        match &*self.transport {
            Held::Transport(key) => Ok(key),
            _ => Err(Refused::new(Refusal::TransportKey, "the licence's transport key wraps nothing")),
        }
    }
}
