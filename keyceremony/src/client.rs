//! Clients' certificates. The log is the register of what officers enrolled and ended; this authority certifies the one and
//! lists the other, and nothing else.

mod authority;
mod grants;
mod lists;
mod register;
mod request;

use std::path::Path;

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use wire::command::{Digest, EndClient, EnrolClient};
use x509_cert::der::{DecodePem as _, Encode as _};

use crate::failure::Failure;
use crate::files;

pub(crate) use authority::{Authority, Seal, new_authority};
pub(crate) use grants::granted;
pub(crate) use lists::Draft;
pub(crate) use register::Register;
pub(crate) use request::Request;

/// Days that a key is enrolled for at most.
const DAYS_MAX: u64 = 398;

const DAY: u64 = 86_400;

/// This machine's clock, Unix seconds.
pub(crate) fn now() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or_default()
}

/// What officers are asked to enrol; under a policy only who would be granted something.
pub(crate) fn enrolment(csr: &Path, days: u64, policy: Option<&Path>) -> Result<EnrolClient, Failure> {
    let request = Request::read(csr)?;
    if let Some(policy) = policy {
        granted(policy, &request.client)?;
    }
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(Failure::new(
            "有效天数为 1 至 398。",
            "a client's key is enrolled for 1 to 398 days; give --days in that range",
        ));
    }
    Ok(EnrolClient { client: request.client, key: request.key, not_after: now() + days * DAY })
}

/// What officers are asked to end.
pub(crate) fn end(cert: &Path, reason: &str) -> Result<EndClient, Failure> {
    let pem = files::read_text(cert, "the certificate")?;
    let certificate = x509_cert::Certificate::from_pem(&pem);
    let spki =
        certificate.ok().and_then(|found| found.tbs_certificate().subject_public_key_info().to_der().ok());
    let spki = spki.ok_or_else(|| {
        let path = cert.display();
        Failure::new(
            format!("{path} 不是 PEM 证书。"),
            format!("{path} is no certificate in PEM; give the client's own"),
        )
    })?;
    Ok(EndClient { key: digest(&spki), reason: reason.to_owned() })
}

/// SHA-256 of a SubjectPublicKeyInfo, by which the log names a key.
fn digest(spki: &[u8]) -> Digest {
    Sha256::digest(spki).into()
}

#[cfg(test)]
mod tests;
