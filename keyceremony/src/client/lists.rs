//! The authority's revocation lists: one after the other, none forgets what the one before it named.

use std::path::Path;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use translog::state::{ClientState, LogState};
use wire::purse::to_hex;
use x509_cert::crl::CertificateList;
use x509_cert::der::oid::AssociatedOid as _;
use x509_cert::der::{Decode as _, DecodePem as _, Encode as _};
use x509_cert::ext::pkix::CrlNumber;

use super::Authority;
use super::authority::{CLOCK_SKEW, damaged, moment};
use super::register::{List, Register, Revoked};
use crate::failure::{Failure, OrFail};
use crate::files;
use crate::words::hex_bytes;

/// A revocation list lasts at most so long: keyd lets nobody in after its end, and a thief of an old one has that long.
const LIST_DAYS_MAX: u64 = 90;

const NANOS: u64 = 1_000_000_000;

/// The list that the next one takes the place of.
#[derive(Debug)]
pub(crate) struct Lying {
    number: u64,
    serials: Vec<String>,
}

/// What the next list is made of.
pub(crate) struct Draft<'a> {
    /// What was signed so far.
    pub(crate) register: &'a Register,
    /// What officers decided.
    pub(crate) log: &'a LogState,
    /// The list that lies where the next one goes.
    pub(crate) lying: Option<Lying>,
    /// Keys that were never certified, hex, as somebody says who knows.
    pub(crate) uncertified: &'a [String],
    /// Days until the list after it must be there.
    pub(crate) days: u64,
    /// Unix seconds.
    pub(crate) now: u64,
}

impl Authority {
    /// Reads the list that lies at this path; it must be one of this authority, since it is about to be replaced.
    pub(crate) fn lying(&self, path: &Path) -> Result<Option<Lying>, Failure> {
        if !path.exists() {
            return Ok(None);
        }
        let text = files::read_text(path, "the list that lies there")?;
        let lying = self.list(&text).ok_or_else(|| {
            let path = path.display();
            Failure::new(
                format!("{path} 不是本 CA 的吊销列表,不会覆盖;请换一个文件名。"),
                format!("{path} is no list of this authority and is not overwritten; choose another name"),
            )
        })?;
        Ok(Some(lying))
    }

    fn list(&self, text: &str) -> Option<Lying> {
        let list = <CertificateList>::from_pem(text).ok()?;
        let body = &list.tbs_cert_list;
        let is_ours =
            body.issuer == *self.subject() && self.signed(&body.to_der().ok()?, list.signature.as_bytes()?);
        let mut extensions = body.crl_extensions.iter().flatten();
        let number = extensions.find(|extension| extension.extn_id == CrlNumber::OID)?;
        let CrlNumber(number) = CrlNumber::from_der(number.extn_value.as_bytes()).ok()?;
        let entries = body.revoked_certificates.iter().flatten();
        let serials = entries.map(|entry| to_hex(entry.serial_number.as_bytes())).collect();
        let number = number
            .as_bytes()
            .iter()
            .try_fold(0_u64, |number, byte| Some(number.checked_mul(256)? | u64::from(*byte)))?;
        is_ours.then_some(Lying { number, serials })
    }

