//! Witnesses: nothing after a restart before the quorum has seen this boot, nothing of value before it has seen the entry, checks
//! for the grace only, and a clock that the quorum alone moves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use translog::entry::{Entry, Event};
use wire::cbor::{Bytes, Cbor, Empty};
use wire::command::{Action, SetDigest};
use wire::error::{Refusal, Refused};
use wire::frame::*;
use wire::key::Algorithm;
use wire::witness::WitnessSet;

use super::epochs::{assertion, collect, in_service};
use super::room::*;
use crate::answer::Connection;
use crate::module::Module;

/// In 2033: later than any clock that this runs under.
const T: u64 = 2_000_000_000;
const KEY: [u8; 16] = *b"0123456789abcdef";
const GRACE: u64 = 100;

struct Town {
    people: People,
    module: Arc<Module>,
    disk: Disk,
    witnesses: Cosigners,
}

/// A module with a key, witnessed by 2 of 3; all its entries are cosigned, and nobody collects any more.
fn town(times: [Option<u64>; 3]) -> Town {
    let (people, module, disk, _) = in_service();
    let keyd = Keyd::start(&module, disk);
    import(&module, &people, 1, Algorithm::Sm4, &KEY).unwrap();
    let witnesses = Cosigners::new(0x60, &times);
    *keyd.witnesses.lock().unwrap() = witnesses.clone();
    command(&module, people.signed(Action::SetWitnesses(witnesses.set(2, GRACE)))).unwrap();
    Town { people, module, disk: keyd.stop(), witnesses }
}

const ALL: [Option<u64>; 3] = [Some(T), Some(T), Some(T)];

fn ask(module: &Module, request: KeydRequest) -> Result<KeydResponse, Refused> {
    match module.keyd(&mut Connection::default(), request) {
        KeydResponse::Refused(refused) => Err(refused),
        answer => Ok(answer),
    }
}

fn bring(module: &Module, cosigned: Cosigned) -> Result<(), Refusal> {
    ask(module, KeydRequest::Cosigned(cosigned)).map(drop).map_err(|refused| refused.code)
}

fn open_batch() -> KeydRequest {
    KeydRequest::BatchOpen(BatchOpen {
        client: "c".into(),
        profile: wire::batch::Profile::PurchaseTac,
        lineage: wire::key::Lineage::parse("transit/purse/tac").unwrap(),
    })
}

fn single(module: &Module) -> Result<(), Refusal> {
    let record = record(Algorithm::Sm4, &KEY, 1, 1, 0).to_bytes(wire::batch::Profile::PurchaseTac);
    let group = wire::batch::Group { version: wire::key::KeyVersion(1), issuer: ISSUER };
    let item = MacItem {
        client: "c".into(),
        lineage: wire::key::Lineage::parse("transit/purse/tac").unwrap(),
        profile: wire::batch::Profile::PurchaseTac,
        group,
        record,
    };
    ask(module, KeydRequest::MacVerify(MacItems { items: vec![item] }))
        .map(drop)
        .map_err(|refused| refused.code)
}

fn word(module: &Module) -> String {
    module.status().instance.unwrap().witness
}

fn policy(people: &People, byte: u8) -> Vec<u8> {
    people.signed(Action::SetPolicy(SetDigest { digest: [byte; 32] }))
}

#[test]
fn enrolling_waits_for_the_quorum_and_shows_it() {
    let town = town([Some(T), None, Some(T + 7)]);
    let known = town.module.status().instance.unwrap();
    assert_eq!(known.witness, "witnessed");
    assert_eq!(known.witnessed, Some(Witnessed { size: known.size, time: T }), "the second of two");
    let (people, module, disk, _) = in_service();
    assert_eq!(word(&module), "unwitnessed");
    assert_eq!(bring(&module, town.witnesses.cosign(&disk)), Err(Refusal::Unwitnessed), "nobody is enrolled");
    let mut unsound = town.witnesses.set(4, GRACE);
    unsound.quorum = 4;
    let refused = ask(&module, KeydRequest::Command(Bytes(people.signed(Action::SetWitnesses(unsound)))));
    assert_eq!(refused.unwrap_err().code, Refusal::BadWitnesses);
}

