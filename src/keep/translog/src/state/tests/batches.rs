use wire::batch::{CHUNK_RECORDS, Profile};
use wire::frame::VersionCounts;

use super::*;
use crate::entry::BatchTotal;

fn counts(ok: u64, malformed: u64) -> Counts {
    Counts { ok, malformed, ..Counts::default() }
}

fn rows(ok: u64) -> Vec<VersionCounts> {
    let row = VersionCounts { version: KeyVersion(1), counts: counts(ok, 0) };
    if ok == 0 { Vec::new() } else { vec![row] }
}

fn part(number: u64, ok: u64, malformed: u64) -> BatchEvent {
    BatchEvent {
        batch: [1; 16],
        client: "c".into(),
        profile: Profile::PurchaseTac,
        lineage: attributes(1).lineage,
        part: number,
        records: ok + malformed,
        top: [0; 32],
        counts: counts(ok, malformed),
        versions: rows(ok),
        wrong: vec![],
        total: None,
        aborted: false,
    }
}

fn last(mut event: BatchEvent, ok: u64, malformed: u64) -> BatchEvent {
    event.total = Some(BatchTotal {
        records: ok + malformed,
        root: [0; 32],
        counts: counts(ok, malformed),
        versions: rows(ok),
    });
    event
}

#[test]
fn parts_follow_each_other_and_add_up() {
    let mut room = Room::new();
    room.take(&Event::Batch(part(0, CHUNK_RECORDS - 1, 1))).unwrap();
    let other = BatchEvent { batch: [2; 16], ..last(part(0, 3, 0), 3, 0) };
    room.take(&Event::Batch(other)).unwrap();
    let end = last(part(1, 2, 1), CHUNK_RECORDS + 1, 2);
    for (edit, why) in [
        ((|event| event.part = 0) as fn(&mut BatchEvent), "missing, doubled"),
        (|event| event.part = 2, "missing, doubled"),
        (|event| event.client = "d".into(), "another client"),
        (|event| event.records = 4, "counts of a part"),
        (|event| event.counts.ok = u64::MAX, "counts of a part"),
        (|event| event.total = None, "not full"),
        (|event| event.aborted = true, "sum of its parts"),
        (|event| event.total.as_mut().unwrap().records += 1, "sum of its parts"),
        (|event| event.total.as_mut().unwrap().counts.ok += 1, "sum of its parts"),
        (|event| event.total.as_mut().unwrap().versions.clear(), "sum of its parts"),
        (|event| event.versions[0].counts.ok = 3, "more than its records"),
        (|event| event.versions[0].counts.ok = u64::MAX, "no records"),
        (|event| event.versions[0].counts.ok = 0, "no records"),
        (|event| event.versions = [rows(1), rows(1)].concat(), "in order"),
    ] {
        let mut bad = end.clone();
        edit(&mut bad);
        room.fails(&Event::Batch(bad), why);
    }
    room.take(&Event::Batch(end)).unwrap();
    room.fails(&Event::Batch(last(part(2, 0, 0), 0, 0)), "missing");
    let aborted = BatchEvent { aborted: true, ..part(0, 5, 0) };
    room.take(&Event::Batch(aborted)).unwrap();
}

#[test]
fn a_boot_ends_what_was_open() {
    let mut room = Room::new();
    room.take(&Event::Batch(part(0, CHUNK_RECORDS, 0))).unwrap();
    let event = room.boot([4; 16], 2);
    room.boot = [4; 16];
    room.take(&event).unwrap();
    room.fails(&Event::Batch(part(1, CHUNK_RECORDS, 0)), "missing");
}
