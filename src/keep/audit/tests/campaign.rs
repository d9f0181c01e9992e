//! The tamper campaign: seeded edits of a real log directory, every one found and located; and crash recoveries, none of
//! which alarms anybody. `cargo test` takes the first 1,000 edits and 20 recoveries, `cargo xtask test` 20,000 and 200 in release
//! form, `cargo xtask tamper` a million and 10,000, from the same seeds; it also edits a log of yours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(
    clippy::format_collect,
    clippy::assigning_clones,
    clippy::range_plus_one,
    reason = "short is readable here"
)]

#[path = "campaign/base.rs"]
mod base;
#[path = "campaign/crash.rs"]
mod crash;
#[path = "campaign/edits.rs"]
mod edits;
#[path = "campaign/random.rs"]
mod random;
#[path = "../../translog/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;

use base::{Base, Files};
use edits::{Edit, KINDS};
use random::Random;
use translog::audit::{Finding, Verifier};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The verifier that is on trial.
fn honest(base: &Base, files: &Files) -> Result<(), Finding> {
    Verifier::new(base.policy.clone(), 1).advance(files, &mut ()).map(|_| ())
}

/// What a campaign came to.
#[derive(Debug, Default)]
struct Tally {
    edits: BTreeMap<&'static str, u64>,
    /// Not found, or found elsewhere.
    missed: Vec<String>,
}

fn one(
    base: &Base,
    seed: u64,
    judge: &dyn Fn(&Base, &Files) -> Result<(), Finding>,
) -> (&'static str, Option<String>) {
    let mut random = Random(seed);
    let edit: Edit = loop {
        // An edit that changes nothing is none.
        if let Some(edit) = edits::make(base, &mut random).filter(|edit| !edit.files.same_as(&base.files)) {
            break edit;
        }
    };
    let missed = match judge(base, &edit.files) {
        Ok(()) => Some("not found".to_owned()),
        Err(found) if edit.is_there(&found) => None,
        Err(found) => Some(format!("found elsewhere: {found}; expected {:?} {:?}", edit.at, edit.index)),
    };
    (edit.kind, missed.map(|missed| format!("seed {seed}, {}: {missed}", edit.kind)))
}

fn campaign(
    base: &Base,
    seed: u64,
    edits: u64,
    judge: &(dyn Fn(&Base, &Files) -> Result<(), Finding> + Sync),
) -> Tally {
    let tally = Mutex::new(Tally::default());
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let tally = &tally;
            scope.spawn(move || {
                for at in (worker..edits).step_by(usize::try_from(workers).unwrap()) {
                    let (kind, missed) = one(base, seed.wrapping_add(at), judge);
                    let mut tally = tally.lock().unwrap();
                    *tally.edits.entry(kind).or_default() += 1;
                    tally.missed.extend(missed);
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

#[test]
fn every_edit_is_found_and_located() {
    let base = match std::env::var_os("CITYKEEP_LOG") {
        Some(log) => {
            Base::read(log.as_ref(), std::env::var_os("CITYKEEP_POLICY").expect("CITYKEEP_POLICY").as_ref())
        }
        None => Base::make(),
    };
    honest(&base, &base.files).expect("the log must be good before it is edited");
    let (seed, edits) = (number("CITYKEEP_SEED", 1), number("CITYKEEP_EDITS", 1_000));
    let tally = campaign(&base, seed, edits, &honest);
    println!("{edits} edits from seed {seed}, {} missed: {:?}", tally.missed.len(), tally.edits);
    assert!(
        tally.missed.is_empty(),
        "{} missed, first: {:#?}",
        tally.missed.len(),
        &tally.missed[..tally.missed.len().min(10)]
    );
    if base.is_made() && edits >= 2_000 {
        let never: Vec<_> = KINDS.iter().filter(|kind| !tally.edits.contains_key(*kind)).collect();
        assert!(never.is_empty(), "kinds of edits that never came: {never:?}");
    }
}

/// The campaign itself on trial: whoever verifies badly is caught.
#[test]
fn a_bad_verifier_does_not_pass() {
    let base = Base::make();
    let missed = |judge: &(dyn Fn(&Base, &Files) -> Result<(), Finding> + Sync)| {
        u64::try_from(campaign(&base, 1, 300, judge).missed.len()).unwrap()
    };
    assert_eq!(missed(&|_, _| Ok(())), 300, "sees nothing");
    let elsewhere = |base: &Base, files: &Files| {
        honest(base, files).map_err(|found| Finding { file: "elsewhere".into(), ..found })
    };
    assert_eq!(missed(&elsewhere), 300, "finds everything, and says the wrong place");
    let off_by_one = |base: &Base, files: &Files| {
        honest(base, files).map_err(|found| Finding { index: found.index.map(|index| index + 1), ..found })
    };
    assert!(missed(&off_by_one) > 90, "names the entry after it");
    // Blind in one eye each.
    let without_strays = |base: &Base, files: &Files| honest(base, &files.without_strays(&base.files));
    assert!(missed(&without_strays) > 3);
    let trusting = |base: &Base, files: &Files| {
        Verifier::new(base.policy.clone(), 1).ahead_of_witnesses().advance(files, &mut ()).map(|_| ())
    };
    assert!(missed(&trusting) > 3, "asks no witness");
    let headless = |base: &Base, files: &Files| honest(base, &files.with(&base.files, "checkpoint"));
    assert!(missed(&headless) > 3, "has a checkpoint of its own");
}

#[test]
fn no_crash_alarms_anybody() {
    let (seed, recoveries) = (number("CITYKEEP_SEED", 1), number("CITYKEEP_RECOVERIES", 20));
    let made = crash::History::make();
    for at in 0..recoveries {
        let seed = seed.wrapping_add(at);
        crash::recover(&made, &mut Random(seed)).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}
