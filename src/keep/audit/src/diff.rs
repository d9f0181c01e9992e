//! `audit diff`

use serde_json::{Value, json};
use translog::audit::{Compared, compare};
use translog::entry::Entry;
use wire::cbor::Cbor as _;
use wire::purse::to_hex;

use crate::cli::Diff;
use crate::failure::{Failure, Said};
use crate::place::{self, Place};
use crate::row::Row;

pub(crate) fn run(arguments: &Diff) -> Result<Said, Failure> {
    let policy = place::trusted(&arguments.trust.anchor)?;
    let a = Place::open(&arguments.a, &arguments.trust, &arguments.net)?;
    let b = Place::open(&arguments.b, &arguments.trust, &arguments.net)?;
    for place in [&a, &b] {
        let mut verifier = place::verifier(&arguments.trust)?;
        place::advance(&mut verifier, place, &mut ())?;
    }
    let compared = compare([&a, &b], &policy)
        .map_err(|(which, found)| Failure::log(if which == 0 { &a.name } else { &b.name }, &found))?;
    let Compared { sizes: [size_a, size_b], parted } = compared;
    if let Some((index, [one, other])) = parted {
        return Err(Failure::fork(
            index,
            format!(
                "日志分叉 THE LOG FORKED at entry {index}, under heads that the same key signed: keep both copies, they are \
                 the proof; tell the officers and every auditor\n  {}: {}\n  {}: {}",
                a.name,
                words(&one),
                b.name,
                words(&other)
            ),
        ));
    }
    let verdict = match size_a.cmp(&size_b) {
        std::cmp::Ordering::Equal => "两份相同 both copies are the same log at the same head".to_owned(),
        std::cmp::Ordering::Less => {
            format!("前者为后者的开头 A is the beginning of B: {} entries more in B", size_b - size_a)
        }
        std::cmp::Ordering::Greater => {
            format!("后者为前者的开头 B is the beginning of A: {} entries more in A", size_a - size_b)
        }
    };
    let json = json!({"ok": true, "sizes": [size_a, size_b], "forked": Value::Null});
    Ok(Said { lines: vec![verdict, format!("A {size_a} entries, B {size_b} entries")], json })
}

fn words(bytes: &[u8]) -> String {
    match Entry::from_cbor(bytes) {
        Ok(entry) => {
            let row = Row::of(&entry);
            format!("{} {} {} | {}", row.time(), row.kind, row.words.0, row.words.1)
        }
        Err(_) => to_hex(bytes),
    }
}
