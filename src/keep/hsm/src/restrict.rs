//! What the module refuses of a command beside the rules of the log: those are for ever, these are this release's.

use wire::command::Action;
use wire::error::{Refusal, Refused};
use wire::key::{FactorSource, KeyAttributes, Usage};
use wire::licence::Licence;
use wire::profile::{AppletProfile, MacLayout, ProfileRole};
use wire::purse::to_hex;

use crate::held::check_attributes;
use crate::module::Live;

impl Live {
    /// Judges what officers have approved, before it is carried out.
    ///
    /// # Errors
    /// `KeyAttributes`, `BadProfile`, `BadLicence`, `WeakTransport`, `CommandKind`.
    pub(crate) fn check_restrictions(&self, action: &Action) -> Result<(), Refused> {
        match action {
            Action::GenerateKey(key) => self.check_new_key(key),
            Action::ImportKey(import) => self.check_new_key(&import.attributes),
            Action::SetProfile(profile) => self.check_uses(profile).and_then(|()| check_places(profile)),
            Action::GrantLicence(licence) => {
                self.check_strength(licence, &licence.roles).and_then(|()| self.check_overlap(licence))
            }
            // Without an image of the state a module starts at entry 0, and so does every auditor.
            Action::Prune(_) => Err(Refused::new(
                Refusal::CommandKind,
                "this release needs the whole log to start; keep every file of it",
            )),
            _ => Ok(()),
        }
    }

    /// A new key: one thing only, and at peace with the keys that are there.
    ///
    /// # Errors
    /// `KeyAttributes`.
    pub(crate) fn check_new_key(&self, key: &KeyAttributes) -> Result<(), Refused> {
        check_attributes(key)?;
        let refuse = |why: String| Err(Refused::new(Refusal::KeyAttributes, why));
        let state = self.log.state();
        if key.usage.iter().any(|usage| *usage != Usage::DeriveCard)
            && let Some((_, profile)) = state.profile(key.lineage.wall())
            && let Some(control) = control_of(profile)
            && control.key.lineage == key.lineage
        {
            return refuse(format!(
                "{} is the control key of the {} profile: it is for derive-card alone",
                key.lineage, profile.applet
            ));
        }
        if key.usage.contains(&Usage::AuthorizeLoad) {
            if !names_the_card(&key.levels) {
                let why = "a ledger's token names the card's serial: a master that authorises loads derives with asn-right-8";
                return refuse(why.to_owned());
            }
            // A card's loads are remembered under the factors that its master uses. Two masters that use others would
            // know the same card by two names, and answer one counter twice.
            let other = state.keys().map(|(_, known)| &known.made.attributes).find(|known| {
                known.lineage.wall() == key.lineage.wall()
                    && known.usage.contains(&Usage::AuthorizeLoad)
                    && identity(known) != identity(key)
            });
            if let Some(other) = other {
                return refuse(format!(
                    "{} authorises loads of the same cards and tells them apart by other factors; give both the same levels",
                    other.id()
                ));
            }
        }
        Ok(())
    }

    /// A card key MACs one kind of message, and the module's calls under its master make that kind or none: the session of
    /// one layout must not be an oracle for another. A control master makes none at all: line protection of its own would
    /// be WRITE KEY under another header (cardcrypto's `script.rs`), and EXTERNAL AUTHENTICATE its cipher over chosen bytes.
    fn check_uses(&self, profile: &AppletProfile) -> Result<(), Refused> {
        let refuse = |why: String| Err(Refused::new(Refusal::BadProfile, why));
        for role in &profile.roles {
            let Some(key) = self.log.state().key(&role.key) else {
                continue;
            };
            let is_control = profile.control.as_ref() == Some(&role.role);
            for usage in key.made.attributes.usage.iter().filter(|usage| **usage != Usage::DeriveCard) {
                if is_control {
                    return refuse(format!(
                        "role {}: {} protects WRITE KEY and is for {usage} too; a control key is for derive-card alone",
                        role.role, role.key
                    ));
                }
                if !fits(role.mac, *usage) {
                    return refuse(format!(
                        "role {}: {} is for {usage}, which does not go with the MAC layout {}",
                        role.role, role.key, role.mac
                    ));
                }
            }
        }
        Ok(())
    }

