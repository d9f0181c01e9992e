//! Heads with witnesses' lines: what is published is what they cosigned.

use super::*;
use crate::cosign::cosign;
use crate::tree::verify_consistency;

fn witness() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// The newest head's note, and the same with a cosignature.
fn cosigned(desk: &mut Desk) -> (String, String) {
    let note = desk.log().last_checkpoint().unwrap();
    let note = note.split_inclusive('\n').take(5).collect::<String>();
    let head = unverified(&note).unwrap();
    let line = cosign(&head, "w.example", &witness(), 1000);
    (note.clone(), note + &line)
}

fn checkpoint(desk: &Desk) -> String {
    fs::read_to_string(desk.published().join(CHECKPOINT)).unwrap()
}

fn publish_cosigned(desk: &mut Desk) -> bool {
    let Some(publication) = desk.log().prepare_cosigned().unwrap() else {
        return false;
    };
    let written = publication.write();
    desk.log().published(publication, written).unwrap();
    true
}

#[test]
fn the_published_log_ends_where_witnesses_saw_it_end() {
    let mut desk = Desk::new();
    let mut last = 0;
    for count in [1, 254, 1, 1, 300, 700] {
        desk.append(count);
        assert!(!publish_cosigned(&mut desk), "nothing new was cosigned");
        let (note, with_line) = cosigned(&mut desk);
        let size = desk.entries.len() as u64;
        // The log goes on meanwhile.
        desk.append(2);
        desk.log().cosigned(&with_line).unwrap();
        assert!(publish_cosigned(&mut desk));
        assert_eq!((checkpoint(&desk), desk.log().published_size()), (with_line.clone(), size));
        assert!(with_line.starts_with(&note) && size > last);
        desk.check();
        // An auditor's own reading of the files: they are those of this size.
        let read = read_published(&desk.published()).unwrap();
        assert_eq!(read.1, size);
        last = size;
    }
    // Everything else is published as ever, and a later line for the same head too.
    desk.log().publish().unwrap();
    let (note, with_line) = cosigned(&mut desk);
    assert_eq!(checkpoint(&desk), note);
    desk.log().cosigned(&with_line).unwrap();
    assert!(publish_cosigned(&mut desk) && !publish_cosigned(&mut desk));
    assert_eq!(checkpoint(&desk), with_line);
    desk.reopen().unwrap();
    desk.check();
    assert_eq!(checkpoint(&desk), with_line);
}

#[test]
fn only_heads_of_this_log_are_taken() {
    let mut desk = Desk::new();
    desk.append(3);
    let (_, old) = cosigned(&mut desk);
    desk.append(3);
    let (_, with_line) = cosigned(&mut desk);
    let foreign = with_line.replace("\n6\n", "\n5\n");
    for bad in [foreign.as_str(), "x", &with_line.replace(ORIGIN, "other.example")] {
        assert!(matches!(desk.log().cosigned(bad), Err(LogError::Append(_))), "{bad}");
    }
    desk.log().cosigned(&with_line).unwrap();
    // An older one comes late: it changes nothing.
    desk.log().cosigned(&old).unwrap();
    assert!(publish_cosigned(&mut desk));
    assert_eq!(checkpoint(&desk), with_line);
    desk.log().cosigned(&old).unwrap();
    assert!(!publish_cosigned(&mut desk));
    // Another root at the published size.
    let other = Checkpoint { origin: ORIGIN.into(), size: 6, root: [1; 32] };
    assert!(desk.log().cosigned(&sign_checkpoint(&other, &key())).is_err());
}

#[test]
fn consistency_is_proved_across_published_and_new_entries() {
    let mut desk = Desk::new();
    let mut heads = vec![(0, Frontier::new().root())];
    for count in [1, 255, 3, 300, 5] {
        desk.append(count);
        heads.push((desk.entries.len() as u64, desk.frontier.root()));
        if count > 100 {
            desk.log().publish().unwrap();
        }
    }
    for (old, old_root) in &heads {
        for (new, new_root) in heads.iter().filter(|(new, _)| new >= old) {
            let proof = desk.log().consistency(*old, *new).unwrap();
            assert!(verify_consistency(*old, *new, old_root, new_root, &proof), "{old} {new}");
        }
    }
    assert!(desk.log().consistency(2, 1).is_err() && desk.log().consistency(1, 9999).is_err());
}
