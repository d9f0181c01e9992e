use ed25519_dalek::SigningKey;

use super::*;
use crate::cosign::cosign;
use crate::note::{Checkpoint, sign_checkpoint};

const ORIGIN: &str = "hsm.example/audit-1";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn log_line(seed: u8) -> String {
    format!("log {} https://hsm.example/log", VerifierKey::new(ORIGIN, key(seed).verifying_key().to_bytes()))
}

fn witness_line(name: &str, seed: u8) -> String {
    format!(
        "witness {name} {}",
        WitnessKey::new(&format!("w.example/{name}"), key(seed).verifying_key().to_bytes())
    )
}

fn text(tail: &str) -> String {
    let witnesses = [witness_line("a", 2), witness_line("b", 3), witness_line("c", 4)].join("\n");
    format!("# a comment\n\n{}\n{witnesses}\n{tail}", log_line(1))
}

fn note(cosigners: &[(&str, u8)]) -> String {
    let head = Checkpoint { origin: ORIGIN.to_owned(), size: 5, root: [7; 32] };
    let lines = cosigners.iter().map(|(name, seed)| {
        cosign(&head, &format!("w.example/{name}"), &key(*seed), 1000 + u64::from(*seed))
    });
    sign_checkpoint(&head, &key(1)) + &lines.collect::<String>()
}

#[test]
fn two_of_three() {
    let policy = Policy::parse(&text("group auditors 2 a b c\nquorum auditors\n")).unwrap();
    assert_eq!((policy.logs().len(), policy.witnesses().len(), policy.needs_witnesses()), (1, 3, true));
    assert_eq!(policy.logs()[0].url.as_deref(), Some("https://hsm.example/log"));
    let vouched = policy.open(&note(&[("a", 2), ("c", 4)])).unwrap();
    assert_eq!(
        (vouched.head.size, vouched.witnesses),
        (5, vec![("a".to_owned(), 1002), ("c".to_owned(), 1004)])
    );
    let failure = policy.open(&note(&[("b", 3), ("b", 3)])).unwrap_err();
    assert!(failure.to_string().contains("1 of 3 witnesses cosigned it (b)"), "{failure}");
    assert!(policy.open(&note(&[])).unwrap_err().to_string().contains("none"));
    let by_foreign = policy.open(&note(&[("a", 2), ("c", 9)])).unwrap_err();
    assert!(
        by_foreign.to_string().contains("1 of 3"),
        "a line under a known name by another key does not count"
    );
}

#[test]
fn one_bad_line_sinks_what_enough_good_ones_would_carry() {
    let policy = Policy::parse(&text("group g any a b c\nquorum g\n")).unwrap();
    let other = Checkpoint { origin: ORIGIN.to_owned(), size: 6, root: [7; 32] };
    let note = note(&[("a", 2)]) + &cosign(&other, "w.example/b", &key(3), 1);
    assert_eq!(policy.open(&note), Err(PolicyFailure::Note(NoteError::BadSignature)));
}

#[test]
fn groups_of_groups() {
    let policy = Policy::parse(&text("group city any a b\ngroup both all city c\nquorum both")).unwrap();
    assert!(policy.open(&note(&[("b", 3), ("c", 4)])).is_ok());
    assert!(policy.open(&note(&[("a", 2), ("b", 3)])).is_err());
    assert!(Policy::parse(&text("quorum none")).unwrap().open(&note(&[])).is_ok());
    assert!(Policy::parse(&text("quorum b")).unwrap().open(&note(&[("b", 3)])).is_ok());
}

#[test]
fn any_of_several_logs() {
    let policy = format!("{}\n{}\nquorum none", log_line(8), log_line(1));
    assert!(Policy::parse(&policy).unwrap().open(&note(&[])).is_ok());
    let foreign = format!("{}\nquorum none", log_line(8));
    assert_eq!(
        Policy::parse(&foreign).unwrap().open(&note(&[])),
        Err(PolicyFailure::Note(NoteError::Unsigned))
    );
}

#[test]
fn what_is_no_policy_says_where_and_why() {
    let many = (0..33).map(|i| witness_line(&format!("x{i}"), 100 + i)).collect::<Vec<_>>().join("\n");
    let same_key = format!("log {}", VerifierKey::new("other.example", key(1).verifying_key().to_bytes()));
    for (tail, line, why) in [
        ("group g 2 a d\nquorum g", 7, "d is not defined"),
        ("group g 4 a b c\nquorum g", 7, "between 1"),
        ("group g 0 a b c\nquorum g", 7, "between 1"),
        ("group g +2 a b c\nquorum g", 7, "between 1"),
        ("group g any\nquorum g", 7, "between 1"),
        ("group g any a a\nquorum g", 7, "member of a group already"),
        ("group g any a\ngroup h any a\nquorum g", 8, "member of a group already"),
        ("group a any b\nquorum a", 7, "taken"),
        ("group none any b\nquorum none", 7, "taken"),
        ("quorum g\ngroup g any a", 7, "not defined"),
        ("quorum a\nquorum b", 8, "one quorum"),
        ("quorom a", 7, "none of"),
        ("log x\nquorum none", 7, "vkey"),
        ("", 7, "no quorum line"),
        (&witness_line("d", 2), 7, "another witness's"),
        ("quorum none\r\n", 7, "control"),
        (&log_line(1).replace(ORIGIN, "other.example"), 7, "vkey"),
        (&same_key, 7, "stands in the policy already"),
        (&many, 36, "at most 32"),
    ] {
        let error = Policy::parse(&text(tail)).unwrap_err();
        assert!(error.line == line && error.why.contains(why), "{tail}: {error}");
    }
    assert_eq!(
        Policy::parse("quorum none").unwrap_err().to_string(),
        "line 2 of the policy: there is no log line"
    );
}
