//! MAC2 comes from a ledger's token and a true MAC1, once per card and counter, and from nothing else.

use wire::cbor::{Bytes, Cbor};
use wire::command::{Action, TokenName};
use wire::error::{Refusal, Refused};
use wire::frame::*;
use wire::key::{KeyState, Usage};
use wire::seal;
use wire::token::{LedgerToken, token_bytes};

use super::mint::*;

fn code<T: std::fmt::Debug>(result: Result<T, Refused>) -> Refusal {
    result.unwrap_err().code
}

fn plain(_: &mut LoadAuthorize, _: &mut LedgerToken) {}

#[test]
fn one_answer_per_card_and_counter() {
    let mint = Mint::new();
    mint.enrol(1_000_000);
    let load = mint.load(3, 10_000, plain);
    let first = mint.authorize(load.clone()).unwrap();
    // Card-crypto D.2 by the cipher alone.
    assert_eq!(first.mac2, mac2(&load, &first));
    assert!(!first.again);
    let again = mint.authorize(load.clone()).unwrap();
    assert_eq!((again.mac2, again.again), (first.mac2, true));

    let other_session = mint.load(3, 10_000, |request, _| {
        request.random = [9; 4];
        request.mac1 = mac1(request);
    });
    assert_eq!(code(mint.authorize(other_session)), Refusal::TokenUsed);
    let more = mint.load(3, 20_000, plain);
    assert_eq!(code(mint.authorize(more)), Refusal::TokenUsed, "another amount at the same counter");
    assert_eq!(code(mint.authorize(mint.load(2, 10_000, plain))), Refusal::LoadCounter);
    mint.authorize(mint.load(4, 10_000, plain)).unwrap();
    assert_eq!(code(mint.authorize(load.clone())), Refusal::LoadCounter, "the card has moved on");

    let mint = mint.restarted();
    assert_eq!(code(mint.authorize(load)), Refusal::LoadCounter);
    assert!(mint.authorize(mint.load(4, 10_000, plain)).unwrap().again, "a restart forgets no answer");
}

/// A new session of the card at the same counter: another random, another MAC1.
fn again_at_the_card(mint: &Mint, amount: u64, random: u8, replaces: Option<u64>) -> LoadAuthorize {
    mint.load(3, amount, |request, token| {
        request.random = [random; 4];
        request.mac1 = mac1(request);
        token.replaces = replaces;
    })
}

#[test]
fn a_lost_answer_does_not_lock_the_card() {
    let mint = Mint::new();
    mint.enrol(250);
    let size = || mint.module.live(|live| Ok(live.log.state().size())).unwrap();
    let entry = size();
    let first = mint.authorize(mint.load(3, 100, plain)).unwrap();
    let refused = mint.authorize(again_at_the_card(&mint, 100, 9, None)).unwrap_err();
    assert!(
        refused.code == Refusal::TokenUsed && refused.message.contains(&format!("replaces entry {entry}"))
    );
    for wrong in [entry - 1, entry + 1] {
        let load = again_at_the_card(&mint, 100, 9, Some(wrong));
        assert_eq!(code(mint.authorize(load)), Refusal::TokenUsed, "another entry");
    }
    let less = again_at_the_card(&mint, 99, 9, Some(entry));
    assert_eq!(code(mint.authorize(less)), Refusal::TokenUsed, "the card may yet take the first");
    let load = again_at_the_card(&mint, 100, 9, Some(entry));
    let forged = LoadAuthorize { mac1: [0; 4], ..load.clone() };
    assert_eq!(code(mint.authorize(forged)), Refusal::MacWrong);
    let second = mint.authorize(load.clone()).unwrap();
    assert_eq!(second.mac2, mac2(&load, &second));
    assert!(second.mac2 != first.mac2 && !second.again);
    assert_eq!(code(mint.authorize(mint.load(3, 100, plain))), Refusal::TokenUsed, "the first is over");

    // A ledger that signs the same words again asks the same; the same token for another session of the card does not.
    let mint = mint.restarted();
    let resigned = LoadAuthorize { signature: other_signature(&mint, &load), ..load.clone() };
    assert_ne!(resigned.signature, load.signature);
    let third = mint.authorize(resigned).unwrap();
    assert_eq!((third.mac2, third.again), (second.mac2, true));
    let taken = LoadAuthorize { random: [8; 4], ..load };
    assert_eq!(code(mint.authorize(LoadAuthorize { mac1: mac1(&taken), ..taken })), Refusal::TokenUsed);
    let spent = mint.load(4, 51, plain);
    assert_eq!(
        code(mint.authorize(spent)),
        Refusal::ValueCeiling,
        "what replaces is counted beside what it replaces"
    );
    mint.authorize(mint.load(4, 50, plain)).unwrap();
}

