//! What an auditor holds a log to: no card beyond a licence, no load twice, no list out of order, whatever a module wrote.

use wire::command::{EndClient, EnrolClient, Named, TokenName};
use wire::frame::KeyForm;
use wire::licence::{Licence, Spoilage, serial_of};
use wire::list::{ApprovedList, ListKind, REMOVALS_MAX};
use wire::profile::{AppletProfile, MacLayout, ProfileRole};
use wire::token::TokenKey;

use super::*;
use crate::entry::{IssuedCard, IssuedEvent, ListEvent, LoadEvent, ScriptEvent, ScriptKind};

const NOW: u64 = 1_790_000_000;
const FIRST: u128 = 31_010_000_200_000;
const LINE: &str = "spiffe://weihai.example/perso/line-1";

impl Room {
    /// A room with a master, a transport key, a profile, a licence for 3 of 10 numbers, and a ledger.
    fn granted() -> Self {
        let mut room = Self::new();
        let master = KeyAttributes { usage: vec![Usage::AuthorizeLoad, Usage::DeriveCard], ..attributes(1) };
        let transport = KeyAttributes {
            lineage: Lineage::parse("transit/perso/line-1").unwrap(),
            algorithm: Algorithm::Aes,
            levels: vec![],
            usage: vec![Usage::WrapKeys],
            ..attributes(2)
        };
        room.run(Action::GenerateKey(master)).unwrap();
        room.run(Action::GenerateKey(transport)).unwrap();
        room.run(Action::SetProfile(profile(1))).unwrap();
        room.run(Action::GrantLicence(licence())).unwrap();
        let key = TokenKey {
            name: "bank".into(),
            key: [2; 33],
            wall: "transit".into(),
            daily: 100,
            not_after: NOW + 100_000,
        };
        room.run(Action::EnrolToken(key)).unwrap();
        room
    }

    fn at(&mut self, now: u64, event: &Event) -> Result<Digest, ReplayError> {
        self.state.advance(event, self.boot, NODE, [now * 1_000_000_000, self.state.size()])
    }

    fn refuses(&mut self, now: u64, event: &Event, why: &str) {
        let before = (self.state.root(), self.state.size(), self.state.clock());
        let error = self.at(now, event).unwrap_err();
        assert!(error.0.contains(why), "'{why}' is not in '{error}'");
        assert_eq!(
            (self.state.root(), self.state.size(), self.state.clock()),
            before,
            "an error changes nothing"
        );
    }
}

fn profile(version: u64) -> AppletProfile {
    let master = attributes(1);
    let role = ProfileRole {
        role: "load".into(),
        key: master.id(),
        algorithm: master.algorithm,
        levels: master.levels,
        index: 1,
        p1: 0,
        p2: 0,
        header: Bytes(vec![]),
        block_usage: "13".into(),
        block_mode: "N".into(),
        session: None,
        mac: MacLayout::Load,
    };
    AppletProfile { format: 1, applet: "transit".into(), version, roles: vec![role], control: None }
}

fn licence() -> Licence {
    Licence {
        id: [0x99; 16],
        node: NODE,
        line: LINE.into(),
        transport: KeyId { lineage: Lineage::parse("transit/perso/line-1").unwrap(), version: KeyVersion(2) },
        fingerprint: [2; 16],
        applet: "transit".into(),
        profile: profile(1).digest(),
        roles: vec!["load".into()],
        issuer: [0x26; 8],
        first: serial_of(FIRST).unwrap(),
        last: serial_of(FIRST + 9).unwrap(),
        quantity: 3,
        not_before: NOW - 10,
        not_after: NOW + 100,
    }
}

fn issued(cards: &[u64], count: u64, edit: impl FnOnce(&mut IssuedEvent)) -> Event {
    let mut event = IssuedEvent {
        licence: [0x99; 16],
        client: LINE.into(),
        form: KeyForm::Tr31,
        roles: vec!["load".into()],
        cards: cards.iter().map(|offset| IssuedCard { offset: *offset, chip: None }).collect(),
        issued: count,
        digest: [0; 32],
    };
    edit(&mut event);
    Event::Issued(event)
}

