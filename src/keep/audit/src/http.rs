//! A log that is read from its service: GET over HTTP/1.1, one file at a time, connections kept. Blocking, because whoever
//! verifies has nothing else to do; TLS 1.3 only, as the service has it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use translog::audit::Source;

use crate::cli::Net;
use crate::failure::Failure;

const TIMEOUT: Duration = Duration::from_secs(30);
const HEAD_MAX: u64 = 16 << 10;
/// No file of a published log is longer.
const BODY_MAX: u64 = 256 * 65_537;
/// How often a file is asked for when connections break.
const TRIES: u32 = 3;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

type Connection = BufReader<Box<dyn Stream>>;

/// A log below a URL.
pub(crate) struct Remote {
    host: String,
    port: u16,
    authority: String,
    prefix: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    idle: Mutex<Vec<Connection>>,
}

impl Remote {
    /// `url` is `https://HOST[:PORT]/PREFIX`, or `http://` for a mirror in the auditor's own house: a log proves itself.
    pub(crate) fn new(url: &str, net: &Net) -> Result<Self, Failure> {
        let wrong = || Failure::untried(format!("{url}: no URL of a log; give https://HOST:PORT/v1/log"));
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, if scheme == "https" { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#@".contains(&byte);
        if host.is_empty() || !rest.bytes().all(plain) {
            return Err(wrong());
        }
        let tls = match scheme {
            "http" => None,
            "https" => Some((tls(net)?, ServerName::try_from(host.clone()).map_err(|_| wrong())?)),
            _ => return Err(wrong()),
        };
        let prefix = format!("/{path}").trim_end_matches('/').to_owned();
        Ok(Self { host, port, authority: authority.to_owned(), prefix, tls, idle: Mutex::default() })
    }

    fn connect(&self) -> io::Result<Connection> {
        let mut last = io::Error::other("the name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => return self.secure(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn secure(&self, stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some((config, name)) => {
                let connection =
                    ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(connection, stream))
            }
        };
        Ok(BufReader::new(stream))
    }

    fn get(&self, connection: &mut Connection, name: &str) -> io::Result<(Answer, bool)> {
        let (prefix, authority) = (&self.prefix, &self.authority);
        let request = format!(
            "GET {prefix}/{name} HTTP/1.1\r\nHost: {authority}\r\nAccept: */*\r\nUser-Agent: citykeep-audit\r\n\r\n"
        );
        connection.get_mut().write_all(request.as_bytes())?;
        connection.get_mut().flush()?;
        answer(connection)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Remote {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut last = None;
        for _ in 0..TRIES {
            let kept = self.lock().pop();
            let outcome = kept.map_or_else(|| self.connect(), Ok).and_then(|mut connection| {
                let answer = self.get(&mut connection, name)?;
                Ok((connection, answer))
            });
            match outcome {
                Ok((connection, (answer, keep))) => {
                    if keep {
                        self.lock().push(connection);
                    }
                    return answer.into_file();
                }
                Err(error) => {
                    // The others are as old: after a restart of the service none of them answers.
                    self.lock().clear();
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("no answer")))
    }

    fn names(&self) -> io::Result<Option<Vec<String>>> {
        Ok(None)
    }

    fn is_live(&self) -> bool {
        true
    }
}

struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    fn into_file(self) -> io::Result<Option<Vec<u8>>> {
        match self.status {
            200 => Ok(Some(self.body)),
            404 | 410 => Ok(None),
            status => Err(io::Error::other(format!(
                "the service answered {status}; is this client an auditor in its policy?"
            ))),
        }
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is not HTTP/1.1: {why}"))
}

/// One answer, and whether the connection may be used again.
fn answer(stream: &mut impl BufRead) -> io::Result<(Answer, bool)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.by_ref().take(HEAD_MAX).read_until(b'\n', &mut head)?;
        if read == 0 || head.len() as u64 > HEAD_MAX {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the service closed the connection"));
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(&head).map_err(|error| broken(&error.to_string()))?;
    let status = response.code.ok_or_else(|| broken("no status"))?;
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        str::from_utf8(found.value).ok()
    };
    let is = |name, value: &str| header(name).is_some_and(|found| found.eq_ignore_ascii_case(value));
    if is("transfer-encoding", "chunked") {
        return Ok((Answer { status, body: chunks(stream)? }, !is("connection", "close")));
    }
    let mut body = Vec::new();
    if let Some(length) = header("content-length") {
        let length: u64 = length.parse().map_err(|_| broken("a length that is no number"))?;
        let got = stream.take(length.min(BODY_MAX + 1)).read_to_end(&mut body)?;
        check(length <= BODY_MAX && got as u64 == length, "a body of another length")?;
        return Ok((Answer { status, body }, !is("connection", "close")));
    }
    stream.take(BODY_MAX + 1).read_to_end(&mut body)?;
    check(body.len() as u64 <= BODY_MAX, "an endless body")?;
    Ok((Answer { status, body }, false))
}

