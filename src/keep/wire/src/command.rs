//! Quorum commands: canonical bytes that officers sign and the module checks (SPEC.md §Command).

mod words;

use crate::cbor::{Bytes, Cbor, CborError, Empty};
use crate::key::{KeyAttributes, KeyId, KeyState};
use crate::licence::{Licence, Spoilage};
use crate::list::ApprovedList;
use crate::profile::AppletProfile;
use crate::token::TokenKey;
use crate::witness::{Prune, WitnessSet};

/// A 16-byte random id.
pub type Id = [u8; 16];

/// SHA-256.
pub type Digest = [u8; 32];

/// A P-256 point, SEC 1 compressed.
pub type PublicKey = [u8; 33];

/// An ECDSA P-256 signature, r ‖ s.
pub type Signature = [u8; 64];

/// Officers and custodians per set at most.
pub const MEMBERS_MAX: usize = 32;

/// Nobody decides alone: the smallest threshold of any set.
pub const THRESHOLD_MIN: u64 = 2;

/// What is hashed and signed starts with this, so that a command can never be mistaken for anything else.
pub const COMMAND_DOMAIN: &[u8] = b"citykeep command v1\0";

crate::cbor_struct! {
    /// One officer or custodian.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Member {
        /// Short name, as it stands in the transcript.
        0 => name: String,
        /// Enrolled P-256 key.
        1 => key: PublicKey,
    }
}

crate::cbor_struct! {
    /// Who may decide, or who holds shares: m of n.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Quorum {
        /// m.
        0 => threshold: u64,
        /// The n members.
        1 => members: Vec<Member>,
    }
}

impl Quorum {
    /// Checks the compiled-in floors: 2 ≤ m ≤ n ≤ 32, names non-empty, no name or key twice.
    pub fn is_sound(&self) -> bool {
        let count = self.members.len();
        let distinct = |mut values: Vec<&[u8]>| {
            values.sort_unstable();
            values.dedup();
            values.len() == count
        };
        count <= MEMBERS_MAX
            && (THRESHOLD_MIN..=count as u64).contains(&self.threshold)
            && self.members.iter().all(|member| is_member_name(&member.name))
            && distinct(self.members.iter().map(|member| member.name.as_bytes()).collect())
            && distinct(self.members.iter().map(|member| member.key.as_slice()).collect())
    }

    /// The member with this name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

/// Printable text of 1 to 64 bytes without control characters.
fn is_member_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && !name.chars().any(char::is_control)
}

crate::cbor_struct! {
    /// The first command of an instance; signed by every officer of the set that it names.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Genesis {
        /// Log origin and key name, schema-less URL form.
        0 => origin: String,
        /// This module among the modules of the instance.
        1 => node: Id,
        /// A rehearsal instance says so for ever: its keys can never become real.
        2 => rehearsal: bool,
        /// Who decides.
        3 => officers: Quorum,
        /// Who holds the root's shares.
        4 => custodians: Quorum,
        /// SHA-256 of the policy file that keyd may load.
        5 => policy: Digest,
        /// SHA-256 of the CA bundle that keyd may load.
        6 => ca: Digest,
        /// The module's boot identity, pinned here.
        7 => identity: PublicKey,
    }
}

crate::cbor_struct! {
    /// One XOR component of a key to import.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ComponentSpec {
        /// The custodian who enters it.
        0 => custodian: String,
        /// Its key check value.
        1 => kcv: [u8; 3],
        /// [`component_commitment`] of it.
        2 => commitment: Digest,
    }
}

crate::cbor_struct! {
    /// Import of a key from the components of separate custodians.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ImportKey {
        /// What the key is, check value included.
        0 => attributes: KeyAttributes,
        /// Two or more components; their XOR is the key.
        1 => components: Vec<ComponentSpec>,
    }
}

crate::cbor_struct! {
    /// Another state for one key version.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SetKeyState {
        /// Which key version.
        0 => key: KeyId,
        /// Its new state.
        1 => state: KeyState,
    }
}

crate::cbor_struct! {
    /// What keyd may load.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SetDigest {
        /// SHA-256 of the file.
        0 => digest: Digest,
    }
}

