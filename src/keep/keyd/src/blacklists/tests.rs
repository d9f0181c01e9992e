use wire::frame::ListSignature;
use wire::key::{Algorithm, KeyId};
use wire::list::{ListKind, Single};

use super::*;

fn list(version: u32, cards: &[u8]) -> List {
    let single = |card: &u8| {
        let mut serial = [0; 10];
        serial[9] = *card;
        Single { serial, reason: 1, level: 1 }
    };
    List {
        version,
        kind: ListKind::Full,
        base: 0,
        valid_from: [0x20, 0x26, 1, 1],
        valid_to: [0x20, 0x26, 2, 1],
        singles: cards.iter().map(single).collect(),
        ranges: vec![],
        removals: vec![],
    }
}

fn delta(version: u32, cards: &[u8]) -> List {
    List { kind: ListKind::Delta, base: version - 1, ..list(version, cards) }
}

fn file(list: &List, in_force: &List) -> SignedFile {
    let signature = ListSignature {
        key: KeyId::parse("transit/blacklist/sm2@01").unwrap(),
        algorithm: Algorithm::Sm2,
        signature: vec![1, 2, 3].into(),
    };
    let signed = SignedList {
        wall: "transit".to_owned(),
        epoch: u64::from(list.version),
        kind: list.kind,
        trailer: vec![9; 52].into(),
        digest: [4; 32],
        signatures: vec![signature],
        removed: 0,
        effective: Sha256::digest(in_force.to_bytes()).into(),
    };
    SignedFile::new(&Permit::of_test(7), signed, list.to_bytes())
}

#[test]
fn the_file_has_the_bytes_of_the_specification() {
    let signed = file(&list(1, &[]), &list(1, &[]));
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/list.signed");
    if std::env::var_os("CITYKEEP_BLESS").is_some() && !Path::new(golden).exists() {
        fs::create_dir_all(Path::new(golden).parent().unwrap()).unwrap();
        fs::write(golden, signed.to_cbor()).unwrap();
    }
    let bytes = fs::read(golden).unwrap();
    assert_eq!(bytes, signed.to_cbor());
    assert_eq!(SignedFile::from_cbor(&bytes), Ok(signed));
}

#[test]
fn a_stop_between_the_two_files_is_made_up_for() {
    let dir = tempfile::tempdir().unwrap();
    let lists = Blacklists::open(dir.path()).unwrap();
    let (first, second) = (list(1, &[1, 2]), delta(2, &[3]));
    let in_force = List::follow(Some(&first), &second).unwrap();
    assert!(lists.keep(&file(&first, &first)).unwrap());
    let before = fs::read(dir.path().join("transit.base")).unwrap();
    assert!(lists.keep(&file(&second, &in_force)).unwrap());
    fs::write(dir.path().join("transit.base"), &before).unwrap();
    assert_eq!(lists.in_force("transit").unwrap(), Some(in_force.to_bytes()));
    assert_eq!(fs::read(dir.path().join("transit.base")).unwrap(), in_force.to_bytes());
    // Kept again, as after the same request again: nothing is followed twice.
    assert!(lists.keep(&file(&second, &in_force)).unwrap());
    assert_eq!(lists.in_force("transit").unwrap(), Some(in_force.to_bytes()));
}

#[test]
fn a_base_that_operators_put_back_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let lists = Blacklists::open(dir.path()).unwrap();
    // The signed file is of an old backup; the base is the newest.
    assert!(lists.keep(&file(&list(3, &[1]), &list(3, &[1]))).unwrap());
    let newest = list(5, &[1, 2]).to_bytes();
    fs::write(dir.path().join("transit.base"), &newest).unwrap();
    assert_eq!(lists.in_force("transit").unwrap(), Some(newest.clone()));
    assert_eq!(fs::read(dir.path().join("transit.base")).unwrap(), newest);
    // One that is older than the signed file, or damaged, gives way to it.
    for old in [list(2, &[7]).to_bytes(), b"damaged".to_vec()] {
        fs::write(dir.path().join("transit.base"), &old).unwrap();
        assert_eq!(lists.in_force("transit").unwrap(), Some(list(3, &[1]).to_bytes()));
    }
}

#[test]
fn what_cannot_be_worked_out_leaves_the_base_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let lists = Blacklists::open(dir.path()).unwrap();
    let in_force = List::follow(Some(&list(1, &[1, 2])), &delta(2, &[3])).unwrap();
    assert!(!lists.keep(&file(&delta(2, &[3]), &in_force)).unwrap(), "there is no base");
    assert_eq!(lists.in_force("transit").unwrap(), None);
    fs::write(dir.path().join("transit.base"), list(1, &[1]).to_bytes()).unwrap();
    assert!(!lists.keep(&file(&delta(2, &[3]), &in_force)).unwrap(), "it is another base");
    assert_eq!(lists.in_force("transit").unwrap(), Some(list(1, &[1]).to_bytes()));
    assert!(lists.newest("transit").unwrap().is_some(), "the signed file is kept all the same");
}

#[test]
fn halves_go_at_start_and_damage_is_said() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("transit.signed.new"), b"half").unwrap();
    fs::write(dir.path().join("transit.signed"), b"no file of ours").unwrap();
    let lists = Blacklists::open(dir.path()).unwrap();
    assert!(!dir.path().join("transit.signed.new").exists());
    assert!(lists.newest("transit").is_err());
    for wall in ["../transit", "a/b", "", "transit.signed", "A"] {
        assert!(lists.newest(wall).is_err(), "{wall}");
    }
    assert_eq!(lists.newest("health").unwrap(), None);
}

#[test]
fn a_wall_has_one_turn() {
    let dir = tempfile::tempdir().unwrap();
    let lists = Blacklists::open(dir.path()).unwrap();
    let turn = lists.turn("transit").unwrap();
    assert!(lists.turn("transit").is_none());
    assert!(lists.turn("health").is_some());
    drop(turn);
    assert!(lists.turn("transit").is_some());
}
