//! Yesterday's sealed records must still open.

use std::path::PathBuf;

use securemem::{Arena, Preference};
use wire::key::Algorithm;

use super::room::attributes;
use crate::random::Random;
use crate::root::Root;

const KEY: [u8; 16] = *b"0123456789abcdef";

/// A record that version 1 sealed under the root key of 32 bytes 0x5a for the instance of 16 bytes 0x77.
/// `CITYKEEP_BLESS=1` writes the file if it is not there; it is never overwritten.
#[test]
fn a_sealed_record_of_version_1_opens_and_no_flipped_bit_does() {
    let arena = Arena::reserve(1 << 14, Preference::Auto).unwrap();
    let secret = |bytes: &[u8]| {
        arena
            .alloc(bytes.len(), |place| {
                place.copy_from_slice(bytes);
                Ok::<(), ()>(())
            })
            .unwrap()
    };
    let root = Root::new(&arena, secret(&[0x5a; 32]), [0x77; 16]).unwrap();
    let attributes = attributes(0x41, Algorithm::Sm4, &KEY);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/record/sealed-v1.cbor");
    if !path.exists() && std::env::var_os("CITYKEEP_BLESS").is_some() {
        let random = Random::system().unwrap();
        std::fs::write(&path, root.seal(&arena, &random, &attributes, 3, &secret(&KEY)).unwrap()).unwrap();
    }
    let record = std::fs::read(&path).unwrap();
    let (header, key) = root.open(&arena, &record).unwrap();
    assert_eq!((header.attributes, header.sequence), (attributes, 3));
    assert!(key.with(|key| key == KEY));
    for bit in 0..record.len() * 8 {
        let mut bad = record.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(root.open(&arena, &bad).is_err(), "{bit}");
    }
    let other = Root::new(&arena, secret(&[0x5b; 32]), [0x77; 16]).unwrap();
    assert!(other.open(&arena, &record).is_err());
}
