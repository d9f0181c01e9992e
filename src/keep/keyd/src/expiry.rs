//! What ends by itself: keyd's own certificate, the clients' CAs, their revocation lists, and the clients' certificates. Said
//! in status, log and metrics before it happens.

mod register;

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use wire::api::{CertificateBody, ends_soon};
use x509_cert::Certificate;
use x509_cert::der::Decode;

pub(crate) use self::register::{Expiries, Watch};
use crate::assertions::Who;
use crate::client_id::ClientId;
use crate::tls::key_prefix;

const DAY: u64 = 86_400;

macro_rules! kinds {
    ($( $(#[$meta:meta])* $variant:ident => $name:literal, )*) => {
        /// What kind of thing ends.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[allow(clippy::exhaustive_enums)]
        pub enum What { $( $(#[$meta])* $variant, )* }

        impl What {
            /// All of them.
            pub const ALL: &[Self] = &[$( Self::$variant, )*];

            /// Stable name, in status, metrics and log.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// The codes in the log, one for each step of [`Near`].
            const fn codes(self) -> [&'static str; 4] {
                match self {
                    $( Self::$variant => [
                        concat!($name, "-expires-30"),
                        concat!($name, "-expires-7"),
                        concat!($name, "-expires-1"),
                        concat!($name, "-expired"),
                    ], )*
                }
            }
        }
    };
}

kinds! {
    /// keyd's own certificate: afterwards clients turn away.
    Server => "server-certificate",
    /// A CA of the clients: afterwards none of its clients is let in.
    ClientCa => "client-ca",
    /// Its revocation list: afterwards none of its clients is let in.
    ClientCrl => "client-crl",
    /// The newest certificate that a client has shown.
    Client => "client-certificate",
}

/// How near an end is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Near {
    Month,
    Week,
    Day,
    Over,
}

/// One end.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Expiry {
    /// What ends.
    pub what: What,
    /// Which: keyd's server name, the subject of a CA, the issuer of a list, the client's SPIFFE id.
    pub name: String,
    /// Unix seconds from which it holds.
    pub not_before: u64,
    /// Unix seconds of its last moment.
    pub not_after: u64,
    who: Who,
}

impl Expiry {
    pub(crate) fn new(what: What, name: String, not_before: u64, not_after: u64) -> Self {
        Self { what, name, not_before, not_after, who: Who::default() }
    }

    /// The end of a certificate; `None` if it cannot be read.
    pub(crate) fn of_certificate(what: What, der: &CertificateDer<'_>, name: Option<&str>) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let body = certificate.tbs_certificate();
        let [from, to] = [body.validity().not_before, body.validity().not_after]
            .map(|time| time.to_unix_duration().as_secs());
        let name = name.map_or_else(|| body.subject().to_string(), str::to_owned);
        Some(Self::new(what, name, from, to))
    }

    /// The end of a client's certificate.
    fn of_client(leaf: &CertificateDer<'_>, client: &ClientId) -> Option<Self> {
        let mut expiry = Self::of_certificate(What::Client, leaf, Some(client.as_str()))?;
        expiry.who = Who { client: Some(client.clone()), certificate: key_prefix(leaf) };
        Some(expiry)
    }

    /// Seconds until it ends; 0 if it has.
    pub(crate) const fn left(&self, now: u64) -> u64 {
        self.not_after.saturating_sub(now)
    }

    fn near(&self, now: u64) -> Option<Near> {
        let left = self.left(now);
        if left == 0 {
            return Some(Near::Over);
        }
        if !ends_soon(self.not_before, self.not_after, now) {
            return None;
        }
        [(1, Near::Day), (7, Near::Week), (30, Near::Month)]
            .into_iter()
            .find_map(|(days, near)| (left <= days * DAY).then_some(near))
    }

    /// The code of the warning that is due now, if one is.
    pub fn warning(&self, now: u64) -> Option<&'static str> {
        let [month, week, day, over] = self.what.codes();
        self.near(now).map(|near| match near {
            Near::Month => month,
            Near::Week => week,
            Near::Day => day,
            Near::Over => over,
        })
    }

    fn body(&self, now: u64) -> CertificateBody {
        CertificateBody {
            what: self.what.as_str().to_owned(),
            name: self.name.clone(),
            not_after: self.not_after,
            days_left: self.left(now) / DAY,
            warning: self.warning(now).map(str::to_owned),
        }
    }
}

/// The clock, Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000;

    /// Hours of its whole life, and of what is left of it.
    fn ends(what: What, life: u64, left: u64) -> Expiry {
        let end = NOW + left * 3600;
        Expiry::new(what, "x".into(), end - life * 3600, end)
    }

    #[test]
    fn warnings_come_at_three_steps_and_in_the_last_third_of_a_life() {
        for (life, left, warning) in [
            (398 * 24, 31 * 24, None),
            (398 * 24, 30 * 24, Some("client-ca-expires-30")),
            (398 * 24, 7 * 24 + 1, Some("client-ca-expires-30")),
            (398 * 24, 7 * 24, Some("client-ca-expires-7")),
            (398 * 24, 24, Some("client-ca-expires-1")),
            (398 * 24, 0, Some("client-ca-expired")),
            (30 * 24, 14 * 24, None),
            (30 * 24, 10 * 24, Some("client-ca-expires-30")),
            (7 * 24, 57, None),
            (7 * 24, 56, Some("client-ca-expires-7")),
            (24, 9, None),
            (24, 8, Some("client-ca-expires-1")),
            (1, 1, None),
        ] {
            assert_eq!(ends(What::ClientCa, life, left).warning(NOW), warning, "{left} of {life} hours");
        }
        assert_eq!(
            ends(What::Server, 24, 1).warning(NOW + 3 * 3600),
            Some("server-certificate-expired"),
            "long after its end"
        );
    }

    #[test]
    fn codes_name_what_they_are_about() {
        assert_eq!(What::ALL.len(), 4);
        for what in What::ALL {
            assert!(what.codes().iter().all(|code| code.starts_with(what.as_str())));
        }
    }
}
