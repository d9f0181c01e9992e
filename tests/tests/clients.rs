//! A client's life on real daemons: asked for, enrolled by officers, certified, served, ended, refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use system_tests::house::{House, Places, Said, must, run};

fn ok(said: Said) -> String {
    assert!(said.ok, "{}\n{}", said.out, said.err);
    said.out
}

fn private(places: &Places, name: &str, text: &str) {
    fs::write(places.at(name), format!("{text}\n")).unwrap();
    fs::set_permissions(places.at(name), fs::Permissions::from_mode(0o600)).unwrap();
}

/// A key and a signing request, by OpenSSL, as a client makes them.
fn request(places: &Places, name: &str, uri: &str) {
    let san = format!("subjectAltName=URI:{uri}");
    let (key, csr) = (format!("{name}.key"), format!("{name}.csr"));
    must(
        Command::new("openssl")
            .args([
                "req",
                "-new",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-sha256",
            ])
            .args(["-subj", "/CN=a client", "-addext", &san, "-keyout", &key, "-out", &csr])
            .current_dir(&places.0),
    );
    fs::set_permissions(places.at(&key), fs::Permissions::from_mode(0o600)).unwrap();
}

fn status(house: &House, name: &str) -> Said {
    let places = house.places();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "10", "--cacert"]).arg(places.at("pki/ca.pem"));
    curl.arg("--cert")
        .arg(places.at(&format!("{name}.pem")))
        .arg("--key")
        .arg(places.at(&format!("{name}.key")));
    run(curl.arg(format!("{}/v1/status", house.url)))
}

fn hang_up(house: &House) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(house.keyd.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
}

/// Signs a new revocation list of the clients' authority and puts it beside the rehearsal's.
fn revocation_list(places: &Places, rehearsal: &str) {
    let desk = ["--ca", "client-ca.pem", "--key", "client-ca.key", "--passphrase-file", "ca-phrase"];
    let book = ["--register", "register", "--log", "log", "--instance", "ceremony/instance.json"];
    let words: Vec<&str> =
        ["client", "crl", "--out", "client-crl.pem"].into_iter().chain(desk).chain(book).collect();
    ok(places.keyceremony(&words));
    let both = format!("{rehearsal}{}", fs::read_to_string(places.at("client-crl.pem")).unwrap());
    fs::write(places.at("crl.part"), both).unwrap();
    fs::rename(places.at("crl.part"), places.at("pki/crl.pem")).unwrap();
}

