//! What the entries mean: replayed in order, with every approval checked against the officers of that moment.

use std::collections::BTreeMap;

use wire::cbor::Cbor;
use wire::command::{Action, Digest, SignedCommand};

use super::head::Head;
use super::pool::{Approvals, Pool};
use super::snapshot::Snapshot;
use super::{Finding, Report, finding};
use crate::entry::{Entry, Event};
use crate::state::LogState;
use crate::tile::{TILE_WIDTH, Tile};

/// A head that an entry vouches for.
struct Vouched {
    index: u64,
    size: u64,
    root: Digest,
    who: &'static str,
}

/// The replay.
pub(super) struct Meaning {
    pub(super) state: LogState,
    kinds: BTreeMap<&'static str, u64>,
    heads: Vec<Vouched>,
    wall_ns: Option<(u64, u64)>,
}

impl Meaning {
    pub(super) fn new() -> Self {
        Self { state: LogState::new(), kinds: BTreeMap::new(), heads: Vec::new(), wall_ns: None }
    }

    /// Takes the next entry, or says why it cannot stand there. Its approvals are checked meanwhile.
    pub(super) fn entry(&mut self, entry: &Entry, pool: &mut Pool<'_>) -> Result<(), String> {
        let index = self.state.size();
        self.approvals(index, &entry.event, pool)?;
        self.state.apply(entry).map_err(|error| error.0)?;
        if let Event::Epoch(turn) = &entry.event {
            let (size, root) = (turn.size, turn.root);
            self.heads.push(Vouched { index, size, root, who: "the key of the epoch that ended here" });
        }
        *self.kinds.entry(entry.event.kind()).or_default() += 1;
        let (first, _) = self.wall_ns.unwrap_or((entry.wall_ns, 0));
        self.wall_ns = Some((first, entry.wall_ns));
        Ok(())
    }

    fn approvals(&mut self, index: u64, event: &Event, pool: &mut Pool<'_>) -> Result<(), String> {
        let bytes = match event {
            Event::Genesis(event) => &event.command,
            Event::Boot(event) => &event.floor,
            Event::Command(event) => &event.command,
            _ => return Ok(()),
        };
        let broken = |error| format!("its command: {error}");
        let signed = SignedCommand::from_cbor(bytes).map_err(broken)?;
        let command = signed.open().map_err(broken)?;
        if let (Event::Boot(_), Action::Floor(floor)) = (event, command.action) {
            let (size, root) = (floor.size, floor.root);
            self.heads.push(Vouched { index, size, root, who: "the officers" });
        }
        let officers = self.state.instance().map(|instance| instance.officers.clone());
        pool.approvals(Approvals { index, signed, officers });
        Ok(())
    }

    /// The log that its genesis made is the one whose key signed the head.
    pub(super) fn check_genesis(&self, head: &Head) -> Result<(), &'static str> {
        let Some(instance) = self.state.instance() else {
            return Err("it is not the genesis of a log");
        };
        if instance.origin != head.log.name() {
            return Err("its origin is not the name of the given verifier key");
        }
        if instance.log_key != head.log.key() {
            return Err("its log key is not the given verifier key");
        }
        Ok(())
    }

    /// Every head that entries vouch for is one that the log went through.
    pub(super) fn check_heads(&mut self, snapshot: &Snapshot<'_>) -> Result<(), Finding> {
        for Vouched { index, size, root, who } in self.heads.drain(..) {
            if snapshot.root_at(size)? != root {
                let bundle = Tile::bundle(index / TILE_WIDTH, snapshot.head.size);
                let file = bundle.map_or_else(String::new, |bundle| bundle.to_string());
                let what = format!(
                    "{who} vouched for another root at {size} entries: the log before it was rewritten"
                );
                return finding(file, index, what);
            }
        }
        Ok(())
    }

    pub(super) fn report(&self, head: &Head, cosigned: Option<bool>) -> Result<Report, Finding> {
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
            vkey: head.log.to_string(),
            witnesses: head.witnesses.clone(),
            cosigned,
            kinds: self.kinds.clone(),
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
