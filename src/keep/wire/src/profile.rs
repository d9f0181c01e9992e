//! The applet profile: which keys a card of this applet gets, and how they are written (SPEC.md §Applet profile).

use sha2::Digest as _;

use crate::cbor::{Bytes, Cbor};
use crate::command::Digest;
use crate::key::{Algorithm, FactorSource, KeyId, SessionRule};

/// Roles of one profile at most.
pub const ROLES_MAX: usize = 32;

/// Bytes of a key header in WRITE KEY at most (card-crypto I.2).
pub const KEY_HEADER_MAX: usize = 8;

crate::cbor_code! {
    /// What a card key of a role MACs. A master that the module answers with has the one use that makes such MACs: the module
    /// refuses a profile that says otherwise.
    pub enum MacLayout {
        /// MAC1 and MAC2 of load, unload, overdraft update.
        Load = 1, "load";
        /// MAC1 and MAC2 of purchase.
        Purchase = 2, "purchase";
        /// TAC of the purse.
        Tac = 3, "tac";
        /// Line protection of files, applets and keys.
        LineProtection = 4, "line-protection";
        /// EXTERNAL and INTERNAL AUTHENTICATE.
        Authentication = 5, "authentication";
        /// PIN unblock and reload; the module makes the reload only.
        Pin = 6, "pin";
    }
}

crate::cbor_struct! {
    /// One key that a card gets.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ProfileRole {
        /// Name of the role in this profile, `a-z 0-9 -`.
        0 => role: String,
        /// Master that it is derived from.
        1 => key: KeyId,
        /// Its algorithm; must be the master's.
        2 => algorithm: Algorithm,
        /// Derivation steps; must be the master's.
        3 => levels: Vec<FactorSource>,
        /// Key index on the card, one byte.
        4 => index: u64,
        /// P1 of WRITE KEY, one byte.
        5 => p1: u64,
        /// P2 of WRITE KEY, one byte.
        6 => p2: u64,
        /// Key header inside WRITE KEY, up to 8 bytes.
        7 => header: Bytes,
        /// TR-31 key usage, two characters.
        8 => block_usage: String,
        /// TR-31 mode of use, one character.
        9 => block_mode: String,
        /// Session rule; must be the master's.
        10 => session: Option<SessionRule>,
        /// What it MACs.
        11 => mac: MacLayout,
    }
}

crate::cbor_struct! {
    /// An applet as cards have it. A quorum approves these bytes; a licence names their digest.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct AppletProfile {
        /// Format, 1.
        0 => format: u64,
        /// Applet and wall.
        1 => applet: String,
        /// Counts up with every change.
        2 => version: u64,
        /// The key set, in the order in which it is written.
        3 => roles: Vec<ProfileRole>,
        /// Role whose card key protects WRITE KEY; without it there are no WRITE KEY commands.
        4 => control: Option<String>,
    }
}

impl AppletProfile {
    /// SHA-256 of the canonical bytes: what licences name.
    pub fn digest(&self) -> Digest {
        sha2::Sha256::digest(self.to_cbor()).into()
    }

    /// The role with this name.
    pub fn role(&self, name: &str) -> Option<&ProfileRole> {
        self.roles.iter().find(|role| role.role == name)
    }