#[test]
fn a_client_comes_and_goes() {
    let house = House::new();
    let places = house.places();
    let rehearsal = fs::read_to_string(places.at("pki/crl.pem")).unwrap();

    // An authority of its own, approved by officers before keyd takes it.
    private(&places, "ca-phrase", "a passphrase of the authority");
    let authority = ["--role", "authority", "--name", "client-ca", "--rehearsal", "--out", "client-ca.key"];
    let words: Vec<&str> =
        ["keygen"].into_iter().chain(authority).chain(["--passphrase-file", "ca-phrase"]).collect();
    ok(places.keyceremony(&words));
    let words = [
        "client",
        "ca",
        "--key",
        "client-ca.key",
        "--passphrase-file",
        "ca-phrase",
        "--name",
        "Weihai clients",
    ];
    ok(places.keyceremony(&words.into_iter().chain(["--out", "client-ca.pem"]).collect::<Vec<_>>()));
    let bundle = fs::read_to_string(places.at("pki/ca.pem")).unwrap()
        + &fs::read_to_string(places.at("client-ca.pem")).unwrap();
    fs::write(places.at("bundle.pem"), bundle).unwrap();
    ok(places.decide("ca", &["set-ca", "bundle.pem"]));
    revocation_list(&places, &rehearsal);
    fs::rename(places.at("bundle.pem"), places.at("pki/ca.pem")).unwrap();
    hang_up(&house);

    // The client asks; nothing is certified that officers have not enrolled.
    request(&places, "line-9", "spiffe://weihai.example/perso/line-9");
    let policy = system_tests::house::root().join("policies/rehearsal.toml");
    let shown =
        ok(places.keyceremony(&["client", "show", "line-9.csr", "--policy", policy.to_str().unwrap()]));
    assert!(shown.contains("perso/line-9") && shown.contains("cards-keys"), "{shown}");
    let issue = |name: &str| {
        let (csr, pem) = (format!("{name}.csr"), format!("{name}.pem"));
        let desk = ["--ca", "client-ca.pem", "--key", "client-ca.key", "--passphrase-file", "ca-phrase"];
        let book = ["--register", "register", "--log", "log", "--instance", "ceremony/instance.json"];
        let words: Vec<&str> =
            ["client", "issue", &csr, "--out", &pem].into_iter().chain(desk).chain(book).collect();
        places.keyceremony(&words)
    };
    let early = issue("line-9");
    assert!(!early.ok && early.err.contains("no enrolment"), "{}", early.err);
    ok(places.decide("enrol", &["client", "line-9.csr"]));
    std::thread::sleep(Duration::from_millis(1200));
    ok(issue("line-9"));
    let until = Instant::now() + Duration::from_secs(40);
    while !status(&house, "line-9").ok && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
    }
    let served = status(&house, "line-9");
    assert!(served.ok && served.out.contains("operational"), "{}{}", served.out, served.err);

    // A foreign name is refused where it is asked for.
    request(&places, "foreign", "spiffe://weihai.example/perso/*");
    let foreign = places.decide("foreign", &["client", "foreign.csr"]);
    assert!(!foreign.ok && foreign.err.contains("is not like"), "{}", foreign.err);

    // A renewal is another request of the same name: enrolled, certified, served beside the old one.
    request(&places, "line-9b", "spiffe://weihai.example/perso/line-9");
    ok(places.decide("renew", &["client", "line-9b.csr"]));
    std::thread::sleep(Duration::from_millis(1200));
    ok(issue("line-9b"));
    assert!(status(&house, "line-9b").ok && status(&house, "line-9").ok);

    // The end: an open connection closes within 60 seconds, and nothing new is accepted; the renewed one goes on.
    let open = Busy::new(&house, "line-9");
    ok(places.decide("end", &["end-client", "line-9.pem", "--reason", "line 9 was taken down"]));
    std::thread::sleep(Duration::from_millis(1200));
    revocation_list(&places, &rehearsal);
    let (quiet, answers) = open.until_closed();
    // It was served to the end, and keyd's idle timeout, a minute, did not end it.
    assert!(quiet < Duration::from_secs(10) && answers > 1, "{quiet:?} after {answers} answers");
    assert!(!status(&house, "line-9").ok);
    assert!(status(&house, "line-9b").ok);
    let again = places.decide("again", &["client", "line-9.csr"]);
    assert!(!again.ok && again.err.contains("was ended"), "{}", again.err);
    let listed =
        ok(places.keyceremony(&["client", "list", "--log", "log", "--instance", "ceremony/instance.json"]));
    assert!(listed.contains("line 9 was taken down"), "{listed}");
}

/// A connection that asks again and again, held by OpenSSL.
struct Busy {
    child: Child,
    asked: Instant,
    answers: Receiver<usize>,
}

/// keyd sees a new list within 30 s; a minute is promised, and is its idle timeout too, so less is required here.
const CLOSES_WITHIN: Duration = Duration::from_secs(55);

impl Busy {
    fn new(house: &House, name: &str) -> Self {
        let places = house.places();
        let address = house.url.trim_start_matches("https://");
        let mut client = Command::new("openssl");
        client.args(["s_client", "-quiet", "-connect", address, "-servername", "localhost"]);
        client.args([
            "-CAfile",
            "pki/ca.pem",
            "-cert",
            &format!("{name}.pem"),
            "-key",
            &format!("{name}.key"),
        ]);
        client.current_dir(&places.0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = client.spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let (count, answers) = channel();
        std::thread::spawn(move || {
            let (mut said, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(read @ 1..) = out.read(&mut piece) {
                said.extend_from_slice(&piece[..read]);
            }
            let said = String::from_utf8_lossy(&said);
            let _ = count.send(said.matches("HTTP/1.1 200").count());
        });
        let mut busy = Self { child, asked: Instant::now(), answers };
        assert!(busy.ask());
        busy
    }

    fn ask(&mut self) -> bool {
        self.asked = Instant::now();
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n").is_ok()
    }

    /// Asks every second until keyd closes: how long the connection was quiet then, and how many answers it had.
    fn until_closed(mut self) -> (Duration, usize) {
        let begun = Instant::now();
        loop {
            match self.answers.recv_timeout(Duration::from_secs(1)) {
                Ok(answers) => {
                    let _ = self.child.wait();
                    return (self.asked.elapsed(), answers);
                }
                Err(_) if begun.elapsed() < CLOSES_WITHIN => {
                    let _ = self.ask();
                }
                Err(_) => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    panic!("keyd still serves a revoked client after {CLOSES_WITHIN:?}");
                }
            }
        }
    }
}
