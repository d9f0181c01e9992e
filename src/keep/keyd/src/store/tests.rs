use std::fs;
use std::path::Path;

use super::*;

fn record(id: &str, bytes: &[u8]) -> Record {
    (id.to_owned(), bytes.to_vec())
}

/// What every backend must hold. `open` opens the same store again.
fn conforms<S: Store>(mut open: impl FnMut(Option<S>) -> S) {
    let mut store = open(None);
    assert_eq!(store.all().unwrap(), vec![]);
    store.put(&[]).unwrap();
    store.put(&[record("b@01", b"two"), record("a@01", b"one")]).unwrap();
    store.put(&[record("c@01", &vec![0xff; 100_000])]).unwrap();
    let expected = vec![record("a@01", b"one"), record("b@01", b"two"), record("c@01", &vec![0xff; 100_000])];
    assert_eq!(store.all().unwrap(), expected, "in the order of the ids");
    let mut store = open(Some(store));
    assert_eq!(store.all().unwrap(), expected, "after opening again");
    store.put(&[record("b@01", b"newer"), record("b@01", b"newest"), record("d@01", b"")]).unwrap();
    let store = open(Some(store));
    let ids: Vec<_> = store.all().unwrap().into_iter().map(|(id, bytes)| (id, bytes.len())).collect();
    let len = |id: &str, len| (id.to_owned(), len);
    assert_eq!(ids, [len("a@01", 3), len("b@01", 6), len("c@01", 100_000), len("d@01", 0)]);
}

#[test]
fn memory_conforms() {
    conforms(|open: Option<MemoryStore>| open.unwrap_or_default());
}

#[test]
fn sled_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(|open: Option<SledStore>| {
        drop(open);
        SledStore::open(dir.path()).unwrap()
    });
}

fn filled(dir: &Path) -> Vec<Record> {
    let mut store = SledStore::open(dir).unwrap();
    for number in 0..20_u8 {
        store.put(&[record(&format!("key@{number:02X}"), &[number; 300])]).unwrap();
    }
    store.put(&[record("key@03", b"a later one")]).unwrap();
    store.all().unwrap()
}

fn reopened(dir: &Path) -> Vec<Record> {
    SledStore::open(dir).unwrap().all().unwrap()
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn aside(dir: &Path) -> usize {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains("damaged")).count()
}

#[test]
fn a_damaged_store_gives_every_acknowledged_record_back() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("every file zeroed", |file| {
            let len = fs::metadata(file).unwrap().len();
            fs::write(file, vec![0; usize::try_from(len).unwrap()]).unwrap();
        }),
        ("every file empty", |file| fs::write(file, b"").unwrap()),
        ("every file noise", |file| fs::write(file, [0xa5; 9000]).unwrap()),
        ("every file gone", |file| fs::remove_file(file).unwrap()),
        ("bytes flipped", |file| {
            let mut bytes = fs::read(file).unwrap();
            bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x40);
            fs::write(file, bytes).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let expected = filled(dir.path());
        files(&dir.path().join("store")).iter().for_each(|file| damage(file));
        assert_eq!(reopened(dir.path()), expected, "{what}");
        assert_eq!(reopened(dir.path()), expected, "{what}, and once more");
    }
}

#[test]
fn a_store_that_does_not_open_is_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    // The process died inside the engine at the last start.
    fs::write(dir.path().join("store.opening"), b"").unwrap();
    assert_eq!(reopened(dir.path()), expected);
    assert_eq!(aside(dir.path()), 1);
    assert!(dir.path().join("store.damaged.1/db").exists(), "moved aside, not deleted");
    assert_eq!(reopened(dir.path()), expected);
    assert_eq!(aside(dir.path()), 1, "the mark is gone after a good start");
}

#[test]
fn a_cut_while_the_store_is_made_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    fs::create_dir(dir.path().join("store.new")).unwrap();
    fs::write(dir.path().join("store.new/db"), b"half").unwrap();
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    assert_eq!(reopened(dir.path()), expected);
}

#[test]
fn a_torn_snapshot_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    let path = dir.path().join("records.snapshot");
    let whole = fs::read(&path).unwrap();
    for cut in [9, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(reopened(dir.path()), expected, "cut at {cut}");
        fs::remove_dir_all(dir.path().join("store")).unwrap();
        assert_eq!(reopened(dir.path()), expected, "cut at {cut}: the snapshot is whole again");
    }
    assert_eq!(aside(dir.path()), 3, "each torn snapshot is kept");
}

#[test]
fn every_flipped_bit_of_a_snapshot_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.snapshot");
    let records = [record("a@01", b"one"), record("b@01", b"two")];
    Snapshot::open(&path).unwrap().0.append(&records).unwrap();
    let whole = fs::read(&path).unwrap();
    assert_eq!(Snapshot::open(&path).unwrap().1.records, records);
    for bit in 0..whole.len() * 8 {
        let mut bad = whole.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        match Snapshot::open(&path) {
            Ok((_, contents)) => {
                assert!(contents.damaged, "bit {bit}");
                assert_eq!(contents.records, records[..contents.records.len()], "bit {bit}");
            }
            Err(error) => assert!(bit < 64 && matches!(error, SnapshotError::Format { .. }), "bit {bit}"),
        }
    }
}

#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("records.snapshot"), mode("store")), (0o600, 0o700));
}
