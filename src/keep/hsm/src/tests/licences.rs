//! Card keys leave under a licence, counted by the log, and under nothing else.

use cardcrypto::{diversify, kcv};
use wire::cbor::Cbor;
use wire::command::{Action, Named, TokenName};
use wire::error::Refusal;
use wire::frame::*;
use wire::key::{Algorithm, FactorSource, KeyState, Usage};
use wire::licence::{KeyBlockHeader, Licence, SealedKeyBlock, Spoilage, card_factor, serial_of};
use wire::profile::{AppletProfile, ProfileRole};

use super::mint::*;
use super::room::*;
use crate::answer::Connection;

fn code<T: std::fmt::Debug>(result: Result<T, wire::error::Refused>) -> Refusal {
    result.unwrap_err().code
}

#[test]
fn the_entry_is_the_count() {
    let mint = Mint::new();
    mint.grant(3);
    let first = mint.cards(KeyForm::Tr31, &[0, 1]).unwrap();
    assert_eq!((first.issued, first.cards.len(), first.roles.len()), (2, 2, 2));
    let again = mint.cards(KeyForm::Sealed, &[1, 0]).unwrap();
    assert_eq!(again.issued, 2, "the same cards again are not counted again");
    let kcvs =
        |sets: &CardKeySets, at: usize| sets.cards[at].keys.iter().map(|key| key.kcv).collect::<Vec<_>>();
    assert_eq!(kcvs(&first, 0), kcvs(&again, 1), "the same card has the same keys");
    assert_ne!(kcvs(&first, 0), kcvs(&first, 1));
    assert_eq!(code(mint.cards(KeyForm::Tr31, &[1, 2, 3])), Refusal::LicenceUsedUp, "half a request is none");
    assert_eq!(mint.cards(KeyForm::Tr31, &[1, 2]).unwrap().issued, 3);
    assert_eq!(code(mint.cards(KeyForm::Tr31, &[3])), Refusal::LicenceUsedUp, "card N + 1");

    // A restart refills nothing and burns nothing.
    let mint = mint.restarted();
    assert_eq!(code(mint.cards(KeyForm::Tr31, &[3])), Refusal::LicenceUsedUp);
    assert_eq!(kcvs(&mint.cards(KeyForm::Tr31, &[0]).unwrap(), 0), kcvs(&first, 0));

    let spoil = |cards: &[u64]| {
        let cards = cards.iter().map(|at| serial(*at)).collect();
        Action::Spoil(Spoilage { licence: LICENCE, cards })
    };
    assert_eq!(mint.refusal(spoil(&[9])), Refusal::CardRange, "never made, never spoiled");
    assert_eq!(mint.refusal(spoil(&[1, 1])), Refusal::CardRange);
    mint.decide(spoil(&[1])).unwrap();
    assert_eq!(mint.refusal(spoil(&[1])), Refusal::CardRange, "spoiled once");
    assert_eq!(code(mint.cards(KeyForm::Tr31, &[1])), Refusal::CardSpoiled);
    assert_eq!(mint.cards(KeyForm::Tr31, &[3]).unwrap().issued, 4);
    assert_eq!(code(mint.cards(KeyForm::Tr31, &[4])), Refusal::LicenceUsedUp);

    let query = |client: &str| {
        let request = LicenceQuery { client: client.into(), licence: LICENCE };
        mint.module.keyd(&mut Connection::default(), KeydRequest::Licence(request))
    };
    let KeydResponse::Licence(info) = query(LINE) else { panic!() };
    assert_eq!((info.issued, info.spoiled, info.revoked, info.current), (4, 1, false, true));
    let KeydResponse::Refused(other) = query("spiffe://weihai.example/perso/line-2") else { panic!() };
    assert_eq!(other.code, Refusal::NoSuchLicence, "another's licence looks like none");
}

