//! A house in a temporary directory: module, keyd, rehearsal, clients.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use wire::cbor::Cbor;

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A file of `tests/fixtures/day1`.
pub fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/day1").join(name)
}

/// A program of ours.
pub fn program(name: &str) -> Command {
    let folder =
        std::env::var_os("CITYKEEP_BIN").map_or_else(|| root().join("target/release"), PathBuf::from);
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built: run cargo xtask test", path.display());
    Command::new(path)
}

/// A program's end: success, and what it said.
#[derive(Debug)]
pub struct Said {
    /// Exit code 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs to the end.
pub fn run(command: &mut Command) -> Said {
    command.stdin(Stdio::null()).output().unwrap().into()
}

/// Runs to the end and insists on success.
pub fn must(command: &mut Command) -> String {
    let said = run(command);
    assert!(said.ok, "{command:?}\n{}\n{}", said.out, said.err);
    said.out
}

/// A daemon that is killed when it goes out of scope.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    lines: Receiver<String>,
    errors: PathBuf,
}

impl Daemon {
    /// Starts it; stderr goes to a file.
    pub fn start(command: &mut Command, errors: &Path) -> Self {
        let file = fs::OpenOptions::new().create(true).append(true).open(errors).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Self { child, lines, errors: errors.to_owned() }
    }

    /// The line that starts with `ready`.
    pub fn ready(&self) -> String {
        self.try_ready(Duration::from_secs(40)).unwrap_or_else(|| panic!("not ready: {}", self.said()))
    }

    /// Where a ready keyd answers: its certificate is for the name, not for the address.
    pub fn url(&self) -> String {
        self.ready().trim_start_matches("ready ").replace("127.0.0.1", "localhost")
    }

