//! One keyd process with its files, its stand-in module, and clients.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Either, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fake::Fake;
use crate::pki::{CLEARING, Leaf, Pki};

const POLICY: &str = include_str!("../../../../../policies/rehearsal.toml");

pub(crate) type RequestBody = Either<Full<Bytes>, Channel<Bytes, std::io::Error>>;
pub(crate) type Parts = Sender<Bytes, std::io::Error>;

/// A house without a running keyd.
pub(crate) struct House {
    pub(crate) dir: TempDir,
    pub(crate) pki: Pki,
    pub(crate) fake: Fake,
}

/// A running keyd.
pub(crate) struct Keyd {
    pub(crate) child: Child,
    address: SocketAddr,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its proper end.
    pub(crate) whole: bool,
}

impl Reply {
    pub(crate) fn code(&self) -> String {
        let problem: wire::api::Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(problem.status, self.status.as_u16());
        problem.code
    }
}

impl House {
    pub(crate) fn new() -> Self {
        Self::with_limits("")
    }

    pub(crate) fn with_limits(limits: &str) -> Self {
        Self::build(limits, POLICY)
    }

    /// With the rehearsal's policy, changed.
    pub(crate) fn with_policy(change: impl FnOnce(&str) -> String) -> Self {
        let policy = change(POLICY);
        assert_ne!(policy, POLICY, "nothing was changed");
        Self::build("", &policy)
    }

    fn build(limits: &str, policy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::create_dir(path.join("pki")).unwrap();
        let pki = Pki::new(&path.join("pki"));
        fs::write(path.join("policy.toml"), policy).unwrap();
        let config = format!(
            "listen = '127.0.0.1:0'\nstate_dir = 'keyd'\nlog_dir = 'log'\nhsm_socket = 'hsm.sock'\npolicy_file = 'policy.toml'\n\
             [tls]\ncertificate = 'pki/keyd.pem'\nkey = 'pki/keyd.key'\nclient_ca = 'pki/ca.pem'\nclient_crl = 'pki/crl.pem'\n\
             server_name = 'localhost'\n[limits]\n{limits}\n"
        );
        fs::write(path.join("keyd.toml"), config).unwrap();
        let digest = |name| Sha256::digest(fs::read(path.join(name)).unwrap()).into();
        let fake = Fake::start(&path.join("hsm.sock"), digest("policy.toml"), digest("pki/ca.pem"));
        Self { dir, pki, fake }
    }

    pub(crate) fn spawn(&self) -> Child {
        self.spawn_with(&[])
    }

    fn spawn_with(&self, words: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_citykeep-keyd"))
            .args(["run", "--config"])
            .arg(self.dir.path().join("keyd.toml"))
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn run(&self) -> Keyd {
        self.run_with(&[])
    }

    pub(crate) fn run_with(&self, words: &[&str]) -> Keyd {
        Keyd::of(self.spawn_with(words))
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.dir.path().join(name)).unwrap().permissions().mode() & 0o777
    }

    pub(crate) fn leaf(&self, path: &str) -> Leaf {
        self.pki.ca.client(&format!("spiffe://weihai.example/{path}"))
    }

    pub(crate) async fn stream(&self, keyd: &Keyd, leaf: &Leaf) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(keyd.address).await?;
        let connector = TlsConnector::from(Arc::new(self.pki.client_config(Some(leaf))));
        connector.connect("localhost".try_into().unwrap(), tcp).await
    }

    pub(crate) async fn connect(&self, keyd: &Keyd, leaf: &Leaf) -> SendRequest<RequestBody> {
        let stream = self.stream(keyd, leaf).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub(crate) async fn clearing(&self, keyd: &Keyd) -> SendRequest<RequestBody> {
        self.connect(keyd, &self.pki.ca.client(CLEARING)).await
    }

    pub(crate) async fn get(&self, keyd: &Keyd, client: &str, path: &str) -> Reply {
        let mut sender = self.connect(keyd, &self.leaf(client)).await;
        send(&mut sender, "GET", path, &[], "").await
    }
}

pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: RequestBody,
) -> Request<RequestBody> {
    let builder = Request::builder().method(method).uri(path).header("host", "localhost");
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(body).unwrap()
}

pub(crate) async fn send(
    sender: &mut SendRequest<RequestBody>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Reply {
    let body = Either::Left(Full::new(body.into()));
    sender.ready().await.unwrap();
    whole(sender.send_request(request(method, path, headers, body)).await.unwrap()).await
}

/// A request whose body the test sends in parts.
pub(crate) fn begin(
    sender: &mut SendRequest<RequestBody>,
    path: &str,
    headers: &[(&str, &str)],
) -> (Parts, tokio::task::JoinHandle<hyper::Result<http::Response<hyper::body::Incoming>>>) {
    let (parts, channel) = Channel::new(1);
    let answer = sender.send_request(request("POST", path, headers, Either::Right(channel)));
    (parts, tokio::spawn(answer))
}

pub(crate) async fn whole(response: http::Response<hyper::body::Incoming>) -> Reply {
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut whole) = (Vec::new(), true);
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else {
            whole = false;
            break;
        };
        body.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    Reply { status: head.status, headers: head.headers, body, whole }
}

impl Keyd {
    pub(crate) fn of(mut child: Child) -> Self {
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("ready https://");
        let Some(address) = address.and_then(|address| address.parse().ok()) else {
            panic!("not ready: {line:?}, {:?}", Self::finish(&mut child));
        };
        Self { child, address }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for the end: its status and what it said.
    pub(crate) fn finish(child: &mut Child) -> (ExitStatus, String) {
        let until = Instant::now() + Duration::from_secs(20);
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > until => panic!("keyd does not end"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status, said)
    }

    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let (status, said) = Self::finish(&mut self.child);
        (status.code(), said)
    }
}

impl Drop for Keyd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
