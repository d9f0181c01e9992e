//! A plain root without systemd: what the units say is done by hand, as far as it can be (user, group, sockets, credential,
//! directories, limits, umask, word on the notify socket). Name spaces and filters are not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::root::Root;
use super::unit::{Unit, called};
use super::{ENVIRONMENT, System};

const PATIENCE: Duration = Duration::from_secs(40);
const UNITS: &str = "usr/lib/systemd/system";

/// The root and what runs in it.
#[derive(Debug)]
pub(super) struct Started {
    root: Root,
    /// Holds the name space in which the root has its /proc; it goes with this process.
    holder: Child,
    sockets: BTreeMap<String, (String, OwnedFd)>,
    port: u16,
    services: BTreeMap<String, Service>,
    traces: BTreeMap<String, Vec<PathBuf>>,
}

#[derive(Debug)]
struct Service {
    strace: Child,
    word: UnixDatagram,
}

impl Started {
    pub(super) fn new(base: &Path) -> Result<Self> {
        let root = Root::unpack(base)?;
        let proc = root.path.join("proc");
        let script = "mount -t proc proc \"$0\" && echo mounted && exec sleep infinity";
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation=private", "--kill-child", "--fork", "sh", "-c", script])
            .arg(&proc)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare cannot be started")?;
        let mut line = String::new();
        let out = holder.stdout.take().context("unshare has no output")?;
        BufReader::new(out).read_line(&mut line)?;
        let (sockets, services, traces) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let system = Self { root, holder, sockets, port: 0, services, traces };
        if line.trim() != "mounted" {
            bail!("the root gets no /proc");
        }
        Ok(system)
    }

    fn unit(&self, name: &str) -> Result<Unit> {
        Unit::read(&self.root.path.join(UNITS).join(name))
    }

    /// Opens the sockets of a service that are not open yet.
    fn open(&mut self, unit: &Unit) -> Result<Vec<(String, OwnedFd)>> {
        let mut handed = Vec::new();
        for name in unit.all("Sockets").join(" ").split_whitespace() {
            if !self.sockets.contains_key(name) {
                let socket = self.unit(name)?;
                let fd = self.listen(&socket)?;
                self.sockets.insert(name.to_owned(), (socket.one("FileDescriptorName")?.to_owned(), fd));
            }
            let (called, fd) = self.sockets.get(name).context("the socket was opened")?;
            // Inherited, and with a number that the shell does not use.
            let fd = rustix::io::fcntl_dupfd_cloexec(fd, 50)?;
            rustix::io::fcntl_setfd(fd.as_fd(), rustix::io::FdFlags::empty())?;
            handed.push((called.clone(), fd));
        }
        Ok(handed)
    }

    fn listen(&mut self, socket: &Unit) -> Result<OwnedFd> {
        let place = socket.one("ListenStream")?;
        let Some(path) = place.strip_prefix('/') else {
            // Not the unit's port: the root shares the machine's network.
            let listener = TcpListener::bind("127.0.0.1:0")?;
            self.port = listener.local_addr()?.port();
            return Ok(listener.into());
        };
        let path = self.root.path.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let (user, group) = (socket.one("SocketUser")?, socket.one("SocketGroup")?);
        chown(&path, Some(self.root.id("passwd", user)?), Some(self.root.id("group", group)?))?;
        let mode = u32::from_str_radix(socket.one("SocketMode")?, 8)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(listener.into())
    }

