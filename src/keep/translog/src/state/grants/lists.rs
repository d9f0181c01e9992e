//! Blacklists: one epoch after the other, and nobody leaves in numbers without a quorum.

use wire::cbor::Cbor;
use wire::command::Digest;
use wire::error::{Refusal, Refused};
use wire::list::REMOVALS_MAX;

use super::super::{LogState, ReplayError, ensure};
use super::refuse;
use crate::entry::ListEvent;

/// The newest list of a wall.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListState {
    /// Epoch.
    pub epoch: u64,
    /// SHA-256 of the body that was signed.
    pub body: Digest,
    /// SHA-256 of the whole signed file.
    pub digest: Digest,
    /// SHA-256 of the body of the full list in force.
    pub effective: Digest,
    /// Day of the newest list, days since 1970 …
    pub day: u64,
    /// … and the cards that left on that day without a quorum.
    pub removed: u64,
}

impl ListState {
    /// Cards that left on this day without a quorum.
    pub fn removed_on(&self, day: u64) -> u64 {
        if day == self.day { self.removed } else { 0 }
    }
}

impl LogState {
    /// Whether this list may be signed: `true` says that it was before, under the same epoch.
    ///
    /// # Errors
    /// `ListEpoch`, `ListRemovals`.
    pub fn check_list(&self, wall: &str, epoch: u64, body: &Digest, removed: u64) -> Result<bool, Refused> {
        let known = self.list(wall);
        if known.is_some_and(|known| (known.epoch, &known.body) == (epoch, body)) {
            return Ok(true);
        }
        let next = known.map_or(0, |known| known.epoch) + 1;
        if epoch != next {
            return refuse(Refusal::ListEpoch, format!("the next epoch of this list is {next}, not {epoch}"));
        }
        if removed > REMOVALS_MAX && self.approved_removals(wall, epoch, body) < removed {
            let why = format!(
                "the list takes more than {REMOVALS_MAX} cards off; have the officers approve its digest"
            );
            return refuse(Refusal::ListRemovals, why);
        }
        Ok(false)
    }

    /// Cards that officers have said this list may take off; 0 if they said nothing of it.
    pub fn approved_removals(&self, wall: &str, epoch: u64, body: &Digest) -> u64 {
        let approved = self.grants.approved.get(wall);
        let approved = approved.filter(|list| (list.epoch, &list.digest) == (epoch, body));
        approved.map_or(0, |list| list.removed)
    }

    pub(in super::super) fn signed_list(&mut self, event: &ListEvent, now: u64) -> Result<(), ReplayError> {
        let again = self
            .check_list(&event.wall, event.epoch, &event.body, event.removed)
            .map_err(|refused| ReplayError(refused.message))?;
        ensure(again == event.again, "the entry is wrong about whether the list was signed before")?;
        let inside = |key: &wire::key::KeyId| key.lineage.wall() == event.wall && self.key(key).is_some();
        ensure(
            !event.keys.is_empty() && event.keys.iter().all(inside),
            "a list is signed by keys of its wall",
        )?;
        let (day, known) = (self.day(now), self.list(&event.wall));
        let by_quorum = self.approved_removals(&event.wall, event.epoch, &event.body) >= event.removed;
        let before = known.map_or(0, |known| known.removed_on(day));
        let removed = if again || by_quorum { before } else { before.saturating_add(event.removed) };
        let (epoch, body, digest, effective) = (event.epoch, event.body, event.digest, event.effective);
        let list = ListState { epoch, body, digest, effective, day, removed };
        if again {
            let same = |known: &ListState| (known.digest, known.effective) == (digest, effective);
            ensure(known.is_some_and(same), "a list that is signed again is the same list")?;
        }
        self.grants.lists.insert(event.wall.clone(), list);
        self.grants.link(b"list", &event.to_cbor());
        Ok(())
    }
}