crate::cbor_struct! {
    /// A card's budget, a key version's budget, or both, start again at zero.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ResetBudget {
        /// The key version.
        0 => key: Option<KeyId>,
        /// Wall and card.
        1 => card: Option<CardRef>,
    }
}

crate::cbor_struct! {
    /// One card inside a wall.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct CardRef {
        /// The wall, an applet name.
        0 => wall: String,
        /// Issuer id.
        1 => issuer: [u8; 8],
        /// Right 8 bytes of the serial.
        2 => card: [u8; 8],
    }
}

crate::cbor_struct! {
    /// Failure budgets (service-protocol rule 6).
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Limits {
        /// Wrong pairs per card.
        0 => card: u64,
        /// Wrong pairs per key version.
        1 => version: u64,
    }
}

crate::cbor_struct! {
    /// The lowest head that officers accept after a restart (service-protocol rule 1).
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Floor {
        /// The boot that it is for.
        0 => boot: Id,
        /// Tree size.
        1 => size: u64,
        /// Root at that size.
        2 => root: Digest,
        /// Ed25519 key of the epoch that the boot begins; absent where the module has no epoch keys.
        3 => epoch_key: Option<[u8; 32]>,
    }
}

crate::cbor_union! {
    /// What a command does.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum Action {
        /// Make the instance.
        1 => Genesis(Genesis),
        /// Replace the officer set; voids every pending approval.
        2 => SetOfficers(Quorum),
        /// Make a key inside the module; the KCV in the attributes is zero and ignored.
        3 => GenerateKey(KeyAttributes),
        /// Import a key from components.
        4 => ImportKey(ImportKey),
        /// Activate, suspend, retire to verify-only.
        5 => SetKeyState(SetKeyState),
        /// Approve a policy file.
        6 => SetPolicy(SetDigest),
        /// Approve a CA bundle.
        7 => SetCa(SetDigest),
        /// Give budgets back.
        8 => ResetBudget(ResetBudget),
        /// Other budgets; rehearsal instances only.
        9 => SetLimits(Limits),
        /// Vouch for a head after a restart.
        10 => Floor(Floor),
        /// Wipe the module until its next restart.
        11 => Zeroise(Empty),
        /// Approve an applet's profile; licences of the profile before it stop.
        12 => SetProfile(AppletProfile),
        /// Grant a licence.
        13 => GrantLicence(Licence),
        /// End a licence.
        14 => RevokeLicence(Named),
        /// Declare cards of a licence spoiled.
        15 => Spoil(Spoilage),
        /// Enrol a ledger's token key.
        16 => EnrolToken(TokenKey),
        /// End a token key.
        17 => RevokeToken(TokenName),
        /// Approve a list whose removals are above the limit.
        18 => ApproveList(ApprovedList),
        /// Enrol a client's key: the CA may certify it under this name.
        19 => EnrolClient(EnrolClient),
        /// End a client's key: its certificates go on the revocation list.
        20 => EndClient(EndClient),
        /// Say who witnesses the log.
        21 => SetWitnesses(WitnessSet),
        /// Let old tiles go.
        22 => Prune(Prune),
    }
}

crate::cbor_struct! {
    /// One key of a client.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct EnrolClient {
        /// SPIFFE id that the certificate names.
        0 => client: String,
        /// SHA-256 of the key's SubjectPublicKeyInfo, DER.
        1 => key: Digest,
        /// Unix seconds until which it may be certified.
        2 => not_after: u64,
    }
}

crate::cbor_struct! {
    /// The end of a client's key.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct EndClient {
        /// SHA-256 of the key's SubjectPublicKeyInfo, DER.
        0 => key: Digest,
        /// Why, for the record: up to 200 characters.
        1 => reason: String,
    }
}

crate::cbor_struct! {
    /// Something by its id.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Named {
        /// The id.
        0 => id: Id,
    }
}

crate::cbor_struct! {
    /// A token key by its name.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct TokenName {
        /// The name.
        0 => name: String,
    }
}

