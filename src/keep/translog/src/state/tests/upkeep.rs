use ed25519_dalek::SigningKey;
use sha2::{Digest as _, Sha256};
use wire::witness::{Prune, Witness, WitnessSet};

use super::*;
use crate::entry::{ClosedEvent, HeartbeatEvent, IntentEvent, TruncatedEvent, WitnessEvent};

const DAY: u64 = 86_400;

/// With epochs, at a place further on.
fn alive() -> Room {
    let mut room = Room::empty();
    let Event::Genesis(mut event) = room.genesis(genesis(), |_| {}) else { panic!() };
    event.epoch_key = Some(SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes());
    room.take(&Event::Genesis(event)).unwrap();
    room.next = 2;
    room.take(&asserted()).unwrap();
    room
}

#[test]
fn heartbeats_and_witnesses_name_what_was_there() {
    let mut room = alive();
    for (witnessed, time, why) in
        [(3, 7, "not there yet"), (1, 0, "without a time"), (0, 1, "without a time")]
    {
        let why = if (witnessed, time) == (0, 1) { "without one" } else { why };
        room.fails(&Event::Heartbeat(HeartbeatEvent { witnessed, time }), why);
    }
    room.take(&Event::Heartbeat(HeartbeatEvent { witnessed: 2, time: 1_700_000_000 })).unwrap();
    for (change, size, why) in [(0, 1, "neither"), (3, 1, "neither"), (1, 4, "not there yet")] {
        room.fails(&Event::Witness(WitnessEvent { change, size, time: 5 }), why);
    }
    for change in [1, 2] {
        room.take(&Event::Witness(WitnessEvent { change, size: 3, time: 5 })).unwrap();
    }
    room.fails(&Event::Truncated(TruncatedEvent { bytes: 0, digest: [1; 32] }), "no bytes");
    room.take(&Event::Truncated(TruncatedEvent { bytes: 9, digest: [1; 32] })).unwrap();
}

#[test]
fn officers_say_who_witnesses() {
    let mut room = Room::new();
    assert_eq!(room.state.witnesses(), None);
    let witness = |at: u8| Witness { name: format!("w{at}"), key: [at; 32] };
    let set = WitnessSet { witnesses: vec![witness(1), witness(2)], quorum: 2, grace: DAY };
    assert_eq!(
        room.refusal(Action::SetWitnesses(WitnessSet { quorum: 3, ..set.clone() })),
        Some(Refusal::BadWitnesses)
    );
    let before = room.state.root();
    room.run(Action::SetWitnesses(set.clone())).unwrap();
    assert_eq!(room.state.witnesses(), Some(&set));
    assert_ne!(room.state.root(), before, "it is under the state root");
    room.run(Action::SetWitnesses(WitnessSet { witnesses: vec![], quorum: 0, grace: 0 })).unwrap();
    assert_eq!(room.state.witnesses(), None, "an empty set ends it");
}

/// Takes an assertion at this time of the log, Unix seconds.
fn at(room: &mut Room, clock: u64) {
    let size = room.state.size();
    room.state.advance(&asserted(), BOOT, NODE, [clock * 1_000_000_000, size]).unwrap();
}

#[test]
fn nothing_younger_than_183_days_goes() {
    let mut room = Room::new();
    let start = 20_000 * DAY;
    for (day, count) in [(0, 3), (1, 2), (2, 1)] {
        (0..count).for_each(|_| at(&mut room, start + day * DAY + 50_000));
    }
    // Genesis at 0, then 1–3 on the first day, 4–5 on the second, 6 on the third.
    let prune = |below| Action::Prune(Prune { below });
    assert_eq!(room.refusal(prune(1)), Some(Refusal::Retention));
    // What lies before the first day's first entry is old enough from that day's beginning on; not a second earlier.
    at(&mut room, start + KEEP_DAYS * DAY - 1);
    assert_eq!((room.state.prunable(), room.refusal(prune(1))), (0, Some(Refusal::Retention)));
    at(&mut room, start + KEEP_DAYS * DAY);
    assert_eq!((room.state.prunable(), room.refusal(prune(1))), (1, None));
    at(&mut room, start + (KEEP_DAYS + 1) * DAY);
    assert_eq!(room.state.prunable(), 4);
    assert_eq!(
        (room.refusal(prune(5)), room.refusal(prune(0))),
        (Some(Refusal::Retention), Some(Refusal::Retention))
    );
    // A clock that is set back keeps what it kept, and lets nothing younger go.
    at(&mut room, start);
    assert_eq!(room.state.prunable(), 4);
    room.run(prune(3)).unwrap();
    assert_eq!(room.state.pruned(), 3);
    assert_eq!(room.refusal(prune(3)), Some(Refusal::Retention), "it went before");
    assert_eq!(room.refusal(prune(2)), Some(Refusal::Retention));
    room.run(prune(4)).unwrap();
    let young = room.does(prune(5));
    room.fails(&young, "183 days");
}

fn intent_of(signed: &Bytes, id: Id) -> IntentEvent {
    IntentEvent { command: id, digest: Sha256::digest(&**signed).into(), action: 6 }
}

#[test]
fn an_intent_ends_in_its_command_or_is_closed() {
    let mut room = alive();
    let command = room.command(Action::SetPolicy(SetDigest { digest: [0xaa; 32] }));
    let intent = intent_of(&signed(&command), command.id);
    room.take(&Event::Intent(intent)).unwrap();
    assert_eq!(room.state.intents().count(), 1);
    room.fails(&Event::Intent(intent), "second intent");
    // Another command under the announced id.
    let mut other = command.clone();
    other.proposed_at = 9;
    let event = room.event(&other);
    room.fails(&event, "announced");
    let event = room.event(&command);
    room.take(&event).unwrap();
    assert_eq!(room.state.intents().count(), 0);
    room.fails(&Event::Intent(intent), "carried out before");

    let command = room.command(Action::SetCa(SetDigest { digest: [0xab; 32] }));
    let intent = intent_of(&signed(&command), command.id);
    room.take(&Event::Intent(intent)).unwrap();
    let index = room.state.size() - 1;
    let close = |intent, reason| Event::Closed(ClosedEvent { intent, reason });
    room.fails(&close(index - 1, 28), "not open");
    room.fails(&close(index, 0), "as an orphan");
    room.take(&close(index, 28)).unwrap();
    room.fails(&close(index, 28), "not open");
}

#[test]
fn a_boot_makes_orphans_of_open_intents() {
    let mut room = alive();
    let command = room.command(Action::SetPolicy(SetDigest { digest: [0xaa; 32] }));
    let intent = intent_of(&signed(&command), command.id);
    room.take(&Event::Intent(intent)).unwrap();
    let index = room.state.size() - 1;
    let key = SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes();
    let boot = room.boot_of_epoch([4; 16], 1, Some(key));
    room.boot = [4; 16];
    room.take(&boot).unwrap();
    assert!(room.state.intents().all(|(_, open)| open.orphan));
    // The command itself may come again.
    room.take(&Event::Intent(intent)).unwrap();
    let event = room.event(&command);
    room.take(&event).unwrap();
    assert_eq!(room.state.intents().count(), 1, "the orphan waits for its end");
    room.fails(&Event::Closed(ClosedEvent { intent: index, reason: 28 }), "for a reason");
    room.take(&Event::Closed(ClosedEvent { intent: index, reason: 0 })).unwrap();
    assert_eq!(room.state.intents().count(), 0);
}
