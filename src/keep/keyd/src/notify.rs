//! Word to the process that started keyd and waits for it (systemd: `Type=notify`, `WatchdogSec=`).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// Where word goes; nowhere if nobody waits for it.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The waiting process of the environment, if there is one.
    pub fn from_environment() -> Result<Self> {
        let Ok(address) = std::env::var("NOTIFY_SOCKET") else {
            return Ok(Self::default());
        };
        let connect = || {
            let address = match address.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(&address)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            // A starter that is slow must not hold keyd up.
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(socket)
        };
        let socket = connect().with_context(|| {
            format!("NOTIFY_SOCKET names {address}, which takes no word; start keyd by its unit")
        })?;
        let word = |name| std::env::var(name).ok();
        let ours = word("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let micros =
            word("WATCHDOG_USEC").and_then(|micros| micros.parse().ok()).filter(|micros| *micros > 0);
        Ok(Self {
            socket: Some(Arc::new(socket)),
            watchdog: micros.filter(|_| ours).map(Duration::from_micros),
        })
    }

    /// keyd runs: its files are good. Whether it serves yet is what [`Notifier::status`] says.
    pub(crate) fn ready(&self) {
        self.send("READY=1");
    }

    /// What keyd does or waits for, as one line for `systemctl status`.
    pub(crate) fn status(&self, line: &str) {
        self.send(&format!("STATUS={line}"));
    }

    /// keyd reads its files again; [`Notifier::ready`] follows.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// keyd stops in an orderly way.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Gives signs of life until dropped, if they are asked for. They come from the runtime that serves clients: when
    /// that hangs, they stop.
    pub(crate) async fn signs_of_life(&self) -> std::convert::Infallible {
        let Some(period) = self.watchdog else { return std::future::pending().await };
        let mut ticks = tokio::time::interval(period / 3);
        loop {
            ticks.tick().await;
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, words: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(words.as_bytes());
        }
    }
}
