use std::path::Path;

use super::*;
use crate::fake::{Fake, id};
use crate::keyfile::{self, Role};
use crate::secret::Passphrase;

struct Room {
    _dir: tempfile::TempDir,
    custodians: Vec<Key>,
    holding: Holding,
    boxes: Vec<Vec<u8>>,
}

fn custodian(dir: &Path, name: &str) -> Key {
    let passphrase = Passphrase::new(b"a rehearsal only").unwrap();
    keyfile::create(&dir.join(name), name, Role::Custodian, true, &passphrase).unwrap()
}

fn share(set: &ShareSet, index: u64, value: u8) -> Share {
    Share { version: 1, set: set.set, epoch: set.epoch, index, threshold: set.threshold, value: [value; 32] }
}

fn sealed(set: &ShareSet, share: &Share, to: &Key) -> Vec<u8> {
    let context = share_out_context(&set.set, share.index);
    let sealed = seal::seal(&to.public, &context, &share.to_cbor(), &seal::generate().unwrap());
    sealed.unwrap().to_cbor()
}

fn room(pinned: PublicKey) -> Room {
    let dir = tempfile::tempdir().unwrap();
    let custodians: Vec<Key> = ["zhou", "wu", "zheng"].map(|name| custodian(dir.path(), name)).into();
    let mut set = ShareSet {
        version: 1,
        suite: 1,
        instance: id(),
        set: id(),
        epoch: 1,
        threshold: 2,
        slots: Vec::new(),
    };
    let mut boxes = Vec::new();
    for (index, key) in (1..).zip(&custodians) {
        let share = share(&set, index, 0x40);
        boxes.push(sealed(&set, &share, key));
        set.slots.push(ShareSlot {
            index,
            custodian: key.name.clone(),
            key: key.public,
            commitment: share.commitment(),
        });
    }
    let certificate = wire::share::ShareCertificate { set: Bytes(set.to_cbor()), mac: [0; 32] };
    let holding = Holding { pinned, certificate: certificate.to_cbor(), set };
    Room { _dir: dir, custodians, holding, boxes }
}

#[test]
fn a_custodian_opens_his_own_share_only() {
    let room = room([2; 33]);
    for (at, custodian) in room.custodians.iter().enumerate() {
        for (of, sealed) in room.boxes.iter().enumerate() {
            let opened = open(&room.holding.set, sealed, custodian);
            assert_eq!(opened.is_ok(), at == of, "{at} {of}");
            if let Err(failure) = opened {
                assert!(failure.to_string().contains(&custodian.name), "{failure}");
            }
        }
    }
}

#[test]
fn a_share_that_is_not_the_committed_one_is_refused_here() {
    let room = room([2; 33]);
    let (set, zhou) = (&room.holding.set, &room.custodians[0]);
    let mut foreign_set = set.clone();
    foreign_set.set = id();
    let cases = [
        ("another value", sealed(set, &share(set, 1, 0x41), zhou)),
        ("another index", sealed(set, &Share { index: 2, ..share(set, 1, 0x40) }, zhou)),
        ("another threshold", sealed(set, &Share { threshold: 3, ..share(set, 1, 0x40) }, zhou)),
        ("another epoch", sealed(set, &Share { epoch: 2, ..share(set, 1, 0x40) }, zhou)),
        ("another set", sealed(&foreign_set, &share(&foreign_set, 1, 0x40), zhou)),
    ];
    for (what, sealed) in cases {
        let failure = open(set, &sealed, zhou).map(|_| ()).unwrap_err().to_string();
        assert!(failure.contains("zhou"), "{what}: {failure}");
    }
    assert!(open(set, &room.boxes[0], zhou).is_ok(), "the control");
}

#[test]
fn a_stranger_or_a_borrowed_name_has_no_share() {
    let room = room([2; 33]);
    let dir = tempfile::tempdir().unwrap();
    let namesake = custodian(dir.path(), "zhou");
    let failure = slot(&room.holding.set, &namesake).map(|_| ()).unwrap_err().to_string();
    assert!(failure.contains("zhou") && failure.contains("enrolled"), "{failure}");
}

#[test]
fn a_wrong_character_is_named_by_its_line() {
    let room = room([2; 33]);
    let good = text(&room.boxes[1]);
    assert_eq!(read_text(&good, "wu").unwrap(), room.boxes[1]);
    let third = good.lines().nth(2).unwrap();
    let wrong = third.replacen(&third[..1], if third.starts_with('7') { "8" } else { "7" }, 1);
    let failure = read_text(&good.replacen(third, &wrong, 1), "wu").unwrap_err().to_string();
    assert!(
        failure.contains("share of wu") && failure.contains("line 3") && failure.contains("第 3 行"),
        "{failure}"
    );
    let failure = read_text(&good.replacen(third, &third.replacen(&third[..1], "?", 1), 1), "wu")
        .unwrap_err()
        .to_string();
    assert!(failure.contains("line 3: '?'") && failure.contains("“?”"), "{failure}");
}

#[test]
fn what_the_module_refuses_names_the_custodian() {
    let dir = tempfile::tempdir().unwrap();
    let module = Fake::start(dir.path());
    let room = room(module.lock().identity_public());
    let share = open(&room.holding.set, &room.boxes[0], &room.custodians[0]).unwrap();
    let progress = bring(&module.link(), &room.holding, &share, Purpose::Unseal).unwrap();
    assert_eq!((progress.have, progress.need), (1, 2));
    let failure = bring(&module.link(), &room.holding, &share, Purpose::Unseal).unwrap_err().to_string();
    assert!(failure.contains("share-twice") && failure.contains("zhou:"), "{failure}");
}

#[test]
fn a_key_that_another_identity_signed_gets_no_share() {
    let dir = tempfile::tempdir().unwrap();
    let module = Fake::start(dir.path());
    let room = room([2; 33]);
    let share = open(&room.holding.set, &room.boxes[0], &room.custodians[0]).unwrap();
    let failure = bring(&module.link(), &room.holding, &share, Purpose::Unseal).unwrap_err().to_string();
    assert!(failure.contains("pinned at genesis"), "{failure}");
    assert!(module.lock().asked.is_empty(), "nothing was sent");
}
