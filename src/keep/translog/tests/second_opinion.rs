//! `tests/verify.py`, which was written from SPEC.md, on the golden files: it says what we say.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    use translog::entry::{Entry, Event, LoadEvent};
    use wire::cbor::Cbor as _;
    use wire::key::KeyId;

    const ORIGIN: &str = "log.weihai.example/rehearsal-1";

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/log").join(name)
    }

    fn script(arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/verify.py");
        let mut command = Command::new("python3");
        command.arg("-I").arg(script).args(arguments);
        command.output().expect("python3 is needed for this test")
    }

    fn says(arguments: &[&str], code: i32, words: &[&str]) {
        let output = script(arguments);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} not in: {said}");
        assert_eq!(said.lines().count(), 1, "one clear line: {said}");
    }

    #[test]
    fn the_script_agrees_on_the_golden_log_and_receipt() {
        let (log, vkey) = (golden("v1"), golden("v1/vkey"));
        let (log, vkey) = (log.to_str().unwrap(), vkey.to_str().unwrap());
        says(&["selftest"], 0, &["selftest"]);
        says(&["log", log, "--vkey", vkey], 0, &["258 entries", ORIGIN]);
        let part = |name: &str| golden("receipt-v1").join(name).to_str().unwrap().to_owned();
        let (receipt, day, verdicts) = (part("receipt.json"), part("day.txt"), part("verdicts.csv"));
        let arguments = |receipt: &str, day: &str, verdicts: &str, code, words: &[&str]| {
            let names = [
                "receipt",
                "--log",
                log,
                "--vkey",
                vkey,
                "--receipt",
                receipt,
                "--day",
                day,
                "--verdicts",
                verdicts,
            ];
            says(&names, code, words);
        };
        arguments(&receipt, &day, &verdicts, 0, &["7 records", "entry 9"]);
        let dir = tempfile::tempdir().unwrap();
        let changed = |original: &str, from: &str, to: &str| {
            let text = fs::read_to_string(original).unwrap();
            assert!(text.contains(from));
            let path = dir.path().join(format!("{}", from.len()));
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        arguments(&receipt, &changed(&day, "not a line", "not a lime"), &verdicts, 1, &["root"]);
        arguments(&receipt, &changed(&day, "000001F4", "000001F5"), &verdicts, 1, &["root"]);
        arguments(&receipt, &day, &changed(&verdicts, "2,bad_tac", "2,ok"), 1, &["counts"]);
        arguments(&receipt, &day, &changed(&verdicts, "7,malformed\n", ""), 1, &["verdict"]);
        for (from, to) in [
            ("\"records\": 7", "\"records\": 8"),
            ("\"bad_tac\": 1", "\"bad_tac\": 2"),
            ("index 9", "index 8"),
            ("engine-1", "engine-2"),
            ("BABABABA", "BABABABB"),
            ("\"suite\": 1", "\"suite\": 2"),
            ("transit/purse/tac", "transit/purse/tax"),
            (ORIGIN, "log.weihai.example/rehearsal-2"),
        ] {
            arguments(&changed(&receipt, from, to), &day, &verdicts, 1, &["receipt"]);
        }
    }

    #[test]
    fn the_script_finds_what_was_changed() {
        let (log, vkey) = (golden("v1"), golden("v1/vkey"));
        let (log, vkey) = (log.to_str().unwrap(), vkey.to_str().unwrap());
        let output = script(&["tamper", log, "--vkey", vkey, "--every", "149"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [found, made] = numbers[..] else {
            panic!("N of N expected: {said}");
        };
        assert!(found == made && made >= 200, "{said}");
    }
    /// The golden logs hold no load; a field that the script does not know would make a true log a forged one.
    #[test]
    fn the_script_reads_loads_old_and_new() {
        let read = |replaces| {
            let load = LoadEvent {
                client: "spiffe://weihai.example/terminals/load-1".into(),
                key: KeyId::parse("transit/purse/load@41").unwrap(),
                card: [7; 8],
                counter: 3,
                amount: 5000,
                signer: "bank-1".into(),
                question: [1; 16],
                again: false,
                replaces,
            };
            let entry = Entry {
                version: 1,
                seq: 9,
                node: [1; 16],
                boot: [2; 16],
                epoch: 0,
                wall_ns: 3,
                mono_ns: 4,
                salt: [5; 16],
                state_root: [6; 32],
                event: Event::Load(load),
            };
            let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests");
            let program = "import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True; import verify; \
                           print(verify.read_entry(bytes.fromhex(sys.argv[2]))[9][1].get(8))";
            let mut command = Command::new("python3");
            command.args(["-I", "-c", program]).arg(tests).arg(wire::purse::to_hex(&entry.to_cbor()));
            let output = command.output().expect("python3 is needed for this test");
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
        };
        assert_eq!((read(None), read(Some(70_000))), ("None".to_owned(), "70000".to_owned()));
    }
}