fn chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = line(stream)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16).map_err(|_| broken("a chunk without a length"))?;
        if length == 0 {
            // Trailers, if any, up to the empty line.
            while !self::line(stream)?.is_empty() {}
            return Ok(body);
        }
        check(body.len() as u64 + length <= BODY_MAX, "an endless body")?;
        let got = stream.by_ref().take(length).read_to_end(&mut body)?;
        check(got as u64 == length && self::line(stream)?.is_empty(), "a chunk of another length")?;
    }
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.take(HEAD_MAX).read_line(&mut line)?;
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| broken("a line without end"))
}

fn check(holds: bool, why: &str) -> io::Result<()> {
    if holds { Ok(()) } else { Err(broken(why)) }
}

fn tls(net: &Net) -> Result<Arc<ClientConfig>, Failure> {
    let Some(ca) = &net.ca else {
        return Err(Failure::untried(
            "a log behind https:// needs --ca, the bundle of its service's authorities",
        ));
    };
    let unusable = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::untried(format!("{}: unusable ({error}); give PEM files of this service", path.display()))
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(ca)? {
        roots.add(root).map_err(|error| unusable(ca, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Failure::untried(format!("TLS 1.3 is not available: {error}")))?
        .with_root_certificates(roots);
    let mut config = match (&net.cert, &net.key) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|error| unusable(cert, &error))?,
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let wrong =
        |why: String| Failure::untried(format!("{}: {why}; give certificates as a PEM file", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(wrong("no PEM certificate in it".to_owned())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    let name = path.display();
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::untried(format!(
            "{name}: no private key ({error}); give it as an unencrypted PKCS#8 PEM file"
        ))
    };
    let mut file = File::open(path).map_err(|error| wrong(&error))?;
    let mode = file.metadata().map_err(|error| wrong(&error))?.mode();
    if mode & 0o077 != 0 {
        return Err(Failure::untried(format!(
            "{name}: others than the owner may use this private key (mode {:03o}); run chmod 600 on it, and replace the \
             key if anybody else may have read it",
            mode & 0o777
        )));
    }
    let mut pem = Vec::new();
    file.read_to_end(&mut pem).map_err(|error| wrong(&error))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &str) -> io::Result<(u16, String, bool)> {
        let (found, keep) = answer(&mut bytes.as_bytes())?;
        Ok((found.status, String::from_utf8(found.body).unwrap(), keep))
    }

    #[test]
    fn answers() {
        let ok = |bytes| read(bytes).unwrap();
        assert_eq!(ok("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"), (200, "ab".into(), true));
        assert_eq!(
            ok("HTTP/1.1 404 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
            (404, String::new(), false)
        );
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n";
        assert_eq!(ok(chunked), (200, "abcd".into(), true));
        assert_eq!(ok("HTTP/1.1 200 OK\r\n\r\nrest"), (200, "rest".into(), false));
        for bad in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn urls() {
        let net = Net { ca: None, cert: None, key: None };
        let place = |url| Remote::new(url, &net).map(|log| (log.host, log.port, log.prefix));
        assert_eq!(place("http://h/a/b/").unwrap(), ("h".into(), 80, "/a/b".into()));
        assert_eq!(place("http://[::1]:81").unwrap(), ("::1".into(), 81, String::new()));
        for bad in [
            "h",
            "ftp://h/",
            "http://",
            "http://h:x/",
            "http://u@h/",
            "http://h/?q",
            "http://h/ x",
            "https://h/",
        ] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