#[test]
fn nothing_leaves_but_under_the_licence() {
    let mint = Mint::new();
    assert_eq!(code(mint.cards(KeyForm::Tr31, &[0])), Refusal::NoSuchLicence);
    mint.grant(50);
    let with = |edit: &dyn Fn(&mut CardKeys)| {
        let mut request = request(KeyForm::Tr31, &[0]);
        edit(&mut request);
        mint.ask(KeydRequest::CardKeys(request)).map(|_| ())
    };
    assert_eq!(
        code(with(&|request| request.client = "spiffe://weihai.example/perso/line-2".into())),
        Refusal::NoSuchLicence
    );
    assert_eq!(code(with(&|request| request.licence = [0x12; 16])), Refusal::NoSuchLicence);
    assert_eq!(code(with(&|request| request.cards[0].serial = serial(100))), Refusal::CardRange);
    assert_eq!(
        code(with(&|request| request.cards[0].serial = serial_of(FIRST - 1).unwrap())),
        Refusal::CardRange
    );
    assert_eq!(code(with(&|request| request.cards[0].serial = [0xaa; 10])), Refusal::CardRange);
    assert_eq!(
        code(with(&|request| request.cards.push(request.cards[0]))),
        Refusal::CardRange,
        "a card twice"
    );
    assert_eq!(code(with(&|request| request.cards.clear())), Refusal::TooLarge);
    assert_eq!(
        code(with(&|request| request.cards = vec![request.cards[0]; CARDS_MAX + 1])),
        Refusal::TooLarge
    );
    assert_eq!(code(with(&|request| request.cards[0].chip = Some([1; 8]))), Refusal::CardChip);
    assert_eq!(
        code(with(&|request| request.roles = vec!["external".into()])),
        Refusal::BadLicence,
        "not in the licence"
    );
    assert_eq!(code(with(&|request| request.roles = vec!["nobody".into()])), Refusal::BadLicence);
    assert_eq!(code(with(&|request| request.roles = vec!["load".into(); 2])), Refusal::BadLicence);

    mint.set(&id("transit/perso/line-1", 1), KeyState::Suspended).unwrap();
    assert_eq!(code(with(&|_| ())), Refusal::TransportKey);
    mint.set(&id("transit/perso/line-1", 1), KeyState::Active).unwrap();
    mint.set(&id("transit/purse/load", 1), KeyState::VerifyOnly).unwrap();
    assert_eq!(code(with(&|_| ())), Refusal::NoSuchKey, "a master that only verifies makes no cards");
    with(&|request| request.roles = vec!["control".into()]).unwrap();

    mint.decide(Action::SetProfile(Mint::profile(2))).unwrap();
    assert_eq!(code(with(&|request| request.roles = vec!["control".into()])), Refusal::ProfileChanged);
}

