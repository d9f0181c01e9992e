//! Epochs of the log key in a living module: who certifies a key, what it signs, when it goes; heartbeats.

use std::sync::Arc;
use std::time::Duration;

use translog::entry::{Entry, Event};
use translog::note::{VerifierKey, open_checkpoint};
use translog::state::LogState;
use wire::cbor::{Bytes, Cbor};
use wire::command::{Action, Floor};
use wire::error::Refusal;
use wire::frame::*;

use super::room::*;
use crate::answer::Connection;
use crate::log::HEARTBEAT;
use crate::module::Module;

const DAY: Duration = Duration::from_hours(24);

/// A module in service whose log is on this disk, and nobody collects.
pub(super) fn in_service() -> (People, Arc<Module>, Disk, VerifierKey) {
    let (module, mut people) = (new_module(), People::new());
    let keyd = Keyd::start(&module, Disk::default());
    let done = genesis(&module, &mut people);
    (people, module, keyd.stop(), VerifierKey::parse(&done.vkey).unwrap())
}

/// One exchange of keyd's: acknowledges the disk, takes what is new; gives the new entries.
pub(super) fn collect(module: &Module, disk: &mut Disk) -> Vec<Entry> {
    let (durable, root) = disk.head();
    let request = KeydRequest::Collect(Collect { durable, root });
    match module.keyd(&mut Connection::default(), request) {
        KeydResponse::Collected(collected) => {
            let entries = collected.entries.iter().map(|bytes| Entry::from_cbor(bytes).unwrap()).collect();
            disk.take(collected);
            entries
        }
        other => panic!("{other:?}"),
    }
}

/// An entry without a meaning.
pub(super) fn assertion(module: &Module) {
    let assertion =
        Assertion { category: Category::Deny, code: "tls".into(), client: None, certificate: None, count: 1 };
    let request = KeydRequest::Assert(Assertions { items: vec![assertion] });
    assert!(matches!(module.keyd(&mut Connection::default(), request), KeydResponse::Ticket(_)));
}

/// The disk's head is signed by both keys, and by the epoch that its last entry belongs to. Gives that epoch.
fn signed_by(disk: &Disk, vkey: &VerifierKey) -> u64 {
    let mut state = LogState::new();
    for entry in &disk.entries {
        state.apply(&Entry::from_cbor(entry).unwrap()).unwrap();
    }
    let head = open_checkpoint(&disk.checkpoint, vkey).unwrap();
    assert_eq!((head.size, head.root), disk.head());
    let epoch = state.epochs().signer(head.size).unwrap();
    assert!(head.beyond_log(Some(&epoch.key)).unwrap().is_empty(), "two lines");
    assert_eq!(disk.checkpoint.lines().filter(|line| line.starts_with('\u{2014}')).count(), 2);
    epoch.number
}

#[test]
fn genesis_and_every_boot_begin_an_epoch_with_a_key_of_its_own() {
    let (people, module, disk, vkey) = in_service();
    let Event::Genesis(first) = Entry::from_cbor(&disk.entries[0]).unwrap().event else { panic!() };
    assert_eq!(first.epoch_key, module.status().epoch_key);
    assert_eq!((module.status().instance.unwrap().epoch, signed_by(&disk, &vkey)), (1, 1));

    let again = new_module();
    attach(&again, &disk);
    assert_eq!(again.status().epoch_key, None, "sealed");
    unseal(&again, &people, &[0, 1, 2]).unwrap();
    let certified = again.status().epoch_key.unwrap();
    assert_ne!(Some(certified), first.epoch_key, "not from the shares: a key that comes back is none");
    let (size, root) = disk.head();
    floor(&again, &people, size, root).unwrap();
    replay(&again, &disk).unwrap();
    let mut disk = disk;
    let boot = collect(&again, &mut disk);
    let Event::Boot(event) = &boot[0].event else { panic!("{boot:?}") };
    assert_eq!((event.epoch_key, boot[0].epoch), (Some(certified), 2));
    assert_eq!((again.status().instance.unwrap().epoch, signed_by(&disk, &vkey)), (2, 2));
    assert_eq!(again.status().epoch_key, Some(certified));
}

#[test]
fn officers_certify_the_key_of_this_boot() {
    let (people, _, disk, _) = in_service();
    let module = new_module();
    attach(&module, &disk);
    unseal(&module, &people, &[0, 1, 2]).unwrap();
    let own = module.status().epoch_key;
    let (size, root) = disk.head();
    let given = |module: &Module, epoch_key| {
        let signed = people.signed(Action::Floor(Floor { boot: module.boot, size, root, epoch_key }));
        match module.officers(OfficerRequest::Floor(Bytes(signed))) {
            OfficerResponse::Refused(refused) => Err(refused),
            _ => Ok(()),
        }
    };
    let old = given(&module, None).unwrap_err();
    assert_eq!(old.code, Refusal::FloorStale);
    assert!(old.message.contains("update keyceremony"), "{old}");
    let thief = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
    assert_eq!(given(&module, Some(thief)).unwrap_err().code, Refusal::FloorStale);
    // Another attempt of the same boot has another key: a floor is good for one.
    module.officers(OfficerRequest::Abort(wire::cbor::Empty {}));
    unseal(&module, &people, &[0, 1, 2]).unwrap();
    assert_ne!(module.status().epoch_key, own);
    assert_eq!(given(&module, own).unwrap_err().code, Refusal::FloorStale);
    given(&module, module.status().epoch_key).unwrap();
    replay(&module, &disk).unwrap();
}