    /// No card key leaves under a transport key that is weaker than it: who breaks that one has all cards of the line. Licences
    /// of before may name both; the module is asked again with every request, for the roles that it names.
    ///
    /// # Errors
    /// `WeakTransport`.
    pub(crate) fn check_strength(&self, licence: &Licence, roles: &[String]) -> Result<(), Refused> {
        let state = self.log.state();
        let known = state.key(&licence.transport).zip(state.profile(&licence.applet));
        let Some((transport, (_, profile))) = known else {
            return Ok(());
        };
        let algorithm = transport.made.attributes.algorithm;
        let weak = |role: &&ProfileRole| roles.contains(&role.role) && !algorithm.may_wrap(role.algorithm);
        match profile.roles.iter().find(weak) {
            None => Ok(()),
            Some(role) => Err(Refused::new(
                Refusal::WeakTransport,
                format!(
                    "{} is {algorithm}, which is weaker than the {} key of role {}; name 3des roles only, or take an aes transport key",
                    licence.transport, role.algorithm, role.role
                ),
            )),
        }
    }

    /// Two lines with one card between them: neither count would be wrong, and the card would exist twice.
    fn check_overlap(&self, licence: &Licence) -> Result<(), Refused> {
        let state = self.log.state();
        let now = self.log.now();
        let live = state.licences().find(|known| {
            let other = &known.licence;
            let current = state.profile(&other.applet).is_some_and(|(digest, _)| *digest == other.profile);
            !known.revoked
                && current
                && now <= other.not_after
                && (&other.applet, other.issuer) == (&licence.applet, licence.issuer)
                && other.first <= licence.last
                && licence.first <= other.last
        });
        match live {
            None => Ok(()),
            Some(known) => Err(Refused::new(
                Refusal::BadLicence,
                format!(
                    "licence {} of {} has card numbers of this range; revoke it, wait until it has ended, or take other numbers",
                    to_hex(&known.licence.id),
                    known.licence.line
                ),
            )),
        }
    }
}

/// No card loses a key while it is written.
///
/// # Errors
/// `BadProfile`.
pub(crate) fn check_places(profile: &AppletProfile) -> Result<(), Refused> {
    let Some([first, second]) = profile.shared_place() else {
        return Ok(());
    };
    Err(Refused::new(
        Refusal::BadProfile,
        format!(
            "{first} and {second} have one place on the card (p1, p2; id, version and type in the header), so the second key would \
             replace the first; have the officers set a profile in which one of them has another id"
        ),
    ))
}

fn control_of(profile: &AppletProfile) -> Option<&ProfileRole> {
    profile.control.as_ref().and_then(|control| profile.role(control))
}

/// Whether a card key is the card's whose serial a ledger's token names. Where it is not, one token would be good for every card
/// whose chip number somebody gives.
pub(crate) fn names_the_card(levels: &[FactorSource]) -> bool {
    levels.contains(&FactorSource::ASN_RIGHT8)
}

/// Which factors make two cards two: what [`Live::tag_of`] looks at.
fn identity(key: &KeyAttributes) -> [bool; 2] {
    [FactorSource::ISSUER_ID, FactorSource::ASN_RIGHT8].map(|source| key.levels.contains(&source))
}

/// Whether a call of this use makes MACs of this layout. The module has no call for purchase.
const fn fits(layout: MacLayout, usage: Usage) -> bool {
    matches!(
        (layout, usage),
        (MacLayout::Load, Usage::AuthorizeLoad)
            | (MacLayout::Tac, Usage::VerifyTac)
            | (MacLayout::LineProtection, Usage::IssueScript)
            | (MacLayout::Authentication, Usage::AnswerAuth)
            | (MacLayout::Pin, Usage::ReloadPin)
    )
}
