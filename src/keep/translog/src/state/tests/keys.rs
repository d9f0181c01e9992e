use super::*;

#[test]
fn every_cell_of_the_key_states() {
    use KeyState::{Active, PreActive, Suspended, VerifyOnly};
    let states = [PreActive, Active, Suspended, VerifyOnly];
    let table = [
        // to:     pre    active suspended verify-only
        (PreActive, [false, true, false, false]),
        (Active, [false, false, true, true]),
        (Suspended, [false, true, false, true]),
        (VerifyOnly, [false, false, true, false]),
    ];
    let reach: [&[KeyState]; 4] = [&[], &[Active], &[Active, Suspended], &[Active, VerifyOnly]];
    for ((from, row), path) in table.into_iter().zip(reach) {
        let mut room = Room::new();
        room.run(Action::GenerateKey(attributes(1))).unwrap();
        for state in path {
            room.run(set_state(1, *state)).unwrap();
        }
        for (to, allowed) in states.into_iter().zip(row) {
            assert_eq!(may_become(from, to), allowed, "{from} to {to}");
            let mut room = room.clone();
            assert_eq!(room.state.key(&key_id(1)).unwrap().state, from);
            let refusal = (!allowed).then_some(Refusal::KeyState);
            assert_eq!(room.refusal(set_state(1, to)), refusal);
            assert_eq!(room.run(set_state(1, to)).is_ok(), allowed);
            assert_eq!(room.state.key(&key_id(1)).unwrap().state, if allowed { to } else { from });
        }
    }
}

fn import(version: u8, custodians: &[&str]) -> Action {
    let component = |custodian: &&str| ComponentSpec {
        custodian: (*custodian).to_owned(),
        kcv: [0; 3],
        commitment: [0; 32],
    };
    Action::ImportKey(ImportKey {
        attributes: attributes(version),
        components: custodians.iter().map(component).collect(),
    })
}

#[test]
fn which_keys_can_be_made() {
    let mut room = Room::new();
    room.run(Action::GenerateKey(attributes(1))).unwrap();
    assert_eq!(room.state.next_sequence(), 1);
    assert!(room.state.has_fingerprint(&[1; 16]) && !room.state.has_fingerprint(&[2; 16]));
    assert_eq!(room.refusal(Action::GenerateKey(attributes(1))), Some(Refusal::KeyExists));
    assert_eq!(room.refusal(import(1, &["a", "b"])), Some(Refusal::KeyExists));
    let with = |edit: fn(&mut KeyAttributes)| {
        let mut key = attributes(2);
        edit(&mut key);
        Action::GenerateKey(key)
    };
    assert_eq!(
        room.refusal(with(|key| key.levels.clear())),
        None,
        "a transport or signing key has no levels"
    );
    assert_eq!(
        room.refusal(with(|key| key.levels = vec![FactorSource::ISSUER_ID; 4])),
        Some(Refusal::KeyAttributes)
    );
    assert_eq!(room.refusal(with(|key| key.usage.clear())), Some(Refusal::KeyAttributes));
    assert_eq!(room.refusal(with(|key| key.levels = vec![FactorSource::ISSUER_ID; 3])), None);
    for custodians in [&[][..], &["a"], &["a", "a"], &["a", "b", "a"]] {
        assert_eq!(room.refusal(import(2, custodians)), Some(Refusal::BadSet));
    }
    assert_eq!(room.refusal(import(2, &["a", "b"])), None);
    assert_eq!(room.refusal(set_state(2, KeyState::Active)), Some(Refusal::NoSuchKey));
}