    /// Whether the profile is one: names and sizes in bounds, no role twice, masters inside the applet's wall, a control
    /// role that exists.
    pub fn is_sound(&self) -> bool {
        let mut names: Vec<&str> = self.roles.iter().map(|role| role.role.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        self.format == 1
            && crate::key::is_name(&self.applet)
            && (1..=ROLES_MAX).contains(&self.roles.len())
            && names.len() == self.roles.len()
            && self.roles.iter().all(|role| role.is_sound(&self.applet))
            && self.control.as_ref().is_none_or(|control| self.role(control).is_some())
    }

    /// Two roles whose keys a card would keep in one place, the first replaced by the second. `is_sound` does not ask: old
    /// logs hold such profiles. Whoever takes a new one into use does.
    pub fn shared_place(&self) -> Option<[&str; 2]> {
        self.roles.iter().enumerate().find_map(|(at, role)| {
            let first = self.roles.iter().take(at).find(|other| other.place() == role.place())?;
            Some([first.role.as_str(), role.role.as_str()])
        })
    }

    /// Whether a card of this profile needs the factor that its chip gives.
    pub fn needs_chip(&self) -> bool {
        self.roles.iter().any(|role| role.levels.contains(&FactorSource::CHIP))
    }
}

impl ProfileRole {
    /// Where a card keeps the key: P1 and P2 of WRITE KEY (type and version in the MoHURD style), and what of the header names
    /// the key (card-crypto B.2): id, version and type of eight bytes, the id of four. Algorithm, rights and error counter
    /// belong to the key and make no other place.
    pub fn place(&self) -> (u64, u64, Vec<u8>) {
        let named = match *self.header.0.as_slice() {
            [id, version, _, kind, _, _, _, _] => vec![id, version, kind],
            [id, _, _, _] => vec![id],
            ref other => other.to_vec(),
        };
        (self.p1, self.p2, named)
    }

    fn is_sound(&self, applet: &str) -> bool {
        let bytes = [self.index, self.p1, self.p2];
        let printable = |text: &str, len: usize| {
            text.len() == len && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        };
        crate::key::is_name(&self.role)
            && self.key.lineage.wall() == applet
            && !self.algorithm.signs()
            && self.algorithm != Algorithm::Aes
            && bytes.iter().all(|byte| *byte <= 0xff)
            && self.header.len() <= KEY_HEADER_MAX
            && printable(&self.block_usage, 2)
            && printable(&self.block_mode, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyVersion, Lineage};

    fn role(name: &str, p1: u64, p2: u64, header: &[u8]) -> ProfileRole {
        ProfileRole {
            role: name.into(),
            key: KeyId { lineage: Lineage::parse("transit/purse/load").unwrap(), version: KeyVersion(1) },
            algorithm: Algorithm::Sm4,
            levels: vec![],
            index: 1,
            p1,
            p2,
            header: Bytes(header.to_vec()),
            block_usage: "13".into(),
            block_mode: "N".into(),
            session: None,
            mac: MacLayout::Load,
        }
    }

    #[test]
    fn two_keys_of_one_place_are_found() {
        let eight = |id: u8, version: u8, kind: u8, end: u8| [id, version, 4, kind, 0, 0, 0, end];
        let first = role("first", 0, 0, &eight(1, 0x41, 8, 0x33));
        for (second, shared) in [
            (role("same", 0, 0, &eight(1, 0x41, 8, 0x33)), true),
            (role("other-counter", 0, 0, &eight(1, 0x41, 8, 0x55)), true),
            (role("other-algorithm", 0, 0, &[1, 0x41, 0, 8, 0, 0, 0, 0x33]), true),
            (role("other-id", 0, 0, &eight(0, 0x41, 8, 0x33)), false),
            (role("other-version", 0, 0, &eight(1, 0x42, 8, 0x33)), false),
            (role("other-type", 0, 0, &eight(1, 0x41, 9, 0x33)), false),
            (role("other-p1", 1, 0, &eight(1, 0x41, 8, 0x33)), false),
        ] {
            let name = second.role.clone();
            let roles = vec![first.clone(), role("between", 0x3f, 1, &[1, 0, 0x33, 0]), second];
            let profile =
                AppletProfile { format: 1, applet: "transit".into(), version: 1, roles, control: None };
            assert!(profile.is_sound(), "{name}: old logs are read");
            assert_eq!(profile.shared_place(), shared.then_some(["first", name.as_str()]));
        }
        assert_ne!(
            role("a", 0x39, 1, &[1, 0, 0x33, 0]).place(),
            role("b", 0x39, 1, &[2, 0, 0x33, 0]).place()
        );
        assert_eq!(
            role("a", 0x39, 1, &[1, 0, 0x33, 0]).place(),
            role("b", 0x39, 1, &[1, 0, 0x55, 0]).place()
        );
        assert_ne!(role("a", 0, 0, &[1, 2, 3]).place(), role("b", 0, 0, &[1, 2, 4]).place());
    }
}
