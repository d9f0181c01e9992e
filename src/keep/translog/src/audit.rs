//! Verifies a published log directory, offline: every byte of every file, every entry, every approval (SPEC.md §Audit).

mod chunk;
mod compare;
mod head;
mod meaning;
mod pool;
mod snapshot;
mod source;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use wire::command::{Digest, Id};
use wire::key::{KeyId, KeyState};

use crate::entry::Entry;
use crate::fs::{CHECKPOINT, VKEY};
use crate::note::VerifierKey;
use crate::policy::Policy;
use crate::state::LogState;
use crate::tile::TILE_WIDTH;
use crate::tree::Hash;
use chunk::{Broken, Chunk};
pub use compare::{Compared, compare};
use meaning::Meaning;
use pool::Pool;
use snapshot::Snapshot;
pub use source::{Dir, Source};
use tree::{Tree, blame};

/// The first thing that is wrong with a log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(clippy::exhaustive_structs)]
pub struct Finding {
    /// The file, relative to the directory.
    pub file: String,
    /// The entry, where one can be named.
    pub index: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// It could not be read: nothing is known about the log, good or bad.
    pub unreadable: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "entry {index} ({}): {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

impl Finding {
    fn new(file: impl fmt::Display, index: impl Into<Option<u64>>, what: impl Into<String>) -> Self {
        Self { file: file.to_string(), index: index.into(), what: what.into(), unreadable: false }
    }
}

fn finding<T>(
    file: impl fmt::Display,
    index: impl Into<Option<u64>>,
    what: impl Into<String>,
) -> Result<T, Finding> {
    Err(Finding::new(file, index, what))
}

fn unreadable<T>(
    file: impl fmt::Display,
    index: impl Into<Option<u64>>,
    error: &std::io::Error,
) -> Result<T, Finding> {
    Err(Finding { unreadable: true, ..Finding::new(file, index, error.to_string()) })
}

/// What a log says, after everything in it was found good.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Name of the log.
    pub origin: String,
    /// Service id.
    pub instance: Id,
    /// Module id.
    pub node: Id,
    /// A rehearsal instance.
    pub rehearsal: bool,
    /// Entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// Key of the log that signed the head.
    pub vkey: String,
    /// Witnesses of the policy that cosigned the head and when, Unix seconds.
    pub witnesses: Vec<(String, u64)>,
    /// Whether the policy's quorum is among them; `None` of a policy that asks for none.
    pub cosigned: Option<bool>,
    /// Entries by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// State of every key version.
    pub keys: Vec<(KeyId, KeyState)>,
    /// One more at each change of the officers.
    pub officer_epoch: u64,
    /// Boots of the module, the one of genesis among them.
    pub boots: u64,
    /// Approved policy.
    pub policy: Digest,
    /// Approved CA bundle.
    pub ca: Digest,
    /// The module was wiped and has not come back.
    pub zeroised: bool,
    /// Wall clock of the first and last entry, nanoseconds since 1970, as the module had it.
    pub wall_ns: (u64, u64),
}

/// What sees the log go by, entry by entry. What it sees is proved only when [`Verifier::advance`] has returned `Ok`.
pub trait Watch {
    /// An entry, and what all entries up to it add up to.
    fn entry(&mut self, _state: &LogState, _entry: &Entry) {}

    /// Entries done, and entries in all.
    fn progress(&mut self, _done: u64, _total: u64) {}
}

/// Nobody looks.
impl Watch for () {}

/// A log as far as it is verified.
///
/// After a finding it is of no more use.
pub struct Verifier {
    policy: Policy,
    needs_quorum: bool,
    known: Option<(u64, Hash)>,
    workers: usize,
    tree: Tree,
    meaning: Meaning,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Nothing is verified yet. With fewer than two workers the caller's thread does everything.
    pub fn new(policy: Policy, workers: usize) -> Self {
        Self { policy, needs_quorum: true, known: None, workers, tree: Tree::new(), meaning: Meaning::new() }
    }

    /// A head that the policy's quorum has not cosigned yet is no finding; [`Report::cosigned`] tells.
    #[must_use]
    pub fn ahead_of_witnesses(mut self) -> Self {
        self.needs_quorum = false;
        self
    }

    /// Entries that are verified.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Root over them.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// What they add up to.
    pub fn state(&self) -> &LogState {
        &self.meaning.state
    }

