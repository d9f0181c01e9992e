use super::*;

#[test]
fn a_log_begins_with_one_genesis() {
    let mut room = Room::empty();
    room.fails(&asserted(), "genesis");
    let boot = room.boot(BOOT, 1);
    room.fails(&boot, "genesis");
    let mut no_set = genesis();
    no_set.officers.threshold = 1;
    let mut no_custodians = genesis();
    no_custodians.custodians.threshold = 1;
    let mut other_node = genesis();
    other_node.node = [0; 16];
    let mut origin = genesis();
    origin.origin = "log example".into();
    for (genesis, why) in
        [(no_set, "unsound"), (no_custodians, "unsound"), (other_node, "another module"), (origin, "origin")]
    {
        let event = room.genesis(genesis, |_| {});
        room.fails(&event, why);
    }
    for (edit, why) in [
        ((|command| command.version = 2) as fn(&mut Command), "format"),
        (|command| command.suite = 2, "format"),
        (|command| command.officer_epoch = 1, "officer epoch 0"),
        (|command| command.not_before = 1, "index 0"),
        (|command| command.action = Action::Zeroise(Empty {}), "another kind"),
    ] {
        let event = room.genesis(genesis(), edit);
        room.fails(&event, why);
    }
    let good = room.genesis(genesis(), |_| {});
    let root = room.take(&good).unwrap();
    assert_eq!(root, room.state.root());
    let instance = room.state.instance().unwrap();
    assert_eq!((instance.instance, instance.node, instance.officer_epoch), (INSTANCE, NODE, 1));
    assert_eq!((instance.limits, instance.log_key, instance.zeroised), (DEFAULT_LIMITS, [8; 32], false));
    let event = room.genesis(genesis(), |_| {});
    room.boot = [4; 16];
    room.fails(&event, "second genesis");
    assert_eq!(room.refusal(Action::Genesis(genesis())), Some(Refusal::WrongState));
}

#[test]
fn commands_fit_instance_officers_window_and_come_once() {
    let mut room = Room::new();
    let policy = Action::SetPolicy(SetDigest { digest: [0xaa; 32] });
    for (edit, refusal, why) in [
        (
            (|command| command.instance = [0; 16]) as fn(&mut Command),
            Refusal::WrongInstance,
            "another instance",
        ),
        (|command| command.officer_epoch = 0, Refusal::OfficerEpoch, "officer set has changed"),
        (|command| command.officer_epoch = 2, Refusal::OfficerEpoch, "officer set has changed"),
        (|command| command.id = [1; 16], Refusal::CommandUsed, "before"),
        (|command| command.not_before = 2, Refusal::CommandWindow, "window"),
        (|command| command.not_after = 0, Refusal::CommandWindow, "window"),
    ] {
        let mut command = room.command(policy.clone());
        edit(&mut command);
        assert_eq!(room.state.check_command(&command).unwrap_err().code, refusal);
        let event = room.event(&command);
        room.fails(&event, why);
    }
    let mut command = room.command(policy);
    (command.not_before, command.not_after) = (1, 1);
    let event = room.event(&command);
    room.take(&event).unwrap();
    assert!(room.state.is_used(&command.id));
    assert_eq!(room.state.instance().unwrap().policy, [0xaa; 32]);
    command.not_after = 9;
    let event = room.event(&command);
    room.fails(&event, "before");
    for (edit, why) in [
        ((|command| command.version = 2) as fn(&mut Command), "format"),
        (|command| command.suite = 2, "format"),
    ] {
        let mut command = room.command(Action::SetCa(SetDigest { digest: [0; 32] }));
        edit(&mut command);
        let event = room.event(&command);
        room.fails(&event, why);
    }
}

#[test]
fn a_change_of_officers_voids_pending_commands() {
    let mut room = Room::new();
    let pending = room.does(Action::SetCa(SetDigest { digest: [0xbb; 32] }));
    room.run(Action::SetOfficers(quorum(40))).unwrap();
    assert_eq!(room.state.instance().unwrap().officers, quorum(40));
    room.fails(&pending, "officer set has changed");
    room.run(Action::SetCa(SetDigest { digest: [0xbb; 32] })).unwrap();
    assert_eq!(room.state.instance().unwrap().ca, [0xbb; 32]);
    let mut alone = quorum(40);
    alone.threshold = 1;
    assert_eq!(room.refusal(Action::SetOfficers(alone)), Some(Refusal::BadSet));
}

