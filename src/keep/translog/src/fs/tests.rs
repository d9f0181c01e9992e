use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use tempfile::TempDir;

use super::*;
use crate::note::{Checkpoint, open_checkpoint, sign_checkpoint};
use crate::tile::{decode_hashes, hashes_at};

const ORIGIN: &str = "log.example/node-1";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn vkey() -> VerifierKey {
    VerifierKey::new(ORIGIN, key().verifying_key().to_bytes())
}

/// A log on disk, and everything that was ever acknowledged.
struct Desk {
    dir: TempDir,
    log: Option<LogDir>,
    entries: Vec<Vec<u8>>,
    frontier: Frontier,
}

impl Desk {
    fn new() -> Self {
        let mut desk = Self {
            dir: tempfile::tempdir().unwrap(),
            log: None,
            entries: Vec::new(),
            frontier: Frontier::new(),
        };
        desk.reopen().unwrap();
        desk
    }

    fn published(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn wal(&self) -> PathBuf {
        self.dir.path().join("keyd/wal")
    }

    fn log(&mut self) -> &mut LogDir {
        self.log.as_mut().unwrap()
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        self.log = None;
        self.log = Some(LogDir::open(&self.published(), &self.wal())?);
        Ok(())
    }

    /// Entries of many lengths, and the head over them.
    fn next(&self, count: usize) -> (Vec<Vec<u8>>, String, Frontier) {
        let start = self.entries.len();
        let entry = |at: usize| vec![u8::try_from(at % 251).unwrap(); at % 97];
        let entries: Vec<Vec<u8>> = (start..start + count).map(entry).collect();
        let mut frontier = self.frontier.clone();
        entries.iter().for_each(|entry| frontier.push(leaf_hash(entry)));
        let head = Checkpoint { origin: ORIGIN.into(), size: frontier.size(), root: frontier.root() };
        (entries, sign_checkpoint(&head, &key()), frontier)
    }

    fn append(&mut self, count: usize) {
        let (entries, note, frontier) = self.next(count);
        self.log().append(&entries, &note).unwrap();
        assert_eq!(self.log().last_checkpoint().as_ref(), Some(&note));
        self.entries.extend(entries);
        self.frontier = frontier;
    }

    /// Everything acknowledged is there, and proofs of it verify.
    fn check(&mut self) {
        let (size, root) = (self.frontier.size(), self.frontier.root());
        let entries = self.entries.clone();
        let log = self.log();
        assert_eq!((log.size(), log.root()), (size, root));
        assert!(log.entries(0..size).unwrap() == entries);
        for start in [0, size / 3, size.saturating_sub(1)] {
            for end in [start, start + (size - start) / 2, size] {
                let wanted = &entries[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
                assert!(log.entries(start..end).unwrap() == wanted, "{start}..{end}");
            }
        }
        for index in (0..size).step_by(37) {
            let proof = log.proof(index, size).unwrap();
            let entry = &entries[usize::try_from(index).unwrap()];
            let head = TlogProof::parse(&proof.to_text()).unwrap().verify(&vkey(), entry).unwrap();
            assert_eq!((head.size, head.root), (size, root));
        }
        assert!(matches!(log.entries(0..size + 1), Err(LogError::Range { .. })));
        assert!(matches!(log.proof(size, size), Err(LogError::Range { .. })));
    }

    /// The published tree has exactly the files of its checkpoint, each with exactly its bytes.
    fn check_published(&self) {
        let note = fs::read_to_string(self.published().join("checkpoint")).unwrap();
        let head = open_checkpoint(&note, &vkey()).unwrap();
        let mut expected: Vec<String> = vec!["checkpoint".into()];
        for level in 0..8 {
            for index in 0..hashes_at(level, head.size).div_ceil(256) {
                let tile = Tile::of_tree(level, index, head.size).unwrap();
                let bytes = fs::read(self.published().join(tile.to_string())).unwrap();
                assert!(decode_hashes(&bytes, tile.width).is_some(), "{tile}");
                expected.push(tile.to_string());
                if level == 0 {
                    expected.push(Tile::bundle(index, head.size).unwrap().to_string());
                }
            }
        }
        let mut found = Vec::new();
        files::walk(&self.published(), &mut |path| {
            found.push(path.to_str().unwrap().to_owned());
        })
        .unwrap();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        let mut dirs = vec![self.published()];
        while let Some(dir) = dirs.pop() {
            let inside: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|item| item.unwrap().path()).collect();
            assert!(!inside.is_empty(), "{dir:?} was left behind empty");
            dirs.extend(inside.into_iter().filter(|path| path.is_dir()));
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> =
            fs::read_dir(self.wal()).unwrap().map(|item| item.unwrap().path()).collect();
        found.sort();
        found
    }
}

#[test]
fn all_of_it_is_there_after_any_mix_of_appends_publications_and_restarts() {
    let mut desk = Desk::new();
    assert_eq!(desk.log().last_checkpoint(), None);
    for (round, count) in [1, 1, 5, 248, 1, 1, 255, 256, 257, 700].into_iter().enumerate() {
        desk.append(count);
        desk.check();
        if round % 3 != 1 {
            desk.log().publish().unwrap();
            assert_eq!(desk.log().published_size(), desk.frontier.size());
            desk.check();
            desk.check_published();
        }
        let note = desk.log().last_checkpoint();
        desk.reopen().unwrap();
        assert_eq!(desk.log().last_checkpoint(), note);
        assert_eq!(desk.log().cut_bytes(), 0);
        desk.check();
    }
}

#[test]
fn a_tree_of_three_levels() {
    let mut desk = Desk::new();
    desk.append(65_000);
    desk.log().publish().unwrap();
    desk.append(1_000);
    desk.check();
    desk.log().publish().unwrap();
    desk.check_published();
    desk.reopen().unwrap();
    desk.check();
    assert!(desk.published().join("tile/2/000.p/1").is_file());
}

#[test]
fn heads_of_groups_in_between_have_proofs_until_they_are_published_over() {
    let mut desk = Desk::new();
    for count in [3, 4, 5] {
        desk.append(count);
    }
    for size in [3, 7, 12] {
        let proof = desk.log().proof(1, size).unwrap();
        assert_eq!(proof.verify(&vkey(), &desk.entries[1]).unwrap().size, size);
    }
    assert!(matches!(desk.log().proof(1, 6), Err(LogError::NoCheckpoint(6))));
    desk.log().publish().unwrap();
    assert!(matches!(desk.log().proof(1, 7), Err(LogError::NoCheckpoint(7))));
    assert!(desk.log().proof(1, 12).is_ok());
}

#[test]
fn only_the_next_group_is_appended() {
    let mut desk = Desk::new();
    desk.append(3);
    let (entries, note, _) = desk.next(2);
    let refused = |result: Result<(), LogError>| assert!(matches!(result, Err(LogError::Append(_))));
    refused(desk.log().append(&entries[..1], &note));
    refused(desk.log().append(&entries[..0], &note));
    refused(desk.log().append(&entries, "no note"));
    refused(desk.log().append(&[vec![0; 65_536]], &note));
    desk.log().append(&entries, &note).unwrap();
    refused(desk.log().append(&entries, &note));
}

#[test]
fn a_second_writer_is_refused() {
    let desk = Desk::new();
    let second = LogDir::open(&desk.published(), &desk.wal());
    assert!(second.unwrap_err().to_string().contains("one writer"));
}

#[test]
fn a_write_cut_off_anywhere_is_cut_and_nothing_else_is_lost() {
    let mut desk = Desk::new();
    desk.append(2);
    desk.append(3);
    let path = desk.segments().remove(0);
    let whole = fs::read(&path).unwrap();
    let (entries, note, _) = desk.next(2);
    desk.log().append(&entries, &note).unwrap();
    let longer = fs::read(&path).unwrap();
    for len in whole.len()..longer.len() {
        fs::write(&path, &longer[..len]).unwrap();
        desk.reopen().unwrap();
        assert_eq!(desk.log().cut_bytes(), (len - whole.len()) as u64);
        desk.check();
        assert_eq!(fs::read(&path).unwrap(), whole, "{len}");
    }
    // The length reached the disk and the bytes did not.
    fs::write(&path, [whole.as_slice(), &[0; 500]].concat()).unwrap();
    desk.reopen().unwrap();
    assert_eq!(desk.log().cut_bytes(), 500);
    desk.append(9);
    desk.reopen().unwrap();
    desk.check();
}

#[test]
fn damage_before_the_last_group_refuses() {
    let mut desk = Desk::new();
    desk.append(2);
    let path = desk.segments().remove(0);
    let first = fs::read(&path).unwrap().len();
    desk.append(3);
    let good = fs::read(&path).unwrap();
    for at in 0..first {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        fs::write(&path, &bad).unwrap();
        assert!(matches!(desk.reopen(), Err(LogError::Damaged { .. })), "{at}");
        assert_eq!(fs::read(&path).unwrap(), bad, "nothing was cut");
    }
    fs::write(&path, &good[first..]).unwrap();
    assert!(matches!(desk.reopen(), Err(LogError::Damaged { .. })), "the first group is gone");
    fs::write(&path, [&good[..first], &good].concat()).unwrap();
    assert!(matches!(desk.reopen(), Err(LogError::Damaged { .. })), "a group twice");
    fs::write(&path, &good).unwrap();
    desk.reopen().unwrap();
    desk.check();
}

#[test]
fn segments_rotate_and_go_once_published() {
    let mut desk = Desk::new();
    desk.log().wal.limit_segments(200);
    for _ in 0..5 {
        desk.append(4);
    }
    assert_eq!(desk.segments().len(), 5);
    desk.check();
    let kept = desk.segments();
    let bytes = fs::read(&kept[1]).unwrap();
    fs::write(&kept[1], b"").unwrap();
    assert!(matches!(desk.reopen(), Err(LogError::Damaged { .. })), "a segment in the middle is gone");
    fs::write(&kept[1], bytes).unwrap();
    desk.reopen().unwrap();
    desk.check();
    assert_eq!(desk.segments().len(), 1, "what a crash left unpublished is published when the log opens");
}

#[test]
fn published_segments_are_dropped_and_the_rest_reads_on() {
    let mut desk = Desk::new();
    desk.log().wal.limit_segments(200);
    for _ in 0..5 {
        desk.append(4);
    }
    desk.log().publish().unwrap();
    assert_eq!(desk.segments().len(), 1, "the last one stays");
    desk.append(1);
    desk.log().publish().unwrap();
    desk.reopen().unwrap();
    desk.append(1);
    desk.reopen().unwrap();
    desk.check();
}

#[test]
fn an_older_checkpoint_is_noticed() {
    let mut desk = Desk::new();
    desk.log().wal.limit_segments(1);
    desk.append(4);
    desk.log().publish().unwrap();
    let old = fs::read(desk.published().join("checkpoint")).unwrap();
    let tile = fs::read(desk.published().join("tile/0/000.p/4")).unwrap();
    desk.append(4);
    desk.append(4);
    desk.log().publish().unwrap();
    fs::write(desk.published().join("checkpoint"), old).unwrap();
    fs::write(desk.published().join("tile/0/000.p/4"), tile).ok();
    let refused = desk.reopen().unwrap_err().to_string();
    assert!(refused.contains("ends at 4 and this begins at 8"), "{refused}");
    fs::remove_file(desk.published().join("checkpoint")).unwrap();
    assert!(matches!(desk.reopen(), Err(LogError::Damaged { .. })));
}

#[test]
fn a_wal_behind_the_published_tree_starts_anew() {
    let mut desk = Desk::new();
    desk.append(4);
    let path = desk.segments().remove(0);
    let short = fs::read(&path).unwrap();
    desk.append(4);
    desk.log().publish().unwrap();
    fs::write(&path, short).unwrap();
    desk.reopen().unwrap();
    desk.check();
    desk.append(2);
    desk.reopen().unwrap();
    desk.check();
}

#[test]
fn what_a_crash_in_a_publication_leaves_behind_goes() {
    let mut desk = Desk::new();
    desk.append(7);
    desk.log().publish().unwrap();
    for (name, bytes) in [(".tmp", 5), ("tile/0/000.p/9", 9 * 32), ("tile/0/000.p/3", 3 * 32)] {
        fs::write(desk.published().join(name), vec![0; bytes]).unwrap();
    }
    let bundles = desk.published().join("tile/entries/001.p");
    fs::create_dir(&bundles).unwrap();
    fs::write(bundles.join("4"), b"").unwrap();
    desk.reopen().unwrap();
    desk.check();
    desk.check_published();
}

#[test]
fn damaged_published_tiles_refuse() {
    let mut desk = Desk::new();
    desk.append(7);
    desk.log().publish().unwrap();
    let tile = desk.published().join("tile/0/000.p/7");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[40] ^= 1;
    fs::write(&tile, bytes).unwrap();
    assert!(matches!(desk.reopen(), Err(LogError::Damaged { .. })));
    fs::remove_file(&tile).unwrap();
    assert!(matches!(desk.reopen(), Err(LogError::Io { .. })));
}

fn assert_poisoned(desk: &mut Desk) {
    let (entries, note, _) = desk.next(1);
    let log = desk.log();
    assert!(matches!(log.append(&entries, &note), Err(LogError::Poisoned)));
    assert!(matches!(log.publish(), Err(LogError::Poisoned)));
    assert!(matches!(log.entries(0..1), Err(LogError::Poisoned)));
    assert!(matches!(log.proof(0, 1), Err(LogError::Poisoned)));
    assert!(matches!(log.write_vkey(&vkey()), Err(LogError::Poisoned)));
}

/// The kernel itself refuses: a pipe takes the write and refuses the sync, a file opened for reading refuses the write.
#[test]
fn a_failed_write_or_sync_poisons_for_ever() {
    let mut desk = Desk::new();
    desk.append(2);
    let (_reader, writer) = std::io::pipe().unwrap();
    let unsynced = File::from(OwnedFd::from(writer));
    let unwritable = File::open(desk.segments().remove(0)).unwrap();
    for file in [unsynced, unwritable] {
        desk.log().wal.replace_file(file);
        let (entries, note, _) = desk.next(1);
        assert!(matches!(desk.log().append(&entries, &note), Err(LogError::Io { .. })));
        assert_eq!(desk.log().size(), 2, "nothing was acknowledged");
        assert_poisoned(&mut desk);
        desk.reopen().unwrap();
        desk.check();
    }
    desk.append(3);
    desk.check();
}

#[test]
fn a_failed_publication_poisons_for_ever() {
    let mut desk = Desk::new();
    desk.append(2);
    File::create(desk.published().join("tile")).unwrap().write_all(b"in the way").unwrap();
    assert!(matches!(desk.log().publish(), Err(LogError::Io { .. })));
    assert_poisoned(&mut desk);
    fs::remove_file(desk.published().join("tile")).unwrap();
    desk.reopen().unwrap();
    desk.log().publish().unwrap();
    desk.check_published();
}

#[test]
fn the_verifier_key_is_written_once() {
    let mut desk = Desk::new();
    desk.log().write_vkey(&vkey()).unwrap();
    desk.log().write_vkey(&vkey()).unwrap();
    let path = desk.published().join("vkey");
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", vkey()));
    let other = VerifierKey::new("log.example/node-2", vkey().key());
    assert!(matches!(desk.log().write_vkey(&other), Err(LogError::VerifierKey(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", vkey()));
    desk.append(1);
}

/// A publication is written without the log's lock; its half-written file must not become the vkey, nor be taken away.
#[test]
fn the_verifier_key_is_written_beside_a_publication() {
    let mut desk = Desk::new();
    let half = desk.published().join(".tmp");
    fs::write(&half, "half a checkpoint").unwrap();
    desk.log().write_vkey(&vkey()).unwrap();
    assert_eq!(fs::read_to_string(&half).unwrap(), "half a checkpoint");
    assert_eq!(fs::read_to_string(desk.published().join("vkey")).unwrap(), format!("{}\n", vkey()));
}

#[test]
fn entries_come_in_while_a_publication_is_written() {
    let mut desk = Desk::new();
    desk.append(300);
    let first = desk.log().prepare().unwrap().unwrap();
    desk.append(5);
    let written = first.write();
    desk.append(7);
    desk.check();
    desk.log().published(first, written).unwrap();
    assert_eq!(desk.log().published_size(), 300);
    desk.check();
    desk.log().publish().unwrap();
    assert_eq!(desk.log().published_size(), 312);
    desk.check();
    desk.reopen().unwrap();
    desk.check();
}

mod cosigned;
