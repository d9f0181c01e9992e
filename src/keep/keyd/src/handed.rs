//! Listeners that whoever started keyd has opened for it (systemd's socket activation).

use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::{Result, bail};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::metrics::Listener;

/// What was handed over.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Handed {
    /// `FileDescriptorName=https`: where clients come.
    pub https: Option<TcpListener>,
    /// `FileDescriptorName=metrics`: where Prometheus asks.
    pub(crate) metrics: Option<Listener>,
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
                Some("metrics") if handed.metrics.is_none() => handed.metrics = Some(metrics(fd)?),
                Some(twice @ ("https" | "metrics")) => {
                    bail!("two sockets {twice} are handed over; give the socket unit one ListenStream=")
                }
                other => bail!(
                    "a socket with the name {other:?} is handed over; keyd takes https and metrics (FileDescriptorName= in the socket unit)"
                ),
            }
        }
        Ok(handed)
    }
}

/// A Unix socket, or one on a loopback address.
fn metrics(fd: OwnedFd) -> Result<Listener> {
    if sockopt::socket_domain(&fd)? != AddressFamily::UNIX {
        return Listener::of_tcp(tcp(fd)?);
    }
    if sockopt::socket_type(&fd)? != SocketType::STREAM || !sockopt::socket_acceptconn(&fd)? {
        bail!("the handed-over socket metrics is no listening stream; see ListenStream= in the socket unit");
    }
    Ok(Listener::Unix(UnixListener::from(fd)))
}

fn tcp(fd: OwnedFd) -> Result<TcpListener> {
    let family = sockopt::socket_domain(&fd)?;
    let is_tcp = [AddressFamily::INET, AddressFamily::INET6].contains(&family)
        && sockopt::socket_type(&fd)? == SocketType::STREAM
        && sockopt::socket_acceptconn(&fd)?;
    if !is_tcp {
        bail!("a handed-over socket is no listening TCP socket; see ListenStream= in the socket unit");
    }
    let listener = TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}