/// (r, n − s) is as good as (r, s): a second signature over the same words.
fn other_signature(mint: &Mint, load: &LoadAuthorize) -> [u8; 64] {
    let signature =
        p256::ecdsa::Signature::from_slice(&seal::sign(&mint.ledger, &token_bytes(&load.token))).unwrap();
    let (r, s) = signature.split_scalars();
    p256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap().to_bytes().into()
}

#[test]
fn each_purse_has_its_counter() {
    let mint = Mint::new();
    mint.enrol(1_000_000);
    let deposit = |counter| {
        mint.load(counter, 100, |request, token| {
            (request.purse, token.purse) = (1, 1);
            request.mac1 = mac1(request);
        })
    };
    mint.authorize(mint.load(9, 100, plain)).unwrap();
    assert!(!mint.authorize(deposit(2)).unwrap().again);
    assert!(!mint.authorize(deposit(9)).unwrap().again);
    assert_eq!(code(mint.authorize(deposit(8))), Refusal::LoadCounter);
    assert!(mint.authorize(mint.load(9, 100, plain)).unwrap().again);
    // One card, one budget: guesses at either purse are guesses at one key.
    for guess in 1..=16_u8 {
        let mut load = if guess % 2 == 0 { deposit(10) } else { mint.load(10, 100, plain) };
        load.mac1[3] ^= guess;
        assert_eq!(code(mint.authorize(load)), Refusal::MacWrong);
    }
    assert_eq!(code(mint.authorize(deposit(10))), Refusal::Withheld);
}

fn mac2(load: &LoadAuthorize, answer: &LoadAnswer) -> [u8; 4] {
    use cardcrypto::diversify;
    use wire::key::Algorithm::Sm4;
    let issuer = diversify(Sm4, &LOAD_KEY, &load.issuer).unwrap();
    let card = diversify(Sm4, &issuer, &wire::licence::card_factor(&load.serial)).unwrap();
    let mut session = [0; 16];
    session[..4].copy_from_slice(&load.random);
    session[4..6].copy_from_slice(&u16::try_from(load.counter).unwrap().to_be_bytes());
    session[6] = 0x80;
    session[8] = 0x80;
    lanes::sm4_encrypt(&card, &mut session);
    let mut data = u32::try_from(load.amount).unwrap().to_be_bytes().to_vec();
    data.push(u8::try_from(load.purse).unwrap());
    data.extend(load.terminal);
    data.extend(answer.date);
    data.extend(answer.time);
    lanes::mac(lanes::MacRule::Sm4, &session, &data)
}

#[test]
fn the_token_says_all_of_it() {
    let mint = Mint::new();
    assert_eq!(code(mint.authorize(mint.load(1, 100, plain))), Refusal::NoSuchToken);
    mint.enrol(1_000_000);
    let mismatch = |what: &str, edit: &dyn Fn(&mut LedgerToken)| {
        let load = mint.load(1, 100, |_, token| edit(token));
        assert_eq!(code(mint.authorize(load)), Refusal::TokenMismatch, "{what}");
    };
    mismatch("instance", &|token| token.instance = [1; 16]);
    mismatch("issuer", &|token| token.issuer[0] ^= 1);
    mismatch("card", &|token| token.serial = serial(8));
    mismatch("purse", &|token| token.purse = 1);
    mismatch("counter", &|token| token.counter = 2);
    mismatch("amount", &|token| token.amount = 101);
    mismatch("terminal", &|token| token.terminal[0] ^= 1);
    let bad = |load| assert_eq!(code(mint.authorize(load)), Refusal::BadToken);
    bad(mint.load(1, 100, |_, token| token.format = 2));
    bad(mint.load(1, 100, |_, token| token.date = [0x20, 0x26, 0x13, 0x01]));
    bad(mint.load(1, 100, |_, token| token.date = [0xaa; 4]));
    bad(mint.load(1, 100, |_, token| token.time = [0x24, 0, 0]));
    bad(mint.load(1, 100, |request, token| {
        request.token = Bytes(token.to_cbor());
        request.signature = seal::sign(&seal::generate().unwrap(), &token_bytes(&request.token));
    }));
    bad(mint.load(1, 100, |request, token| {
        request.token = Bytes([token.to_cbor(), vec![0]].concat());
        request.signature = seal::sign(&mint.ledger, &token_bytes(&request.token));
    }));
    bad(mint.load(1, 100, |request, token| {
        // Signed, but not as a token.
        request.token = Bytes(token.to_cbor());
        request.signature = seal::sign(&mint.ledger, &request.token);
    }));
    let far = mint.load(1, 100, |_, token| token.date = bcd_date(20_000));
    assert_eq!(code(mint.authorize(far)), Refusal::TokenDate);
    mint.authorize(mint.load(1, 100, plain)).unwrap();
    mint.decide(Action::RevokeToken(TokenName { name: "bank".into() })).unwrap();
    assert_eq!(code(mint.authorize(mint.load(2, 100, plain))), Refusal::NoSuchToken);
}

