use std::collections::BTreeSet;
use std::fmt::Write as _;

use wire::error::Refusal as Code;

use super::table::{Again, BLOCKS, Row, of_command, of_module};
use super::*;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ERRORS.md");

fn rows() -> impl Iterator<Item = &'static Row> {
    BLOCKS.iter().flat_map(|(_, rows)| rows.iter().copied())
}

fn page() -> String {
    let mut text = String::from(include_str!("intro.md"));
    for (title, rows) in BLOCKS {
        let _ = write!(
            text,
            "\n## {title}\n\n| code | status | meaning 含义 | what to do | send again? |\n|---|---|---|---|---|\n"
        );
        for row in rows {
            let Row { code, status, title, chinese, remedy, again } = row;
            let again = again.as_str();
            let _ = writeln!(text, "| `{code}` | {status} | {title}. {chinese} | {remedy} | {again} |");
        }
    }
    text
}

#[test]
fn the_page_is_the_table() {
    let page = page();
    if std::env::var_os("CITYKEEP_BLESS").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(PAGE).unwrap(), page, "write it anew with CITYKEEP_BLESS=1");
}

#[test]
fn a_code_has_one_row_and_every_row_says_what_to_do() {
    let mut seen = BTreeSet::new();
    for row in rows() {
        assert!(seen.insert(row.code), "{} twice", row.code);
        assert!(StatusCode::from_u16(row.status).is_ok_and(|status| !status.is_success()), "{}", row.code);
        assert!(row.remedy.ends_with('.') && !row.title.ends_with('.'), "{}", row.code);
        assert!(row.chinese.chars().any(|letter| letter >= '\u{4e00}'), "{}", row.code);
        assert!(!row.code.contains('|') && !row.title.contains('|') && !row.remedy.contains('|'));
        let never = matches!(row.again, Again::Changed | Again::Done);
        assert_eq!(never, row.again.as_str().starts_with("no"), "{}", row.code);
    }
}

/// Written by hand from `wire::error`: what only keyd's own mistakes, or the officers' socket, can meet.
const NEVER_TO_CLIENTS: &[Code] = &[
    Code::BadFrame,
    Code::BatchOrder,
    Code::KeyExists,
    Code::KeyReused,
    Code::WeakKey,
    Code::KeyKcv,
    Code::KeyAttributes,
    Code::BadCommand,
    Code::WrongInstance,
    Code::OfficerEpoch,
    Code::UnknownOfficer,
    Code::BadSignature,
    Code::SignedTwice,
    Code::QuorumMissing,
    Code::CommandUsed,
    Code::CommandWindow,
    Code::CommandKind,
    Code::Limits,
    Code::BadSet,
    Code::BoxDamaged,
    Code::ShareForeign,
    Code::ShareDamaged,
    Code::ShareTwice,
    Code::ShareSet,
    Code::ShareUnproved,
    Code::ComponentCommitment,
    Code::ComponentKcv,
    Code::ComponentForeign,
    Code::ComponentTwice,
    Code::LogForged,
    Code::BelowFloor,
    Code::FloorStale,
    Code::RecordDamaged,
    Code::RecordOld,
    Code::RecordMissing,
    Code::AckForged,
    Code::BadClient,
    Code::Retention,
    Code::BadWitnesses,
];

#[test]
fn every_refusal_of_the_module_is_judged() {
    for code in Code::ALL {
        assert_eq!(of_module(*code).is_none(), NEVER_TO_CLIENTS.contains(code), "{code}");
        let number = code.code();
        // Of the older codes some share one.
        let of_calls = number >= 70;
        assert!(!of_calls || of_command(*code).is_some(), "{code}");
        if let Some(row) = of_command(*code).filter(|_| of_calls || number == 12) {
            assert_eq!(row.code, code.as_str(), "the module's name and the client's are one");
        }
    }
}

#[test]
fn what_is_not_there_does_not_tell_why() {
    for code in [Code::NoSuchKey, Code::NoSuchLicence, Code::NoSuchToken] {
        let body = |why: &str| Refusal::of_module(&Refused::new(code, why)).problem();
        assert_eq!(body("it is of health"), body("there is none"), "{code}");
    }
    let told = Refusal::of_module(&Refused::new(Code::ListEpoch, "the next epoch of this list is 7, not 9"));
    assert!(told.problem().detail.starts_with("the next epoch of this list is 7, not 9. Build"), "{told:?}");
}
