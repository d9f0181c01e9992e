//! `audit feed`: a reader of the published log like any other, so that a slow collector slows nobody.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use translog::audit::Watch;
use translog::entry::Entry;
use translog::state::LogState;
use translog::tree::{Hash, leaf_hash};
use wire::cbor::Cbor as _;
use wire::purse::to_hex;

use crate::cli::{Feed, Form};
use crate::failure::{Failure, Said, unwritten};
use crate::place::{self, Place};
use crate::render;
use crate::row::Row;
use crate::show::no_spool;
use crate::spool::Spool;

pub(crate) fn run(arguments: &Feed) -> Result<Said, Failure> {
    let place = Place::of(&arguments.which)?;
    let mut verifier = place::verifier(&arguments.which.trust)?;
    let cursor = Cursor::read(&arguments.cursor)?;
    let spool = Spool::new().map_err(|error| no_spool(&error))?;
    let mut lines =
        Lines { form: arguments.form, from: cursor, at: None, origin: String::new(), spool, failed: None };
    loop {
        let log = place::advance(&mut verifier, &place, &mut lines)?;
        lines.release(&arguments.cursor, log.size)?;
        match arguments.every {
            Some(seconds) => std::thread::sleep(Duration::from_secs(seconds)),
            None => return Ok(Said::nothing()),
        }
    }
}

/// The last entry that was fed. Its leaf hash is there so that a feed never goes on in another log.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Cursor {
    index: u64,
    leaf: Hash,
}

impl Cursor {
    fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let wrong = |why: &str| {
            let path = path.display();
            Failure::untried(format!("{path}: {why}; give the cursor of this feed, or a name that is free"))
        };
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(wrong(&error.to_string())),
            Ok(text) => Self::parse(&text).map(Some).ok_or_else(|| wrong("no cursor")),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let leaf = value.get("leaf")?.as_str()?;
        Some(Self { index: value.get("index")?.as_u64()?, leaf: wire::purse::hex(leaf.as_bytes())? })
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = Path::new(&name);
        let mut file = File::create(new)?;
        writeln!(file, "{}", json!({"index": self.index, "leaf": to_hex(&self.leaf)}))?;
        file.sync_all()?;
        std::fs::rename(new, path)
    }
}

struct Lines {
    form: Form,
    from: Option<Cursor>,
    at: Option<Cursor>,
    origin: String,
    spool: Spool,
    failed: Option<Failure>,
}

impl Watch for Lines {
    fn entry(&mut self, state: &LogState, entry: &Entry) {
        if self.failed.is_some() {
            return;
        }
        let next = self.from.as_ref().map_or(0, |from| from.index + 1);
        if entry.seq + 1 < next {
            return;
        }
        let leaf = leaf_hash(&entry.to_cbor());
        if entry.seq + 1 == next {
            if self.from.as_ref().is_some_and(|from| from.leaf != leaf) {
                self.failed = Some(Failure::no_result(
                    "fork",
                    format!(
                        "entry {} is not the one that was fed: this is another log, or it forked",
                        entry.seq
                    ),
                ));
            }
            return;
        }
        if self.origin.is_empty() {
            self.origin = state.instance().map(|instance| instance.origin.clone()).unwrap_or_default();
        }
        let line = render::line(&Row::of(entry), self.form, &self.origin);
        self.failed = self.spool.line(&line).err().map(|error| no_spool(&error));
        self.at = Some(Cursor { index: entry.seq, leaf });
    }
}

impl Lines {
    /// The log is proved up to `size`: lines go out, and then the cursor moves.
    fn release(&mut self, path: &Path, size: u64) -> Result<(), Failure> {
        if let Some(failure) = self.failed.take() {
            return Err(failure);
        }
        // No entry came by to be compared with the cursor.
        if let Some(from) = self.from.as_ref().filter(|from| from.index >= size) {
            return Err(Failure::no_result(
                "fork",
                format!(
                    "the log ends before entry {}, which was fed: it was cut back, or this is an older copy of it",
                    from.index
                ),
            ));
        }
        let Some(at) = self.at.take() else {
            return Ok(());
        };
        let gone = |error: &std::io::Error| {
            Failure::no_result(
                "collector",
                format!("the collector does not take the lines ({error}); start it again"),
            )
        };
        self.spool.release(&mut std::io::stdout().lock()).map_err(|error| gone(&error))?;
        at.write(path).map_err(|error| unwritten(path, &error))?;
        self.from = Some(at);
        Ok(())
    }
}
