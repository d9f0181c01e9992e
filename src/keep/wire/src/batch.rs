//! Verdicts, batch profiles and the fixed batch layout (SPEC.md §Batch).

use crate::cbor::{Cbor, CborError, Decoder, Encoder};
use crate::key::{KeyVersion, Lineage};

crate::cbor_code! {
    /// The outcome for one record, one byte on the wire.
    pub enum Verdict {
        /// The TAC is true.
        Ok = 0, "ok";
        /// The TAC is wrong.
        BadTac = 1, "bad_tac";
        /// The key version is not imported and active or verify-only.
        UnknownKey = 2, "unknown_key";
        /// The record could not be read.
        Malformed = 3, "malformed";
        /// A failure budget is used up: the module does not say.
        Withheld = 4, "withheld";
    }
}

impl Verdict {
    /// The byte that streams back to the client.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// Reads that byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::from_code(u64::from(byte))
    }
}

crate::cbor_code! {
    /// What the records of a batch are (card-crypto D.2). The number is on the wire in the batch header.
    pub enum Profile {
        /// TAC of a purchase, withdrawal or composite purchase: 22 bytes of data.
        PurchaseTac = 1, "purchase-tac";
        /// TAC of a load: 24 bytes of data.
        LoadTac = 2, "load-tac";
    }
}

impl Profile {
    /// Length of the MACed data in bytes.
    pub const fn data_len(self) -> usize {
        match self {
            Self::PurchaseTac => 22,
            Self::LoadTac => 24,
        }
    }
}

/// Bytes of one record, whatever the profile.
pub const RECORD_LEN: usize = 40;
/// Records in one frame to the module at most, so that buffers stay in the L2 cache.
pub const FRAME_RECORDS: usize = 8192;
/// Records that one log entry covers at most: one subtree of height 4.
pub const CHUNK_RECORDS: u64 = 65_536;
/// Groups in a batch at most; `0xFFFF` marks a record without a group.
pub const GROUPS_MAX: usize = 65_535;
/// The group number of a malformed record.
pub const NO_GROUP: u16 = 0xffff;
/// Flag bit: the client could not parse the line; bytes 0..32 are SHA-256 of the line.
pub const FLAG_MALFORMED: u8 = 1;

const MAGIC: &[u8; 4] = b"CKB1";
/// Magic, version, profile, record length, group count, lineage.
const HEADER_FIXED: usize = 4 + 2 + 2 + 2 + 2 + LINEAGE_LEN;
const LINEAGE_LEN: usize = 100;
/// Version byte, 7 zero, issuer factor.
const GROUP_LEN: usize = 16;
const FORMAT: u16 = 1;

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Wrong magic, version, profile, record length or padding.
    #[error("the batch header is not one of format 1 (magic, version, profile, record length, padding)")]
    Header,
    /// The lineage text is not `applet/key-set/role`.
    #[error("the batch header names no key lineage")]
    Lineage,
    /// Shorter than its header says.
    #[error("the batch is cut short")]
    Truncated,
    /// A group twice, or too many.
    #[error("the batch's group table has a group twice or more than 65535")]
    Groups,
}

/// One row of the group table: the records that share a key version and an issuer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Group {
    /// Key version of the records.
    pub version: KeyVersion,
    /// Issuer id, the factor of the issuer level.
    pub issuer: [u8; 8],
}

impl Group {
    fn to_bytes(self) -> [u8; GROUP_LEN] {
        let mut bytes = [0; GROUP_LEN];
        let parts: [&[u8]; 3] = [&[self.version.0], &[0; 7], &self.issuer];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (zero, issuer) = rest.split_at_checked(7)?;
        (zero == [0; 7]).then_some(())?;
        Some(Self { version: KeyVersion(*version), issuer: issuer.try_into().ok()? })
    }
}

impl Cbor for Group {
    fn encode(&self, out: &mut Encoder) {
        out.bytes(&self.to_bytes());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        Self::from_bytes(input.bytes()?).ok_or(CborError::Range)
    }
}