    /// The log went through this head before; one that does not is a fork. For who verified it then.
    pub fn must_contain(&mut self, size: u64, root: Hash) {
        self.known = Some((size, root));
    }

    /// Verifies everything under the checkpoint that stands in `source` now. A second call goes on where the first one
    /// ended: that the entries of before are still the same follows from the new head's root.
    pub fn advance(&mut self, source: &dyn Source, watch: &mut dyn Watch) -> Result<Report, Finding> {
        let snapshot = Snapshot::take(source, &self.policy)?;
        snapshot::check_vkey(source, &snapshot.head)?;
        if self.needs_quorum {
            snapshot.head.check_quorum(&self.policy)?;
        }
        let size = snapshot.head.size;
        let had = self.known.map_or(0, |(size, _)| size).max(self.size());
        if size < had {
            let what =
                format!("it is of {size} entries, and {had} were verified before: the log was cut back");
            return finding(CHECKPOINT, None, what);
        }
        let bundles = (self.size() / TILE_WIDTH, size.div_ceil(TILE_WIDTH));
        pool::with(&snapshot, bundles, self.workers, |mut pool| {
            let replayed = self.replay(&snapshot, bundles, &mut pool, watch);
            match pool.settle() {
                // What comes after an entry that nobody approved does not count.
                Some(bad) => {
                    let file = crate::tile::Tile::bundle(bad.index / TILE_WIDTH, size);
                    finding(file.map_or_else(String::new, |file| file.to_string()), bad.index, bad.what)
                }
                None => replayed,
            }
        })?;
        self.tree.finish(&snapshot)?;
        self.meaning.check_heads(&snapshot)?;
        if let Some((size, root)) = self.known
            && snapshot.root_at(size)? != root
        {
            let what =
                format!("the log had another root at {size} entries when it was verified before: it forked");
            return finding(CHECKPOINT, None, what);
        }
        snapshot.head.check_lines(self.meaning.state.epochs())?;
        snapshot.check_strays(&self.policy)?;
        let wanted = !self.policy.is_met(|_| false);
        self.meaning.report(&snapshot.head, wanted.then(|| snapshot.head.is_cosigned(&self.policy)))
    }

    fn replay(
        &mut self,
        snapshot: &Snapshot<'_>,
        (from, end): (u64, u64),
        pool: &mut Pool<'_>,
        watch: &mut dyn Watch,
    ) -> Result<(), Finding> {
        for number in from..end {
            let chunk = pool.bundle(number).map_err(|broken| match broken {
                Broken::Found(found) => found,
                Broken::Differs { bundle, tile, index } => blame(snapshot, bundle, tile, index),
            })?;
            let known = usize::try_from(self.size() - number * TILE_WIDTH).unwrap_or(usize::MAX);
            self.tree.take(snapshot, &chunk)?;
            self.entries(&chunk, known, pool, watch)?;
            if number == 0 {
                let checked = self.meaning.check_genesis(&snapshot.head);
                checked.or_else(|what| finding(chunk.bundle, 0, what))?;
            }
            pool.done(&chunk);
            watch.progress(self.size(), snapshot.head.size);
        }
        Ok(())
    }

    fn entries(
        &mut self,
        chunk: &Chunk,
        known: usize,
        pool: &mut Pool<'_>,
        watch: &mut dyn Watch,
    ) -> Result<(), Finding> {
        for entry in chunk.entries.iter().skip(known) {
            let index = self.meaning.state.size();
            self.meaning.entry(entry, pool).or_else(|what| finding(chunk.bundle, index, what))?;
            watch.entry(&self.meaning.state, entry);
        }
        match &chunk.bad {
            Some(what) => finding(chunk.bundle, self.meaning.state.size(), what),
            None => Ok(()),
        }
    }
}

/// Verifies the log in `dir` against the key that the auditor brought along. `progress` is told entries done and entries
/// in all.
///
/// The log may be published to meanwhile: what is verified is the checkpoint that stood there at the start.
pub fn verify(dir: &Path, vkey: &VerifierKey, progress: impl FnMut(u64, u64)) -> Result<Report, Finding> {
    struct Progress<F>(F);
    impl<F: FnMut(u64, u64)> Watch for Progress<F> {
        fn progress(&mut self, done: u64, total: u64) {
            self.0(done, total);
        }
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    Verifier::new(Policy::of_log(vkey.clone()), workers).advance(&Dir::new(dir), &mut Progress(progress))
}
