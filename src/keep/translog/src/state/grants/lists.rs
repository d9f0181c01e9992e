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
        let approved = self.grants.approved.get(wall);
        let approved = approved
            .is_some_and(|list| (list.epoch, &list.digest) == (epoch, body) && list.removed >= removed);
        if removed > REMOVALS_MAX && !approved {
            let why = format!(
                "the list takes more than {REMOVALS_MAX} cards off; have the officers approve its digest"
            );
            return refuse(Refusal::ListRemovals, why);
        }
        Ok(false)
    }

    pub(in super::super) fn signed_list(&mut self, event: &ListEvent) -> Result<(), ReplayError> {
        let again = self
            .check_list(&event.wall, event.epoch, &event.body, event.removed)
            .map_err(|refused| ReplayError(refused.message))?;
        ensure(again == event.again, "the entry is wrong about whether the list was signed before")?;
        let inside = |key: &wire::key::KeyId| key.lineage.wall() == event.wall && self.key(key).is_some();
        ensure(
            !event.keys.is_empty() && event.keys.iter().all(inside),
            "a list is signed by keys of its wall",
        )?;
        let list = ListState {
            epoch: event.epoch,
            body: event.body,
            digest: event.digest,
            effective: event.effective,
        };
        if again {
            ensure(self.list(&event.wall) == Some(&list), "a list that is signed again is the same list")?;
        }
        self.grants.lists.insert(event.wall.clone(), list);
        self.grants.link(b"list", &event.to_cbor());
        Ok(())
    }
}
