//! The other end of a Unix socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Who connected, as the kernel saw it at that moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Credentials {
    /// Process id; 0 if the peer lives in a pid namespace that is invisible from here. It may have been reused since.
    pub pid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// Reads `SO_PEERCRED`.
pub fn credentials(stream: &UnixStream) -> io::Result<Credentials> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = libc::socklen_t::try_from(size_of_val(&peer)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed; the kernel writes at most `len` bytes to
    // `peer`, a plain C struct for which any bytes are valid, and the length to `len`.
    // JUSTIFICATION: the standard library's reader is unstable, and rustix reads the pid into a type that must not be
    // zero, though the kernel says zero for a peer in a foreign pid namespace.
    let code = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    if len as usize != size_of_val(&peer) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Credentials { pid: peer.pid.try_into().unwrap_or(0), uid: peer.uid, gid: peer.gid })
}

/// Most groups that a peer may be in; one with more is in none.
const GROUPS_MAX: usize = 1024;

/// Whether the peer was in one of these groups when it connected, by its own group or by a further one.
pub fn is_in_group(stream: &UnixStream, groups: &[u32]) -> io::Result<bool> {
    if groups.is_empty() {
        return Ok(false);
    }
    if groups.contains(&credentials(stream)?.gid) {
        return Ok(true);
    }
    let mut further = vec![u32::MAX; GROUPS_MAX];
    let mut len = libc::socklen_t::try_from(size_of_val(further.as_slice())).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed; the kernel writes at most `len` bytes of group
    // ids, plain numbers, to `further`, and the length to `len`.
    // JUSTIFICATION: neither the standard library nor rustix reads SO_PEERGROUPS.
    let code = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            further.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    further.truncate(len as usize / size_of::<u32>());
    Ok(further.iter().any(|group| groups.contains(group)))
}

/// Waits until a read would not block (data, end of stream or error): `true`; after `timeout`: `false`.
pub fn wait_readable(fd: impl AsFd, timeout: Duration) -> io::Result<bool> {
    wait(fd, PollFlags::IN, timeout)
}

/// Waits until a write would not block (room or error): `true`; after `timeout`: `false`.
pub fn wait_writable(fd: impl AsFd, timeout: Duration) -> io::Result<bool> {
    wait(fd, PollFlags::OUT, timeout)
}

fn wait(fd: impl AsFd, events: PollFlags, timeout: Duration) -> io::Result<bool> {
    // A moment that the clock cannot express never comes.
    let deadline = Instant::now().checked_add(timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(&fd, events)], left.as_ref()) {
            // A signal came; wait for what is left.
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(ready) => return Ok(ready > 0),
        }
    }
}
