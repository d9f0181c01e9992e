//! Heads and entries of a log with epochs, as an auditor meets them; and its golden files.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use sha2::{Digest as _, Sha256};
    use translog::audit::{Finding, verify};
    use translog::entry::{
        ClosedEvent, Entry, Event, HeartbeatEvent, IntentEvent, TruncatedEvent, WitnessEvent,
    };
    use translog::epoch;
    use translog::fs::LogDir;
    use translog::note::{Checkpoint, VerifierKey, open_checkpoint, sign_checkpoint, sign_head};
    use translog::proof::TlogProof;
    use translog::tile::decode_bundle;
    use wire::cbor::Cbor;
    use wire::command::{Action, Command, SetDigest};
    use wire::error::Refusal;
    use wire::witness::{GRACE_DEFAULT, Prune, Witness, WitnessSet};

    use crate::support::{
        self, INSTANCE, Log, Maker, NODE, ORIGIN, assert_golden, assertion, epoch_key, golden,
    };

    const DAY_NS: u64 = 86_400_000_000_000;

    fn with_head(log: &Log, note: &str) -> Result<(), Finding> {
        fs::write(log.path("checkpoint"), note).unwrap();
        log.verify().map(drop)
    }

    /// Epoch 1: genesis to its turn. Epoch 2: an assertion. Epoch 3: a boot and an assertion.
    fn three_epochs() -> Maker {
        let mut maker = Maker::with_epochs();
        maker.push(assertion(1));
        maker.turn();
        maker.push(assertion(4));
        maker.restart([0x34; 16]);
        maker.push(assertion(6));
        maker
    }

    fn head(maker: &Maker) -> Checkpoint {
        Checkpoint { origin: ORIGIN.into(), size: maker.frontier.size(), root: maker.frontier.root() }
    }

    #[test]
    fn every_head_of_a_log_with_epochs_verifies_with_its_own_keys_line() {
        let mut steps = vec![Maker::with_epochs()];
        for step in 0..6 {
            let mut next = steps.last().unwrap().clone();
            match step {
                1 | 4 => drop(next.turn()),
                3 => next.restart([0x35; 16]),
                _ => drop(next.push(assertion(next.frontier.size()))),
            }
            steps.push(next);
        }
        for maker in &steps {
            let log = Log::of(maker);
            log.verify().unwrap();
            let (note, size) = (maker.note(), maker.frontier.size());
            assert_eq!(note.lines().filter(|line| line.starts_with('\u{2014}')).count(), 2);
            let own = maker.state.epochs().signer(size).unwrap().number;
            for number in (0..8).filter(|number| *number != own) {
                let by = sign_head(&head(maker), &maker.key, &epoch_key(u8::try_from(number).unwrap()));
                let finding = with_head(&log, &by).unwrap_err();
                assert!(finding.what.contains("epoch"), "{size} by {number}: {finding}");
            }
            with_head(&log, &note).unwrap();
        }
    }

    #[test]
    fn both_lines_and_no_other() {
        let maker = three_epochs();
        let log = Log::of(&maker);
        let note = maker.note();
        let (text, lines) = note.split_once("\n\n").unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        let note = |lines: &[&str]| format!("{text}\n\n{}\n", lines.join("\n"));
        with_head(&log, &note(&lines)).unwrap();
        let thief = sign_checkpoint(&head(&maker), &epoch_key(77));
        let extra = thief.lines().last().unwrap();
        // A good line under the epoch key's name and id, but for another text.
        let other = Checkpoint { size: 1, ..head(&maker) };
        let stale = sign_head(&other, &maker.key, &epoch_key(3));
        let stale = stale.lines().last().unwrap();
        for bad in [
            vec![lines[0]],
            vec![lines[1]],
            vec![lines[1], lines[1]],
            vec![lines[1], lines[0]],
            vec![lines[0], extra],
            vec![lines[0], extra, lines[1]],
            vec![lines[0], lines[1], extra],
            vec![lines[0], lines[1], lines[1]],
            vec![lines[0], stale],
            vec![lines[0], stale, lines[1]],
        ] {
            assert_eq!(with_head(&log, &note(&bad)).unwrap_err().file, "checkpoint", "{bad:?}");
        }
    }

    #[test]
    fn a_log_from_before_epochs_has_one_line() {
        let maker = support::ordinary(6);
        let log = Log::of(&maker);
        log.verify().unwrap();
        assert!(with_head(&log, &sign_head(&head(&maker), &maker.key, &epoch_key(1))).is_err());
        // The same log, continued by a module with epochs: the head's own last entry decides.
        let mut maker = maker;
        maker.epoch = Some(epoch_key(0));
        maker.restart([0x36; 16]);
        let log = Log::of(&maker);
        log.verify().unwrap();
        assert!(with_head(&log, &sign_checkpoint(&head(&maker), &maker.key)).is_err());
    }

    #[test]
    fn a_turn_that_locks_another_past_is_found() {
        let mut maker = Maker::with_epochs();
        maker.push(assertion(1));
        maker.heartbeat();
        let closing = epoch_key(1);
        let next = epoch_key(2).verifying_key().to_bytes();
        // What a rewritten log would hold: a turn that the real key signed over the real past.
        let turn = epoch::turn([&INSTANCE, &NODE], 2, &closing, next, (3, [0xee; 32]));
        maker.push(Event::Epoch(turn));
        maker.push(assertion(4));
        let finding = Log::of(&maker).verify().unwrap_err();
        assert_eq!(finding.index, Some(3));
        assert!(finding.what.contains("key of the epoch that ended here"), "{finding}");
    }

    #[test]
    fn an_entry_of_another_epoch_is_found() {
        let mut maker = three_epochs();
        let mut entry = maker.entry(assertion(7));
        for epoch in [0, 2, 4] {
            entry.epoch = epoch;
            let mut bad = maker.clone();
            bad.push_bytes(entry.to_cbor());
            let finding = Log::of(&bad).verify().unwrap_err();
            assert_eq!(finding.index, Some(7));
            assert!(finding.what.contains("epoch"), "{finding}");
        }
    }

    #[test]
    fn a_receipt_from_a_log_with_epochs_proves_its_entry() {
        let maker = three_epochs();
        let note = maker.note();
        let read = open_checkpoint(&note, &maker.vkey()).unwrap();
        let key = |number| epoch_key(number).verifying_key().to_bytes();
        assert!(read.beyond_log(Some(&key(3))).unwrap().is_empty());
        assert!(read.beyond_log(Some(&key(2))).is_err());
        assert_eq!(read.beyond_log(None).unwrap().len(), 1);
        let (dir, wal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut log = LogDir::open(dir.path(), wal.path()).unwrap();
        log.append(&maker.entries, &note).unwrap();
        let proof = log.proof(3, log.size()).unwrap().to_text();
        let proof = TlogProof::parse(&proof).unwrap();
        assert_eq!(proof.verify(&maker.vkey(), &maker.entries[3]).unwrap().size, maker.frontier.size());
    }

    fn intent(maker: &mut Maker, action: Action) -> (u64, Command) {
        let command = maker.command(action);
        let digest = Sha256::digest(support::sign(&command, &[1, 2]).to_cbor()).into();
        let action = command.action.tag();
        (maker.push(Event::Intent(IntentEvent { command: command.id, digest, action })), command)
    }

    /// Every kind of entry that came with epochs, at least once.
    fn second_log() -> Maker {
        let mut maker = Maker::with_epochs();
        let witness = |at: u8| Witness { name: format!("witness.example/w{at}"), key: [at; 32] };
        let witnesses = (1..=3).map(witness).collect();
        let set = WitnessSet { witnesses, quorum: 2, grace: GRACE_DEFAULT };
        let event = maker.command_event(Action::SetWitnesses(set), None);
        maker.push(event);
        let time = 1_700_000_000;
        for change in [1, 2] {
            maker.push(Event::Witness(WitnessEvent { change, size: 2, time }));
        }
        maker.push(Event::Heartbeat(HeartbeatEvent { witnessed: 2, time }));
        let (_, command) = intent(&mut maker, Action::SetPolicy(SetDigest { digest: [0xaa; 32] }));
        maker.push(support::command_event(&command, &[1, 2], None));
        let (index, _) = intent(&mut maker, Action::SetCa(SetDigest { digest: [0xbb; 32] }));
        maker.push(Event::Closed(ClosedEvent { intent: index, reason: Refusal::Busy.code() }));
        maker.turn();
        let (index, _) = intent(&mut maker, Action::SetCa(SetDigest { digest: [0xcc; 32] }));
        maker.restart([0x34; 16]);
        maker.push(Event::Closed(ClosedEvent { intent: index, reason: 0 }));
        maker.push(Event::Truncated(TruncatedEvent { bytes: 77, digest: [0x99; 32] }));
        maker.ahead_ns = DAY_NS;
        let second_day = maker.push(assertion(1));
        maker.ahead_ns = 185 * DAY_NS;
        maker.heartbeat();
        let event = maker.command_event(Action::Prune(Prune { below: second_day }), None);
        maker.push(event);
        maker
    }

    /// Writes the golden files as the present code makes them.
    fn write(dir: &Path) {
        let maker = second_log();
        let mut log = LogDir::open(&dir.join("v2"), &dir.join("wal-v2")).unwrap();
        log.append(&maker.entries, &maker.note()).unwrap();
        log.publish().unwrap();
        log.write_vkey(&maker.vkey()).unwrap();
    }

    #[test]
    fn golden_files_are_what_is_written_today() {
        assert_golden(&["v2", "wal-v2"], write);
    }

    #[test]
    fn the_golden_log_verifies_and_has_every_kind() {
        let vkey = VerifierKey::parse(&fs::read_to_string(golden("v2/vkey")).unwrap()).unwrap();
        let report = verify(&golden("v2"), &vkey, |_, _| {}).unwrap();
        for kind in ["epoch", "heartbeat", "witness", "intent", "closed", "truncated"] {
            assert!(report.kinds.get(kind).is_some_and(|count| *count > 0), "{kind}");
        }
        let bundle = translog::tile::Tile::bundle(0, report.size).unwrap();
        let bytes = fs::read(golden("v2").join(bundle.to_string())).unwrap();
        for entry in decode_bundle(&bytes, report.size).unwrap() {
            let read = Entry::from_cbor(entry).unwrap();
            assert_eq!(read.to_cbor(), entry);
            for len in 0..entry.len() {
                assert!(Entry::from_cbor(&entry[..len]).is_err());
            }
        }
        let entries = decode_bundle(&bytes, report.size).unwrap();
        let epochs: Vec<u64> = entries.iter().map(|entry| Entry::from_cbor(entry).unwrap().epoch).collect();
        assert_eq!((epochs.first(), epochs.last()), (Some(&1), Some(&3)));
        assert!(epochs.windows(2).all(|pair| pair[1] - pair[0] <= 1));
    }
}
