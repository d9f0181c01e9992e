//! Lists are signed one epoch after the other, over bytes that the module built, and nobody leaves in numbers unseen.

use p256::ecdsa::signature::Verifier as _;
use sha2::{Digest as _, Sha256};
use wire::cbor::Bytes;
use wire::command::Action;
use wire::error::{Refusal, Refused};
use wire::frame::*;
use wire::key::{Algorithm, KeyState, Usage};
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
        // Not the year's end: a list that is over lets everybody go, and this test is to run for years.
        valid_to: [0x20, 0x99, 0x12, 0x31],
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
        for chunk in bytes.chunks(LIST_PART_MAX) {
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

fn approve(list: &[u8], epoch: u64, removed: u64) -> Action {
    Action::ApproveList(ApprovedList {
        wall: "transit".into(),
        epoch,
        digest: Sha256::digest(list).into(),
        removed,
    })
}

/// What lets cards through without taking them off the list is counted like taking them off.
#[test]
fn a_list_is_not_weakened_without_a_quorum() {
    let mint = Mint::new();
    let many = REMOVALS_MAX + 1;
    let base = list(1, 0..many).to_bytes();
    sign(&mint, &[], &base).unwrap();
    let next = || List { version: 2, ..list(1, 0..many) };
    let today = today();
    let tomorrow = bcd_date(today_number() + 1);
    let in_two_days = bcd_date(today_number() + 2);
    let mut lower = next();
    lower.singles.iter_mut().for_each(|single| single.level = 1);
    for (what, weaker) in [
        ("a lower level", lower.clone()),
        ("a delta with a lower level", List { kind: ListKind::Delta, base: 1, ..lower.clone() }),
        ("an earlier end", List { valid_to: today, ..next() }),
        ("a later beginning", List { valid_from: in_two_days, ..next() }),
    ] {
        assert_eq!(code(sign(&mint, &base, &weaker.to_bytes())), Refusal::ListRemovals, "{what}");
    }
    let stronger = List { valid_from: tomorrow, ..next() };
    let signed = sign(&mint, &base, &stronger.to_bytes()).unwrap();
    assert_eq!(signed.removed, 0);
    // Over already, though no earlier than the one before: that one is not in force then either, but who knows until when.
    let mint = Mint::new();
    let past = |version| List { valid_to: [0x20, 0x26, 0x01, 0x02], ..list(version, 0..many) };
    sign(&mint, &[], &past(1).to_bytes()).unwrap();
    assert_eq!(code(sign(&mint, &past(1).to_bytes(), &past(2).to_bytes())), Refusal::ListRemovals);
    let body = past(2).to_bytes();
    mint.decide(approve(&body, 2, many)).unwrap();
    assert_eq!(sign(&mint, &past(1).to_bytes(), &body).unwrap().removed, many);
}

#[test]
fn a_day_has_a_limit_over_all_epochs() {
    let mint = Mint::new();
    let of = |version, cards| list(version, cards).to_bytes();
    let all = 3 * REMOVALS_MAX;
    sign(&mint, &[], &of(1, 0..all)).unwrap();
    sign(&mint, &of(1, 0..all), &of(2, 600..all)).unwrap();
    assert_eq!(code(sign(&mint, &of(2, 600..all), &of(3, 1001..all))), Refusal::ListRemovals, "600 and 401");
    let mint = mint.restarted();
    assert_eq!(code(sign(&mint, &of(2, 600..all), &of(3, 1001..all))), Refusal::ListRemovals);
    sign(&mint, &of(2, 600..all), &of(3, 1000..all)).unwrap();
    assert!(sign(&mint, &of(2, 600..all), &of(3, 1000..all)).is_ok(), "again costs nothing");
    assert_eq!(code(sign(&mint, &of(3, 1000..all), &of(4, 1001..all))), Refusal::ListRemovals);
    // What officers approve goes beside the limit, and does not use it up.
    mint.decide(approve(&of(4, 1001..all), 4, 1)).unwrap();
    sign(&mint, &of(3, 1000..all), &of(4, 1001..all)).unwrap();
    sign(&mint, &of(4, 1001..all), &of(5, 1001..all + 5)).unwrap();
}

#[test]
fn a_lost_list_comes_back_by_quorum() {
    let mint = Mint::new();
    let first = list(1, 0..30).to_bytes();
    sign(&mint, &[], &first).unwrap();
    let next = list(2, 0..25).to_bytes();
    for base in [&[][..], &list(1, 0..29).to_bytes()] {
        assert_eq!(code(sign(&mint, base, &next)), Refusal::ListBase);
    }
    mint.decide(approve(&next, 2, 5)).unwrap();
    assert_eq!(
        code(sign(&mint, &[], &next)),
        Refusal::ListBase,
        "an approval of five is not one of everybody"
    );
    mint.decide(approve(&next, 2, REMOVALS_MAX + 1)).unwrap();
    assert_eq!(code(sign(&mint, &[], &list(2, 0..24).to_bytes())), Refusal::ListBase, "another list");
    let signed = sign(&mint, &[], &next).unwrap();
    assert_eq!(signed.removed, REMOVALS_MAX + 1);
    sign(&mint, &next, &list(3, 0..26).to_bytes()).unwrap();
    let change = delta(4, 30..31, 0..1).to_bytes();
    mint.decide(approve(&change, 4, REMOVALS_MAX + 1)).unwrap();
    assert_eq!(code(sign(&mint, &[], &change)), Refusal::ListBase, "a delta changes what it is a delta to");
}

/// A list in force that cannot come along any more would be the wall's last.
#[test]
fn no_list_grows_out_of_its_frame() {
    let mint = Mint::new();
    let room = (wire::list::BODY_MAX - wire::list::HEADER_LEN) / 12;
    let full = list(1, 0..room as u64).to_bytes();
    sign(&mint, &[], &full).unwrap();
    let one_more = delta(2, room as u64..room as u64 + 1, 0..0).to_bytes();
    assert_eq!(code(sign(&mint, &full, &one_more)), Refusal::TooLarge);
    sign(&mint, &full, &delta(2, room as u64..room as u64 + 1, 0..1).to_bytes()).unwrap();
}

#[test]
fn the_same_list_under_another_mac_key_says_so() {
    let mint = Mint::new();
    let body = list(1, 0..30).to_bytes();
    sign(&mint, &[], &body).unwrap();
    let mut next = key("transit/blacklist/mac", Algorithm::Sm4, &[Usage::MacList]);
    next.version.0 = 2;
    mint.decide(Action::GenerateKey(next)).unwrap();
    mint.set(&id("transit/blacklist/mac", 2), KeyState::Active).unwrap();
    let refused = sign(&mint, &[], &body).unwrap_err();
    assert!(refused.code == Refusal::ListMacKey && refused.message.contains("next epoch"), "{refused}");
    let next = sign(&mint, &body, &list(2, 0..30).to_bytes()).unwrap();
    assert_eq!(next.trailer[32..36], [0, 0, 0, 2]);
}

#[test]
fn many_leave_by_quorum_only() {
    let mint = Mint::new();
    let many = list(1, 0..REMOVALS_MAX + 1);
    sign(&mint, &[], &many.to_bytes()).unwrap();
    let empty = list(2, 0..0).to_bytes();
    assert_eq!(code(sign(&mint, &many.to_bytes(), &empty)), Refusal::ListRemovals);
    assert_eq!(mint.refusal(approve(&empty, 3, REMOVALS_MAX + 1)), Refusal::ListEpoch);
    mint.decide(approve(b"another", 2, REMOVALS_MAX + 1)).unwrap();
    assert_eq!(
        code(sign(&mint, &many.to_bytes(), &empty)),
        Refusal::ListRemovals,
        "another list was approved"
    );
    mint.decide(approve(&empty, 2, REMOVALS_MAX + 1)).unwrap();
    sign(&mint, &many.to_bytes(), &empty).unwrap();

    // A range is as many cards as it holds.
    let range = Range { from: serial(0), to: serial(5000), reason: 1, level: 1 };
    let ranged = List { ranges: vec![range], ..list(3, 0..0) };
    sign(&mint, &empty, &ranged.to_bytes()).unwrap();
    assert_eq!(code(sign(&mint, &ranged.to_bytes(), &list(4, 0..900).to_bytes())), Refusal::ListRemovals);
    sign(&mint, &ranged.to_bytes(), &list(4, 0..4500).to_bytes()).unwrap();
}