crate::cbor_struct! {
    /// The canonical command.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Command {
        /// Format, 1.
        0 => version: u64,
        /// Suite, 1 = P-256 with SHA-256.
        1 => suite: u64,
        /// The service that it is for.
        2 => instance: Id,
        /// The officer set that it is signed under; 0 for genesis.
        3 => officer_epoch: u64,
        /// Unique id; used once.
        4 => id: Id,
        /// First log index at which it may be carried out.
        5 => not_before: u64,
        /// Last log index at which it may be carried out.
        6 => not_after: u64,
        /// Unix seconds when it was proposed; a courtesy, not checked.
        7 => proposed_at: u64,
        /// The officer who proposes.
        8 => proposer: String,
        /// What it does.
        9 => action: Action,
    }
}

crate::cbor_struct! {
    /// One officer's approval.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Approval {
        /// The officer's name.
        0 => officer: String,
        /// ECDSA P-256 over SHA-256([`COMMAND_DOMAIN`] ‖ command bytes), r ‖ s.
        1 => signature: Signature,
    }
}

crate::cbor_struct! {
    /// A command with its approvals; the command's bytes are kept as they were signed.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SignedCommand {
        /// Canonical [`Command`] bytes.
        0 => command: Bytes,
        /// Approvals, the proposer's among them.
        1 => approvals: Vec<Approval>,
    }
}

impl SignedCommand {
    /// The command inside.
    pub fn open(&self) -> Result<Command, CborError> {
        Command::from_cbor(&self.command)
    }
}

/// The bytes that an officer's ECDSA-SHA-256 signature covers.
pub fn signed_bytes(command: &[u8]) -> Vec<u8> {
    [COMMAND_DOMAIN, command].concat()
}

/// SHA-256("citykeep component v1" ‖ 0 ‖ instance ‖ key id text ‖ 0 ‖ custodian ‖ 0 ‖ component): what the command says of a component.
///
/// A component has 128 bits of entropy, so the plain hash tells nothing of it.
pub fn component_commitment(instance: &Id, key: &KeyId, custodian: &str, component: &[u8]) -> Digest {
    use sha2::Digest as _;
    let mut digest = sha2::Sha256::new();
    digest.update(b"citykeep component v1\0");
    digest.update(instance);
    for text in [key.to_string().as_str(), custodian] {
        digest.update(text);
        digest.update([0]);
    }
    digest.update(component);
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quorum(threshold: u64, names: &[&str]) -> Quorum {
        let members = names.iter().enumerate();
        let member = |(at, name): (usize, &&str)| Member {
            name: (*name).to_owned(),
            key: [u8::try_from(at).unwrap(); 33],
        };
        Quorum { threshold, members: members.map(member).collect() }
    }

    #[test]
    fn sets_have_floors() {
        assert!(quorum(2, &["a", "b"]).is_sound());
        assert!(!quorum(1, &["a", "b"]).is_sound(), "one alone");
        assert!(!quorum(3, &["a", "b"]).is_sound(), "more than there are");
        assert!(!quorum(2, &["a", "a"]).is_sound(), "a name twice");
        assert!(!quorum(2, &["a", ""]).is_sound(), "no name");
        assert!(!quorum(2, &["a", "b\n"]).is_sound(), "a control character");
        let mut same_key = quorum(2, &["a", "b"]);
        same_key.members[1].key = same_key.members[0].key;
        assert!(!same_key.is_sound(), "one person under two names");
        let many: Vec<String> = (0..33).map(|at| format!("m{at}")).collect();
        assert!(!quorum(2, &many.iter().map(String::as_str).collect::<Vec<_>>()).is_sound());
    }

    #[test]
    fn words_name_what_the_bytes_say() {
        let floor = Action::Floor(Floor { boot: [1; 16], size: 7, root: [0xab; 32], epoch_key: None });
        let (zh, en) = floor.in_words();
        assert!(zh.contains('7') && en.contains("7 entries") && en.contains("ABAB"));
        assert!(!en.contains("epoch"));
        let floor = Floor { boot: [1; 16], size: 7, root: [0xab; 32], epoch_key: Some([0xcd; 32]) };
        let (zh, en) = Action::Floor(floor).in_words();
        assert!(zh.contains("CDCD") && en.contains("epoch key CDCD"));
    }
}
