//! What a witness remembers: durable before it is said, and never knowingly older than what it signed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Log, NAME, NOW, ORIGIN, begun, open, signer};
use translog::cosign::{Refusal, cosigned_at};
use translog::note::{VerifierKey, open_checkpoint};
use witness::key::Signer;
use witness::memory::{MemoryError, begin};
use witness::witness::{NotCosigned, Witness};

fn file(dir: &Path) -> PathBuf {
    let mut found = fs::read_dir(dir.join("state")).unwrap().map(|item| item.unwrap().path());
    found.find(|path| path.extension().is_some_and(|extension| extension == "checkpoint")).unwrap()
}

fn reopen(dir: &Path) -> Result<Witness, MemoryError> {
    Witness::open(&dir.join("state"), signer(dir), &[Log::new(0).vkey()])
}

/// An epoch key's line stands beside the origin key's; strangers' lines do not stay.
fn with_more_lines(request: &str) -> String {
    let line = request.lines().last().unwrap().to_owned();
    format!(
        "{request}{}\n{}\n",
        line.replacen("ZRc3", "ZRc4", 1),
        line.replacen(ORIGIN, "stranger.example", 1)
    )
}

#[test]
fn what_was_cosigned_is_there_after_a_restart_and_only_grows() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(9);
    let witness = begun(dir.path());
    let line = witness.add_checkpoint(&with_more_lines(&log.request(0, 3)), NOW).unwrap();
    let note = witness.checkpoint(file(dir.path()).file_stem().unwrap().to_str().unwrap()).unwrap();
    assert!(note.ends_with(&line) && note.starts_with(&log.note(3)), "{note}");
    assert!(!note.contains("stranger"), "{note}");
    assert_eq!(cosigned_at(&note, signer(dir.path()).public()), Ok(Some(NOW)));
    assert_eq!(fs::read_to_string(file(dir.path())).unwrap(), note);
    // Another process can't have the same directory.
    assert!(reopen(dir.path()).unwrap_err().to_string().contains("another citykeep-witness"));
    // Somebody who checks its configuration may look, and makes nothing where nothing is.
    Witness::check(&dir.path().join("state"), &signer(dir.path()), &[log.vkey()]).unwrap();
    let nowhere = dir.path().join("nowhere");
    assert!(Witness::check(&nowhere, &signer(dir.path()), &[log.vkey()]).is_err() && !nowhere.exists());
    drop(witness);
    let witness = open(dir.path());
    let conflict = witness.add_checkpoint(&log.request(0, 9), NOW).unwrap_err();
    assert!(matches!(conflict, NotCosigned::Refused(Refusal::Conflict(3))));
    let fork = log.fork(1).request(3, 9);
    assert!(matches!(
        witness.add_checkpoint(&fork, NOW).unwrap_err(),
        NotCosigned::Refused(Refusal::Inconsistent)
    ));
    assert_eq!(witness.head(&log.vkey()).unwrap().size, 3, "a refusal changes nothing");
    witness.add_checkpoint(&log.request(3, 9), NOW + 1).unwrap();
    // The same head again, with a new time.
    let again = witness.add_checkpoint(&log.request(9, 9), NOW + 2).unwrap();
    let note = log.note(9) + &again;
    assert_eq!(cosigned_at(&note, signer(dir.path()).public()), Ok(Some(NOW + 2)));
}

/// As many signature lines as a note may have, with nothing behind them.
fn crowded(request: &str, name: &str) -> String {
    request.to_owned() + &format!("\u{2014} {name} AAAAAAAA\n").repeat(99)
}

#[test]
fn what_strangers_add_to_a_true_checkpoint_does_not_keep_it_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(9);
    let witness = begun(dir.path());
    for (old, new, name) in [(0, 3, ORIGIN), (3, 5, "stranger.example"), (5, 9, NAME)] {
        let line = witness.add_checkpoint(&crowded(&log.request(old, new), name), NOW).unwrap();
        let note = fs::read_to_string(file(dir.path())).unwrap();
        let shown = witness.checkpoint(file(dir.path()).file_stem().unwrap().to_str().unwrap());
        assert_eq!(shown.as_deref(), Some(note.as_str()));
        assert!(note.starts_with(&log.note(new)) && note.ends_with(&line), "{note}");
        assert!(note.lines().count() <= 7, "{note}");
    }
    drop(witness);
    assert_eq!(open(dir.path()).head(&log.vkey()).unwrap().size, 9);
}

#[test]
fn what_could_not_be_read_again_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(9);
    // A witness that has the log's own name: its line and the epoch key's are told apart by the key id alone.
    let path = dir.path().join("witness.key");
    let signer = Signer::create(&path, ORIGIN).unwrap();
    let line = Signer::load(&path).unwrap();
    begin(&dir.path().join("state"), &log.vkey()).unwrap();
    let witness = Witness::open(&dir.path().join("state"), signer, &[log.vkey()]).unwrap();
    let opened = open_checkpoint(&log.note(5), &log.vkey()).unwrap();
    let foreign = line.cosign(&opened, NOW);
    let request = log.request(0, 3) + &foreign;
    assert_eq!(witness.add_checkpoint(&request, NOW).unwrap_err().status(), 400);
    witness.add_checkpoint(&log.request(0, 3), NOW).unwrap();
    drop(witness);
    assert_eq!(open(dir.path()).head(&log.vkey()).unwrap().size, 3);
}

