//! The process that started us and waits for word (systemd: `Type=notify`, `WatchdogSec=`).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::module::Module;

/// How often the state is looked at. A watchdog asks for a sign of life less often than twice of it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where word goes. Open before the sandbox: afterwards nothing connects any more.
#[derive(Debug)]
pub(crate) struct Supervisor {
    socket: UnixDatagram,
    watched: bool,
}

impl Supervisor {
    /// The supervisor of the environment, if there is one.
    pub(crate) fn from_environment() -> std::io::Result<Option<Self>> {
        let Ok(address) = std::env::var("NOTIFY_SOCKET") else {
            return Ok(None);
        };
        let address = match address.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        let watched = std::env::var("WATCHDOG_USEC").is_ok_and(|micros| micros != "0")
            && std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        Ok(Some(Self { socket, watched }))
    }

    /// Never ends. Says that the module is ready, then each new state. Every look takes the module's lock, so a module
    /// that hangs gives no sign of life.
    pub(crate) fn report(&self, module: &Module) -> ! {
        let mut said = None;
        loop {
            let state = module.status().state;
            let mut words = Vec::new();
            if said.is_none() {
                words.push("READY=1".to_owned());
            }
            if said != Some(state) {
                words.push(format!("STATUS=the module is {state}"));
            }
            if self.watched {
                words.push("WATCHDOG=1".to_owned());
            }
            // A supervisor that is away for a moment hears the state the next time.
            if words.is_empty() || self.socket.send(words.join("\n").as_bytes()).is_ok() {
                said = Some(state);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
