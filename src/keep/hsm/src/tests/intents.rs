//! Commands in two steps: an intent that is safe before anything is done, then the outcome.

use sha2::{Digest as _, Sha256};
use translog::entry::{Entry, Event};
use wire::cbor::{Bytes, Cbor};
use wire::command::{Action, SetDigest};
use wire::error::Refusal;
use wire::frame::*;
use wire::key::Algorithm;

use super::epochs::{collect, in_service};
use super::room::*;
use crate::answer::Connection;
use crate::module::Module;

fn policy(people: &People) -> Vec<u8> {
    people.signed(Action::SetPolicy(SetDigest { digest: [8; 32] }))
}

fn relay(module: &Module, signed: &[u8]) -> Result<CommandDone, wire::error::Refused> {
    let request = KeydRequest::Command(Bytes(signed.to_vec()));
    match module.keyd(&mut Connection::default(), request) {
        KeydResponse::CommandDone(done) => Ok(done),
        KeydResponse::Refused(refused) => Err(refused),
        other => panic!("{other:?}"),
    }
}

fn kinds(entries: &[Vec<u8>]) -> Vec<&'static str> {
    entries.iter().map(|entry| Entry::from_cbor(entry).unwrap().event.kind()).collect()
}

fn present(module: &Module) -> [u8; 32] {
    module.live(|live| Ok(live.log.state().instance().unwrap().policy)).unwrap()
}

#[test]
fn the_intent_comes_first_and_names_what_is_done() {
    let (people, module, disk, _) = in_service();
    let keyd = Keyd::start(&module, disk);
    let signed = policy(&people);
    let done = command(&module, signed.clone()).unwrap();
    let disk = keyd.stop();
    assert_eq!((kinds(&disk.entries[1..]), done.index), (vec!["intent", "command"], Some(2)));
    let Event::Intent(intent) = Entry::from_cbor(&disk.entries[1]).unwrap().event else { panic!() };
    let digest: [u8; 32] = Sha256::digest(&signed).into();
    assert_eq!((intent.digest, intent.action), (digest, 6));
    restart(&people, &disk).unwrap();
}

#[test]
fn nothing_is_done_before_the_intent_is_durable() {
    let (people, module, mut disk, _) = in_service();
    let before = present(&module);
    let signed = policy(&people);
    // keyd relays the command and makes nothing durable.
    let refused = relay(&module, &signed).unwrap_err();
    assert_eq!(refused.code, Refusal::NotDurable);
    assert!(refused.message.contains("nothing is done yet"), "{refused}");
    assert_eq!(present(&module), before);
    assert_eq!(relay(&module, &signed).unwrap_err().code, Refusal::NotDurable);
    while module.status().instance.unwrap().durable < 2 {
        collect(&module, &mut disk);
    }
    // Submitted again it goes on where it was: one intent.
    relay(&module, &signed).unwrap();
    assert_eq!(present(&module), [8; 32]);
    let keyd = Keyd::start(&module, disk);
    durable(&module, module.status().instance.unwrap().size - 1).unwrap();
    let disk = keyd.stop();
    let kinds = kinds(&disk.entries);
    assert_eq!(kinds.iter().filter(|kind| **kind == "intent").count(), 1, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "command").count(), 1, "{kinds:?}");
}

#[test]
fn other_approvals_have_an_intent_of_their_own() {
    let (people, module, mut disk, _) = in_service();
    let proposal = people.command(Action::SetPolicy(SetDigest { digest: [8; 32] }));
    let (first, second) = (people.sign(&proposal, &[0, 1]), people.sign(&proposal, &[0, 2]));
    // A keyd that relays what nobody else has the bytes of does not lock the officers out.
    assert_eq!(relay(&module, &first).unwrap_err().code, Refusal::NotDurable);
    collect(&module, &mut disk);
    assert_eq!(relay(&module, &second).unwrap_err().code, Refusal::NotDurable);
    let keyd = Keyd::start(&module, disk);
    command(&module, second).unwrap();
    assert_eq!(command(&module, first).unwrap_err().code, Refusal::CommandUsed);
    durable(&module, module.status().instance.unwrap().size - 1).unwrap();
    let disk = keyd.stop();
    let mut kinds = kinds(&disk.entries);
    kinds.retain(|kind| !matches!(*kind, "genesis" | "denied"));
    assert_eq!(kinds, ["intent", "closed", "intent", "command"]);
    assert_eq!(present(&module), [8; 32]);
    restart(&people, &disk).unwrap();
}