#[test]
fn no_log_can_hold_a_card_too_many() {
    let mut room = Room::granted();
    let plain = |_: &mut IssuedEvent| ();
    room.at(NOW, &issued(&[0, 1], 2, plain)).unwrap();
    room.refuses(NOW, &issued(&[2], 2, plain), "count is not");
    room.refuses(NOW, &issued(&[0], 3, plain), "count is not");
    room.refuses(NOW, &issued(&[2, 3], 4, plain), "1 cards left");
    room.refuses(NOW, &issued(&[10], 3, plain), "outside");
    room.refuses(NOW, &issued(&[2, 2], 3, plain), "twice");
    room.refuses(NOW, &issued(&[2], 3, |event| event.client = "other".into()), "no such licence");
    room.refuses(NOW, &issued(&[2], 3, |event| event.licence = [1; 16]), "no such licence");
    room.refuses(NOW, &issued(&[2], 3, |event| event.roles = vec!["tac".into()]), "role left");
    room.refuses(NOW, &issued(&[2], 3, |event| event.roles.clear()), "role left");
    room.refuses(NOW, &issued(&[0], 2, |event| event.cards[0].chip = Some([1; 8])), "another chip");
    room.refuses(NOW + 101, &issued(&[2], 3, plain), "not its time");
    room.at(NOW, &issued(&[1, 2], 3, plain)).unwrap();

    let spoil = Spoilage { licence: [0x99; 16], cards: vec![serial_of(FIRST + 2).unwrap()] };
    room.run(Action::Spoil(spoil)).unwrap();
    room.refuses(NOW, &issued(&[2], 3, plain), "spoiled");
    room.at(NOW, &issued(&[5], 4, plain)).unwrap();
    room.refuses(NOW, &issued(&[6], 5, plain), "0 cards left");
    assert_eq!(room.state.licence(&[0x99; 16]).map(|known| (known.issued(), known.spoiled())), Some((4, 1)));

    // A clock that was ahead once is never behind again.
    room.at(NOW + 200, &asserted()).unwrap();
    room.refuses(NOW, &issued(&[5], 4, plain), "not its time");
}

#[test]
fn a_grant_that_ended_is_over() {
    for end in [Action::RevokeLicence(Named { id: [0x99; 16] }), Action::SetProfile(profile(2))] {
        let mut room = Room::granted();
        room.at(NOW, &issued(&[0], 1, |_| ())).unwrap();
        room.run(end).unwrap();
        assert!(room.at(NOW, &issued(&[0], 1, |_| ())).is_err());
    }
}

fn load(counter: u64, amount: u64, question: u8, again: bool) -> Event {
    Event::Load(load_event(counter, amount, question, again))
}

fn load_event(counter: u64, amount: u64, question: u8, again: bool) -> LoadEvent {
    LoadEvent {
        client: "c".into(),
        key: key_id(1),
        card: [7; 8],
        counter,
        amount,
        signer: "bank".into(),
        question: [question; 16],
        again,
        replaces: None,
    }
}

#[test]
fn no_log_can_hold_a_load_twice() {
    let mut room = Room::granted();
    room.at(NOW, &load(3, 60, 1, false)).unwrap();
    room.at(NOW, &load(3, 60, 1, true)).unwrap();
    room.refuses(NOW, &load(3, 60, 1, false), "answered before");
    room.refuses(NOW, &load(3, 60, 2, false), "another question");
    room.refuses(NOW, &load(2, 10, 3, false), "higher counter");
    room.refuses(NOW, &load(4, 41, 4, false), "used up");
    room.refuses(NOW, &load(4, 40, 4, true), "answered before");
    room.at(NOW, &load(4, 40, 4, false)).unwrap();
    // Midnight is UTC's, by the log's clock.
    let midnight = (NOW / 86_400 + 1) * 86_400;
    room.refuses(NOW + 100_001, &load(5, 1, 5, false), "ledger key");
    room.refuses(midnight - 1, &load(5, 1, 5, false), "used up");
    room.at(midnight, &load(5, 100, 5, false)).unwrap();
    room.refuses(midnight, &load(6, 1, 6, false), "used up");
    room.run(Action::RevokeToken(TokenName { name: "bank".into() })).unwrap();
    room.refuses(NOW, &load(6, 1, 6, false), "ledger key");
}

#[test]
fn a_lost_load_is_replaced_once_and_for_no_less() {
    let mut room = Room::granted();
    let replace = |amount, question, again, entry| {
        let event = load_event(3, amount, question, again);
        Event::Load(LoadEvent { replaces: Some(entry), ..event })
    };
    room.refuses(NOW, &replace(20, 2, false, 0), "none was answered");
    let first = room.state.size();
    room.at(NOW, &load(3, 20, 1, false)).unwrap();
    for entry in [first - 1, first + 1] {
        room.refuses(NOW, &replace(20, 2, false, entry), &format!("in entry {first};"));
    }
    room.refuses(NOW, &replace(19, 2, false, first), "no less");
    room.refuses(NOW, &replace(81, 2, false, first), "used up");
    // The answer was given out once more: what was resolved before that is not what is now.
    room.at(NOW, &load(3, 20, 1, true)).unwrap();
    room.refuses(NOW, &replace(20, 2, false, first), "in entry");
    room.refuses(NOW, &replace(20, 2, true, first + 1), "answered before");
    room.at(NOW, &replace(20, 2, false, first + 1)).unwrap();
    room.at(NOW, &replace(20, 2, true, first + 1)).unwrap();
    room.refuses(NOW, &load(3, 20, 1, true), "another question");
    room.refuses(NOW, &replace(20, 3, false, first + 1), "another question");
    // Both answers count.
    room.refuses(NOW, &load(4, 61, 4, false), "used up");
    room.at(NOW, &load(4, 60, 4, false)).unwrap();
    room.refuses(NOW, &replace(20, 5, false, first + 3), "higher counter");
}

