//! Lists are signed one epoch after the other, over bytes that the module built, and nobody leaves in numbers unseen.

use p256::ecdsa::signature::Verifier as _;
use sha2::{Digest as _, Sha256};
use wire::cbor::Bytes;
use wire::command::Action;
use wire::error::{Refusal, Refused};
use wire::frame::*;
use wire::key::{Algorithm, KeyState};
use wire::list::{ApprovedList, List, ListKind, REMOVALS_MAX, Range, Single, TRAILER_LEN};

use super::mint::*;
use super::room::durable;
use crate::answer::Connection;

fn list(version: u32, cards: std::ops::Range<u64>) -> List {
    List {
        version,
        kind: ListKind::Full,
        base: 0,
        valid_from: [0x20, 0x26, 0x01, 0x01],
        valid_to: [0x20, 0x26, 0x12, 0x31],
        singles: cards.map(|at| Single { serial: serial(at), reason: 1, level: 2 }).collect(),
        ranges: vec![],
        removals: vec![],
    }
}

fn delta(version: u32, add: std::ops::Range<u64>, remove: std::ops::Range<u64>) -> List {
    let removals = remove.map(serial).collect();
    List { kind: ListKind::Delta, base: version - 1, removals, ..list(version, add) }
}

fn sign(mint: &Mint, base: &[u8], body: &[u8]) -> Result<SignedList, Refused> {
    let mut connection = Connection::default();
    for (part, bytes) in [(ListPart::Base, base), (ListPart::List, body)] {
        for chunk in bytes.chunks(1000) {
            let request = KeydRequest::ListBytes(ListBytes { part, bytes: Bytes(chunk.to_vec()) });
            assert!(matches!(mint.module.keyd(&mut connection, request), KeydResponse::Done(_)));
        }
    }
    let request = ListSign { client: "spiffe://weihai.example/cards/desk-1".into(), wall: "transit".into() };
    let ticket = match mint.module.keyd(&mut connection, KeydRequest::ListSign(request)) {
        KeydResponse::Ticket(ticket) => ticket,
        KeydResponse::Refused(refused) => return Err(refused),
        other => panic!("{other:?}"),
    };
    durable(&mint.module, ticket.ticket)?;
    match mint.module.keyd(&mut connection, KeydRequest::Fetch(ticket)) {
        KeydResponse::Prepared(Prepared::List(signed)) => Ok(signed),
        other => panic!("{other:?}"),
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Refused>) -> Refusal {
    result.unwrap_err().code
}

#[test]
fn signatures_cover_the_whole_file() {
    let mint = Mint::new();
    let body = list(1, 0..30).to_bytes();
    let signed = sign(&mint, &[], &body).unwrap();
    let file = [body.as_slice(), &signed.trailer].concat();
    assert_eq!(signed.trailer.len(), TRAILER_LEN);
    assert_eq!(signed.trailer[..32], sm3::Sm3::digest(&body)[..]);
    assert_eq!(signed.trailer[32..36], [0, 0, 0, 1], "the MAC key's version");
    assert_ne!(signed.trailer[36..], [0; 16]);
    assert_eq!(signed.digest, <[u8; 32]>::from(Sha256::digest(&file)));
    assert_eq!(signed.signatures.len(), 2);
    for signature in &signed.signatures {
        let keys = mint.keys();
        let info = keys.iter().find(|info| info.attributes.id() == signature.key).unwrap();
        let public = info.public.clone().unwrap();
        if signature.algorithm == Algorithm::P256 {
            let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&public).unwrap();
            let signature = p256::ecdsa::Signature::from_der(&signature.signature).unwrap();
            assert!(key.verify(&file, &signature).is_ok());
            assert!(key.verify(&body, &signature).is_err());
        }
        assert!(public.len() == 65 && signature.signature.starts_with(&[0x30]));
    }
    // Another instance has other keys.
    let other = Mint::new();
    let theirs: Vec<_> = other.keys().into_iter().filter_map(|info| info.public).collect();
    assert!(
        theirs.len() == 2
            && mint.keys().iter().filter_map(|info| info.public.clone()).all(|key| !theirs.contains(&key))
    );
}