/// What a batch is about: profile, key lineage, group table.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct BatchHeader {
    /// Kind of the records.
    pub profile: Profile,
    /// Which key checks them; its version is in the groups.
    pub lineage: Lineage,
    /// Group table, in the order of the group numbers.
    pub groups: Vec<Group>,
}

impl BatchHeader {
    /// The header's bytes.
    ///
    /// # Panics
    /// Never: a lineage is at most 98 bytes and the group count is checked where groups are added.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_FIXED + self.groups.len() * GROUP_LEN);
        let groups = u16::try_from(self.groups.len()).unwrap_or(u16::MAX);
        let profile = u16::from(self.profile as u8);
        let record_len = 40_u16;
        bytes.extend(MAGIC);
        for field in [FORMAT, profile, record_len, groups] {
            bytes.extend(field.to_be_bytes());
        }
        bytes.extend(self.lineage.as_str().as_bytes());
        bytes.resize(HEADER_FIXED, 0);
        for group in &self.groups {
            bytes.extend(group.to_bytes());
        }
        bytes
    }

    /// How many bytes the header that starts with `start` has, once enough of it is there to know.
    pub fn length(start: &[u8]) -> Result<Option<usize>, BatchError> {
        let Some(fixed) = start.get(..12) else {
            return Ok(None);
        };
        if fixed.get(..4) != Some(MAGIC.as_slice()) {
            return Err(BatchError::Header);
        }
        Ok(Some(HEADER_FIXED + usize::from(be16(fixed, 10)) * GROUP_LEN))
    }

    /// Reads a header that fills `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let length = Self::length(bytes)?.ok_or(BatchError::Truncated)?;
        let (fixed, table) = bytes.split_at_checked(HEADER_FIXED).ok_or(BatchError::Truncated)?;
        if bytes.len() != length {
            return Err(BatchError::Truncated);
        }
        let profile = Profile::from_code(u64::from(be16(fixed, 6))).ok_or(BatchError::Header)?;
        if be16(fixed, 4) != FORMAT || usize::from(be16(fixed, 8)) != RECORD_LEN {
            return Err(BatchError::Header);
        }
        let name = fixed.get(12..).unwrap_or_default();
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let (name, padding) = name.split_at(end);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(BatchError::Header);
        }
        let lineage = core::str::from_utf8(name).ok().and_then(Lineage::parse).ok_or(BatchError::Lineage)?;
        let groups = table
            .chunks_exact(GROUP_LEN)
            .map(|row| Group::from_bytes(row).ok_or(BatchError::Header))
            .collect::<Result<Vec<_>, _>>()?;
        check_groups(&groups)?;
        Ok(Self { profile, lineage, groups })
    }
}

/// A group table has no row twice and at most [`GROUPS_MAX`] rows.
pub fn check_groups(groups: &[Group]) -> Result<(), BatchError> {
    let mut seen = std::collections::HashSet::with_capacity(groups.len());
    if groups.len() > GROUPS_MAX || !groups.iter().all(|group| seen.insert(*group)) {
        return Err(BatchError::Groups);
    }
    Ok(())
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|two| two.try_into().ok()).map_or(0, u16::from_be_bytes)
}

/// One record: factor 8 ‖ data 24 (22 and two zero for a purchase) … see [`Record::to_bytes`] for the exact places.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Record {
    /// Card factor: right 8 bytes of the application serial.
    pub card: [u8; 8],
    /// MACed data; only the first [`Profile::data_len`] bytes count.
    pub data: [u8; 24],
    /// The TAC to check.
    pub tac: [u8; 4],
    /// Row of the group table.
    pub group: u16,
}

impl Record {
    /// Purchase: factor 8 ‖ data 22 ‖ TAC 4 ‖ group u16 ‖ flags u8 ‖ 3 zero. Load: factor 8 ‖ data 24 ‖ TAC 4 ‖ group
    /// u16 ‖ flags u8 ‖ 1 zero.
    pub fn to_bytes(&self, profile: Profile) -> [u8; RECORD_LEN] {
        let data = self.data.get(..profile.data_len()).unwrap_or_default();
        let group = self.group.to_be_bytes();
        let parts: [&[u8]; 4] = [&self.card, data, &self.tac, &group];
        let mut bytes = [0; RECORD_LEN];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }

