//! Whatever is changed in a published log is found, and the place is named.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {

    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;
    use std::thread;

    use crate::support::{Log, Maker, assertion, boot_event, command_event, genesis, ordinary};
    use translog::audit::{Dir, Finding, Verifier, verify};
    use translog::entry::{Entry, Event};
    use translog::fs::LogDir;
    use translog::note::{Checkpoint, VerifierKey, sign_checkpoint};
    use translog::policy::Policy;
    use translog::tile::{Tile, encode_bundle};
    use wire::cbor::{Bytes, Cbor};
    use wire::command::{Action, Floor, SetDigest, SignedCommand};
    use wire::key::KeyState;

    /// A full tile, and a second one that is not.
    const SIZE: u64 = 260;

    /// All files of a log of `SIZE` entries.
    fn files(log: &Log) -> Vec<String> {
        let mut files = vec!["checkpoint".to_owned(), "vkey".to_owned()];
        for index in 0..2 {
            files.push(Tile::of_tree(0, index, SIZE).unwrap().to_string());
            files.push(Tile::bundle(index, SIZE).unwrap().to_string());
        }
        files.push(Tile::of_tree(1, 0, SIZE).unwrap().to_string());
        assert!(files.iter().all(|file| log.path(file).is_file()));
        files
    }

    /// Which entry a byte of a bundle belongs to, its length prefix included.
    fn entry_at(maker: &Maker, first: usize, at: usize) -> u64 {
        let mut end = 0;
        let entries = maker.entries.iter().enumerate().skip(first);
        let found = entries.map(|(index, entry)| {
            end += 2 + entry.len();
            (index, end)
        });
        let found = found.filter(|(_, end)| at < *end).map(|(index, _)| index).next();
        found.unwrap() as u64
    }

    /// What a finding must name when byte `at` of `file` was changed.
    fn expected(maker: &Maker, file: &str, at: usize) -> Option<u64> {
        match file {
            "tile/0/000" => Some(at as u64 / 32),
            "tile/0/001.p/4" => Some(256 + at as u64 / 32),
            "tile/entries/000" => Some(entry_at(maker, 0, at)),
            "tile/entries/001.p/4" => Some(entry_at(maker, 256, at)),
            _ => None,
        }
    }

    fn flip_every_byte(maker: &Maker, log: &Log, file: &str, worker: usize) -> usize {
        let path = log.path(file);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let mut flips = 0;
        for at in (worker..good.len()).step_by(2) {
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).unwrap();
            let finding = log.finding();
            assert_eq!(
                (finding.file.as_str(), finding.index),
                (file, expected(maker, file, at)),
                "byte {at}"
            );
            bad[at] = good[at];
            flips += 1;
        }
        fs::write(&path, good).unwrap();
        flips
    }

    /// Python takes its time over each, so the log is a small one.
    #[test]
    fn every_byte_of_a_small_log_counts_for_the_script_too() {
        let log = Log::of(&ordinary(5));
        log.verify().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/verify.py");
        let mut command = std::process::Command::new("python3");
        command.arg("-I").arg(script).arg("tamper").arg(log.dir.path()).arg("--vkey").arg(log.path("vkey"));
        let output = command.args(["--every", "1"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
        let bytes: u64 = ["checkpoint", "vkey", "tile/0/000.p/5", "tile/entries/000.p/5"]
            .iter()
            .map(|file| fs::metadata(log.path(file)).unwrap().len())
            .sum();
        assert!(output.status.success() && bytes > 1000, "{said}");
        assert!(numbers.len() == 2 && numbers[0] == numbers[1] && numbers[0] >= bytes, "{said} of {bytes}");
    }

    #[test]
    fn every_byte_of_every_file_counts() {
        let maker = ordinary(SIZE);
        let flips: usize = thread::scope(|scope| {
            let maker = &maker;
            let workers = (0..2).map(|worker| {
                scope.spawn(move || {
                    let log = Log::of(maker);
                    let flips: usize =
                        files(&log).iter().map(|file| flip_every_byte(maker, &log, file, worker)).sum();
                    log.verify().unwrap();
                    flips
                })
            });
            let workers: Vec<_> = workers.collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        let log = Log::of(&maker);
        let bytes: u64 = files(&log).iter().map(|file| fs::metadata(log.path(file)).unwrap().len()).sum();
        assert_eq!(flips as u64, bytes);
    }

    #[test]
    fn a_good_log_is_reported() {
        let maker = ordinary(SIZE);
        let log = Log::of(&maker);
        let mut seen = Vec::new();
        let report = verify(log.dir.path(), &log.vkey, |done, total| seen.push((done, total))).unwrap();
        assert_eq!(seen, [(256, 260), (260, 260)]);
        assert_eq!((report.size, report.root), (SIZE, maker.frontier.root()));
        assert_eq!((report.origin.as_str(), report.rehearsal), (crate::support::ORIGIN, true));
        assert_eq!((report.boots, report.officer_epoch), (2, 1));
        assert_eq!(report.keys, [(crate::support::key_id(1), KeyState::Active)]);
        let kinds: Vec<(&str, u64)> = report.kinds.into_iter().collect();
        assert_eq!(kinds, [("asserted", 256), ("boot", 1), ("command", 2), ("genesis", 1)]);
        fs::remove_file(log.path("vkey")).unwrap();
        log.verify().unwrap();
    }

    #[test]
    fn missing_short_long_and_stray_files() {
        let maker = ordinary(SIZE);
        let log = Log::of(&maker);
        for file in files(&log) {
            let path = log.path(&file);
            let good = fs::read(&path).unwrap();
            if file != "vkey" {
                fs::remove_file(&path).unwrap();
                let finding = log.finding();
                let first = match file.split_once('/') {
                    Some((_, rest)) if rest.contains("001") => Some(256),
                    Some((_, rest)) if !rest.starts_with('1') => Some(0),
                    _ => None,
                };
                assert_eq!((finding.file.as_str(), finding.index), (file.as_str(), first));
            }
            for len in [0, good.len() / 2, good.len() - 1] {
                fs::write(&path, &good[..len]).unwrap();
                assert_eq!(log.finding().file, file, "{len}");
            }
            fs::write(&path, [good.as_slice(), b"\n"].concat()).unwrap();
            assert_eq!(log.finding().file, file, "longer");
            fs::write(&path, good).unwrap();
        }
        for stray in ["tile/0/000.p/7", "tile/0/002", "tile/2/000", "notes", "tile/entries/000.bak"] {
            let path = log.path(stray);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"x").unwrap();
            assert_eq!(log.finding().file, stray);
            fs::remove_file(&path).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", log.path("tile/link")).unwrap();
        assert_eq!(log.finding().file, "tile/link", "a link that leads nowhere");
        fs::remove_file(log.path("tile/link")).unwrap();
        let no_text = log.path("tile").join(std::ffi::OsStr::from_bytes(b"\xff"));
        fs::write(&no_text, b"x").unwrap();
        assert!(log.finding().file.starts_with("tile/"), "a name that is no text");
        fs::remove_file(&no_text).unwrap();
        log.verify().unwrap();
    }

    #[test]
    fn a_log_that_grows_meanwhile_verifies_at_the_size_it_had() {
        let mut maker = ordinary(SIZE);
        let (dir, wal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut writer = LogDir::open(dir.path(), wal.path()).unwrap();
        writer.append(&maker.entries, &maker.note()).unwrap();
        writer.publish().unwrap();
        let report = verify(dir.path(), &maker.vkey(), |done, _| {
            if done == 256 {
                let at = maker.push(assertion(1));
                let entry = maker.entries.last().unwrap().clone();
                writer.append(&[entry], &maker.note()).unwrap();
                writer.publish().unwrap();
                assert_eq!(at, SIZE);
            }
        });
        assert_eq!(report.unwrap().size, SIZE);
    }

    #[test]
    fn moved_entries_are_found_where_they_moved_from() {
        let maker = ordinary(SIZE);
        let log = Log::of(&maker);
        let mut swapped: Vec<&[u8]> = maker.entries[..256].iter().map(Vec::as_slice).collect();
        swapped.swap(100, 200);
        fs::write(log.path("tile/entries/000"), encode_bundle(&swapped).unwrap()).unwrap();
        let finding = log.finding();
        assert_eq!((finding.file.as_str(), finding.index), ("tile/entries/000", Some(100)));
    }

    /// From here on the forger has the log key: hashes and signature fit, the entries do not.
    fn forged(maker: &Maker, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Finding {
        let mut entries = maker.entries.clone();
        change(&mut entries);
        let mut forger = maker.clone();
        (forger.entries, forger.frontier) = (Vec::new(), translog::tree::Frontier::new());
        for entry in entries {
            forger.push_bytes(entry);
        }
        Log::of(&forger).finding()
    }

    fn edited(bytes: &[u8], edit: impl FnOnce(&mut Entry)) -> Vec<u8> {
        let mut entry = Entry::from_cbor(bytes).unwrap();
        edit(&mut entry);
        entry.to_cbor()
    }

    #[test]
    fn a_thief_of_the_log_key_is_found_by_what_the_entries_say() {
        let maker = ordinary(20);
        let other = {
            let mut other = Maker::unborn();
            other.boot = [0x35; 16];
            let event = other.genesis_event(genesis(), &[1, 2, 3]);
            other.push(event);
            while other.frontier.size() < 20 {
                other.push(assertion(other.frontier.size()));
            }
            other
        };
        let found = |index: u64, what: &str, finding: &Finding| {
            assert_eq!(finding.index, Some(index), "{finding}");
            assert!(finding.to_string().contains(what), "{finding}");
        };
        found(9, "seq", &forged(&maker, |entries| entries.swap(9, 11)));
        found(9, "seq", &forged(&maker, |entries| drop(entries.remove(9))));
        found(10, "seq", &forged(&maker, |entries| entries.insert(10, entries[9].clone())));
        found(12, "another boot", &forged(&maker, |entries| entries[12].clone_from(&other.entries[12])));
        let edits = [
            ("seq", (|entry| entry.seq = 8) as fn(&mut Entry)),
            ("epoch", |entry| entry.epoch = 1),
            ("another module", |entry| entry.node = [0; 16]),
            ("clock", |entry| entry.mono_ns = 0),
            ("state root", |entry| entry.state_root[0] ^= 1),
            ("format", |entry| entry.version = 2),
        ];
        for (what, edit) in edits {
            found(7, what, &forged(&maker, |entries| entries[7] = edited(&entries[7], edit)));
        }
        found(7, "not an entry", &forged(&maker, |entries| entries[7] = b"anything".to_vec()));
        found(0, "genesis", &forged(&maker, |entries| drop(entries.remove(0))));
    }

    #[test]
    fn approvals_are_checked_against_the_officers_of_that_moment() {
        let wrong_command = |index: usize, edit: fn(&mut SignedCommand)| {
            let maker = ordinary(20);
            forged(&maker, |entries| {
                entries[index] = edited(&entries[index], |entry| {
                    let bytes = match &mut entry.event {
                        Event::Genesis(event) => &mut event.command,
                        Event::Command(event) => &mut event.command,
                        Event::Boot(event) => &mut event.floor,
                        _ => panic!("no command"),
                    };
                    let mut signed = SignedCommand::from_cbor(bytes).unwrap();
                    edit(&mut signed);
                    *bytes = Bytes(signed.to_cbor());
                });
            })
        };
        for index in [0_usize, 1, 2, 4] {
            for edit in [
                (|signed| drop(signed.approvals.pop())) as fn(&mut SignedCommand),
                |signed| signed.approvals[1].signature[5] ^= 1,
                |signed| signed.approvals[1] = signed.approvals[0].clone(),
                |signed| signed.approvals[1].officer = "officer-9".into(),
            ] {
                let finding = wrong_command(index, edit);
                assert_eq!(finding.index, Some(index as u64), "{finding}");
                assert!(finding.what.contains("approvals"), "{finding}");
            }
        }
        let mut maker = ordinary(6);
        let mut set = crate::support::officers();
        set.members = crate::support::members("officer", 5, 3);
        let event = maker.command_event(Action::SetOfficers(set), None);
        maker.push(event);
        maker.officer_epoch = 2;
        let command = maker.command(Action::SetPolicy(SetDigest { digest: [9; 32] }));
        // The officers of before still have the names, not the keys.
        maker.push(command_event(&command, &[1, 2], None));
        let finding = Log::of(&maker).finding();
        assert_eq!(finding.index, Some(7));
        assert!(finding.what.contains("officer-1"), "{finding}");
    }

    #[test]
    fn a_floor_that_the_log_never_went_through() {
        let mut maker = ordinary(20);
        maker.boot = [0x36; 16];
        let floor = Floor { boot: maker.boot, size: 19, root: [1; 32], epoch_key: None };
        let floor = maker.command(Action::Floor(floor));
        maker.push(boot_event(&floor));
        let finding = Log::of(&maker).finding();
        assert_eq!((finding.file.as_str(), finding.index), ("tile/entries/000.p/21", Some(20)));
        assert!(finding.what.contains("19 entries"), "{finding}");
    }

    #[test]
    fn another_key_another_name_another_genesis() {
        let maker = ordinary(20);
        let log = Log::of(&maker);
        let good = fs::read(log.path("checkpoint")).unwrap();
        let head = |origin: &str| Checkpoint { origin: origin.into(), size: 20, root: maker.frontier.root() };
        let thief = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
        for note in [
            sign_checkpoint(&head(crate::support::ORIGIN), &thief),
            sign_checkpoint(&head("other.example/log"), &maker.key),
            [
                good.as_slice(),
                sign_checkpoint(&head("w.example"), &thief).lines().last().unwrap().as_bytes(),
                b"\n",
            ]
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .concat(),
        ] {
            fs::write(log.path("checkpoint"), note).unwrap();
            assert_eq!(log.finding().file, "checkpoint");
        }
        fs::write(log.path("checkpoint"), good).unwrap();
        // The auditor's key is not the one in the genesis, though it signed this head.
        let vkey = VerifierKey::new(crate::support::ORIGIN, thief.verifying_key().to_bytes());
        fs::write(log.path("checkpoint"), sign_checkpoint(&head(crate::support::ORIGIN), &thief)).unwrap();
        fs::write(log.path("vkey"), format!("{vkey}\n")).unwrap();
        let finding = verify(log.dir.path(), &vkey, |_, _| {}).unwrap_err();
        assert_eq!(finding.index, Some(0));
        assert!(finding.what.contains("log key"), "{finding}");
    }

    #[test]
    fn a_log_that_was_verified_before_is_still_that_one() {
        let before = ordinary(20);
        let judge = |maker: &Maker| {
            let log = Log::of(maker);
            let mut verifier = Verifier::new(Policy::of_log(log.vkey.clone()), 1);
            verifier.must_contain(20, before.frontier.root());
            verifier.advance(&Dir::new(log.dir.path()), &mut ()).map(|report| report.size)
        };
        assert_eq!(judge(&ordinary(20)), Ok(20));
        assert_eq!(judge(&ordinary(300)), Ok(300));
        assert!(judge(&ordinary(19)).unwrap_err().what.contains("cut back"));
        let mut fork = ordinary(10);
        while fork.frontier.size() < 300 {
            fork.push(assertion(7));
        }
        assert!(judge(&fork).unwrap_err().what.contains("it forked"));
    }

    /// Workers find what one thread finds, and the first of it.
    #[test]
    fn with_any_number_of_workers_the_finding_is_the_same() {
        let maker = ordinary(1_300);
        let judge = |log: &Log, workers| {
            Verifier::new(Policy::of_log(log.vkey.clone()), workers)
                .advance(&Dir::new(log.dir.path()), &mut ())
        };
        let mut bad = Maker::new();
        bad.import(1);
        let broken = {
            let event = bad.command_event(Action::SetPolicy(SetDigest { digest: [9; 32] }), None);
            let Event::Command(mut event) = event else { panic!("no command") };
            let mut signed = SignedCommand::from_cbor(&event.command).unwrap();
            signed.approvals[1].signature[5] ^= 1;
            event.command = Bytes(signed.to_cbor());
            bad.push(Event::Command(event))
        };
        while bad.frontier.size() < 1_300 {
            bad.push(assertion(bad.frontier.size()));
        }
        let mut late = bad.clone();
        late.push_bytes(b"no entry".to_vec());
        for maker in [&bad, &late] {
            let log = Log::of(maker);
            let found = judge(&log, 1).unwrap_err();
            assert_eq!((found.index, found.what.contains("approvals")), (Some(broken), true), "{found}");
            for workers in [2, 4, 9] {
                assert_eq!(judge(&log, workers).unwrap_err(), found, "{workers} workers");
            }
        }
        let log = Log::of(&maker);
        let good = judge(&log, 1).unwrap();
        for file in
            ["tile/entries/001", "tile/entries/004", "tile/0/002", "tile/0/005.p/20", "tile/1/000.p/5"]
        {
            let path = log.path(file);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
            let found = judge(&log, 1).unwrap_err();
            for workers in [2, 4, 9] {
                assert_eq!(judge(&log, workers).unwrap_err(), found, "{workers} workers, {file}");
            }
            fs::write(&path, bytes).unwrap();
            assert_eq!(judge(&log, 4).unwrap(), good);
        }
    }

    #[test]
    fn no_directory_is_no_log() {
        let maker = Maker::new();
        let finding = verify(Path::new("/nonexistent/log"), &maker.vkey(), |_, _| {}).unwrap_err();
        assert_eq!(finding.file, "checkpoint");
    }
}