#[test]
fn the_key_made_is_the_key_named() {
    let mut room = Room::new();
    room.run(Action::GenerateKey(attributes(1))).unwrap();
    let edits = [
        ((|event| event.made = None) as fn(&mut CommandEvent), "made a key"),
        (|event| event.made.as_mut().unwrap().attributes.version = KeyVersion(9), "not the one"),
        (|event| event.made.as_mut().unwrap().sequence = 0, "sequence"),
        (|event| event.made.as_mut().unwrap().fingerprint = [1; 16], "same key bytes"),
        (|event| event.card = Some([0; 8]), "card tag"),
    ];
    for action in [Action::GenerateKey(attributes(2)), import(2, &["a", "b"])] {
        for (edit, why) in edits {
            let Event::Command(mut event) = room.does(action.clone()) else {
                panic!("a command");
            };
            edit(&mut event);
            room.fails(&Event::Command(event), why);
        }
    }
    let kcv = |event: &mut CommandEvent| event.made.as_mut().unwrap().attributes.kcv = [1, 2, 3];
    let Event::Command(mut event) = room.does(import(2, &["a", "b"])) else {
        panic!("a command");
    };
    kcv(&mut event);
    room.fails(&Event::Command(event), "not the one");
    let Event::Command(mut event) = room.does(Action::GenerateKey(attributes(2))) else {
        panic!("a command");
    };
    kcv(&mut event);
    room.take(&Event::Command(event)).unwrap();
    assert_eq!(room.state.key(&key_id(2)).unwrap().made.attributes.kcv, [1, 2, 3]);
    let ids: Vec<&KeyId> = room.state.keys().map(|(id, _)| id).collect();
    assert_eq!(ids, [&key_id(1), &key_id(2)]);
    let Event::Command(mut event) = room.does(Action::SetCa(SetDigest { digest: [0; 32] })) else {
        panic!("a command");
    };
    event.made = room.state.key(&key_id(1)).map(|key| key.made.clone());
    room.fails(&Event::Command(event), "made a key");
}

#[test]
fn limits_change_in_a_rehearsal_only_and_within_the_caps() {
    let mut room = Room::new();
    let limits = |card, version| Action::SetLimits(Limits { card, version });
    room.run(limits(1 << 16, 1 << 24)).unwrap();
    assert_eq!(room.state.instance().unwrap().limits, LIMITS_MAX);
    assert_eq!(room.refusal(limits((1 << 16) + 1, 1)), Some(Refusal::Limits));
    assert_eq!(room.refusal(limits(1, (1 << 24) + 1)), Some(Refusal::Limits));
    let mut real = Room::empty();
    let mut production = genesis();
    production.rehearsal = false;
    let event = real.genesis(production, |_| {});
    real.take(&event).unwrap();
    assert_eq!(real.refusal(limits(1, 1)), Some(Refusal::Limits));
}

#[test]
fn wrong_pairs_add_up_and_budgets_come_back() {
    let mut room = Room::new();
    room.run(Action::GenerateKey(attributes(1))).unwrap();
    room.fails(&Event::Failures(FailuresEvent { wrong: pairs(2, &[pair(1, 1)]) }), "does not exist");
    let mut short = pairs(1, &[pair(1, 1)]);
    short[0].pairs.0.pop();
    room.fails(&Event::Failures(FailuresEvent { wrong: short }), "cut short");
    room.take(&Event::Failures(FailuresEvent { wrong: pairs(1, &[pair(1, 1), pair(1, 2)]) })).unwrap();
    room.take(&Event::Single(SingleEvent { top: [0; 32], rows: vec![], wrong: pairs(1, &[pair(2, 1)]) }))
        .unwrap();
    let batch = BatchEvent {
        batch: [0; 16],
        client: String::new(),
        profile: wire::batch::Profile::PurchaseTac,
        lineage: attributes(1).lineage,
        part: 0,
        records: 0,
        top: [0; 32],
        counts: Counts::default(),
        versions: vec![],
        wrong: pairs(1, &[pair(1, 3)]),
        total: None,
        aborted: true,
    };
    room.take(&Event::Batch(batch)).unwrap();
    let failures = room.state.failures();
    assert_eq!((failures.of_version(&key_id(1)), failures.of_version(&key_id(2))), (4, 0));
    assert_eq!((failures.of_card(&[1; 8]), failures.of_card(&[2; 8]), failures.of_card(&[3; 8])), (3, 1, 0));
    assert_eq!(failures.most(), 3);
    assert!(failures.knows(&[1; 8], &[3; 8]) && !failures.knows(&[2; 8], &[3; 8]));

    assert_eq!(
        room.refusal(Action::ResetBudget(ResetBudget { key: None, card: None })),
        Some(Refusal::BadCommand)
    );
    let card = CardRef { wall: "transit".into(), issuer: [0; 8], card: [0; 8] };
    let reset = Action::ResetBudget(ResetBudget { key: Some(key_id(1)), card: Some(card) });
    let event = room.does(reset);
    room.fails(&event, "card tag");
    let Event::Command(mut event) = event else {
        panic!("a command");
    };
    event.card = Some([1; 8]);
    room.take(&Event::Command(event)).unwrap();
    let failures = room.state.failures();
    assert_eq!((failures.of_version(&key_id(1)), failures.of_card(&[1; 8]), failures.most()), (0, 0, 1));
    assert!(!failures.knows(&[1; 8], &[3; 8]));
}
