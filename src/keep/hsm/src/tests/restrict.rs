//! What the module refuses of officers' commands beside the rules of the log.

use translog::entry::{CommandEvent, Event};
use wire::cbor::Bytes;
use wire::command::{Action, Named};
use wire::error::{Refusal, Refused};
use wire::frame::*;
use wire::key::{Algorithm, FactorSource, KeyAttributes, Usage};
use wire::licence::Licence;
use wire::profile::{AppletProfile, MacLayout, ProfileRole};

use super::mint::*;
use super::room::ISSUER;

fn generate(mint: &Mint, attributes: KeyAttributes) -> Result<CommandDone, Refused> {
    mint.decide(Action::GenerateKey(attributes))
}

/// A profile whose control role has this master.
fn controlled_by(mint: &Mint, lineage: &str, usage: &[Usage]) -> AppletProfile {
    let attributes = key(lineage, Algorithm::Tdes, usage);
    generate(mint, attributes.clone()).unwrap();
    let mut profile = Mint::profile(1);
    profile.roles[0] = ProfileRole { p1: 0x39, ..role("control", &key(lineage, Algorithm::Tdes, &[])) };
    profile
}

#[test]
fn a_control_key_does_nothing_else() {
    let mint = Mint::new();
    for usage in [Usage::IssueScript, Usage::AnswerAuth, Usage::ReloadPin] {
        let profile = controlled_by(&mint, &format!("transit/purse/c-{usage}"), &[usage, Usage::DeriveCard]);
        let refused = mint.decide(Action::SetProfile(profile)).unwrap_err();
        assert_eq!(refused.code, Refusal::BadProfile, "{usage}");
        assert!(refused.message.contains("control key"), "{refused}");
    }
    mint.decide(Action::SetProfile(Mint::profile(1))).unwrap();
    // Nor does its next version.
    let next = |usage: &[Usage]| {
        let mut next = key("transit/purse/control", Algorithm::Tdes, usage);
        next.version.0 = 2;
        generate(&mint, next)
    };
    assert_eq!(next(&[Usage::IssueScript, Usage::DeriveCard]).unwrap_err().code, Refusal::KeyAttributes);
    next(&[Usage::DeriveCard]).unwrap();
}

/// A log from before the rule may hold such a profile: then there are no WRITE KEY commands.
#[test]
fn an_old_profile_writes_no_keys_under_a_control_key_that_signs_scripts() {
    let mint = Mint::new();
    let profile = controlled_by(&mint, "transit/purse/both", &[Usage::IssueScript, Usage::DeriveCard]);
    mint.set(&id("transit/purse/both", 1), wire::key::KeyState::Active).unwrap();
    let refused = written_under_old(&mint, profile).unwrap_err();
    assert_eq!(refused.code, Refusal::BadProfile);
    assert!(refused.message.contains("other uses"), "{refused}");
    mint.cards(KeyForm::Tr31, &[3]).unwrap();
}

/// A WRITE KEY of the load key under a profile that the log has from before the rules, and a licence on it.
fn written_under_old(mint: &Mint, profile: AppletProfile) -> Result<Prepared, Refused> {
    let digest = profile.digest();
    let signed = mint.people.signed(Action::SetProfile(profile));
    let event = Event::Command(CommandEvent { command: Bytes(signed), made: None, card: None });
    mint.module.live(|live| live.log.make(&mint.module.random, event, None)).unwrap();
    mint.decide(Action::GrantLicence(Licence { profile: digest, ..mint.licence(5) })).unwrap();
    let mut request = request(KeyForm::WriteKey, &[3]);
    request.roles = vec!["load".into()];
    request.cards[0].challenge = Some([1, 2, 3, 4]);
    mint.ask(KeydRequest::CardKeys(request))
}

