//! Where a rehearsal keeps its things. What is being made lies beside, and takes its place in one step when it exists.

use std::fs;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use crate::failure::{Failure, OrFail};
use crate::files;

/// The state directory of a rehearsal.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    dir: PathBuf,
}

impl Place {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(crate) fn transcript(&self) -> PathBuf {
        self.dir.join("transcript.txt")
    }

    pub(crate) fn receipt(&self) -> PathBuf {
        self.dir.join("out/receipt.json")
    }

    /// The finished ceremony.
    pub(crate) fn ceremony(&self) -> Room {
        Room(self.dir.join("ceremony"))
    }

    /// The ceremony whose instance does not exist yet.
    pub(crate) fn pending(&self) -> Room {
        Room(self.dir.join("ceremony.new"))
    }

    pub(crate) fn instance(&self) -> PathBuf {
        self.ceremony().instance()
    }

    pub(crate) fn has_instance(&self) -> bool {
        self.instance().exists()
    }

    /// Whether an interrupted genesis got as far as the last share.
    pub(crate) fn all_shares(&self, custodians: &[String]) -> bool {
        let pending = self.pending();
        custodians.iter().all(|name| pending.share(name).exists())
    }

    /// Makes room for a new genesis. An interrupted one without all its shares is worth nothing and goes; one that has
    /// them all is put aside, since shares are never thrown away on a guess.
    pub(crate) fn clear_pending(&self, custodians: &[String]) -> Result<(), Failure> {
        let pending = self.pending().0;
        if !pending.exists() {
            return Ok(());
        }
        let cleared = if self.all_shares(custodians) {
            let seconds = OffsetDateTime::now_utc().unix_timestamp();
            fs::rename(&pending, self.dir.join(format!("ceremony.abandoned-{seconds}")))
        } else {
            fs::remove_dir_all(&pending)
        };
        cleared.or_fail(
            "无法清除未完成的仪式。",
            &format!("{} of an interrupted genesis cannot be put away", pending.display()),
        )
    }

    /// The instance exists: what was pending is the ceremony from here on.
    pub(crate) fn settle(&self) -> Result<(), Failure> {
        let (from, to) = (self.pending().0, self.ceremony().0);
        fs::rename(&from, &to).or_fail(
            "无法保存仪式资料;请检查磁盘,不要删除 ceremony.new。",
            &format!("{} cannot become {}; look after the disk, and keep it", from.display(), to.display()),
        )?;
        files::sync_dir(Some(&self.dir))
    }
}

/// The directory of one ceremony.
#[derive(Clone, Debug)]
pub(crate) struct Room(PathBuf);

impl Room {
    /// Makes the directory and those inside it.
    pub(crate) fn make(&self) -> Result<(), Failure> {
        for part in ["officers", "custodians", "shares"] {
            files::private_dir(&self.0.join(part))?;
        }
        files::sync_dir(Some(&self.0))?;
        files::sync_dir(self.0.parent())
    }

    pub(crate) fn officer(&self, name: &str) -> PathBuf {
        self.0.join("officers").join(format!("{name}.key"))
    }

    pub(crate) fn custodian(&self, name: &str) -> PathBuf {
        self.0.join("custodians").join(format!("{name}.key"))
    }

    pub(crate) fn share(&self, name: &str) -> PathBuf {
        self.0.join("shares").join(format!("{name}.share"))
    }

    pub(crate) fn passphrases(&self) -> PathBuf {
        self.0.join("passphrases")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.0.join("certificate.cbor")
    }

    /// The signed genesis command.
    pub(crate) fn genesis(&self) -> PathBuf {
        self.0.join("genesis.cmd")
    }

    pub(crate) fn instance(&self) -> PathBuf {
        self.0.join("instance.json")
    }
}
