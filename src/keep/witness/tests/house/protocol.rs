//! The protocol over a socket: every answer, byte for byte, plain and over TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Log, ORIGIN, begun, signer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use translog::cosign::cosigned_at;
use witness::config::TlsFiles;
use witness::serve::{acceptor, serve};

struct Served {
    _runtime: Runtime,
    address: SocketAddr,
}

fn served(dir: &Path, tls: Option<&TlsFiles>) -> Served {
    let runtime = Runtime::new().unwrap();
    let witness = Arc::new(begun(dir));
    let tls = tls.map(|files| acceptor(files).unwrap());
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(serve(listener, tls, witness));
    Served { _runtime: runtime, address }
}

struct Heard {
    status: u16,
    head: String,
    body: String,
}

fn heard(mut stream: impl Read + Write, method: &str, path: &str, body: &str) -> Heard {
    let len = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Heard { status, head: head.to_lowercase(), body: body.to_owned() }
}

impl Served {
    fn ask(&self, method: &str, path: &str, body: &str) -> Heard {
        heard(TcpStream::connect(self.address).unwrap(), method, path, body)
    }

    fn add(&self, body: &str) -> Heard {
        self.ask("POST", "/add-checkpoint", body)
    }
}

#[test]
fn every_answer_of_the_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(9);
    let served = served(dir.path(), None);
    let hash = {
        use sha2::Digest as _;
        sha2::Sha256::digest(ORIGIN).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    let newest = format!("/{hash}/checkpoint");
    assert_eq!(served.ask("GET", &newest, "").status, 404);

    let good = served.add(&log.request(0, 3));
    assert_eq!(good.status, 200, "{}", good.body);
    let note = log.note(3) + &good.body;
    let time = cosigned_at(&note, signer(dir.path()).public()).unwrap().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(time) < 60);
    assert_eq!(served.ask("GET", &newest, "").body, note);

    let conflict = served.add(&log.request(5, 9));
    assert_eq!((conflict.status, conflict.body.as_str()), (409, "3\n"));
    assert!(conflict.head.contains("content-type: text/x.tlog.size"), "{}", conflict.head);
    for (body, status) in [
        ("old 3\n".to_owned(), 400),
        (log.request(3, 9).replace("old 3", "old 10"), 400),
        (log.request(3, 9).replace("\n9\n", "\n8\n"), 403),
        (log.request(3, 9).replace(ORIGIN, "other.example"), 404),
        (log.fork(0).request(3, 9), 422),
        (log.fork(0).request(3, 3), 422),
        ("x".repeat(70_000), 413),
    ] {
        let refused = served.add(&body);
        assert_eq!(refused.status, status, "{body}: {}", refused.body);
    }
    assert_eq!(served.ask("GET", "/add-checkpoint", "").status, 404);
    let put = served.ask("PUT", "/add-checkpoint", "");
    assert!(put.status == 405 && put.head.contains("allow: post"));
    assert_eq!(served.ask("POST", &newest, "").status, 404);
    assert_eq!(served.add(&log.request(3, 9)).status, 200, "refusals changed nothing");
}

#[test]
fn the_operator_hears_the_path_and_strangers_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(9);
    let served = served(dir.path(), None);
    assert_eq!(served.add(&log.request(0, 3)).status, 200);
    let state = dir.path().join("state");
    let name = fs::read_dir(&state).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
    let name = name.into_iter().find(|name| name.ends_with(".checkpoint")).unwrap();
    fs::create_dir(state.join(format!(".{name}.tmp"))).unwrap();
    let failed = served.add(&log.request(3, 5));
    assert_eq!(failed.status, 500);
    assert!(failed.body.contains("operator") && !failed.body.contains("state"), "{}", failed.body);
}

#[test]
fn over_tls_and_not_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles { certificate: dir.path().join("w.pem"), key: dir.path().join("w.key") };
    fs::write(&files.certificate, made.cert.pem()).unwrap();
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let served = served(dir.path(), Some(&files));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection =
        rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let tls = rustls::StreamOwned::new(connection, TcpStream::connect(served.address).unwrap());
    assert_eq!(heard(tls, "POST", "/add-checkpoint", &Log::new(3).request(0, 3)).status, 200);

    let mut plain = TcpStream::connect(served.address).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(plain, "GET / HTTP/1.1\r\nHost: w\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "no plain word is answered");
}
