//! Taking an entry into the state: every check comes before the first change.

use wire::cbor::Cbor;
use wire::command::{Action, Command, SignedCommand};
use wire::key::KeyState;

use super::{DEFAULT_LIMITS, Instance, KeyEntry, LogState, ReplayError, bad, ensure};
use crate::entry::{BootEvent, CommandEvent, Entry, Event, GenesisEvent, PAIR_LEN, WrongPairs};
use crate::note::is_key_name;

impl LogState {
    pub(super) fn take(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        ensure(
            self.instance.is_some() || matches!(entry.event, Event::Genesis(_)),
            "the first entry of a log is its genesis",
        )?;
        let starts = matches!(entry.event, Event::Genesis(_) | Event::Boot(_));
        if starts {
            ensure(
                entry.boot != [0; 16] && !self.boots.contains(&entry.boot),
                "a boot id comes twice: the module was cloned or the log spliced",
            )?;
        } else {
            ensure(entry.boot == self.boot, "the entry is of another boot than the entries before it")?;
            ensure(entry.mono_ns >= self.mono_ns, "the module's own clock went back within a boot")?;
        }
        self.check_epoch(entry)?;
        self.event(entry)?;
        self.refresh_roots(&entry.event);
        self.boots.insert(entry.boot);
        self.boot = entry.boot;
        self.mono_ns = entry.mono_ns;
        self.grants.clock = self.grants.clock.max(seconds(entry));
        self.turn_pages(entry);
        self.size += 1;
        Ok(())
    }

    fn event(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        match &entry.event {
            Event::Genesis(event) => return self.genesis(entry, event),
            Event::Boot(event) => return self.boot(entry, event),
            _ => {}
        }
        let Some(instance) = &self.instance else {
            return bad("there is no instance yet");
        };
        ensure(instance.node == entry.node, "the entry is of another module")?;
        ensure(!instance.zeroised, "nothing but a boot follows the wiping of the module")?;
        match &entry.event {
            Event::Command(event) => self.command(event),
            Event::Batch(event) => {
                let batches = self.batches.with(event)?;
                self.wrong(&event.wrong)?;
                self.batches = batches;
                Ok(())
            }
            Event::Single(event) => self.wrong(&event.wrong),
            Event::Failures(event) => self.wrong(&event.wrong),
            Event::Issued(event) => self.issued(event, seconds(entry)),
            Event::List(event) => self.signed_list(event, seconds(entry)),
            Event::Load(event) => self.load(event, seconds(entry)),
            Event::Script(event) => {
                ensure(self.keys.contains_key(&event.key), "a script with a key that does not exist")
            }
            Event::Epoch(turn) => self.check_turn(entry, turn),
            Event::Heartbeat(beat) => self.check_heartbeat(entry, *beat),
            Event::Witness(event) => Self::check_witness(entry, *event),
            Event::Intent(event) => self.intent(entry, *event),
            Event::Closed(event) => self.closed(*event),
            Event::Truncated(event) => ensure(event.bytes > 0, "a tail of no bytes was cut"),
            Event::Component(_)
            | Event::Asserted(_)
            | Event::Denied(_)
            | Event::Genesis(_)
            | Event::Boot(_) => Ok(()),
        }
    }

    fn genesis(&mut self, entry: &Entry, event: &GenesisEvent) -> Result<(), ReplayError> {
        ensure(self.size == 0, "a second genesis")?;
        let command = open(&event.command)?;
        let Action::Genesis(genesis) = command.action else {
            return bad("the genesis command is of another kind");
        };
        ensure(
            command.officer_epoch == 0 && (command.not_before..=command.not_after).contains(&0),
            "the genesis command is not for officer epoch 0 and index 0",
        )?;
        ensure(
            is_key_name(&genesis.origin),
            "the origin cannot be the name of a log key: it is empty or has white space or a plus sign",
        )?;
        ensure(genesis.node == entry.node, "the genesis names another module")?;
        ensure(
            genesis.officers.is_sound() && genesis.custodians.is_sound(),
            "an unsound officer or custodian set",
        )?;
        self.instance = Some(Instance {
            instance: command.instance,
            node: genesis.node,
            origin: genesis.origin,
            rehearsal: genesis.rehearsal,
            identity: genesis.identity,
            log_key: event.log_key,
            certificate: event.certificate.0.clone(),
            officers: genesis.officers,
            officer_epoch: 1,
            custodians: genesis.custodians,
            policy: genesis.policy,
            ca: genesis.ca,
            limits: DEFAULT_LIMITS,
            zeroised: false,
        });
        self.use_command(command.id);
        Ok(())
    }