#[test]
fn a_day_has_a_ceiling() {
    let mint = Mint::new();
    mint.enrol(250);
    for counter in 1..=2 {
        mint.authorize(mint.load(counter, 100, plain)).unwrap();
    }
    assert!(mint.authorize(mint.load(2, 100, plain)).unwrap().again, "the same answer costs nothing");
    assert_eq!(code(mint.authorize(mint.load(3, 100, plain))), Refusal::ValueCeiling);
    assert_eq!(code(mint.authorize(mint.load(3, 51, plain))), Refusal::ValueCeiling);
    let mint = mint.restarted();
    assert_eq!(
        code(mint.authorize(mint.load(3, 51, plain))),
        Refusal::ValueCeiling,
        "a restart refills nothing"
    );
    mint.authorize(mint.load(3, 50, plain)).unwrap();
}

#[test]
fn a_wrong_mac1_is_a_guess() {
    let mint = Mint::new();
    mint.enrol(1_000_000);
    let wrong = |guess: u8| mint.load(1, 100, |request, _| request.mac1[3] ^= guess);
    for guess in 1..=16 {
        assert_eq!(code(mint.authorize(wrong(guess))), Refusal::MacWrong);
        assert_eq!(
            code(mint.authorize(wrong(guess))),
            if guess < 16 { Refusal::MacWrong } else { Refusal::Withheld }
        );
    }
    assert_eq!(code(mint.authorize(mint.load(1, 100, plain))), Refusal::Withheld, "even the true one");
    let other = mint.load(1, 100, |request, token| {
        request.serial = serial(8);
        token.serial = serial(8);
        request.mac1 = mac1(request);
    });
    mint.authorize(other).unwrap();
}

/// Every use of every kind of key: one cell of the table does what it says, all others refuse alike.
#[test]
fn a_key_does_one_thing() {
    let mint = Mint::new();
    mint.enrol(1_000_000);
    let all = mint.keys();
    assert_eq!(all.len(), 9);
    for info in &all {
        let (id, usage) = (info.attributes.id(), &info.attributes.usage);
        let target = CardTarget {
            client: "spiffe://weihai.example/cards/desk-1".into(),
            key: id.clone(),
            issuer: super::room::ISSUER,
            serial: serial(1),
            chip: None,
        };
        let script =
            |action| KeydRequest::Script(Script { target: target.clone(), challenge: [1, 2, 3, 4], action });
        let update = UpdateBinary { sfi: 0x15, offset: 0, data: Bytes(vec![1, 2, 3]) };
        let load = mint.load(1, 100, |request, _| request.key = id.clone());
        let calls = [
            (Usage::IssueScript, script(ScriptAction::UpdateBinary(update))),
            (Usage::IssueScript, script(ScriptAction::BlockCard(wire::cbor::Empty {}))),
            (Usage::ReloadPin, script(ScriptAction::ReloadPin(Bytes(vec![0x12, 0x34, 0x56, 0xff])))),
            (
                Usage::AnswerAuth,
                KeydRequest::Authenticate(Authenticate { target: target.clone(), challenge: [7; 8] }),
            ),
            (Usage::AuthorizeLoad, KeydRequest::LoadAuthorize(load)),
        ];
        for (needs, call) in calls {
            let tag = call.tag();
            match mint.ask(call) {
                Ok(_) => assert!(usage.contains(&needs), "{id} does {needs} (request {tag})"),
                Err(refused) => {
                    assert!(!usage.contains(&needs), "{id} refuses {needs}: {refused}");
                    assert_eq!(refused.code, Refusal::NoSuchKey, "{id}: {refused}");
                }
            }
        }
    }
    let apdu = |action| {
        let key = id("transit/purse/maintenance", 1);
        let target = CardTarget {
            client: "c".into(),
            key,
            issuer: super::room::ISSUER,
            serial: serial(1),
            chip: None,
        };
        match mint.ask(KeydRequest::Script(Script { target, challenge: [1, 2, 3, 4], action })) {
            Ok(Prepared::Script(apdu)) => Ok(apdu.0),
            Ok(other) => panic!("{other:?}"),
            Err(refused) => Err(refused.code),
        }
    };
    let block = apdu(ScriptAction::BlockApplication(wire::cbor::Empty {})).unwrap();
    assert!(block.starts_with(&[0x84, 0x1e, 0, 0, 4]) && block.len() == 9);
    for (sfi, offset, len) in [(0, 0, 3), (31, 0, 3), (256, 0, 3), (1, 256, 3), (1, 0, 0), (1, 0, 252)] {
        let update = UpdateBinary { sfi, offset, data: Bytes(vec![7; len]) };
        assert_eq!(apdu(ScriptAction::UpdateBinary(update)), Err(Refusal::BadScript), "{sfi} {offset} {len}");
    }
    mint.set(&id("transit/purse/maintenance", 1), KeyState::Suspended).unwrap();
    assert_eq!(apdu(ScriptAction::BlockCard(wire::cbor::Empty {})), Err(Refusal::NoSuchKey));
}
