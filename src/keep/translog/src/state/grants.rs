//! What officers granted and what was made of it: profiles, licences with their counts, ledgers' token keys with what they
//! spent, cards' counters, blacklist epochs. The entries that use a grant are its count (service-protocol rule 3).

mod clients;
mod licences;
mod lists;
mod loads;

use std::collections::{BTreeMap, HashMap};

use wire::cbor::Cbor;
use wire::command::{Action, Digest, Id};
use wire::error::{Refusal, Refused};
use wire::key::Usage;
use wire::list::ApprovedList;
use wire::profile::AppletProfile;
use wire::witness::WitnessSet;

use super::{LogState, digest};

pub use clients::ClientState;
pub use licences::LicenceState;
pub use lists::ListState;
pub use loads::{CardMark, TokenState};

/// Grants and their counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Grants {
    profiles: BTreeMap<String, (Digest, AppletProfile)>,
    licences: BTreeMap<Id, LicenceState>,
    tokens: BTreeMap<String, TokenState>,
    cards: HashMap<[u8; 8], CardMark>,
    lists: BTreeMap<String, ListState>,
    approved: BTreeMap<String, ApprovedList>,
    clients: BTreeMap<Digest, ClientState>,
    pub(super) witnesses: Option<WitnessSet>,
    /// Entries below this may be gone.
    pub(super) pruned: u64,
    /// Over every grant and every use, in order. Zero until there is one, so that logs from before have the root they had.
    pub(super) chain: Digest,
    /// Latest wall clock of any entry, Unix seconds: a clock that is set back brings nothing back to life.
    pub(super) clock: u64,
}

impl Grants {
    fn link(&mut self, kind: &[u8], bytes: &[u8]) {
        self.chain = digest(&[kind, &self.chain, bytes]);
    }
}

pub(super) fn refuse<T>(code: Refusal, why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::new(code, why))
}

impl LogState {
    /// Latest wall clock of any entry, Unix seconds.
    pub fn clock(&self) -> u64 {
        self.grants.clock
    }

    /// An applet's profile in force, with its digest.
    pub fn profile(&self, applet: &str) -> Option<&(Digest, AppletProfile)> {
        self.grants.profiles.get(applet)
    }

    /// A licence and its count.
    pub fn licence(&self, id: &Id) -> Option<&LicenceState> {
        self.grants.licences.get(id)
    }

    /// All licences, by id.
    pub fn licences(&self) -> impl Iterator<Item = &LicenceState> {
        self.grants.licences.values()
    }

    /// A ledger's token key and what it spent.
    pub fn token(&self, name: &str) -> Option<&TokenState> {
        self.grants.tokens.get(name)
    }

    /// The newest blacklist of a wall.
    pub fn list(&self, wall: &str) -> Option<&ListState> {
        self.grants.lists.get(wall)
    }

    /// The newest load of a card, by its tag.
    pub fn card_mark(&self, tag: &[u8; 8]) -> Option<&CardMark> {
        self.grants.cards.get(tag)
    }

    /// Checks the actions that grant.
    pub(super) fn check_grant(&self, action: &Action) -> Result<(), Refused> {
        match action {
            Action::SetProfile(profile) => self.check_profile(profile),
            Action::GrantLicence(licence) => self.check_licence(licence),
            Action::RevokeLicence(named) => match self.grants.licences.get(&named.id) {
                Some(known) if !known.revoked => Ok(()),
                _ => refuse(Refusal::NoSuchLicence, "there is no such licence, or it was ended before"),
            },
            Action::Spoil(spoilage) => self.check_spoilage(spoilage),
            Action::EnrolToken(key) if !key.is_sound() => {
                refuse(Refusal::BadToken, "a token key needs a name, an applet and a daily value above zero")
            }
            Action::EnrolToken(key) if self.grants.tokens.contains_key(&key.name) => {
                refuse(Refusal::BadToken, format!("{} is or was enrolled; take another name", key.name))
            }
            Action::RevokeToken(token) => match self.grants.tokens.get(&token.name) {
                Some(known) if !known.ended => Ok(()),
                _ => refuse(Refusal::NoSuchToken, "there is no such token key, or it was ended before"),
            },
            Action::EnrolClient(client) => self.check_client(client),
            Action::EndClient(end) => self.check_end_of_client(end),
            Action::ApproveList(list) => {
                let next = self.list(&list.wall).map_or(0, |known| known.epoch) + 1;
                if list.epoch == next {
                    Ok(())
                } else {
                    refuse(Refusal::ListEpoch, format!("the next epoch of {} is {next}", list.wall))
                }
            }
            _ => Ok(()),
        }
    }

    fn check_profile(&self, profile: &AppletProfile) -> Result<(), Refused> {
        if !profile.is_sound() {
            let why =
                "the profile breaks its own rules: names, sizes, a role twice, a master of another wall";
            return refuse(Refusal::BadProfile, why);
        }
        if let Some((_, known)) = self.profile(&profile.applet)
            && profile.version <= known.version
        {
            let why = format!("version {} of this profile is in force; count up", known.version);
            return refuse(Refusal::BadProfile, why);
        }
        for role in &profile.roles {
            let Some(key) = self.key(&role.key) else {
                return refuse(
                    Refusal::NoSuchKey,
                    format!("role {}: there is no key {}", role.role, role.key),
                );
            };
            let known = &key.made.attributes;
            let fits = (known.algorithm, &known.levels, known.session)
                == (role.algorithm, &role.levels, role.session);
            if !fits || !known.usage.contains(&Usage::DeriveCard) {
                let why = format!(
                    "role {}: {} has another algorithm, levels or session rule, or is not for derive-card",
                    role.role, role.key
                );
                return refuse(Refusal::BadProfile, why);
            }
        }
        Ok(())
    }

    /// Takes an action that was checked.
    pub(super) fn grant(&mut self, action: &Action) {
        let bytes = action.to_cbor();
        let grants = &mut self.grants;
        match action {
            Action::SetProfile(profile) => {
                grants.profiles.insert(profile.applet.clone(), (profile.digest(), profile.clone()));
            }
            Action::GrantLicence(licence) => {
                grants.licences.insert(licence.id, LicenceState::new(licence.clone()));
            }
            Action::RevokeLicence(named) => {
                if let Some(known) = grants.licences.get_mut(&named.id) {
                    known.revoked = true;
                }
            }
            Action::Spoil(spoilage) => {
                if let Some(known) = grants.licences.get_mut(&spoilage.licence) {
                    known.spoil(&spoilage.cards);
                }
            }
            Action::EnrolToken(key) => {
                grants.tokens.insert(key.name.clone(), TokenState::new(key.clone()));
            }
            Action::RevokeToken(token) => {
                if let Some(known) = grants.tokens.get_mut(&token.name) {
                    known.ended = true;
                }
            }
            Action::EnrolClient(client) => {
                grants.clients.insert(client.key, ClientState::new(client.clone()));
            }
            Action::EndClient(end) => {
                if let Some(known) = grants.clients.get_mut(&end.key) {
                    known.ended = Some(end.reason.clone());
                }
            }
            Action::ApproveList(list) => {
                grants.approved.insert(list.wall.clone(), list.clone());
            }
            Action::SetWitnesses(set) => grants.witnesses = Some(set.clone()),
            Action::Prune(prune) => grants.pruned = prune.below,
            _ => return,
        }
        grants.link(b"grant", &bytes);
    }
}
