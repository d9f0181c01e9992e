//! Files of the first format, byte for byte, which every later version reads.
//!
//! A change of format gets a new directory beside `v1`; SPEC.md §Golden files says how one is written.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::support::{
        self, Maker, assert_golden, assertion, command_event, golden, key_id, lineage, made,
    };
    use translog::audit::verify;
    use translog::entry::{
        BatchEvent, BatchTotal, ComponentEvent, DeniedEvent, Entry, Event, FailuresEvent, SingleEvent,
        SingleRow, WrongPairs,
    };
    use translog::fs::LogDir;
    use translog::note::VerifierKey;
    use translog::proof::TlogProof;
    use translog::tile::{Tile, decode_bundle};
    use wire::api::Receipt;
    use wire::batch::{BatchHeader, Group, Profile, Record, Verdict};
    use wire::cbor::{Bytes, Cbor};
    use wire::command::{Action, CardRef, Limits, ResetBudget};
    use wire::error::Refusal;
    use wire::frame::{Assertion, BatchResult, Category, Counts, VersionCounts};
    use wire::key::{KeyState, KeyVersion};
    use wire::purse::{F1Line, f1_lines};
    use wire::tree16::{self, Tree};

    /// Vector `clearing-line-ascii` of card-crypto.
    const LINE: &str = "0000000000010000310100001234567800031010000123456783101000012345678001000002710000001F40000251C090000000111223344556611223344556600000029100000012320240131093015D00A87B60101000612345000123450009999999900000007LINE-42             000008150000009920240131060000010202401312200001A1B2C3D4                              ";
    const CLIENT: &str = "spiffe://weihai.example/clearing/engine-1";
    const SIZE: u64 = 258;

    fn with(at: usize, text: &str) -> String {
        let mut line = LINE.to_owned();
        line.replace_range(at..at + text.len(), text);
        line
    }

    /// Two key versions, two issuers, each verdict once, a doubled line, and a last line without LF.
    fn day() -> (String, Vec<Verdict>) {
        use Verdict::{BadTac, Malformed, Ok, UnknownKey, Withheld};
        let lines = [
            LINE.to_owned(),
            with(161, "00000000"),
            with(169, "02"),
            "not a line".to_owned(),
            with(177, "aabbccddeeff0011"),
            LINE.to_owned(),
            with(147, "20240230"),
        ];
        (lines.join("\n"), vec![Ok, BadTac, UnknownKey, Malformed, Withheld, Ok, Malformed])
    }

    struct Tally {
        header: BatchHeader,
        tree: Tree,
        counts: Counts,
        versions: BTreeMap<KeyVersion, Counts>,
    }

    fn tally(day: &str, verdicts: &[Verdict]) -> Tally {
        let profile = Profile::PurchaseTac;
        let header = BatchHeader { profile, lineage: lineage(), groups: Vec::new() };
        let mut tally =
            Tally { header, tree: Tree::new(), counts: Counts::default(), versions: BTreeMap::new() };
        for (line, verdict) in f1_lines(day.as_bytes()).zip(verdicts) {
            tally.counts.add(*verdict);
            let record = match F1Line::parse(line) {
                None => Record::malformed(line, profile),
                Some(parsed) => {
                    let group = Group { version: parsed.version, issuer: parsed.issuer };
                    let groups = &mut tally.header.groups;
                    let row = groups.iter().position(|there| *there == group).unwrap_or_else(|| {
                        groups.push(group);
                        groups.len() - 1
                    });
                    tally.versions.entry(parsed.version).or_default().add(*verdict);
                    parsed.record(u16::try_from(row).unwrap()).to_bytes(profile)
                }
            };
            tally.tree.push(tree16::leaf(&record, *verdict));
        }
        tally
    }

    fn batch(id: u8, day: &str, verdicts: &[Verdict], aborted: bool) -> BatchEvent {
        let tally = tally(day, verdicts);
        let records = tally.tree.leaves();
        let versions = || {
            let rows = tally.versions.iter();
            rows.map(|(version, counts)| VersionCounts { version: *version, counts: *counts }).collect()
        };
        let total = BatchTotal {
            records,
            root: tree16::root(records, &tally.header.to_bytes(), &tally.tree.top()),
            counts: tally.counts,
            versions: versions(),
        };
        BatchEvent {
            batch: [id; 16],
            client: CLIENT.into(),
            profile: Profile::PurchaseTac,
            lineage: lineage(),
            part: 0,
            records,
            top: tally.tree.top(),
            counts: tally.counts,
            versions: versions(),
            wrong: wrong(1),
            total: (!aborted).then_some(total),
            aborted,
        }
    }

    fn wrong(card: u8) -> Vec<WrongPairs> {
        vec![WrongPairs { key: key_id(1), pairs: Bytes(vec![card; 16]) }]
    }

    /// Every kind of entry, at least once. The index of the closed batch comes with it.
    fn first_log() -> (Maker, u64) {
        let mut maker = Maker::new();
        maker.import(1);
        for (custodian, refused) in [("custodian-1", None), ("custodian-2", Some(Refusal::ComponentKcv))] {
            let custodian = custodian.into();
            maker.push(Event::Component(ComponentEvent { command: [2; 16], custodian, refused }));
        }
        maker.set_state(1, KeyState::Active);
        let mut random = made(2, 1);
        random.attributes.kcv = [9; 3];
        let event = maker.command_event(Action::GenerateKey(random.attributes.clone()), Some(random));
        maker.push(event);
        maker.push(Event::Asserted(Assertion {
            category: Category::Deny,
            code: "tls-revoked".into(),
            client: None,
            certificate: Some([0xce; 8]),
            count: 3,
        }));
        maker.push(Event::Denied(DeniedEvent {
            code: Refusal::Busy,
            socket: "keyd".into(),
            request: 7,
            count: 2,
        }));
        maker.push(Event::Failures(FailuresEvent { wrong: wrong(2) }));
        let (day, verdicts) = day();
        let index = maker.push(Event::Batch(batch(0xba, &day, &verdicts, false)));
        maker.push(Event::Batch(batch(0xbb, LINE, &[Verdict::BadTac], true)));
        let version =
            VersionCounts { version: KeyVersion(1), counts: Counts { bad_tac: 1, ..Counts::default() } };
        let row = SingleRow { client: CLIENT.into(), lineage: lineage(), versions: vec![version] };
        maker.push(Event::Single(SingleEvent { top: [0x70; 32], rows: vec![row], wrong: wrong(3) }));
        let event = maker.command_event(Action::SetLimits(Limits { card: 64, version: 1 << 21 }), None);
        maker.push(event);
        let card = CardRef { wall: "transit".into(), issuer: [1; 8], card: [2; 8] };
        let reset =
            maker.command(Action::ResetBudget(ResetBudget { key: Some(key_id(1)), card: Some(card) }));
        let Event::Command(mut event) = command_event(&reset, &[1, 3], None) else {
            panic!("a command");
        };
        event.card = Some([3; 8]);
        maker.push(Event::Command(event));
        maker.restart([0x34; 16]);
        let mut set = support::officers();
        set.members = support::members("officer", 5, 4);
        let event = maker.command_event(Action::SetOfficers(set), None);
        maker.push(event);
        while maker.frontier.size() < SIZE {
            maker.push(assertion(maker.frontier.size()));
        }
        (maker, index)
    }

    fn receipt(maker: &Maker, index: u64, log: &LogDir) -> Receipt {
        let entry = &maker.entries[usize::try_from(index).unwrap()];
        let Event::Batch(event) = Entry::from_cbor(entry).unwrap().event else {
            panic!("a batch");
        };
        let total = event.total.unwrap();
        let result = BatchResult {
            batch: event.batch,
            client: event.client,
            profile: event.profile,
            lineage: event.lineage,
            records: total.records,
            root: total.root,
            counts: total.counts,
            versions: total.versions,
            indices: vec![index],
        };
        let proof = log.proof(index, log.size()).unwrap();
        Receipt::new(&result, &support::INSTANCE, support::ORIGIN, entry, proof.to_text())
    }

    /// Writes all golden files as the present code makes them.
    fn write(dir: &Path) {
        let (maker, index) = first_log();
        let mut log = LogDir::open(&dir.join("v1"), &dir.join("wal-v1")).unwrap();
        let mut start = 0;
        let mut young = maker.clone();
        (young.entries, young.frontier) = (Vec::new(), translog::tree::Frontier::new());
        for end in [1, 7, maker.entries.len()] {
            for entry in &maker.entries[start..end] {
                young.push_bytes(entry.clone());
            }
            log.append(&maker.entries[start..end], &young.note()).unwrap();
            start = end;
        }
        log.publish().unwrap();
        log.write_vkey(&maker.vkey()).unwrap();
        let receipts = dir.join("receipt-v1");
        fs::create_dir_all(&receipts).unwrap();
        let (day, verdicts) = day();
        fs::write(receipts.join("day.txt"), &day).unwrap();
        let rows = (1..).zip(verdicts).map(|(line, verdict)| format!("{line},{verdict}\n"));
        fs::write(receipts.join("verdicts.csv"), format!("line,verdict\n{}", rows.collect::<String>()))
            .unwrap();
        let receipt = serde_json::to_string_pretty(&receipt(&maker, index, &log)).unwrap();
        fs::write(receipts.join("receipt.json"), receipt + "\n").unwrap();
    }

    #[test]
    fn golden_files_are_what_is_written_today() {
        assert_golden(&["v1", "wal-v1", "receipt-v1"], write);
    }

    fn vkey() -> VerifierKey {
        VerifierKey::parse(&fs::read_to_string(golden("v1/vkey")).unwrap()).unwrap()
    }

    #[test]
    fn the_golden_log_verifies_and_has_every_kind() {
        let report = verify(&golden("v1"), &vkey(), |_, _| {}).unwrap();
        assert_eq!((report.size, report.boots, report.officer_epoch), (SIZE, 2, 2));
        let kinds: Vec<&str> = report.kinds.into_keys().collect();
        let all =
            ["asserted", "batch", "boot", "command", "component", "denied", "failures", "genesis", "single"];
        assert_eq!(kinds, all);
        let states: Vec<KeyState> = report.keys.into_iter().map(|(_, state)| state).collect();
        assert_eq!(states, [KeyState::Active, KeyState::PreActive]);
    }

    #[test]
    fn golden_entries_are_canonical() {
        let size = 256;
        let bundle = Tile::bundle(0, size).unwrap();
        let bytes = fs::read(golden("v1").join(bundle.to_string())).unwrap();
        for entry in decode_bundle(&bytes, size).unwrap() {
            let read = Entry::from_cbor(entry).unwrap();
            assert_eq!(read.to_cbor(), entry);
            for len in 0..entry.len() {
                assert!(Entry::from_cbor(&entry[..len]).is_err());
            }
        }
    }

    #[test]
    fn the_golden_wal_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let wal = dir.path().join("wal");
        fs::create_dir(&wal).unwrap();
        let name = "00000000000000000000.wal";
        fs::copy(golden("wal-v1").join(name), wal.join(name)).unwrap();
        let log = LogDir::open(&dir.path().join("log"), &wal).unwrap();
        let (maker, _) = first_log();
        assert_eq!((log.size(), log.root()), (SIZE, maker.frontier.root()));
        assert_eq!(log.last_checkpoint(), Some(maker.note()));
        assert!(log.entries(0..SIZE).unwrap() == maker.entries);
        assert!(log.proof(0, SIZE).is_ok());
    }

    #[test]
    fn the_golden_receipt_is_proved() {
        let text = fs::read_to_string(golden("receipt-v1/receipt.json")).unwrap();
        let receipt: Receipt = serde_json::from_str(&text).unwrap();
        let entry: Vec<u8> =
            receipt.entry.as_bytes().chunks(2).map(|pair| wire::purse::hex::<1>(pair).unwrap()[0]).collect();
        let head = TlogProof::parse(&receipt.proof).unwrap().verify(&vkey(), &entry).unwrap();
        assert_eq!(head.size, SIZE);
    }
}
