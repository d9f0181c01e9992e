//! The proof of one line: good for that line with that verdict, and for nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../../translog/tests/support/mod.rs"]
mod support;

use audit::line::LineProof;
use serde_json::{Value, json};
use support::{Maker, lineage, ordinary};
use translog::entry::{BatchEvent, BatchTotal, Event};
use translog::policy::Policy;
use translog::proof::TlogProof;
use translog::tree::{HashReader, inclusion_path, leaf_hash, node_hash};
use wire::batch::{BatchHeader, Group, Profile, Record, Verdict};
use wire::frame::{Counts, VersionCounts};
use wire::key::KeyVersion;
use wire::purse::F1Line;
use wire::tree16::{self, Path};

/// Vector `clearing-line-ascii` of card-crypto.
const LINE: &str = "0000000000010000310100001234567800031010000123456783101000012345678001000002710000001F40000251C090000000111223344556611223344556600000029100000012320240131093015D00A87B60101000612345000123450009999999900000007LINE-42             000008150000009920240131060000010202401312200001A1B2C3D4                              ";
const CLIENT: &str = "spiffe://weihai.example/clearing/engine-1";
/// Lines of the day: three levels of the tree, the last group of each short.
const LINES: usize = 700;
/// One that cannot be read.
const BROKEN: usize = 34;

/// Before and after, on one level.
type Siblings = (Vec<[u8; 32]>, Vec<[u8; 32]>);

struct Day {
    maker: Maker,
    header: BatchHeader,
    lines: Vec<Vec<u8>>,
    verdicts: Vec<Verdict>,
    leaves: Vec<[u8; 32]>,
    index: u64,
}

struct Leaves<'a>(&'a [Vec<u8>]);

impl HashReader for Leaves<'_> {
    type Error = ();

    fn subtree(&self, level: u32, index: u64) -> Result<[u8; 32], ()> {
        if level == 0 {
            return Ok(leaf_hash(&self.0[usize::try_from(index).unwrap()]));
        }
        Ok(node_hash(&self.subtree(level - 1, 2 * index)?, &self.subtree(level - 1, 2 * index + 1)?))
    }
}

fn day() -> Day {
    let line = |at: usize| {
        if at == BROKEN {
            return "\u{6ca1}\u{6709} not a line".as_bytes().to_vec();
        }
        let mut line = LINE.to_owned();
        line.replace_range(129..138, &format!("98765{at:04}"));
        line.replace_range(169..171, if at.is_multiple_of(3) { "02" } else { "01" });
        line.into_bytes()
    };
    let lines: Vec<Vec<u8>> = (0..LINES).map(line).collect();
    let groups = [2, 1].map(|version| Group {
        version: KeyVersion(version),
        issuer: F1Line::parse(&lines[0]).unwrap().issuer,
    });
    let header = BatchHeader { profile: Profile::PurchaseTac, lineage: lineage(), groups: groups.to_vec() };
    let (mut leaves, mut verdicts, mut counts) = (Vec::new(), Vec::new(), Counts::default());
    let mut versions = [Counts::default(); 3];
    for (at, line) in lines.iter().enumerate() {
        let read = F1Line::parse(line);
        let verdict = match read {
            None => Verdict::Malformed,
            Some(_) if at.is_multiple_of(7) => Verdict::BadTac,
            Some(_) => Verdict::Ok,
        };
        let record = match &read {
            None => Record::malformed(line, header.profile),
            Some(read) => {
                versions[usize::from(read.version.0)].add(verdict);
                read.record(u16::from(read.version.0 != 2)).to_bytes(header.profile)
            }
        };
        counts.add(verdict);
        leaves.push(tree16::leaf(&record, verdict));
        verdicts.push(verdict);
    }
    let top = Path::new(&leaves, 0).unwrap().top(leaves[0]);
    let rows =
        |version: u8| VersionCounts { version: KeyVersion(version), counts: versions[usize::from(version)] };
    let records = LINES as u64;
    let root = tree16::root(records, &header.to_bytes(), &top);
    let rows = vec![rows(1), rows(2)];
    let mut maker = ordinary(40);
    let index = maker.push(Event::Batch(BatchEvent {
        batch: [7; 16],
        client: CLIENT.into(),
        profile: header.profile,
        lineage: lineage(),
        part: 0,
        records,
        top,
        counts,
        versions: rows.clone(),
        wrong: Vec::new(),
        total: Some(BatchTotal { records, root, counts, versions: rows }),
        aborted: false,
    }));
    Day { maker, header, lines, verdicts, leaves, index }
}

