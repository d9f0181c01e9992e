use super::*;

fn serial(last: u8) -> CardSerial {
    let mut serial = [0x31; 10];
    serial[9] = last;
    serial
}

fn single(last: u8) -> Single {
    Single { serial: serial(last), reason: 1, level: 2 }
}

fn range(from: u8, to: u8) -> Range {
    Range { from: serial(from), to: serial(to), reason: 1, level: 2 }
}

fn full(singles: &[u8], ranges: &[(u8, u8)]) -> List {
    List {
        version: 7,
        kind: ListKind::Full,
        base: 0,
        valid_from: [0x20, 0x26, 0x01, 0x31],
        valid_to: [0x20, 0x26, 0x12, 0x31],
        singles: singles.iter().map(|last| single(*last)).collect(),
        ranges: ranges.iter().map(|(from, to)| range(*from, *to)).collect(),
        removals: vec![],
    }
}

fn delta(singles: &[u8], removals: &[u8]) -> List {
    let removals = removals.iter().map(|last| serial(*last)).collect();
    List { version: 8, kind: ListKind::Delta, base: 7, removals, ..full(singles, &[]) }
}

#[test]
fn bytes_have_one_reading() {
    for list in [full(&[], &[]), full(&[1, 2, 9], &[(0x10, 0x19), (0x20, 0x20)]), delta(&[5], &[1])] {
        let bytes = list.to_bytes();
        assert_eq!(List::parse(&bytes), Ok(list));
        for at in 0..bytes.len() {
            assert!(List::parse(&bytes[..at]).is_err(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x80;
            // Whatever is still read is written back in the same bytes: nothing is signed that was not read.
            if let Ok(read) = List::parse(&flipped) {
                assert_eq!(read.to_bytes(), flipped, "byte {at}");
            }
        }
        assert!(List::parse(&[bytes, vec![0]].concat()).is_err());
    }
}

#[test]
fn what_is_refused() {
    let refused = |list: &List, why: &str| {
        let error = List::parse(&list.to_bytes()).unwrap_err().0;
        assert!(error.contains(why), "{error}");
    };
    refused(&full(&[2, 1], &[]), "ascend");
    refused(&full(&[1, 1], &[]), "twice");
    refused(&full(&[], &[(1, 5), (5, 6)]), "overlap");
    refused(&full(&[], &[(6, 5)]), "ranges");
    refused(&full(&[0x0a], &[]), "decimal");
    refused(&List { version: 0, ..full(&[], &[]) }, "epoch");
    refused(&List { base: 6, ..full(&[], &[]) }, "base");
    refused(&List { removals: vec![serial(1)], ..full(&[], &[]) }, "removals");
    refused(&List { base: 6, ..delta(&[], &[]) }, "base");
    refused(&delta(&[1], &[1]), "at once");
    refused(&List { valid_to: [0x20, 0x26, 0x02, 0x30], ..full(&[], &[]) }, "dates");
    refused(&List { valid_to: [0x20, 0x25, 0x12, 0x31], ..full(&[], &[]) }, "order");
    refused(&List { valid_to: [0x20, 0x26, 0x0a, 0x01], ..full(&[], &[]) }, "dates");
}

#[test]
fn what_is_in_force_and_what_left() {
    let current = full(&[1, 2, 3], &[(0x10, 0x19)]);
    let next = List::follow(Some(&current), &delta(&[2, 4], &[1])).unwrap();
    assert_eq!(next.singles.iter().map(|single| single.serial[9]).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!((next.kind, next.version), (ListKind::Full, 8));
    assert_eq!(next.removed_since(&current, 9), 1);
    assert!(List::follow(Some(&current), &delta(&[], &[5])).is_err(), "not on the list");
    assert!(List::follow(Some(&current), &delta(&[], &[0x11])).is_err(), "only inside a range");
    assert!(List::follow(None, &delta(&[1], &[])).is_err());
    assert_eq!(full(&[], &[]).removed_since(&current, 100), 13);
    assert_eq!(full(&[], &[]).removed_since(&current, 5), 6, "no further than the limit and one");
    assert_eq!(full(&[3, 0x15], &[(1, 2), (0x10, 0x12)]).removed_since(&current, 100), 6);
    assert_eq!(full(&[], &[(0, 0x20)]).removed_since(&current, 100), 0);
}

#[test]
fn a_lower_level_is_a_removal() {
    let level = |mut list: List, level: u8| {
        list.singles.iter_mut().for_each(|single| single.level = level);
        list.ranges.iter_mut().for_each(|range| range.level = level);
        list
    };
    let current = full(&[1, 2, 3], &[(0x10, 0x19)]);
    assert_eq!(level(current.clone(), 1).removed_since(&current, 100), 13);
    assert_eq!(level(current.clone(), 3).removed_since(&current, 100), 0);
    let reasons = List {
        singles: current.singles.iter().map(|one| Single { reason: 9, ..*one }).collect(),
        ..current.clone()
    };
    assert_eq!(reasons.removed_since(&current, 100), 0, "reasons have no order");
    // A range at a lower level around them: only who keeps his own entry stays.
    let mut weak = full(&[1], &[(0, 0x20)]);
    weak.ranges[0].level = 1;
    assert_eq!(weak.removed_since(&current, 100), 12);
    // Own entries go before ranges, both ways.
    let mut inside = full(&[1, 2, 3, 0x12, 0x13], &[(0x10, 0x19)]);
    inside.singles[3].level = 1;
    assert_eq!(inside.removed_since(&current, 100), 1);
    assert_eq!(inside.removed_since(&inside, 100), 0, "the same list takes nobody off");
    assert_eq!(full(&[], &[]).removed_since(&inside, 100), 13, "a card that stands there twice is one card");
    assert_eq!(full(&[1, 2, 3, 0x13], &[]).removed_since(&inside, 100), 9);
    assert_eq!(
        (inside.level(&serial(0x12)), inside.level(&serial(0x14)), inside.level(&serial(9))),
        (Some(1), Some(2), None)
    );
}

/// Who leaves is who gets through sooner, whatever the list does for it.
#[test]
fn leaving_is_getting_through_sooner() {
    let base = List { version: 7, ..full(&[1, 2, 3, 4], &[(0x20, 0x29)]) };
    let day = |text: &str| crate::purse::bcd(text.as_bytes()).unwrap();
    let today = u64::try_from(days(day("20260301"))).unwrap();
    let leaving = |next: &List| List::follow(Some(&base), next).unwrap().leaving(&base, next, today, 1_000);
    let next = |edit: &dyn Fn(&mut List)| {
        let mut next = List { version: 8, ..base.clone() };
        edit(&mut next);
        leaving(&next)
    };
    assert_eq!(next(&|_| ()), 0);
    assert_eq!(next(&|next| next.singles.truncate(1)), 3);
    assert_eq!(next(&|next| next.ranges.clear()), 10);
    assert_eq!(next(&|next| next.singles[0].level = 1), 1, "a lower level");
    assert_eq!(leaving(&delta(&[9], &[1, 2])), 2, "a delta");
    assert_eq!(next(&|next| next.valid_to = day("20261230")), 14, "it ends sooner than the list in force");
    assert_eq!(next(&|next| next.valid_to = day("20270101")), 0);
    assert_eq!(next(&|next| next.valid_from = day("20260302")), 0, "it begins tomorrow");
    assert_eq!(next(&|next| next.valid_from = day("20260303")), 14, "a day is between them");
    let over = List { valid_to: day("20260228"), ..base.clone() };
    let again = List { version: 8, ..over.clone() };
    assert_eq!(again.leaving(&over, &again, today, 1_000), 14, "it is over already");
    assert_eq!(again.leaving(&over, &again, today, 5), 6, "counted no further than it must");
}
