//! What the entries mean: replayed in order, with every approval checked against the officers of that moment.

use std::collections::BTreeMap;

use wire::cbor::Cbor;
use wire::command::{Action, Digest, SignedCommand};
use wire::quorum;

use super::snapshot::Snapshot;
use super::{Finding, Report, finding, root_at};
use crate::entry::{Entry, Event};
use crate::note::{Checkpoint, VerifiedCheckpoint, VerifierKey};
use crate::state::LogState;
use crate::tile::Tile;

/// The replay.
pub(super) struct Meaning<'a> {
    vkey: &'a VerifierKey,
    state: LogState,
    kinds: BTreeMap<&'static str, u64>,
    /// Heads that entries vouch for: the entry, size, root, and who says so.
    heads: Vec<(u64, u64, Digest, &'static str)>,
    wall_ns: Option<(u64, u64)>,
}

impl<'a> Meaning<'a> {
    pub(super) fn new(vkey: &'a VerifierKey) -> Self {
        Self { vkey, state: LogState::new(), kinds: BTreeMap::new(), heads: Vec::new(), wall_ns: None }
    }

    /// Takes the entry at `index`, or says why it cannot stand there.
    pub(super) fn entry(&mut self, index: u64, bytes: &[u8]) -> Result<(), String> {
        let entry = Entry::from_cbor(bytes).map_err(|error| format!("it is not an entry: {error}"))?;
        if entry.to_cbor() != bytes {
            return Err("it is not in canonical form".into());
        }
        self.check_approvals(index, &entry.event)?;
        self.state.apply(&entry).map_err(|error| error.0)?;
        if let Event::Epoch(turn) = &entry.event {
            self.heads.push((index, turn.size, turn.root, "the key of the epoch that ended here"));
        }
        if index == 0 {
            self.check_genesis()?;
        }
        *self.kinds.entry(entry.event.kind()).or_default() += 1;
        let (first, _) = self.wall_ns.unwrap_or((entry.wall_ns, 0));
        self.wall_ns = Some((first, entry.wall_ns));
        Ok(())
    }

    fn check_approvals(&mut self, index: u64, event: &Event) -> Result<(), String> {
        let bytes = match event {
            Event::Genesis(event) => &event.command,
            Event::Boot(event) => &event.floor,
            Event::Command(event) => &event.command,
            _ => return Ok(()),
        };
        let signed = SignedCommand::from_cbor(bytes).map_err(|error| format!("its command: {error}"))?;
        let officers = self.state.instance().map(|instance| &instance.officers);
        let command = quorum::check(&signed, officers)
            .map_err(|refused| format!("its approvals: {}", refused.message))?;
        if let (Event::Boot(_), Action::Floor(floor)) = (event, command.action) {
            self.heads.push((index, floor.size, floor.root, "the officers"));
        }
        Ok(())
    }

    fn check_genesis(&self) -> Result<(), String> {
        let Some(instance) = self.state.instance() else {
            return Err("it is not the genesis of a log".into());
        };
        if instance.origin != self.vkey.name() {
            return Err("its origin is not the name of the given verifier key".into());
        }
        if instance.log_key != self.vkey.key() {
            return Err("its log key is not the given verifier key".into());
        }
        Ok(())
    }

    /// The head is signed by the epoch that its last entry belongs to, and by nobody that we do not know.
    pub(super) fn check_head(&self, head: &VerifiedCheckpoint) -> Result<(), Finding> {
        let epoch = self.state.epochs().signer(head.size);
        let rest = head.beyond_log(epoch.map(|epoch| &epoch.key));
        let rest = rest.or_else(|error| finding(super::CHECKPOINT, None, error.to_string()))?;
        if rest.is_empty() {
            return Ok(());
        }
        let what = "it has a signature by a key that this verification was not given";
        finding(super::CHECKPOINT, None, what)
    }

    /// Every head that entries vouch for is one that the log went through.
    pub(super) fn check_heads(&self, snapshot: &Snapshot<'_>) -> Result<(), Finding> {
        for (index, size, root, who) in &self.heads {
            if root_at(snapshot, *size)? != *root {
                let bundle = Tile::bundle(index / crate::tile::TILE_WIDTH, snapshot.head.size);
                let file = bundle.map_or_else(String::new, |bundle| bundle.to_string());
                let what = format!(
                    "{who} vouched for another root at {size} entries: the log before it was rewritten"
                );
                return finding(file, *index, what);
            }
        }
        Ok(())
    }

    pub(super) fn report(self, head: &Checkpoint) -> Result<Report, Finding> {
        let Some(instance) = self.state.instance() else {
            return finding(super::CHECKPOINT, None, "the log has no genesis");
        };
        Ok(Report {
            origin: instance.origin.clone(),
            instance: instance.instance,
            node: instance.node,
            rehearsal: instance.rehearsal,
            size: head.size,
            root: head.root,
            kinds: self.kinds,
            keys: self.state.keys().map(|(id, key)| (id.clone(), key.state)).collect(),
            officer_epoch: instance.officer_epoch,
            boots: self.state.boots(),
            policy: instance.policy,
            ca: instance.ca,
            zeroised: instance.zeroised,
            wall_ns: self.wall_ns.unwrap_or_default(),
        })
    }
}
