//! Witnesses: what keyd collects, from whom, and what waits for it. The good ones are the real thing in this process.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use translog::cosign::cosigned_at;
use translog::note::WitnessKey;
use translog::policy::{Policy, Vouched};
use wire::cbor::{Bytes, Cbor as _};
use wire::command::SignedCommand;
use witness::key::Signer;
use witness::memory::begin;
use witness::witness::Witness;

use crate::fake::{END_WITNESSES, vkey};
use crate::house::{House, Keyd, send};
use crate::issue::load;

const CBOR: [(&str, &str); 1] = [("content-type", "application/cbor")];

/// How a witness behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mood {
    Good,
    /// Accepts connections and says nothing.
    Silent,
    /// Nobody listens any more.
    Dead,
    /// A line under its name that fits nothing.
    BadSignature,
    /// Signs another head than it was shown.
    OtherHead,
    /// Its clock is ten years ahead.
    Ahead,
    /// A good line, and under its name as many others as a note still takes.
    Crowded,
}

/// One witness: its memory, and who answers for it.
struct Stand {
    name: String,
    key: WitnessKey,
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    real: Arc<Mutex<Option<Witness>>>,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Stand {
    fn new(dir: &Path, name: &str) -> Self {
        let home = dir.join(name);
        fs::create_dir(&home).unwrap();
        let signer = Signer::create(&home.join("key"), &format!("{name}.example/1")).unwrap();
        begin(&home.join("state"), &vkey()).unwrap();
        let key = signer.public().clone();
        let real = Witness::open(&home.join("state"), signer, &[vkey()]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stand = Self {
            name: name.to_owned(),
            key,
            address: listener.local_addr().unwrap(),
            mood: Arc::new(Mutex::new(Mood::Good)),
            real: Arc::new(Mutex::new(Some(real))),
        };
        let (mood, real) = (Arc::clone(&stand.mood), Arc::clone(&stand.real));
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let mood = *mood.lock().unwrap();
                match mood {
                    Mood::Dead => {}
                    Mood::Silent => held.push(stream),
                    mood => answer(&stream.unwrap(), mood, real.lock().unwrap().as_ref().unwrap()),
                }
            }
        });
        stand
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn policy_line(&self) -> String {
        format!("witness {} {} http://{}\n", self.name, self.key, self.address)
    }
}

fn answer(stream: &TcpStream, mood: Mood, real: &Witness) {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).unwrap_or(0) > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let time = if mood == Mood::Ahead { now() + 315_360_000 } else { now() };
    let (status, text) = match real.add_checkpoint(&body, time) {
        Ok(good) => (200, lie(mood, good, &body)),
        Err(error) if error.status() == 409 => {
            let sentence = error.to_string();
            let size = sentence.split(' ').find_map(|word| word.trim_end_matches(';').parse::<u64>().ok());
            (409, format!("{}\n", size.unwrap()))
        }
        Err(error) => (error.status(), error.to_string()),
    };
    let len = text.len();
    let _ = write!(&*stream, "HTTP/1.1 {status} x\r\ncontent-length: {len}\r\n\r\n{text}");
}

/// What a liar makes of a good line: other bytes, or the line of a head that it was asked for before.
fn lie(mood: Mood, good: String, asked: &str) -> String {
    static FIRST: Mutex<BTreeMap<String, (String, String)>> = Mutex::new(BTreeMap::new());
    let head = asked.split("\n\n").nth(1).unwrap().to_owned();
    match mood {
        Mood::BadSignature => {
            let at = good.len() - 8;
            let other = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
            format!("{}{other}{}", &good[..at], &good[at + 1..])
        }
        Mood::OtherHead => {
            let name = good.split(' ').nth(1).unwrap().to_owned();
            let mut first = FIRST.lock().unwrap();
            let (of, line) = first.entry(name).or_insert_with(|| (head.clone(), good.clone()));
            if *of == head { good.replace("==", "=") } else { line.clone() }
        }
        Mood::Crowded => {
            good.clone() + &format!("{} AAAAAAAA\n", good.rsplit_once(' ').unwrap().0).repeat(98)
        }
        _ => good,
    }
}

/// A signed command with these bytes.
fn command(bytes: &[u8]) -> Vec<u8> {
    SignedCommand { command: Bytes(bytes.to_vec()), approvals: Vec::new() }.to_cbor()
}

