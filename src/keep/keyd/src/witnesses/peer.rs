//! One witness: brings it from the head that it has to the head that is wanted, and is patient with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use translog::cosign::{AddCheckpoint, cosignature};
use translog::note::WitnessKey;
use wire::api::WitnessBody;

use super::Head;
use super::post::{Address, Said};
use crate::commit::Ledger;

/// After the first failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A cosignature of the head of this size.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) size: u64,
    /// The witness's name in the policy.
    pub(super) name: String,
    /// Its signature line, checked.
    pub(super) signed: String,
}

/// What is known of a witness, for those who ask.
pub(super) type Shown = Arc<Mutex<WitnessBody>>;

/// The task of one witness.
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) key: WitnessKey,
    pub(super) address: Address,
    pub(super) ledger: Ledger,
    pub(super) wanted: watch::Receiver<Option<Head>>,
    pub(super) lines: mpsc::Sender<Line>,
    pub(super) shown: Shown,
    /// Size of the newest head that it has, as far as is known.
    pub(super) has: u64,
    /// The newest head that it cosigned for us, with its line.
    pub(super) newest: Option<Head>,
}

impl Peer {
    /// Runs until nobody wants heads any more.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let done =
                wanted.filter(|head| self.newest.as_ref().is_none_or(|newest| newest.size != head.size));
            let Some(head) = done else {
                if self.wanted.changed().await.is_err() {
                    return;
                }
                continue;
            };
            match self.cosigned(&head).await {
                Ok((line, time)) => {
                    pause = FIRST_PAUSE;
                    self.show(None, Some((head.size, time)));
                    let note = format!("{}{line}", head.note);
                    self.newest = Some(Head { size: head.size, note });
                    let line = Line { size: head.size, name: self.name.clone(), signed: line };
                    if self.lines.send(line).await.is_err() {
                        return;
                    }
                }
                Err(trouble) => {
                    self.show(Some(trouble), None);
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Asks for a cosignature. A witness that has another head than we thought says which, and is asked again from there.
    async fn cosigned(&mut self, head: &Head) -> Result<(String, u64), String> {
        if self.has > head.size {
            // An earlier answer told us of a head that we do not have yet; perhaps it was a lie.
            self.has = 0;
        }
        let mut said = self.ask(self.has, head).await?;
        if said.status == StatusCode::CONFLICT {
            let size = said.body.strip_suffix('\n').unwrap_or(&said.body);
            let size: u64 =
                size.parse().map_err(|_| "it answers 409 without the size of its head".to_owned())?;
            self.agree(size, head).await?;
            said = self.ask(size, head).await?;
        }
        if said.status != StatusCode::OK {
            let sentence: String = said.body.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(format!("it answers {}: {sentence}", said.status.as_u16()));
        }
        // What else the answer holds does not get into our checkpoint: it could be more than a note may have.
        let found = cosignature(&format!("{}{}", head.note, said.body), &self.key);
        let (time, line) =
            found.ok().flatten().ok_or("what it answers is no cosignature of this head by its key")?;
        self.has = head.size;
        Ok((line, time))
    }

    /// Judges the size that a witness names as its own.
    async fn agree(&mut self, size: u64, head: &Head) -> Result<(), String> {
        if size > head.size {
            return Err(format!(
                "it has seen {size} entries and this log ends at {}: this log was set back, or the witness lies. If others say the same, stop keyd and put the newest log in place",
                head.size
            ));
        }
        if let Some(newest) = self.newest.clone().filter(|newest| newest.size > size) {
            // Its own signature tells it what it has forgotten; it keeps that and cosigns nothing more.
            let shown = self.ask(size, &newest).await;
            let answered = shown.map_or_else(|error| error, |said| said.status.as_u16().to_string());
            return Err(format!(
                "it has cosigned {} entries and now knows of {size}: it was set back; its operator must see to it (shown its own signature it answers {answered})",
                newest.size
            ));
        }
        Ok(())
    }

    async fn ask(&self, old: u64, head: &Head) -> Result<Said, String> {
        let size = head.size;
        let proof = self.ledger.read(move |log| log.consistency(old, size)).await;
        let proof = proof.map_err(|failure| failure.to_string())?;
        let request = AddCheckpoint { old, proof, checkpoint: head.note.clone() };
        self.address.post(request.to_text()).await
    }

    /// Says a new trouble once, and its end.
    fn show(&self, trouble: Option<String>, cosigned: Option<(u64, u64)>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        match &trouble {
            Some(why) if shown.trouble.as_ref() != Some(why) => {
                tracing::warn!(witness = self.name, "no cosignature: {why}");
            }
            None if shown.trouble.is_some() => tracing::info!(witness = self.name, "cosigns again"),
            _ => {}
        }
        shown.trouble = trouble;
        if let Some((size, time)) = cosigned {
            (shown.size, shown.time) = (Some(size), Some(time));
        }
    }
}