#[test]
fn boots() {
    let mut room = Room::new();
    room.take(&asserted()).unwrap();
    let state = room.state.clone();
    let refuse = |boot: Id, event: &Event, why: &str| {
        let mut room = Room { state: state.clone(), next: 50, boot };
        room.fails(event, why);
    };
    refuse([4; 16], &asserted(), "another boot");
    refuse(BOOT, &room.boot(BOOT, 2), "twice");
    refuse([0; 16], &room.boot([0; 16], 2), "twice");
    refuse([4; 16], &room.boot([5; 16], 2), "for another boot");
    refuse([4; 16], &room.boot([4; 16], 3), "shorter than its floor");
    refuse([4; 16], &room.boot([4; 16], 0), "at least the genesis");
    let no_floor = Event::Boot(BootEvent {
        floor: signed(&room.command(Action::Zeroise(Empty {}))),
        module: [0; 32],
        memory: String::new(),
        epoch_key: None,
    });
    refuse([4; 16], &no_floor, "no floor");
    let other_node = room.state.clone().advance(&room.boot([4; 16], 2), [4; 16], [0; 16], [0; 2]);
    assert!(other_node.unwrap_err().0.contains("another module"));
    let floor = Floor { boot: BOOT, size: 1, root: [0; 32], epoch_key: None };
    let event = room.does(Action::Floor(floor));
    room.fails(&event, "boot entry and nowhere else");

    let event = room.boot([4; 16], 2);
    room.boot = [4; 16];
    room.state.advance(&event, [4; 16], NODE, [0; 2]).unwrap();
    assert_eq!(room.state.boots(), 2);
    let again = room.boot(BOOT, 2);
    room.boot = BOOT;
    room.fails(&again, "twice");
}

#[test]
fn nothing_but_a_boot_follows_zeroisation() {
    let mut room = Room::new();
    room.run(Action::Zeroise(Empty {})).unwrap();
    assert!(room.state.instance().unwrap().zeroised);
    room.fails(&asserted(), "wiping");
    let event = room.boot([4; 16], 2);
    room.boot = [4; 16];
    room.take(&event).unwrap();
    assert!(!room.state.instance().unwrap().zeroised);
    room.take(&asserted()).unwrap();
}

#[test]
fn every_kind_of_change_changes_the_root() {
    let mut room = Room::new();
    let mut roots = vec![room.state.root()];
    let mut actions = vec![
        Action::GenerateKey(attributes(1)),
        set_state(1, KeyState::Active),
        Action::SetOfficers(quorum(50)),
        Action::SetPolicy(SetDigest { digest: [1; 32] }),
        Action::SetCa(SetDigest { digest: [1; 32] }),
        Action::SetLimits(Limits { card: 1, version: 1 }),
        Action::ResetBudget(ResetBudget { key: Some(key_id(1)), card: None }),
        Action::Zeroise(Empty {}),
    ];
    for action in actions.drain(..) {
        room.run(action).unwrap();
        roots.push(room.state.root());
    }
    let event = room.boot([4; 16], 1);
    room.boot = [4; 16];
    room.take(&event).unwrap();
    roots.push(room.state.root());
    room.take(&Event::Failures(FailuresEvent { wrong: pairs(1, &[pair(1, 1)]) })).unwrap();
    roots.push(room.state.root());
    // What only happened changes nothing that it has to stand on.
    for event in [
        asserted(),
        Event::Denied(DeniedEvent { code: Refusal::Busy, socket: "keyd".into(), request: 1, count: 1 }),
        Event::Component(ComponentEvent { command: [0; 16], custodian: "a".into(), refused: None }),
    ] {
        room.take(&event).unwrap();
        assert_eq!(Some(&room.state.root()), roots.last());
    }
    let count = roots.len();
    roots.sort_unstable();
    roots.dedup();
    assert_eq!(roots.len(), count);
}

fn entry(state: &mut LogState, event: Event) -> Entry {
    let (seq, mono_ns) = (state.size(), state.size());
    let state_root = state.advance(&event, BOOT, NODE, [0, mono_ns]).unwrap();
    Entry {
        version: 1,
        seq,
        node: NODE,
        boot: BOOT,
        epoch: 0,
        wall_ns: 0,
        mono_ns,
        salt: [0; 16],
        state_root,
        event,
    }
}

#[test]
fn what_the_module_makes_the_auditor_takes_and_nothing_else() {
    let mut module = LogState::new();
    let genesis = Room::empty().genesis(genesis(), |_| {});
    let first = entry(&mut module, genesis);
    let second = entry(&mut module, asserted());
    let mut good = LogState::new();
    good.apply(&first).unwrap();
    for (edit, why) in [
        ((|entry| entry.version = 2) as fn(&mut Entry), "format"),
        (|entry| entry.seq = 0, "place"),
        (|entry| entry.epoch = 1, "epoch"),
        (|entry| entry.node = [0; 16], "another module"),
        (|entry| entry.boot = [0; 16], "another boot"),
        (|entry| entry.state_root[9] ^= 1, "state root"),
    ] {
        let mut bad = second.clone();
        edit(&mut bad);
        let error = good.clone().apply(&bad).unwrap_err();
        assert!(error.0.contains(why), "{error}");
    }
    good.apply(&second).unwrap();
    let mut earlier = entry(&mut module, asserted());
    earlier.mono_ns = 0;
    assert!(good.clone().apply(&earlier).unwrap_err().0.contains("clock"));
    earlier.mono_ns = 1;
    good.apply(&earlier).unwrap();
    assert_eq!((good.root(), good.size()), (module.root(), 3));
}
