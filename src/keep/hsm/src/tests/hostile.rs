//! A hostile keyd: old stores, old logs, forged logs, foreign and replayed commands, forged acknowledgements.

use wire::batch::Verdict;
use wire::cbor::{Bytes, Cbor, Empty};
use wire::command::{Action, Command, SetDigest, SignedCommand};
use wire::error::Refusal;
use wire::frame::*;
use wire::key::Algorithm;

use super::room::*;
use crate::answer::Connection;

const KEY: [u8; 16] = *b"0123456789abcdef";

fn day() -> (People, Disk, Disk) {
    let (module, mut people) = (new_module(), People::new());
    let keyd = Keyd::start(&module, Disk::default());
    genesis(&module, &mut people);
    import(&module, &people, 1, Algorithm::Sm4, &KEY).unwrap();
    let early = keyd.stop();
    let keyd = Keyd::start(&module, early.clone());
    import(&module, &people, 2, Algorithm::Tdes, b"76543210fedcba98").unwrap();
    let (_, ticket) = batch(&module, 1, &[record(Algorithm::Sm4, &KEY, 1, 1, 0)]).unwrap();
    durable(&module, ticket).unwrap();
    (people, early, keyd.stop())
}

fn recovery(people: &People, disk: &Disk, floor_of: &Disk) -> Result<(), Refusal> {
    let module = new_module();
    attach(&module, disk);
    unseal(&module, people, &[1, 2, 3]).unwrap();
    let (size, root) = floor_of.head();
    floor(&module, people, size, root).unwrap();
    let outcome = replay(&module, disk).map_err(|refused| refused.code);
    let state = module.status().state;
    assert_eq!(state == ModuleState::Operational, outcome.is_ok(), "{state}");
    if outcome.is_err() {
        assert!(module.status().trouble.is_some(), "the officers are told");
        let open = KeydRequest::BatchOpen(BatchOpen {
            client: "c".into(),
            profile: wire::batch::Profile::PurchaseTac,
            lineage: wire::key::Lineage::parse("transit/purse/tac").unwrap(),
        });
        assert!(
            matches!(module.keyd(&mut Connection::default(), open), KeydResponse::Refused(_)),
            "nothing is served"
        );
    }
    outcome
}

#[test]
fn the_true_state_comes_back() {
    let (people, _, now) = day();
    let module = restart(&people, &now).unwrap();
    let good = record(Algorithm::Sm4, &KEY, 5, 5, 0);
    assert_eq!(batch(&module, 1, &[good]).unwrap().0, [Verdict::Ok]);
}

#[test]
fn an_old_log_below_the_floor_is_refused_and_above_it_accepted() {
    let (people, early, now) = day();
    assert_eq!(recovery(&people, &early, &now), Err(Refusal::BelowFloor), "old store and old log");
    assert_eq!(recovery(&people, &now, &early), Ok(()), "a lower floor takes the newer log");
}

#[test]
fn an_old_or_damaged_store_under_the_new_log_is_refused() {
    let (people, early, now) = day();
    let old_store = Disk { records: early.records.clone(), ..now.clone() };
    assert_eq!(recovery(&people, &old_store, &now), Err(Refusal::RecordMissing));
    let key = "transit/purse/tac@01";
    for bit in 0..now.records[key].len() * 8 {
        if bit % 37 != 0 {
            continue;
        }
        let mut flipped = now.clone();
        flipped.records.get_mut(key).unwrap()[bit / 8] ^= 1 << (bit % 8);
        let refused = recovery(&people, &flipped, &now).unwrap_err();
        assert!(
            matches!(refused, Refusal::RecordDamaged | Refusal::RecordMissing | Refusal::RecordOld),
            "{bit} {refused}"
        );
    }
    let mut swapped = now.clone();
    let (one, two) =
        (now.records["transit/purse/tac@01"].clone(), now.records["transit/purse/tac@02"].clone());
    swapped.records.insert("transit/purse/tac@01".into(), two);
    swapped.records.insert("transit/purse/tac@02".into(), one);
    assert_eq!(
        recovery(&people, &swapped, &now),
        Ok(()),
        "the store's names mean nothing; the records' own do"
    );
}

