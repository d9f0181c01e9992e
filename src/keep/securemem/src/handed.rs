//! Sockets that whoever started this process has opened for it (systemd's socket activation).

use std::env;
use std::io;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketType, sockopt};

/// The first descriptor that can be handed over; the protocol fixes it.
const FIRST: RawFd = 3;

/// More than any of our programs takes.
const SOCKETS_MAX: RawFd = 16;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the handed-over sockets with their names (`FileDescriptorName=` of the socket unit). None if there are none or
/// if they were meant for another process. Only the first call gets them, and it must come before the process opens
/// anything: until then the descriptors are nobody else's.
///
/// Each is a Unix stream socket that listens, blocks, and is not inherited by programs that we start; anything else is
/// an error, so that a wrong unit file is found at start.
pub fn unix_listeners() -> io::Result<Vec<(String, UnixListener)>> {
    let word = |name| env::var(name).unwrap_or_default();
    let Some(count) = count(&word("LISTEN_PID"), &word("LISTEN_FDS"), std::process::id())? else {
        return Ok(Vec::new());
    };
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::other("the handed-over sockets are taken already"));
    }
    let names = word("LISTEN_FDNAMES");
    let names: Vec<&str> = names.split(':').collect();
    if usize::try_from(count) != Ok(names.len()) {
        return Err(io::Error::other(
            "the handed-over sockets have no names; set FileDescriptorName= in their units",
        ));
    }
    names
        .into_iter()
        .zip(FIRST..FIRST + count)
        .map(|(name, fd)| Ok((name.to_owned(), take(fd, name)?)))
        .collect()
}

/// How many there are for us.
fn count(pid: &str, fds: &str, own: u32) -> io::Result<Option<RawFd>> {
    if pid.is_empty() || pid.parse() != Ok(own) {
        return Ok(None);
    }
    match fds.parse() {
        Ok(count @ 1..=SOCKETS_MAX) => Ok(Some(count)),
        Ok(0) => Ok(None),
        _ => Err(io::Error::other("LISTEN_FDS is no number of sockets that we could take")),
    }
}

fn take(fd: RawFd, name: &str) -> io::Result<UnixListener> {
    // SAFETY: `fcntl` with F_GETFD looks at a number and changes nothing, whether it is open or not.
    // JUSTIFICATION: a number from the environment is no descriptor yet, and there is no safe way to ask.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::other(format!("the socket {name} is named but not handed over")));
    }
    // SAFETY: the descriptor is open (asked above); it was opened for this process by its starter, is taken once
    // (`TAKEN`), and nobody else in the process knows its number.
    // JUSTIFICATION: the protocol hands descriptors over as numbers.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    let is_ours = |fd: &OwnedFd| -> rustix::io::Result<bool> {
        Ok(sockopt::socket_domain(fd)? == AddressFamily::UNIX
            && sockopt::socket_type(fd)? == SocketType::STREAM
            && sockopt::socket_acceptconn(fd)?)
    };
    if !is_ours(&owned).unwrap_or(false) {
        return Err(io::Error::other(format!(
            "{name} is no listening Unix stream socket; see ListenStream= in its unit"
        )));
    }
    rustix::io::fcntl_setfd(owned.as_fd(), FdFlags::CLOEXEC)?;
    let listener = UnixListener::from(owned);
    listener.set_nonblocking(false)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_us_counts() {
        assert_eq!(count("7", "2", 7).unwrap(), Some(2));
        for (pid, fds) in [("", ""), ("8", "2"), ("", "2"), ("7 ", "2"), ("7", "0")] {
            assert_eq!(count(pid, fds, 7).unwrap(), None, "{pid:?} {fds:?}");
        }
        for fds in ["", "-1", "17", "2147483647", "x"] {
            assert!(count("7", fds, 7).is_err(), "{fds:?}");
        }
    }
}
