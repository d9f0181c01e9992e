//! Where a published log is read from: a directory, or whatever else holds its files under their names.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::fs::files::walk;

/// The files of one published log, by their names below its directory (`checkpoint`, `tile/0/000`, …).
pub trait Source: Sync {
    /// A file's bytes, `None` if there is no such file.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// The names of all files, in order; `None` if this source cannot list them, and then strays are not looked for.
    fn names(&self) -> io::Result<Option<Vec<String>>>;

    /// Whether a writer may publish to it meanwhile.
    fn is_live(&self) -> bool;
}

/// A directory.
#[derive(Clone, Debug)]
pub struct Dir(PathBuf);

impl Dir {
    /// The directory with `checkpoint` and `tile/`.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Source for Dir {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn names(&self) -> io::Result<Option<Vec<String>>> {
        let mut names = Vec::new();
        // A name that is no text is none of ours, and what is put in its place is no name of ours either.
        let walked = walk(&self.0, &mut |path| names.push(path.to_string_lossy().into_owned()));
        walked.map_err(io::Error::other)?;
        Ok(Some(names))
    }

    fn is_live(&self) -> bool {
        true
    }
}