    /// Signs the next list: what the one before names, as long as it lasts, and every certificate whose key officers ended.
    /// Refused where one would be missing.
    pub(crate) fn revocations(&self, draft: &Draft<'_>) -> Result<(String, List), Failure> {
        if !(1..=LIST_DAYS_MAX).contains(&draft.days) {
            return Err(Failure::new(
                format!("吊销列表有效天数为 1 至 {LIST_DAYS_MAX}。"),
                format!("a revocation list lasts 1 to {LIST_DAYS_MAX} days; give --days in that range"),
            ));
        }
        let list = draft.list()?;
        let certificates = list.revoked.iter().map(|row| {
            let serial = hex_bytes(&row.serial).map(|serial| SerialNumber::from_slice(&serial));
            Ok(RevokedCertParams {
                serial_number: serial.ok_or_else(damaged)?,
                revocation_time: moment(row.since)?,
                reason_code: None,
                invalidity_date: None,
            })
        });
        let params = CertificateRevocationListParams {
            this_update: moment(list.at)? - CLOCK_SKEW,
            next_update: moment(list.next)?,
            crl_number: SerialNumber::from(list.number),
            issuing_distribution_point: None,
            revoked_certs: certificates.collect::<Result<_, Failure>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = params.signed_by(self.issuer()).and_then(|list| list.pem());
        Ok((pem.or_fail("无法签发吊销列表。", "the revocation list cannot be signed")?, list))
    }
}

impl Draft<'_> {
    fn list(&self) -> Result<List, Failure> {
        let before = self.register.list();
        let mut uncertified: Vec<String> = before.map_or_else(Vec::new, |list| list.uncertified.clone());
        for key in self.uncertified {
            if !uncertified.contains(key) {
                uncertified.push(key.clone());
            }
        }
        if let Some(known) = self.missing(&uncertified) {
            let (client, key) = (&known.enrolled.client, to_hex(&known.enrolled.key));
            return Err(Failure::new(
                format!(
                    "名录中没有 {client} 已吊销公钥 {key} 的证书;请用最新名录,或以 --certificate 补入证书;从未签发则以 --uncertified 声明。"
                ),
                format!(
                    "officers ended the key {key} of {client}, and the register has no certificate of it; bring the newest \
                     register, or give the certificate (--certificate FILE), or, if there never was one, say so (--uncertified {key})"
                ),
            ));
        }
        let revoked = self.revoked();
        let lying = self.lying.as_ref();
        let named = |serial: &str| revoked.iter().any(|row| row.serial == serial);
        let mut serials = lying.iter().flat_map(|list| &list.serials);
        if let Some(serial) = serials.find(|serial| !named(serial) && !self.is_over(serial)) {
            return Err(Failure::new(
                format!(
                    "现有吊销列表中的证书 {serial} 不在名录的吊销之列;请用最新名录,或以 --certificate 补入。"
                ),
                format!(
                    "the list that lies there revokes {serial}, of which the register knows nothing; bring the newest register, \
                     or give the certificate (--certificate FILE)"
                ),
            ));
        }
        // The clock, so that a register begun anew goes on above the old one; never below what was there.
        let last = before.map_or(0, |list| list.number).max(lying.map_or(0, |list| list.number));
        let number = self.now.saturating_mul(NANOS).max(last.checked_add(1).ok_or_else(damaged)?);
        let next = self.now + self.days * super::DAY;
        Ok(List { number, at: self.now, next, revoked, uncertified })
    }

    /// A key that officers ended while it could still be certified, and of which no certificate is known.
    fn missing(&self, uncertified: &[String]) -> Option<&ClientState> {
        self.log.clients().find(|known| {
            let key = to_hex(&known.enrolled.key);
            known.ended.is_some()
                && known.enrolled.not_after >= self.now
                && !self.register.issued().any(|row| row.key == key)
                && !uncertified.contains(&key)
        })
    }

    /// Whether a certificate's time is over, so that no list need name it.
    fn is_over(&self, serial: &str) -> bool {
        self.register.issued().any(|row| row.serial == serial && row.not_after < self.now)
    }

    fn revoked(&self) -> Vec<Revoked> {
        let before = self.register.list().map_or(&[][..], |list| &list.revoked);
        let mut rows: Vec<Revoked> =
            before.iter().filter(|row| !self.is_over(&row.serial)).cloned().collect();
        for issued in self.register.issued().filter(|issued| issued.not_after >= self.now) {
            let key = hex_bytes(&issued.key).and_then(|key| key.try_into().ok());
            let reason = key.and_then(|key| self.log.client(&key)).and_then(|known| known.ended.clone());
            if let Some(reason) = reason
                && !rows.iter().any(|row| row.serial == issued.serial)
            {
                rows.push(Revoked { serial: issued.serial.clone(), since: self.now, reason });
            }
        }
        rows
    }
}
