use super::*;
use crate::note::{sign_checkpoint, sign_head};
use crate::policy::Policy;
use crate::tree::{Frontier, HashReader, consistency_proof, leaf_hash, node_hash};

const ORIGIN: &str = "hsm.example/audit-1";
const WITNESS: &str = "witness.example/w1";
const TIME: u64 = 1_700_000_000;
/// The note of audit-log.md §2.9.
const NOTE: &str = "hsm.example/audit-1\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n\n\
\u{2014} hsm.example/audit-1 ZRc328nN2JkxRdAAYmYv3K453CUxy4ezNNTcHMwjqlvEc1HgvJOrQWtIMvkUqqFrtwojngV1SGmyOMvWqiVq5lc9LQA=\n\
\u{2014} witness.example/w1 IDJKvgAAAABlU/EA057p5khAWTUjToGPLb9299ATjAWZ/gCTUjz6B/5dEWuw7IpR2chg78M5ojmfFthusWjktvyWb2FHWpl75an/DQ==\n";

/// Leaves in memory.
struct Leaves(Vec<Hash>);

impl HashReader for Leaves {
    type Error = std::convert::Infallible;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        if level == 0 {
            return Ok(self.0[usize::try_from(index).unwrap()]);
        }
        Ok(node_hash(&self.subtree(level - 1, 2 * index)?, &self.subtree(level - 1, 2 * index + 1)?))
    }
}

fn log_key() -> SigningKey {
    SigningKey::from_bytes(&std::array::from_fn(|i| u8::try_from(i).unwrap()))
}

fn witness_key() -> SigningKey {
    SigningKey::from_bytes(&std::array::from_fn(|i| u8::try_from(i + 32).unwrap()))
}

fn vkey() -> VerifierKey {
    VerifierKey::new(ORIGIN, log_key().verifying_key().to_bytes())
}

fn witness() -> WitnessKey {
    WitnessKey::new(WITNESS, witness_key().verifying_key().to_bytes())
}

fn leaves(count: u8) -> Leaves {
    Leaves((0..count).map(|i| leaf_hash(format!("entry-{i}").as_bytes())).collect())
}

fn head(of: &Leaves, size: u8) -> Checkpoint {
    let mut frontier = Frontier::new();
    of.0.iter().take(usize::from(size)).for_each(|leaf| frontier.push(*leaf));
    Checkpoint { origin: ORIGIN.to_owned(), size: u64::from(size), root: frontier.root() }
}

fn request(of: &Leaves, old: u8, new: u8) -> AddCheckpoint {
    let Ok(proof) = consistency_proof(of, u64::from(old), u64::from(new));
    AddCheckpoint { old: u64::from(old), proof, checkpoint: sign_checkpoint(&head(of, new), &log_key()) }
}

#[test]
fn the_vector_is_made_and_read() {
    assert_eq!(
        witness().to_string(),
        "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"
    );
    assert_eq!(WitnessKey::parse(&witness().to_string()).unwrap(), witness());
    let head = head(&leaves(7), 7);
    let note = sign_checkpoint(&head, &log_key()) + &cosign(&head, WITNESS, &witness_key(), TIME);
    assert_eq!(note, NOTE);
    assert_eq!(cosigned_at(NOTE, &witness()), Ok(Some(TIME)));
}

#[test]
fn a_log_key_is_no_witness_key() {
    assert!(WitnessKey::parse(&vkey().to_string()).is_err());
    assert!(VerifierKey::parse(&witness().to_string()).is_err());
    let same = WitnessKey::new(ORIGIN, log_key().verifying_key().to_bytes());
    assert_eq!(cosigned_at(NOTE, &same), Ok(None), "another kind of signature has another key id");
}