#[test]
fn two_keys_of_a_card_have_two_places() {
    let mint = Mint::new();
    let mut shared = Mint::profile(1);
    let (p1, p2) = (shared.roles[0].p1, shared.roles[0].p2);
    (shared.roles[2].p1, shared.roles[2].p2) = (p1, p2);
    // Rights make no other place.
    shared.roles[2].header = Bytes(vec![1, 0, 0x55, 0]);
    let refused = mint.decide(Action::SetProfile(shared.clone())).unwrap_err();
    assert_eq!(refused.code, Refusal::BadProfile);
    assert!(refused.message.contains("control and external have one place"), "{refused}");
    // A log from before the rule may hold it: then there are no WRITE KEY commands.
    let refused = written_under_old(&mint, shared).unwrap_err();
    assert!(refused.message.contains("have one place"), "{refused}");
    mint.cards(KeyForm::Tr31, &[3]).unwrap();
    written_under_old(&Mint::new(), Mint::profile(1)).unwrap();
}

#[test]
fn a_layout_is_what_the_master_answers() {
    let mint = Mint::new();
    let all = MacLayout::ALL;
    for (lineage, algorithm, layout) in [
        ("transit/purse/load", Algorithm::Sm4, MacLayout::Load),
        ("transit/purse/external", Algorithm::Sm4, MacLayout::Authentication),
        ("transit/purse/maintenance", Algorithm::Tdes, MacLayout::LineProtection),
        ("transit/purse/pin", Algorithm::Tdes, MacLayout::Pin),
    ] {
        for mac in all {
            let mut profile = Mint::profile(1);
            let usage = if layout == MacLayout::Load { &[Usage::AuthorizeLoad][..] } else { &[] };
            let attributes = key(lineage, algorithm, usage);
            profile.roles.push(ProfileRole { mac: *mac, p1: 0x36, ..role("tried", &attributes) });
            profile.version = 1 + mint.module.live(|live| Ok(live.log.state().size())).unwrap();
            let set = mint.decide(Action::SetProfile(profile));
            assert_eq!(set.is_ok(), *mac == layout, "{lineage} as {mac}: {set:?}");
            assert!(set.err().is_none_or(|refused| refused.code == Refusal::BadProfile));
        }
    }
    // A master that only leaves as card keys may be for whatever the card does with it.
    for mac in all {
        let mut profile = Mint::profile(1);
        profile.roles[0].mac = *mac;
        profile.version = 1 + mint.module.live(|live| Ok(live.log.state().size())).unwrap();
        mint.decide(Action::SetProfile(profile)).unwrap();
    }
}

#[test]
fn load_masters_of_a_wall_tell_cards_apart_alike() {
    let mint = Mint::new();
    let with = |lineage: &str, levels: &[FactorSource]| {
        let usage = [Usage::AuthorizeLoad];
        generate(&mint, KeyAttributes { levels: levels.to_vec(), ..key(lineage, Algorithm::Sm4, &usage) })
    };
    for (at, levels) in
        [&[FactorSource::ASN_RIGHT8][..], &[FactorSource::Literal([1; 8]), FactorSource::ASN_RIGHT8]]
            .into_iter()
            .enumerate()
    {
        let refused = with(&format!("transit/purse/load-{at}"), levels).unwrap_err();
        assert_eq!(refused.code, Refusal::KeyAttributes, "{levels:?}");
        assert!(refused.message.contains("transit/purse/load@01"), "{refused}");
    }
    with(
        "transit/purse/load-x",
        &[FactorSource::ISSUER_ID, FactorSource::Literal([1; 8]), FactorSource::ASN_RIGHT8],
    )
    .unwrap();
    with("campus/purse/load", &[FactorSource::ASN_RIGHT8]).unwrap();
    // One token would be good for every card whose chip number somebody gives.
    let chip = with("health/purse/load", &[FactorSource::ISSUER_ID, FactorSource::CHIP]).unwrap_err();
    assert!(chip.code == Refusal::KeyAttributes && chip.message.contains("serial"), "{chip}");
}

