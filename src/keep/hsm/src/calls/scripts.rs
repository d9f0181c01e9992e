//! Commands and answers for one card, each from typed fields: the module builds every byte that it MACs (service-protocol
//! rule 5).

use cardcrypto::Script as CardScript;
use translog::entry::{Event, ScriptEvent, ScriptKind};
use wire::cbor::Bytes;
use wire::error::{Refusal, Refused};
use wire::frame::{Authenticate, CardTarget, Prepared, Script, ScriptAction};
use wire::key::Usage;

use super::{factors, no_such_key};
use crate::module::{Live, Module};

/// PIN bytes of RELOAD PIN (card-crypto E.3): 2 to 6, BCD and filling.
const PIN_LEN: std::ops::RangeInclusive<usize> = 2..=6;

impl Module {
    /// Makes a whole command APDU.
    pub(crate) fn script(&self, request: &Script) -> Result<u64, Refused> {
        let (usage, kind) = kind(&request.action);
        self.for_card(&request.target, usage, kind, |key| {
            let refused = |error: &dyn std::fmt::Display| Refused::new(Refusal::BadScript, error.to_string());
            let apdu = match &request.action {
                ScriptAction::ReloadPin(pin) if !PIN_LEN.contains(&pin.len()) => {
                    return Err(Refused::new(Refusal::BadScript, "a PIN has 2 to 6 bytes"));
                }
                ScriptAction::ReloadPin(pin) => key.reload_pin(pin).map_err(|error| refused(&error))?,
                action => key.script(request.challenge, &script(action)?).map_err(|error| refused(&error))?,
            };
            Ok(Prepared::Script(Bytes(apdu)))
        })
    }

    /// Answers a card's challenge.
    pub(crate) fn authenticate(&self, request: &Authenticate) -> Result<u64, Refused> {
        self.for_card(&request.target, Usage::AnswerAuth, ScriptKind::Authenticate, |key| {
            Ok(Prepared::Authenticate(key.authenticate(request.challenge)))
        })
    }

    fn for_card(
        &self,
        target: &CardTarget,
        usage: Usage,
        kind: ScriptKind,
        make: impl FnOnce(&cardcrypto::CardKey) -> Result<Prepared, Refused>,
    ) -> Result<u64, Refused> {
        self.live(|live: &mut Live| {
            live.log.room()?;
            let held = live.active(&target.key, usage)?;
            let master = held.master().ok_or_else(no_such_key)?;
            let factors = factors(target.issuer, &target.serial, target.chip);
            let key = super::card_key(master, &factors)?;
            let card = live.tag_of(&target.key, master, &factors);
            let result = make(&key)?;
            let event = ScriptEvent { client: target.client.clone(), key: target.key.clone(), card, kind };
            self.prepare(live, Event::Script(event), result)
        })
    }
}

const fn kind(action: &ScriptAction) -> (Usage, ScriptKind) {
    match action {
        ScriptAction::UpdateBinary(_) => (Usage::IssueScript, ScriptKind::UpdateBinary),
        ScriptAction::UpdateRecord(_) => (Usage::IssueScript, ScriptKind::UpdateRecord),
        ScriptAction::BlockApplication(_) => (Usage::IssueScript, ScriptKind::BlockApplication),
        ScriptAction::UnblockApplication(_) => (Usage::IssueScript, ScriptKind::UnblockApplication),
        ScriptAction::BlockCard(_) => (Usage::IssueScript, ScriptKind::BlockCard),
        ScriptAction::ReloadPin(_) => (Usage::ReloadPin, ScriptKind::ReloadPin),
    }
}

fn script(action: &ScriptAction) -> Result<CardScript, Refused> {
    let byte = |value: u64| {
        u8::try_from(value)
            .map_err(|_| Refused::new(Refusal::BadScript, "file id, offset and record are one byte"))
    };
    Ok(match action {
        ScriptAction::UpdateBinary(update) => CardScript::UpdateBinary {
            sfi: byte(update.sfi)?,
            offset: byte(update.offset)?,
            data: update.data.0.clone(),
        },
        ScriptAction::UpdateRecord(update) => CardScript::UpdateRecord {
            sfi: byte(update.sfi)?,
            record: byte(update.record)?,
            data: update.data.0.clone(),
        },
        ScriptAction::BlockApplication(_) => CardScript::BlockApplication,
        ScriptAction::UnblockApplication(_) => CardScript::UnblockApplication,
        ScriptAction::BlockCard(_) => CardScript::BlockCard,
        ScriptAction::ReloadPin(_) => {
            return Err(Refused::new(Refusal::BadScript, "a PIN is reloaded under its own key"));
        }
    })
}
