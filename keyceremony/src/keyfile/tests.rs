use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

const GOLDEN: &str = include_str!("../../tests/golden/keyfile/v1.json");
const GOLDEN_REHEARSAL: &str = include_str!("../../tests/golden/keyfile/v1-rehearsal.json");
const GOLDEN_PASSPHRASE: &[u8] = b"golden: correct horse battery staple";

fn passphrase(text: &[u8]) -> Passphrase {
    Passphrase::new(text).unwrap()
}

fn golden_secret() -> SecretKey {
    SecretKey::from_slice(&[0x42; 32]).unwrap()
}

/// If this fails, the key files of officers who were enrolled earlier can no longer be read.
#[test]
fn files_of_the_first_release_open() {
    for (text, role, rehearsal) in [(GOLDEN, Role::Officer, false), (GOLDEN_REHEARSAL, Role::Custodian, true)]
    {
        let locked = parse(text).unwrap();
        assert_eq!((locked.role, locked.rehearsal), (role, rehearsal));
        let key = locked.open(&passphrase(GOLDEN_PASSPHRASE)).unwrap();
        assert_eq!(key.secret().to_bytes(), golden_secret().to_bytes());
        assert_eq!(key.public, seal::public_key(&golden_secret()));
    }
}

#[test]
fn the_same_key_gives_the_same_file() {
    let made = |name, role, rehearsal, cost, salt| {
        lock(&golden_secret(), name, role, rehearsal, cost, salt, &passphrase(GOLDEN_PASSPHRASE)).unwrap()
    };
    assert_eq!(made("li-wei", Role::Officer, false, Cost::REAL, [7; 16]), GOLDEN);
    assert_eq!(made("custodian-1", Role::Custodian, true, Cost::REHEARSAL, [8; 16]), GOLDEN_REHEARSAL);
}

#[test]
fn a_wrong_passphrase_opens_nothing() {
    let locked = parse(GOLDEN_REHEARSAL).unwrap();
    for wrong in
        [b"golden: correct horse battery stapl".as_slice(), b"Golden: correct horse battery staple", b"x"]
    {
        let failure = locked.open(&passphrase(wrong)).unwrap_err();
        assert!(failure.to_string().contains("custodian-1"));
    }
}

#[test]
fn every_changed_byte_is_refused() {
    let right = passphrase(GOLDEN_PASSPHRASE);
    for at in 0..GOLDEN_REHEARSAL.len() {
        for change in [0x01, 0x20, 0xff] {
            let mut bytes = GOLDEN_REHEARSAL.as_bytes().to_vec();
            bytes[at] ^= change;
            let opened = std::str::from_utf8(&bytes).ok().and_then(parse).map(|locked| locked.open(&right));
            assert!(!matches!(opened, Some(Ok(_))), "byte {at} ^ {change:02x}");
        }
    }
    for cut in 0..GOLDEN_REHEARSAL.len() {
        assert!(parse(&GOLDEN_REHEARSAL[..cut]).is_none(), "{cut}");
    }
    assert!(parse(&format!("{GOLDEN_REHEARSAL}\n")).is_none());
}

#[test]
fn absurd_costs_are_not_paid() {
    let field = |text: &str, from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        changed
    };
    for (from, to) in [
        ("\"memory_kib\": 65536", "\"memory_kib\": 64"),
        ("\"memory_kib\": 65536", "\"memory_kib\": 4294967295"),
        ("\"passes\": 3", "\"passes\": 0"),
        ("\"passes\": 3", "\"passes\": 1000000"),
        ("\"lanes\": 1", "\"lanes\": 0"),
        ("\"lanes\": 1", "\"lanes\": 5"),
    ] {
        assert!(parse(&field(GOLDEN, from, to)).is_none(), "{to}");
    }
    // A rehearsal's file does not become a real one by saying so.
    assert!(parse(&field(GOLDEN_REHEARSAL, "\"rehearsal\": true", "\"rehearsal\": false")).is_none());
}

#[test]
fn a_made_file_is_private_new_and_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("li.key");
    let phrase = passphrase(b"a rehearsal only");
    let made = create(&path, "li", Role::Officer, true, &phrase).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let opened = read(&path).unwrap().open(&phrase).unwrap();
    assert_eq!(opened.member(), made.member());
    assert!(create(&path, "li", Role::Officer, true, &phrase).is_err(), "never overwritten");
    assert!(opened.needs(Role::Custodian).is_err());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("0600"));
    let other = dir.path().join("other.key");
    create(&other, "li", Role::Officer, true, &phrase).unwrap();
    assert_ne!(read(&other).unwrap().salt, parse(&fs::read_to_string(&path).unwrap()).unwrap().salt);
}

#[test]
fn names_read_the_same_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let phrase = passphrase(b"a rehearsal only");
    for bad in ["", "Li", "1li", "li wei", "li/../wei", "李", "a-very-long-name-of-thirty-three-c"] {
        assert!(create(&dir.path().join("x"), bad, Role::Officer, true, &phrase).is_err(), "{bad}");
    }
}

#[test]
fn nothing_prints_the_secret() {
    let key = parse(GOLDEN_REHEARSAL).unwrap().open(&passphrase(GOLDEN_PASSPHRASE)).unwrap();
    let shown = format!("{key:?}");
    assert!(!shown.contains("42") && !shown.contains("66"), "{shown}");
}