/// A house whose keyd asks three witnesses, quorum two, and whose module wants them.
struct Trial {
    house: House,
    stands: Vec<Stand>,
    policy: Policy,
}

impl Trial {
    fn new() -> Self {
        let house = House::new();
        let dir = house.dir.path();
        let stands: Vec<Stand> = ["a", "b", "c"].iter().map(|name| Stand::new(dir, name)).collect();
        let lines: String = stands.iter().map(Stand::policy_line).collect();
        let text = format!("log {}\n{lines}group auditors 2 a b c\nquorum auditors\n", vkey());
        fs::write(dir.join("tlog-policy"), &text).unwrap();
        let config = fs::read_to_string(dir.join("keyd.toml")).unwrap();
        let config = config.replace("[limits]", "[witnesses]\npolicy_file = 'tlog-policy'\n[limits]");
        fs::write(dir.join("keyd.toml"), config).unwrap();
        let keys = stands.iter().map(|stand| stand.key.clone()).collect();
        house.fake.change(|inner| {
            inner.enrolled = keys;
            // The boot's own entry.
            inner.entry("boot");
        });
        Self { house, stands, policy: Policy::parse(&text).unwrap() }
    }

    fn checkpoint(&self) -> Option<Vouched> {
        let text = fs::read_to_string(self.house.dir.path().join("log/checkpoint")).ok()?;
        self.policy.open(&text).ok()
    }

    /// Makes an entry and waits until the module has it cosigned.
    fn entry(&self) -> bool {
        let ticket = self.house.fake.change(|inner| inner.entry("more").ticket);
        Self::within(Duration::from_secs(12), || self.house.fake.lock().witnessed > ticket)
    }

    fn within(patience: Duration, holds: impl Fn() -> bool) -> bool {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if holds() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        holds()
    }

    fn set(&self, moods: [Mood; 3]) {
        self.stands.iter().zip(moods).for_each(|(stand, mood)| stand.set(mood));
    }