impl Day {
    fn tlog_proof(&self, index: u64) -> String {
        let size = self.maker.frontier.size();
        let path = inclusion_path(&Leaves(&self.maker.entries), index, size).unwrap();
        TlogProof { index, path, checkpoint: self.maker.note() }.to_text()
    }

    fn proof(&self, line: u64) -> LineProof {
        let at = usize::try_from(line - 1).unwrap();
        LineProof {
            line,
            bytes: self.lines[at].clone(),
            verdict: self.verdicts[at],
            header: self.header.clone(),
            path: Path::new(&self.leaves, at).unwrap(),
            entry: self.maker.entries[usize::try_from(self.index).unwrap()].clone(),
            proof: self.tlog_proof(self.index),
        }
    }

    fn policy(&self) -> Policy {
        Policy::of_log(self.maker.vkey())
    }
}

#[test]
fn every_line_is_proved_and_written_and_read() {
    let day = day();
    for line in 1..=LINES as u64 {
        let proof = day.proof(line);
        let text = proof.to_json().to_string();
        let read = LineProof::parse(&text).unwrap();
        assert_eq!(read, proof);
        let shown = read.check(&day.policy()).unwrap();
        assert_eq!((shown.index, shown.lines, shown.client.as_str()), (40, LINES as u64, CLIENT));
        // Nothing of another line is in it.
        let other = format!("98765{:04}", if line == 401 { 401 } else { 400 });
        assert!(!text.contains(&other), "{line}");
    }
}