#[test]
fn dropped_changed_and_added_entries_are_refused() {
    let (people, _, now) = day();
    for at in 0..now.entries.len() {
        let mut dropped = now.clone();
        dropped.entries.remove(at);
        assert!(recovery(&people, &dropped, &now).is_err(), "{at}");
        let mut changed = now.clone();
        let last = changed.entries[at].len() - 1;
        changed.entries[at][last / 2] ^= 1;
        assert!(recovery(&people, &changed, &now).is_err(), "{at}");
    }
    let mut doubled = now.clone();
    doubled.entries.push(now.entries.last().unwrap().clone());
    assert_eq!(recovery(&people, &doubled, &now), Err(Refusal::LogForged));
    let mut head = now.clone();
    head.checkpoint = head.checkpoint.replace("citykeep.test", "citykeep.evil");
    assert_eq!(recovery(&people, &head, &now), Err(Refusal::LogForged));
}

#[test]
fn a_floor_for_another_boot_and_a_floor_of_one_officer_are_refused() {
    let (people, _, now) = day();
    let module = new_module();
    attach(&module, &now);
    unseal(&module, &people, &[0, 1, 2]).unwrap();
    let (size, root) = now.head();
    let epoch_key = module.status().epoch_key;
    let action = |boot| Action::Floor(wire::command::Floor { boot, size, root, epoch_key });
    let stale = people.signed(action([9; 16]));
    let OfficerResponse::Refused(refused) = module.officers(OfficerRequest::Floor(Bytes(stale))) else {
        panic!()
    };
    assert_eq!(refused.code, Refusal::FloorStale);
    let alone = people.sign(&people.command(action(module.boot)), &[0]);
    assert!(
        matches!(module.officers(OfficerRequest::Floor(Bytes(alone))), OfficerResponse::Done(_)),
        "known at the end"
    );
    assert_eq!(replay(&module, &now).unwrap_err().code, Refusal::QuorumMissing);
    assert_eq!(module.status().state, ModuleState::Recovering);
    floor(&module, &people, size, root).unwrap();
    replay(&module, &now).unwrap();
}

#[test]
fn foreign_replayed_and_altered_commands_gain_nothing() {
    let (people, _, now) = day();
    let module = restart(&people, &now).unwrap();
    let keyd = Keyd::start(&module, now);
    let relay = |signed: Vec<u8>| match module
        .keyd(&mut Connection::default(), KeydRequest::Command(Bytes(signed)))
    {
        KeydResponse::CommandDone(done) => Ok(done),
        KeydResponse::Refused(refused) => Err(refused.code),
        other => panic!("{other:?}"),
    };
    let policy = people.signed(Action::SetPolicy(SetDigest { digest: [8; 32] }));
    assert!(relay(policy.clone()).is_ok());
    assert_eq!(relay(policy.clone()), Err(Refusal::CommandUsed), "replayed");
    let mut foreign = people.clone();
    foreign.instance = [0x66; 16];
    assert_eq!(relay(foreign.signed(Action::Zeroise(Empty {}))), Err(Refusal::WrongInstance));
    let mut late = people.command(Action::Zeroise(Empty {}));
    late.not_after = 2;
    assert_eq!(relay(people.sign(&late, &[0, 1])), Err(Refusal::CommandWindow));
    let mut altered =
        SignedCommand::from_cbor(&people.signed(Action::SetPolicy(SetDigest { digest: [7; 32] }))).unwrap();
    let mut inside: Command = altered.open().unwrap();
    inside.action = Action::SetPolicy(SetDigest { digest: [0xee; 32] });
    altered.command = Bytes(inside.to_cbor());
    assert_eq!(relay(altered.to_cbor()), Err(Refusal::BadSignature));
    let module_state = module.live(|live| Ok(live.log.state().instance().unwrap().policy)).unwrap();
    assert_eq!(module_state, [8; 32]);
    keyd.stop();
}