    fn launch(&mut self, name: &str) -> Result<()> {
        let file = format!("{name}.service");
        let unit = self.unit(&file)?;
        let (user, group) = (unit.one("User")?, unit.one("Group")?);
        let (uid, gid) = (self.root.id("passwd", user)?, self.root.id("group", group)?);
        let credentials = format!("/run/credentials/{file}");
        self.credentials(&unit, &credentials, uid)?;
        for directory in unit.all("StateDirectory") {
            let path = self.root.path.join("var/lib").join(directory);
            fs::create_dir_all(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(0o700))?;
            chown(&path, Some(uid), Some(gid))?;
        }
        let (word, notify) = self.notify(name)?;
        let handed = self.open(&unit)?;
        let names: Vec<&str> = handed.iter().map(|(name, _)| name.as_str()).collect();
        let moves: Vec<String> = handed
            .iter()
            .enumerate()
            .map(|(at, (_, fd))| format!("exec {}<&{} {}<&-;", at + 3, fd.as_raw_fd(), fd.as_raw_fd()))
            .collect();
        let script = format!(
            "{} exec {} LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={} NOTIFY_SOCKET={notify} WATCHDOG_USEC=30000000 {} \
             setpriv --reuid={uid} --regid={gid} --init-groups --no-new-privs --inh-caps=-all --bounding-set=-all \
             sh -c 'umask {} && exec \"$@\"' sh {}",
            moves.join(" "),
            self.prefix().join(" "),
            names.len(),
            names.join(":"),
            limits(&unit)?,
            unit.one("UMask")?,
            unit.one("ExecStart")?.replace("%d", &credentials),
        );
        let traces = self.traces.entry(name.to_owned()).or_default();
        let trace = self.root.path.join(format!("{name}.trace.{}", traces.len()));
        traces.push(trace.clone());
        let log =
            fs::File::options().create(true).append(true).open(self.root.path.join(format!("{name}.log")))?;
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "--signal=none", "--output"]).arg(&trace).args(["bash", "-c", &script]);
        let strace =
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("strace")?;
        self.services.insert(name.to_owned(), Service { strace, word });
        Ok(())
    }

    /// A private copy for the service, as systemd makes one.
    fn credentials(&self, unit: &Unit, place: &str, uid: u32) -> Result<()> {
        for credential in unit.all("LoadCredential") {
            let (name, from) = credential.split_once(':').context("LoadCredential=")?;
            let folder = self.root.path.join(place.trim_start_matches('/'));
            fs::create_dir_all(&folder)?;
            let copy = folder.join(name);
            let _ = fs::remove_file(&copy);
            fs::copy(self.root.path.join(from.trim_start_matches('/')), &copy)?;
            fs::set_permissions(&copy, Permissions::from_mode(0o400))?;
            chown(&copy, Some(uid), None)?;
        }
        Ok(())
    }

    fn notify(&self, name: &str) -> Result<(UnixDatagram, String)> {
        let notify = format!("/run/notify-{name}");
        let path = self.root.path.join(notify.trim_start_matches('/'));
        let _ = fs::remove_file(&path);
        let word = UnixDatagram::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o777))?;
        word.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok((word, notify))
    }

    /// Waits until a service has said that it is ready, and this of its state.
    fn wait(&mut self, name: &str, words: &str) -> Result<()> {
        let log = self.root.path.join(format!("{name}.log"));
        let service = self.services.get_mut(name).context("it was started")?;
        let until = Instant::now() + PATIENCE;
        let mut heard = String::new();
        while Instant::now() < until && service.strace.try_wait()?.is_none() {
            let mut bytes = [0; 4096];
            if let Ok(len) = service.word.recv(&mut bytes) {
                heard.push_str(&String::from_utf8_lossy(bytes.get(..len).unwrap_or_default()));
                heard.push('\n');
            }
            if heard.lines().any(|line| line.starts_with("STATUS=") && line.contains(words)) {
                return Ok(());
            }
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        bail!("{name} does not say {words:?}; it said {heard:?}\n{said}");
    }

    /// Sends a signal and waits for the end.
    fn end(&mut self, name: &str, signal: Option<Signal>) -> Result<()> {
        let Some(mut service) = self.services.remove(name) else { return Ok(()) };
        if let (Some(signal), Ok(process)) = (signal, process(&service)) {
            kill_process(Pid::from_raw(i32::try_from(process)?).context("a process id")?, signal)?;
        }
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if service.strace.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = service.strace.kill();
        bail!("{name} does not end")
    }

    /// What a service called, held against its unit's list. The list with one call less must be found too short, or this
    /// would show nothing.
    pub(super) fn coverage(&self, name: &str) -> Result<String> {
        let unit = Unit::read(&crate::cargo::root().join("systemd").join(format!("{name}.service")))?;
        let mut calls = BTreeSet::new();
        for trace in self.traces.get(name).context("no trace")? {
            calls.extend(called(&String::from_utf8_lossy(&fs::read(trace)?), &format!("/usr/bin/{name}")));
        }
        let allowed = unit.system_calls()?;
        let missing = |allowed: &BTreeSet<String>| calls.difference(allowed).cloned().collect::<Vec<_>>();
        let found = missing(&allowed);
        if !found.is_empty() {
            bail!("{name} calls what its unit forbids: {}", found.join(" "));
        }
        let mut shorter = allowed.clone();
        shorter.remove("accept4");
        if missing(&shorter) != ["accept4"] {
            bail!("{name}: a list without accept4 was not found too short");
        }
        Ok(format!("{name}: {} system calls, all among the {} of its unit", calls.len(), allowed.len()))
    }
}

