//! `audit follow`

use std::time::Duration;

use serde_json::json;
use translog::audit::{Report, Verifier};
use wire::purse::to_hex;

use crate::cli::Follow;
use crate::failure::{Failure, Said, say};
use crate::place::{self, Place};
use crate::verify::witnesses;

pub(crate) fn run(arguments: &Follow) -> Result<Said, Failure> {
    let place = Place::of(&arguments.which)?;
    let fresh = || Ok(place::verifier(&arguments.which.trust)?.ahead_of_witnesses());
    let mut verifier: Verifier = fresh()?;
    let (mut shown, mut cosigned) = (None, 0);
    for look in 1.. {
        match place::advance(&mut verifier, &place, &mut ()) {
            Ok(log) => {
                cosigned = if log.cosigned == Some(true) { log.size } else { cosigned };
                let now = Some((log.size, log.root, log.witnesses.clone()));
                if shown != now {
                    print(&log, cosigned, arguments.json);
                    shown = now;
                }
            }
            // What was read half is not built on: begin anew, and the log must still be the one that was shown.
            Err(failure) if failure.is_unreadable() && shown.is_some() => {
                eprintln!("citykeep audit: {}", failure.message());
                verifier = fresh()?;
                if let Some((size, root, _)) = &shown {
                    verifier.must_contain(*size, *root);
                }
            }
            Err(failure) => return Err(failure),
        }
        if arguments.times.is_some_and(|times| look >= times) {
            break;
        }
        std::thread::sleep(Duration::from_secs(arguments.every));
    }
    Ok(Said::nothing())
}

fn print(log: &Report, cosigned: u64, json: bool) {
    let tail = log.size - cosigned;
    if json {
        let object = json!({
            "ok": true,
            "origin": log.origin,
            "size": log.size,
            "root": to_hex(&log.root),
            "cosigned": log.cosigned,
            "cosigned_size": log.cosigned.map(|_| cosigned),
            "tail": log.cosigned.map(|_| tail),
        });
        return say(&object.to_string());
    }
    let (size, root) = (log.size, to_hex(&log.root));
    let by = witnesses(log);
    say(&format!("有效 good  {size} entries  root {root}  见证 witness {by}"));
    if log.cosigned == Some(false) {
        say(&format!(
            "未见证 not cosigned yet: {tail} entries beyond the newest head that the quorum cosigned ({cosigned})"
        ));
    }
}