#[test]
fn the_latest_of_several_times_counts_and_one_bad_line_sinks_all() {
    let head = head(&leaves(3), 3);
    let note = sign_checkpoint(&head, &log_key());
    assert_eq!(cosigned_at(&note, &witness()), Ok(None));
    let twice = format!(
        "{note}{}{}",
        cosign(&head, WITNESS, &witness_key(), TIME + 5),
        cosign(&head, WITNESS, &witness_key(), TIME)
    );
    assert_eq!(cosigned_at(&twice, &witness()), Ok(Some(TIME + 5)));
    let other = Checkpoint { size: 4, ..head.clone() };
    let bad = format!("{twice}{}", cosign(&other, WITNESS, &witness_key(), TIME));
    assert_eq!(cosigned_at(&bad, &witness()), Err(NoteError::BadSignature));
    let late = format!("{note}{}", cosign(&head, WITNESS, &witness_key(), TIME_MAX));
    assert_eq!(cosigned_at(&late, &witness()), Ok(Some(TIME_MAX)));
    let too_late = format!("{note}{}", cosign(&head, WITNESS, &witness_key(), TIME_MAX + 1));
    assert_eq!(cosigned_at(&too_late, &witness()), Err(NoteError::BadSignature));
    let short = format!("{note}{}", signature_text(WITNESS, witness().id(), &[0; 7]));
    assert_eq!(cosigned_at(&short, &witness()), Err(NoteError::BadSignature));
}

#[test]
fn of_a_note_with_many_lines_those_are_kept_that_were_checked() {
    let head = head(&leaves(3), 3);
    let epoch = SigningKey::from_bytes(&[5; 32]);
    for note in [sign_checkpoint(&head, &log_key()), sign_head(&head, &log_key(), &epoch)] {
        let line = cosign(&head, WITNESS, &witness_key(), TIME + 5);
        let earlier = cosign(&head, WITNESS, &witness_key(), TIME);
        let junk: String = [WITNESS, "stranger.example", ORIGIN, ORIGIN]
            .iter()
            .map(|name| signature_text(name, [0; 4], &[0; 2]))
            .collect();
        let much = format!("{note}{earlier}{junk}{line}{line}");
        assert_eq!(cosignature(&much, &witness()), Ok(Some((TIME + 5, line))));
        let opened = open_checkpoint(&much, &vkey()).unwrap();
        assert_eq!(opened.log_note(), note);
        // Where junk under the log's name comes first, one line of it is taken for the epoch's.
        let own = note.split_inclusive('\n').next_back().unwrap();
        let crowded = note.replace(own, &format!("{own}{own}{}", junk.repeat(20)));
        let kept = open_checkpoint(&crowded, &vkey()).unwrap().log_note();
        assert!(kept.lines().count() <= 6 && open_checkpoint(&kept, &vkey()).is_ok(), "{kept}");
    }
}

#[test]
fn another_time_or_text_is_another_signature() {
    let line = NOTE.lines().last().unwrap();
    let (_, _, signature) = signature_line(line).unwrap();
    for byte in 0..signature.len() {
        let mut changed = signature.clone();
        changed[byte] ^= 1;
        let note = NOTE.replace(&format!("{line}\n"), &signature_text(WITNESS, witness().id(), &changed));
        assert_eq!(cosigned_at(&note, &witness()), Err(NoteError::BadSignature), "byte {byte}");
    }
}

#[test]
fn requests_are_read_as_they_are_written() {
    let request = request(&leaves(7), 3, 7);
    assert_eq!(AddCheckpoint::parse(&request.to_text()), Some(request.clone()));
    let text = request.to_text();
    for bad in [
        text.replacen("old 3", "old 03", 1),
        text.replacen("old 3", "old +3", 1),
        text.replacen("old 3", "new 3", 1),
        text.replacen("old 3\n", "old 3\nAAAA\n", 1),
        text.replacen("\n\n", "\n", 2),
        "old 3\n".to_owned() + &"A".repeat(0),
        format!("old 0\n{}\n{}", (Base64::encode_string(&[0; 32]) + "\n").repeat(64), request.checkpoint),
    ] {
        assert_eq!(AddCheckpoint::parse(&bad), None, "{bad}");
    }
}

