//! Practice days and the fixture day, judged line by line.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use card::{Day, PracticeKeys, Random};
    use wire::batch::Verdict;
    use wire::purse::{F1Line, f1_lines};

    const DAY: &[u8] = include_bytes!("../../../../tests/fixtures/day1/day.txt");
    const EXPECTED: &str = include_str!("../../../../tests/fixtures/day1/expected.csv");
    const KEYS: &str = include_str!("../../../../tests/fixtures/day1/keys.json");

    /// What service-protocol §5 says of a line, computed the short way.
    fn judge(keys: &PracticeKeys, line: &[u8]) -> Verdict {
        let Some(line) = F1Line::parse(line) else {
            return Verdict::Malformed;
        };
        match keys.purchase_tac(line.version, &line.issuer, &line.card, &line.purchase.data()) {
            None => Verdict::UnknownKey,
            Some(tac) if tac == line.tac => Verdict::Ok,
            Some(_) => Verdict::BadTac,
        }
    }

    #[test]
    fn the_fixture_day_made_by_other_code() {
        let keys = PracticeKeys::parse(KEYS).unwrap();
        assert_eq!(keys.lineage().as_str(), "transit/purse/tac");
        let mut rows = EXPECTED.lines();
        assert_eq!(rows.next(), Some("line,verdict"));
        let mut judged = 0;
        for ((number, line), row) in (1..).zip(f1_lines(DAY)).zip(rows.by_ref()) {
            assert_eq!(format!("{number},{}", judge(&keys, line)), row);
            judged = number;
        }
        assert_eq!((judged, rows.next()), (20_059, None));
    }

    fn day(keys: &PracticeKeys, lines: u64, seed: &str) -> Vec<(Vec<u8>, Verdict)> {
        Day::new(keys, lines, Random::from_seed("day", seed))
            .map(|line| (line.bytes, line.expected))
            .collect()
    }

    fn new_keys() -> PracticeKeys {
        PracticeKeys::parse(&PracticeKeys::generate(&mut Random::from_seed("keys", "t")).unwrap()).unwrap()
    }

    #[test]
    fn a_practice_day_gets_what_it_expects() {
        for (keys, lines) in [(new_keys(), 20_000), (PracticeKeys::parse(KEYS).unwrap(), 3_000)] {
            let day = day(&keys, lines, "one");
            assert_eq!(day.len() as u64, lines);
            let mut counts = BTreeMap::new();
            for (number, (line, expected)) in day.iter().enumerate() {
                assert_eq!(judge(&keys, line), *expected, "line {number}");
                *counts.entry(*expected).or_insert(0_u64) += 1;
            }
            let share = |verdict| counts.get(&verdict).copied().unwrap_or_default();
            assert!((lines * 2 / 1000..=lines * 4 / 1000).contains(&share(Verdict::BadTac)), "{counts:?}");
            assert!((lines / 2000..=lines / 500).contains(&share(Verdict::UnknownKey)), "{counts:?}");
            assert!(share(Verdict::Malformed) >= 15, "{counts:?}");
            assert_eq!(share(Verdict::Withheld), 0);
        }
    }

    #[test]
    fn a_day_has_repetitions_many_groups_and_stays_within_the_budgets() {
        let keys = new_keys();
        let day = day(&keys, 20_000, "two");
        let mut lines: Vec<&[u8]> = day.iter().map(|(line, _)| line.as_slice()).collect();
        lines.sort_unstable();
        let all = lines.len();
        lines.dedup();
        assert!((30..=90).contains(&(all - lines.len())), "{} repetitions", all - lines.len());

        let (mut groups, mut wrong) = (BTreeMap::new(), BTreeMap::new());
        for (line, expected) in &day {
            if let Some(line) = F1Line::parse(line) {
                *groups.entry((line.version, line.issuer)).or_insert(0) += 1;
                *wrong.entry(line.card).or_insert(0) += i32::from(*expected == Verdict::BadTac);
            }
        }
        assert!(groups.len() >= 12, "{groups:?}");
        assert!(wrong.values().all(|count| *count <= 16));
        assert!(
            day.windows(2).filter(|two| two[0].0.get(169..171) != two[1].0.get(169..171)).count() > 10_000
        );
    }

    #[test]
    fn the_seed_decides() {
        let keys = new_keys();
        assert_eq!(day(&keys, 500, "a"), day(&keys, 500, "a"));
        assert_ne!(day(&keys, 500, "a"), day(&keys, 500, "b"));
    }

    #[test]
    fn short_days() {
        let keys = new_keys();
        for lines in [0, 1, 2, 7, 40, 100] {
            let day = day(&keys, lines, "short");
            assert_eq!(day.len() as u64, lines);
            assert!(day.iter().all(|(line, expected)| judge(&keys, line) == *expected));
        }
        let kinds: std::collections::BTreeSet<Verdict> =
            day(&keys, 100, "short").into_iter().map(|(_, expected)| expected).collect();
        assert_eq!(
            kinds.into_iter().collect::<Vec<_>>(),
            [Verdict::Ok, Verdict::BadTac, Verdict::UnknownKey, Verdict::Malformed]
        );
    }
}