/// What a forger may change, and what must be said of it.
#[test]
fn hostile_proofs() {
    let day = day();
    let good = day.proof(18);
    good.check(&day.policy()).unwrap();
    let neighbour = day.proof(19);
    let edit = |edit: &dyn Fn(&mut LineProof)| {
        let mut proof = good.clone();
        edit(&mut proof);
        proof
    };
    let levels = |change: &dyn Fn(&mut Vec<Siblings>)| {
        let mut levels = good.path.levels().to_vec();
        change(&mut levels);
        edit(&move |proof| proof.path = Path::from_levels(levels.clone()))
    };
    let mut other_batch = ordinary(40);
    other_batch.push(support::assertion(1));
    let cases: Vec<(&str, LineProof, &str)> = vec![
        ("another line number", edit(&|p| p.line = 19), "not that of this line"),
        ("line 0", edit(&|p| p.line = 0), "not that of this line"),
        ("the neighbour's place", edit(&|p| (p.line, p.path) = (19, neighbour.path.clone())), "not those"),
        ("the neighbour's text", edit(&|p| p.bytes.clone_from(&neighbour.bytes)), "not those"),
        ("another verdict", edit(&|p| p.verdict = Verdict::BadTac), "not those"),
        ("another amount", edit(&|p| p.bytes[86] = b'1'), "not those"),
        ("another TAC", edit(&|p| p.bytes[161] = b'E'), "not those"),
        ("a version without a group", edit(&|p| p.bytes[170] = b'9'), "no group"),
        ("the other version", edit(&|p| p.bytes[170] = b'2'), "not those"),
        ("a line that cannot be read", edit(&|p| p.bytes.push(b'\r')), "not those"),
        ("an empty line", edit(&|p| p.bytes.clear()), "not those"),
        ("another issuer in the table", edit(&|p| p.header.groups[0].issuer = [9; 8]), "not those"),
        (
            "a longer table",
            edit(&|p| p.header.groups.push(Group { version: KeyVersion(9), issuer: [9; 8] })),
            "not those",
        ),
        ("the other kind of record", edit(&|p| p.header.profile = Profile::LoadTac), "another kind"),
        (
            "another key",
            edit(&|p| p.header.lineage = wire::key::Lineage::parse("transit/purse/tax").unwrap()),
            "another kind",
        ),
        ("a hash changed", levels(&|l| l[0].1[0][0] ^= 1), "not those"),
        (
            "a sibling left out",
            levels(&|l| {
                let _ = l[0].1.pop();
            }),
            "not that of this line",
        ),
        ("a sibling more", levels(&|l| l[0].1.push([0; 32])), "not that of this line"),
        (
            "a sibling on the other side",
            levels(&|l| {
                let s = l[0].1.remove(0);
                l[0].0.push(s);
            }),
            "not that of this line",
        ),
        ("a level less", levels(&|l| drop(l.pop())), "not that of this line"),
        ("a level more", levels(&|l| l.push((vec![], vec![]))), "not that of this line"),
        ("no path", levels(&Vec::clear), "not that of this line"),
        ("the entry changed", edit(&|p| p.entry[30] ^= 1), "not in the signed log"),
        (
            "an entry of another kind",
            edit(&|p| (p.entry, p.proof) = (day.maker.entries[39].clone(), day.tlog_proof(39))),
            "no batch",
        ),
        ("another entry's proof", edit(&|p| p.proof = day.tlog_proof(39)), "not in the signed log"),
        ("no proof", edit(&|p| p.proof.clear()), "tlog-proof"),
        (
            "another log's head",
            edit(&|p| p.proof = day.tlog_proof(40).replace(&day.maker.note(), &other_batch.note())),
            "not in the signed log",
        ),
        (
            "a changed signature",
            edit(&|p| {
                let at = p.proof.len() - 10;
                p.proof.replace_range(at..=at, if &p.proof[at..=at] == "A" { "B" } else { "A" });
            }),
            "signature",
        ),
    ];
    for (what, proof, needle) in cases {
        let said = proof.check(&day.policy()).expect_err(what).to_string();
        assert!(said.contains(needle), "{what}: {said}");
        // The same after it was written and read.
        if let Ok(read) = LineProof::parse(&proof.to_json().to_string()) {
            assert!(read.check(&day.policy()).is_err(), "{what}");
        }
    }
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
    let stranger = Policy::of_log(translog::note::VerifierKey::new(support::ORIGIN, key));
    assert!(good.check(&stranger).is_err());
    let witness = translog::note::WitnessKey::new("w.example", key);
    let strict =
        Policy::parse(&format!("log {}\nwitness w {witness}\nquorum w\n", day.maker.vkey())).unwrap();
    assert!(good.check(&strict).unwrap_err().to_string().contains("quorum"));
}

#[test]
fn a_proof_has_these_fields_and_no_others() {
    let good = day().proof(BROKEN as u64 + 1).to_json();
    assert!(good.get("bytes").is_some() && good.get("text").is_none());
    LineProof::parse(&good.to_string()).unwrap();
    let changed = |name: &str, value: Option<Value>| {
        let mut object = good.as_object().unwrap().clone();
        match value {
            Some(value) => drop(object.insert(name.to_owned(), value)),
            None => drop(object.remove(name)),
        }
        Value::Object(object).to_string()
    };
    for name in ["format", "line", "bytes", "verdict", "header", "path", "entry", "proof"] {
        assert!(LineProof::parse(&changed(name, None)).is_err(), "{name}");
        assert!(LineProof::parse(&changed(name, Some(json!([])))).is_err() || name == "path", "{name}");
    }
    for (name, value) in [
        ("more", json!(1)),
        ("text", json!("x")),
        ("format", json!(2)),
        ("line", json!(-1)),
        ("bytes", json!("0")),
        ("bytes", json!("zz")),
        ("verdict", json!("good")),
        ("header", json!("00")),
        ("path", json!([[[], [], []]])),
        ("path", json!([[["00"], []]])),
    ] {
        assert!(LineProof::parse(&changed(name, Some(value))).is_err(), "{name}");
    }
    assert!(LineProof::parse("").is_err() && LineProof::parse("[]").is_err());
}