#[test]
fn after_a_restart_nothing_is_served_before_the_quorum_has_seen_the_boot() {
    let Town { people, module, disk, mut witnesses } = town(ALL);
    let old_head = witnesses.cosign(&disk);
    drop(module);
    // Another boot on the same log, which is rolled back afterwards: its head is longer, signed by the log key and cosigned.
    let (other, mut fork) = (restart(&people, &disk).unwrap(), disk.clone());
    assertion(&other);
    collect(&other, &mut fork);
    let rolled_back = witnesses.cosign(&fork);
    drop(other);
    let module = restart(&people, &disk).unwrap();
    assert_eq!(word(&module), "waiting");
    let mut disk = disk;
    collect(&module, &mut disk);
    let refused = |request| ask(&module, request).unwrap_err().code;
    assert_eq!(refused(KeydRequest::Keys(Empty {})), Refusal::Unwitnessed);
    assert_eq!(refused(open_batch()), Refusal::Unwitnessed);
    assert_eq!(refused(KeydRequest::Fetch(Ticket { ticket: 0 })), Refusal::Unwitnessed);
    assert_eq!(refused(KeydRequest::Release(Ticket { ticket: 0 })), Refusal::Unwitnessed);
    assert_eq!(refused(KeydRequest::Command(Bytes(policy(&people, 9)))), Refusal::Unwitnessed);
    assert_eq!(single(&module), Err(Refusal::Unwitnessed));
    let officer = module.officers(OfficerRequest::Command(Bytes(policy(&people, 9))));
    assert!(matches!(officer, OfficerResponse::Refused(refused) if refused.code == Refusal::Unwitnessed));
    // What gives nothing out goes on.
    assertion(&module);
    assert!(ask(&module, KeydRequest::Status(Empty {})).is_ok());
    // A head of another boot, cosigned by everybody; this boot's head with a quorum of one, of one twice, of strangers.
    assert_eq!(bring(&module, old_head), Err(Refusal::AckForged));
    collect(&module, &mut disk);
    assert!(rolled_back.size <= disk.head().0, "a size that this boot has too");
    assert_eq!(bring(&module, rolled_back), Err(Refusal::AckForged), "of a boot that was rolled back");
    witnesses.times = vec![Some(T), None, None];
    let one = witnesses.cosign(&disk);
    assert_eq!(bring(&module, one.clone()), Err(Refusal::Unwitnessed));
    let line = one.note.lines().last().unwrap();
    let twice = Cosigned { note: format!("{}{line}\n", one.note), ..one.clone() };
    assert_eq!(bring(&module, twice), Err(Refusal::Unwitnessed));
    let strangers = Cosigners::new(0x10, &ALL).cosign(&disk);
    assert_eq!(bring(&module, strangers), Err(Refusal::Unwitnessed));
    let elsewhere = Cosigned { size: one.size - 1, ..Cosigners::new(0x60, &ALL).cosign(&disk) };
    assert_eq!(bring(&module, elsewhere), Err(Refusal::AckForged), "it says another size than it has");
    assert_eq!(bring(&module, Cosigned { size: one.size, note: "no note".into() }), Err(Refusal::AckForged));
    assert_eq!(single(&module), Err(Refusal::Unwitnessed));
    // A bad line of one witness does not silence the two others.
    witnesses.times = ALL.to_vec();
    let mut good = witnesses.cosign(&disk);
    let line = good.note.lines().last().unwrap().to_owned();
    let bad = format!("{}{}", &line[..line.len() - 12], "AAAAAAAAAA==");
    good.note = good.note.replace(&line, &bad);
    bring(&module, good).unwrap();
    assert_eq!(word(&module), "witnessed");
    assert_eq!(single(&module), Ok(()));
    assert!(ask(&module, open_batch()).is_ok());
}

