use ed25519_dalek::SigningKey;

use super::*;
use crate::entry::{EpochEvent, HeartbeatEvent};
use crate::epoch::{turn, turn_bytes};

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn public(number: u8) -> [u8; 32] {
    key(number).verifying_key().to_bytes()
}

fn heartbeat() -> Event {
    Event::Heartbeat(HeartbeatEvent { witnessed: 0, time: 0 })
}

/// The end of the present epoch, signed by key `closing`; key `next` follows.
fn turned(room: &Room, closing: u8, next: u8) -> EpochEvent {
    let number = room.state.epochs().number() + 1;
    turn([&INSTANCE, &NODE], number, &key(closing), public(next), (room.state.size(), [9; 32]))
}

/// With a genesis that names key 1.
fn born() -> Room {
    let mut room = Room::empty();
    let Event::Genesis(mut event) = room.genesis(genesis(), |_| {}) else { panic!() };
    event.epoch_key = Some(public(1));
    room.take(&Event::Genesis(event)).unwrap();
    room.next = 2;
    room
}

#[test]
fn numbers_go_up_by_one_at_genesis_boots_and_turns() {
    let mut room = born();
    assert_eq!((room.state.epochs().number(), room.state.size()), (1, 1));
    room.take(&heartbeat()).unwrap();
    let turn = turned(&room, 1, 2);
    room.take(&Event::Epoch(turn)).unwrap();
    assert_eq!(room.state.epochs().number(), 2);
    room.take(&asserted()).unwrap();
    let boot = room.boot_of_epoch([4; 16], 2, Some(public(3)));
    room.boot = [4; 16];
    room.take(&boot).unwrap();
    let epochs = room.state.epochs();
    let seen: Vec<(u64, u64, [u8; 32])> =
        epochs.all().iter().map(|epoch| (epoch.number, epoch.first, epoch.key)).collect();
    assert_eq!(seen, [(1, 0, public(1)), (2, 3, public(2)), (3, 4, public(3))]);
    // Heads: entries 0 to 2 are of epoch 1 (the turn itself too), 3 of epoch 2, 4 of epoch 3.
    let signers: Vec<u64> = (1..=5).map(|size| epochs.signer(size).unwrap().number).collect();
    assert_eq!(signers, [1, 1, 1, 2, 3]);
    assert_eq!(epochs.signer(0), None);
}

#[test]
fn an_old_log_is_continued_by_a_module_with_epochs() {
    let mut room = Room::new();
    room.take(&asserted()).unwrap();
    let before = room.state.root();
    assert_eq!((room.state.epochs().number(), room.state.epochs().signer(2)), (0, None));
    room.fails(&heartbeat(), "without epochs");
    let turn = Event::Epoch(turned(&room, 1, 2));
    room.fails(&turn, "before any began");
    let boot = room.boot_of_epoch([4; 16], 2, Some(public(1)));
    room.boot = [4; 16];
    room.take(&boot).unwrap();
    assert_ne!(room.state.root(), before);
    assert_eq!(room.state.epochs().number(), 1);
    assert_eq!(room.state.epochs().signer(2), None, "a head from before");
    assert_eq!(room.state.epochs().signer(3).unwrap().number, 1);
    // There is no way back to a module without epochs.
    let boot = room.boot([5; 16], 2);
    room.boot = [5; 16];
    room.fails(&boot, "without an epoch key");
}

#[test]
fn keys_are_certified_new_and_sound() {
    let mut room = born();
    room.boot = [4; 16];
    let Event::Boot(mut boot) = room.boot_of_epoch([4; 16], 1, Some(public(3))) else { panic!() };
    for (key, why) in [
        (Some(public(4)), "certifies another"),
        (None, "without an epoch key"),
        (Some(public(1)), "had an epoch before"),
        (Some([0; 32]), "is no key"),
    ] {
        boot.epoch_key = key;
        room.fails(&Event::Boot(boot.clone()), why);
    }
    boot.epoch_key = Some(public(3));
    room.take(&Event::Boot(boot)).unwrap();
}

