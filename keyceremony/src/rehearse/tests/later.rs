//! What comes after a first day: profiles that change, licences that must hold, lists that officers approve.

use sha2::Sha256;
use translog::entry::{Event, IssuedCard, IssuedEvent, ListEvent};
use translog::state::LicenceState;
use wire::licence::{serial_number, serial_of};
use wire::list::{ApprovedList, List, ListKind, Single};

use super::*;

impl Table {
    /// The shipped script with these changes, its profiles beside it with version 1.
    fn write_script(&self, name: &str, edits: &[(&str, &str)]) -> PathBuf {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/settlement-day.toml");
        let mut text = fs::read_to_string(&shipped).unwrap();
        for applet in ["transit", "health", "campus"] {
            let from = format!("../../policies/applets/{applet}.toml");
            let profile = fs::read_to_string(shipped.with_file_name(&from)).unwrap();
            let old = profile.replace("\nversion = 2\n", "\nversion = 1\n");
            fs::write(self.path().join(format!("{applet}.toml")), old).unwrap();
            text = text.replace(&from, &format!("{applet}.toml"));
        }
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Licences under this transport key, those that still give cards last.
    fn licences(&self, transport: &str) -> Vec<LicenceState> {
        let module = self.module.lock();
        let log = module.log();
        let current = |known: &LicenceState| {
            log.profile(&known.licence.applet).is_some_and(|(digest, _)| *digest == known.licence.profile)
        };
        let mut found: Vec<_> = log
            .licences()
            .filter(|known| known.licence.transport.to_string() == transport)
            .cloned()
            .collect();
        found.sort_by_key(current);
        found
    }

    /// Cards leave under a licence.
    fn issue(&self, known: &LicenceState, offsets: std::ops::Range<u64>) {
        let mut module = self.module.lock();
        module.wall_ns = crate::client::now() * 1_000_000_000;
        let licence = &known.licence;
        let event = IssuedEvent {
            licence: licence.id,
            client: licence.line.clone(),
            form: wire::frame::KeyForm::Tr31,
            roles: licence.roles.clone(),
            issued: offsets.end,
            cards: offsets.map(|offset| IssuedCard { offset, chip: None }).collect(),
            digest: [3; 32],
        };
        module.make(Event::Issued(event), licence.node);
    }
}

/// A state that was made when the applets had other profiles goes on: the licences that ended with those come again, behind the cards
/// that were made, and programs are told of nothing else.
#[test]
fn a_changed_profile_brings_new_licences_behind_the_cards_that_were_made() {
    const LINE_1: &str = "transit/perso/line-1@01";
    let mut table = Table::new();
    let old = table.write_script("old.toml", &[]);
    let shipped = std::mem::replace(&mut table.script, old);
    table.play("yes\n").0.unwrap();
    let [old] = table.licences(LINE_1).try_into().unwrap();
    table.issue(&old, 0..3);
    let health = table.licences("health/perso/line-1@01")[0].licence.id;

    table.module.restart();
    table.script = shipped;
    let (outcome, shown) = table.play("yes\n");
    let summary = serde_json::to_value(outcome.unwrap()).unwrap();
    assert!(shown.contains("the profile has changed, no more cards of it, 3/1000000"), "{shown}");
    let [stopped, goes_on] = table.licences(LINE_1).try_into().unwrap();
    assert_eq!((stopped.licence.id, stopped.issued()), (old.licence.id, 3));
    let (first, licence) = (old.licence.first, &goes_on.licence);
    assert_eq!(licence.first, serial_of(serial_number(&first).unwrap() + 3).unwrap());
    assert_eq!((licence.last, licence.quantity), (old.licence.last, 999_997));
    let told = summary["licences"].as_array().unwrap();
    let ids: Vec<&str> = told.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert!(ids.len() == 3 && ids.contains(&to_hex(&licence.id).as_str()), "{ids:?}");
    assert!(!ids.contains(&to_hex(&old.licence.id).as_str()), "what gives no cards is not told");
    assert!(ids.contains(&to_hex(&health).as_str()), "a profile that stayed keeps its licence");

    // Once more: nothing is left to do, and no third licence is made.
    table.module.lock().asked.clear();
    table.play("yes\n").0.unwrap();
    assert!(table.module.lock().asked.is_empty());

    // A card number is made once, also where the script has a licence of its own for it.
    table.issue(&goes_on, 0..2);
    let last = "last = \"00003101000020999999\"\nquantity = 1000000";
    let short = "last = \"00003101000020000004\"\nquantity = 1";
    table.script = table.write_script("short.toml", &[(last, short)]);
    for applet in ["transit.toml", "campus.toml"] {
        let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/applets").join(applet);
        fs::copy(profile, table.path().join(applet)).unwrap();
    }
    let refused = table.play("yes\n").0.unwrap_err().to_string();
    assert!(refused.contains("were made; give it others"), "{refused}");
}

/// A 3DES transport key gets 3DES roles only; the module would refuse the rest, and the officers would have met for nothing.
#[test]
fn a_licence_asks_no_more_of_its_transport_key_than_that_holds() {
    let mut table = Table::new();
    table.script =
        table.write_script("weak.toml", &[("    \"control-01\", ", "    \"control-01\", \"load-41\", ")]);
    let refused = table.play("yes\n").0.unwrap_err().to_string();
    for part in ["line-2@01 is 3des", "weaker than the sm4 key of role load-41", "aes transport key"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
}

fn blacklist(version: u32, cards: std::ops::Range<u64>) -> List {
    let single = |card: u64| Single { serial: serial_of(card.into()).unwrap(), reason: 1, level: 2 };
    List {
        version,
        kind: ListKind::Full,
        base: 0,
        valid_from: [0x20, 0x26, 0x01, 0x01],
        valid_to: [0x20, 0x99, 0x12, 0x31],
        singles: cards.map(single).collect(),
        ranges: vec![],
        removals: vec![],
    }
}

/// Officers read how many cards leave: against the list that the log names, or not at all.
#[test]
fn officers_count_who_leaves_against_the_list_of_the_log() {
    let table = Table::new();
    table.play("yes\n").0.unwrap();
    let instance = Instance::read(&table.path().join("ceremony/instance.json")).unwrap();
    let digest = |list: &List| -> [u8; 32] { Sha256::digest(list.to_bytes()).into() };
    let of = |name: &str, list: &List| {
        let path = table.path().join(name);
        fs::write(&path, list.to_bytes()).unwrap();
        path
    };
    let log = table.path().join("log");
    let judge = |list: &List, base: Option<&List>, wall: &str| {
        let base = base.map(|base| of("base", base));
        crate::grants::list(&of("list", list), base.as_deref(), wall, &log, &instance)
    };
    let fails =
        |list: &List, base: Option<&List>, wall: &str| judge(list, base, wall).unwrap_err().to_string();
    let base = blacklist(1, 0..1500);
    assert!(fails(&blacklist(1, 0..9), Some(&base), "transit").contains("no list of transit yet"));
    let event = ListEvent {
        client: "spiffe://weihai.example/cards/desk-1".into(),
        wall: "transit".into(),
        epoch: 1,
        kind: ListKind::Full,
        body: digest(&base),
        digest: [7; 32],
        effective: digest(&base),
        singles: 1500,
        ranges: 0,
        removed: 0,
        keys: vec![crate::propose::key_id("transit/blacklist/sm2@01").unwrap()],
        again: false,
    };
    table.module.lock().make(Event::List(event), instance.node);

    let next = blacklist(2, 1201..1600);
    let approved = judge(&next, Some(&base), "transit").unwrap();
    assert_eq!((approved.epoch, approved.digest, approved.removed), (2, digest(&next), 1201));
    let said = command::Action::ApproveList(approved).in_words();
    assert!(said.1.contains("takes 1201 cards off") && said.0.contains("1201"), "{said:?}");
    let sooner = List { valid_to: [0x20, 0x98, 0x12, 0x31], ..blacklist(2, 0..1600) };
    assert_eq!(judge(&sooner, Some(&base), "transit").unwrap().removed, 1500, "it lets everybody go");
    let delta =
        List { kind: ListKind::Delta, base: 1, removals: vec![serial_of(7).unwrap()], ..blacklist(2, 0..0) };
    assert_eq!(judge(&delta, Some(&base), "transit").unwrap().removed, 1);

    for (what, other) in [("fewer cards", blacklist(1, 0..1499)), ("another epoch", blacklist(2, 0..1500))] {
        let refused = fails(&next, Some(&other), "transit");
        assert!(
            refused.contains("names epoch 1") && refused.contains(&to_hex(&digest(&base))),
            "{what}: {refused}"
        );
    }
    assert!(fails(&blacklist(3, 0..9), Some(&base), "transit").contains("the next one of transit is 2"));
    assert!(fails(&next, Some(&base), "health").contains("no list of health yet"));
    // Lost: a full list goes, and nobody is told a number.
    let blind = judge(&next, None, "transit").unwrap();
    assert_eq!(blind.removed, ApprovedList::UNKNOWN);
    let said = command::Action::ApproveList(blind).in_words().1;
    assert!(said.contains("nobody can say how many cards"), "{said}");
    assert!(fails(&delta, None, "transit").contains("make a full list"));
}
