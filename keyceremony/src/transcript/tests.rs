use ed25519_dalek::SigningKey;
use translog::note::sign_checkpoint;
use translog::tree::leaf_hash;
use wire::api::{CountsBody, Receipt};
use wire::purse::to_hex;

use super::*;

const ORIGIN: &str = "weihai.example/log";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn vkey() -> VerifierKey {
    VerifierKey::new(ORIGIN, key().verifying_key().to_bytes())
}

fn note(size: u64, root: u8) -> String {
    let head = Checkpoint { origin: ORIGIN.into(), size, root: [root; 32] };
    sign_checkpoint(&head, &key())
}

fn transcript(notes: &[String]) -> String {
    let quoted = notes.iter().map(|note| quote(note).join("\n"));
    format!("[1/9] words\n    | not a head\n{}\nmore words\n", quoted.collect::<Vec<_>>().join("\nbetween\n"))
}

/// A receipt whose entry is the only one of its log.
fn receipt() -> Receipt {
    let entry = b"entry";
    let head = Checkpoint { origin: ORIGIN.into(), size: 1, root: leaf_hash(entry) };
    let proof = TlogProof { index: 0, path: Vec::new(), checkpoint: sign_checkpoint(&head, &key()) };
    Receipt {
        version: 1,
        suite: 1,
        instance: String::new(),
        origin: ORIGIN.into(),
        client: String::new(),
        batch: String::new(),
        profile: String::new(),
        lineage: String::new(),
        records: 0,
        root: String::new(),
        counts: CountsBody::from(wire::frame::Counts::default()),
        versions: Vec::new(),
        indices: vec![0],
        entry: to_hex(entry),
        proof: proof.to_text(),
    }
}

fn json(receipt: &Receipt) -> String {
    serde_json::to_string(receipt).unwrap()
}

fn size(evidence: &[Evidence<'_>]) -> Result<Option<u64>, Failure> {
    newest(evidence, &vkey()).map(|head| head.map(|head| head.size))
}

#[test]
fn the_newest_head_wins_wherever_it_stands() {
    let text = transcript(&[note(5, 1), note(9, 2), note(7, 3)]);
    let receipt = json(&receipt());
    assert_eq!(size(&[Evidence::Receipt(&receipt), Evidence::Transcript(&text)]).unwrap(), Some(9));
    assert_eq!(size(&[Evidence::Receipt(&receipt)]).unwrap(), Some(1));
    let checkpoint = note(12, 4);
    let evidence = [Evidence::Checkpoint(&checkpoint), Evidence::Transcript(&text)];
    assert_eq!(size(&evidence).unwrap(), Some(12));
    assert_eq!(size(&[Evidence::Transcript("nothing here\n")]).unwrap(), None);
}

#[test]
fn a_forged_head_sinks_the_whole() {
    let good = note(9, 2);
    let changed = good.replacen("\n9\n", "\n8\n", 1);
    assert_ne!(changed, good);
    let other_key = sign_checkpoint(
        &Checkpoint { origin: ORIGIN.into(), size: 99, root: [1; 32] },
        &SigningKey::from_bytes(&[4; 32]),
    );
    for forged in [changed, other_key, "no note at all\n".to_owned()] {
        let text = transcript(&[good.clone(), forged]);
        assert!(size(&[Evidence::Transcript(&text)]).is_err(), "{text}");
    }
    assert_eq!(size(&[Evidence::Transcript(&transcript(&[good]))]).unwrap(), Some(9), "the control");
}

#[test]
fn two_roots_at_one_size_are_a_fork() {
    let text = transcript(&[note(9, 2), note(9, 3)]);
    assert!(size(&[Evidence::Transcript(&text)]).unwrap_err().to_string().contains("forked"));
    let same = transcript(&[note(9, 2), note(9, 2)]);
    assert_eq!(size(&[Evidence::Transcript(&same)]).unwrap(), Some(9));
}

#[test]
fn a_receipt_must_prove_its_entry() {
    let good = receipt();
    let changes: [fn(&mut Receipt); 4] = [
        |receipt| receipt.entry = to_hex(b"other"),
        |receipt| receipt.entry = "zz".into(),
        |receipt| receipt.proof = receipt.proof.replace("\n1\n", "\n2\n"),
        |receipt| receipt.proof.clear(),
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(size(&[Evidence::Receipt(&json(&bad))]).is_err(), "{at}");
    }
    assert!(size(&[Evidence::Receipt("{}")]).is_err());
    assert_eq!(size(&[Evidence::Receipt(&json(&good))]).unwrap(), Some(1), "the control");
}

#[test]
fn a_note_that_a_crash_cut_off_is_none() {
    let whole = transcript(&[note(5, 1)]);
    let torn = quote(&note(9, 2)).join("\n");
    for cut in (0..torn.len()).filter(|cut| torn.is_char_boundary(*cut)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("transcript.txt");
        std::fs::write(&path, format!("{whole}{}", &torn[..cut])).unwrap();
        let mut next = Tee::append(&path, Vec::new()).unwrap();
        next.write_all(b"[1/8] the next run\n").unwrap();
        next.write_all(quote(&note(7, 3)).join("\n").as_bytes()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(size(&[Evidence::Transcript(&text)]).unwrap(), Some(7), "{cut}");
    }
}
