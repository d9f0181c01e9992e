//! Quorum commands on the living instance: keys are made, imported, activated, suspended; officers, policy, limits change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use securemem::Secret;
use sha2::{Digest as _, Sha256};
use translog::entry::{ClosedEvent, CommandEvent, ComponentEvent, Event, IntentEvent, KeyMade};
use wire::cbor::{Bytes, Cbor};
use wire::command::{Action, Command, ComponentSpec, Digest, ImportKey, SignedCommand, component_commitment};
use wire::error::{Refusal, Refused};
use wire::frame::{CommandDone, Purpose, SealedComponent, component_context};
use wire::key::{Algorithm, KeyAttributes};
use wire::purse::to_hex;

use crate::held::{Held, key_len};
use crate::log::Safe;
use crate::module::{Live, Module, progress, stored};
use crate::root::{KEY_LEN, full, no_memory, record_digest};
use crate::signer::Signer;

/// Imports that wait for their components.
const IMPORTS_MAX: usize = 8;

/// How far a command came at once.
enum Begun {
    Done(CommandDone),
    /// Its intent's index, and how safe that must be.
    Announced(u64, Safe),
}

/// An approved import and the components that are there.
#[derive(Debug)]
pub(crate) struct Import {
    signed: Vec<u8>,
    spec: ImportKey,
    components: BTreeMap<String, Secret>,
}

/// Where a command comes in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Door {
    /// Relayed by keyd, which may bring what it likes.
    Keyd,
    /// The officers' own socket.
    Officers,
}

impl Module {
    /// Carries out a signed command, or starts an import, in two steps: an intent is logged and safe before anything is done
    /// about the command, and its entry or a closed intent is the outcome (translog's SPEC.md §State, Intents).
    pub(crate) fn command(
        &self,
        bytes: &[u8],
        door: Door,
        deadline: Instant,
    ) -> Result<CommandDone, Refused> {
        let signed = SignedCommand::from_cbor(bytes).map_err(|error| {
            Refused::new(Refusal::BadCommand, format!("the signed command is not canonical: {error}"))
        })?;
        let begun = self.live_unseen(|live| {
            let command = check(live, &signed, door)?;
            // Whoever wipes a module is in a hurry, and keyd or the witnesses may be what he runs from: one step.
            if matches!(command.action, Action::Zeroise(_)) {
                return self.carry_out(live, command, bytes).map(Begun::Done);
            }
            self.announce(live, &command, bytes)
        })?;
        let (intent, safe) = match begun {
            Begun::Done(done) => return Ok(done),
            Begun::Announced(intent, safe) => (intent, safe),
        };
        self.wait(intent, safe, deadline).map_err(|refused| Refused {
            message: format!("nothing is done yet: {}; submit the command again", refused.message),
            ..refused
        })?;
        self.live_unseen(|live| {
            if !live.log.state().intents().any(|(index, _)| index == intent) {
                let why =
                    "it was submitted with other approvals meanwhile, or carried out: look into the log";
                return Err(Refused::new(Refusal::CommandUsed, why));
            }
            // Time has passed: the window, the officer set and the state of things are looked at again.
            let done = check(live, &signed, door).and_then(|command| self.carry_out(live, command, bytes));
            if let Err(refused) = &done {
                self.close_intent(live, intent, refused.code)?;
            }
            done
        })
    }

    /// Logs the intent, or finds it: a command that is submitted again goes on where it was. With other approvals it begins
    /// anew, or whoever relays it could lay an intent across it that nobody else has the bytes of.
    fn announce(&self, live: &mut Live, command: &Command, bytes: &[u8]) -> Result<Begun, Refused> {
        // Witnesses that are to be replaced are not asked.
        let safe =
            if matches!(command.action, Action::SetWitnesses(_)) { Safe::Durable } else { Safe::Cosigned };
        let digest: Digest = Sha256::digest(bytes).into();
        let open = live.log.state().intents().find(|(_, open)| !open.orphan && open.command == command.id);
        if let Some((index, known)) = open.map(|(index, open)| (index, open.digest)) {
            if known == digest {
                return Ok(Begun::Announced(index, safe));
            }
            if live.imports.contains_key(&command.id) {
                let why = "this import is under way, with other approvals: enter its components";
                return Err(Refused::new(Refusal::CommandUsed, why));
            }
            live.log.room()?;
            self.close_intent(live, index, Refusal::CommandUsed)?;
        }
        live.log.room()?;
        let event = IntentEvent { command: command.id, digest, action: command.action.tag() };
        Ok(Begun::Announced(live.log.make(&self.random, Event::Intent(event), None)?, safe))
    }