    async fn troubles(&self, keyd: &Keyd) -> Vec<Option<String>> {
        let reply = self.house.get(keyd, "audit/auditor", "/v1/status").await;
        let body: wire::api::StatusBody = serde_json::from_slice(&reply.body).unwrap();
        body.witnesses.into_iter().map(|witness| witness.trouble).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_served_before_the_quorum_has_cosigned_this_boot() {
    let trial = Trial::new();
    trial.set([Mood::Good, Mood::Dead, Mood::Silent]);
    let mut child = trial.house.spawn();
    std::thread::sleep(Duration::from_secs(3));
    assert!(child.try_wait().unwrap().is_none());
    assert_eq!(trial.house.fake.lock().witnessed, 0, "one of three is no quorum");
    trial.set([Mood::Good, Mood::Good, Mood::Silent]);
    let keyd = Keyd::of(child);
    assert!(trial.house.fake.lock().witnessed > 0);
    let vouched =
        || trial.checkpoint().is_some_and(|vouched| vouched.head.size > 0 && vouched.witnesses.len() >= 2);
    assert!(Trial::within(Duration::from_secs(8), vouched), "the published checkpoint is cosigned");
    drop(keyd);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_silent_or_lying_witness_holds_nothing_up_and_two_do() {
    let trial = Trial::new();
    let keyd = trial.house.run();
    assert!(trial.entry());
    for bad in [Mood::Dead, Mood::Silent, Mood::BadSignature, Mood::OtherHead] {
        trial.set([Mood::Good, Mood::Good, bad]);
        assert!(trial.entry(), "{bad:?}");
        assert!(trial.entry(), "{bad:?}");
        trial.set([Mood::Good, bad, bad]);
        let ticket = trial.house.fake.change(|inner| inner.entry("alone").ticket);
        std::thread::sleep(Duration::from_millis(1500));
        assert!(trial.house.fake.lock().witnessed <= ticket, "{bad:?}: one is no quorum");
        // A silent one is known as such when its time is over.
        let (mut troubles, until) = (trial.troubles(&keyd).await, Instant::now() + Duration::from_secs(12));
        while troubles[1].is_none() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(100)).await;
            troubles = trial.troubles(&keyd).await;
        }
        assert!(troubles[0].is_none() && troubles[1].is_some(), "{bad:?}: {troubles:?}");
        trial.set([Mood::Good; 3]);
        let back = || trial.house.fake.lock().witnessed > ticket;
        assert!(
            Trial::within(Duration::from_secs(40), back),
            "{bad:?}: back again, caught up from where it was"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_value_waits_for_the_quorum_and_is_there_when_it_comes() {
    let trial = Trial::new();
    let keyd = trial.house.run();
    let json = [("content-type", "application/json")];
    let calls = [
        ("terminals/load-1", "/v1/loads/authorize", &json, load().into_bytes()),
        ("officers/relay-1", "/v1/commands", &CBOR, command(&[7])),
    ];
    for (client, path, headers, body) in calls {
        let mut sender = trial.house.connect(&keyd, &trial.house.leaf(client)).await;
        trial.set([Mood::Good; 3]);
        assert!(trial.entry());
        trial.set([Mood::Good, Mood::Dead, Mood::Dead]);
        let begun = Instant::now();
        let reply = send(&mut sender, "POST", path, headers, body.clone()).await;
        assert_eq!((reply.status, reply.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "unwitnessed"));
        assert!(begun.elapsed() >= Duration::from_secs(4), "it was given time");
        assert_eq!(reply.headers["retry-after"], "5");
        trial.set([Mood::Good; 3]);
        assert!(Trial::within(Duration::from_secs(40), || trial.entry()));
        let reply = send(&mut sender, "POST", path, headers, body).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waits_for_its_witnesses_holds_nobody_up() {
    let trial = Trial::new();
    let keyd = trial.house.run();
    let mut relay = trial.house.connect(&keyd, &trial.house.leaf("officers/relay-1")).await;
    let reply = send(&mut relay, "POST", "/v1/commands", &CBOR, command(&[1])).await;
    assert_eq!(reply.status, StatusCode::OK, "the first time, not the second: {reply:?}");
    // Nobody cosigns the next one's intent; others are served meanwhile.
    trial.set([Mood::Good, Mood::Dead, Mood::Dead]);
    let waiting =
        tokio::spawn(async move { send(&mut relay, "POST", "/v1/commands", &CBOR, command(&[2])).await });
    trial
        .house
        .fake
        .wait("it waits", |inner| inner.entries.iter().filter(|it| it.ends_with(b"intent")).count() == 2);
    let status = trial.house.get(&keyd, "audit/auditor", "/v1/status").await;
    assert_eq!(status.status, StatusCode::OK);
    assert!(!waiting.is_finished(), "status is told while the command waits");
    assert_eq!(waiting.await.unwrap().code(), "unwitnessed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_carried_out_unseen_is_not_to_be_proposed_again() {
    let trial = Trial::new();
    let keyd = trial.house.run();
    let mut relay = trial.house.connect(&keyd, &trial.house.leaf("officers/relay-1")).await;
    trial.house.fake.change(|inner| inner.forsaken = true);
    let reply = send(&mut relay, "POST", "/v1/commands", &CBOR, command(&[1])).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (504, "command-unwitnessed"), "{reply:?}");
    assert!(!reply.headers.contains_key("retry-after"), "nothing that repeats by itself repeats it");
    let entries = trial.house.fake.lock().entries.clone();
    let index = entries.iter().position(|entry| entry.ends_with(b"command")).unwrap();
    let said = String::from_utf8(reply.body).unwrap();
    assert!(said.contains("carried out") && said.contains(&format!("entry {index} ")), "{said}");
    let again = send(&mut relay, "POST", "/v1/commands", &CBOR, command(&[1])).await;
    assert_eq!((again.status.as_u16(), again.code().as_str()), (409, "command-used"));
}

#[tokio::test(flavor = "multi_thread")]
async fn officers_who_end_witnessing_have_the_service_back_without_a_restart() {
    let trial = Trial::new();
    let keyd = trial.house.run();
    let json = [("content-type", "application/json")];
    let mut terminal = trial.house.connect(&keyd, &trial.house.leaf("terminals/load-1")).await;
    let mut relay = trial.house.connect(&keyd, &trial.house.leaf("officers/relay-1")).await;
    assert!(trial.entry());
    trial.set([Mood::Dead; 3]);
    let reply = send(&mut terminal, "POST", "/v1/loads/authorize", &json, load()).await;
    assert_eq!(reply.code(), "unwitnessed");
    let reply = send(&mut relay, "POST", "/v1/commands", &CBOR, command(END_WITNESSES)).await;
    assert_eq!(reply.status, StatusCode::OK, "it is done, and nobody is there to see it: {reply:?}");
    let reply = send(&mut terminal, "POST", "/v1/loads/authorize", &json, load()).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_of_a_witness_is_taken_whatever_else_it_says() {
    let trial = Trial::new();
    let keyd = trial.house.run();
    trial.set([Mood::Good, Mood::Dead, Mood::Crowded]);
    assert!(trial.entry() && trial.entry());
    let lines = || {
        let note = fs::read_to_string(trial.house.dir.path().join("log/checkpoint")).unwrap_or_default();
        let lines: Vec<String> = note.lines().skip(4).map(ToOwned::to_owned).collect();
        (trial.policy.open(&note).is_ok(), lines.len())
    };
    assert!(Trial::within(Duration::from_secs(8), || lines() == (true, 3)), "{:?}", lines());
    drop(keyd);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_was_set_back_is_shown_its_own_signature() {
    let trial = Trial::new();
    let keyd = trial.house.run();
    assert!(trial.entry());
    let home = trial.house.dir.path().join("c");
    let state = home.join("state");
    let file = || {
        let mut names = fs::read_dir(&state).unwrap().map(|item| item.unwrap().path());
        names.find(|path| path.extension().is_some_and(|extension| extension == "checkpoint")).unwrap()
    };
    let has = |size: u64| {
        Trial::within(Duration::from_secs(8), || {
            trial.stands[2]
                .real
                .lock()
                .unwrap()
                .as_ref()
                .unwrap()
                .head(&vkey())
                .is_some_and(|head| head.size >= size)
        })
    };
    assert!(has(1));
    let old = fs::read(file()).unwrap();
    assert!(trial.entry() && trial.entry());
    let size = trial.house.fake.lock().entries.len() as u64;
    assert!(has(size - 1));
    // Everybody's clock in a test is the same second; what tells is the size.
    {
        let mut real = trial.stands[2].real.lock().unwrap();
        *real = None;
        fs::write(file(), old).unwrap();
        let signer = Signer::load(&home.join("key")).unwrap();
        *real = Some(Witness::open(&state, signer, &[vkey()]).unwrap());
    }
    assert!(trial.entry(), "the other two are the quorum");
    let noticed = || {
        fs::read_dir(&state)
            .unwrap()
            .any(|item| item.unwrap().path().extension().is_some_and(|it| it == "set-back"))
    };
    assert!(Trial::within(Duration::from_secs(8), noticed), "it has the evidence");
    let said = trial.troubles(&keyd).await[2].clone().unwrap();
    assert!(said.contains("set back") || said.contains("operator"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_set_back_finds_no_witness_any_more() {
    let trial = Trial::new();
    let keyd = trial.house.run();
    for _ in 0..3 {
        assert!(trial.entry());
    }
    let all = || {
        trial.stands.iter().all(|stand| {
            let real = stand.real.lock().unwrap();
            real.as_ref().unwrap().head(&vkey()).is_some_and(|head| head.size > 2)
        })
    };
    assert!(Trial::within(Duration::from_secs(8), all));
    drop(keyd);
    for folder in ["log", "keyd"] {
        fs::remove_dir_all(trial.house.dir.path().join(folder)).unwrap();
    }
    trial.house.fake.change(|inner| {
        inner.entries.truncate(1);
        (inner.durable, inner.witnessed) = (0, 0);
    });
    let mut child = trial.house.spawn();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(trial.house.fake.lock().witnessed, 0);
    child.kill().unwrap();
    let (_, said) = Keyd::finish(&mut child);
    assert!(said.contains("this log was set back"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ten_years_ahead_is_one_of_three() {
    let trial = Trial::new();
    trial.set([Mood::Good, Mood::Good, Mood::Ahead]);
    let _keyd = trial.house.run();
    assert!(trial.entry());
    let ahead = || trial.checkpoint().is_some_and(|vouched| vouched.witnesses.len() >= 2);
    assert!(Trial::within(Duration::from_secs(8), ahead));
    // keyd passes on what it gets; the module takes the k-th latest time.
    let note = fs::read_to_string(trial.house.dir.path().join("log/checkpoint")).unwrap();
    let mut times: Vec<u64> =
        trial.stands.iter().filter_map(|stand| cosigned_at(&note, &stand.key).unwrap()).collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    assert!(times[1].abs_diff(now()) < 60, "{times:?}");
}