#[test]
fn a_licence_has_its_time() {
    let mint = Mint::new();
    mint.decide(Action::SetProfile(Mint::profile(1))).unwrap();
    let grant = |edit: &dyn Fn(&mut Licence)| {
        let mut licence = mint.licence(5);
        edit(&mut licence);
        mint.decide(Action::GrantLicence(licence))
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    grant(&|licence| (licence.not_before, licence.not_after) = (now - 100, now - 1)).unwrap();
    assert_eq!(code(mint.cards(KeyForm::Tr31, &[0])), Refusal::LicenceExpired);
    grant(&|licence| {
        (licence.id, licence.not_before) = ([0x13; 16], now + 1000);
        (licence.first, licence.last) = (serial(100), serial(199));
    })
    .unwrap();
    let early = CardKeys { licence: [0x13; 16], ..request(KeyForm::Tr31, &[0]) };
    assert_eq!(code(mint.ask(KeydRequest::CardKeys(early))), Refusal::LicenceExpired);
    grant(&|licence| licence.id = [0x14; 16]).unwrap();
    let good = CardKeys { licence: [0x14; 16], ..request(KeyForm::Tr31, &[0]) };
    mint.ask(KeydRequest::CardKeys(good.clone())).unwrap();
    mint.decide(Action::RevokeLicence(Named { id: [0x14; 16] })).unwrap();
    assert_eq!(code(mint.ask(KeydRequest::CardKeys(good))), Refusal::LicenceExpired);
    assert_eq!(mint.refusal(Action::RevokeLicence(Named { id: [0x14; 16] })), Refusal::NoSuchLicence);
    assert_eq!(mint.refusal(Action::RevokeToken(TokenName { name: "bank".into() })), Refusal::NoSuchToken);
}

#[test]
fn which_licences_and_profiles_can_be() {
    let mint = Mint::new();
    let bad = |edit: &dyn Fn(&mut AppletProfile)| {
        let mut profile = Mint::profile(1);
        edit(&mut profile);
        mint.refusal(Action::SetProfile(profile))
    };
    assert_eq!(bad(&|profile| profile.roles.clear()), Refusal::BadProfile);
    assert_eq!(
        bad(&|profile| profile.applet = "health".into()),
        Refusal::BadProfile,
        "another wall's masters"
    );
    assert_eq!(bad(&|profile| profile.control = Some("none".into())), Refusal::BadProfile);
    assert_eq!(bad(&|profile| profile.roles[1].algorithm = Algorithm::Tdes), Refusal::BadProfile);
    assert_eq!(bad(&|profile| profile.roles[1].levels = vec![FactorSource::ASN_RIGHT8]), Refusal::BadProfile);
    assert_eq!(bad(&|profile| profile.roles[1].session = None), Refusal::BadProfile);
    assert_eq!(bad(&|profile| profile.roles[1].key.version.0 = 9), Refusal::NoSuchKey);
    assert_eq!(bad(&|profile| profile.roles[1].key = id("transit/perso/line-1", 1)), Refusal::BadProfile);
    mint.decide(Action::SetProfile(Mint::profile(4))).unwrap();
    assert_eq!(mint.refusal(Action::SetProfile(Mint::profile(4))), Refusal::BadProfile, "it counts up");
    mint.decide(Action::SetProfile(Mint::profile(5))).unwrap();

    let bad = |edit: &dyn Fn(&mut Licence)| {
        let mut licence = Licence { profile: Mint::profile(5).digest(), ..mint.licence(5) };
        edit(&mut licence);
        mint.refusal(Action::GrantLicence(licence))
    };
    for (what, edit) in [
        ("another module", &(|licence: &mut Licence| licence.node = [1; 16]) as &dyn Fn(&mut Licence)),
        ("another fingerprint", &|licence| licence.fingerprint = [1; 16]),
        ("no transport key", &|licence| licence.transport = id("transit/perso/line-9", 1)),
        ("a master as transport key", &|licence| licence.transport = id("transit/purse/load", 1)),
        ("an old profile", &|licence| licence.profile = Mint::profile(4).digest()),
        ("another applet", &|licence| licence.applet = "health".into()),
        ("no role", &|licence| licence.roles.clear()),
        ("an unknown role", &|licence| licence.roles.push("nobody".into())),
        ("a role twice", &|licence| licence.roles.push("load".into())),
        ("more cards than numbers", &|licence| licence.quantity = 101),
        ("no cards", &|licence| licence.quantity = 0),
        ("a range backwards", &|licence| licence.last = serial_of(FIRST - 1).unwrap()),
        ("too wide a range", &|licence| licence.last = serial_of(FIRST + (1 << 24)).unwrap()),
        ("no window", &|licence| licence.not_after = licence.not_before),
        ("no line", &|licence| licence.line.clear()),
        ("no issuer", &|licence| licence.issuer = [0; 8]),
    ] {
        assert_eq!(bad(edit), Refusal::BadLicence, "{what}");
    }
    let licence = Licence { profile: Mint::profile(5).digest(), ..mint.licence(5) };
    mint.decide(Action::GrantLicence(licence.clone())).unwrap();
    assert_eq!(mint.refusal(Action::GrantLicence(licence)), Refusal::BadLicence, "an id twice");
    let attributes = key("transit/purse/both", Algorithm::Sm4, &[Usage::AuthorizeLoad, Usage::IssueScript]);
    assert_eq!(mint.refusal(Action::GenerateKey(attributes)), Refusal::KeyAttributes, "two uses");
}

#[test]
fn blocks_hold_the_card_key() {
    let mint = Mint::new();
    mint.grant(50);
    let expected = |at: u64| {
        let issuer = diversify(Algorithm::Sm4, &LOAD_KEY, &ISSUER).unwrap();
        diversify(Algorithm::Sm4, &issuer, &card_factor(&serial(at))).unwrap()
    };
    let sets = mint.cards(KeyForm::Sealed, &[3, 4]).unwrap();
    for (set, at) in sets.cards.iter().zip([3, 4]) {
        let load = &set.keys[1];
        assert_eq!(load.kcv, kcv(Algorithm::Sm4, &expected(at)));
        let block = SealedKeyBlock::from_cbor(&load.block).unwrap();
        let header = KeyBlockHeader::from_cbor(&block.header).unwrap();
        assert_eq!((header.serial, header.role.as_str(), header.licence), (serial(at), "load", LICENCE));
        let key = cardcrypto::open_block(&KBPK, &block.header, &block.sealed).unwrap();
        assert_eq!(*key, *expected(at));
        let other = KeyBlockHeader { serial: serial(at + 1), ..header };
        assert!(
            cardcrypto::open_block(&KBPK, &other.to_cbor(), &block.sealed).is_none(),
            "another card's header"
        );
    }
    let sets = mint.cards(KeyForm::Tr31, &[3]).unwrap();
    let text = String::from_utf8(sets.cards[0].keys[1].block.0.clone()).unwrap();
    assert!(text.starts_with('D') && text.contains("31010000123456003/load/1111"), "{text}");

    let write = |challenge| {
        let mut request = request(KeyForm::WriteKey, &[3]);
        request.roles = vec!["load".into()];
        request.cards[0].challenge = challenge;
        mint.ask(KeydRequest::CardKeys(request))
    };
    let Prepared::CardKeys(sets) = write(Some([1, 2, 3, 4])).unwrap() else { panic!() };
    assert!(sets.cards[0].keys[0].block.starts_with(&[0x84, 0xd4, 0x3e, 0x01]));
    assert_eq!(code(write(None)), Refusal::BadScript);
    assert_eq!(
        code(mint.cards(KeyForm::WriteKey, &[3])),
        Refusal::BadScript,
        "one challenge is for one command"
    );
    assert_eq!(sets.issued, 2, "all of it was the same two cards");
}

/// 128 cards with 32 roles would fill more than a frame: refused before they count, and so many fewer go.
#[test]
fn an_answer_that_no_frame_holds_counts_nothing() {
    let mint = Mint::new();
    let long = |name: &str| format!("{name:x<32}");
    let master =
        key(&format!("transit/{}/{}", long("set"), long("role")), Algorithm::Tdes, &[Usage::DeriveCard]);
    mint.decide(Action::GenerateKey(master.clone())).unwrap();
    mint.set(&master.id(), KeyState::Active).unwrap();
    let mut profile = Mint::profile(1);
    while profile.roles.len() < wire::profile::ROLES_MAX {
        let name = long(&format!("role-{}-", profile.roles.len()));
        let p2 = 0x10 + profile.roles.len() as u64;
        profile.roles.push(ProfileRole { p2, ..role(&name, &master) });
    }
    let names = profile.roles.iter().map(|role| role.role.clone()).collect();
    let digest = profile.digest();
    mint.decide(Action::SetProfile(profile)).unwrap();
    let licence = Licence { profile: digest, roles: names, last: serial(999), ..mint.licence(200) };
    mint.decide(Action::GrantLicence(licence)).unwrap();
    let ask = |form, cards: u64| mint.cards(form, &(0..cards).collect::<Vec<_>>());
    let refused = ask(KeyForm::Sealed, 128).map(|_| ()).unwrap_err();
    assert!(refused.code == Refusal::TooLarge && refused.message.contains("fewer cards"), "{refused}");
    // The edge: the most cards that fit are answered whole, one more is refused.
    let size =
        |sets: &CardKeySets| to_frame(&KeydResponse::Prepared(Prepared::CardKeys(sets.clone()))).len() - 4;
    let each = (size(&ask(KeyForm::Sealed, 2).unwrap()) - size(&ask(KeyForm::Sealed, 1).unwrap())) as u64;
    let most = (FRAME_MAX as u64 - 2_000) / each;
    let sets = ask(KeyForm::Sealed, most).unwrap();
    assert!(sets.issued == most && size(&sets) <= FRAME_MAX, "{most} cards");
    let over = (most + 1..=128).find(|cards| ask(KeyForm::Sealed, *cards).is_err()).unwrap();
    assert!(over <= most + 2, "{over} after {most}");
    let counted = mint.module.live(|live| Ok(live.log.state().licence(&LICENCE).unwrap().issued())).unwrap();
    assert_eq!(counted, over - 1, "what was refused was not counted");
}

/// Prepare → release: no block leaves before its entry is durable, and none leaves twice.
#[test]
fn a_block_waits_for_its_entry() {
    let mint = Mint::new();
    mint.grant(5);
    let Mint { people, module, keyd, .. } = mint;
    let disk = keyd.stop();
    let mut connection = Connection::default();
    let KeydResponse::Ticket(ticket) =
        module.keyd(&mut connection, KeydRequest::CardKeys(request(KeyForm::Tr31, &[0])))
    else {
        panic!()
    };
    let fetch = |connection: &mut Connection| match module.keyd(connection, KeydRequest::Fetch(ticket)) {
        KeydResponse::Refused(refused) => Some(refused.code),
        KeydResponse::Prepared(_) => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(fetch(&mut connection), Some(Refusal::NotDurable));
    // keyd dies here; its log has no such card, so nothing was issued and the module that comes back counts none.
    let again = restart(&people, &disk).unwrap();
    let keyd = Keyd::start(&again, disk);
    let ticket = again.keyd(&mut connection, KeydRequest::CardKeys(request(KeyForm::Tr31, &[0])));
    let KeydResponse::Ticket(ticket) = ticket else { panic!("{ticket:?}") };
    durable(&again, ticket.ticket).unwrap();
    let released = again.keyd(&mut connection, KeydRequest::Fetch(ticket));
    let KeydResponse::Prepared(Prepared::CardKeys(sets)) = released else { panic!("{released:?}") };
    assert_eq!(sets.issued, 1);
    let twice = again.keyd(&mut connection, KeydRequest::Fetch(ticket));
    assert!(matches!(twice, KeydResponse::Refused(refused) if refused.code == Refusal::UnknownTicket));
    keyd.stop();
}