    fn boot(&mut self, entry: &Entry, event: &BootEvent) -> Result<(), ReplayError> {
        let command = open(&event.floor)?;
        let Action::Floor(floor) = &command.action else {
            return bad("a boot stands on a command that is no floor");
        };
        self.check_command(&command).map_err(|refused| ReplayError(refused.message))?;
        ensure(floor.boot == entry.boot, "the floor is for another boot")?;
        Self::check_certified(event, floor.epoch_key)?;
        ensure(floor.size > 0, "a floor names at least the genesis entry")?;
        ensure(floor.size <= entry.seq, "the log is shorter than its floor")?;
        ensure(
            self.instance.as_ref().is_some_and(|known| known.node == entry.node),
            "a boot of another module",
        )?;
        // What was open when the module stopped stays without a last part.
        self.batches = super::Batches::default();
        self.orphan_intents();
        if let Some(instance) = &mut self.instance {
            instance.zeroised = false;
        }
        self.use_command(command.id);
        Ok(())
    }

    fn command(&mut self, event: &CommandEvent) -> Result<(), ReplayError> {
        let command = open(&event.command)?;
        ensure(
            !matches!(command.action, Action::Floor(_)),
            "a floor stands in a boot entry and nowhere else",
        )?;
        self.check_command(&command).map_err(|refused| ReplayError(refused.message))?;
        check_made(self, &command.action, event)?;
        self.check_announced(&command, event)?;
        self.use_command(command.id);
        self.carried_out(&command.id);
        if let Some(made) = &event.made {
            self.sequence += 1;
            self.fingerprints.insert(made.fingerprint);
            let key = KeyEntry { made: made.clone(), state: KeyState::PreActive };
            self.keys.insert(made.attributes.id(), key);
            self.keys_root = self.fresh_keys_root();
        }
        self.carry_out(command.action, event.card);
        Ok(())
    }

    fn wrong(&mut self, wrong: &[WrongPairs]) -> Result<(), ReplayError> {
        for pairs in wrong {
            ensure(pairs.pairs.len() % PAIR_LEN == 0, "a list of wrong pairs is cut short")?;
            ensure(self.keys.contains_key(&pairs.key), "wrong pairs of a key that does not exist")?;
        }
        for pairs in wrong {
            self.failures.add(pairs);
        }
        Ok(())
    }
}

/// The entry's wall clock, Unix seconds.
fn seconds(entry: &Entry) -> u64 {
    entry.wall_ns / 1_000_000_000
}

fn open(bytes: &[u8]) -> Result<Command, ReplayError> {
    let signed =
        SignedCommand::from_cbor(bytes).map_err(|error| ReplayError(format!("signed command: {error}")))?;
    let command = signed.open().map_err(|error| ReplayError(format!("command: {error}")))?;
    ensure((command.version, command.suite) == (1, 1), "the command's format or suite is not 1")?;
    Ok(command)
}

/// A key is made by exactly the commands that make keys, and it is the key that the command names.
fn check_made(state: &LogState, action: &Action, event: &CommandEvent) -> Result<(), ReplayError> {
    let asked = match action {
        Action::GenerateKey(key) => Some((key, false)),
        Action::ImportKey(import) => Some((&import.attributes, true)),
        _ => None,
    };
    match (asked, &event.made) {
        (None, None) => {}
        (Some((asked, with_kcv)), Some(made)) => {
            let mut named = asked.clone();
            if !with_kcv {
                named.kcv = made.attributes.kcv;
            }
            ensure(named == made.attributes, "the key is not the one that the command names")?;
            ensure(made.sequence == state.sequence, "a record's sequence number is not the next one")?;
            ensure(!state.fingerprints.contains(&made.fingerprint), "the same key bytes under another name")?;
        }
        _ => return bad("a command made a key that it does not name, or did not make the one it names"),
    }
    let names_card = matches!(action, Action::ResetBudget(reset) if reset.card.is_some());
    ensure(names_card == event.card.is_some(), "a card tag without a card")
}

impl LogState {
    fn carry_out(&mut self, action: Action, card: Option<[u8; 8]>) {
        if let Action::SetKeyState(change) = action {
            if let Some(key) = self.keys.get_mut(&change.key) {
                key.state = change.state;
            }
            self.keys_root = self.fresh_keys_root();
            return;
        }
        if let Action::ResetBudget(reset) = &action {
            self.failures.reset(reset, card);
        }
        self.grant(&action);
        let Some(instance) = &mut self.instance else {
            return;
        };
        match action {
            Action::SetOfficers(set) => {
                instance.officers = set;
                instance.officer_epoch += 1;
            }
            Action::SetPolicy(policy) => instance.policy = policy.digest,
            Action::SetCa(ca) => instance.ca = ca.digest,
            Action::SetLimits(limits) => instance.limits = limits,
            Action::Zeroise(_) => instance.zeroised = true,
            _ => {}
        }
    }
}
