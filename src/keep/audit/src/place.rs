//! From an argument to a log and to what is trusted about it.

use std::io;
use std::path::Path;

use translog::audit::{Dir, Finding, Report, Source, Verifier, Watch};
use translog::note::VerifierKey;
use translog::policy::Policy;

use crate::archive::Archive;
use crate::cli::{Anchor, Net, Trust, Which};
use crate::failure::Failure;
use crate::http::Remote;
use crate::meter::Meter;

/// A log and its name for people.
pub(crate) struct Place {
    pub(crate) name: String,
    source: Box<dyn Source>,
    archives: Vec<Archive>,
}

impl Place {
    /// Opens a folder, an export file or a URL.
    pub(crate) fn open(log: &str, trust: &Trust, net: &Net) -> Result<Self, Failure> {
        let path = Path::new(log);
        let source: Box<dyn Source> = if log.contains("://") {
            Box::new(Remote::new(log, net)?)
        } else if path.is_dir() {
            Box::new(Dir::new(path))
        } else if path.is_file() {
            Box::new(archive(path)?)
        } else {
            return Err(Failure::untried(format!(
                "{log}: no such log; give the folder with `checkpoint` and `tile/`, an export file, or a URL"
            )));
        };
        let archives = trust.archive.iter().map(|path| archive(path)).collect::<Result<_, _>>()?;
        Ok(Self { name: log.to_owned(), source, archives })
    }

    pub(crate) fn of(which: &Which) -> Result<Self, Failure> {
        Self::open(&which.log, &which.trust, &which.net)
    }
}

fn archive(path: &Path) -> Result<Archive, Failure> {
    Archive::open(path).map_err(|error| Failure::untried(format!("{}: {error}", path.display())))
}

impl Source for Place {
    /// What was pruned from the log is read from its archives.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.source.read(name)? {
            return Ok(Some(bytes));
        }
        // The newest head is the log's own business.
        let archives = self.archives.iter().filter(|_| name.starts_with("tile/"));
        for archive in archives {
            if let Some(bytes) = archive.read(name)? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    fn names(&self) -> io::Result<Option<Vec<String>>> {
        self.source.names()
    }

    fn is_live(&self) -> bool {
        self.source.is_live()
    }
}

/// Reads what is trusted: a policy, or one log's key and nobody else.
pub(crate) fn trusted(anchor: &Anchor) -> Result<Policy, Failure> {
    let read = |path: &Path, what: &str| {
        std::fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            Failure::untried(format!("{path}: cannot read {what} ({error}); check the path"))
        })
    };
    match (&anchor.policy, &anchor.vkey) {
        (Some(path), _) => Policy::parse(&read(path, "the policy")?)
            .map_err(|error| Failure::untried(format!("{}: {error}", path.display()))),
        (None, Some(path)) => {
            let text = read(path, "the log's vkey")?;
            VerifierKey::parse(text.trim_end_matches('\n')).map(Policy::of_log).map_err(|error| {
                let path = path.display();
                Failure::untried(format!(
                    "{path}: no vkey line ({error}); give the file `vkey` of the published log"
                ))
            })
        }
        (None, None) => Err(Failure::untried("say what is trusted: --policy FILE or --vkey FILE")),
    }
}

/// Reads what is trusted, for other commands that take the same arguments.
///
/// # Errors
/// What is wrong with the file, and what to give instead.
pub fn policy(anchor: &Anchor) -> Result<Policy, String> {
    trusted(anchor).map_err(|failure| failure.message().to_owned())
}

/// A verifier that uses this machine's cores.
pub(crate) fn verifier(trust: &Trust) -> Result<Verifier, Failure> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Verifier::new(trusted(&trust.anchor)?, workers))
}

/// Verifies a whole log with a progress line, while `watch` looks on.
pub(crate) fn verified(which: &Which, watch: &mut dyn Watch) -> Result<(Verifier, Report), Failure> {
    let place = Place::of(which)?;
    let mut verifier = verifier(&which.trust)?;
    let report = advance(&mut verifier, &place, watch)?;
    Ok((verifier, report))
}

/// The same, further on.
pub(crate) fn advance(
    verifier: &mut Verifier,
    place: &Place,
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    let mut both = Both { watch, meter: Meter::new("entries") };
    verifier.advance(place, &mut both).map_err(|finding: Finding| Failure::log(&place.name, &finding))
}

struct Both<'a> {
    watch: &'a mut dyn Watch,
    meter: Meter,
}

impl Watch for Both<'_> {
    fn entry(&mut self, state: &translog::state::LogState, entry: &translog::entry::Entry) {
        self.watch.entry(state, entry);
    }

    fn progress(&mut self, done: u64, total: u64) {
        self.meter.show(done, total);
    }
}