#[test]
fn one_epoch_after_the_other() {
    let mint = Mint::new();
    let first = list(1, 0..30).to_bytes();
    assert_eq!(code(sign(&mint, &[], &list(2, 0..30).to_bytes())), Refusal::ListEpoch);
    assert_eq!(
        code(sign(&mint, &[], &delta(1, 0..3, 3..4).to_bytes())),
        Refusal::ListFormat,
        "a delta to nothing"
    );
    let signed = sign(&mint, &[], &first).unwrap();
    assert_eq!(
        sign(&mint, &[], &first).unwrap().signatures,
        signed.signatures,
        "the same list has the same answer"
    );
    assert_eq!(
        code(sign(&mint, &[], &list(1, 0..31).to_bytes())),
        Refusal::ListEpoch,
        "another list of the same epoch"
    );
    assert_eq!(code(sign(&mint, &first, &list(3, 0..31).to_bytes())), Refusal::ListEpoch);
    assert_eq!(code(sign(&mint, &[], &list(2, 0..31).to_bytes())), Refusal::ListBase);
    let forged = list(1, 0..29).to_bytes();
    assert_eq!(code(sign(&mint, &forged, &list(2, 0..31).to_bytes())), Refusal::ListBase);
    let signed = sign(&mint, &first, &delta(2, 40..42, 0..3).to_bytes()).unwrap();
    assert_eq!(signed.removed, 3);
    let effective =
        List::follow(List::parse(&first).ok().as_ref(), &delta(2, 40..42, 0..3)).unwrap().to_bytes();
    assert_eq!(signed.effective, <[u8; 32]>::from(Sha256::digest(&effective)));

    let mint = mint.restarted();
    assert_eq!(
        code(sign(&mint, &first, &list(3, 0..31).to_bytes())),
        Refusal::ListBase,
        "a restart forgets no list"
    );
    sign(&mint, &effective, &list(3, 0..100).to_bytes()).unwrap();
    assert_eq!(code(sign(&mint, &effective, b"CCBL")), Refusal::ListFormat);
    mint.set(&id("transit/blacklist/sm2", 1), KeyState::Suspended).unwrap();
    let body = list(4, 0..100).to_bytes();
    assert_eq!(sign(&mint, &list(3, 0..100).to_bytes(), &body).unwrap().signatures.len(), 1);
    mint.set(&id("transit/blacklist/p256", 1), KeyState::Suspended).unwrap();
    assert_eq!(code(sign(&mint, &body, &list(5, 0..100).to_bytes())), Refusal::NoSuchKey);
}

#[test]
fn many_leave_by_quorum_only() {
    let mint = Mint::new();
    let many = list(1, 0..REMOVALS_MAX + 1);
    sign(&mint, &[], &many.to_bytes()).unwrap();
    let empty = list(2, 0..0).to_bytes();
    assert_eq!(code(sign(&mint, &many.to_bytes(), &empty)), Refusal::ListRemovals);
    let approve = |digest, epoch| {
        let wall = "transit".into();
        Action::ApproveList(ApprovedList { wall, epoch, digest, removed: REMOVALS_MAX + 1 })
    };
    assert_eq!(mint.refusal(approve([0; 32], 3)), Refusal::ListEpoch);
    mint.decide(approve([1; 32], 2)).unwrap();
    assert_eq!(
        code(sign(&mint, &many.to_bytes(), &empty)),
        Refusal::ListRemovals,
        "another list was approved"
    );
    mint.decide(approve(Sha256::digest(&empty).into(), 2)).unwrap();
    sign(&mint, &many.to_bytes(), &empty).unwrap();

    // A range is as many cards as it holds.
    let range = Range { from: serial(0), to: serial(5000), reason: 1, level: 1 };
    let ranged = List { ranges: vec![range], ..list(3, 0..0) };
    sign(&mint, &empty, &ranged.to_bytes()).unwrap();
    assert_eq!(code(sign(&mint, &ranged.to_bytes(), &list(4, 0..900).to_bytes())), Refusal::ListRemovals);
    sign(&mint, &ranged.to_bytes(), &list(4, 0..4500).to_bytes()).unwrap();
}
