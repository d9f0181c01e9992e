//! A line in the middle of its cards, and everything around it killed at random: no number twice, none skipped, count exact.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use system_tests::house::{House, program, run};

const CARDS: u64 = 100_000;

/// Kills of each: the line, keyd, the module.
const KILLS: usize = 4;

/// Numbers that look random and come again with the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn line(house: &House, words: &[&str]) -> Child {
    let mut command = house.places().citykeep(&house.url, "line", words);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn done(house: &House) -> u64 {
    let journal = fs::read_to_string(house.places().at("job/journal")).unwrap_or_default();
    journal.lines().filter_map(|row| row.split(' ').nth(3)?.parse::<u64>().ok()).sum()
}

#[test]
fn no_number_twice_none_skipped_count_exact() {
    let mut house = House::new();
    let licence = house.places().licence("transit/perso/line-1@01");
    let (id, first) = (licence["id"].as_str().unwrap(), licence["first"].as_str().unwrap().to_owned());
    let count = CARDS.to_string();
    let words = ["perso", "run", "--licence", id, "--first", &first, "--count", &count, "--out", "job"];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut victims: Vec<usize> = (0..3).flat_map(|victim| [victim; KILLS]).collect();
    let mut running = line(&house, &words);
    while !victims.is_empty() {
        // Each kill comes at another place: after a random number of further cards.
        let until = done(&house) + 1 + dice.below(CARDS / (4 * KILLS as u64 + 4));
        while done(&house) < until && running.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_micros(dice.below(30_000)));
        let at = usize::try_from(dice.below(victims.len() as u64)).unwrap();
        match victims.swap_remove(at) {
            0 => running.kill().unwrap(),
            1 => {
                house.keyd.kill();
                house.restart();
            }
            _ => {
                house.hsm.kill();
                // keyd sees that its module is gone and stops by itself, with a sentence.
                assert_eq!(house.keyd.wait(Duration::from_secs(20)), Some(false));
                house.restart();
            }
        }
        // The line ends by itself when its service goes; whoever watches it starts it again.
        let _ = running.kill();
        let _ = running.wait();
        running = line(&house, &words);
    }
    for attempt in 0..3 {
        if running.wait().unwrap().success() {
            break;
        }
        assert!(attempt < 2, "the job does not come to its end");
        running = line(&house, &words);
    }
    check(&house, &first);
}

fn check(house: &House, first: &str) {
    let places = house.places();
    let report: Value =
        serde_json::from_str(&fs::read_to_string(places.at("job/report.json")).unwrap()).unwrap();
    assert_eq!((report["done"].as_u64(), report["issued"].as_u64()), (Some(CARDS), Some(CARDS)), "{report}");
    let first: u128 = first.parse().unwrap();
    let mut serials = BTreeSet::new();
    let mut lines = 0;
    for file in fs::read_dir(places.at("job/keys")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            for row in fs::read_to_string(&path).unwrap().lines().skip(1) {
                let card: Value = serde_json::from_str(row).unwrap();
                serials.insert(card["serial"].as_str().unwrap().parse::<u128>().unwrap() - first);
                lines += 1;
            }
        }
    }
    assert_eq!(lines, CARDS, "no number twice");
    assert!(serials.into_iter().eq((0..CARDS).map(u128::from)), "none skipped");
    let last = report["indices"].as_array().unwrap().last().unwrap().as_u64().unwrap();
    house.wait_published(last + 1);
    let mut command = program("citykeep");
    let said = run(command
        .args(["perso", "report", "job", "--log", "log", "--vkey", "log/vkey"])
        .current_dir(&places.0));
    assert!(said.ok && said.out.contains("0 of them in other jobs"), "{}{}", said.out, said.err);
    assert!(places.audit().ok);
}
