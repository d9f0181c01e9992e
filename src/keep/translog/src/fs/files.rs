//! Files that appear whole and stay: temporary name, sync, rename, sync of the directory.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::error::{LogError, at};

/// The temporary name of a publication: there is one at a time, and what it left behind is overwritten.
pub(super) const TEMPORARY: &str = ".tmp";

/// The vkey's own: it is written beside a publication, which does not wait for the log's lock, and must not end in its file.
pub(super) const TEMPORARY_VKEY: &str = ".tmp-vkey";

/// Who may read what is published is decided by the mode of the log's own directory, and by nothing below it: the
/// process that publishes has a umask for its secrets.
pub(super) const PUBLISHED_DIR: u32 = 0o755;
const PUBLISHED_FILE: u32 = 0o644;

/// A directory for the writer alone.
pub(super) const PRIVATE_DIR: u32 = 0o700;

/// Replaces `root`/`name` by `bytes`, by way of `root`/`temporary`. The caller syncs the directory.
pub(super) fn replace(root: &Path, name: &Path, temporary: &str, bytes: &[u8]) -> Result<(), LogError> {
    let (temporary, path) = (root.join(temporary), root.join(name));
    let mut file = File::create(&temporary).map_err(at(&temporary))?;
    file.write_all(bytes).map_err(at(&temporary))?;
    file.set_permissions(Permissions::from_mode(PUBLISHED_FILE)).map_err(at(&temporary))?;
    file.sync_all().map_err(at(&temporary))?;
    fs::rename(&temporary, &path).map_err(at(&path))
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), LogError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(at(path))
}

/// Makes a directory and those above it, all with this mode, and makes their names durable.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), LogError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent: PathBuf = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => ".".into(),
        Some(parent) => parent.to_owned(),
        None => return Ok(()),
    };
    make_dir(&parent, mode)?;
    fs::create_dir(path).map_err(at(path))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(at(path))?;
    sync_dir(&parent)
}

/// A file's bytes; `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, LogError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Removes a file; that it is gone already is as good.
pub(super) fn remove(path: &Path) -> Result<(), LogError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// Calls `visit` with the path, relative to `root`, of everything below it that is not a directory. In the order of the
/// names, so that what is found first is the same on every machine.
pub(crate) fn walk(root: &Path, visit: &mut impl FnMut(&Path)) -> Result<(), LogError> {
    walk_below(root, Path::new(""), visit)
}

fn walk_below(root: &Path, below: &Path, visit: &mut impl FnMut(&Path)) -> Result<(), LogError> {
    let dir = root.join(below);
    let items = match fs::read_dir(&dir) {
        // The writer removes what is superseded while others look.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        items => items.map_err(at(&dir))?,
    };
    let mut found = Vec::new();
    for item in items {
        let item = item.map_err(at(&dir))?;
        let kind = item.file_type().map_err(at(&dir))?;
        found.push((item.file_name(), kind.is_dir()));
    }
    found.sort();
    for (name, is_dir) in found {
        let path = below.join(name);
        if is_dir {
            walk_below(root, &path, visit)?;
        } else {
            visit(&path);
        }
    }
    Ok(())
}
