//! A hostile keyd on the real module's real socket. The officers' tool is the real one; keyd's part is played here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use system_tests::house::{Daemon, Places, fixture};
use system_tests::socket::{Collector, Disk, KeydSocket, status};
use translog::entry::{Entry, Event};
use wire::batch::{Group, Profile, Record, Verdict};
use wire::cbor::{Bytes, Cbor, Empty};
use wire::error::Refusal;
use wire::frame::{
    BatchGroups, BatchOpen, Collect, KeydRequest, KeydResponse, MacItem, MacItems, ModuleState, Ticket,
};
use wire::key::Lineage;
use wire::purse::F1Line;

struct Stage {
    _dir: tempfile::TempDir,
    places: Places,
    /// keyd's copy after genesis and two of the imports, and after all.
    early: Disk,
    now: Disk,
}

fn lineage() -> Lineage {
    Lineage::parse("transit/purse/tac").unwrap()
}

/// A keys file with only the first versions of the fixture.
fn first_keys(path: &Path) {
    let mut keys: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(fixture("keys.json")).unwrap()).unwrap();
    keys["versions"].as_array_mut().unwrap().truncate(2);
    fs::write(path, keys.to_string()).unwrap();
}

fn stage() -> Stage {
    let dir = tempfile::Builder::new().prefix("ck").tempdir().unwrap();
    let places = Places(dir.path().to_owned());
    places.prepare();
    first_keys(&places.at("first.json"));
    let mut hsm = places.start_hsm(&[]);
    let socket = places.at("run/keyd.sock");
    let collector = Collector::start(&socket, Disk::default(), &places.0);
    let said = places.rehearse(&places.at("first.json"));
    assert!(said.ok, "{}{}", said.out, said.err);
    let early = collector.stop();
    hsm.kill();
    // A restart, and the rest of the keys.
    let mut hsm = places.start_hsm(&[]);
    let collector = Collector::start(&socket, early.clone(), &places.0);
    let said = places.rehearse(&fixture("keys.json"));
    assert!(said.ok, "{}{}", said.out, said.err);
    let now = collector.stop();
    assert!(now.entries.len() > early.entries.len() && now.records.len() == 56);
    hsm.kill();
    Stage { _dir: dir, places, early, now }
}

/// A restarted module whose keyd offers `disk`. The officers' tool takes its floor from the newest transcript.
fn restart(stage: &Stage, disk: &Disk) -> (Daemon, bool, String) {
    let hsm = stage.places.start_hsm(&[]);
    let collector = Collector::start(&stage.places.at("run/keyd.sock"), disk.clone(), &stage.places.0);
    let said = stage.places.rehearse(&fixture("keys.json"));
    let _ = collector.stop();
    (hsm, said.ok, said.err)
}

#[test]
fn old_stores_old_logs_and_dropped_entries_are_refused() {
    let stage = stage();
    let socket = stage.places.at("run/keyd.sock");
    let old_store = Disk { records: stage.early.records.clone(), ..stage.now.clone() };
    let mut dropped = stage.now.clone();
    dropped.entries.remove(3);
    let mut changed = stage.now.clone();
    let salt = Entry::from_cbor(&changed.entries[2]).unwrap().salt;
    let at = changed.entries[2].windows(16).position(|window| window == salt).unwrap();
    changed.entries[2][at] ^= 1;
    let mut flipped = stage.now.clone();
    flipped.records.values_mut().next().unwrap()[100] ^= 4;
    let attacks = [
        ("old store and old log, below the floor", &stage.early, Refusal::BelowFloor),
        ("old store under the new log", &old_store, Refusal::RecordMissing),
        ("an entry dropped", &dropped, Refusal::LogForged),
        // The changed byte lies in the entry's salt: nothing but the root at the floor can tell.
        ("an entry changed", &changed, Refusal::BelowFloor),
        ("a record with one flipped bit", &flipped, Refusal::RecordDamaged),
    ];
    for (name, disk, code) in attacks {
        let (mut hsm, ok, err) = restart(&stage, disk);
        assert!(!ok, "{name}");
        let now = status(&socket);
        assert_eq!(now.state, ModuleState::Recovering, "{name}: {err}");
        assert_eq!(now.trouble.map(|refused| refused.code), Some(code), "{name}: {err}");
        assert!(!err.trim().is_empty(), "{name}: the officers are told");
        let keys = KeydSocket::connect(&socket).ask(&KeydRequest::Keys(Empty {}));
        assert_eq!(keys.unwrap_err().code, Refusal::WrongState, "{name}: nothing is served");
        hsm.kill();
    }
    let (_hsm, ok, err) = restart(&stage, &stage.now);
    assert!(ok, "the true state comes back: {err}");
}

