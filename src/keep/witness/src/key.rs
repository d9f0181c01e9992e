//! The witness's one key: a file that only its owner may read (SPEC.md §Key file).

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::SigningKey;
use translog::cosign::cosign;
use translog::note::{Checkpoint, WitnessKey};
use zeroize::{Zeroize as _, Zeroizing};

const PREFIX: &str = "PRIVATE+KEY+";

/// Signature type of a cosignature, c2sp.org/signed-note.
const COSIGNATURE: u8 = 4;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file can't be made, read or written.
    #[error("the key file {path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is one.
    #[error("{path} is there already; a witness has one key for its life, and a new one starts with a new file / 密钥文件已存在", path = .0.display())]
    Exists(PathBuf),
    /// Others may read it.
    #[error("others may read the key file {path}; run chmod 600 on it, and make a new key if somebody may have / 密钥文件权限过宽", path = .0.display())]
    Open(PathBuf),
    /// Not what [`Signer::create`] writes.
    #[error("{path} is no witness key; make one with citykeep-witness key --new FILE --name NAME / 不是见证密钥文件", path = .0.display())]
    Malformed(PathBuf),
    /// Not a name for signature lines.
    #[error(
        "a witness's name has 1 to 255 bytes, no white space and no +; a name like witness.auditor.example/1 is good / 见证名称无效"
    )]
    Name,
    /// No random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// A witness's name and key.
pub struct Signer {
    key: SigningKey,
    public: WitnessKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public", &self.public.to_string()).finish_non_exhaustive()
    }
}

impl Signer {
    /// A new key in a new file.
    pub fn create(path: &Path, name: &str) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(KeyError::Random)?;
        let signer = Self::new(name, &seed)?;
        let at = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
            _ => KeyError::Io { path: path.to_owned(), error },
        };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at)?;
        file.write_all(signer.to_line(&seed).as_bytes()).and_then(|()| file.sync_all()).map_err(at)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(at)?;
        Ok(signer)
    }

    /// The key of a file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let at = |error| KeyError::Io { path: path.to_owned(), error };
        if fs::metadata(path).map_err(at)?.mode() & 0o077 != 0 {
            return Err(KeyError::Open(path.to_owned()));
        }
        let line = Zeroizing::new(fs::read_to_string(path).map_err(at)?);
        Self::parse(&line).ok_or_else(|| KeyError::Malformed(path.to_owned()))
    }

    fn new(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let public = WitnessKey::new(name, key.verifying_key().to_bytes());
        let sound = name.len() <= 255 && WitnessKey::parse(&public.to_string()).is_ok();
        if sound { Ok(Self { key, public }) } else { Err(KeyError::Name) }
    }

    fn to_line(&self, seed: &[u8; 32]) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([COSIGNATURE; 33]);
        bytes.iter_mut().skip(1).zip(seed).for_each(|(to, from)| *to = *from);
        let secret = Zeroizing::new(Base64::encode_string(bytes.as_slice()));
        let public = self.public.to_string();
        // Base64 may have a + of its own; names and ids have none.
        let mut parts = public.splitn(3, '+');
        let (name, id) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        Zeroizing::new(format!("{PREFIX}{name}+{id}+{}\n", secret.as_str()))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.strip_suffix('\n')?.strip_prefix(PREFIX)?.splitn(3, '+');
        let (name, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let mut bytes = Base64::decode_vec(secret).ok()?;
        let signer = match bytes.split_first() {
            Some((&COSIGNATURE, seed)) => Self::new(name, seed.try_into().ok()?).ok(),
            _ => None,
        };
        bytes.zeroize();
        signer.filter(|signer| signer.public.to_string().starts_with(&format!("{name}+{id}+")))
    }

    /// The public half, as it stands in policies.
    pub fn public(&self) -> &WitnessKey {
        &self.public
    }

    /// The signature line for this head at this time (Unix seconds).
    pub fn cosign(&self, head: &Checkpoint, time: u64) -> String {
        cosign(head, self.public.name(), &self.key, time)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again_by_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witness.key");
        // Half of all public keys have a + in base64: no key is lost for that.
        for number in 0..32 {
            let path = dir.path().join(number.to_string());
            let made = Signer::create(&path, "w.example/1").unwrap();
            assert_eq!(Signer::load(&path).unwrap().public(), made.public());
        }
        let made = Signer::create(&path, "w.example/1").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Signer::load(&path).unwrap().public(), made.public());
        assert!(
            !format!("{made:?}").contains(fs::read_to_string(&path).unwrap().rsplit('+').next().unwrap())
        );
        assert!(matches!(Signer::create(&path, "w.example/1"), Err(KeyError::Exists(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Signer::load(&path), Err(KeyError::Open(_))));
        assert!(matches!(Signer::load(&dir.path().join("none")), Err(KeyError::Io { .. })));
    }

    #[test]
    fn what_is_no_key_or_no_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "a b", "a+b", "a\n", &"a".repeat(256)] {
            assert!(matches!(Signer::create(&dir.path().join("x"), name), Err(KeyError::Name)), "{name}");
        }
        let good = "PRIVATE+KEY+witness.example/w1+20324abe+BCAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/\n";
        assert_eq!(
            Signer::parse(good).unwrap().public().to_string(),
            "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"
        );
        for bad in [
            good.replace("20324abe", "20324abf"),
            good.replace("w1", "w2"),
            good.replace("BCAh", "ASAh"),
            good.replace("PRIVATE+", ""),
            good.trim_end().to_owned(),
            good.replace("PT4/", ""),
        ] {
            assert!(Signer::parse(&bad).is_none(), "{bad}");
        }
    }
}
