//! Who a client is: the one SPIFFE URI of its certificate, and nothing else.

use std::fmt;
use std::sync::Arc;

const SCHEME: &str = "spiffe://";
/// A client's name stands in log entries and receipts, so it is kept short.
const ID_MAX: usize = 256;

/// The authority part of our SPIFFE ids, in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads a trust domain: lower-case letters, digits, `.`, `-`, `_`.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
        };
        let sound = (1..=128).contains(&text.len()) && text.bytes().all(allowed);
        sound.then(|| Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a URI is not a client of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum NotAClient {
    /// Not the one text form of a SPIFFE id with a path.
    Form,
    /// A SPIFFE id of another trust domain.
    TrustDomain,
}

/// A proven client. Only a verified certificate makes one; nothing deeper reads the socket.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientId {
    uri: Arc<str>,
    path_at: usize,
}

impl ClientId {
    /// Reads `spiffe://<domain>/<segment>…`. Segments are letters, digits, `.`, `-`, `_`: so there is no percent
    /// encoding, wildcard, NUL, empty or dot segment, and one client has one text.
    pub(crate) fn parse(uri: &str, domain: &TrustDomain) -> Result<Self, NotAClient> {
        let rest = uri.strip_prefix(SCHEME).ok_or(NotAClient::Form)?;
        let (authority, path) = rest.split_once('/').ok_or(NotAClient::Form)?;
        let sound = uri.len() <= ID_MAX && TrustDomain::parse(authority).is_some() && is_path(path);
        if !sound {
            return Err(NotAClient::Form);
        }
        if authority != domain.as_str() {
            return Err(NotAClient::TrustDomain);
        }
        Ok(Self { uri: uri.into(), path_at: uri.len() - path.len() })
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The part after the trust domain, without its leading slash: `clearing/engine-1`.
    pub fn path(&self) -> &str {
        self.uri.get(self.path_at..).unwrap_or_default()
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

/// One or more good segments.
pub(crate) fn is_path(path: &str) -> bool {
    path.split('/').all(is_segment)
}

fn is_segment(segment: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str) -> Result<ClientId, NotAClient> {
        ClientId::parse(uri, &TrustDomain::parse("weihai.example").unwrap())
    }

    #[test]
    fn one_client_has_one_text() {
        let id = parse("spiffe://weihai.example/clearing/engine-1").unwrap();
        assert_eq!(id.path(), "clearing/engine-1");
        for bad in [
            "spiffe://weihai.example",
            "spiffe://weihai.example/",
            "spiffe://weihai.example//engine",
            "spiffe://weihai.example/clearing/",
            "spiffe://weihai.example/clearing/*",
            "spiffe://weihai.example/clearing/..",
            "spiffe://weihai.example/clearing/%65ngine",
            "spiffe://weihai.example/clearing/engine\0",
            "spiffe://weihai.example/clearing/engine?x=1",
            "spiffe://weihai.example/清分/engine",
            "spiffe://WEIHAI.example/clearing/engine-1",
            "spiffe://weihai.example:443/clearing/engine-1",
            "spiffe://user@weihai.example/clearing/engine-1",
            "SPIFFE://weihai.example/clearing/engine-1",
            "https://weihai.example/clearing/engine-1",
            " spiffe://weihai.example/clearing/engine-1",
            "",
        ] {
            assert_eq!(parse(bad), Err(NotAClient::Form), "{bad}");
        }
        let long = format!("spiffe://weihai.example/{}", "a".repeat(256));
        assert_eq!(parse(&long), Err(NotAClient::Form));
    }

    #[test]
    fn another_domain_is_told_apart() {
        for other in ["spiffe://rongcheng.example/clearing/engine-1", "spiffe://weihai.example.com/a"] {
            assert_eq!(parse(other), Err(NotAClient::TrustDomain), "{other}");
        }
    }
}