fn process(service: &Service) -> Result<u32> {
    let strace = service.strace.id();
    let children = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children"))?;
    children.split_whitespace().next().and_then(|child| child.parse().ok()).context("it has ended")
}

/// `prlimit` with the unit's limits.
fn limits(unit: &Unit) -> Result<String> {
    let mut words = vec!["prlimit".to_owned()];
    for (key, name) in [("LimitMEMLOCK", "memlock"), ("LimitCORE", "core"), ("LimitNOFILE", "nofile")] {
        if let Some(value) = unit.all(key).last() {
            let (digits, unit) = value.strip_suffix('M').map_or((*value, 1), |digits| (digits, 1 << 20));
            let value: u64 = digits.parse::<u64>()? * unit;
            words.push(format!("--{name}={value}:{value}"));
        }
    }
    Ok(words.join(" "))
}

impl System for Started {
    fn prefix(&self) -> Vec<String> {
        // The holder's child is the one inside the name space.
        let holder = self.holder.id();
        let children =
            fs::read_to_string(format!("/proc/{holder}/task/{holder}/children")).unwrap_or_default();
        let inside = children.split_whitespace().next().unwrap_or_default().to_owned();
        let root = self.root.path.display().to_string();
        let words = ["nsenter", "--target", inside.as_str(), "--mount", "--", "chroot", root.as_str()];
        words.iter().chain(ENVIRONMENT).map(|word| (*word).to_owned()).collect()
    }

    fn root(&self) -> &Path {
        &self.root.path
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn start(&mut self) -> Result<()> {
        self.launch("citykeep-hsm")?;
        self.wait("citykeep-hsm", "uninitialised")?;
        self.launch("citykeep-keyd")?;
        self.wait("citykeep-keyd", "genesis")
    }

    fn lose_module(&mut self) -> Result<()> {
        self.end("citykeep-hsm", Some(Signal::KILL))?;
        self.end("citykeep-keyd", None)?;
        self.launch("citykeep-hsm")?;
        self.wait("citykeep-hsm", "uninitialised")?;
        self.launch("citykeep-keyd")?;
        self.wait("citykeep-keyd", "shares")
    }

    fn upgraded(&mut self) -> Result<()> {
        self.end("citykeep-keyd", Some(Signal::TERM))?;
        self.launch("citykeep-keyd")?;
        self.wait("citykeep-keyd", "serves")
    }

    fn remove(&mut self) -> Result<()> {
        self.end("citykeep-keyd", Some(Signal::TERM))?;
        self.end("citykeep-hsm", Some(Signal::TERM))?;
        self.run(&["dpkg", "--remove", "citykeep"]).map(|_| ())
    }

    fn has_systemd(&self) -> bool {
        false
    }

    fn process(&self, service: &str) -> Result<u32> {
        process(self.services.get(service).context("it was started")?)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for name in ["citykeep-keyd", "citykeep-hsm"] {
            let _ = self.end(name, Some(Signal::KILL));
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
