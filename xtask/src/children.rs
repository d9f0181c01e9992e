//! Processes that we start, watch and stop.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A daemon: what it prints on stdout is looked at for its `ready` line, what it prints on stderr goes to its log.
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; its stderr goes to `log`.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = std::fs::File::create(log).with_context(|| log.display().to_string())?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let Some(stdout) = child.stdout.take() else { bail!("{name} has no output") };
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody reads any more once the daemon is ready; it must not block on that.
                let _ = send.send(line);
            }
        });
        Ok(Self { name, child, lines, log: log.to_owned() })
    }

    /// Waits for a line that starts with `ready`.
    pub(crate) fn ready(&mut self, patience: Duration) -> Result<String> {
        loop {
            match self.lines.recv_timeout(patience) {
                Ok(line) if line.starts_with("ready") => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.failed(&format!("is not ready after {patience:?}")));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.failed("stopped")),
            }
        }
    }

    /// Fails if it has stopped.
    pub(crate) fn alive(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.failed("stopped")),
        }
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and kills it if it does not. Whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let (Some(pid), Ok(None)) = (pid, self.child.try_wait()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        for _ in 0..300 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        false
    }

    /// What happened to it, and its last words.
    fn failed(&mut self, what: &str) -> anyhow::Error {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        let words = if last.is_empty() { String::new() } else { format!(": {}", last.join("\n  ")) };
        anyhow::anyhow!("{} {what}{words}", self.name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}