#[test]
fn results_wait_for_the_acknowledgement_of_a_head_that_was_handed_out() {
    let (people, _, now) = day();
    let module = restart(&people, &now).unwrap();
    let (_, ticket) = batch(&module, 1, &[record(Algorithm::Sm4, &KEY, 9, 1, 0)]).unwrap();
    let release = || match module.keyd(&mut Connection::default(), KeydRequest::Release(Ticket { ticket })) {
        KeydResponse::Released(result) => Ok(result),
        KeydResponse::Refused(refused) => Err(refused.code),
        other => panic!("{other:?}"),
    };
    let collect = |durable, root| match module
        .keyd(&mut Connection::default(), KeydRequest::Collect(Collect { durable, root }))
    {
        KeydResponse::Collected(collected) => Ok(collected),
        KeydResponse::Refused(refused) => Err(refused.code),
        other => panic!("{other:?}"),
    };
    assert_eq!(release(), Err(Refusal::NotDurable));
    let mut disk = now;
    let (size, root) = disk.head();
    assert_eq!(collect(size + 2, [1; 32]), Err(Refusal::AckForged), "a head that nobody signed");
    let early = collect(size, root).unwrap();
    assert_eq!(collect(size - 1, [0; 32]), Err(Refusal::AckForged), "back");
    assert_eq!(release(), Err(Refusal::NotDurable), "handed out is not durable");
    disk.take(early);
    let (size, root) = disk.head();
    collect(size, root).unwrap();
    let result = release().unwrap();
    assert_eq!((result.records, result.counts.ok), (1, 1));
    assert_eq!(release(), Err(Refusal::UnknownTicket), "given once");
}

#[test]
fn a_batch_that_loses_its_connection_is_in_the_log_as_aborted() {
    let (people, _, now) = day();
    let module = restart(&people, &now).unwrap();
    let mut connection = Connection::default();
    let good = record(Algorithm::Sm4, &KEY, 1, 1, 0).to_bytes(wire::batch::Profile::PurchaseTac);
    for request in [
        KeydRequest::BatchOpen(BatchOpen {
            client: "c".into(),
            profile: wire::batch::Profile::PurchaseTac,
            lineage: wire::key::Lineage::parse("transit/purse/tac").unwrap(),
        }),
        KeydRequest::BatchGroups(BatchGroups {
            groups: vec![wire::batch::Group { version: wire::key::KeyVersion(1), issuer: ISSUER }],
        }),
        KeydRequest::BatchRecords(Bytes(good.to_vec())),
    ] {
        assert!(!matches!(module.keyd(&mut connection, request), KeydResponse::Refused(_)));
    }
    connection.closed(&module);
    let keyd = Keyd::start(&module, now);
    let last = module.live(|live| Ok(live.log.size())).unwrap() - 1;
    durable(&module, last).unwrap();
    let disk = keyd.stop();
    let entry = translog::entry::Entry::from_cbor(&disk.entries[usize::try_from(last).unwrap()]).unwrap();
    let translog::entry::Event::Batch(event) = entry.event else { panic!("{entry:?}") };
    assert!(event.aborted && event.total.is_none() && event.records == 1);
}

#[test]
fn every_refusal_of_the_living_module_is_in_the_log_with_its_count() {
    let (people, _, now) = day();
    let module = restart(&people, &now).unwrap();
    for _ in 0..3 {
        module.keyd(&mut Connection::default(), KeydRequest::BatchClose(Empty {}));
    }
    module.officers(OfficerRequest::Command(Bytes(vec![1, 2, 3])));
    let keyd = Keyd::start(&module, now);
    std::thread::sleep(std::time::Duration::from_millis(900));
    let disk = keyd.stop();
    let denied: Vec<_> = disk
        .entries
        .iter()
        .filter_map(|entry| match translog::entry::Entry::from_cbor(entry).unwrap().event {
            translog::entry::Event::Denied(denied) => Some((denied.code, denied.socket, denied.count)),
            _ => None,
        })
        .collect();
    assert!(denied.contains(&(Refusal::BatchOrder, "keyd".into(), 3)), "{denied:?}");
    assert!(denied.contains(&(Refusal::BadCommand, "officers".into(), 1)), "{denied:?}");
}

