//! Listeners that whoever started keyd has opened for it (systemd's socket activation).

use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Result, bail};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, sockopt};

/// What was handed over.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Handed {
    /// `FileDescriptorName=https`: where clients come.
    pub https: Option<TcpListener>,
}

impl Handed {
    /// Takes what is meant for this process. To be called once, before anything is opened.
    pub fn from_environment() -> Result<Self> {
        let mut handed = Self::default();
        for (name, fd) in sd_listen_fds::get()? {
            let fd = fd.into_std();
            fcntl_setfd(fd.as_fd(), FdFlags::CLOEXEC)?;
            match name.as_deref() {
                Some("https") if handed.https.is_none() => handed.https = Some(tcp(fd)?),
                Some("https") => {
                    bail!("two sockets https are handed over; give the socket unit one ListenStream=")
                }
                other => bail!(
                    "a socket with the name {other:?} is handed over; keyd takes https (FileDescriptorName= in the socket unit)"
                ),
            }
        }
        Ok(handed)
    }
}

fn tcp(fd: OwnedFd) -> Result<TcpListener> {
    let family = sockopt::socket_domain(&fd)?;
    let is_tcp = [AddressFamily::INET, AddressFamily::INET6].contains(&family)
        && sockopt::socket_type(&fd)? == SocketType::STREAM
        && sockopt::socket_acceptconn(&fd)?;
    if !is_tcp {
        bail!(
            "the handed-over socket https is no listening TCP socket; see ListenStream= in the socket unit"
        );
    }
    let listener = TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}
