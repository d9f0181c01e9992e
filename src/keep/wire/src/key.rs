//! How a key is named and what it may do: lineage, attributes, state. Shapes only; the rules live in the module.

use crate::cbor::{Cbor, CborError, Decoder, Encoder};

/// Longest applet, key-set or role name.
const NAME_MAX: usize = 32;

/// A derivation goes through at most this many levels below the stored key (spec: card-crypto A.3).
pub const LEVELS_MAX: usize = 3;

/// A name in lower case: `a-z`, `0-9`, `-`, 1 to 32 characters, starting with a letter.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Where a key stands: `applet/key set/role`, for example `transit/purse/tac`.
///
/// The applet is also the key's wall: a client inside one wall cannot learn that a key exists in another.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lineage(String);

impl Lineage {
    /// Reads `applet/key-set/role`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let names = [parts.next()?, parts.next()?, parts.next()?];
        (parts.next().is_none() && names.into_iter().all(is_name)).then(|| Self(text.to_owned()))
    }

    /// The whole path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The applet's name, which names the wall too.
    pub fn wall(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The role: the last part of the path.
    pub fn role(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl core::fmt::Display for Lineage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Cbor for Lineage {
    fn encode(&self, out: &mut Encoder) {
        out.text(&self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        Self::parse(input.text()?).ok_or(CborError::Range)
    }
}

crate::cbor_code! {
    /// Algorithm of a key.
    pub enum Algorithm {
        /// Two-key 3DES, the cards in the field.
        Tdes = 1, "3des";
        /// SM4 (GB/T 32907).
        Sm4 = 2, "sm4";
        /// AES-128 (FIPS 197): transport keys of personalization lines.
        Aes = 3, "aes";
        /// ECDSA on P-256 with SHA-256: signing keys.
        P256 = 4, "p256";
        /// SM2 with SM3 (GB/T 32918): signing keys.
        Sm2 = 5, "sm2";
    }
}

crate::cbor_code! {
    /// Level at which the stored key stands; everything below it is derived.
    pub enum Level {
        /// National or ministry key.
        Root = 1, "root";
        /// Province key.
        Province = 2, "province";
        /// City key.
        City = 3, "city";
        /// Card key.
        Card = 4, "card";
    }
}

crate::cbor_code! {
    /// State of a key version. What a state permits is one table in the module.
    pub enum KeyState {
        /// Imported or generated, not yet usable.
        PreActive = 1, "pre-active";
        /// In use.
        Active = 2, "active";
        /// Stopped for the time being; comes back by quorum.
        Suspended = 3, "suspended";
        /// Old transactions still verify; nothing new is made.
        VerifyOnly = 4, "verify-only";
    }
}

crate::cbor_code! {
    /// What a key version may be used for. A sealed attribute, never a request field.
    pub enum Usage {
        /// Derive card keys and check purse TACs with them; nothing leaves but verdicts.
        VerifyTac = 1, "verify-tac";
        /// Derive card keys that leave under a licence, wrapped.
        DeriveCard = 2, "derive-card";
        /// Check MAC1 of a load and answer MAC2, against a ledger's token only.
        AuthorizeLoad = 3, "authorize-load";
        /// Make issuer scripts under line protection.
        IssueScript = 4, "issue-script";
        /// Answer a card's challenge (EXTERNAL AUTHENTICATE).
        AnswerAuth = 5, "answer-auth";
        /// MAC a new PIN for the card.
        ReloadPin = 6, "reload-pin";
        /// Wrap card keys for a personalization line (KBPK).
        WrapKeys = 7, "wrap-keys";
        /// Sign blacklists.
        SignList = 8, "sign-list";
        /// MAC blacklists for terminals.
        MacList = 9, "mac-list";
    }
}

crate::cbor_code! {
    /// How an SM4 session key comes from a card key (card-crypto C). 3DES has one rule and names none.
    pub enum SessionRule {
        /// P1: the 8-byte input, padded with `80 00…`.
        Padded = 1, "p1";
        /// P2: the 8-byte input and its complement.
        Complement = 2, "p2";
    }
}

crate::cbor_union! {
    /// The 8-byte factor of one derivation step (card-crypto A.3).
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum FactorSource {
        /// The issuer id of the batch group (8 bytes).
        1 => IssuerId(crate::cbor::Empty),
        /// The right 8 bytes of the card's application serial number.
        2 => AsnRight8(crate::cbor::Empty),
        /// A constant of the scheme.
        3 => Literal([u8; 8]),
        /// 8 bytes that the chip itself gives, from its ATR (card-crypto G.2).
        4 => Chip(crate::cbor::Empty),
    }
}

impl FactorSource {
    /// The issuer id of the group.
    pub const ISSUER_ID: Self = Self::IssuerId(crate::cbor::Empty {});
    /// The right 8 bytes of the serial.
    pub const ASN_RIGHT8: Self = Self::AsnRight8(crate::cbor::Empty {});
    /// 8 bytes of the chip.
    pub const CHIP: Self = Self::Chip(crate::cbor::Empty {});
}

crate::cbor_struct! {
    /// Everything that is fixed about a key version when it is made; sealed with it and logged with it.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct KeyAttributes {
        /// Where the key stands.
        0 => lineage: Lineage,
        /// Key version byte as cards and records carry it.
        1 => version: KeyVersion,
        /// Block cipher.
        2 => algorithm: Algorithm,
        /// Level of the stored key.
        3 => level: Level,
        /// Derivation steps from the stored key down to the card key, at most 3, top first; none for keys that no card has.
        4 => levels: Vec<FactorSource>,
        /// What it may do.
        5 => usage: Vec<Usage>,
        /// Check value: first 3 bytes of the encryption of a zero block, of the CMAC of one (AES), or of SHA-256 over the public
        /// key (signing keys).
        6 => kcv: [u8; 3],
        /// Session rule of an SM4 key that has sessions; `Padded` where there is none.
        7 => session: Option<SessionRule>,
    }
}

impl Algorithm {
    /// Whether a key of it signs, so that it has a public half and 32 secret bytes instead of 16.
    pub const fn signs(self) -> bool {
        matches!(self, Self::P256 | Self::Sm2)
    }

    /// Whether a transport key of it is as strong as a card key of `inner`: two-key 3DES has 112 bits at most, so that it wraps
    /// 3DES keys and nothing else (X9.143: a protection key is at least as strong as what it protects).
    pub const fn may_wrap(self, inner: Self) -> bool {
        matches!((self, inner), (Self::Tdes, Self::Tdes) | (Self::Aes, Self::Tdes | Self::Sm4 | Self::Aes))
    }
}

impl KeyAttributes {
    /// The record id: lineage and version, `transit/purse/tac@01`.
    pub fn id(&self) -> KeyId {
        KeyId { lineage: self.lineage.clone(), version: self.version }
    }
}

/// A key version byte; its text form is two upper-case hex digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[allow(clippy::exhaustive_structs)]
pub struct KeyVersion(pub u8);

impl KeyVersion {
    /// Reads two hex digits of either case.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| u8::from_str_radix(text, 16).ok())
            .flatten()
            .map(Self)
    }
}

impl core::fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:02X}", self.0)
    }
}

