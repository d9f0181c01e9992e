//! Failure budgets: a TAC cannot be guessed, honest clients lose nothing, a restart resets nothing.

use wire::batch::Verdict;
use wire::command::{Action, CardRef, Limits, ResetBudget};
use wire::error::Refusal;
use wire::key::{Algorithm, KeyState};

use super::room::*;

const KEY: [u8; 16] = *b"0123456789abcdef";

fn living(algorithm: Algorithm) -> (std::sync::Arc<crate::Module>, People, Keyd) {
    let (module, mut people) = (new_module(), People::new());
    let keyd = Keyd::start(&module, Disk::default());
    genesis(&module, &mut people);
    import(&module, &people, 1, algorithm, &KEY).unwrap();
    (module, people, keyd)
}

fn one(module: &crate::Module, off: u32) -> Verdict {
    batch(module, 1, &[record(Algorithm::Sm4, &KEY, 7, 1, off)]).unwrap().0[0]
}

#[test]
fn brute_force_of_one_tac_ends_after_sixteen_wrong_guesses() {
    let (module, people, keyd) = living(Algorithm::Sm4);
    for off in 1..=16 {
        assert_eq!(one(&module, off), Verdict::BadTac, "{off}");
    }
    assert_eq!(one(&module, 17), Verdict::Withheld);
    assert_eq!(one(&module, 0), Verdict::Withheld, "the true TAC must look like any other now");
    let other = record(Algorithm::Sm4, &KEY, 8, 1, 0);
    assert_eq!(batch(&module, 1, &[other]).unwrap().0[0], Verdict::Ok, "other cards go on");
    // A restart gives no guess back.
    std::thread::sleep(std::time::Duration::from_millis(700));
    let disk = keyd.stop();
    let module = restart(&people, &disk).unwrap();
    assert_eq!(one(&module, 18), Verdict::Withheld);
    assert_eq!(one(&module, 0), Verdict::Withheld);
    // Officers can give the card back.
    let keyd = Keyd::start(&module, disk);
    let card = record(Algorithm::Sm4, &KEY, 7, 1, 0).card;
    let card = CardRef { wall: "transit".into(), issuer: ISSUER, card };
    let reset = Action::ResetBudget(ResetBudget { key: None, card: Some(card) });
    command(&module, people.signed(reset)).unwrap();
    assert_eq!(one(&module, 0), Verdict::Ok);
    keyd.stop();
}

#[test]
fn the_same_wrong_pair_again_is_no_new_guess() {
    let (module, _, keyd) = living(Algorithm::Sm4);
    for _ in 0..40 {
        assert_eq!(one(&module, 5), Verdict::BadTac);
    }
    assert_eq!(one(&module, 0), Verdict::Ok);
    keyd.stop();
}

#[test]
fn within_one_frame_the_budget_holds_too() {
    let (module, _, keyd) = living(Algorithm::Tdes);
    let records: Vec<_> = (0..40).map(|off| record(Algorithm::Tdes, &KEY, 7, 1, off)).collect();
    let (verdicts, _) = batch(&module, 1, &records).unwrap();
    assert_eq!(verdicts[0], Verdict::Ok);
    assert_eq!(verdicts[1..17], [Verdict::BadTac; 16]);
    assert_eq!(verdicts[17..], [Verdict::Withheld; 23]);
    keyd.stop();
}

#[test]
fn a_version_over_its_budget_withholds_all_until_a_quorum_resets_it() {
    let (module, people, keyd) = living(Algorithm::Sm4);
    command(&module, people.signed(Action::SetLimits(Limits { card: 16, version: 3 }))).unwrap();
    let wrong: Vec<_> = (0..5).map(|card| record(Algorithm::Sm4, &KEY, card, 1, 1)).collect();
    let (verdicts, _) = batch(&module, 1, &wrong).unwrap();
    assert_eq!(verdicts[..3], [Verdict::BadTac; 3]);
    assert_eq!(verdicts[3..], [Verdict::Withheld; 2]);
    let good = record(Algorithm::Sm4, &KEY, 99, 1, 0);
    assert_eq!(batch(&module, 1, &[good]).unwrap().0[0], Verdict::Withheld);
    command(&module, people.signed(Action::ResetBudget(ResetBudget { key: Some(key_id(1)), card: None })))
        .unwrap();
    assert_eq!(batch(&module, 1, &[good]).unwrap().0[0], Verdict::Ok);
    keyd.stop();
}