#[test]
fn a_turn_is_certified_by_the_closing_key_which_signs_to_the_end_and_no_further() {
    let (_, module, mut disk, vkey) = in_service();
    let idle = module.arena.in_use();
    let before = module.status().epoch_key;
    module.clock.pass(DAY);
    assertion(&module);
    let taken = collect(&module, &mut disk);
    let kinds: Vec<&str> = taken.iter().map(|entry| entry.event.kind()).collect();
    assert_eq!(kinds, ["asserted", "heartbeat", "epoch"]);
    assert_eq!(signed_by(&disk, &vkey), 1, "the entry belongs to the epoch that it closes");
    assert!(module.arena.in_use() > idle, "both keys are there: the head is not acknowledged");
    assert_ne!(module.status().epoch_key, before);
    // What comes after it waits for the acknowledgement of its head.
    assertion(&module);
    let mut other = disk.clone();
    other.entries.truncate(other.entries.len() - taken.len());
    let same = collect(&module, &mut other);
    assert_eq!(same.len(), taken.len(), "not beyond the unacknowledged turn");
    assert!(module.arena.in_use() > idle);
    let next = collect(&module, &mut disk);
    assert_eq!((next.len(), next[0].epoch), (1, 2));
    assert_eq!(signed_by(&disk, &vkey), 2);
    assert_eq!(module.arena.in_use(), idle, "the closed epoch's key is wiped");
    assert_eq!(module.status().instance.unwrap().epoch, 2);
}

#[test]
fn a_turn_comes_at_its_time_and_once() {
    let (_, module, mut disk, _) = in_service();
    module.clock.pass(DAY.saturating_sub(Duration::from_secs(1)));
    assertion(&module);
    assert!(collect(&module, &mut disk).iter().all(|entry| entry.event.kind() != "epoch"));
    module.clock.pass(Duration::from_secs(1));
    assertion(&module);
    assert!(collect(&module, &mut disk).iter().any(|entry| entry.event.kind() == "epoch"));
    assertion(&module);
    assert!(collect(&module, &mut disk).iter().all(|entry| entry.event.kind() != "epoch"));
    // A module with epochs of an hour.
    let arena = arena();
    let identity = arena.alloc(32, |bytes| {
        bytes.copy_from_slice(&identity().to_bytes());
        Ok::<(), ()>(())
    });
    let random = crate::random::Random::system().unwrap();
    let hourly = Module::new(arena, random, [0x50; 32], identity.unwrap()).unwrap().with_epochs_of(1);
    let (hourly, mut people) = (Arc::new(hourly), People::new());
    let keyd = Keyd::start(&hourly, Disk::default());
    genesis(&hourly, &mut people);
    let mut disk = keyd.stop();
    hourly.clock.pass(Duration::from_hours(1));
    assertion(&hourly);
    assert!(collect(&hourly, &mut disk).iter().any(|entry| entry.event.kind() == "epoch"));
}

#[test]
fn a_log_that_says_nothing_says_that_it_lives() {
    let (_, module, mut disk, _) = in_service();
    assert!(collect(&module, &mut disk).is_empty());
    module.clock.pass(HEARTBEAT);
    for _ in 0..2 {
        let beat = collect(&module, &mut disk);
        assert_eq!(beat.iter().map(|entry| entry.event.kind()).collect::<Vec<_>>(), ["heartbeat"]);
        module.clock.pass(HEARTBEAT);
    }
    assertion(&module);
    assert_eq!(collect(&module, &mut disk).len(), 1, "an entry is as good as a heartbeat");
}

#[test]
fn a_head_without_its_epochs_line_does_not_come_back() {
    let (people, module, disk, _) = in_service();
    let mut stripped = disk.clone();
    let (last, _) = stripped.checkpoint.trim_end().rsplit_once('\n').unwrap();
    stripped.checkpoint = format!("{last}\n");
    let refused = restart(&people, &stripped).unwrap_err();
    assert_eq!(refused.code, Refusal::LogForged);
    assert!(refused.message.contains("epoch"), "{refused}");
    drop(module);
    restart(&people, &disk).unwrap();
}

#[test]
fn a_cut_tail_is_in_the_log() {
    let (_, module, mut disk, _) = in_service();
    let torn = KeydRequest::Truncated(TornTail { bytes: 77, digest: [9; 32] });
    assert!(matches!(module.keyd(&mut Connection::default(), torn), KeydResponse::Ticket(_)));
    let none = KeydRequest::Truncated(TornTail { bytes: 0, digest: [9; 32] });
    assert!(matches!(module.keyd(&mut Connection::default(), none), KeydResponse::Refused(_)));
    let taken = collect(&module, &mut disk);
    assert!(matches!(&taken[0].event, Event::Truncated(event) if event.bytes == 77), "{taken:?}");
}