    fn carry_out(&self, live: &mut Live, command: Command, bytes: &[u8]) -> Result<CommandDone, Refused> {
        // keyd can fill the queue; that must not keep a module from being wiped.
        if !matches!(command.action, Action::Zeroise(_)) {
            live.log.room()?;
        }
        live.check_restrictions(&command.action)?;
        match command.action {
            Action::ImportKey(spec) => live.start_import(command.id, bytes, spec),
            Action::GenerateKey(attributes) => self.generate(live, bytes, attributes),
            Action::ResetBudget(reset) => {
                let card = reset.card.map(|card| live.root.card_tag(&card.wall, &card.issuer, &card.card));
                live.log_command(self, bytes, card)
            }
            Action::Zeroise(_) => {
                let done = live.log_command(self, bytes, None)?;
                live.wipe();
                Ok(done)
            }
            _ => live.log_command(self, bytes, None),
        }
    }

    /// The command was refused after its intent, unless somebody else has carried it out meanwhile.
    fn close_intent(&self, live: &mut Live, intent: u64, code: Refusal) -> Result<(), Refused> {
        if live.log.state().intents().all(|(index, _)| index != intent) {
            return Ok(());
        }
        let event = ClosedEvent { intent, reason: code.code() };
        live.log.make(&self.random, Event::Closed(event), None).map(drop)
    }

    fn generate(
        &self,
        live: &mut Live,
        signed: &[u8],
        attributes: KeyAttributes,
    ) -> Result<CommandDone, Refused> {
        let algorithm = attributes.algorithm;
        let key = if algorithm.signs() {
            Signer::generate(&self.arena, &self.random, algorithm)?
        } else {
            let drawn = self.arena.alloc(KEY_LEN, |bytes| self.random.fill(bytes));
            drawn.map_err(no_memory)?
        };
        let kcv = match algorithm {
            Algorithm::P256 | Algorithm::Sm2 => Signer::kcv_of(&key, algorithm)?,
            _ => kcv(algorithm, &key),
        };
        self.make_key(live, signed, KeyAttributes { kcv, ..attributes }, key)
    }

    /// Seals a key, hands the record to keyd, logs it; only then is it usable.
    fn make_key(
        &self,
        live: &mut Live,
        signed: &[u8],
        attributes: KeyAttributes,
        key: Secret,
    ) -> Result<CommandDone, Refused> {
        refuse_weak(attributes.algorithm, &key)?;
        let fingerprint = key.with(|key| live.root.fingerprint(key));
        if live.log.state().has_fingerprint(&fingerprint) {
            return Err(Refused::new(
                Refusal::KeyReused,
                "these key bytes are in use under another name: every role and algorithm has its own key",
            ));
        }
        let sequence = live.log.state().next_sequence();
        let record = live.root.seal(&self.arena, &self.random, &attributes, sequence, &key)?;
        let (id, kcv, digest) = (attributes.id(), attributes.kcv, record_digest(&record));
        let held = Held::new(key, &attributes)?;
        let public = held.public().map(|point| Bytes(point.to_vec()));
        let made = KeyMade { attributes, sequence, digest, fingerprint, public };
        let event = CommandEvent { command: Bytes(signed.to_vec()), made: Some(made), card: None };
        let index = live.log.make(&self.random, Event::Command(event), Some(stored(&id, record)))?;
        live.keys.insert(id, Arc::new(held));
        Ok(CommandDone { index: Some(index), kcv: Some(kcv), components: None })
    }

