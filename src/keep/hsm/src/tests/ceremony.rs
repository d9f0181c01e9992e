//! Genesis, shares, components, unseal: what people do, and what goes wrong when they err.

use wire::cbor::{Bytes, Cbor, Empty};
use wire::command::{Action, Quorum};
use wire::error::Refusal;
use wire::frame::*;
use wire::key::{Algorithm, KeyState};

use super::room::*;

const KEY: [u8; 16] = *b"fedcba9876543210";

#[test]
fn all_ten_share_sets_of_five_open_the_root_and_no_smaller_set_does() {
    let (module, mut people) = (new_module(), People::new());
    let keyd = Keyd::start(&module, Disk::default());
    assert_eq!(genesis(&module, &mut people).combinations, 10);
    let disk = keyd.stop();
    let mut opened = 0;
    for a in 0..5 {
        for b in a + 1..5 {
            let module = new_module();
            attach(&module, &disk);
            assert_eq!(unseal(&module, &people, &[a, b]).unwrap(), Progress { have: 2, need: 3 });
            assert_eq!(module.status().state, ModuleState::Sealed, "two of three open nothing");
            for c in b + 1..5 {
                let module = new_module();
                attach(&module, &disk);
                assert_eq!(unseal(&module, &people, &[a, b, c]).unwrap(), Progress { have: 3, need: 3 });
                assert_eq!(module.status().state, ModuleState::Recovering);
                opened += 1;
            }
        }
    }
    assert_eq!(opened, 10);
}

#[test]
fn bad_shares_are_named_and_block_nobody() {
    let (module, mut people) = (new_module(), People::new());
    let keyd = Keyd::start(&module, Disk::default());
    genesis(&module, &mut people);
    let disk = keyd.stop();
    let (other_module, mut strangers) = (new_module(), People::new());
    let other_keyd = Keyd::start(&other_module, Disk::default());
    genesis(&other_module, &mut strangers);
    other_keyd.stop();

    let module = new_module();
    attach(&module, &disk);
    let refusal = |sealed| match module.officers(OfficerRequest::Unseal(sealed)) {
        OfficerResponse::Refused(refused) => refused,
        other => panic!("{other:?}"),
    };
    let mut damaged = people.share(0);
    damaged.value[7] ^= 1;
    let damaged = refusal(people.seal_share(&module, Purpose::Unseal, &damaged));
    assert_eq!(damaged.code, Refusal::ShareDamaged);
    assert!(damaged.message.contains("custodian-1"), "{damaged}");
    // A share of another ceremony under this ceremony's certificate.
    let foreign = refusal(people.seal_share(&module, Purpose::Unseal, &strangers.share(0)));
    assert_eq!(foreign.code, Refusal::ShareForeign);
    // The same share twice.
    unseal(&module, &people, &[0]).unwrap();
    assert_eq!(unseal(&module, &people, &[0]).unwrap_err().code, Refusal::ShareTwice);
    // A forged certificate with strangers' good shares does not get in the way of the right set.
    unseal(&module, &strangers, &[0, 1]).unwrap();
    assert_eq!(unseal(&module, &people, &[1, 2]).unwrap().have, 3);
    assert_eq!(module.status().state, ModuleState::Recovering);
}

#[test]
fn a_box_for_one_purpose_does_not_open_under_another() {
    let (module, mut people) = (new_module(), People::new());
    let keyd = Keyd::start(&module, Disk::default());
    genesis(&module, &mut people);
    let disk = keyd.stop();
    let module = new_module();
    attach(&module, &disk);
    let sealed = people.seal_share(&module, Purpose::Prove, &people.share(0));
    let OfficerResponse::Refused(refused) = module.officers(OfficerRequest::Unseal(sealed)) else { panic!() };
    assert_eq!(refused.code, Refusal::BoxDamaged);
}

#[test]
fn genesis_waits_for_every_share_and_for_every_officer() {
    let (module, mut people) = (new_module(), People::new());
    let keyd = Keyd::start(&module, Disk::default());
    let genesis_command = people.command(genesis_action(&people, true));
    let two = people.sign(&genesis_command, &[0, 1]);
    let OfficerResponse::Refused(refused) = module.officers(OfficerRequest::Genesis(Bytes(two))) else {
        panic!()
    };
    assert_eq!(refused.code, Refusal::QuorumMissing, "all officers sign genesis");
    let all = people.sign(&genesis_command, &[0, 1, 2]);
    let OfficerResponse::GenesisShares(shares) = module.officers(OfficerRequest::Genesis(Bytes(all))) else {
        panic!()
    };
    people.certificate = shares.certificate.0;
    people.shares = shares.shares.into_iter().map(|share| share.0).collect();
    for at in 0..4 {
        let sealed = people.seal_share(&module, Purpose::Prove, &people.share(at));
        assert!(matches!(module.officers(OfficerRequest::Prove(sealed)), OfficerResponse::Progress(_)));
    }
    let OfficerResponse::Refused(refused) = module.officers(OfficerRequest::GenesisFinish(Empty {})) else {
        panic!()
    };
    assert_eq!(refused.code, Refusal::ShareUnproved);
    let mut bad = people.share(4);
    bad.value[0] ^= 0x80;
    let sealed = people.seal_share(&module, Purpose::Prove, &bad);
    let OfficerResponse::Refused(refused) = module.officers(OfficerRequest::Prove(sealed)) else { panic!() };
    assert_eq!(refused.code, Refusal::ShareDamaged);
    assert_eq!(module.status().state, ModuleState::Uninitialised);
    module.officers(OfficerRequest::Abort(Empty {}));
    genesis(&module, &mut people);
    assert_eq!(module.status().state, ModuleState::Operational);
    keyd.stop();
}

