//! Who a client is: the one SPIFFE URI of its certificate, and nothing else.

use std::fmt;
use std::sync::Arc;

use wire::client::{client_name, is_trust_domain};

/// The authority part of our SPIFFE ids, in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads a trust domain.
    pub fn parse(text: &str) -> Option<Self> {
        is_trust_domain(text).then(|| Self(text.into()))
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
    /// Reads a client's name.
    pub(crate) fn parse(uri: &str, domain: &TrustDomain) -> Result<Self, NotAClient> {
        let (authority, path) = client_name(uri).ok_or(NotAClient::Form)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str) -> Result<ClientId, NotAClient> {
        ClientId::parse(uri, &TrustDomain::parse("weihai.example").unwrap())
    }

    #[test]
    fn a_name_is_a_client() {
        let id = parse("spiffe://weihai.example/clearing/engine-1").unwrap();
        assert_eq!(id.path(), "clearing/engine-1");
        assert_eq!(parse("spiffe://weihai.example/clearing/*"), Err(NotAClient::Form));
    }

    #[test]
    fn another_domain_is_told_apart() {
        for other in ["spiffe://rongcheng.example/clearing/engine-1", "spiffe://weihai.example.com/a"] {
            assert_eq!(parse(other), Err(NotAClient::TrustDomain), "{other}");
        }
    }
}