#[test]
fn a_zeroise_wipes_at_once_whoever_brings_it_and_whether_or_not_keyd_acknowledges() {
    let (people, _, now) = day();
    let module = restart(&people, &now).unwrap();
    let mut open = Connection::default();
    let request = KeydRequest::BatchOpen(BatchOpen {
        client: "c".into(),
        profile: wire::batch::Profile::PurchaseTac,
        lineage: wire::key::Lineage::parse("transit/purse/tac").unwrap(),
    });
    assert!(matches!(module.keyd(&mut open, request), KeydResponse::BatchOpened(_)));
    // Relayed by keyd, and nobody collects; its own assertions fill the queue.
    let item =
        Assertion { category: Category::Deny, code: "tls".into(), client: None, certificate: None, count: 1 };
    let flood = KeydRequest::Assert(Assertions { items: vec![item; 256] });
    while matches!(module.keyd(&mut Connection::default(), flood.clone()), KeydResponse::Ticket(_)) {}
    let zeroise = people.signed(Action::Zeroise(Empty {}));
    let relayed = module.keyd(&mut Connection::default(), KeydRequest::Command(Bytes(zeroise)));
    assert!(matches!(relayed, KeydResponse::CommandDone(_)), "{relayed:?}");
    assert_eq!(module.status().state, ModuleState::Zeroised);
    let good = record(Algorithm::Sm4, &KEY, 1, 1, 0).to_bytes(wire::batch::Profile::PurchaseTac);
    let answer = module.keyd(&mut open, KeydRequest::BatchRecords(Bytes(good.to_vec())));
    assert!(matches!(answer, KeydResponse::Refused(_)), "no verdict any more: {answer:?}");
    // Its entry can still be collected; then the log key goes too.
    let keyd = Keyd::start(&module, now);
    std::thread::sleep(std::time::Duration::from_millis(900));
    let disk = keyd.stop();
    assert!(matches!(module.lock().phase, crate::module::Phase::Zeroised));
    let back = restart(&people, &disk).unwrap();
    assert_eq!(batch(&back, 1, &[record(Algorithm::Sm4, &KEY, 5, 5, 0)]).unwrap().0, [Verdict::Ok]);
}

#[test]
fn a_name_that_would_not_fit_into_an_entry_gets_no_verdict() {
    let (people, _, now) = day();
    let module = restart(&people, &now).unwrap();
    let open = |len: usize| {
        let request = KeydRequest::BatchOpen(BatchOpen {
            client: "c".repeat(len),
            profile: wire::batch::Profile::PurchaseTac,
            lineage: wire::key::Lineage::parse("transit/purse/tac").unwrap(),
        });
        module.keyd(&mut Connection::default(), request)
    };
    assert!(matches!(open(256), KeydResponse::BatchOpened(_)));
    assert!(matches!(open(257), KeydResponse::Refused(refused) if refused.code == Refusal::TooLarge));
}

#[test]
fn a_foreign_root_can_be_given_up() {
    let (people, _, now) = day();
    let (other, mut strangers) = (new_module(), People::new());
    let keyd = Keyd::start(&other, Disk::default());
    genesis(&other, &mut strangers);
    keyd.stop();
    let module = new_module();
    attach(&module, &now);
    unseal(&module, &strangers, &[0, 1, 2]).unwrap();
    assert_eq!(module.status().state, ModuleState::Recovering);
    module.officers(OfficerRequest::Abort(Empty {}));
    assert_eq!(module.status().state, ModuleState::Sealed);
    unseal(&module, &people, &[0, 1, 2]).unwrap();
    let (size, root) = now.head();
    floor(&module, &people, size, root).unwrap();
    replay(&module, &now).unwrap();
}

/// A record that the module itself sealed, but that no entry names: what a crash between store and log leaves behind, or
/// what a thief of an older store brings.
#[test]
fn a_good_record_that_the_log_does_not_name_is_refused() {
    let (people, _, now) = day();
    let module = restart(&people, &now).unwrap();
    let resealed = |version: u8, algorithm, key: &[u8; 16], sequence| {
        let secret = module.arena.alloc(16, |bytes| {
            bytes.copy_from_slice(key);
            Ok::<(), ()>(())
        });
        let attributes = attributes(version, algorithm, key);
        let seal = |live: &mut crate::module::Live| {
            live.root.seal(&module.arena, &module.random, &attributes, sequence, &secret.unwrap())
        };
        module.live(seal).unwrap()
    };
    let with = |id: &str, record| {
        let mut disk = now.clone();
        assert!(disk.records.insert(id.to_owned(), record).is_some());
        recovery(&people, &disk, &now)
    };
    let again = resealed(1, Algorithm::Sm4, &KEY, 0);
    assert_eq!(with("transit/purse/tac@01", again), Err(Refusal::RecordDamaged));
    let older = resealed(2, Algorithm::Tdes, b"76543210fedcba98", 0);
    assert_eq!(with("transit/purse/tac@02", older), Err(Refusal::RecordOld));
}