#[test]
fn thousands_of_wrong_pairs_all_reach_the_log() {
    let (module, people, keyd) = living(Algorithm::Sm4);
    let wrong: Vec<_> = (0..5000).map(|card| record(Algorithm::Sm4, &KEY, card, 1, 1)).collect();
    let (verdicts, ticket) = batch(&module, 1, &wrong).unwrap();
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::BadTac));
    durable(&module, ticket).unwrap();
    let disk = keyd.stop();
    let module = restart(&people, &disk).unwrap();
    let counted = module.live(|live| Ok(live.log.state().failures().of_version(&key_id(1)))).unwrap();
    assert_eq!(counted, 5000);
}

#[test]
fn key_states_decide_and_a_suspended_key_is_unknown() {
    let (module, people, keyd) = living(Algorithm::Sm4);
    let good = [record(Algorithm::Sm4, &KEY, 1, 1, 0)];
    let verdict = |module: &crate::Module| batch(module, 1, &good).unwrap().0[0];
    assert_eq!(verdict(&module), Verdict::Ok);
    assert_eq!(batch(&module, 2, &good).unwrap().0[0], Verdict::UnknownKey, "no such version");
    for (state, expected) in [
        (KeyState::Suspended, Verdict::UnknownKey),
        (KeyState::Active, Verdict::Ok),
        (KeyState::VerifyOnly, Verdict::Ok),
        (KeyState::Suspended, Verdict::UnknownKey),
    ] {
        set_state(&module, &people, 1, state).unwrap();
        assert_eq!(verdict(&module), expected, "{state}");
    }
    let back = set_state(&module, &people, 1, KeyState::PreActive);
    assert_eq!(back.unwrap_err().code, Refusal::KeyState);
    keyd.stop();
}

#[test]
fn a_factor_that_the_key_does_not_use_gives_no_fresh_guesses() {
    use wire::batch::Group;
    use wire::cbor::{Bytes, Empty};
    use wire::frame::{BatchGroups, BatchOpen, KeydRequest, KeydResponse};
    use wire::key::{FactorSource, KeyVersion, Lineage};
    let (module, people, keyd) = living(Algorithm::Sm4);
    let mut wanted = attributes(9, Algorithm::Sm4, &KEY);
    wanted.levels = vec![FactorSource::ASN_RIGHT8];
    command(&module, people.signed(Action::GenerateKey(wanted))).unwrap();
    set_state(&module, &people, 9, KeyState::Active).unwrap();
    let mut connection = crate::Connection::default();
    let open = BatchOpen {
        client: "c".into(),
        profile: wire::batch::Profile::PurchaseTac,
        lineage: Lineage::parse("transit/purse/tac").unwrap(),
    };
    // Every guess under another issuer; the card's key does not depend on it.
    let groups = (1..=20_u8).map(|at| Group { version: KeyVersion(9), issuer: [at; 8] }).collect();
    let records: Vec<u8> = (0..20_u16)
        .flat_map(|at| {
            let guess = record(Algorithm::Sm4, &KEY, 7, 1, u32::from(at));
            wire::batch::Record { group: at, ..guess }.to_bytes(wire::batch::Profile::PurchaseTac)
        })
        .collect();
    module.keyd(&mut connection, KeydRequest::BatchOpen(open));
    module.keyd(&mut connection, KeydRequest::BatchGroups(BatchGroups { groups }));
    let answer = module.keyd(&mut connection, KeydRequest::BatchRecords(Bytes(records)));
    let KeydResponse::Verdicts(verdicts) = answer else { panic!("{answer:?}") };
    let verdicts: Vec<Verdict> = verdicts.iter().filter_map(|byte| Verdict::from_byte(*byte)).collect();
    assert_eq!(verdicts, [[Verdict::BadTac; 16].as_slice(), &[Verdict::Withheld; 4]].concat());
    module.keyd(&mut connection, KeydRequest::BatchClose(Empty {}));
    keyd.stop();
}
