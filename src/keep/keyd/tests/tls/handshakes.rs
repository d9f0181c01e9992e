//! Handshakes that are not ours.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use keyd::tls::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::gate::{Gate, reason};
use crate::pki::CLEARING;

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_are_not_ours() {
    let gate = Gate::new().await;
    let good = gate.pki.ca.client(CLEARING);
    assert_eq!(reason(gate.knock(gate.pki.client_config(None)).await), Some(Reason::NoCertificate));
    let wrong_name = gate.knock_as(gate.pki.client_config(Some(&good)), "other.example").await;
    assert_eq!(reason(wrong_name), Some(Reason::ServerName));
    let mut silent = gate.pki.client_config(Some(&good));
    silent.enable_sni = false;
    assert_eq!(reason(gate.knock(silent).await), Some(Reason::ServerName), "no SNI");
    for (protocols, expected) in
        [(&[&b"h2"[..]][..], Some(Reason::Alpn)), (&[b"h2", b"http/1.1"], None), (&[b"http/1.1"], None)]
    {
        let mut config = gate.pki.client_config(Some(&good));
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        assert_eq!(reason(gate.knock(config).await), expected, "{protocols:?}");
    }
    gate.good_client_is_let_in("odd handshakes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_tls() {
    let gate = Gate::new().await;
    let address = gate.address();
    let say = |bytes: Vec<u8>, stay: bool| async move {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(&bytes).await.unwrap();
        if stay {
            let _ = tcp.read_to_end(&mut Vec::new()).await;
        }
    };
    let head = [22, 3, 1];
    let huge = [&head[..], &[0xff, 0xff], &vec![1; 66_000]].concat();
    for (what, bytes, stay, expected) in [
        (
            "plaintext HTTP",
            b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
            true,
            Reason::NotTls,
        ),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), true, Reason::NotTls),
        ("SSLv2 hello", vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10], true, Reason::NotTls),
        ("a hello of 64 KiB", huge, true, Reason::NotTls),
        ("close_notify first", vec![21, 3, 3, 0, 2, 1, 0], false, Reason::Misbehaved),
        ("nothing, then away", vec![], false, Reason::Closed),
        ("nothing, and stays", vec![], true, Reason::Timeout),
        ("half a hello, and stays", head.to_vec(), true, Reason::Timeout),
    ] {
        let (outcome, ()) = gate.admit(say(bytes, stay)).await;
        let found = reason(outcome).unwrap();
        let other_end = what == "close_notify first" && matches!(found, Reason::Closed | Reason::ClientAlert);
        assert!(found == expected || other_end, "{what}: {found:?}");
        gate.good_client_is_let_in(what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_tls_is_refused() {
    let gate = Gate::new().await;
    let leaf = gate.pki.ca.client(CLEARING);
    gate.pki.write("client.pem", &leaf.pem(), 0o644);
    gate.pki.write("client.key", &leaf.key.serialize_pem(), 0o600);
    for version in ["-tls1_2", "-tls1_1"] {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-servername", "localhost"])
            .args(["-connect", &gate.address().to_string(), "-cert", "client.pem", "-key", "client.key"])
            .current_dir(&gate.pki.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let openssl = tokio::task::spawn_blocking(move || command.status().unwrap());
        let (outcome, _) = gate.admit(openssl).await;
        let found = reason(outcome).unwrap();
        assert!(matches!(found, Reason::Version | Reason::Incompatible), "{version}: {found:?}");
    }
    gate.good_client_is_let_in("older TLS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ticket_is_given() {
    let gate = Gate::new().await;
    let config = Arc::new(gate.pki.client_config(Some(&gate.pki.ca.client(CLEARING))));
    for _ in 0..2 {
        let (address, config) = (gate.address(), Arc::clone(&config));
        let client = async {
            let tcp = TcpStream::connect(address).await.unwrap();
            let connector = TlsConnector::from(config);
            let mut stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
            let _ = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut [0; 1])).await;
            stream.get_ref().1.tls13_tickets_received()
        };
        let (outcome, tickets) = gate.admit(client).await;
        let kind = outcome.unwrap().stream.get_ref().1.handshake_kind();
        assert_eq!((kind, tickets), (Some(rustls::HandshakeKind::Full), 0));
    }
}
