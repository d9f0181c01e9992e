//! Where secrets come from: the terminal without echo, a file descriptor, or a file of the owner's own; never a command
//! line, never the environment.

use std::fs::File;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretSlice};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::files;

/// A shorter passphrase than this does not protect a real key.
pub(crate) const PASSPHRASE_MIN: usize = 12;

/// Bytes of a key component.
pub(crate) const COMPONENT_LEN: usize = 16;

/// A passphrase.
#[derive(Debug)]
pub(crate) struct Passphrase(SecretSlice<u8>);

impl Passphrase {
    /// Takes the bytes up to a line end; the copy that came in is wiped by its owner.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, Failure> {
        let line = without_line_end(bytes);
        if line.is_empty() {
            return Err(Failure::new("口令为空。", "the passphrase is empty; enter one"));
        }
        // Exactly as long as needed, so that boxing it leaves no copy behind.
        let mut exact = Vec::with_capacity(line.len());
        exact.extend_from_slice(line);
        Ok(Self(SecretSlice::from(exact)))
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&[u8]) -> T) -> T {
        work(self.0.expose_secret())
    }
}

/// Where to read one secret from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    Terminal,
    Descriptor(u32),
    File(&'a Path),
}

impl<'a> Source<'a> {
    pub(crate) fn new(descriptor: Option<u32>, file: Option<&'a PathBuf>) -> Self {
        match (descriptor, file) {
            (Some(descriptor), _) => Self::Descriptor(descriptor),
            (None, Some(file)) => Self::File(file),
            (None, None) => Self::Terminal,
        }
    }

    fn read(self, question: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match self {
            Self::Terminal => rpassword::prompt_password(question)
                .map(|text| Zeroizing::new(text.into_bytes()))
                .map_err(|error| {
                    Failure::new(
                        "没有终端可供输入;请在终端上执行,或用 fd/file 选项。",
                        format!("there is no terminal to type it at ({error}); use one, or the fd or file option"),
                    )
                }),
            Self::Descriptor(number) => File::open(format!("/proc/self/fd/{number}"))
                .map_err(|error| error.to_string())
                .and_then(files::read_secret)
                .map_err(|why| {
                    Failure::new(
                        format!("无法读取文件描述符 {number}。"),
                        format!("descriptor {number} cannot be read ({why}); give a pipe or file, for example 3<FILE"),
                    )
                }),
            Self::File(path) => files::read_private(path, "the secret in"),
        }
    }

    /// A passphrase that unlocks something.
    pub(crate) fn passphrase(self, whose: &str) -> Result<Passphrase, Failure> {
        Passphrase::new(&self.read(&format!("{whose} 的口令 passphrase of {whose}: "))?)
    }

    /// A passphrase that will lock something: long enough, and at the terminal typed twice.
    pub(crate) fn new_passphrase(self, whose: &str) -> Result<Passphrase, Failure> {
        let first = self.passphrase(whose)?;
        if first.with(<[u8]>::len) < PASSPHRASE_MIN {
            return Err(Failure::new(
                format!("口令至少 {PASSPHRASE_MIN} 个字节;几个不相关的词最好。"),
                format!("a passphrase has at least {PASSPHRASE_MIN} bytes; a few unrelated words are best"),
            ));
        }
        if matches!(self, Self::Terminal) {
            let again = Passphrase::new(&self.read("再输入一次 once more: ")?)?;
            if first.with(|first| again.with(|again| first != again)) {
                return Err(Failure::new(
                    "两次输入不同;请重新开始。",
                    "the two passphrases differ; start again",
                ));
            }
        }
        Ok(first)
    }

    /// A key component: 32 hex digits, in groups if it reads better.
    pub(crate) fn component(self, whose: &str) -> Result<Component, Failure> {
        let text =
            self.read(&format!("{whose} 的分量 (32 位十六进制) component of {whose} (32 hex digits): "))?;
        Component::parse(&text).ok_or_else(|| {
            Failure::new(
                format!("{whose} 的分量不是 32 位十六进制数字;请重新读取。"),
                format!("the component of {whose} is not 32 hex digits; read it again"),
            )
        })
    }
}

/// One XOR component of a key.
pub(crate) struct Component(Zeroizing<[u8; COMPONENT_LEN]>);

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Component(..)")
    }
}

impl Component {
    /// Reads 32 hex digits of either case; spaces and a line end do not matter.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; COMPONENT_LEN]);
        let mut digits = text.iter().filter(|byte| !byte.is_ascii_whitespace());
        for byte in bytes.iter_mut() {
            let high = char::from(*digits.next()?).to_digit(16)?;
            let low = char::from(*digits.next()?).to_digit(16)?;
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        digits.next().is_none().then_some(Self(bytes))
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&[u8; COMPONENT_LEN]) -> T) -> T {
        work(&self.0)
    }
}

fn without_line_end(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_passphrase_file_of_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        fs::write(&path, "correct horse battery\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Source::File(&path).passphrase("li").is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let passphrase = Source::File(&path).new_passphrase("li").unwrap();
        assert!(passphrase.with(|bytes| bytes == b"correct horse battery"));
        assert!(!format!("{passphrase:?}").contains("horse"));
    }

    #[test]
    fn a_descriptor_gives_the_secret_and_a_closed_one_says_so() {
        use std::os::fd::AsRawFd;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("component");
        fs::write(&path, "000102030405060708090a0b0c0d0e0f\n").unwrap();
        let open = File::open(&path).unwrap();
        let number = u32::try_from(open.as_raw_fd()).unwrap();
        let component = Source::Descriptor(number).component("zhou").unwrap();
        assert!(component.with(|bytes| bytes.iter().copied().eq(0..16)));
        let failure = Source::Descriptor(1_000_000).component("zhou").unwrap_err().to_string();
        assert!(failure.contains("descriptor 1000000"), "{failure}");
    }

    #[test]
    fn short_and_empty_passphrases_lock_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        for text in ["", "\n", "elevenbytes\n"] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(Source::File(&path).new_passphrase("li").is_err(), "{text:?}");
        }
    }

    #[test]
    fn components_are_exactly_thirty_two_digits() {
        let good = Component::parse(b"000102030405 0607 08090a0B0c0d0e0f\n").unwrap();
        assert!(good.with(|bytes| bytes.iter().copied().eq(0..16)));
        assert_eq!(format!("{good:?}"), "Component(..)");
        for bad in [
            "",
            "00",
            "000102030405060708090a0b0c0d0e0",
            "000102030405060708090a0b0c0d0e0f0",
            "g00102030405060708090a0b0c0d0e0f",
        ] {
            assert!(Component::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