impl Cbor for KeyVersion {
    fn encode(&self, out: &mut Encoder) {
        out.uint(u64::from(self.0));
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        u8::try_from(input.uint()?).map(Self).map_err(|_| CborError::Range)
    }
}

/// Lineage and version: the name of one key version.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[allow(clippy::exhaustive_structs)]
pub struct KeyId {
    /// Where the key stands.
    pub lineage: Lineage,
    /// Which version of it.
    pub version: KeyVersion,
}

impl KeyId {
    /// Reads `transit/purse/tac@01`.
    pub fn parse(text: &str) -> Option<Self> {
        let (lineage, version) = text.split_once('@')?;
        Some(Self { lineage: Lineage::parse(lineage)?, version: KeyVersion::parse(version)? })
    }
}

impl core::fmt::Display for KeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}@{}", self.lineage, self.version)
    }
}

impl Cbor for KeyId {
    fn encode(&self, out: &mut Encoder) {
        out.text(&self.to_string());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        let text = input.text()?;
        let id = Self::parse(text).ok_or(CborError::Range)?;
        // One id, one text: lower-case hex would be a second encoding.
        if id.to_string() == text { Ok(id) } else { Err(CborError::NotCanonical) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lineages() {
        let tac = Lineage::parse("transit/purse/tac").unwrap();
        assert_eq!((tac.wall(), tac.role()), ("transit", "tac"));
        for bad in ["", "a/b", "a/b/c/d", "A/b/c", "a//c", "a/b/c ", "a/b/ü", "a/b/../c", "1/b/c"] {
            assert_eq!(Lineage::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn key_ids_have_one_text() {
        let id = KeyId::parse("transit/purse/tac@4a").unwrap();
        assert_eq!(id.to_string(), "transit/purse/tac@4A");
        let mut bytes = Encoder::new();
        bytes.text("transit/purse/tac@4a");
        assert_eq!(KeyId::from_cbor(&bytes.into_bytes()), Err(CborError::NotCanonical));
        assert_eq!(KeyId::from_cbor(&id.to_cbor()), Ok(id));
        assert_eq!(KeyVersion::parse("+1"), None);
    }
}
