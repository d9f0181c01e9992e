//! Copies: whole, verified up to a signed head before anything is stored, and what every verifier accepts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{Log, NOW, Published, begun};
use translog::tile::Tile;
use witness::config::MirrorConfig;
use witness::mirror::Mirror;

fn config(dir: &Path) -> MirrorConfig {
    let source = dir.join("log").to_str().unwrap().to_owned();
    MirrorConfig { folder: dir.join("mirror"), source, ca: None, certificate: None, key: None }
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for item in fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn round(mirror: &mut Mirror, witness: Option<&Arc<witness::witness::Witness>>) -> anyhow::Result<u64> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(mirror.round(witness))
}

#[test]
fn a_copy_is_the_published_log_at_every_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Published::new(dir.path());
    let vkey = Log::new(0).vkey();
    let mut old = 0;
    // One entry, around a bundle, and past 65,536, where a second level of tiles is full.
    for size in [1, 2, 255, 256, 257, 511, 513, 1300, 65_535, 65_536, 65_537, 66_050] {
        log.grow(size);
        let mut mirror = Mirror::open(&config(dir.path()), &vkey).unwrap();
        assert_eq!(mirror.size(), old, "what was copied is known after a restart");
        assert_eq!(round(&mut mirror, None).unwrap(), size - old, "{size}");
        assert_eq!(round(&mut mirror, None).unwrap(), 0);
        let mut published = files(&dir.path().join("log"));
        published.insert("vkey".into(), format!("{vkey}\n").into_bytes());
        let copy = files(&dir.path().join("mirror"));
        let differ: Vec<_> = published
            .iter()
            .filter(|(name, bytes)| copy.get(*name) != Some(*bytes))
            .map(|(name, _)| name)
            .collect();
        let more: Vec<_> = copy.keys().filter(|name| !published.contains_key(*name)).collect();
        assert!(differ.is_empty() && more.is_empty(), "{size}: {differ:?} {more:?}");
        old = size;
    }
}

#[test]
fn whatever_is_changed_at_the_source_is_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Published::new(dir.path());
    log.grow(300);
    let vkey = Log::new(0).vkey();
    round(&mut Mirror::open(&config(dir.path()), &vkey).unwrap(), None).unwrap();
    let before = files(&dir.path().join("mirror"));
    log.grow(66_050);
    let source = dir.path().join("log");
    let mut refused = 0;
    for (name, bytes) in files(&source) {
        let text = name.to_str().unwrap();
        // What the copy has or makes by itself is not read from the source.
        let tile = Tile::parse(text);
        let own = tile.is_some_and(|tile| match tile.level {
            None => tile.index == 0,
            Some(0) => tile.index != 1 && tile.is_full(),
            Some(_) => false,
        });
        // Every file but bundles; of those some.
        if own || tile.is_some_and(|tile| tile.level.is_none() && tile.index % 128 != 1 && tile.is_full()) {
            continue;
        }
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(source.join(&name), &changed).unwrap();
        let error = round(&mut Mirror::open(&config(dir.path()), &vkey).unwrap(), None);
        assert!(error.is_err(), "{text}");
        fs::write(source.join(&name), bytes).unwrap();
        let copy = files(&dir.path().join("mirror"));
        assert_eq!(copy[Path::new("checkpoint")], before[Path::new("checkpoint")], "{text}");
        if let Some(stored) = copy.get(&name) {
            assert!(*stored != changed, "{text}: a changed file was stored");
        }
        refused += 1;
    }
    assert!(refused > 6, "{refused}");
    let mut mirror = Mirror::open(&config(dir.path()), &vkey).unwrap();
    assert_eq!(round(&mut mirror, None).unwrap(), 66_050 - 300);
}

/// Two logs under one key: what the source shows later does not contain what was copied or cosigned before.
#[test]
fn a_fork_and_a_shrunk_log_are_refused_and_the_copy_stays() {
    for (witnessed, size) in [(false, 400), (true, 400), (false, 200), (true, 300)] {
        let dir = tempfile::tempdir().unwrap();
        let vkey = Log::new(0).vkey();
        let witness = Arc::new(begun(dir.path()));
        let mut log = Published::new(dir.path());
        log.grow(300);
        if witnessed {
            // It saw the head; nothing was copied yet.
            witness.add_checkpoint(&Log::new(300).request(0, 300), NOW).unwrap();
        } else {
            round(&mut Mirror::open(&config(dir.path()), &vkey).unwrap(), None).unwrap();
        }
        drop(log);
        for folder in ["log", "wal"] {
            fs::remove_dir_all(dir.path().join(folder)).unwrap();
        }
        let mut other = Published::new(dir.path());
        other.text = "other";
        other.grow(size);
        let mirror = dir.path().join("mirror");
        let before = if mirror.exists() { files(&mirror) } else { BTreeMap::new() };
        let witness = witnessed.then_some(&witness);
        let error = round(&mut Mirror::open(&config(dir.path()), &vkey).unwrap(), witness).unwrap_err();
        let words = if size == 400 {
            "forked"
        } else if witnessed {
            "published checkpoint"
        } else {
            "set back"
        };
        assert!(format!("{error:#}").contains(words), "{error:#}");
        assert!(files(&mirror) == before, "{size}: the copy was touched");
    }
}

#[test]
fn another_logs_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let vkey = Log::new(0).vkey();
    fs::create_dir(dir.path().join("mirror")).unwrap();
    fs::write(dir.path().join("mirror/checkpoint"), Log::new(3).note(3).replace("\n3\n", "\n4\n")).unwrap();
    let error = Mirror::open(&config(dir.path()), &vkey).unwrap_err();
    assert!(format!("{error:#}").contains("something else"), "{error:#}");
}

#[test]
fn a_check_makes_nothing_and_disturbs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let vkey = Log::new(0).vkey();
    Mirror::check(&config(dir.path()), &vkey).unwrap();
    assert!(!dir.path().join("mirror").exists());
    fs::create_dir(dir.path().join("mirror")).unwrap();
    fs::write(dir.path().join("mirror/checkpoint"), "something else\n").unwrap();
    let error = format!("{:#}", Mirror::check(&config(dir.path()), &vkey).unwrap_err());
    assert!(error.contains("holds something else"), "{error}");
}
