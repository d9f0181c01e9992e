//! Files of a ceremony: written whole or not at all, secrets for their owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use zeroize::Zeroizing;

use crate::failure::{Failure, OrFail};

/// Mode of a file that holds a secret, and of one that does not.
pub(crate) const PRIVATE: u32 = 0o600;
pub(crate) const PUBLIC: u32 = 0o644;

/// No file that is read here is longer than this.
const FILE_MAX: usize = 4 << 20;

/// No secret that is read here is longer than this.
const SECRET_MAX: usize = 64 << 10;

/// Writes a new file; an existing one is never overwritten.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let temporary = write_temporary(path, bytes, mode)?;
    let renamed = renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE);
    finish(path, &temporary, renamed.map_err(std::io::Error::from))
}

/// Writes a file, replacing an older one in one step.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let temporary = write_temporary(path, bytes, mode)?;
    let renamed = fs::rename(&temporary, path);
    finish(path, &temporary, renamed)
}

fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> Result<PathBuf, Failure> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).or_fail("系统随机数不可用。", "the system gives no random bytes")?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{:016x}.new", u64::from_be_bytes(random)));
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    match written {
        Ok(()) => Ok(temporary),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(unwritten(path, &error))
        }
    }
}

fn finish(path: &Path, temporary: &Path, renamed: std::io::Result<()>) -> Result<(), Failure> {
    if let Err(error) = renamed {
        let _ = fs::remove_file(temporary);
        return Err(unwritten(path, &error));
    }
    sync_dir(path.parent())
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    if error.kind() == std::io::ErrorKind::AlreadyExists {
        Failure::new(
            format!("{path} 已存在,不会覆盖;请换一个文件名。"),
            format!("{path} exists already and is not overwritten; choose another name"),
        )
    } else {
        Failure::new(
            format!("无法写入 {path};请检查目录和磁盘。"),
            format!("{path} cannot be written ({error}); look after the directory and the disk"),
        )
    }
}

/// Makes a rename in this directory last.
pub(crate) fn sync_dir(dir: Option<&Path>) -> Result<(), Failure> {
    let dir = match dir {
        Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
        Some(dir) => dir,
        None => Path::new("/"),
    };
    File::open(dir)
        .and_then(|file| file.sync_all())
        .or_fail("无法同步目录。", &format!("{} cannot be synced", dir.display()))
}

/// Makes a directory, and those above it, for their owner only.
pub(crate) fn private_dir(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .or_fail("无法创建目录。", &format!("{} cannot be made", path.display()))
}

/// Reads a whole public file.
pub(crate) fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    read_at_most(path, what, FILE_MAX)
}

/// Reads a whole public file that may be longer than most.
pub(crate) fn read_at_most(path: &Path, what: &str, max: usize) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|error| unread(path, what, &error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unread(path, what, &error.to_string()))?;
    if bytes.len() > max {
        return Err(unread(path, what, "it is too long"));
    }
    Ok(bytes)
}

/// Reads a whole public text file.
pub(crate) fn read_text(path: &Path, what: &str) -> Result<String, Failure> {
    String::from_utf8(read(path, what)?).map_err(|_| unread(path, what, "it is not UTF-8 text"))
}

/// Reads a file that holds a secret: a plain file of ours that nobody else may touch, or nothing.
pub(crate) fn read_private(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(no_follow)
        .open(path)
        .map_err(|error| unread(path, what, &error.to_string()))?;
    let about = file.metadata().map_err(|error| unread(path, what, &error.to_string()))?;
    let ours = about.uid() == rustix::process::geteuid().as_raw();
    if !about.is_file() || !ours || about.mode() & 0o077 != 0 {
        let path = path.display();
        return Err(Failure::new(
            format!("{path} 必须属于本人且权限为 0600;执行 chmod 600 后重试。"),
            format!(
                "{path} holds a secret and must be a file of yours with mode 0600; run chmod 600 on it and try again"
            ),
        ));
    }
    read_secret(file).map_err(|error| unread(path, what, &error))
}

/// Reads a secret to its end into one buffer that is never moved.
pub(crate) fn read_secret(from: impl Read) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_MAX + 1));
    from.take(SECRET_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > SECRET_MAX {
        return Err("it is too long".to_owned());
    }
    Ok(bytes)
}

fn unread(path: &Path, what: &str, why: &str) -> Failure {
    let path = path.display();
    Failure::new(
        format!("无法读取 {path};请检查路径和权限。"),
        format!("{what} {path} cannot be read ({why}); look at its path and permissions"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn new_files_are_whole_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, b"one", PRIVATE).unwrap();
        assert!(write_new(&path, b"two", PRIVATE).unwrap_err().to_string().contains("exists already"));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        replace(&path, b"three", PRIVATE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, b"abc").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(read_private(&path, "the secret").is_err(), "{mode:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_private(&path, "the secret").unwrap().as_slice(), b"abc");
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(read_private(&link, "the secret").is_err(), "a link may point anywhere");
        assert!(read_private(dir.path(), "the secret").is_err(), "a directory");
    }
}