#[test]
fn what_is_of_value_waits_for_the_quorum() {
    let mint = super::mint::Mint::new();
    let witnesses = Cosigners::new(0x60, &ALL);
    *mint.keyd.witnesses.lock().unwrap() = witnesses.clone();
    mint.decide(Action::SetWitnesses(witnesses.set(2, GRACE))).unwrap();
    let request = || {
        KeydRequest::Authenticate(Authenticate {
            target: CardTarget {
                client: "c".into(),
                key: super::mint::id("transit/purse/external", 1),
                issuer: ISSUER,
                serial: super::mint::serial(1),
                chip: None,
            },
            challenge: [1; 8],
        })
    };
    // The quorum goes away: the entry is made and durable, the result is not given.
    *mint.keyd.witnesses.lock().unwrap() = Cosigners::default();
    let Ok(KeydResponse::Ticket(ticket)) = ask(&mint.module, request()) else { panic!("no ticket") };
    durable(&mint.module, ticket.ticket).unwrap();
    let early = ask(&mint.module, KeydRequest::Fetch(ticket)).unwrap_err();
    assert_eq!(early.code, Refusal::Unwitnessed);
    // So do commands: nothing is done.
    let relayed = ask(&mint.module, KeydRequest::Command(Bytes(policy(&mint.people, 9)))).unwrap_err();
    assert_eq!(relayed.code, Refusal::Unwitnessed);
    assert!(relayed.message.contains("nothing is done yet"), "{relayed}");
    *mint.keyd.witnesses.lock().unwrap() = witnesses;
    assertion(&mint.module);
    let last = mint.module.status().instance.unwrap().size - 1;
    mint.module.wait(last, crate::log::Safe::Cosigned, Instant::now() + crate::module::OFFICER_WAIT).unwrap();
    assert!(matches!(ask(&mint.module, KeydRequest::Fetch(ticket)), Ok(KeydResponse::Prepared(_))));
    command(&mint.module, policy(&mint.people, 9)).unwrap();
}

#[test]
fn checks_go_on_for_the_grace_and_stop() {
    let Town { module, mut disk, mut witnesses, .. } = town(ALL);
    let (_, ticket) = batch(&module, 1, &[record(Algorithm::Sm4, &KEY, 2, 1, 0)]).unwrap();
    let release = || ask(&module, KeydRequest::Release(Ticket { ticket })).map_err(|refused| refused.code);
    // A head that keyd has cosigned now and keeps back.
    collect(&module, &mut disk);
    assertion(&module);
    collect(&module, &mut disk);
    let kept_back = witnesses.cosign(&disk);
    module.clock.pass(Duration::from_secs(GRACE));
    assert_eq!(single(&module), Ok(()));
    assert!(ask(&module, open_batch()).is_ok());
    module.clock.pass(Duration::from_secs(1));
    assert_eq!(single(&module), Err(Refusal::Unwitnessed));
    let refused = ask(&module, open_batch()).unwrap_err();
    assert!(refused.code == Refusal::Unwitnessed && refused.message.contains("100 seconds"), "{refused}");
    assert_eq!(release().unwrap_err(), Refusal::Unwitnessed);
    assert_eq!(word(&module), "waiting");
    bring(&module, kept_back).unwrap();
    assert_eq!(single(&module), Err(Refusal::Unwitnessed), "as old as it is, not as young as its arrival");
    collect(&module, &mut disk);
    witnesses.times = vec![None, Some(T + GRACE + 1), Some(T + GRACE + 1)];
    bring(&module, witnesses.cosign(&disk)).unwrap();
    assert_eq!(single(&module), Ok(()));
    assert!(matches!(release(), Ok(KeydResponse::Released(_))));
    assert_eq!(word(&module), "witnessed");
}

#[test]
fn an_open_batch_stops_with_the_grace_too_and_what_it_checked_is_logged() {
    let Town { module, mut disk, .. } = town(ALL);
    let mut connection = Connection::default();
    let groups = vec![wire::batch::Group { version: wire::key::KeyVersion(1), issuer: ISSUER }];
    let records = record(Algorithm::Sm4, &KEY, 1, 1, 0).to_bytes(wire::batch::Profile::PurchaseTac).to_vec();
    let mut ask = |request| match module.keyd(&mut connection, request) {
        KeydResponse::Refused(refused) => Err(refused.code),
        answer => Ok(answer),
    };
    ask(open_batch()).unwrap();
    ask(KeydRequest::BatchGroups(BatchGroups { groups })).unwrap();
    ask(KeydRequest::BatchRecords(Bytes(records.clone()))).unwrap();
    module.clock.pass(Duration::from_secs(GRACE + 1));
    assert_eq!(ask(KeydRequest::BatchRecords(Bytes(records))).unwrap_err(), Refusal::Unwitnessed);
    let made = collect(&module, &mut disk);
    let aborted = made
        .iter()
        .any(|entry| matches!(&entry.event, Event::Batch(part) if part.aborted && part.records == 1));
    assert!(aborted, "{made:?}");
}

