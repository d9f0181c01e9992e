use std::error::Error;
use std::fmt;
use std::io;

/// Secret memory, or a thread on it, cannot be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum MemoryError {
    /// The memory exists but may not be locked; almost always the memory-lock limit.
    Lock {
        /// Size of the region, in bytes.
        bytes: usize,
        /// The limit in force; `None` is "unlimited".
        limit: Option<u64>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel gives no such mapping.
    Map {
        /// Size of the region, in bytes.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nothing was asked for, or more than an address space holds.
    Size {
        /// Size asked for, in bytes.
        bytes: usize,
    },
    /// The thread does not start.
    Thread {
        /// What the kernel or the C library said.
        source: io::Error,
    },
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock { bytes, limit, source } => {
                write!(
                    f,
                    "cannot lock {bytes} bytes of secret memory ({source}); the limit of this process is "
                )?;
                match limit {
                    Some(limit) => write!(f, "{limit} bytes")?,
                    None => write!(f, "unlimited")?,
                }
                write!(f, ": raise LimitMEMLOCK= in the unit (`ulimit -l` in a shell), or reserve less")
            }
            Self::Map { bytes, source } => {
                write!(
                    f,
                    "cannot map {bytes} bytes of secret memory ({source}): free some memory, or reserve less"
                )
            }
            Self::Size { bytes } => write!(f, "{bytes} bytes is no possible size of a secret region"),
            Self::Thread { source } => write!(
                f,
                "cannot start a thread on a secret stack ({source}): raise TasksMax= in the unit (`ulimit -u` in a shell)"
            ),
        }
    }
}

impl Error for MemoryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Lock { source, .. } | Self::Map { source, .. } | Self::Thread { source } => Some(source),
            Self::Size { .. } => None,
        }
    }
}

/// No slot was handed out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AllocError<E> {
    /// The caller's fill failed; the slot is wiped and free again.
    Fill(E),
    /// No free run is long enough.
    Full,
}

impl<E: fmt::Display> fmt::Display for AllocError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fill(error) => error.fmt(f),
            Self::Full => write!(f, "the secret arena is full"),
        }
    }
}

impl<E: Error + 'static> Error for AllocError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Fill(error) => error.source(),
            Self::Full => None,
        }
    }
}