#[test]
fn every_step_of_a_growing_log_is_cosigned_and_nothing_else() {
    let log = leaves(20);
    for old in 0..20 {
        for new in old.max(1)..=20 {
            let seen = head(&log, old);
            let seen = (old > 0).then_some(&seen);
            let good = request(&log, old, new);
            assert!(judge(&good, &vkey(), seen).is_ok(), "{old} {new}");
            let mut longer = good.clone();
            longer.proof.push([0; 32]);
            assert_eq!(judge(&longer, &vkey(), seen), Err(Refusal::Inconsistent));
            if !good.proof.is_empty() {
                let mut other = good.clone();
                other.proof[0][0] ^= 1;
                assert_eq!(judge(&other, &vkey(), seen), Err(Refusal::Inconsistent));
            }
        }
    }
}

#[test]
fn every_refusal_has_its_status() {
    let (log, vkey) = (leaves(9), vkey());
    let (three, five) = (head(&log, 3), head(&log, 5));
    let check = |request: &AddCheckpoint, seen| {
        let refusal = judge(request, &vkey, seen).unwrap_err();
        (refusal, refusal.status())
    };
    assert_eq!(check(&request(&log, 3, 7), Some(&five)), (Refusal::Conflict(5), 409));
    assert_eq!(check(&request(&log, 3, 7), None), (Refusal::Conflict(0), 409));
    // Older than what the witness has: the log was rolled back.
    assert_eq!(check(&request(&log, 3, 4), Some(&five)), (Refusal::Conflict(5), 409));
    let shrinks = AddCheckpoint { old: 5, ..request(&log, 3, 3) };
    assert_eq!(check(&shrinks, Some(&five)), (Refusal::Shrinks, 400));
    let forked = Leaves(log.0.iter().rev().copied().collect());
    assert_eq!(check(&request(&forked, 3, 7), Some(&three)), (Refusal::Inconsistent, 422));
    assert_eq!(
        check(&request(&forked, 3, 3), Some(&three)),
        (Refusal::Inconsistent, 422),
        "two roots of one size"
    );
    let foreign =
        AddCheckpoint { checkpoint: sign_checkpoint(&head(&log, 7), &witness_key()), ..request(&log, 3, 7) };
    assert_eq!(check(&foreign, Some(&three)), (Refusal::Unsigned, 403));
    let garbage = AddCheckpoint { checkpoint: "x".to_owned(), ..request(&log, 3, 7) };
    assert_eq!(check(&garbage, Some(&three)), (Refusal::Malformed, 400));
    assert_eq!(
        (Refusal::UnknownOrigin.status(), Refusal::Conflict(9).to_string().contains('9')),
        (404, true)
    );
}

/// Golden files: what a log sends, what a published checkpoint with cosignatures is, and the policy that opens it.
#[test]
fn yesterdays_request_checkpoint_and_policy_are_read_and_written() {
    let golden = |name: &str, text: &str| {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/witness").join(name);
        if !path.exists() && std::env::var_os("CITYKEEP_BLESS").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept, text, "{name} is not what this version writes: a format needs a new version");
        kept
    };
    let request = request(&leaves(7), 3, 7);
    let kept = golden("add-checkpoint", &request.to_text());
    let head = judge(&AddCheckpoint::parse(&kept).unwrap(), &vkey(), Some(&head(&leaves(7), 3))).unwrap();
    let note = golden("checkpoint", &(request.checkpoint + &cosign(&head, WITNESS, &witness_key(), TIME)));
    let policy = format!(
        "log {} https://hsm.example/v1/log\nwitness w1 {} https://witness.example\nquorum w1\n",
        vkey(),
        witness()
    );
    let vouched = Policy::parse(&golden("policy", &policy)).unwrap().open(&note).unwrap();
    assert_eq!((vouched.head.size, vouched.witnesses), (7, vec![("w1".to_owned(), TIME)]));
}