#[test]
fn a_taken_over_keyd_in_service_gains_nothing() {
    let stage = stage();
    let socket = stage.places.at("run/keyd.sock");
    let (_hsm, ok, err) = restart(&stage, &stage.now);
    assert!(ok, "{err}");
    let mut keyd = KeydSocket::connect(&socket);

    // A command that was carried out before, from the log itself, and one for another instance.
    let used =
        stage.now.entries.iter().rev().find_map(|entry| match Entry::from_cbor(entry).unwrap().event {
            Event::Command(event) => Some(event.command),
            _ => None,
        });
    assert_eq!(
        keyd.ask(&KeydRequest::Command(used.clone().unwrap())).unwrap_err().code,
        Refusal::CommandUsed
    );
    let mut altered = used.unwrap().0;
    let last = altered.len() - 1;
    altered[last] ^= 1;
    let refused = keyd.ask(&KeydRequest::Command(Bytes(altered))).unwrap_err().code;
    assert!(
        matches!(refused, Refusal::BadSignature | Refusal::BadCommand | Refusal::UnknownOfficer),
        "{refused}"
    );
    let golden = fs::read(system_tests::house::root().join("tests/golden/command/import-v1.cbor")).unwrap();
    let refused = keyd.ask(&KeydRequest::Command(Bytes(golden))).unwrap_err().code;
    assert!(
        matches!(refused, Refusal::UnknownOfficer | Refusal::BadSignature | Refusal::WrongInstance),
        "{refused}"
    );

    // Results wait for a head that the module handed out.
    let ticket = one_batch(&mut keyd);
    let release = KeydRequest::Release(Ticket { ticket });
    assert_eq!(keyd.ask(&release).unwrap_err().code, Refusal::NotDurable);
    let forged = KeydRequest::Collect(Collect { durable: ticket + 1, root: [7; 32] });
    assert_eq!(keyd.ask(&forged).unwrap_err().code, Refusal::AckForged);
    assert_eq!(keyd.ask(&release).unwrap_err().code, Refusal::NotDurable);

    // Frames that are none: too long, too deep, cut, empty. The module goes on.
    for bytes in [
        vec![0xff; 8],
        vec![0, 0, 0, 2, 0x82, 0x18],
        vec![0, 0, 0, 0],
        [vec![0, 0, 0x10, 0], vec![0x82; 4096]].concat(),
    ] {
        use std::io::Write;
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let _ = stream.write_all(&bytes);
    }
    assert_eq!(status(&socket).state, ModuleState::Operational);
    brute_force(&mut keyd);
}

fn fixture_line() -> F1Line {
    let day = fs::read(fixture("day.txt")).unwrap();
    F1Line::parse(day.split(|byte| *byte == b'\n').next().unwrap()).unwrap()
}

fn one_batch(keyd: &mut KeydSocket) -> u64 {
    let line = fixture_line();
    let open = BatchOpen { client: "nobody".into(), profile: Profile::PurchaseTac, lineage: lineage() };
    let groups = vec![Group { version: line.version, issuer: line.issuer }];
    keyd.ask(&KeydRequest::BatchOpen(open)).unwrap();
    keyd.ask(&KeydRequest::BatchGroups(BatchGroups { groups })).unwrap();
    let record = line.record(0).to_bytes(Profile::PurchaseTac).to_vec();
    let verdicts = keyd.ask(&KeydRequest::BatchRecords(Bytes(record))).unwrap();
    assert_eq!(verdicts, KeydResponse::Verdicts(Bytes(vec![Verdict::Ok.byte()])));
    match keyd.ask(&KeydRequest::BatchClose(Empty {})).unwrap() {
        KeydResponse::Ticket(ticket) => ticket.ticket,
        other => panic!("{other:?}"),
    }
}

/// Guessing a TAC under changing client names, as only keyd could: sixteen guesses, then silence, the true one too.
fn brute_force(keyd: &mut KeydSocket) {
    let line = fixture_line();
    let mut guess = |client: usize, tac: [u8; 4]| {
        let record = Record { tac, ..line.record(0) }.to_bytes(Profile::PurchaseTac);
        let group = Group { version: line.version, issuer: line.issuer };
        let (client, profile) = (format!("client-{client}"), Profile::PurchaseTac);
        let items = vec![MacItem { client, lineage: lineage(), group, profile, record }];
        match keyd.ask(&KeydRequest::MacVerify(MacItems { items })).unwrap() {
            KeydResponse::MacVerdicts(answer) => Verdict::from_byte(answer.verdicts[0]).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let truth = u32::from_be_bytes(line.tac);
    let mut told = 0;
    for at in 1..=200_u32 {
        match guess(at as usize, (truth ^ at).to_be_bytes()) {
            Verdict::BadTac => told += 1,
            Verdict::Withheld => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(told, 16);
    assert_eq!(guess(0, line.tac), Verdict::Withheld);
    std::thread::sleep(Duration::from_millis(10));
}