    /// One custodian enters his component.
    pub(crate) fn component(&self, part: &SealedComponent) -> Result<CommandDone, Refused> {
        let mut inner = self.lock();
        let crate::module::Phase::Operational(_) = &inner.phase else {
            return Err(crate::module::wrong_state(inner.state(&self.random)));
        };
        let context = component_context(&self.boot, &part.command, &part.custodian);
        let opened = self.open_box(&inner.one_time, Purpose::Component, &context, &part.sealed, KEY_LEN);
        let crate::module::Phase::Operational(live) = &mut inner.phase else {
            return Err(crate::module::wrong_state(wire::frame::ModuleState::Fault));
        };
        let outcome = live.log.begun().and_then(|()| self.take_component(live, part, opened));
        if live.imports.is_empty() {
            inner.one_time.forget(Purpose::Component);
        }
        drop(inner);
        self.notify();
        outcome
    }

    fn take_component(
        &self,
        live: &mut Live,
        part: &SealedComponent,
        opened: Result<Secret, Refused>,
    ) -> Result<CommandDone, Refused> {
        live.log.room()?;
        let Some(import) = live.imports.get_mut(&part.command) else {
            return Err(Refused::new(
                Refusal::ComponentForeign,
                "no import waits for this component; submit its command",
            ));
        };
        let accepted = opened.and_then(|secret| {
            let instance = live.log.state().instance().map(|known| known.instance).unwrap_or_default();
            check_component(import, &part.custodian, &instance, &secret)?;
            import.components.insert(part.custodian.clone(), secret);
            Ok(())
        });
        let refused = accepted.as_ref().err().map(|refused| refused.code);
        let (need, have) = (import.spec.components.len() as u64, import.components.len());
        let event = ComponentEvent { command: part.command, custodian: part.custodian.clone(), refused };
        live.log.make(&self.random, Event::Component(event), None)?;
        accepted?;
        if (have as u64) < need {
            return Ok(CommandDone { index: None, kcv: None, components: Some(progress(have, need)) });
        }
        let Some(import) = live.imports.remove(&part.command) else {
            return Err(Refused::new(
                Refusal::ComponentForeign,
                "the import is gone; submit its command again",
            ));
        };
        let done = self.finish_import(live, import);
        if let Err(refused) = &done {
            let open =
                live.log.state().intents().find(|(_, open)| !open.orphan && open.command == part.command);
            if let Some((intent, _)) = open {
                self.close_intent(live, intent, refused.code)?;
            }
        }
        done
    }

    fn finish_import(&self, live: &mut Live, import: Import) -> Result<CommandDone, Refused> {
        // Time has passed since the approvals: the window, the officer set and the version are looked at again.
        let signed = SignedCommand::from_cbor(&import.signed).map_err(|_| {
            Refused::new(Refusal::BadCommand, "the import's command is gone; submit it again")
        })?;
        let command = check(live, &signed, Door::Officers)?;
        live.check_restrictions(&command.action)?;
        let mut key = self.arena.zeroed(KEY_LEN).map_err(full)?;
        for component in import.components.values() {
            component
                .with(|part| key.with_mut(|key| key.iter_mut().zip(part).for_each(|(to, from)| *to ^= from)));
        }
        let attributes = import.spec.attributes;
        let found = kcv(attributes.algorithm, &key);
        if found != attributes.kcv {
            let (id, named, found) = (attributes.id(), to_hex(&attributes.kcv), to_hex(&found));
            return Err(Refused::new(
                Refusal::KeyKcv,
                format!(
                    "{id}: the components give a key with check value {found}, the command names {named}; every \
                         component was good, so the command is wrong"
                ),
            ));
        }
        self.make_key(live, &import.signed, attributes, key)
    }
}

/// A command that the officers approved and that is possible now.
fn check(live: &Live, signed: &SignedCommand, door: Door) -> Result<Command, Refused> {
    let officers = live.log.state().instance().map(|known| &known.officers);
    let command = wire::quorum::check(signed, officers)?;
    live.log.state().check_command(&command)?;
    match command.action {
        Action::Genesis(_) | Action::Floor(_) => Err(Refused::new(
            Refusal::CommandKind,
            "genesis and floor have their own place on the officers' socket",
        )),
        Action::Zeroise(_) => Ok(command),
        // A set of witnesses that is dead must not hold the instance for ever. keyd may have this command from another history than
        // the one it serves, so that officers bring it themselves.
        Action::SetWitnesses(_) if door == Door::Officers => Ok(command),
        _ => live.log.begun().map(|()| command),
    }
}

