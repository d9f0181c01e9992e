use wire::cbor::{Bytes, Empty};
use wire::command::{Action, ComponentSpec, ResetBudget, SetKeyState, SignedCommand};
use wire::command::{Approval, CardRef, Command, Floor, Genesis, ImportKey, Member, Quorum, SetDigest};
use wire::error::Refusal;
use wire::frame::{Assertion, Category, Counts};
use wire::key::{Algorithm, FactorSource, KeyAttributes, KeyVersion, Level, Lineage, Usage};

use super::*;
use crate::entry::{
    BatchEvent, BootEvent, CommandEvent, ComponentEvent, DeniedEvent, FailuresEvent, GenesisEvent,
    SingleEvent, WrongPairs,
};

mod batches;
mod commands;
mod epochs;
mod grants;
mod keys;
mod upkeep;

const INSTANCE: Id = [1; 16];
const NODE: Id = [2; 16];
const BOOT: Id = [3; 16];

fn quorum(key: u8) -> Quorum {
    let member = |at: u8| Member { name: format!("o{at}"), key: [key + at; 33] };
    Quorum { threshold: 2, members: (0..3).map(member).collect() }
}

fn genesis() -> Genesis {
    Genesis {
        origin: "log.example/a".into(),
        node: NODE,
        rehearsal: true,
        officers: quorum(10),
        custodians: quorum(20),
        policy: [5; 32],
        ca: [6; 32],
        identity: [7; 33],
    }
}

fn key_id(version: u8) -> KeyId {
    attributes(version).id()
}

fn attributes(version: u8) -> KeyAttributes {
    KeyAttributes {
        lineage: Lineage::parse("transit/purse/tac").unwrap(),
        version: KeyVersion(version),
        algorithm: Algorithm::Tdes,
        level: Level::City,
        levels: vec![FactorSource::ASN_RIGHT8],
        usage: vec![Usage::VerifyTac],
        kcv: [0; 3],
        session: None,
    }
}

fn signed(command: &Command) -> Bytes {
    let approvals = vec![Approval { officer: "o0".into(), signature: [0; 64] }];
    Bytes(SignedCommand { command: Bytes(command.to_cbor()), approvals }.to_cbor())
}

/// A state, and commands for it.
#[derive(Clone)]
struct Room {
    state: LogState,
    next: u8,
    boot: Id,
}

impl Room {
    fn empty() -> Self {
        Self { state: LogState::new(), next: 1, boot: BOOT }
    }

    fn new() -> Self {
        let mut room = Self::empty();
        room.take(&room.clone().genesis(genesis(), |_| {})).unwrap();
        room.next = 2;
        room
    }

    fn command(&mut self, action: Action) -> Command {
        let id = [self.next; 16];
        self.next += 1;
        Command {
            version: 1,
            suite: 1,
            instance: INSTANCE,
            officer_epoch: self.state.instance().map_or(0, |instance| instance.officer_epoch),
            id,
            not_before: 0,
            not_after: 1000,
            proposed_at: 0,
            proposer: "o0".into(),
            action,
        }
    }

    fn genesis(&mut self, genesis: Genesis, edit: impl FnOnce(&mut Command)) -> Event {
        let mut command = self.command(Action::Genesis(genesis));
        edit(&mut command);
        Event::Genesis(GenesisEvent {
            command: signed(&command),
            certificate: Bytes(vec![1]),
            log_key: [8; 32],
            module: [9; 32],
            memory: "mlock".into(),
            epoch_key: None,
        })
    }

    fn boot(&mut self, boot: Id, size: u64) -> Event {
        self.boot_of_epoch(boot, size, None)
    }

    fn boot_of_epoch(&mut self, boot: Id, size: u64, epoch_key: Option<[u8; 32]>) -> Event {
        let floor = self.command(Action::Floor(Floor { boot, size, root: [0; 32], epoch_key }));
        Event::Boot(BootEvent { floor: signed(&floor), module: [9; 32], memory: "mlock".into(), epoch_key })
    }

    fn take(&mut self, event: &Event) -> Result<Digest, ReplayError> {
        self.state.advance(event, self.boot, NODE, [0, self.state.size()])
    }

    /// A command's event, for a key that it makes too.
    fn does(&mut self, action: Action) -> Event {
        let command = self.command(action);
        self.event(&command)
    }

    fn event(&self, command: &Command) -> Event {
        let made = |attributes: &KeyAttributes| KeyMade {
            attributes: attributes.clone(),
            sequence: self.state.next_sequence(),
            digest: [0; 32],
            fingerprint: [attributes.version.0; 16],
            public: None,
        };
        Event::Command(CommandEvent {
            command: signed(command),
            made: match &command.action {
                Action::GenerateKey(attributes) => Some(made(attributes)),
                Action::ImportKey(import) => Some(made(&import.attributes)),
                _ => None,
            },
            card: None,
        })
    }

    fn run(&mut self, action: Action) -> Result<Digest, ReplayError> {
        let event = self.does(action);
        self.take(&event)
    }

    fn refusal(&mut self, action: Action) -> Option<Refusal> {
        let command = self.command(action);
        self.state.check_command(&command).err().map(|refused| refused.code)
    }

    fn fails(&mut self, event: &Event, why: &str) {
        let before = (self.state.root(), self.state.size());
        let error = self.take(event).unwrap_err();
        assert!(error.0.contains(why), "'{why}' is not in '{error}'");
        assert_eq!((self.state.root(), self.state.size()), before, "an error changes nothing");
    }
}

fn set_state(version: u8, state: KeyState) -> Action {
    Action::SetKeyState(SetKeyState { key: key_id(version), state })
}

fn asserted() -> Event {
    Event::Asserted(Assertion {
        category: Category::Deny,
        code: "no".into(),
        client: None,
        certificate: None,
        count: 1,
    })
}

fn pairs(version: u8, pairs: &[[u8; 16]]) -> Vec<WrongPairs> {
    vec![WrongPairs { key: key_id(version), pairs: Bytes(pairs.concat()) }]
}

fn pair(card: u8, pair: u8) -> [u8; 16] {
    let mut both = [card; 16];
    both[8..].fill(pair);
    both
}
