//! Files that are there whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use wire::purse::to_hex;

/// Why a result file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {doing} ({why}); {next}", path.display())]
pub struct OutputError {
    path: PathBuf,
    doing: &'static str,
    why: String,
    next: &'static str,
}

impl OutputError {
    fn new(path: &Path, why: &dyn ToString, next: &'static str) -> Self {
        Self { path: path.to_owned(), doing: "write here", why: why.to_string(), next }
    }
}

const CHECK: &str = "check the folder, its permissions and the free space";

/// The place of a result file, cleared of what an earlier run left there.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    dir: PathBuf,
}

impl Output {
    /// Clears the place. `inputs` are files of this run that must not be taken for its output.
    pub fn claim(path: &Path, inputs: &[&Path]) -> Result<Self, OutputError> {
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        let found = match path.symlink_metadata() {
            Ok(found) => Some(found),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(OutputError::new(path, &error, CHECK)),
        };
        if let Some(found) = found {
            if inputs.iter().any(|input| same_file(input, path)) {
                let next = "give the result another name";
                return Err(OutputError::new(path, &"it is an input of this very run", next));
            }
            // Not a link or a device either: renaming over it would replace what it stands for.
            if !found.is_file() {
                return Err(OutputError::new(path, &"it is no plain file", "name a new or a plain file"));
            }
            std::fs::remove_file(path).map_err(|error| OutputError::new(path, &error, CHECK))?;
        }
        if !dir.is_dir() {
            return Err(OutputError::new(path, &"its folder does not exist", "make the folder first"));
        }
        Ok(Self { path: path.to_owned(), dir })
    }

    /// Writes the file beside its place, makes it durable, and renames it.
    pub fn write(&self, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), OutputError> {
        self.put(fill, |dir| File::open(dir)?.sync_all())
    }

    fn put(
        &self,
        fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
        sync_dir: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<(), OutputError> {
        let failed = |error: std::io::Error| OutputError::new(&self.path, &error, CHECK);
        let part = Part::new(self).map_err(failed)?;
        part.fill(fill).map_err(failed)?;
        std::fs::rename(&part.path, &self.path).map_err(failed)?;
        // Without this the name may be gone after a power cut, though its caller was told that it is there.
        sync_dir(&self.dir).map_err(|error| {
            // Its caller is told that it is not there. If it can't be removed either, the first error says more.
            let _ = self.remove();
            failed(error)
        })
    }

    /// Takes the file away again, for a run whose other results can't be written.
    pub fn remove(&self) -> Result<(), OutputError> {
        std::fs::remove_file(&self.path).map_err(|error| OutputError {
            doing: "remove this file",
            ..OutputError::new(&self.path, &error, "remove it by hand: it is no result")
        })
    }

    /// Where the file will be.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// A file under way; gone when dropped, unless it was renamed.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    fn new(output: &Output) -> std::io::Result<Self> {
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(std::io::Error::other)?;
        let name = output.path.file_name().unwrap_or_default().to_string_lossy();
        let path = output.dir.join(format!(".{name}.{}.part", to_hex(&suffix)));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { path, file })
    }

    fn fill(&self, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
        let mut writer = BufWriter::with_capacity(1 << 18, &self.file);
        fill(&mut writer)?;
        writer.flush()?;
        self.file.sync_all()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After the rename there is nothing left under this name.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        std::fs::write(&path, "old").unwrap();
        let output = Output::claim(&path, &[]).unwrap();
        assert!(!path.exists(), "what an earlier run left is gone before the new one starts");
        let failed = output.write(|file| {
            file.write_all(b"half")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(names(dir.path()), Vec::<String>::new());
        let unsure = output.put(|file| file.write_all(b"whole"), |_| Err(std::io::Error::other("no sync")));
        assert!(unsure.unwrap_err().to_string().contains("no sync"));
        assert_eq!(names(dir.path()), Vec::<String>::new());
        output.write(|file| file.write_all(b"whole")).unwrap();
        assert_eq!(names(dir.path()), ["out.csv"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        output.remove().unwrap();
        assert_eq!(names(dir.path()), Vec::<String>::new());
        assert!(output.remove().unwrap_err().to_string().contains("by hand"));
    }

    #[test]
    fn places_that_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let day = dir.path().join("day.txt");
        std::fs::write(&day, "a day").unwrap();
        let link = dir.path().join("link.csv");
        std::os::unix::fs::symlink(&day, &link).unwrap();
        let other = dir.path().join("other.csv");
        std::os::unix::fs::symlink("/dev/null", &other).unwrap();
        for (path, why) in [
            (day.clone(), "an input"),
            (link, "an input"),
            (other, "no plain file"),
            (dir.path().to_owned(), "no plain file"),
            (dir.path().join("none/out.csv"), "does not exist"),
        ] {
            let refused = Output::claim(&path, &[&day]).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
        assert_eq!(std::fs::read(&day).unwrap(), b"a day");
    }
}