    /// Reads a record; `None` if it is flagged malformed, has unknown flags, or its padding is not zero.
    pub fn parse(bytes: &[u8; RECORD_LEN], profile: Profile) -> Option<Self> {
        let (card, rest) = bytes.split_at_checked(8)?;
        let (data, rest) = rest.split_at_checked(profile.data_len())?;
        let (tac, rest) = rest.split_at_checked(4)?;
        let (group, flags) = rest.split_at_checked(2)?;
        if flags.iter().any(|byte| *byte != 0) {
            return None;
        }
        let mut padded = [0; 24];
        padded.get_mut(..data.len())?.copy_from_slice(data);
        Some(Self {
            card: card.try_into().ok()?,
            data: padded,
            tac: tac.try_into().ok()?,
            group: u16::from_be_bytes(group.try_into().ok()?),
        })
    }

    /// The record that stands for a line that could not be parsed: SHA-256 of the line's bytes, so that the receipt
    /// binds them all the same, no group, the malformed flag.
    pub fn malformed(line: &[u8], profile: Profile) -> [u8; RECORD_LEN] {
        use sha2::Digest;
        Self::malformed_digest(&sha2::Sha256::digest(line).into(), profile)
    }

    /// The same from SHA-256 of the line, for lines that are too long to keep.
    pub fn malformed_digest(digest: &[u8; 32], profile: Profile) -> [u8; RECORD_LEN] {
        let zeros = [0; 24];
        let padding = zeros.get(..8 + profile.data_len() + 4 - digest.len()).unwrap_or_default();
        let group = NO_GROUP.to_be_bytes();
        let parts: [&[u8]; 4] = [digest, padding, &group, &[FLAG_MALFORMED]];
        let mut bytes = [0; RECORD_LEN];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            profile: Profile::PurchaseTac,
            lineage: Lineage::parse("transit/purse/tac").unwrap(),
            groups: vec![
                Group { version: KeyVersion(1), issuer: *b"\x12\x34\0\0\x26\x40\0\0" },
                Group { version: KeyVersion(0x41), issuer: [7; 8] },
            ],
        }
    }

    #[test]
    fn header_round_trip_and_every_cut() {
        let bytes = header().to_bytes();
        assert_eq!(bytes.len(), 112 + 2 * 16);
        assert_eq!(BatchHeader::length(&bytes[..12]), Ok(Some(bytes.len())));
        assert_eq!(BatchHeader::parse(&bytes), Ok(header()));
        for len in 0..bytes.len() {
            assert!(BatchHeader::parse(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn header_refusals() {
        let good = header().to_bytes();
        for (at, why) in [
            (0, BatchError::Header),
            (5, BatchError::Header),
            (7, BatchError::Header),
            (9, BatchError::Header),
            (12, BatchError::Lineage),
            (111, BatchError::Header),
            (113, BatchError::Header),
        ] {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            assert_eq!(BatchHeader::parse(&bad), Err(why), "{at}");
        }
        let mut twice = header();
        twice.groups[1] = twice.groups[0];
        assert_eq!(BatchHeader::parse(&twice.to_bytes()), Err(BatchError::Groups));
    }

    #[test]
    fn records_of_both_profiles() {
        for profile in [Profile::PurchaseTac, Profile::LoadTac] {
            let mut record = Record { card: [1; 8], data: [2; 24], tac: [3; 4], group: 0x0405 };
            if profile == Profile::PurchaseTac {
                record.data[22..].fill(0);
            }
            let bytes = record.to_bytes(profile);
            assert_eq!(Record::parse(&bytes, profile), Some(record));
            let end = 8 + profile.data_len() + 6;
            for at in end..RECORD_LEN {
                let mut bad = bytes;
                bad[at] = 2;
                assert_eq!(Record::parse(&bad, profile), None);
            }
            let malformed = Record::malformed(b"a line", profile);
            assert_eq!(Record::parse(&malformed, profile), None);
        }
    }
}