#[test]
fn a_turn_is_signed_by_the_closing_key_in_its_place_after_a_heartbeat() {
    let mut room = born();
    let early = Event::Epoch(turned(&room, 1, 2));
    room.fails(&early, "without a heartbeat");
    room.take(&heartbeat()).unwrap();
    let good = turned(&room, 1, 2);
    let (size, root) = (good.size, good.root);
    for (closing, number, key, size, why) in [
        (1, 3, public(2), size, "missing or comes twice"),
        (1, 1, public(2), size, "missing or comes twice"),
        (1, 2, public(1), size, "had an epoch before"),
        (1, 2, public(2), size - 1, "another place"),
        (2, 2, public(2), size, "not certified"),
        (9, 2, public(2), size, "not certified"),
    ] {
        let closing = self::key(closing);
        let event = turn([&INSTANCE, &NODE], number, &closing, key, (size, root));
        room.fails(&Event::Epoch(event), why);
    }
    for at in 0..64 {
        let mut bad = good.clone();
        bad.signature[at] ^= 1;
        room.fails(&Event::Epoch(bad), "not certified");
    }
    // Every field is under the signature: of another instance, another module, over another root.
    for (instance, node) in [([7; 16], NODE), (INSTANCE, [7; 16])] {
        let event = turn([&instance, &node], 2, &key(1), public(2), (size, root));
        room.fails(&Event::Epoch(event), "not certified");
    }
    room.fails(&Event::Epoch(EpochEvent { root: [8; 32], ..good.clone() }), "not certified");
    room.fails(&Event::Epoch(EpochEvent { key: public(5), ..good.clone() }), "not certified");
    room.take(&Event::Epoch(good)).unwrap();
    // The next one needs a heartbeat of its own, and the key that is in force now.
    let next = Event::Epoch(turned(&room, 2, 3));
    room.fails(&next, "without a heartbeat");
    room.take(&heartbeat()).unwrap();
    let by_old = Event::Epoch(turned(&room, 1, 3));
    room.fails(&by_old, "not certified");
}

#[test]
fn an_entry_names_its_own_epoch() {
    let mut state = LogState::new();
    let mut maker = Room::empty();
    let Event::Genesis(mut event) = maker.genesis(genesis(), |_| {}) else { panic!() };
    event.epoch_key = Some(public(1));
    let root = maker.state.clone().advance(&Event::Genesis(event.clone()), BOOT, NODE, [0, 0]).unwrap();
    let mut entry = Entry {
        version: 1,
        seq: 0,
        node: NODE,
        boot: BOOT,
        epoch: 0,
        wall_ns: 0,
        mono_ns: 0,
        salt: [0; 16],
        state_root: root,
        event: Event::Genesis(event),
    };
    for epoch in [0, 2] {
        entry.epoch = epoch;
        assert!(state.clone().apply(&entry).unwrap_err().0.contains("another epoch"));
    }
    entry.epoch = 1;
    state.apply(&entry).unwrap();
}

#[test]
fn every_epoch_changes_the_root_and_heartbeats_do_not() {
    let mut room = born();
    let mut roots = vec![room.state.root()];
    room.take(&heartbeat()).unwrap();
    assert_eq!(Some(&room.state.root()), roots.last());
    let turn = turned(&room, 1, 2);
    room.take(&Event::Epoch(turn)).unwrap();
    roots.push(room.state.root());
    let boot = room.boot_of_epoch([4; 16], 1, Some(public(3)));
    room.boot = [4; 16];
    room.take(&boot).unwrap();
    roots.push(room.state.root());
    roots.dedup();
    assert_eq!(roots.len(), 3);
}

#[test]
fn what_a_turn_signs_is_fixed() {
    let bytes = turn_bytes(&[1; 16], &[2; 16], 3, &[4; 32], 5, &[6; 32]);
    let expected = [
        b"citykeep epoch v1\0".as_slice(),
        &[1; 16],
        &[2; 16],
        &[0, 0, 0, 0, 0, 0, 0, 3],
        &[4; 32],
        &[0, 0, 0, 0, 0, 0, 0, 5],
        &[6; 32],
    ];
    assert_eq!(bytes, expected.concat());
}