    /// The same, if it comes in time.
    pub fn try_ready(&self, patience: Duration) -> Option<String> {
        loop {
            match self.lines.recv_timeout(patience) {
                Ok(line) if line.starts_with("ready") => return Some(line),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// What it wrote to stderr so far.
    pub fn said(&self) -> String {
        let mut text = String::new();
        let _ = fs::File::open(&self.errors).and_then(|mut file| file.read_to_string(&mut text));
        text
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGHUP.
    pub fn reload(&self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    /// SIGTERM, then its exit.
    pub fn stop(&mut self) -> bool {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.wait(Duration::from_secs(20)).unwrap_or(false)
    }

    /// Whether it ended by itself in time, and well.
    pub fn wait(&mut self, patience: Duration) -> Option<bool> {
        let until = std::time::Instant::now() + patience;
        while std::time::Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status.success());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A state directory and what runs on it.
#[derive(Debug)]
pub struct House {
    /// Keeps the directory.
    pub dir: tempfile::TempDir,
    /// The module.
    pub hsm: Daemon,
    /// The daemon.
    pub keyd: Daemon,
    /// Where keyd listens.
    pub url: String,
}

/// Paths under a state directory.
#[derive(Clone, Debug)]
pub struct Places(pub PathBuf);

impl Places {
    /// A path.
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the folders, the identity, the certificates and keyd's configuration.
    pub fn prepare(&self) {
        use std::os::unix::fs::PermissionsExt;
        for folder in ["hsm", "keyd", "run", "out"] {
            fs::create_dir_all(self.at(folder)).unwrap();
            fs::set_permissions(self.at(folder), fs::Permissions::from_mode(0o700)).unwrap();
        }
        if !self.at("hsm/identity").exists() {
            must(program("citykeep-hsm").args(["identity", "--new"]).arg(self.at("hsm/identity")));
        }
        must(program("keyceremony").args(["pki", "--out"]).arg(self.at("pki")));
        let path = |name: &str| format!("{:?}", self.at(name).display().to_string());
        let policy = format!("{:?}", root().join("policies/rehearsal.toml").display().to_string());
        let config = format!(
            "listen = \"127.0.0.1:0\"\nstate_dir = {}\nlog_dir = {}\nhsm_socket = {}\npolicy_file = {policy}\nmetrics = {}\n[tls]\n\
             certificate = {}\nkey = {}\nclient_ca = {}\nclient_crl = {}\nserver_name = \"localhost\"\n",
            path("keyd"),
            path("log"),
            path("run/keyd.sock"),
            path("run/metrics.sock"),
            path("pki/keyd.pem"),
            path("pki/keyd.key"),
            path("pki/ca.pem"),
            path("pki/crl.pem"),
        );
        fs::write(self.at("keyd.toml"), config).unwrap();
    }

    /// The module's command line.
    pub fn hsm_command(&self) -> Command {
        let mut command = program("citykeep-hsm");
        command.arg("run").arg("--keyd-socket").arg(self.at("run/keyd.sock"));
        command
            .arg("--officers-socket")
            .arg(self.at("run/officers.sock"))
            .arg("--identity")
            .arg(self.at("hsm/identity"));
        command
    }

    /// Starts the module.
    pub fn start_hsm(&self, more: &[&str]) -> Daemon {
        let hsm = Daemon::start(self.hsm_command().args(more), &self.at("hsm.log"));
        hsm.ready();
        hsm
    }

    /// Starts keyd; it is ready when the module is in service.
    pub fn start_keyd(&self) -> Daemon {
        let mut command = program("citykeep-keyd");
        // As its unit starts it.
        command.args(["run", "--log", "json", "--config"]).arg(self.at("keyd.toml"));
        Daemon::start(&mut command, &self.at("keyd.log"))
    }

    /// The rehearsal: genesis and imports, or unseal and floor.
    pub fn rehearse(&self, keys: &Path) -> Said {
        let mut command = program("keyceremony");
        command.arg("rehearse").arg(root().join("keyceremony/scripts/settlement-day.toml"));
        command.arg("--state").arg(&self.0).arg("--officers-socket").arg(self.at("run/officers.sock"));
        command.arg("--keys").arg(keys).arg("--policy").arg(root().join("policies/rehearsal.toml"));
        if self.at("masters.json").exists() {
            command.arg("--masters").arg(self.at("masters.json")).arg("--ledger").arg(self.at("ledger.pem"));
        }
        run(command.arg("--ca").arg(self.at("pki/ca.pem")).arg("--json").arg(self.at("out/ceremony.json")))
    }

    /// `citykeep clear verify` on a day.
    pub fn clear(&self, url: &str, day: &Path) -> Command {
        let mut command = program("citykeep");
        command.args(["clear", "verify", "--json", "--url", url]).arg("--day").arg(day);
        command.arg("--ca").arg(self.at("pki/ca.pem")).arg("--cert").arg(self.at("pki/clearing.pem"));
        command.arg("--key").arg(self.at("pki/clearing.key")).arg("--vkey").arg(self.at("log/vkey"));
        command
            .arg("--verdicts")
            .arg(self.at("out/verdicts.csv"))
            .arg("--receipt")
            .arg(self.at("out/receipt.json"));
        command
    }

    /// `keyceremony`, in the state directory.
    pub fn keyceremony(&self, words: &[&str]) -> Said {
        run(program("keyceremony").args(words).current_dir(&self.0))
    }

    /// Proposes this action as officer-1, approves it as two officers, submits it.
    pub fn decide(&self, name: &str, action: &[&str]) -> Said {
        use std::io::Write as _;
        use std::os::unix::fs::PermissionsExt;
        let command = format!("{name}.cmd");
        let mut words = vec!["propose", "--instance", "ceremony/instance.json", "--proposer", "officer-1"];
        words.extend(["--officers-socket", "run/officers.sock", "--out", &command]);
        words.extend(action);
        let proposed = self.keyceremony(&words);
        if !proposed.ok {
            return proposed;
        }
        let phrases = fs::read_to_string(self.at("ceremony/passphrases")).unwrap();
        for officer in ["officer-1", "officer-2"] {
            let phrase = phrases.lines().find_map(|line| line.strip_prefix(&format!("{officer}: "))).unwrap();
            fs::write(self.at("phrase"), format!("{phrase}\n")).unwrap();
            fs::set_permissions(self.at("phrase"), fs::Permissions::from_mode(0o600)).unwrap();
            let key = format!("ceremony/officers/{officer}.key");
            let mut approve = program("keyceremony");
            let approve = approve.args(["approve", &command, "--key", &key, "--passphrase-file", "phrase"]);
            let mut child =
                approve.current_dir(&self.0).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(b"yes\n").unwrap();
            assert!(child.wait().unwrap().success(), "{officer} approves {name}");
        }
        self.keyceremony(&["submit", &command, "--officers-socket", "run/officers.sock"])
    }

    /// Practice masters and a practice ledger, for the rehearsal that follows.
    pub fn masters(&self) {
        must(program("citycard").arg("masters").arg("--out").arg(self.at("masters.json")));
        must(program("citycard").arg("ledger").arg("--out").arg(&self.0));
    }

    /// `citykeep` with these words, as the named client.
    pub fn citykeep(&self, url: &str, client: &str, words: &[&str]) -> Command {
        let mut command = program("citykeep");
        command.args(words).args(["--json", "--url", url]).arg("--ca").arg(self.at("pki/ca.pem"));
        command.arg("--cert").arg(self.at(&format!("pki/{client}.pem")));
        command.arg("--key").arg(self.at(&format!("pki/{client}.key"))).current_dir(&self.0);
        command
    }

    /// The licence under this transport key, as the ceremony's summary has it.
    pub fn licence(&self, transport: &str) -> serde_json::Value {
        let text = fs::read_to_string(self.at("out/ceremony.json")).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
        let licences = summary["licences"].as_array().unwrap();
        licences.iter().find(|row| row["transport"] == transport).unwrap().clone()
    }

    /// `citykeep audit verify`.
    pub fn audit(&self) -> Said {
        let mut command = program("citykeep");
        run(command
            .args(["audit", "verify", "--json"])
            .arg(self.at("log"))
            .arg("--vkey")
            .arg(self.at("log/vkey")))
    }

    /// The entries of the published log; of the last bundle, what the checkpoint's partial file has.
    pub fn entries(&self) -> Vec<translog::entry::Entry> {
        let checkpoint = fs::read_to_string(self.at("log/checkpoint")).unwrap();
        let size: u64 = checkpoint.lines().nth(1).unwrap().parse().unwrap();
        let bundles = (0..size.div_ceil(256)).map(|number| {
            let bundle = translog::tile::Tile::bundle(number, size).unwrap();
            let bytes = fs::read(self.at("log").join(bundle.to_string())).unwrap();
            let entries = translog::tile::decode_bundle(&bytes, (size - number * 256).min(256)).unwrap();
            entries.iter().map(|entry| Cbor::from_cbor(entry).unwrap()).collect::<Vec<_>>()
        });
        bundles.flatten().collect()
    }

    /// `tests/verify.py` with these words.
    pub fn verify_py(&self, words: &[&str]) -> Said {
        let mut command = Command::new("python3");
        run(command.arg(root().join("tests/verify.py")).args(words).current_dir(&self.0))
    }

    /// keyd's page of metrics.
    pub fn metrics(&self) -> String {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", "--unix-socket"]);
        must(command.arg(self.at("run/metrics.sock")).arg("http://localhost/metrics"))
    }

    /// curl as the named client.
    pub fn curl(&self, client: &str, words: &[&str]) -> Said {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60", "--cacert"]).arg(self.at("pki/ca.pem"));
        command.arg("--cert").arg(self.at(&format!("pki/{client}.pem")));
        run(command.arg("--key").arg(self.at(&format!("pki/{client}.key"))).args(words))
    }
}

impl House {
    /// A fresh house in service, with the keys of the fixture day.
    pub fn new() -> Self {
        Self::with_keys(&fixture("keys.json"))
    }

    /// A fresh house in service with these keys.
    pub fn with_keys(keys: &Path) -> Self {
        Self::build(keys, |_| ())
    }

    /// A fresh house whose transit masters and ledger are practice ones, so that tests can compute what cards do.
    pub fn with_masters() -> Self {
        Self::build(&fixture("keys.json"), Places::masters)
    }

    fn build(keys: &Path, more: impl FnOnce(&Places)) -> Self {
        let dir = tempfile::Builder::new().prefix("ck").tempdir().unwrap();
        let places = Places(dir.path().to_owned());
        places.prepare();
        more(&places);
        let hsm = places.start_hsm(&[]);
        let keyd = places.start_keyd();
        let said = places.rehearse(keys);
        assert!(said.ok, "{}\n{}\nkeyd: {}", said.out, said.err, keyd.said());
        let url = keyd.url();
        Self { dir, hsm, keyd, url }
    }

    /// Its places.
    pub fn places(&self) -> Places {
        Places(self.dir.path().to_owned())
    }

    /// Stops both and starts them again on the same state.
    pub fn restart(&mut self) {
        self.hsm.kill();
        self.keyd.kill();
        self.start_again();
    }

    /// Starts both on the state as it lies.
    pub fn start_again(&mut self) {
        let places = self.places();
        places.prepare();
        self.hsm = places.start_hsm(&[]);
        self.keyd = places.start_keyd();
        let said = places.rehearse(&fixture("keys.json"));
        assert!(said.ok, "{}\n{}\nkeyd: {}", said.out, said.err, self.keyd.said());
        self.url = self.keyd.url();
    }

    /// Waits until the published log has at least this many entries.
    pub fn wait_published(&self, entries: u64) {
        let checkpoint = self.places().at("log/checkpoint");
        for _ in 0..100 {
            let text = fs::read_to_string(&checkpoint).unwrap_or_default();
            if text
                .lines()
                .nth(1)
                .and_then(|size| size.parse::<u64>().ok())
                .is_some_and(|size| size >= entries)
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the log is not published up to {entries}");
    }
}

impl Default for House {
    fn default() -> Self {
        Self::new()
    }
}