#[test]
fn an_import_under_way_is_not_broken_off_by_other_approvals() {
    let (people, module, disk, _) = in_service();
    let keyd = Keyd::start(&module, disk);
    let attributes = attributes(1, Algorithm::Sm4, b"0123456789abcdef");
    let spec = import_spec(&people, &attributes, &[[1; 16], [2; 16]]);
    let proposal = people.command(Action::ImportKey(spec));
    let signed = people.sign(&proposal, &[0, 1]);
    command(&module, signed.clone()).unwrap();
    let other = command(&module, people.sign(&proposal, &[0, 2])).unwrap_err();
    assert!(other.code == Refusal::CommandUsed && other.message.contains("enter its components"), "{other}");
    command(&module, signed).unwrap();
    keyd.stop();
}

#[test]
fn a_refusal_after_the_intent_closes_it_with_its_reason() {
    let (people, module, disk, _) = in_service();
    let keyd = Keyd::start(&module, disk);
    let mut wanted = attributes(1, Algorithm::Sm4, &[7; 16]);
    wanted.levels.clear();
    let signed = people.signed(Action::GenerateKey(wanted));
    assert_eq!(command(&module, signed).unwrap_err().code, Refusal::KeyAttributes);
    durable(&module, module.status().instance.unwrap().size - 1).unwrap();
    let disk = keyd.stop();
    let closed = disk.entries.iter().find_map(|entry| match Entry::from_cbor(entry).unwrap().event {
        Event::Closed(closed) => Some((closed.intent, closed.reason)),
        _ => None,
    });
    assert_eq!(closed, Some((1, Refusal::KeyAttributes.code())));
    restart(&people, &disk).unwrap();
}

#[test]
fn what_a_dead_boot_announced_is_closed_by_the_next_and_may_come_again() {
    let (people, module, mut disk, _) = in_service();
    let signed = policy(&people);
    assert_eq!(relay(&module, &signed).unwrap_err().code, Refusal::NotDurable);
    assert_eq!(collect(&module, &mut disk)[0].event.kind(), "intent");
    drop(module);
    let module = restart(&people, &disk).unwrap();
    let keyd = Keyd::start(&module, disk);
    durable(&module, module.status().instance.unwrap().size - 1).unwrap();
    command(&module, signed).unwrap();
    let disk = keyd.stop();
    let all = kinds(&disk.entries);
    let boot = all.iter().position(|kind| *kind == "boot").unwrap();
    assert_eq!(all[boot..boot + 2], ["boot", "closed"], "before anything else");
    let Event::Closed(orphan) = Entry::from_cbor(&disk.entries[boot + 1]).unwrap().event else { panic!() };
    assert_eq!((orphan.intent, orphan.reason), (1, 0));
    assert_eq!(all[all.len() - 2..], ["intent", "command"]);
    assert_eq!(present(&module), [8; 32]);
}

#[test]
fn an_import_is_announced_when_it_begins() {
    let (people, module, disk, _) = in_service();
    let keyd = Keyd::start(&module, disk);
    import(&module, &people, 1, Algorithm::Sm4, b"0123456789abcdef").unwrap();
    let disk = keyd.stop();
    let expected =
        ["genesis", "intent", "component", "component", "component", "command", "intent", "command"];
    assert_eq!(kinds(&disk.entries), expected);
}