fn list(epoch: u64, body: u8, removed: u64, again: bool) -> Event {
    Event::List(ListEvent {
        client: "c".into(),
        wall: "transit".into(),
        epoch,
        kind: ListKind::Full,
        body: [body; 32],
        digest: [body; 32],
        effective: [body; 32],
        singles: 0,
        ranges: 0,
        removed,
        keys: vec![key_id(1)],
        again,
    })
}

#[test]
fn no_log_can_hold_a_list_out_of_order() {
    let mut room = Room::granted();
    room.refuses(NOW, &list(2, 2, 0, false), "next epoch");
    room.at(NOW, &list(1, 1, 0, false)).unwrap();
    room.at(NOW, &list(1, 1, 0, true)).unwrap();
    room.refuses(NOW, &list(1, 1, 0, false), "signed before");
    room.refuses(NOW, &list(1, 2, 0, false), "next epoch");
    room.refuses(NOW, &list(2, 2, REMOVALS_MAX + 1, false), "officers");
    let approved =
        ApprovedList { wall: "transit".into(), epoch: 2, digest: [2; 32], removed: REMOVALS_MAX + 1 };
    room.run(Action::ApproveList(approved)).unwrap();
    room.refuses(NOW, &list(2, 3, REMOVALS_MAX + 1, false), "officers");
    room.at(NOW, &list(2, 2, REMOVALS_MAX + 1, false)).unwrap();
    let mut foreign = list(3, 3, 0, false);
    if let Event::List(event) = &mut foreign {
        event.wall = "health".into();
        event.epoch = 1;
    }
    room.refuses(NOW, &foreign, "keys of its wall");
}

#[test]
fn every_use_moves_the_state_root() {
    let mut room = Room::granted();
    let mut roots = vec![room.state.root()];
    let script =
        ScriptEvent { client: "c".into(), key: key_id(1), card: [7; 8], kind: ScriptKind::BlockCard };
    for event in [issued(&[0], 1, |_| ()), load(1, 1, 1, false), list(1, 1, 0, false)] {
        roots.push(room.at(NOW, &event).unwrap());
    }
    roots.sort_unstable();
    roots.dedup();
    assert_eq!(roots.len(), 4);
    room.at(NOW, &Event::Script(script.clone())).unwrap();
    room.refuses(NOW, &Event::Script(ScriptEvent { key: key_id(9), ..script }), "does not exist");
}

#[test]
fn a_client_key_has_one_name_and_one_end() {
    let mut room = Room::granted();
    let enrol = |key: u8, client: &str| {
        Action::EnrolClient(EnrolClient { client: client.into(), key: [key; 32], not_after: NOW })
    };
    let end = |key: u8, reason: &str| Action::EndClient(EndClient { key: [key; 32], reason: reason.into() });
    for bad in
        ["", "spiffe:/", "https://weihai.example/a", "spiffe://a b", "spiffe://ü", &"spiffe://a".repeat(26)]
    {
        assert_eq!(room.refusal(enrol(1, bad)), Some(Refusal::BadClient), "{bad}");
    }
    assert_eq!(room.refusal(end(1, "lost")), Some(Refusal::BadClient), "not enrolled");
    room.run(enrol(1, LINE)).unwrap();
    assert_eq!(room.refusal(enrol(1, "spiffe://weihai.example/perso/line-2")), Some(Refusal::BadClient));
    room.run(enrol(1, LINE)).unwrap();
    assert_eq!(room.refusal(end(1, "")), Some(Refusal::BadClient));
    room.run(end(1, "lost")).unwrap();
    assert_eq!(room.refusal(end(1, "lost")), Some(Refusal::BadClient), "ended once");
    assert_eq!(room.refusal(enrol(1, LINE)), Some(Refusal::BadClient), "an ended key does not come back");
    assert_eq!(room.state.client(&[1; 32]).and_then(|known| known.ended.as_deref()), Some("lost"));
}