impl Live {
    fn log_command(
        &mut self,
        module: &Module,
        signed: &[u8],
        card: Option<[u8; 8]>,
    ) -> Result<CommandDone, Refused> {
        let event = CommandEvent { command: Bytes(signed.to_vec()), made: None, card };
        let index = self.log.make(&module.random, Event::Command(event), None)?;
        Ok(CommandDone { index: Some(index), kcv: None, components: None })
    }

    fn start_import(&mut self, id: [u8; 16], signed: &[u8], spec: ImportKey) -> Result<CommandDone, Refused> {
        if key_len(spec.attributes.algorithm) != KEY_LEN {
            return Err(Refused::new(
                Refusal::KeyAttributes,
                "signing keys are made inside the module and never imported; generate one",
            ));
        }
        if self.imports.len() >= IMPORTS_MAX && !self.imports.contains_key(&id) {
            return Err(Refused::new(
                Refusal::Busy,
                "too many imports wait for components; finish or abort one first",
            ));
        }
        let need = spec.components.len() as u64;
        let import = self.imports.entry(id).or_insert_with(|| Import {
            signed: signed.to_vec(),
            spec,
            components: BTreeMap::new(),
        });
        let components = Some(progress(import.components.len(), need));
        Ok(CommandDone { index: None, kcv: None, components })
    }
}

/// A component is what its custodian committed to, and has its check value.
fn check_component(
    import: &Import,
    custodian: &str,
    instance: &[u8; 16],
    part: &Secret,
) -> Result<(), Refused> {
    let key = &import.spec.attributes;
    let spec: &ComponentSpec =
        import.spec.components.iter().find(|spec| spec.custodian == custodian).ok_or_else(|| {
            Refused::new(Refusal::ComponentForeign, format!("the import asks nothing of {custodian}"))
        })?;
    if import.components.contains_key(custodian) {
        return Err(Refused::new(
            Refusal::ComponentTwice,
            format!("{custodian}'s component is there already"),
        ));
    }
    if kcv(key.algorithm, part) != spec.kcv {
        return Err(Refused::new(
            Refusal::ComponentKcv,
            format!(
                "{custodian}'s component of {} version {} does not have the check value {}; read it again",
                key.lineage,
                key.version,
                to_hex(&spec.kcv)
            ),
        ));
    }
    let commitment = part.with(|part| component_commitment(instance, &key.id(), custodian, part));
    if commitment != spec.commitment {
        return Err(Refused::new(
            Refusal::ComponentCommitment,
            format!(
                "{custodian}'s component of {} version {} is not the one that was committed to before the approval",
                key.lineage, key.version
            ),
        ));
    }
    Ok(())
}

/// No strength: 3DES with equal halves is single DES and folds to a zero TAC key; all bytes alike is nobody's random.
fn refuse_weak(algorithm: Algorithm, key: &Secret) -> Result<(), Refused> {
    let weak = key.with(|key| {
        let (left, right) = key.split_at(key.len() / 2);
        // Parity bits do not count for DES.
        let halves = left.iter().zip(right).all(|(left, right)| (left ^ right) & 0xfe == 0);
        let alike = key.iter().all(|byte| Some(byte) == key.first());
        alike || (algorithm == Algorithm::Tdes && halves)
    });
    if weak {
        Err(Refused::new(
            Refusal::WeakKey,
            "the key has no strength (equal halves, or all bytes alike); make another",
        ))
    } else {
        Ok(())
    }
}

fn kcv(algorithm: Algorithm, key: &Secret) -> [u8; 3] {
    key.with(|key| key.first_chunk().map(|key| cardcrypto::kcv(algorithm, key))).unwrap_or_default()
}
