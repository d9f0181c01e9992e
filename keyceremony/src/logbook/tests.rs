use std::fs;

use ed25519_dalek::SigningKey;
use translog::note::sign_checkpoint;
use translog::tree::empty_root;

use super::*;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn vkey() -> VerifierKey {
    VerifierKey::new("weihai.example/log", key().verifying_key().to_bytes())
}

fn publish(dir: &Path, size: u64) {
    let head = Checkpoint { origin: "weihai.example/log".into(), size, root: empty_root() };
    fs::write(dir.join("checkpoint"), sign_checkpoint(&head, &key())).unwrap();
}

#[test]
fn a_head_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), 1);
    let path = dir.path().to_owned();
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(150));
        publish(&path, 7);
    });
    assert_eq!(head(dir.path(), &vkey(), 7).unwrap().0.size, 7);
    later.join().unwrap();
    assert_eq!(read_head(dir.path(), &vkey()).unwrap().0.size, 7);
}

#[test]
fn a_head_of_another_log_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), 1);
    let other =
        VerifierKey::new("weihai.example/log", SigningKey::from_bytes(&[4; 32]).verifying_key().to_bytes());
    assert!(read_head(dir.path(), &other).unwrap_err().to_string().contains("auditor"));
}

#[test]
fn entries_must_lead_to_the_signed_head() {
    let dir = tempfile::tempdir().unwrap();
    let empty = Checkpoint { origin: "weihai.example/log".into(), size: 0, root: empty_root() };
    assert_eq!(replay(dir.path(), &empty).unwrap().size(), 0);
    let wrong_root = Checkpoint { root: [1; 32], ..empty.clone() };
    assert!(replay(dir.path(), &wrong_root).is_err());
    fs::create_dir_all(dir.path().join("tile/entries/000.p")).unwrap();
    fs::write(dir.path().join("tile/entries/000.p/1"), b"\0\x01\x60").unwrap();
    let one = Checkpoint { size: 1, ..empty };
    assert!(replay(dir.path(), &one).unwrap_err().to_string().contains("damaged"));
    assert!(genesis(dir.path()).is_none());
}