#[test]
fn the_quorum_alone_moves_the_clock_and_never_back() {
    let Town { people, module, mut disk, mut witnesses } = town(ALL);
    let wall = |disk: &Disk| Entry::from_cbor(disk.entries.last().unwrap()).unwrap().wall_ns / 1_000_000_000;
    let mut after = |witnesses: &Cosigners, passed| {
        module.clock.pass(Duration::from_secs(passed));
        assertion(&module);
        collect(&module, &mut disk);
        let at = wall(&disk);
        bring(&module, witnesses.cosign(&disk)).unwrap();
        at
    };
    witnesses.times = vec![Some(T + 50), Some(u64::MAX >> 1), Some(T + 20)];
    assert_eq!(after(&witnesses, 5), T + 5, "what has passed since, on the module's own clock");
    witnesses.times = vec![Some(T), Some(T), Some(T)];
    assert_eq!(after(&witnesses, 0), T + 50, "the second largest: one liar of three pushes nothing");
    assert_eq!(after(&witnesses, 3), T + 53, "never back");
    // A restart: the log's own clock, until the quorum has spoken.
    drop(module);
    let module = restart(&people, &disk).unwrap();
    module.clock.pass(Duration::from_secs(5));
    assertion(&module);
    collect(&module, &mut disk);
    assert_eq!(wall(&disk), T + 53);
}

#[test]
fn the_log_says_when_the_quorum_was_lost_and_when_it_came_back() {
    let Town { module, mut disk, mut witnesses, .. } = town(ALL);
    let change = |entries: &[Entry]| {
        entries.iter().find_map(|entry| match &entry.event {
            Event::Witness(event) => Some(event.change),
            _ => None,
        })
    };
    module.clock.pass(Duration::from_secs(30));
    assertion(&module);
    assert_eq!(change(&collect(&module, &mut disk)), None);
    module.clock.pass(Duration::from_secs(1));
    assert_eq!(change(&collect(&module, &mut disk)), Some(1));
    assert_eq!(word(&module), "grace");
    assertion(&module);
    assert_eq!(change(&collect(&module, &mut disk)), None, "once");
    witnesses.times = vec![Some(T + 31); 3];
    bring(&module, witnesses.cosign(&disk)).unwrap();
    assertion(&module);
    assert_eq!(change(&collect(&module, &mut disk)), Some(2));
}

#[test]
fn officers_replace_a_dead_set_and_may_wipe_without_one() {
    let Town { people, module, disk, .. } = town(ALL);
    drop(module);
    let module = restart(&people, &disk).unwrap();
    let keyd = Keyd::start(&module, disk);
    let fresh = Cosigners::new(0x20, &[Some(T + 9), Some(T + 9)]);
    *keyd.witnesses.lock().unwrap() = fresh.clone();
    command(&module, people.signed(Action::SetWitnesses(fresh.set(2, GRACE)))).unwrap();
    assert_eq!(word(&module), "witnessed");
    let disk = keyd.stop();
    drop(module);
    let module = restart(&people, &disk).unwrap();
    assert_eq!(word(&module), "waiting");
    let wipe = KeydRequest::Command(Bytes(people.signed(Action::Zeroise(Empty {}))));
    assert!(matches!(ask(&module, wipe), Ok(KeydResponse::CommandDone(_))));
    assert_eq!(module.status().state, ModuleState::Zeroised);
}

#[test]
fn officers_end_witnessing() {
    let Town { people, module, disk, .. } = town(ALL);
    drop(module);
    let module = restart(&people, &disk).unwrap();
    let keyd = Keyd::start(&module, disk);
    let none = WitnessSet { witnesses: vec![], quorum: 0, grace: 0 };
    let signed = people.signed(Action::SetWitnesses(none));
    // keyd may have it from a history that was rolled back since.
    let relayed = module.keyd(&mut Connection::default(), KeydRequest::Command(Bytes(signed.clone())));
    assert!(matches!(relayed, KeydResponse::Refused(refused) if refused.code == Refusal::Unwitnessed));
    command(&module, signed).unwrap();
    assert_eq!((word(&module).as_str(), single(&module)), ("unwitnessed", Ok(())));
    keyd.stop();
}

#[test]
fn the_closed_epochs_key_is_gone_before_the_next_epoch_signs_whatever_the_witnesses_do() {
    let Town { module, mut disk, .. } = town(ALL);
    let idle = module.arena.in_use();
    module.clock.pass(Duration::from_hours(24));
    collect(&module, &mut disk);
    assert!(module.arena.in_use() > idle, "the head that ends the epoch is not acknowledged yet");
    assertion(&module);
    collect(&module, &mut disk);
    assert_eq!(module.arena.in_use(), idle, "nobody has cosigned");
    module.clock.pass(Duration::from_hours(24));
    collect(&module, &mut disk);
    assert!(module.arena.in_use() > idle, "epochs go on turning");
}