#[test]
fn a_missing_an_edited_or_a_foreign_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(reopen(dir.path()), Err(MemoryError::Missing { .. })), "nobody has begun");
    let witness = begun(dir.path());
    witness.add_checkpoint(&Log::new(9).request(0, 3), NOW).unwrap();
    drop(witness);
    assert!(matches!(begin(&dir.path().join("state"), &Log::new(0).vkey()), Err(MemoryError::Begun(_))));
    let path = file(dir.path());
    let note = fs::read_to_string(&path).unwrap();
    let other = tempfile::tempdir().unwrap();
    let foreign = begun(other.path());
    foreign.add_checkpoint(&Log::new(9).request(0, 9), NOW).unwrap();
    for bad in [
        note.replace("\n3\n", "\n2\n"),
        Log::new(9).note(3),
        String::new(),
        fs::read_to_string(file(other.path())).unwrap(),
    ] {
        fs::write(&path, &bad).unwrap();
        assert!(matches!(reopen(dir.path()), Err(MemoryError::Foreign(_))), "{bad}");
    }
    fs::remove_file(&path).unwrap();
    let lost = reopen(dir.path()).unwrap_err().to_string();
    assert!(lost.contains("its memory is lost") && lost.contains(ORIGIN), "{lost}");
}

/// Sets the memory back to what it was at size 3 after it has cosigned size 9; gives the newer note.
fn set_back(dir: &Path) -> String {
    let log = Log::new(9);
    let witness = begun(dir);
    witness.add_checkpoint(&log.request(0, 3), NOW).unwrap();
    let old = fs::read(file(dir)).unwrap();
    witness.add_checkpoint(&log.request(3, 9), NOW + 1).unwrap();
    let newer = fs::read_to_string(file(dir)).unwrap();
    drop(witness);
    fs::write(file(dir), old).unwrap();
    newer
}

#[test]
fn its_own_newer_signature_tells_a_witness_that_it_was_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(9);
    let newer = set_back(dir.path());
    let witness = open(dir.path());
    // What nothing shows: without its own signature it would go on from the old head, to another history too.
    let request = log.request(3, 9).replace(&log.note(9), &newer);
    let noticed = witness.add_checkpoint(&request, NOW + 2).unwrap_err();
    assert!(matches!(noticed, NotCosigned::Memory(MemoryError::SetBack { .. })), "{noticed}");
    assert_eq!(noticed.status(), 500);
    let after = witness.add_checkpoint(&log.request(3, 9), NOW + 2).unwrap_err();
    assert!(matches!(after, NotCosigned::Broken), "nothing more is cosigned");
    drop(witness);
    let sentence = reopen(dir.path()).unwrap_err();
    let MemoryError::SetBack { evidence, path } = sentence else { panic!("{sentence}") };
    // What the sentence says to do.
    fs::rename(evidence, path).unwrap();
    let witness = open(dir.path());
    assert_eq!(witness.head(&log.vkey()).unwrap().size, 9);
    assert!(witness.add_checkpoint(&log.fork(4).request(3, 9), NOW + 3).is_err());
}

#[test]
fn the_published_checkpoint_tells_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(9);
    let newer = set_back(dir.path());
    let witness = open(dir.path());
    witness.meet(&log.vkey(), &log.note(9)).unwrap();
    assert!(witness.meet(&log.vkey(), &log.fork(1).note(3)).is_err(), "another root at the size it knows");
    assert!(matches!(
        witness.meet(&log.vkey(), &newer),
        Err(NotCosigned::Memory(MemoryError::SetBack { .. }))
    ));
    assert!(matches!(witness.meet(&log.vkey(), &log.note(9)), Err(NotCosigned::Broken)));
}

#[test]
fn a_clock_that_went_back_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(9);
    let witness = begun(dir.path());
    witness.add_checkpoint(&log.request(0, 3), NOW).unwrap();
    assert!(matches!(witness.add_checkpoint(&log.request(3, 5), NOW - 61), Err(NotCosigned::Clock)));
    // A small correction: the time stands still.
    let line = witness.add_checkpoint(&log.request(3, 5), NOW - 60).unwrap();
    assert_eq!(cosigned_at(&(log.note(5) + &line), signer(dir.path()).public()), Ok(Some(NOW)));
}

#[test]
fn a_write_that_fails_is_no_cosignature_and_ends_the_trust() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(9);
    let witness = begun(dir.path());
    witness.add_checkpoint(&log.request(0, 3), NOW).unwrap();
    // A folder stands where the temporary file should be: the write fails for root as well.
    let name = file(dir.path()).file_name().unwrap().to_str().unwrap().to_owned();
    let blocked = dir.path().join("state").join(format!(".{name}.tmp"));
    fs::create_dir(&blocked).unwrap();
    assert!(matches!(
        witness.add_checkpoint(&log.request(3, 5), NOW),
        Err(NotCosigned::Memory(MemoryError::Io { .. }))
    ));
    fs::remove_dir(&blocked).unwrap();
    assert!(matches!(witness.add_checkpoint(&log.request(3, 5), NOW), Err(NotCosigned::Broken)));
    drop(witness);
    assert_eq!(open(dir.path()).head(&log.vkey()).unwrap().size, 3);
}

#[test]
fn it_watches_what_it_was_told_to_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(9);
    let witness = begun(dir.path());
    let unknown = log.request(0, 3).replace(ORIGIN, "other.example");
    assert_eq!(witness.add_checkpoint(&unknown, NOW).unwrap_err().status(), 404);
    assert_eq!(witness.add_checkpoint("old 0\n\nx", NOW).unwrap_err().status(), 404);
    assert_eq!(witness.add_checkpoint("x", NOW).unwrap_err().status(), 400);
    assert_eq!(witness.head(&VerifierKey::new(NAME, [0; 32])), None);
}