#[test]
fn a_card_number_has_one_live_licence() {
    let mint = Mint::new();
    mint.grant(5);
    let mut neighbour = ISSUER;
    neighbour[7] ^= 1;
    let other = |edit: &dyn Fn(&mut Licence)| {
        let mut licence = Licence {
            id: [0x22; 16],
            line: "spiffe://weihai.example/perso/line-2".into(),
            ..mint.licence(1)
        };
        edit(&mut licence);
        mint.decide(Action::GrantLicence(licence))
    };
    for (first, last) in [(0, 99), (99, 120), (50, 60), (99, 99)] {
        let refused =
            other(&|licence| (licence.first, licence.last) = (serial(first), serial(last))).unwrap_err();
        assert_eq!(refused.code, Refusal::BadLicence, "{first} to {last}");
        assert!(refused.message.contains(&wire::purse::to_hex(&LICENCE)), "{refused}");
    }
    other(&|licence| (licence.first, licence.last, licence.id) = (serial(100), serial(199), [0x23; 16]))
        .unwrap();
    other(&|licence| (licence.issuer, licence.id) = (neighbour, [0x24; 16])).unwrap();
    mint.decide(Action::RevokeLicence(Named { id: LICENCE })).unwrap();
    other(&|_| ()).unwrap();
    // A licence of a profile that is over can never be used again.
    mint.decide(Action::SetProfile(Mint::profile(2))).unwrap();
    let digest = Mint::profile(2).digest();
    other(&|licence| (licence.profile, licence.id) = (digest, [0x25; 16])).unwrap();
}

/// X9.143: a protection key is at least as strong as what it protects.
#[test]
fn two_key_3des_wraps_3des_and_nothing_else() {
    let mint = Mint::new();
    let transport = id("transit/perso/line-2", 1);
    generate(&mint, key("transit/perso/line-2", Algorithm::Tdes, &[Usage::WrapKeys])).unwrap();
    mint.set(&transport, wire::key::KeyState::Active).unwrap();
    mint.decide(Action::SetProfile(Mint::profile(1))).unwrap();
    let licence = |roles: &[&str], at: u8| {
        let fingerprint = mint.fingerprint(&transport);
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let (first, last) = (serial(u64::from(at) * 100), serial(u64::from(at) * 100 + 99));
        let transport = transport.clone();
        Licence { id: [at; 16], transport, fingerprint, roles, first, last, ..mint.licence(5) }
    };
    let ask = |at: u8, form: KeyForm, roles: &[&str]| {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let card = CardItem { serial: serial(u64::from(at) * 100), chip: None, challenge: None };
        let request = CardKeys { licence: [at; 16], roles, cards: vec![card], ..request(form, &[]) };
        mint.ask(KeydRequest::CardKeys(request))
    };
    for roles in [&["control", "load"][..], &["load"], &["external", "control"]] {
        let refused = mint.decide(Action::GrantLicence(licence(roles, 1))).unwrap_err();
        assert_eq!(refused.code, Refusal::WeakTransport, "{roles:?}");
        assert!(
            refused.message.contains("line-2@01 is 3des") && refused.message.contains("aes"),
            "{refused}"
        );
    }
    // The cards in the field: 3DES under version B stays.
    mint.decide(Action::GrantLicence(licence(&["control"], 2))).unwrap();
    let Prepared::CardKeys(sets) = ask(2, KeyForm::Tr31, &[]).unwrap() else { panic!() };
    assert!(sets.cards[0].keys[0].block.starts_with(b"B01"), "{sets:?}");

    // A licence that the log has from before the rule is read, and gives what is as strong as its key.
    let old = mint.people.signed(Action::GrantLicence(licence(&["control", "load"], 3)));
    let event = Event::Command(CommandEvent { command: Bytes(old), made: None, card: None });
    mint.module.live(|live| live.log.make(&mint.module.random, event, None)).unwrap();
    for form in [KeyForm::Tr31, KeyForm::Sealed] {
        for roles in [&[][..], &["load"], &["control", "load"]] {
            assert_eq!(ask(3, form, roles).unwrap_err().code, Refusal::WeakTransport, "{form} {roles:?}");
        }
    }
    let Prepared::CardKeys(sets) = ask(3, KeyForm::Sealed, &["control"]).unwrap() else { panic!() };
    assert_eq!(sets.issued, 1, "what was refused was not counted");
}

#[test]
fn no_file_of_the_log_is_let_go_that_a_start_needs() {
    let prune = Action::Prune(wire::witness::Prune { below: 1 });
    let refused = Mint::new().module.live(|live| live.check_restrictions(&prune)).unwrap_err();
    assert!(refused.code == Refusal::CommandKind && refused.message.contains("whole log"), "{refused}");
}