#[test]
fn a_wrong_component_digit_names_its_custodian() {
    let (module, mut people) = (new_module(), People::new());
    let keyd = Keyd::start(&module, Disk::default());
    genesis(&module, &mut people);
    let (one, two) = ([3; 16], *b"ABCDEFGHIJKLMNOP");
    let mut key = one;
    key.iter_mut().zip(two).for_each(|(to, from)| *to ^= from);
    let attributes = attributes(2, Algorithm::Sm4, &key);
    let proposal = people.command(Action::ImportKey(import_spec(&people, &attributes, &[one, two])));
    assert_eq!(
        send_component(&module, proposal.id, "custodian-1", &one).unwrap_err().code,
        Refusal::ComponentForeign,
        "before the command"
    );
    let pending = command(&module, people.sign(&proposal, &[0, 2])).unwrap();
    assert_eq!(pending.components, Some(Progress { have: 0, need: 2 }));
    let mut typo = two;
    typo[5] ^= 0x10;
    let refused = send_component(&module, proposal.id, "custodian-2", &typo).unwrap_err();
    assert_eq!(refused.code, Refusal::ComponentKcv);
    assert!(refused.message.contains("custodian-2") && refused.message.contains("version 02"), "{refused}");
    assert_eq!(
        send_component(&module, proposal.id, "custodian-4", &two).unwrap_err().code,
        Refusal::ComponentForeign
    );
    send_component(&module, proposal.id, "custodian-1", &one).unwrap();
    assert_eq!(
        send_component(&module, proposal.id, "custodian-1", &one).unwrap_err().code,
        Refusal::ComponentTwice
    );
    let done = send_component(&module, proposal.id, "custodian-2", &two).unwrap();
    assert_eq!(done.kcv, Some(attributes.kcv));
    set_state(&module, &people, 2, KeyState::Active).unwrap();
    // The same bytes under another version or algorithm are refused, parity bits or not.
    let same = import(&module, &people, 3, Algorithm::Tdes, &key.map(|byte| byte ^ 1));
    assert_eq!(same.unwrap_err().code, Refusal::KeyReused);
    let weak = import(&module, &people, 4, Algorithm::Tdes, b"01234567\x31\x30\x33\x32\x35\x34\x37\x36");
    assert_eq!(weak.unwrap_err().code, Refusal::WeakKey);
    let disk = keyd.stop();
    let kinds: Vec<String> = disk
        .entries
        .iter()
        .map(|entry| translog::entry::Entry::from_cbor(entry).unwrap().event.kind().to_owned())
        .collect();
    assert!(
        kinds.iter().filter(|kind| *kind == "component").count() >= 6,
        "refused components are in the log: {kinds:?}"
    );
}

#[test]
fn a_generated_key_is_like_an_imported_one() {
    let (module, mut people) = (new_module(), People::new());
    let keyd = Keyd::start(&module, Disk::default());
    genesis(&module, &mut people);
    let wanted = attributes(0x43, Algorithm::Sm4, &KEY);
    let done = command(&module, people.signed(Action::GenerateKey(wanted.clone()))).unwrap();
    assert_ne!(done.kcv, Some(wanted.kcv), "its check value is its own");
    assert_eq!(
        command(&module, people.signed(Action::GenerateKey(wanted))).unwrap_err().code,
        Refusal::KeyExists
    );
    set_state(&module, &people, 0x43, KeyState::Active).unwrap();
    let disk = keyd.stop();
    let again = restart(&people, &disk).unwrap();
    assert_eq!(again.live(|live| Ok(live.keys.len())).unwrap(), 1);
}

#[test]
fn a_change_of_officers_voids_what_the_old_set_approved() {
    let (module, mut people) = (new_module(), People::new());
    let keyd = Keyd::start(&module, Disk::default());
    genesis(&module, &mut people);
    let pending = people.signed(Action::GenerateKey(attributes(1, Algorithm::Sm4, &KEY)));
    let smaller = Quorum { threshold: 2, members: people.officer_set.members[..2].to_vec() };
    command(&module, people.signed(Action::SetOfficers(smaller))).unwrap();
    assert_eq!(command(&module, pending).unwrap_err().code, Refusal::OfficerEpoch);
    people.officer_epoch = 2;
    let gone = people.sign(&people.command(Action::Zeroise(Empty {})), &[0, 2]);
    assert_eq!(command(&module, gone).unwrap_err().code, Refusal::UnknownOfficer);
    command(&module, people.signed(Action::Zeroise(Empty {}))).unwrap();
    assert_eq!(module.status().state, ModuleState::Zeroised);
    let hello = OfficerRequest::Hello(Hello { purpose: Purpose::Unseal });
    assert!(matches!(module.officers(hello), OfficerResponse::Refused(_)), "until the next restart");
    let disk = keyd.stop();
    restart(&people, &disk).unwrap();
}
